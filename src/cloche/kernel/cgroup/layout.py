"""Which cgroup hierarchies this machine has, and where a container's groups go.

A machine is laid out in one of three ways, cgroups(7)::

    v2        one unified hierarchy with every controller         /sys/fs/cgroup
    v1        a hierarchy for each controller, or for a few       /sys/fs/cgroup/memory ...
    hybrid    v1, and beside it a unified hierarchy that has      /sys/fs/cgroup/unified
              the remaining controllers, or none but the core
              (cgroup.kill, cgroup.freeze)

Nothing is assumed about the directories: ``/proc/self/mountinfo`` says what is mounted where
and ``/proc/self/cgroup`` where the caller is.  Detecting costs 0.4 ms (with nine hierarchies)
and happens once; the ``Layout`` is a plain value that planning and tests use without touching
a file.

Some facts about delegation, and what follows.  A user may make groups in a directory that
belongs to them.  On v2 that isn't enough to put a process there: the kernel also wants write
access to ``cgroup.procs`` of the nearest common ancestor of the process's old and new group.
And a v2 group (but for the real root) that passes controllers on to its children can't hold
processes itself, the "no internal processes" rule.  So containers go beneath the *highest*
writable group above the caller: for root that is the root of the hierarchy, for a user of a
systemd session ``user@1000.service``, which holds no process.
"""

from __future__ import annotations

import os

from cloche.kernel import mountinfo
from cloche.record import Record


class Hierarchy(Record):
    """One mounted hierarchy of cgroups."""

    version: int
    """1 or 2."""
    controllers: tuple[str, ...]
    """The controllers that a container's group here can have, by the names that the mount
    goes by: v1 says ``blkio`` for ``io``."""
    mount: str
    own: str
    """The directory of the caller's own group; empty if it isn't beneath the mount."""
    base: str
    """The directory that containers' groups go beneath; empty if none is writable."""
    enabled: tuple[str, ...] = ()
    """v2: the controllers that ``base`` passes on to its children already."""
    occupied: bool = False
    """v2: ``base`` holds processes, so that it can't pass on any further controllers."""

    def has(self, controller: str) -> bool:
        """Whether a controller is here, asked for by its v2 name."""
        return controller in self.controllers or (
            controller == "io" and "blkio" in self.controllers
        )

    def directory(self, path: str) -> str:
        """Return the directory of the group with this path, beneath ``base``.

        A path that leads from the mount to ``base`` and on, as in the ``cgroupsPath`` of a
        rootless container, is taken as it is.
        """
        absolute = f"{self.mount}/{path.strip('/')}"
        if absolute.startswith(self.base + "/"):
            return absolute
        return f"{self.base}/{path.strip('/')}"


class Layout(Record):
    """The cgroups of this machine, as seen by the caller."""

    version: str
    """``v1``, ``v2``, ``hybrid`` or ``none``."""
    hierarchies: tuple[Hierarchy, ...] = ()
    swap: bool = False
    """Whether the memory controller accounts swap."""
    io_weight: str = ""
    """The file for an I/O weight: ``blkio.bfq.weight``, ``io.bfq.weight`` or ``io.weight``;
    empty if the kernel has none."""
    cpus: str = ""
    """The CPUs that containers may use, such as ``0-3,7``; empty if cpuset isn't there."""
    mems: str = ""
    """The memory nodes that containers may use."""
    device_programs: bool = False
    """Whether the caller may load eBPF programs, which restrict devices on v2; looked up with
    the caller's other privileges."""

    def find(self, controller: str) -> Hierarchy | None:
        """Return the hierarchy that has a controller, by its v2 name."""
        for hierarchy in self.hierarchies:
            if hierarchy.has(controller):
                return hierarchy
        return None

    @property
    def unified(self) -> Hierarchy | None:
        """The v2 hierarchy."""
        for hierarchy in self.hierarchies:
            if hierarchy.version == 2:
                return hierarchy
        return None

    @property
    def devices_enforceable(self) -> bool:
        """Whether access to devices can be restricted: v2 has no file for it, only eBPF."""
        devices = self.find("devices")
        if devices is not None:
            return bool(devices.base)
        return self.device_programs and self.unified is not None and bool(self.unified.base)


def detect(proc: str = "/proc/self") -> Layout:
    """Find out the layout of this machine.

    ``proc`` is a directory with the files ``mountinfo`` and ``cgroup`` (which isn't there in a
    kernel without cgroups: that is a layout too).  Raises OSError when mountinfo can't be read.
    """
    paths = _own_paths(f"{proc}/cgroup")
    named = {name for names in paths for name in names if not name.startswith("name=")}
    found: dict[tuple[str, ...], Hierarchy] = {}
    lines = [line for line in _read(f"{proc}/mountinfo").split("\n") if " - cgroup" in line]
    # A mount hides an earlier one at the same place.
    mounts = {mount.path: mount for mount in mountinfo.parse("\n".join(lines))}
    for mount in mounts.values():
        controllers: tuple[str, ...] = ()
        if mount.fstype == "cgroup":
            controllers = tuple([name for name in mount.options if name in named])
            if not controllers:
                continue  # a named hierarchy, such as systemd's of v1, limits nothing
        own = _own_directory(mount, paths.get(controllers, ""))
        known = found.get(controllers)
        if known is not None and (known.base or (known.own and not own)):
            # Not every mount shows groups: systemd binds single files (memory.pressure).
            continue
        found[controllers] = (
            _v1(mount.path, own, controllers) if controllers else _v2(mount.path, own)
        )
    return _describe(tuple(found.values()))


