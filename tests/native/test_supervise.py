"""How the launcher watches a container: streams, signals, the time limit and what is left over."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.steps import STDIO_INHERIT, STDIO_NULL, STDIO_PIPE
from cloche.runtime import records
from tests.native.launching import WHY, Launch, launch, opened, run, shell, simple

pytestmark = pytest.mark.needs("root")

PIPES = (STDIO_PIPE,) * 3
PIPED = (subprocess.PIPE,) * 3
SIZE = 3_000_000
ORDINARY = 65533
READY = "echo ready; "


def started(running: Launch) -> None:
    """Wait until the container has said that it is ready."""
    assert running.process.stdout is not None
    assert running.process.stdout.read(6) == b"ready\n"


# --- streams -----------------------------------------------------------------------------------


def test_pipes_carry_everything_both_ways() -> None:
    """Megabytes through a container's pipes arrive complete and in order."""
    data = os.urandom(SIZE)
    running = Launch(simple(run("/bin/cat"), stdio=PIPES), streams=PIPED)
    stdout, _ = running.process.communicate(data, timeout=30)
    assert stdout == data
    assert running.wait().code == 0


@pytest.mark.parametrize("mode", [STDIO_INHERIT, STDIO_PIPE])
def test_standard_error_stays_apart(mode: int) -> None:
    """Output and errors come out where they belong."""
    done = launch(simple(shell("echo out; echo err >&2"), stdio=(STDIO_NULL, mode, mode)))
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_null_streams_are_the_containers_own_dev_null() -> None:
    """A stream that isn't wanted is /dev/null, for reading and writing."""
    modes = (STDIO_NULL, STDIO_PIPE, STDIO_NULL)
    script = "cat; echo lost >&2; stat -L -c '%t:%T' /dev/stdin /dev/stderr"
    assert launch(simple(shell(script), stdio=modes)).stdout == "1:3\n1:3\n"


def test_output_may_be_a_file(workspace: Path) -> None:
    """A file of the host gets the output through the relay, without waiting for it."""
    with open(workspace / "out", "wb") as file:
        plan = simple(shell("head -c 100000 /dev/zero"), stdio=PIPES)
        assert launch(plan, streams=(subprocess.DEVNULL, file, subprocess.PIPE)).code == 0
    assert (workspace / "out").read_bytes() == bytes(100000)


def test_streams_may_be_sockets() -> None:
    """A socket, which can't be opened anew, works as input and as output."""
    ours, theirs = socket.socketpair()
    plan = simple(shell("read line; echo got $line; head -c 300000 /dev/zero"), stdio=PIPES)
    running = Launch(plan, streams=(theirs.fileno(), theirs.fileno(), subprocess.PIPE))
    theirs.close()
    ours.sendall(b"hello\n")
    received = b""
    while more := ours.recv(65536):
        received += more
    ours.close()
    assert running.wait().code == 0
    assert received == b"got hello\n" + bytes(300000)


def test_users_reopen_their_pipes() -> None:
    """A process of another user may open /dev/stdout, which is a pipe of the launcher's."""
    become = steps.identity(ORDINARY, ORDINARY, (), why=WHY)
    done = launch(
        simple(shell("echo out >/dev/stdout; echo err >/dev/stderr"), become, stdio=PIPES)
    )
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_end_of_input_is_passed_on() -> None:
    """The container's standard input ends when the launcher's does."""
    running = Launch(simple(shell("cat; echo end"), stdio=PIPES), streams=PIPED)
    assert running.wait(b"input\n").stdout == "input\nend\n"


def test_container_that_reads_nothing_is_no_obstacle() -> None:
    """Input that nobody reads doesn't keep the launcher from its end."""
    plan = simple(shell("exec 0<&-; sleep 0.2; echo done"), stdio=PIPES)
    running = Launch(plan, streams=PIPED)
    assert running.wait(bytes(SIZE)).stdout == "done\n"


