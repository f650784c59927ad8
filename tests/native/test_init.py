"""The tiny init: what PID 1 does for a program that wasn't written to be it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.steps import STDIO_PIPE, Step
from tests.native.launching import JOINED_SLOT, WHY, Launch, launch, opened, run, shell, simple

pytestmark = pytest.mark.needs("root")

PIPES = (STDIO_PIPE,) * 3
PIPED = (subprocess.PIPE,) * 3
KINDS = flags.CLONE_NEWPID | flags.CLONE_NEWNS


def with_init(program: Step, *inside: Step, kinds: int = KINDS) -> list[Step]:
    """Return a plan whose program is the child of init, with a /proc of its own."""
    private = steps.propagation(flags.MS_PRIVATE | flags.MS_REC, why=WHY)
    proc = steps.mount_on_host("proc", "proc", (), 0, "/proc", why=WHY)
    own_proc = (private, proc) if kinds & flags.CLONE_NEWNS else ()
    init = steps.init(why=WHY)
    return simple(program, *own_proc, *inside, init, kinds=kinds, stdio=PIPES)


@pytest.mark.parametrize("kinds", [0, KINDS], ids=["shared-pids", "own-pids"])
def test_exit_code_comes_through(kinds: int) -> None:
    """Init exits as its program did."""
    assert launch(with_init(shell("exit 42"), kinds=kinds)).code == 42
    assert launch(with_init(shell("kill -KILL $$"), kinds=kinds)).code == 137


def test_program_is_not_pid_1() -> None:
    """The program runs as a child of PID 1, which calls itself cloche-init."""
    done = launch(with_init(shell("echo $$; cat /proc/1/comm; exit 0")))
    assert done.stdout == "2\ncloche-init\n"


def test_orphans_are_reaped() -> None:
    """Nothing stays a zombie, though the program waits for nobody."""
    code = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.05)
        os._exit(0)
    os.wait()
time.sleep(0.3)
print([name for name in os.listdir("/proc") if name.isdigit()])
"""
    assert launch(with_init(run(sys.executable, "-c", code))).stdout == "['1', '2']\n"


@pytest.mark.parametrize("name", ["TERM", "INT", "USR1", "WINCH", "TSTP"])
def test_signals_are_forwarded(name: str) -> None:
    """A signal for init, which PID 1 would ignore, is handed to the program."""
    number = int(signal.Signals[f"SIG{name}"])
    code = (
        f"import signal; signal.pthread_sigmask(0, [{number}]); print('ready', flush=True); "
        f"print(signal.sigwaitinfo([{number}]).si_signo)"
    )
    running = Launch(with_init(run(sys.executable, "-c", code)), streams=PIPED)
    assert running.process.stdout is not None
    assert running.process.stdout.read(6) == b"ready\n"
    os.kill(running.look().pid, number)
    assert running.wait().stdout == f"{number}\n"


def test_program_starts_with_an_empty_mask() -> None:
    """The mask that init needs for itself isn't the program's."""
    done = launch(with_init(shell("grep SigBlk /proc/self/status")))
    assert done.stdout == f"SigBlk:\t{'0' * 16}\n"


def test_default_action_ends_the_program() -> None:
    """With init in front of it a program without handlers can be terminated."""
    running = Launch(with_init(shell("echo ready; exec sleep 60")), streams=PIPED)
    assert running.process.stdout is not None
    assert running.process.stdout.read(6) == b"ready\n"
    running.signal(signal.SIGTERM)
    assert running.wait().code == 128 + signal.SIGTERM


def test_init_holds_nothing_of_the_launchers() -> None:
    """Init has no file descriptors, no environment and none of the plan in its memory."""
    script = """
ls /proc/1/fd | wc -l
tr -d '\\0' </proc/1/environ | wc -c
grep -c 'memfd:plan\\|memfd:records' /proc/1/maps
"""
    done = launch(with_init(shell(script)), env={**os.environ, "SECRET": "of the host"})
    assert done.stdout == "0\n0\n0\n"


def test_missing_program_is_told() -> None:
    """A program that can't be executed fails the plan, with init in between as without."""
    done = launch(with_init(run("/nowhere/program")))
    assert done.code == 127
    assert done.records.failure is not None
    assert done.records.failure.path == "/nowhere/program"


def test_users_may_join_the_namespaces_of_init() -> None:
    """Init is dumpable once it holds nothing, or an unprivileged `exec` couldn't join it."""
    uid = 65533
    kinds = KINDS | flags.CLONE_NEWUSER
    mapped = [
        steps.spawn(kinds, why=WHY),
        steps.deny_setgroups(why=WHY),
        steps.id_map(f"0 {uid} 1\n", group=False, why=WHY),
        steps.id_map(f"0 {uid} 1\n", group=True, why=WHY),
        steps.identity(0, 0, None, why=WHY),
        steps.init(why=WHY),
        shell("echo ready; read line"),
        steps.supervise(why=WHY),
    ]
    first = Launch(mapped, streams=PIPED, uid=uid)
    assert first.process.stdout is not None
    assert first.process.stdout.read(6) == b"ready\n"
    pid = first.look().pid
    joining = [
        opened(pid),
        steps.spawn(0, why=WHY),
        steps.join(JOINED_SLOT, flags.CLONE_NEWUSER | flags.CLONE_NEWNS, why=WHY),
        shell("readlink /proc/self/ns/user"),
        steps.supervise(why=WHY),
    ]
    done = launch(joining, uid=uid)
    assert done.stdout == os.readlink(f"/proc/{pid}/ns/user") + "\n"
    assert first.wait(b"\n").code == 0
