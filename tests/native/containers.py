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
from tests.native.driver import Outcome, launch

WHY = "for a test"
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


class Box(NamedTuple):
    """A container to be run as often as wanted."""

    image: Path
    uid: int | None
    """Who is root in a user namespace; None for the root of the host."""

    def run(
        self,
        *inside: Step,
        then: Sequence[Step] = (),
        command: str = "true",
        kinds: int = KINDS,
        pass_fds: Sequence[int] = (),
    ) -> Outcome:
        """Open the root, carry out the steps ``inside``, enter it, ``then`` run a command."""
        plan = self.plan(*inside, then=then, command=command, kinds=kinds)
        return self.launch(plan, pass_fds)

    def plan(
        self,
        *inside: Step,
        then: Sequence[Step] = (),
        command: str = "true",
        kinds: int = KINDS,
    ) -> list[Step]:
        """Return the plan that ``run`` carries out."""
        return [*self._begin(kinds), *inside, *ENTER, *then, *execute(command)]

    def launch(self, plan: Sequence[Step], pass_fds: Sequence[int] = ()) -> Outcome:
        """Carry out a plan as the container's user, who owns all of the image."""
        for path in (self.image, *self.image.rglob("*")):
            os.chown(path, self.uid or 0, self.uid or 0, follow_symlinks=False)
        return launch(plan, uid=self.uid, pass_fds=pass_fds)

    def _begin(self, kinds: int) -> list[Step]:
        open_root = steps.open_root(str(self.image), clone=True, why=WHY)
        if self.uid is None:
            return [steps.spawn(kinds, why=WHY), MAKE_PRIVATE, open_root]
        return [
            steps.spawn(kinds | flags.CLONE_NEWUSER, why=WHY),
            steps.deny_setgroups(why=WHY),
            steps.id_map(f"0 {self.uid} 1\n", group=False, why=WHY),
            steps.id_map(f"0 {self.uid} 1\n", group=True, why=WHY),
            steps.identity(0, 0, None, why=WHY),
            MAKE_PRIVATE,
            open_root,
        ]


def make_box(directory: Path, uid: int | None) -> Box:
    """Make a root directory that holds busybox."""
    image = directory / "image"
    (image / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox, "busybox isn't installed"
    shutil.copy(busybox, image / "bin/busybox")
    for name in APPLETS:
        (image / "bin" / name).symlink_to("busybox")
    return Box(image, uid)


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
