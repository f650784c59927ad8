"""``cloche run -it`` as a user at a terminal has it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cloche
from tests.terminals import LIMIT, Terminal

pytestmark = [pytest.mark.needs("root", "userns")]

CTRL_C, CTRL_D, CTRL_Z, CTRL_BACKSLASH = b"\x03", b"\x04", b"\x1a", b"\x1c"
BASH = ("bash", "--norc", "--noprofile")
JOB = """
import os
from signal import *
signal(SIGINT, SIG_DFL)
signal(SIGCONT, lambda *_: os.write(1, b"goes on\\n"))
os.write(1, b"runs\\n")
while True:
    pause()
"""
"""A job that says when it is in front: keys that are typed before are the shell's.

It doesn't fork: a shell that is stopped in the middle of vfork(2) never is, for its own shell.
"""
WHO = pytest.mark.parametrize("who", ["cloche", "unprivileged", "subordinate"])


class Session:
    """A program in front of a terminal, which is its controlling one."""

    def __init__(self, run: Cloche, terminal: Terminal, argv: list[str]) -> None:
        self.terminal = terminal
        os.fchmod(terminal.slave, 0o666)  # as a user's own is
        self.process = subprocess.Popen(
            argv,
            env=run.environ | {"PS1": "host> ", "TERM": "vt100"},
            stdin=terminal.slave,
            stdout=terminal.slave,
            stderr=terminal.slave,
            start_new_session=True,
            preexec_fn=terminal.own,  # noqa: PLW1509  the tests have one thread
            user=run.user.uid if run.user else None,
            group=run.user.gid if run.user else None,
            extra_groups=[] if run.user else None,
        )

    def line(self, text: str, *expected: str) -> bytes:
        """Type a line, and wait until its echo and then each of some texts is seen."""
        self.terminal.type(text.encode() + b"\r")
        seen = self.terminal.expect(text.encode())
        for word in expected:
            seen = self.terminal.expect(word.encode())
        return seen

    def wait(self) -> int:
        """Return the exit code, reading what is still shown meanwhile."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(0.01)
            self.terminal.drain()
        raise AssertionError(f"it doesn't end, but shows {self.terminal.seen!r}")

    def end(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Users:
    """Starts sessions, and ends them with the test."""

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.sessions: list[Session] = []

    def start(self, run: Cloche, *arguments: str) -> Session:
        """Start ``cloche ARGUMENTS...`` in front."""
        return self.program(run, str(run.executable), *arguments)

    def program(self, run: Cloche, *argv: str) -> Session:
        """Start any program in front."""
        self.sessions.append(Session(run, self.terminal, list(argv)))
        return self.sessions[-1]


@pytest.fixture
def user(terminal: Terminal) -> Iterator[Users]:
    """Somebody at the terminal."""
    users = Users(terminal)
    yield users
    for session in users.sessions:
        session.end()


@pytest.fixture
def run(who: str, request: pytest.FixtureRequest) -> Cloche:
    """The command as one of the users that a test is repeated for."""
    return request.getfixturevalue(who)  # type: ignore[no-any-return]


@pytest.fixture
def shell(user: Users, cloche: Cloche) -> Session:
    """An interactive bash in a container."""
    session = user.start(cloche, "run", "-it", "-e", "PS1=in> ", "host", *BASH)
    user.terminal.expect(b"in> ")
    return session


# --- what the container has ---------------------------------------------------------------------


@WHO
def test_terminal_of_the_container(run: Cloche, user: Users, terminal: Terminal) -> None:
    """It is all three streams, the controlling terminal and the console; of the window's size."""
    terminal.resize(33, 101)
    script = (
        "tty; stty size; echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo streams;"
        " echo to console >/dev/console; echo to tty >/dev/tty; ls /dev/pts; ps -o tty= -p 1;"
        " exit 5"
    )
    session = user.start(run, "run", "-it", "host", "bash", "-c", script)
    expected = (
        *("/dev/pts/0", "33 101", "xterm", "streams", "to console", "to tty"),
        *("0  ptmx", "pts/0"),
    )
    for line in expected:
        terminal.expect(f"{line}\r\n".encode())
    assert session.wait() == 5
    assert terminal.is_restored


@WHO
@pytest.mark.parametrize("init", [(), ("--init",)])
def test_job_control(
    run: Cloche, init: tuple[str, ...], user: Users, terminal: Terminal, workspace: Path
) -> None:
    """Ctrl-C, Ctrl-Z, fg and bg work in the container's shell, under an init too."""
    (workspace / "job").write_text(JOB)
    options = ("-it", *init, "-e", "PS1=in> ", "-v", f"{workspace}/job:/job")
    session = user.start(run, "run", *options, "host", *BASH)
    seen = terminal.expect(b"in> ")
    assert b"no job control" not in seen
    session.line("python3 /job", "runs\r\n")
    terminal.type(CTRL_C)
    terminal.expect(b"in> ")
    session.line("echo code $?", "code 130\r\n", "in> ")
    session.line("python3 /job", "runs\r\n")
    terminal.type(CTRL_Z)
    terminal.expect(b"Stopped")
    session.line("bg", "goes on\r\n")
    session.line("jobs", "Running", "in> ")
    session.line("kill %1; wait %1; echo code $?", "code 143\r\n", "in> ")
    session.line("python3 /job", "runs\r\n")
    terminal.type(CTRL_Z)
    terminal.expect(b"Stopped")
    session.line("fg", "goes on\r\n")
    terminal.type(CTRL_BACKSLASH)
    terminal.expect(b"Quit")
    terminal.expect(b"in> ")
    terminal.type(CTRL_D)
    session.wait()
    assert terminal.is_restored


def test_window_is_resized(shell: Session, terminal: Terminal) -> None:
    """The container's terminal follows the window, and its foreground program is told."""
    shell.line("trap 'echo now $(stty size)' WINCH; echo set", "set\r\n")
    terminal.resize(50, 120)
    terminal.type(b"\r")
    terminal.expect(b"now 50 120\r\n")
    terminal.expect(b"in> ")
    terminal.type(CTRL_D)
    assert shell.wait() == 0


def test_bytes_pass(user: Users, cloche: Cloche, terminal: Terminal) -> None:
    """In raw mode every byte passes, in and out, and a large paste arrives whole."""
    script = "stty raw -echo; echo ready; head -c 256 | od -An -tu1 -v | tr -d ' \\n'; echo; "
    script += "head -c 300000 | sha1sum; printf '\\000\\001\\377end'"
    session = user.start(cloche, "run", "-it", "host", "sh", "-c", script)
    terminal.expect(b"ready")
    terminal.type(bytes(range(256)))
    terminal.expect("".join(str(byte) for byte in range(256)).encode())
    paste = os.urandom(300_000)
    terminal.type(paste)
    terminal.expect(hashlib.sha1(paste).hexdigest().encode())
    assert b"\x00\x01\xffend" in terminal.expect(b"end")
    assert session.wait() == 0
    assert terminal.is_restored


def test_much_output(user: Users, cloche: Cloche, terminal: Terminal) -> None:
    """Megabytes of output are shown to the last line."""
    session = user.start(cloche, "run", "-it", "host", "seq", "300000")
    assert terminal.expect(b"\r\n300000\r\n").count(b"\n") == 300000
    assert session.wait() == 0


# --- which options ask for what -----------------------------------------------------------------


def test_terminal_without_input(user: Users, cloche: Cloche, terminal: Terminal) -> None:
    """-t alone gives a terminal that nothing is typed into; the user's isn't raw."""
    session = user.start(cloche, "run", "-t", "host", "sh", "-c", "tty; sleep 0.1; stty size")
    terminal.expect(b"/dev/pts/0\r")
    assert not terminal.is_raw
    terminal.expect(b"24 80\r")
    assert session.wait() == 0


def test_input_without_terminal(user: Users, cloche: Cloche, terminal: Terminal) -> None:
    """-i alone passes lines on, with the user's terminal as it is."""
    script = "test -t 0 || echo none; read x; echo got $x"
    session = user.start(cloche, "run", "-i", "host", "sh", "-c", script)
    terminal.expect(b"none\r\n")
    assert terminal.is_restored
    session.line("text", "got text\r\n")
    assert session.wait() == 0


def test_interrupt_without_terminal(user: Users, cloche: Cloche, terminal: Terminal) -> None:
    """Without -t Ctrl-C interrupts the container, by way of the launcher."""
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.02; done"
    session = user.start(cloche, "run", "host", "bash", "-c", script)
    terminal.expect(b"ready")
    terminal.type(CTRL_C)
    terminal.expect(b"caught\r\n")
    assert session.wait() == 7


def test_input_that_is_no_terminal(cloche: Cloche) -> None:
    """-it with a pipe for input is refused, as docker does."""
    done = cloche("run", "-it", "host", "true", input="x")
    assert done.returncode == 125
    assert "-t wants a terminal" in done.stderr


# --- restored, whatever happens -----------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def test_restored_after_a_signal(
    number: signal.Signals, user: Users, cloche: Cloche, terminal: Terminal
) -> None:
    """A signal to the command ends the container as its program wants, and restores."""
    script = f"trap 'exit 9' {number.name[3:]}; echo ready; while :; do sleep 0.02; done"
    session = user.start(cloche, "run", "-it", "host", "bash", "-c", script)
    terminal.expect(b"ready\r\n")
    assert terminal.is_raw
    session.process.send_signal(number)
    assert session.wait() == 9
    assert terminal.is_restored


