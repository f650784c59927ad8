"""A user's terminal in front of the launcher, and a container's behind it."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.steps import STDIO_INHERIT, STDIO_NULL, STDIO_PIPE, STDIO_TERMINAL, Step
from cloche.runtime import records
from tests.native.containers import DEV, DEVPTS, PROC, Box, make_box
from tests.native.launching import WHY, Launch, shell
from tests.terminals import Terminal

pytestmark = [pytest.mark.needs("root"), pytest.mark.needs("busybox")]

CTRL_C = b"\x03"


@pytest.fixture
def box(workspace: Path) -> Box:
    """A container with a root of its own, so that it can have a devpts."""
    return make_box(workspace, None)


def interactive(box: Box, script: str, *, stdin: int = STDIO_TERMINAL) -> list[Step]:
    """Return a plan for a shell script on a terminal."""
    settle = (steps.session(why=WHY), steps.adopt_stdio(why=WHY))
    console = steps.console("/dev/console", why=WHY)
    plan = box.plan(PROC, DEV, DEVPTS, console, then=settle, command=script)
    return [steps.stdio(stdin, STDIO_TERMINAL, STDIO_TERMINAL, why=WHY), *plan]


def foreground(terminal: Terminal, plan: Sequence[Step], **more: Any) -> Launch:
    """Start a launcher as a shell's foreground job on the terminal."""

    def own_terminal() -> None:
        fcntl.ioctl(terminal.slave, termios.TIOCSCTTY, 0)

    streams = more.pop("streams", (terminal.slave,) * 3)
    return Launch(plan, streams=streams, start_new_session=True, preexec_fn=own_terminal, **more)


# --- a container's terminal --------------------------------------------------------------------


def test_terminal_is_the_containers(box: Box, terminal: Terminal) -> None:
    """The container has a terminal of its own, as its streams and its controlling one."""
    controlling = "read a b c d e f tty rest </proc/$$/stat; test $tty != 0 && echo mine"
    script = f"tty; test -t 0 && test -t 1 && test -t 2 && echo all; {controlling}"
    running = foreground(terminal, interactive(box, script))
    terminal.expect(b"/dev/pts/0\r\nall\r\nmine\r\n")
    assert running.wait().code == 0
    assert terminal.is_restored


def test_keys_and_output_pass(box: Box, terminal: Terminal) -> None:
    """What is typed arrives once, echoed by the container's terminal alone."""
    running = foreground(terminal, interactive(box, "echo ready; read a; echo got $a"))
    terminal.expect(b"ready\r\n")
    assert terminal.is_raw
    terminal.type(b"text\r")
    assert terminal.expect(b"got text\r\n") == b"text\r\ngot text\r\n"
    assert running.wait().code == 0
    assert terminal.is_restored


def test_interrupt_key_reaches_the_container_only(box: Box, terminal: Terminal) -> None:
    """Ctrl-C is a byte to the launcher, and a signal in the container."""
    script = "trap 'echo caught; exit 5' INT; echo ready; while :; do read x; done"
    running = foreground(terminal, interactive(box, script))
    terminal.expect(b"ready\r\n")
    terminal.type(CTRL_C)
    terminal.expect(b"caught")
    assert running.wait().code == 5
    assert terminal.is_restored


def test_window_size_is_passed_on(box: Box, terminal: Terminal) -> None:
    """The container's terminal has the window's size, and follows it."""
    terminal.resize(33, 111)
    script = "stty size; trap 'stty size; exit 0' WINCH; echo ready; while :; do read x; done"
    running = foreground(terminal, interactive(box, script))
    terminal.expect(b"33 111\r\nready\r\n")
    terminal.resize(44, 122)
    terminal.expect(b"44 122\r\n")
    assert running.wait().code == 0


def test_all_output_is_shown(box: Box, terminal: Terminal) -> None:
    """A container that ends at once after much output loses none of it."""
    script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; echo last"
    running = foreground(terminal, interactive(box, script))
    shown = terminal.expect(b"last\r\n")
    assert shown.count(b"line") == 3000
    assert running.wait().code == 0