def test_launcher_sleeps_while_nothing_happens() -> None:
    """An idle container costs no processor time, with streams open and half closed."""
    running = Launch(simple(shell("exec 1>&-; sleep 0.5"), stdio=PIPES), streams=PIPED)
    pid = running.until(records.STARTED).pid
    assert pid
    assert running.process.stdin is not None
    running.process.stdin.close()
    running.process.stdin = None
    time.sleep(0.2)
    with open(f"/proc/{running.process.pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    assert int(fields[11]) + int(fields[12]) <= 1  # ticks of 10 ms
    assert running.wait().code == 0


def test_slow_reader_loses_nothing() -> None:
    """Output waits for its reader, even when the container has ended already."""
    running = Launch(simple(shell(f"head -c {SIZE} /dev/zero"), stdio=PIPES))
    assert running.process.stdout is not None
    got = len(running.process.stdout.read(10))
    time.sleep(0.3)
    got += len(running.process.stdout.read())
    assert got == SIZE
    assert running.wait().code == 0


def test_container_learns_that_nobody_reads() -> None:
    """When the reader of the launcher's output goes, the container gets SIGPIPE."""
    running = Launch(simple(run("/usr/bin/yes"), kinds=0, stdio=PIPES))
    assert running.process.stdout is not None
    running.process.stdout.read(10)
    running.process.stdout.close()
    running.process.stdout = None
    done = running.wait()
    assert done.records.signal == signal.SIGPIPE
    assert done.code == 128 + signal.SIGPIPE


def test_shared_streams_stay_blocking() -> None:
    """The launcher doesn't make the pipes non-blocking that it shares with its caller."""
    reader, writer = os.pipe()
    running = Launch(
        simple(shell("echo x"), stdio=PIPES), streams=(subprocess.DEVNULL, writer, subprocess.PIPE)
    )
    running.wait()
    assert os.get_blocking(writer)
    os.close(reader)
    os.close(writer)


# --- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [0, flags.CLONE_NEWPID], ids=["shared-pids", "own-pids"])
@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT", "USR1", "WINCH", "RTMIN", "CONT"])
def test_signals_are_forwarded(name: str, kinds: int) -> None:
    """Whatever signal the launcher gets, the container's process gets."""
    number = signal.SIGRTMIN if name == "RTMIN" else signal.Signals[f"SIG{name}"]
    code = (
        f"import signal; signal.pthread_sigmask(0, [{int(number)}]); "
        "print('ready', flush=True); "
        f"print(signal.sigwaitinfo([{int(number)}]).si_signo)"
    )
    running = Launch(simple(run(sys.executable, "-c", code), kinds=kinds))
    started(running)
    running.signal(number)
    done = running.wait()
    assert done.stdout == f"{int(number)}\n"
    assert done.code == 0


def test_process_ended_by_a_forwarded_signal() -> None:
    """A signal that ends the container is told in the exit code."""
    running = Launch(simple(shell(READY + "exec sleep 60"), kinds=0))
    started(running)
    running.signal(signal.SIGTERM)
    assert running.wait().code == 128 + signal.SIGTERM


def test_signals_that_the_caller_ignores_stay_ignored() -> None:
    """Under nohup a hangup ends neither the launcher nor the container."""
    running = Launch(simple(shell(READY + "read line; echo $line"), kinds=0),
                     streams=PIPED, wrapper=("nohup",))  # fmt: skip
    started(running)
    running.signal(signal.SIGHUP)
    assert running.wait(b"alive\n").stdout == "alive\n"


def test_without_proxy_a_fatal_signal_ends_the_container() -> None:
    """When signals aren't forwarded, the container still doesn't outlive its launcher."""
    running = Launch(simple(shell(READY + "exec sleep 60"), proxy_signals=False))
    started(running)
    running.signal(signal.SIGUSR1)
    running.signal(signal.SIGTERM)
    assert running.wait().code == 128 + signal.SIGKILL


def test_job_control_stops_and_continues_both() -> None:
    """SIGTSTP stops the container and its launcher, SIGCONT continues both."""
    running = Launch(simple(shell(READY + "read line; echo $line"), kinds=0), streams=PIPED,
                     process_group=0)  # fmt: skip
    started(running)
    child = running.look().pid
    running.signal(signal.SIGTSTP)
    _, status = os.waitpid(running.process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    assert state(child) == "T"
    running.signal(signal.SIGCONT)
    assert running.wait(b"again\n").stdout == "again\n"


def state(pid: int) -> str:
    """Return the state of a process, as one letter, once it is at rest."""
    while True:
        with open(f"/proc/{pid}/stat") as file:
            letter = file.read().rpartition(")")[2].split()[0]
        if letter != "R":
            return letter
        time.sleep(0.01)


# --- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [0, flags.CLONE_NEWPID])
def test_time_limit_kills(kinds: int) -> None:
    """After the time limit the container is killed, and the record says so."""
    plan = simple(shell("trap '' TERM; sleep 60 & wait"), kinds=kinds, timeout_ms=200)
    begun = time.monotonic()
    done = launch(plan)
    assert 0.2 <= time.monotonic() - begun < 10
    assert done.code == 137
    assert done.records.timed_out


def test_time_limit_that_is_not_reached() -> None:
    """A container that ends in time isn't touched."""
    done = launch(simple(run("/bin/true"), timeout_ms=30_000))
    assert done.code == 0
    assert not done.records.timed_out


@pytest.mark.parametrize("kinds", [0, flags.CLONE_NEWPID], ids=["shared-pids", "own-pids"])
def test_processes_left_behind_are_killed(kinds: int, workspace: Path) -> None:
    """What a container leaves running, daemons in sessions of their own too, dies with it."""
    daemon = f"setsid sh -c 'echo >>{workspace}/begun; sleep 60; echo >>{workspace}/survived'"
    wait = f"while [ $(wc -l <{workspace}/begun) -lt 3 ]; do sleep 0.01; done"
    script = f"touch {workspace}/begun; for i in 1 2 3; do {daemon} & done; {wait}"
    done = launch(simple(shell(script), kinds=kinds, stdio=PIPES))  # they hold the pipes, too
    assert done.code == 0
    assert not (workspace / "survived").exists()


def test_children_of_the_caller_are_spared() -> None:
    """A child that the caller had before it became the launcher isn't the container's."""
    wrapper = ("sh", "-c", 'sleep 60 & echo $! >&2; exec "$@"', "sh")
    plan = simple(shell("setsid sleep 60 & :"), kinds=0)
    running = Launch(plan, wrapper=wrapper)
    assert running.process.stderr is not None
    elder = int(running.process.stderr.readline())
    running.process.wait(30)
    os.kill(elder, 0)  # it lives
    os.kill(elder, signal.SIGKILL)
    os.waitpid(elder, 0)
    assert running.wait().code == 0


def test_orphans_are_reaped_while_the_container_runs() -> None:
    """Orphans of a container without its own pid namespace don't stay as zombies."""
    script = READY + "(sleep 0.05 & ) ; read line"
    running = Launch(simple(shell(script), kinds=0), streams=PIPED)
    started(running)
    time.sleep(0.3)
    with open(f"/proc/{running.process.pid}/task/{running.process.pid}/children") as file:
        children = file.read().split()
    assert children == [str(running.look().pid)]
    assert running.wait(b"\n").code == 0


def test_process_that_joins_does_not_wait_for_orphans() -> None:
    """One that runs in another container's pid namespace may leave processes with its pipes."""
    inner = Launch(simple(shell(READY + "read line"), kinds=flags.CLONE_NEWPID), streams=PIPED)
    started(inner)
    plan = simple(
        shell("echo said; setsid sleep 60 & :"),
        before=[opened(inner.look().pid)],
        kinds=0,
        joined_kinds=flags.CLONE_NEWPID,
        stdio=PIPES,
    )
    begun = time.monotonic()
    assert launch(plan).stdout == "said\n"
    assert time.monotonic() - begun < 20
    assert inner.wait(b"\n").code == 0


def test_signal_ends_the_wait_for_a_reader() -> None:
    """A launcher whose container is over and whose reader sleeps can still be ended."""
    reader, writer = os.pipe()
    page = fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    program = shell(f"head -c {page + 8192} /dev/zero")  # the rest stays in the launcher
    running = Launch(simple(program, stdio=PIPES), streams=(subprocess.DEVNULL, writer, writer))
    running.until(records.EXITED)
    assert running.process.poll() is None
    running.signal(signal.SIGTERM)
    assert running.process.wait(10) == 0
    running.wait()
    os.close(reader)
    os.close(writer)
