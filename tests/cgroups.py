"""Cgroups for tests: whole trees made of plain files, and real groups of a test's own."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cloche.kernel.cgroup import layout
from cloche.kernel.cgroup.layout import Layout
from cloche.plan.limits import Placement

V1 = ("cpu,cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids")
V2 = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
OWN = "/user.slice/session"


class Tree:
    """A made-up machine: hierarchies as plain directories, and its files of /proc/self."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "cgroup"
        self.proc = directory / "proc"
        self.proc.mkdir(parents=True)
        self.mounts = ["20 1 0:21 / /proc rw,relatime - proc proc rw"]
        self.paths: list[str] = []
        self.write()

    def write(self) -> None:
        """Write the files of /proc/self."""
        for name, lines in (("mountinfo", self.mounts), ("cgroup", self.paths)):
            (self.proc / name).write_text("".join(f"{line}\n" for line in lines))

    def detect(self) -> Layout:
        """Detect the machine's layout."""
        return layout.detect(str(self.proc))

    def v1(self, controllers: str, own: str = "/", root: str = "/") -> Path:
        """Mount a v1 hierarchy."""
        mount = self.root / controllers
        self._mount(mount, "cgroup", f"rw,{controllers}", root)
        self.paths.insert(0, f"{len(self.paths) + 1}:{controllers}:{own}")
        self.write()
        if "memory" in controllers:
            (mount / "memory.memsw.limit_in_bytes").write_text("9223372036854771712\n")
        if "blkio" in controllers:
            (mount / "blkio.bfq.io_service_bytes").write_text("")
        if "cpuset" in controllers:
            (mount / "cpuset.cpus").write_text("0-3\n")
            (mount / "cpuset.mems").write_text("0\n")
        return mount

    def v2(self, name: str, *controllers: str, own: str = "/", enabled: str = "") -> Path:
        """Mount the v2 hierarchy."""
        mount = self.root / name
        self._mount(mount, "cgroup2", "rw,nsdelegate", "/")
        self.paths.append(f"0::{own}")
        self.write()
        for directory in (mount, Path(f"{mount}{own}")):
            self.group(directory)
            (directory / "cgroup.controllers").write_text(" ".join(controllers) + "\n")
            (directory / "cgroup.subtree_control").write_text(enabled + "\n")
            (directory / "cpuset.cpus.effective").write_text("0-3\n")
            (directory / "cpuset.mems.effective").write_text("0\n")
        if own != "/":
            (Path(f"{mount}{own}") / "cgroup.type").write_text("domain\n")
        return mount

    def group(self, directory: Path) -> None:
        """Make a group with nothing but its list of processes."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "cgroup.procs").touch()

    def _mount(self, path: Path, fstype: str, options: str, root: str) -> None:
        self.group(path)
        number = 30 + len(self.mounts)
        name = str(path).replace("\\", "\\134").replace(" ", "\\040")
        self.mounts.append(f"{number} 20 0:{number} {root} {name} rw - {fstype} {fstype} {options}")


def machine(kind: str, directory: Path) -> Layout:
    """Return the layout of a made-up machine of one kind: v1, v2 or hybrid."""
    tree = Tree(directory)
    if kind != "v2":
        for controllers in V1:
            tree.v1(controllers, own=OWN)
    if kind == "v2":
        tree.v2("", *V2, enabled="cpu memory pids")
    if kind == "hybrid":
        tree.v2("unified", "hugetlb")
    return tree.detect()


def make(placement: Placement) -> None:
    """Carry out a placement, as the launcher does: a value read back must be the expected."""
    for directory in (*placement.parents, *placement.groups):
        os.makedirs(directory, exist_ok=True)
    for directory in placement.inherits:
        for name in ("cpuset.cpus", "cpuset.mems"):
            own = Path(directory, name)
            if not own.exists() or not own.read_text().strip():
                own.write_text(Path(directory).parent.joinpath(name).read_text())
    for write in placement.writes:
        with open(write.path, "wb", buffering=0) as file:
            file.write(write.value.encode())
        if write.expect and os.path.realpath(write.directory).startswith("/sys/"):
            found = Path(write.path).read_text().strip()
            assert found == write.expect, write.path


def enter(placement: Placement, pid: int) -> None:
    """Move a process into every group of a placement."""
    for directory in placement.groups:
        Path(directory, "cgroup.procs").write_text(str(pid))


def unmake(placement: Placement) -> None:
    """Remove the empty groups of a placement and their parents."""
    for directory in (*placement.groups, *reversed(placement.parents)):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(directory)