def _own_paths(path: str) -> dict[tuple[str, ...], str]:
    """Read ``/proc/PID/cgroup``: lines ``number:controllers:path``, v2 without controllers."""
    lines = [line.split(":", 2) for line in _text(path).split("\n") if line]
    return {tuple(names.split(",")) if names else (): own for _, names, own in lines}


def _own_directory(mount: mountinfo.Mount, own: str) -> str:
    """Return the caller's group as a directory, or "" if it isn't beneath the mount.

    Where a container sees the hierarchy from some group on, ``mount.root`` is that group.  In
    a cgroup namespace paths are relative to the namespace's root, and begin with ``/..``
    outside of it.
    """
    inside = own if mount.root == "/" else own.removeprefix(mount.root)
    if ".." in own.split("/") or (inside and not inside.startswith("/")):
        return ""
    if mount.root != "/" and not own.startswith(mount.root):
        return ""
    return mount.path + inside.rstrip("/")


def _v1(mount: str, own: str, controllers: tuple[str, ...]) -> Hierarchy:
    return Hierarchy(1, controllers, mount, own, _base(mount, own))


def _v2(mount: str, own: str) -> Hierarchy:
    base = _base(mount, own)
    controllers = _words(f"{base or mount}/cgroup.controllers")
    enabled = _words(f"{base or mount}/cgroup.subtree_control")
    # cgroup.type isn't there in the real root, the one group that is exempt from the rule.
    occupied = (
        bool(base) and os.path.exists(f"{base}/cgroup.type") and bool(_text(f"{base}/cgroup.procs"))
    )
    return Hierarchy(2, controllers, mount, own, base, enabled, occupied)


def _base(mount: str, own: str) -> str:
    """Return the highest group from the mount down to the caller's that is writable, or ""."""
    candidates = [mount]
    if own:
        for name in own[len(mount) :].strip("/").split("/"):
            if name:
                candidates.append(f"{candidates[-1]}/{name}")
    for directory in candidates:
        # cgroup.procs is what the kernel checks when a process moves; the directory, when a
        # group is made.  Both say no on a read-only mount.
        if os.access(f"{directory}/cgroup.procs", os.W_OK) and os.access(directory, os.W_OK):
            return directory
    return ""


def _describe(hierarchies: tuple[Hierarchy, ...]) -> Layout:
    versions = {hierarchy.version for hierarchy in hierarchies}
    version = {0: "none", 1: "v1", 2: "v2", 3: "hybrid"}[sum(versions)]
    layout = Layout(version, hierarchies)
    cpuset = layout.find("cpuset")
    cpus = mems = ""
    if cpuset is not None:
        place = cpuset.base or cpuset.own or cpuset.mount
        # The root of v2 has only the effective values, an empty v1 group only the others.
        suffix = ".effective" if cpuset.version == 2 else ""
        cpus = _text(f"{place}/cpuset.cpus{suffix}").strip()
        mems = _text(f"{place}/cpuset.mems{suffix}").strip()
    return layout._replace(
        swap=_accounts_swap(layout.find("memory")),
        io_weight=_io_weight_file(layout.find("io")),
        cpus=cpus,
        mems=mems,
    )


def _accounts_swap(memory: Hierarchy | None) -> bool:
    if memory is None:
        return False
    if memory.version == 1:
        return os.path.exists(f"{memory.base or memory.mount}/memory.memsw.limit_in_bytes")
    if memory.own and os.path.exists(f"{memory.own}/memory.max"):
        return os.path.exists(f"{memory.own}/memory.swap.max")
    # The root has no limits to look for.  /proc/swaps is there in a kernel with swap, which
    # accounts it unless booted with swapaccount=0.
    return os.path.exists("/proc/swaps")


def _io_weight_file(io: Hierarchy | None) -> str:
    """Return the file for an I/O weight.

    Weights are kept by the I/O scheduler BFQ (both versions) or the controller iocost (v2
    only); CFQ and its ``blkio.weight`` went in Linux 5.0.  The root has no weight, so there the
    presence of BFQ on v1 shows in its statistics, that of iocost on v2 in its model; BFQ on v2
    shows nowhere and is assumed.  Where that is wrong, writing fails and says so.
    """
    if io is None:
        return ""
    if io.version == 1:
        place = io.base or io.mount
        names = ("blkio.bfq.weight", "blkio.bfq.io_service_bytes")
        return names[0] if any(os.path.exists(f"{place}/{name}") for name in names) else ""
    if io.own and io.own != io.mount and os.path.exists(f"{io.own}/io.max"):
        for name in ("io.bfq.weight", "io.weight"):
            if os.path.exists(f"{io.own}/{name}"):
                return name
        return ""
    return "io.weight" if os.path.exists(f"{io.mount}/io.cost.qos") else "io.bfq.weight"


def _words(path: str) -> tuple[str, ...]:
    return tuple(_text(path).split())


def _text(path: str) -> str:
    """Return what a file holds; nothing if it isn't there or readable."""
    try:
        return _read(path)
    except OSError:
        return ""


def _read(path: str) -> str:
    """Return what a file holds; in a third of the time that Python's file objects take."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while more := os.read(fd, 32768):
            data += more
        return data.decode("utf-8", "surrogateescape")
    finally:
        os.close(fd)