def test_restored_when_the_container_is_killed(
    user: Users, cloche: Cloche, terminal: Terminal
) -> None:
    """SIGKILL to the container's PID 1 from outside."""
    session = user.start(cloche, "run", "-it", "host", "sh", "-c", "echo ready; sleep 60; true")
    terminal.expect(b"ready\r\n")
    children = f"/proc/{session.process.pid}/task/{session.process.pid}/children"
    os.kill(int(Path(children).read_text()), signal.SIGKILL)
    assert session.wait() == 137
    assert terminal.is_restored


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--timeout", "300ms", "host", "sleep", "60"), 137, "time limit"),
        (("-w", "/etc/passwd", "host", "true"), 125, "not a directory"),
        (("host", "nonsense"), 127, "not found"),
    ],
)
def test_restored_after_failures(
    options: tuple[str, ...], code: int, words: str, user: Users, cloche: Cloche, terminal: Terminal
) -> None:
    """A time limit, a step that fails, a program that isn't there."""
    session = user.start(cloche, "run", "-it", *options)
    terminal.expect(words.encode())
    assert session.wait() == code
    assert terminal.is_restored


@pytest.mark.orphans
def test_window_is_closed(cloche: Cloche) -> None:
    """The container is hung up when the user's window is closed."""
    terminal = Terminal()
    session = Session(cloche, terminal, [str(cloche.executable), "run", "-it", "host", *BASH])
    terminal.expect(b"# ")
    terminal.close()
    assert session.process.wait(LIMIT) in (0, 129), session.process.returncode


