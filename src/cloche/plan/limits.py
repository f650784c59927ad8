"""Where a container's cgroups are made and what is written into them.

``build`` turns a spec's ``resources`` and the machine's layout into a ``Placement``, which looks
the same for v1, v2 and hybrid.  The plan carries it out in this order::

    parents     made if missing, and kept: other containers are in them too
    groups      made new, removed with the container
    writes      the limits, read back as they are written
    into        the child is born in this v2 group (CLONE_INTO_CGROUP)
    joins       the child moves into these v1 groups

Some facts about what this costs, measured on Linux 6.18 (2 cores).  In each hierarchy mkdir takes
0.03-0.07 ms, rmdir as much, and the first move of a process into any group 13 ms: writing a pid
to ``cgroup.procs`` takes a system-wide lock that readers (fork, exec, exit) hold without
atomics, so that a writer has to wait for an RCU grace period; moves that follow at once cost
0.07 ms.  The kernel leaves that lock alone in two cases: for a process that is born in its
group, and (since Linux 5.5) for a single *thread* that moves itself, by writing 0 to ``tasks``;
six hierarchies then take 0.25 ms.  The child has one thread, so for it the two are the same.
It may do so after entering a user namespace too, where its kernel uid still is that of the
files' owner.  v2 has no such file (``cgroup.threads`` is for threaded groups only) but doesn't
need it.

So a hierarchy is cheap, but not free: those that account and limit what every container uses
are always taken, others when a limit asks for them.
"""

from __future__ import annotations

from cloche.errors import ControllerUnavailable, InvalidArgument, InvalidSpec
from cloche.kernel.cgroup.layout import Hierarchy, Layout
from cloche.plan import limits_v1, limits_v2, resources
from cloche.plan.resources import Request, Setting
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard

    from cloche.oci.spec import Resources

ACCOUNTING = ("memory", "cpu", "cpuacct", "pids")
"""The controllers that every container gets where they are there, for its statistics."""

_CONTROLLERS = (
    # by its v2 name, with the driver for v1 and that for v2
    ("memory", limits_v1.memory, limits_v2.memory),
    ("cpu", limits_v1.cpu, limits_v2.cpu),
    ("cpuset", limits_v1.cpuset, limits_v2.cpuset),
    ("pids", resources.pids, resources.pids),
    ("io", limits_v1.blkio, limits_v2.io),
    ("hugetlb", limits_v1.hugetlb, limits_v2.hugetlb),
    ("rdma", resources.rdma, resources.rdma),
    # v2 has none of these, so they are only ever found in a v1 hierarchy.
    ("devices", limits_v1.devices, limits_v1.devices),
    ("net_cls", limits_v1.net_cls, limits_v1.net_cls),
    ("net_prio", limits_v1.net_prio, limits_v1.net_prio),
)

# What a driver is told when its controller isn't there, so that it complains of nothing else.
_EVERYTHING = Layout("v1", swap=True, io_weight="blkio.bfq.weight")

_ONLY_V1 = {
    "devices": "restricting devices on cgroup v2 (with eBPF) isn't supported yet",
    "net_cls": "cgroup v2 doesn't have it",
    "net_prio": "cgroup v2 doesn't have it",
}

_DELEGATE = "systemd-run --user --scope -p Delegate=yes"


class Write(Record):
    """One value to be written into a cgroup's file."""

    controller: str
    directory: str
    file: str
    value: str
    expect: str
    """What the file then holds; empty if that can't be foretold or read."""

    @property
    def path(self) -> str:
        """The file, absolute."""
        return f"{self.directory}/{self.file}"


class Placement(Record):
    """The cgroups of one container; every path is absolute."""

    parents: tuple[str, ...] = ()
    """Directories to make unless they are there, outermost first."""
    groups: tuple[str, ...] = ()
    """Directories to make: the container's groups, one in each hierarchy that is used."""
    writes: tuple[Write, ...] = ()
    joins: tuple[str, ...] = ()
    """Those of ``groups`` that the child moves into, by writing 0 to their ``tasks`` (or having
    its pid written to ``cgroup.procs``, which is slow)."""
    into: str = ""
    """That of ``groups`` that the child is born in; empty without v2."""


