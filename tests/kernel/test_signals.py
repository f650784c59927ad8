"""Signals to ``cloche run`` and in the container, and the exit codes that follow."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Cloche

pytestmark = [pytest.mark.needs("root", "userns")]

INIT = pytest.mark.parametrize("init", [(), ("--init",)], ids=["direct", "init"])
LISTENER = """
import os, signal
wanted = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
print("ready", flush=True)
while (number := signal.sigwait(wanted)) != signal.SIGTERM:
    print(int(number), flush=True)
os._exit(8)
"""


@contextmanager
def running(run: Cloche, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run a container that says ``ready``, and be sure that it ends."""
    process = run.start([str(run.executable), "run", *arguments])
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.stdout.close()
        process.stderr.close()  # type: ignore[union-attr]
        if process.poll() is None:
            process.terminate()
            process.wait(20)


@INIT
@pytest.mark.parametrize("who", ["cloche", "unprivileged"])
def test_every_signal_is_forwarded(
    who: str, init: tuple[str, ...], request: pytest.FixtureRequest
) -> None:
    """Each arrives once, real-time signals as often as they were sent, all in order."""
    run: Cloche = request.getfixturevalue(who)
    # SIGTSTP, SIGTTIN and SIGTTOU stop the launcher: see below.  SIGPIPE isn't meant for anyone.
    numbers = [
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
        *(signal.SIGALRM, signal.SIGWINCH, signal.SIGCONT, signal.SIGABRT, signal.SIGSEGV),
        *([signal.SIGRTMIN] * 5),
        *([signal.SIGRTMAX - 1] * 5),
    ]
    with running(run, *init, "host", "python3", "-c", LISTENER) as process:
        assert process.stdout is not None
        for number in dict.fromkeys(numbers):
            for _ in range(numbers.count(number)):
                process.send_signal(number)
            for _ in range(numbers.count(number)):
                assert process.stdout.readline() == f"{int(number)}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 8


@INIT
def test_signal_to_the_process_group_arrives_once(cloche: Cloche, init: tuple[str, ...]) -> None:
    """As from Ctrl-C of a shell without a terminal for the container."""
    argv = [str(cloche.executable), "run", *init, "host", "python3", "-c", LISTENER]
    with subprocess.Popen(
        argv, env=cloche.environ, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.readline() == "2\n"
        os.killpg(process.pid, signal.SIGTERM)
        assert process.stdout.read() == ""
    assert process.returncode == 8


@pytest.mark.parametrize("number", [1, 2, 3, 6, 9, 10, 11, 15, 34, 64])
def test_exit_code_of_a_signal(cloche: Cloche, number: int) -> None:
    """A program that signal n ends gives 128 + n, beneath an init for any n."""
    script = (
        f"import os, signal; {number} == 9 or signal.signal({number}, signal.SIG_DFL);"
        f"os.kill(os.getpid(), {number})"
    )
    done = cloche("run", "--init", "--ulimit", "core=0", "host", "python3", "-c", script)
    assert done.returncode == 128 + number
    assert done.stderr == ""


def test_pid_1_without_a_handler(cloche: Cloche) -> None:
    """The kernel drops what PID 1 doesn't handle; beneath an init SIGTERM ends the program."""
    with running(cloche, "host", "sh", "-c", "echo ready; exec sleep 1") as process:
        process.terminate()
        assert process.wait(20) == 0
    with running(cloche, "--init", "host", "sh", "-c", "echo ready; exec sleep 60") as process:
        process.terminate()
        assert process.wait(20) == 128 + signal.SIGTERM


def test_init_reaps_orphans(cloche: Cloche) -> None:
    """No zombie stays, however many orphans there are."""
    script = (
        "for i in $(seq 50); do (true & true &) ; done; (sleep 0.02 &); sleep 0.1;"
        "cat /proc/[0-9]*/stat 2>/dev/null | cut -d' ' -f3 | grep -c Z"
    )
    assert cloche("run", "--init", "host", "sh", "-c", script).stdout == "0\n"


def test_init_ends_with_its_program(cloche: Cloche) -> None:
    """What the program leaves running is killed, and its output delivered."""
    script = "(echo early; sleep 600) & sleep 0.05; exit 11"
    done = cloche("run", "--init", "host", "sh", "-c", script)
    assert (done.stdout, done.returncode) == ("early\n", 11)


def test_stop_and_continue(cloche: Cloche) -> None:
    """SIGTSTP and SIGCONT reach the container, and stop and continue the command itself."""
    script = "import signal, time\nsignal.signal(signal.SIGCONT, lambda *_: exit(12))\n"
    script += "print('ready', flush=True)\nwhile True: time.sleep(60)"
    argv = [str(cloche.executable), "run", "--init", "host", "python3", "-c", script]
    # In a process group of its own, since an orphaned one, as the tests' may be, can't be stopped.
    with subprocess.Popen(
        argv, env=cloche.environ, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTSTP)
        stopped = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED)
        assert stopped is not None
        assert (stopped.si_code, stopped.si_status) == (os.CLD_STOPPED, signal.SIGTSTP)
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == 12


def test_stopped_command_delays_nothing(cloche: Cloche, workspace: Path) -> None:
    """While the command is stopped by SIGSTOP, its container goes on."""
    (workspace / "shared").mkdir()
    script = "echo ready; sleep 0.05; touch /shared/done; exit 13"
    with running(
        cloche, "-v", f"{workspace}/shared:/shared", "host", "sh", "-c", script
    ) as process:
        process.send_signal(signal.SIGSTOP)
        end = time.monotonic() + 10
        while not (workspace / "shared/done").exists():
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(signal.SIGCONT)
        assert process.wait(20) == 13


def test_storm(cloche: Cloche) -> None:
    """Thousands of signals at once neither confuse the command nor slow it down."""
    script = "trap : USR1 USR2 HUP; echo ready; for i in {1..20}; do :; done; exit 14"
    with running(cloche, "host", "bash", "-c", script) as process:
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP) * 1000:
            process.send_signal(number)
        assert process.wait(20) == 14
