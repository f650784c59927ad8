"""Where a container's cgroups are made and what is written into them.

``build`` turns a spec's ``resources`` and the machine's layout into a ``Placement``, which looks
the same for v1, v2 and hybrid.  The plan carries it out in this order::

    parents     made if missing, and kept: other containers are in them too
    groups      made new, removed with the container
    inherits    a new cpuset group of v1 has no CPU: it gets what the group above has
    offers      controllers that v2 groups pass on if they can
    writes      the limits, read back as they are written
    program     restricts access to devices on v2
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
from cloche.plan import device_access, limits_v1, limits_v2, resources
from cloche.plan.controllers import require, require_device_rules, require_unified
from cloche.plan.resources import Request, Setting
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.device_rules import Access
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
    # v2 has neither, so they are only ever found in a v1 hierarchy.
    ("net_cls", limits_v1.net_cls, limits_v1.net_cls),
    ("net_prio", limits_v1.net_prio, limits_v1.net_prio),
)

# What a driver is told when its controller isn't there, so that it complains of nothing else.
_EVERYTHING = Layout("v1", swap=True, io_weight="blkio.bfq.weight")


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
    inherits: tuple[str, ...] = ()
    """Directories of v1 that get the CPUs and memory nodes of the one above, unless they have
    some, outermost first."""
    offers: tuple[tuple[str, str], ...] = ()
    """Files of v2 and what to write into them; nothing is lost where the kernel refuses."""
    writes: tuple[Write, ...] = ()
    program: bytes = b""
    """An eBPF program that restricts access to devices, for the group ``into``; empty for none."""
    joins: tuple[str, ...] = ()
    """Those of ``groups`` that the child moves into, by writing 0 to their ``tasks`` (or having
    its pid written to ``cgroup.procs``, which is slow)."""
    into: str = ""
    """That of ``groups`` that the child is born in; empty without v2."""
    adopted: bool = False
    """Whether the groups are there already, made for the container."""
    shared: bool = False
    """Whether the launcher is in them too."""


def build(layout: Layout, path: str, wanted: Resources, *, page_size: int) -> Placement:
    """Return the cgroups of a container of the engine's.

    ``path`` is a ``cgroupsPath`` such as ``/cloche/ID``, taken to be beneath the highest group
    that the caller may write to, ``wanted`` the ``resources`` of a spec, ``page_size`` the
    machine's in bytes.  Hierarchies that nothing was asked of are left out where that saves
    time.  Where no group can be made and no limit is asked for, the placement is empty.  Raises
    ControllerUnavailable for a limit that can't be had here, Unsupported for one that can't be
    had anywhere, InvalidSpec for one that makes no sense.
    """
    path = _checked(path)
    access = device_access.access(wanted.get("devices", []), complete=False)
    asked = settings(Request(wanted, layout, page_size))
    needed = {controller for controller, _ in asked}
    used = {
        hierarchy: hierarchy.directory(path)
        for hierarchy in _used(layout, needed | ({"devices"} if not access.is_unlimited else set()))
    }
    return _placed(layout, used, asked, access, complete=False)


def build_complete(
    layout: Layout, path: str, wanted: Resources, *, id: str, page_size: int, devices: bool
) -> Placement:
    """Return the cgroups of a container of an OCI runtime, where engines expect them.

    An absolute ``path`` is beneath the root of each hierarchy; a relative one beneath the
    caller's own group, or on v2 beside it, since a group that holds processes passes no
    controllers on.  Without a path it is ``id``.  There is a group in every hierarchy, whether
    or not it is limited now: engines pause containers, update them and ask for their statistics.
    Device rules are those of an allow list; with ``devices`` false, in a user namespace, where
    no node opens a device anyway, there are none.  Raises as ``build`` does.
    """
    access = device_access.UNLIMITED
    if devices:
        access = device_access.access(wanted.get("devices", []), complete=True)
    asked = settings(Request(wanted, layout, page_size))
    used = {}
    for hierarchy in layout.hierarchies:
        group = _directory(layout, hierarchy, path or id)
        if hierarchy.base and group.startswith(hierarchy.base + "/"):
            used[hierarchy] = group
        elif any(hierarchy.has(controller) for controller, _ in asked):
            raise _closed(hierarchy, group)
    if path and layout.hierarchies and not used:
        first = layout.hierarchies[-1]
        raise _closed(first, _directory(layout, first, path))
    return _placed(layout, used, asked, access, complete=True)


def build_adopted(layout: Layout, wanted: Resources, *, page_size: int, devices: bool) -> Placement:
    """Return the cgroups of a container whose groups somebody else has made for it: systemd.

    They are those that ``layout`` calls the caller's own.  Raises as ``build`` does.
    """
    access = device_access.UNLIMITED
    if devices:
        access = device_access.access(wanted.get("devices", []), complete=True)
    asked = settings(Request(wanted, layout, page_size))
    used = {
        hierarchy: hierarchy.own
        for hierarchy in layout.hierarchies
        if hierarchy.own != hierarchy.mount
    }
    placement = _placed(layout, used, asked, access, complete=False)
    kept = [write for write in placement.writes if write.file != "cgroup.subtree_control"]
    return placement._replace(parents=(), inherits=(), writes=tuple(kept), adopted=True)


def _placed(
    layout: Layout,
    used: dict[Hierarchy, str],
    asked: list[tuple[str, Setting]],
    access: Access,
    *,
    complete: bool,
) -> Placement:
    """Return the placement with these groups and settings."""
    needed = {controller for controller, _ in asked}
    parents: list[str] = []
    joins: list[str] = []
    inherits: list[str] = []
    offers: list[tuple[str, str]] = []
    writes: list[Write] = []
    into = ""
    for hierarchy, group in used.items():
        above = _above(hierarchy, group)
        parents += above
        if hierarchy.version == 2:
            into = group
            writes += _enable(hierarchy, above, needed)
            if complete and not hierarchy.occupied:
                offers += _offer(hierarchy, above)
        else:
            joins.append(group)
            if hierarchy.has("cpuset"):
                inherits += [*above, group]
    for controller, setting in asked:
        directory = used[_hierarchy(layout, controller)]
        writes.append(Write(controller, directory, *setting))
    program = b""
    if not access.is_unlimited:
        require_device_rules(layout)
        v1 = layout.find("devices")
        if v1 is not None:
            values = limits_v1.devices(access, "")
            writes += [Write("devices", used[v1], *setting) for setting in values]
        else:
            from cloche.kernel import device_program  # only v2 needs it

            program = device_program.program(access)
    return Placement(
        tuple(parents),
        tuple(used.values()),
        tuple(inherits),
        tuple(offers),
        tuple(writes),
        program,
        tuple(joins),
        into,
    )


def _closed(hierarchy: Hierarchy, group: str) -> ControllerUnavailable:
    name = hierarchy.controllers[0] if hierarchy.controllers else "cgroup"
    return ControllerUnavailable(
        name,
        f"{group} can't be made by this user",
        hint="run as root, or with a cgroupsPath beneath a group that is yours, or with none",
    )


def _directory(layout: Layout, hierarchy: Hierarchy, path: str) -> str:
    """Return the directory of a runtime's ``cgroupsPath`` in a hierarchy.

    ``..`` is worked out before the path is put together, so that it can't lead out of either.
    """
    import posixpath

    inside = posixpath.normpath(f"/{path}").lstrip("/")
    if not inside or not inside.isprintable():
        raise InvalidSpec("/linux/cgroupsPath", f"is {path!r} but must be the path of a cgroup")
    if path.startswith("/") or not hierarchy.own:
        return f"{hierarchy.mount}/{inside}"
    place = hierarchy.own
    if layout.version == "v2" and place != hierarchy.mount:
        beside = posixpath.dirname(place)
        place = beside if f"{beside}/".startswith(f"{hierarchy.base}/") else hierarchy.base
    return f"{place}/{inside}"


def _checked(path: str) -> str:
    path = path.strip("/")
    if any(name in ("", ".", "..") for name in path.split("/")) or not path.isprintable():
        raise InvalidSpec("/linux/cgroupsPath", f"is {path!r} but must be the path of a cgroup")
    return path


def settings(request: Request) -> list[tuple[str, Setting]]:
    """Return every setting but those of devices, with its controller; all can be had."""
    layout = request.layout
    asked: list[tuple[str, Setting]] = []
    for controller, v1, v2 in _CONTROLLERS:
        hierarchy = layout.find(controller)
        if hierarchy is None:
            found = v1(request._replace(layout=_EVERYTHING))
        else:
            found = v1(request) if hierarchy.version == 1 else v2(request)
        if found:
            require(layout, controller)
        asked += [(controller, setting) for setting in found]
    for controller, setting in limits_v2.unified(request):
        require_unified(layout, controller, setting.file)
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


def _offer(hierarchy: Hierarchy, above: list[str]) -> list[tuple[str, str]]:
    """Pass everything on, as far as the groups between let it."""
    value = " ".join([f"+{name}" for name in hierarchy.controllers])
    if not value:
        return []
    return [(f"{place}/cgroup.subtree_control", value) for place in (hierarchy.base, *above)]


def _hierarchy(layout: Layout, controller: str) -> Hierarchy:
    hierarchy = layout.unified if controller == "cgroup" else layout.find(controller)
    assert hierarchy is not None  # require has seen to it
    return hierarchy


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
