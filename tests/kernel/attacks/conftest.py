"""What attackers work with: a program of attempts, and a directory of the host to be kept safe."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cloche
from tests.runtimes import Runtime, make_bundle, wait_until

SOURCE = Path(__file__).with_name("attacker.c")


class Treasure:
    """A directory on the host, open to everybody, that no container may find or change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        path.chmod(0o777)
        (path / "file").write_text("treasure")
        (path / "file").chmod(0o666)
        self._before = self._state()

    @property
    def is_safe(self) -> bool:
        """Whether nothing in it has been made, changed or removed."""
        return self._state() == self._before

    def _state(self) -> list[tuple[str, int, int, bytes]]:
        found = [self.path, *self.path.rglob("*")]
        return [
            (str(path), path.lstat().st_mode, path.lstat().st_uid, _digest(path))
            for path in sorted(found)
        ]


def _digest(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest() if path.is_file() else b""


@pytest.fixture
def treasure(workspace: Path) -> Iterator[Treasure]:
    """A directory of the host, checked at the end of the test to be as it was."""
    made = Treasure(workspace / "treasure")
    yield made
    assert made.is_safe, "something of the host has changed"


@pytest.fixture(scope="session")
def attacker() -> Iterator[Path]:
    """The program of attempts, static, readable by every user."""
    directory = Path(tempfile.mkdtemp(prefix="cloche-attacker-"))
    directory.chmod(0o755)
    program = directory / "attacker"
    subprocess.run(["gcc", "-static", "-O1", "-o", program, SOURCE], check=True)
    yield program
    shutil.rmtree(directory)


Attack = Callable[..., list[str]]


@pytest.fixture
def attack(attacker: Path) -> Attack:
    """Run the program of attempts in a container: its lines, and nothing else, come out.

    ``attack(cloche, "call 250 3", *options)`` makes one attempt in the image ``host``.
    """

    def run(cloche: Cloche, command: str, *options: str) -> list[str]:
        volume = f"{attacker}:/attacker:ro"
        done = cloche("run", "-v", volume, *options, "host", "/attacker", *command.split())
        assert done.stderr == ""
        return done.stdout.splitlines()

    return run


@pytest.fixture
def image(workspace: Path, attacker: Path) -> Path:
    """The root directory of an image that an attacker has made: busybox and attempts."""
    root = workspace / "image"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/sh")
    shutil.copy(attacker, root / "attacker")
    return root


@pytest.fixture
def runtime(workspace: Path) -> Iterator[Runtime]:
    """The runtime, whose containers are gone at the end."""
    found = Runtime(str(Path(sysconfig.get_path("scripts"), "cloche-oci")), workspace)
    yield found
    found.end()


Bundle = Callable[..., Path]


@pytest.fixture
def bundle(workspace: Path, attacker: Path) -> Bundle:
    """Make a bundle that has the program of attempts: ``bundle("sleep", "9", user=...)``."""

    def make(*args: str, name: str = "bundle", **process: Any) -> Path:
        made = make_bundle(workspace / name, *args, **process)
        shutil.copy(attacker, made / "rootfs/attacker")
        return made

    return make


def delete(runtime: Runtime, id: str) -> None:
    """Delete a container by force, and take the exit codes of orphans meanwhile.

    A pid namespace ends when all its processes have been waited for; those that were added to it
    are this process's since their launcher is dead.
    """
    with subprocess.Popen(runtime.argv("delete", "--force", id)) as process:

        def ended() -> bool:
            for pid in Path("/proc/thread-self/children").read_text().split():
                if int(pid) != process.pid:
                    os.waitpid(int(pid), os.WNOHANG)
            return process.poll() is not None

        wait_until(ended)
        assert process.returncode == 0


def inode(path: str) -> tuple[int, int]:
    """Return what tells a file from all others."""
    status = os.stat(path)
    return status.st_dev, status.st_ino