# --- among the jobs of a shell of the host ------------------------------------------------------


@pytest.fixture
def host_shell(user: Users, cloche: Cloche, terminal: Terminal) -> Session:
    """An interactive bash of the host."""
    session = user.program(cloche, *BASH, "-i")
    terminal.expect(b"host> ")
    return session


def test_started_in_the_background(host_shell: Session, terminal: Terminal) -> None:
    """It stops as soon as it wants the terminal; the shell isn't disturbed, and fg goes on."""
    host_shell.line("cloche run -it -e 'PS1=in> ' host bash --norc &", "host> ")
    host_shell.line("wait %1; echo waited $?", "waited 1", "host> ")
    host_shell.line("jobs", "Stopped", "host> ")
    host_shell.line("fg", "in> ")
    host_shell.line("echo $((6*7))", "42\r\n", "in> ")
    terminal.type(CTRL_D)
    terminal.expect(b"host> ")
    host_shell.line("exit 3")
    assert host_shell.wait() == 3


def test_suspended_from_outside(host_shell: Session, terminal: Terminal) -> None:
    """A stopped command gives the terminal back to the shell, and takes it again with fg."""
    host_shell.line("cloche run -it -e 'PS1=in> ' host bash --norc", "in> ")
    launcher = Path(f"/proc/{host_shell.process.pid}/task/{host_shell.process.pid}/children")
    os.kill(int(launcher.read_text()), signal.SIGTSTP)
    terminal.expect(b"Stopped")
    terminal.expect(b"host> ")
    host_shell.line("stty -a", "isig icanon", "host> ")
    terminal.type(b"fg\r")
    terminal.expect(b"bash --norc")
    terminal.until(raw=True)
    host_shell.line("echo $((6*7))", "42\r\n", "in> ")
    terminal.type(CTRL_D)
    terminal.expect(b"host> ")
    host_shell.line("exit 3")
    assert host_shell.wait() == 3


def test_pipeline_in_the_foreground(host_shell: Session, terminal: Terminal) -> None:
    """In a pipeline with -i it reads the terminal, as the foreground job that it is."""
    host_shell.line("cloche run -i host sh -c 'echo up; cat' | tr a-z A-Z; echo done", "UP")
    terminal.type(b"some text\r")
    terminal.type(CTRL_D)
    terminal.expect(b"SOME TEXT\r\ndone")
    terminal.expect(b"host> ")
    host_shell.line("exit")
    assert host_shell.wait() == 0