def build(layout: Layout, path: str, wanted: Resources, *, page_size: int) -> Placement:
    """Return the cgroups of a container.

    ``path`` is a ``cgroupsPath`` such as ``/cloche/ID``, ``wanted`` the ``resources`` of a spec,
    ``page_size`` the machine's in bytes.  Where no group can be made and no
    limit is asked for, the placement is empty.  Raises ControllerUnavailable for a limit that
    can't be had here, Unsupported for one that can't be had anywhere, InvalidSpec for one that
    makes no sense.
    """
    path = _checked(path)
    asked = _asked(Request(wanted, layout, page_size))
    needed = {controller for controller, _ in asked}
    parents: list[str] = []
    groups: list[str] = []
    joins: list[str] = []
    writes: list[Write] = []
    into = ""
    for hierarchy in _used(layout, needed):
        group = hierarchy.directory(path)
        above = _above(hierarchy, group)
        parents += above
        groups.append(group)
        if hierarchy.version == 2:
            into = group
            writes += _enable(hierarchy, above, needed)
        else:
            joins.append(group)
            if hierarchy.has("cpuset"):
                # A limit that asks for the controller fills the group itself.
                writes += _fill_cpuset(layout, above if "cpuset" in needed else [*above, group])
    for controller, setting in asked:
        directory = _hierarchy(layout, controller).directory(path)
        writes.append(Write(controller, directory, *setting))
    return Placement(tuple(parents), tuple(groups), tuple(writes), tuple(joins), into)


def _checked(path: str) -> str:
    path = path.strip("/")
    if any(name in ("", ".", "..") for name in path.split("/")) or not path.isprintable():
        raise InvalidSpec("/linux/cgroupsPath", f"{path!r} isn't the path of a cgroup")
    return path


def _asked(request: Request) -> list[tuple[str, Setting]]:
    """Return every setting with its controller; all can be had."""
    layout = request.layout
    asked: list[tuple[str, Setting]] = []
    for controller, v1, v2 in _CONTROLLERS:
        hierarchy = layout.find(controller)
        if hierarchy is None:
            settings = v1(request._replace(layout=_EVERYTHING))
        else:
            settings = v1(request) if hierarchy.version == 1 else v2(request)
        if settings:
            _require(layout, controller)
        asked += [(controller, setting) for setting in settings]
    for controller, setting in limits_v2.unified(request):
        _require_unified(layout, controller, setting.file)
        asked.append((controller, setting))
    return asked


def _used(layout: Layout, needed: set[str]) -> list[Hierarchy]:
    """Return the hierarchies to make a group in."""
    used = []
    for hierarchy in layout.hierarchies:
        if not hierarchy.base:
            continue
        if hierarchy.version == 2:
            # Besides its controllers it has the core's cgroup.kill and cgroup.freeze, which
            # are better than what v1 has: worth its 0.3 ms in hybrid too.
            used.append(hierarchy)
            continue
        wanted = needed.union(ACCOUNTING)
        if layout.unified is None or not layout.unified.base:
            wanted.add("freezer")
        if any(hierarchy.has(controller) for controller in wanted):
            used.append(hierarchy)
    return used


def _above(hierarchy: Hierarchy, group: str) -> list[str]:
    """Return the directories between a hierarchy's base and a group, outermost first."""
    above = []
    end = group.find("/", len(hierarchy.base) + 1)
    while end > 0:
        above.append(group[:end])
        end = group.find("/", end + 1)
    return above


def _enable(hierarchy: Hierarchy, above: list[str], needed: set[str]) -> list[Write]:
    """Pass controllers on from the base down to the group, level by level as v2 wants.

    The base belongs to someone else.  So it is changed only for what was asked for; what is
    just nice to have is taken where the base has it enabled already.
    """
    wanted = [
        name
        for name in hierarchy.controllers
        if name in needed or (name in ACCOUNTING and name in hierarchy.enabled)
    ]
    missing = [name for name in wanted if name not in hierarchy.enabled]
    file = "cgroup.subtree_control"
    writes = []
    if missing:
        value = " ".join([f"+{name}" for name in missing])
        writes.append(Write("cgroup", hierarchy.base, file, value, ""))
    if wanted:
        value = " ".join([f"+{name}" for name in wanted])
        writes += [Write("cgroup", directory, file, value, "") for directory in above]
    return writes