def test_terminal_may_be_closed_and_opened_again(box: Box, terminal: Terminal) -> None:
    """Output after a time without anyone at the container's terminal is still shown."""
    script = "exec 0<&- 1>&- 2>&-; busybox sleep 0.2; echo back >/dev/console"
    running = foreground(terminal, interactive(box, script))
    terminal.expect(b"back\r\n")
    assert running.wait().code == 0


def test_output_only(box: Box, terminal: Terminal) -> None:
    """Without input the container has a terminal all the same, and the user's isn't raw."""
    plan = interactive(box, "test -t 0 && echo ready; busybox sleep 0.2", stdin=STDIO_NULL)
    running = foreground(terminal, plan)
    terminal.expect(b"ready\r")
    assert not terminal.is_raw
    assert running.wait().code == 0


@pytest.mark.parametrize("text", [b"one\ntwo\n", b"one\ntwo"])
def test_input_that_is_no_terminal_ends_with_a_key(box: Box, text: bytes) -> None:
    """The end of piped input is typed as Ctrl-D, so that a program that reads to it ends."""
    plan = interactive(box, "stty -echo; echo ready; cat; echo end")
    running = Launch(plan, streams=(subprocess.PIPE,) * 3)
    assert running.process.stdout is not None
    assert running.process.stdout.read(7) == b"ready\r\n"
    done = running.wait(text)
    assert done.code == 0
    assert done.stdout.replace("\r\n", "\n") == f"{text.decode()}end\n"


def test_restored_when_the_container_is_killed(box: Box, terminal: Terminal) -> None:
    """The user's terminal is restored when the container dies by a signal."""
    running = foreground(terminal, interactive(box, "echo ready; busybox sleep 60"))
    terminal.expect(b"ready\r\n")
    os.kill(running.look().pid, signal.SIGKILL)
    assert running.wait().code == 137
    assert terminal.is_restored


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_restored_after_fatal_signals(box: Box, terminal: Terminal, number: int) -> None:
    """The user's terminal is restored when a signal ends launcher and container."""
    code = f"trap 'exit 9' {signal.Signals(number).name[3:]}; echo ready; while :; do read x; done"
    running = foreground(terminal, interactive(box, code))
    terminal.expect(b"ready\r\n")
    running.signal(number)
    assert running.wait().code == 9
    assert terminal.is_restored


def test_restored_at_the_time_limit(box: Box, terminal: Terminal) -> None:
    """The user's terminal is restored when the time limit ends the container."""
    plan = interactive(box, "echo ready; busybox sleep 60")
    plan[-1] = steps.supervise(timeout_ms=300, why=WHY)
    running = foreground(terminal, plan)
    assert running.wait().records.timed_out
    assert terminal.is_restored


def test_hangup_reaches_the_container(box: Box) -> None:
    """When the user's window is closed, the container is hung up."""
    terminal = Terminal()
    running = foreground(terminal, interactive(box, "echo ready; while read x; do :; done"))
    terminal.expect(b"ready\r\n")
    os.close(terminal.slave)
    os.close(terminal.master)
    assert running.wait().code == 0


def test_stop_that_nobody_could_end_is_ignored(box: Box, terminal: Terminal) -> None:
    """Without a shell that could continue it (an orphaned process group) the launcher goes on."""
    running = foreground(terminal, interactive(box, "echo ready; read a; echo got $a"))
    terminal.expect(b"ready\r\n")
    running.signal(signal.SIGTSTP)
    terminal.until(raw=True)
    terminal.type(b"on\r")
    terminal.expect(b"got on\r\n")
    assert running.wait().code == 0
    assert terminal.is_restored


# --- job control -------------------------------------------------------------------------------

JOBS = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    if sys.argv[1] == "front":
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
        os.tcsetpgrp(0, os.getpid())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTTOU])
    os.execv(sys.argv[2], sys.argv[2:])
