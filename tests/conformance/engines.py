"""Container engines that run a runtime, each with everything of its own.

An engine never touches the machine's: it has its own directories, sockets and cgroup, and where it
is a daemon its own mount namespace with an empty ``/run``, which ends with it.  The network is
none, or the host's.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from tests.terminals import Terminal

PATIENCE = 20.0
"""Seconds that an engine has for one thing."""


class Client:
    """The command of an engine."""

    def __init__(self, argv: list[str], environ: Mapping[str, str] | None = None) -> None:
        self.argv = argv
        self.environ = os.environ | dict(environ or {})

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run it with these arguments to its end."""
        return subprocess.run(
            [*self.argv, *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def __call__(self, *arguments: str) -> str:
        """Return what it prints, and fail the test if it fails."""
        done = self.run(*arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}"
        return done.stdout.strip()

    def until(self, text: str, *arguments: str) -> None:
        """Run it until it prints a text."""
        end = time.monotonic() + PATIENCE
        while text not in (printed := self(*arguments)):
            assert time.monotonic() < end, f"{' '.join(arguments)}: {text!r} isn't in {printed!r}"

    @contextlib.contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start it, to read what it goes on to print; it is killed at the end."""
        with subprocess.Popen(
            [*self.argv, *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,  # so that select(2) knows of all that is there to read
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    @contextlib.contextmanager
    def on_terminal(self, terminal: Terminal, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        """Start it on a terminal; it is killed at the end unless it has ended."""
        with subprocess.Popen(
            ["setsid", "--ctty", *self.argv, *arguments],
            env=self.environ,
            stdin=terminal.slave,
            stdout=terminal.slave,
            stderr=terminal.slave,
        ) as process:
            try:
                yield process
            finally:
                process.kill()


class Daemon:
    """The daemon of an engine, in a mount namespace of its own."""

    def __init__(self, argv: list[str], log: Path) -> None:
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "--propagation", "private", "sh", "-c", _START, "-", *argv],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.mounts: set[str] = set()

    @property
    def inside(self) -> list[str]:
        """The start of a command line that runs where the daemon sees the files."""
        return ["nsenter", f"--mount=/proc/{self.process.pid}/ns/mnt"]

    def until_ready(self, client: Client, *arguments: str) -> None:
        """Wait until a command succeeds."""
        end = time.monotonic() + PATIENCE
        while client.run(*arguments).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(self.log.read_text()[-2000:])
        self.mounts = self._mounts()

    def mounts_left(self, but: str = "") -> set[str]:
        """Return the mount points that weren't there when the daemon was ready, but for one."""
        end = time.monotonic() + PATIENCE
        while (left := self._mounts() - self.mounts - {but}) and time.monotonic() < end:
            time.sleep(0.02)
        return left

    def _mounts(self) -> set[str]:
        with open(f"/proc/{self.process.pid}/mountinfo") as file:
            return {line.split()[4] for line in file}

    def stop(self) -> None:
        """End it and what it started."""
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


_START = 'mount -t tmpfs tmpfs /run && mkdir /run/lock && exec "$@"'


class Group:
    """A cgroup of the tests' own in each hierarchy, for an engine's containers."""

    def __init__(self, name: str) -> None:
        self.path = f"/{name}"
        with open("/proc/self/mountinfo") as file:
            lines = [line.split() for line in file]
        points = [line[4] for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2")]
        self.directories = [Path(f"{point}{self.path}") for point in points]
        self.kept = ""
        for directory in self.directories:
            _make(directory)

    def keep(self, name: str) -> None:
        """Make a group in it that is the engine's own, and may stay."""
        self.kept = name
        for directory in self.directories:
            _make(directory / name)

    def left(self) -> list[Path]:
        """Return the groups that containers have left, once nothing changes any more."""
        end = time.monotonic() + PATIENCE / 10
        while (found := self._children()) and time.monotonic() < end:
            time.sleep(0.02)
        return found

    def _children(self) -> list[Path]:
        return [
            Path(path)
            for directory in self.directories
            for path, _, _ in os.walk(directory)
            if path not in (str(directory), f"{directory}/{self.kept}")
        ]

    def limit(self, pid: int, v1: str, v2: str) -> str:
        """Return what the file for a limit says in a process's group, by its names in v1 and v2."""
        for directory in self.directories:
            for path, _, files in os.walk(directory):
                name = v1 if v1 in files else v2
                if name in files and str(pid) in Path(path, "cgroup.procs").read_text().split():
                    return Path(path, name).read_text().strip()
        raise FileNotFoundError(f"no group of process {pid} has {v1} or {v2}")

    def remove(self) -> None:
        """Remove them, and what containers have left in them."""
        for directory in self.directories:
            for path, _, _ in os.walk(directory, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(path)


def _make(group: Path) -> None:
    """Make a cgroup that processes may enter: in a new one of cpuset (v1) they have no CPU."""
    group.mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):
        if (group / name).exists() and (group / "tasks").exists():
            (group / name).write_text((group.parent / name).read_text())


def line(stream: IO[bytes] | None, text: str) -> str:
    """Read lines until one has a text in it, and return it."""
    assert stream is not None
    seen = []
    end = time.monotonic() + PATIENCE
    while select.select([stream], [], [], max(0, end - time.monotonic()))[0]:
        seen.append(stream.readline().decode())
        if text in seen[-1]:
            return seen[-1].strip()
        if not seen[-1]:
            break
    raise AssertionError(f"{text!r} isn't in {''.join(seen)!r}")


def talk(terminal: Terminal) -> None:
    """Type to a shell in a container, which sees the size of the terminal; it exits with 4."""
    terminal.expect(b"# ")
    terminal.type(b"tty\r")
    terminal.expect(b"/dev/pts/")
    for rows, columns in ((24, 80), (30, 100)):
        size = f"{rows} {columns}"
        terminal.type(f'until [ "$(stty size)" = "{size}" ]; do sleep 0.05; done\r'.encode())
        terminal.type(b'echo it is "so"\r')
        end = time.monotonic() + PATIENCE
        while b"\nit is so\r" not in terminal.seen and time.monotonic() < end:
            # Told again and again, for the client may have been told before it listened.
            terminal.resize(rows + 1, columns)
            terminal.resize(rows, columns)
            select.select([terminal.master], [], [], 0.5)
            terminal.drain()
        terminal.expect(b"\nit is so\r")
    terminal.type(b"exit 4\r")