def _fill_cpuset(layout: Layout, directories: list[str]) -> list[Write]:
    """Give groups all CPUs and memory nodes: a new v1 group has none, nor can its children."""
    values = (("cpuset.cpus", layout.cpus), ("cpuset.mems", layout.mems))
    return [
        Write("cpuset", directory, file, value, value)
        for directory in directories
        for file, value in values
    ]


def _hierarchy(layout: Layout, controller: str) -> Hierarchy:
    hierarchy = layout.unified if controller == "cgroup" else layout.find(controller)
    assert hierarchy is not None  # _require has seen to it
    return hierarchy


def _require(layout: Layout, controller: str) -> None:
    """Raise ControllerUnavailable unless a container's group can have a controller."""
    hierarchy = layout.find(controller)
    if hierarchy is None:
        raise ControllerUnavailable(
            controller, _why_missing(layout, controller), hint=_how_to_get(layout, controller)
        )
    if not hierarchy.base:
        hint = "run as root: groups of cgroup v1 can't safely be given to a user"
        if hierarchy.version == 2:
            hint = f"run as root, or in a group of your own: {_DELEGATE}"
        raise ControllerUnavailable(
            controller, f"{hierarchy.own or hierarchy.mount} isn't writable", hint=hint
        )
    if hierarchy.occupied and controller not in hierarchy.enabled:
        raise ControllerUnavailable(
            controller,
            f"{hierarchy.base} holds processes, so that its children can't have the controller",
            hint=f"move them into a group beneath it, or start in a group of your own: {_DELEGATE}",
        )


def _why_missing(layout: Layout, controller: str) -> str:
    if layout.version == "none":
        return "no cgroup hierarchy is mounted"
    if layout.unified is not None and controller in _ONLY_V1:
        return f"no v1 hierarchy has it; {_ONLY_V1[controller]}"
    if _is_delegated(layout.unified):
        return f"it isn't delegated to {layout.unified.base}"
    return "no mounted hierarchy has it"


def _how_to_get(layout: Layout, controller: str) -> str:
    if layout.version == "none":
        return "mount one: mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    if layout.unified is not None and controller in _ONLY_V1:
        return "leave this limit out"
    if _is_delegated(layout.unified):
        return f"as root: systemctl edit user@.service, [Service] Delegate={controller} ..."
    name = "blkio" if controller == "io" else controller
    return (
        f"if /proc/cgroups lists {name}, mount it (mount -t cgroup -o {name} ...) or boot with "
        f"cgroup_enable={name}"
    )


def _is_delegated(unified: Hierarchy | None) -> TypeGuard[Hierarchy]:
    """Whether only a part of the unified hierarchy is the caller's."""
    return unified is not None and unified.base not in ("", unified.mount)


def _require_unified(layout: Layout, controller: str, file: str) -> None:
    hierarchy = layout.find(controller)
    if layout.unified is None or (hierarchy is not None and hierarchy.version == 1):
        raise ControllerUnavailable(
            controller,
            f"{file} is a file of cgroup v2, and the controller isn't in a v2 hierarchy here",
            hint="use the resource's own setting instead of linux.resources.unified",
        )
    if controller != "cgroup":
        _require(layout, controller)
    elif not layout.unified.base:
        raise ControllerUnavailable(
            controller, f"{layout.unified.mount} isn't writable", hint="run as root"
        )


def cpu_quota(text: str, cpus: int) -> tuple[int, int]:
    """Return quota and period, in microseconds, for a share of the machine.

    ``text`` is a number of CPUs (``1.5``), or with ``%`` a part of the whole machine: of 2 CPUs
    ``10%`` is a fifth of one.  Raises InvalidArgument for what isn't a number or is more than
    the machine has or less than the kernel can measure out (a hundredth of a CPU).
    """
    number = text.removesuffix("%")
    digits = number.replace(".", "", 1)
    if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
        raise InvalidArgument(
            f"{text!r} isn't a number of CPUs",
            hint="write 1.5 for one and a half CPUs, or 10% for a tenth of all",
        )
    wanted = float(number)
    if number != text:
        wanted *= cpus / 100
    period = 100_000
    quota = round(wanted * period)
    if not 1000 <= quota <= cpus * period:
        raise InvalidArgument(
            f"{text} CPUs can't be had: the range is from 0.01 to {cpus}.00, as this machine has "
            f"{cpus}",
            hint="write a smaller number, or 100% for all" if quota > 1000 else "",
        )
    return quota, period