while True:
    _, status = os.waitpid(child, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        sys.exit(os.waitstatus_to_exitcode(status))
    os.tcsetpgrp(0, os.getpgrp())
    print("stopped by", signal.Signals(os.WSTOPSIG(status)).name, flush=True)
    command = sys.stdin.readline().strip()
    if command == "fg":
        os.tcsetpgrp(0, child)
    os.kill(child, signal.SIGCONT)
"""


def job(terminal: Terminal, plan: Sequence[Step], where: str) -> Launch:
    """Start a launcher as the job of a shell, in front or in the background."""
    wrapper = (sys.executable, "-c", JOBS, where)
    streams = (terminal.slave,) * 3
    return Launch(plan, streams=streams, start_new_session=True, wrapper=wrapper)


def launcher_of(running: Launch) -> int:
    """Return the pid of the launcher that the shell has started."""
    with open(f"/proc/{running.process.pid}/task/{running.process.pid}/children") as file:
        return int(file.read().split()[0])


def test_stopped_job_gives_the_terminal_back(box: Box, terminal: Terminal) -> None:
    """SIGTSTP restores the terminal and stops the launcher; `fg` makes it raw again."""
    running = job(terminal, interactive(box, "echo ready; read a; echo got $a"), "front")
    terminal.expect(b"ready\r\n")
    terminal.until(raw=True)
    os.kill(launcher_of(running), signal.SIGTSTP)
    terminal.expect(b"stopped by SIGTSTP")
    assert terminal.is_restored
    terminal.type(b"fg\n")
    terminal.until(raw=True)
    terminal.type(b"on\r")
    terminal.expect(b"got on\r\n")
    assert running.wait().code == 0
    assert terminal.is_restored


def test_background_job_does_not_touch_the_terminal(box: Box, terminal: Terminal) -> None:
    """A launcher that wants the terminal in the background stops, until it is in front."""
    running = job(terminal, interactive(box, "read a; echo got $a"), "back")
    terminal.expect(b"stopped by SIGTTOU")
    assert terminal.is_restored
    terminal.type(b"fg\n")
    terminal.until(raw=True)
    terminal.type(b"on\r")
    terminal.expect(b"got on\r\n")
    assert running.wait().code == 0


def test_background_job_that_reads_stops(terminal: Terminal) -> None:
    """With pipes too, input that belongs to the shell isn't taken; `fg` delivers it."""
    plan = [
        steps.stdio(STDIO_PIPE, STDIO_PIPE, STDIO_INHERIT, why=WHY),
        steps.spawn(flags.CLONE_NEWPID, why=WHY),
        steps.adopt_stdio(why=WHY),
        shell("echo begun; read a; echo got $a"),
        steps.supervise(why=WHY),
    ]
    running = job(terminal, plan, "back")
    terminal.expect(b"begun\r\n")
    terminal.type(b"first\n")  # readable now, and not for the launcher
    terminal.expect(b"stopped by SIGTTIN")  # the shell takes that line, which is no command
    terminal.type(b"fg\nsecond\n")
    terminal.expect(b"stopped by SIGTTIN")  # it was continued in the background
    terminal.expect(b"got second\r\n")
    assert running.wait().code == 0


def test_interrupt_key_without_a_terminal_of_its_own(terminal: Terminal) -> None:
    """Where container and launcher share the process group, Ctrl-C comes once."""
    script = "n=0; trap 'n=$((n+1))' INT; echo ready; read a; read b; echo count $n; exit 7"
    plan = [
        steps.spawn(0, why=WHY),
        steps.exec(("/bin/bash",), ("bash", "-c", script), (), why=WHY),
        steps.supervise(why=WHY),
    ]
    running = foreground(terminal, plan)
    terminal.expect(b"ready")
    running.until(records.STARTED)
    terminal.type(CTRL_C)
    time.sleep(0.3)
    terminal.type(b"\n\n")
    terminal.expect(b"count 1")
    assert running.wait().code == 7
