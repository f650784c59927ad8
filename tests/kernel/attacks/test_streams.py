"""Attacks through standard input, output and error: what the caller has at their other ends."""

from __future__ import annotations

import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Cloche
from tests.kernel.attacks.conftest import Treasure

pytestmark = pytest.mark.needs("userns", "gcc")
BOTH = pytest.mark.parametrize("who", ["cloche", "unprivileged"])


@pytest.fixture
def run(who: str, request: pytest.FixtureRequest) -> Cloche:
    """The command as one of the users that a test is repeated for."""
    return request.getfixturevalue(who)  # type: ignore[no-any-return]


class Terminal(NamedTuple):
    """A pseudo-terminal that stands for the user's: the end of the window, and of programs."""

    window: int
    programs: int


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    """The user's terminal."""
    made = Terminal(*os.openpty())
    yield made
    for descriptor in made:
        os.close(descriptor)


def start(
    run: Cloche, *arguments: str, stdin: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start the command on given streams, in a session of its own that owns no terminal."""
    return subprocess.Popen(
        [str(run.executable), *arguments],
        env=run.environ,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        user=run.user.uid if run.user else None,
        group=run.user.gid if run.user else None,
        extra_groups=[] if run.user else None,
    )


@BOTH
def test_input_file_is_not_written(run: Cloche, treasure: Treasure) -> None:
    """A file that is given to be read can't be opened anew to be written."""
    script = (
        "head -c 3; for way in '>' '>>' '1<>'; do for fd in 0 1 2; do"
        ' eval "echo bad $way /proc/self/fd/$fd"; done; done'
    )
    with (treasure.path / "file").open() as given:
        process = start(
            run, "run", "-i", "host", "sh", "-c", script,
            stdin=given.fileno(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        output, _ = process.communicate(timeout=20)
    assert output.startswith(b"tre")
    assert treasure.is_safe


@BOTH
def test_output_file_is_not_read_or_cut(run: Cloche, workspace: Path) -> None:
    """A log that the output is appended to keeps its beginning, and keeps it to itself."""
    log = workspace / "log"
    log.write_text("before\n")
    script = (
        "for fd in 1 2; do cat < /proc/self/fd/$fd & sleep 0.1; kill $!; : > /proc/self/fd/$fd;"
        " truncate -s 0 /proc/self/fd/$fd; done; echo after"
    )
    with log.open("a") as appended:
        process = start(
            run, "run", "host", "timeout", "5", "sh", "-c", script,
            stdin=subprocess.DEVNULL, stdout=appended.fileno(), stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert process.wait(timeout=20) == 0
    assert log.read_text() == "before\nafter\n"


@BOTH
def test_pipe_is_not_read(run: Cloche) -> None:
    """From the pipe that it writes to a container can't take what others have written there."""
    reading, writing = os.pipe()
    os.write(writing, b"of another\n")
    script = "timeout 0.3 cat /proc/self/fd/1 > /tmp/stolen; wc -c < /tmp/stolen >&2"
    process = start(
        run, "run", "host", "sh", "-c", script,
        stdin=subprocess.DEVNULL, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    _, errors = process.communicate(timeout=20)
    os.close(writing)
    with open(reading, "rb") as pipe:
        assert pipe.read() == b"of another\n"
    assert errors == b"0\n"


@BOTH
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_flags_of_the_caller_stay(run: Cloche, kind: str) -> None:
    """O_NONBLOCK, which all share who hold a stream, isn't the container's to set."""
    if kind == "pipe":
        ours, theirs = os.pipe()
    else:
        ours, theirs = (end.detach() for end in socket.socketpair())
    script = (
        "import fcntl, os\nfor fd in 0, 1, 2: fcntl.fcntl(fd, fcntl.F_SETFL,"
        " fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_NONBLOCK)"
    )
    before = fcntl.fcntl(theirs, fcntl.F_GETFL)
    process = start(
        run, "run", "-i", "host", "python3", "-c", script,
        stdin=subprocess.DEVNULL if kind == "pipe" else theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    assert process.wait(timeout=20) == 0
    assert fcntl.fcntl(theirs, fcntl.F_GETFL) == before
    os.close(ours)
    os.close(theirs)


@BOTH
@pytest.mark.parametrize("flag", [(), ("-i",)])
def test_terminal_of_the_caller(
    run: Cloche, attacker: Path, terminal: Terminal, flag: tuple[str, ...]
) -> None:
    """No character is put into the user's terminal, and none is read from it (CVE-2017-5226)."""
    script = "for fd in 0 1 2; do /attacker type $fd; done; /attacker open rw /dev/tty"
    process = start(
        run, "run", *flag, "-v", f"{attacker}:/attacker:ro", "host", "sh", "-c", script,
        stdin=terminal.programs, stdout=subprocess.PIPE, stderr=terminal.programs,
    )  # fmt: skip
    output, _ = process.communicate(timeout=20)
    assert output.split() == [b"ENOTTY"] * 3 + [b"ENXIO"]


@BOTH
def test_terminal_inside_is_another(run: Cloche, attacker: Path, terminal: Terminal) -> None:
    """With -t what is typed in goes to the container's own terminal only."""
    script = "tty; /attacker type 0"
    process = start(
        run, "run", "-t", "-v", f"{attacker}:/attacker:ro", "host", "sh", "-c", script,
        stdin=terminal.programs, stdout=terminal.programs, stderr=terminal.programs,
    )  # fmt: skip
    assert process.wait(timeout=20) == 0
    assert os.read(terminal.window, 4096).split()[0] == b"/dev/pts/0"
    os.set_blocking(terminal.programs, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal.programs, 1)


@pytest.mark.needs("root")
def test_device_as_stream(cloche: Cloche) -> None:
    """A device that is given as a stream isn't opened anew, nor asked to do things."""
    device = os.open("/dev/full", os.O_RDWR)
    process = start(
        cloche, "run", "-i", "host", "sh", "-c", "stat -L -c %F /dev/stdin /dev/stdout",
        stdin=device, stdout=subprocess.PIPE, stderr=device,
    )  # fmt: skip
    output, _ = process.communicate(timeout=20)
    os.close(device)
    assert set(output.decode().splitlines()) == {"fifo"}


@BOTH
@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams(run: Cloche, closed: str) -> None:
    """In the place of a stream that the caller has closed is nothing of the launcher's."""
    script = "exec 3>/tmp/out; ls -l /proc/self/fd | grep -v /proc/ >&3; cat /tmp/out > /dev/shm/x"
    command = f'"$@" {closed}'
    argv = ["sh", "-c", command, "sh", str(run.executable), "run", "host", "sh", "-c", script]
    assert run.run(argv).returncode == 0
