"""Small containers made by hand, step by step, to try the launcher's steps on.

The container's root is a directory with a static busybox.  It runs as root, or as an ordinary
user who is root in a user namespace.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.steps import Step
from tests.native.launching import WHY, launch

APPLETS = (
    "cat",
    "chmod",
    "echo",
    "id",
    "ls",
    "mkdir",
    "mount",
    "sh",
    "stat",
    "stty",
    "touch",
    "tty",
)
KINDS = flags.CLONE_NEWNS | flags.CLONE_NEWPID | flags.CLONE_NEWIPC | flags.CLONE_NEWUTS

MAKE_PRIVATE = steps.propagation(flags.MS_PRIVATE | flags.MS_REC, why=WHY)
ENTER = (steps.pivot_root(why=WHY), steps.chdir("/", create=False, why=WHY))
PROC = steps.mount("proc", "proc", (), 0, "/proc", why=WHY)
DEV = steps.mount("tmpfs", "tmpfs", ("mode=755",), 0, "/dev", why=WHY)
DEVPTS = steps.mount("devpts", "devpts", ("newinstance", "ptmxmode=0666"), 0, "/dev/pts", why=WHY)


ORDINARY_ID = 65533
"""A uid and gid that no passwd file has."""


class Outcome(NamedTuple):
    """How a run ended."""

    code: int
    stdout: str
    stderr: str
    failure: tuple[str, str, str, int] | None
    """Operation, call, path and errno of the step that failed."""


class Box(NamedTuple):
    """A container to be run as often as wanted."""

    image: Path
    uid: int | None
    """Who is root in a user namespace; None for the root of the host."""

    @property
    def gid(self) -> int:
        """The group of ``uid``; of an id that the tests made up, the same number."""
        return os.getegid() if self.uid == os.geteuid() else self.uid or 0

    @property
    def other_user(self) -> int | None:
        """Whom the launcher has to be started as, if not as the user of the tests."""
        return None if self.uid == os.geteuid() else self.uid

    def run(
        self,
        *inside: Step,
        then: Sequence[Step] = (),
        command: str = "true",
        wrapper: Sequence[str] = (),
    ) -> Outcome:
        """Open the root, carry out the steps ``inside``, enter it, ``then`` run a command."""
        self.own_image()
        return self.launch(self.plan(*inside, then=then, command=command), wrapper)

    def plan(
        self,
        *inside: Step,
        then: Sequence[Step] = (),
        command: str = "true",
    ) -> list[Step]:
        """Return the plan that ``run`` carries out."""
        return [*self._begin(), *inside, *ENTER, *then, *execute(command)]

    def own_image(self) -> None:
        """Make all of the image belong to who is root in the container."""
        owner = os.geteuid() if self.uid is None else self.uid
        for path in (self.image, *self.image.rglob("*")):
            os.chown(path, owner, -1, follow_symlinks=False)

    def launch(self, plan: Sequence[Step], wrapper: Sequence[str] = ()) -> Outcome:
        """Carry out a plan as the container's user."""
        code, stdout, stderr, records = launch(plan, uid=self.other_user, wrapper=wrapper, cwd="/")
        failed = records.failure
        return Outcome(
            code,
            stdout,
            stderr,
            failed and (plan[failed.step].operation.name, failed.call, failed.path, failed.errno),
        )

    def _begin(self) -> list[Step]:
        open_root = steps.open_root(str(self.image), clone=True, why=WHY)
        if self.uid is None:
            return [steps.spawn(KINDS, why=WHY), MAKE_PRIVATE, open_root]
        return [
            steps.spawn(KINDS | flags.CLONE_NEWUSER, why=WHY),
            steps.deny_setgroups(why=WHY),
            steps.id_map(f"0 {self.uid} 1\n", group=False, why=WHY),
            steps.id_map(f"0 {self.gid} 1\n", group=True, why=WHY),
            steps.identity(0, 0, None, why=WHY),
            MAKE_PRIVATE,
            open_root,
        ]


def make_box(directory: Path, uid: int | None) -> Box:
    """Make a root directory that holds busybox; ``uid`` counts if the tests run as root."""
    image = directory / "image"
    (image / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "busybox isn't installed"
    shutil.copy(busybox, image / "bin/busybox")
    for name in APPLETS:
        (image / "bin" / name).symlink_to("busybox")
    return Box(image, os.geteuid() if uid is not None and os.geteuid() != 0 else uid)


def tmpfs(dest: str, *options: str) -> Step:
    """Return a step that mounts a tmpfs."""
    return steps.mount("tmpfs", "tmpfs", options, 0, dest, why=WHY)


def execute(command: str) -> list[Step]:
    """Return the steps that become a shell and wait for it."""
    return [
        steps.exec(("/bin/sh",), ("sh", "-c", command), ("PATH=/bin",), why=WHY),
        steps.supervise(why=WHY),
    ]


class Treasure:
    """A directory of the host that no container may touch."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "treasure"
        self.path.mkdir()
        (self.path / "file").write_text("precious\n")
        # Whoever would be able to reach it could write.
        (self.path / "file").chmod(0o666)
        self.path.chmod(0o777)
        self._before = self._look()

    def accept(self) -> None:
        """Take what is there now as what has to stay."""
        self._before = self._look()

    def assert_untouched(self) -> None:
        """Fail when anything was added, changed or removed."""
        assert self._look() == self._before

    def _look(self) -> dict[str, tuple[int, int, int, bytes]]:
        found = {}
        for path in (self.path, *self.path.rglob("*")):
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, content)
        return found
