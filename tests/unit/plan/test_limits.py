"""Limits of a spec as writes into cgroup files, for layouts that are plain values."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import ControllerUnavailable, InvalidArgument, InvalidSpec, Unsupported
from cloche.kernel.cgroup.layout import Hierarchy, Layout
from cloche.oci.spec import Resources
from cloche.plan import limits, resources
from cloche.plan.limits import Placement

MIB = 1 << 20
ROOT = "/sys/fs/cgroup"
ALL_V1 = (
    "cpu cpuacct cpuset memory devices freezer blkio pids hugetlb rdma net_cls net_prio".split()
)
V1 = Layout(
    "v1",
    tuple(
        Hierarchy(1, (name,), f"{ROOT}/{name}", f"{ROOT}/{name}/own", f"{ROOT}/{name}")
        for name in ALL_V1
    ),
    swap=True,
    io_weight="blkio.bfq.weight",
    cpus="0-3",
    mems="0",
)
UNIFIED = Hierarchy(
    2,
    ("cpuset", "cpu", "io", "memory", "hugetlb", "pids", "rdma"),
    ROOT,
    f"{ROOT}/session",
    ROOT,
    ("memory", "pids"),
)
V2 = Layout("v2", (UNIFIED,), swap=True, io_weight="io.weight", cpus="0-3", mems="0")
CORE = Hierarchy(2, ("hugetlb",), f"{ROOT}/unified", f"{ROOT}/unified", f"{ROOT}/unified")
HYBRID = Layout(
    "hybrid", (*(h for h in V1.hierarchies if h.controllers != ("hugetlb",)), CORE), swap=True
)
DEFAULT_DEVICES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
]


def build(layout: Layout, page_size: int = 4096, **wanted: Any) -> Placement:
    """Build the placement of /cloche/a."""
    return limits.build(layout, "/cloche/a", cast(Resources, wanted), page_size=page_size)


def written(layout: Layout, **wanted: Any) -> list[tuple[str, str, str]]:
    """Return file, value and expectation of each write into the container's own groups."""
    placement = build(layout, **wanted)
    return [
        (write.file, write.value, write.expect)
        for write in placement.writes
        if write.directory in placement.groups
    ]


# --- where the groups are ----------------------------------------------------------------------


def test_v1_takes_only_what_every_container_needs() -> None:
    """Accounting and the freezer always; a hierarchy more costs time, so only when asked."""
    placement = build(V1)
    names = ("cpu", "cpuacct", "memory", "freezer", "pids")
    assert placement.groups == tuple(f"{ROOT}/{name}/cloche/a" for name in names)
    assert placement.parents == tuple(f"{ROOT}/{name}/cloche" for name in names)
    assert placement.joins == placement.groups
    assert placement.into == ""
    assert placement.writes == ()


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ({"devices": DEFAULT_DEVICES}, "devices"),
        ({"cpu": {"cpus": "1"}}, "cpuset"),
        ({"blockIO": {"weight": 100}}, "blkio"),
        ({"network": {"classID": 1}}, "net_cls"),
    ],
)
def test_v1_takes_a_hierarchy_more_when_asked(wanted: dict[str, Any], name: str) -> None:
    """A limit brings its hierarchy with it."""
    assert f"{ROOT}/{name}/cloche/a" in build(V1, **wanted).joins


def test_controllers_mounted_together_are_joined_once() -> None:
    """Cpu and cpuacct in one hierarchy are one group."""
    both = Hierarchy(1, ("cpu", "cpuacct"), f"{ROOT}/cpu", f"{ROOT}/cpu", f"{ROOT}/cpu")
    assert build(Layout("v1", (both,))).groups == (f"{ROOT}/cpu/cloche/a",)


def test_v2_is_born_into_its_group() -> None:
    """One group, no joining; what the base passes on anyway is passed on further."""
    placement = build(V2)
    assert placement.into == f"{ROOT}/cloche/a"
    assert placement.groups == (placement.into,)
    assert placement.joins == ()
    assert [(write.path, write.value) for write in placement.writes] == [
        (f"{ROOT}/cloche/cgroup.subtree_control", "+memory +pids")
    ]


def test_v2_passes_on_what_is_asked_for() -> None:
    """The base is changed only for a controller that is asked for and isn't there yet."""
    placement = build(V2, cpu={"quota": 50000}, memory={"limit": MIB})
    assert [(write.path, write.value) for write in placement.writes[:2]] == [
        (f"{ROOT}/cgroup.subtree_control", "+cpu"),
        (f"{ROOT}/cloche/cgroup.subtree_control", "+cpu +memory +pids"),
    ]


def test_hybrid_is_both() -> None:
    """Controllers of v1 and, for killing and freezing, a v2 group; so no v1 freezer."""
    placement = build(HYBRID)
    assert placement.into == f"{ROOT}/unified/cloche/a"
    assert f"{ROOT}/memory/cloche/a" in placement.joins
    assert placement.into not in placement.joins
    assert f"{ROOT}/freezer/cloche/a" not in placement.groups


def test_a_long_path_has_many_parents() -> None:
    """Parents come outermost first, and each passes controllers on."""
    placement = limits.build(V2, "/a/b/c", {}, page_size=4096)
    assert placement.parents == (f"{ROOT}/a", f"{ROOT}/a/b")
    assert [write.directory for write in placement.writes] == list(placement.parents)


def test_nothing_is_writable_and_nothing_asked() -> None:
    """An ordinary user without delegation gets a container without cgroups."""
    layout = V1._replace(hierarchies=tuple(h._replace(base="") for h in V1.hierarchies))
    assert build(layout) == Placement()
    assert build(Layout("none")) == Placement()


@pytest.mark.parametrize("path", ["", "/", "/a/../b", "a//b", "/./a", "/a\nb", "/a\0"])
def test_paths_that_are_none(path: str) -> None:
    """A path can't lead out of the base, nor be the base itself."""
    with pytest.raises(InvalidSpec, match="cgroupsPath"):
        limits.build(V2, path, {}, page_size=4096)


# --- memory ------------------------------------------------------------------------------------


def test_memory_of_v1() -> None:
    """The limit comes before the sum with swap; the kernel shows whole pages."""
    assert written(V1, memory={"swap": 2 * MIB + 5, "limit": MIB + 1, "reservation": -1}) == [
        ("memory.limit_in_bytes", str(MIB + 1), str(MIB)),
        ("memory.memsw.limit_in_bytes", str(2 * MIB + 5), str(2 * MIB)),
        ("memory.soft_limit_in_bytes", "-1", "9223372036854771712"),
    ]


def test_memory_of_v1_besides_limits() -> None:
    """Swappiness and the OOM killer are files of their own."""
    assert written(V1, memory={"swappiness": 0, "disableOOMKiller": True}) == [
        ("memory.swappiness", "0", "0"),
        ("memory.oom_control", "1", "oom_kill_disable 1\nunder_oom 0\noom_kill 0"),
    ]


def test_memory_of_v2() -> None:
    """Swap is counted apart from memory."""
    assert written(V2, memory={"limit": 4 * MIB, "swap": 6 * MIB + 1, "reservation": MIB}) == [
        ("memory.max", str(4 * MIB), str(4 * MIB)),
        ("memory.swap.max", str(2 * MIB + 1), str(2 * MIB)),
        ("memory.low", str(MIB), str(MIB)),
    ]


def test_no_swap_on_v2() -> None:
    """A sum that is just the memory leaves no swap, which is not the same as no limit."""
    assert ("memory.swap.max", "0", "0") in written(V2, memory={"limit": MIB, "swap": MIB})
    unlimited = written(V2, memory={"limit": MIB, "swap": -1})
    assert ("memory.swap.max", "max", "max") in unlimited


def test_pages_of_other_sizes() -> None:
    """With pages of 64 KiB limits are rounded to those."""
    write = build(V1, 65536, memory={"limit": MIB + 5000}).writes[-1]
    assert write.expect == str(MIB)


def test_zero_is_no_limit_of_memory() -> None:
    """Engines write 0 for a limit that isn't set."""
    zeros = dict.fromkeys(("limit", "swap", "reservation", "kernel", "kernelTCP"), 0)
    assert written(V1, memory=zeros) == []
    assert written(V2, memory=zeros) == []


@pytest.mark.parametrize("layout", [V1, V2])
@pytest.mark.parametrize(
    ("memory", "pointer"),
    [
        ({"swap": MIB}, "/memory/swap"),
        ({"limit": -1, "swap": MIB}, "/memory/swap"),
        ({"limit": 2 * MIB, "swap": MIB}, "/memory/swap"),
        ({"limit": -2}, "/memory/limit"),
    ],
)
def test_memory_that_makes_no_sense(layout: Layout, memory: dict[str, Any], pointer: str) -> None:
    """A contradiction is named before the kernel says EINVAL."""
    with pytest.raises(InvalidSpec) as caught:
        build(layout, memory=memory)
    assert caught.value.pointer == f"/linux/resources{pointer}"


@pytest.mark.parametrize("layout", [V1, V2])
def test_swap_that_is_not_accounted(layout: Layout) -> None:
    """A limit of swap fails where swap isn't accounted; no limit doesn't."""
    layout = layout._replace(swap=False)
    with pytest.raises(ControllerUnavailable, match="swap isn't accounted"):
        build(layout, memory={"limit": MIB, "swap": MIB})
    assert len(written(layout, memory={"limit": MIB, "swap": -1})) == 1


@pytest.mark.parametrize(
    "memory", [{"swappiness": 10}, {"disableOOMKiller": True}, {"kernelTCP": MIB}]
)
def test_memory_that_v2_does_not_have(memory: dict[str, Any]) -> None:
    """What has no counterpart in v2 is refused, with the name of the setting."""
    with pytest.raises(ControllerUnavailable) as caught:
        build(V2, memory=memory)
    assert next(iter(memory)) in caught.value.hint


@pytest.mark.parametrize("memory", [{"kernel": MIB}, {"useHierarchy": False}])
def test_memory_that_no_kernel_has(memory: dict[str, Any]) -> None:
    """What kernels take and ignore is refused."""
    with pytest.raises(Unsupported):
        build(V1, memory=memory)


# --- cpu ---------------------------------------------------------------------------------------


def test_cpu_of_v1() -> None:
    """Idle after the shares; period, quota, burst in this order."""
    cpu = {"idle": 1, "burst": 1000, "quota": 20000, "period": 50000, "shares": 512}
    assert [file for file, *_ in written(V1, cpu=cpu)] == [
        "cpu.shares",
        "cpu.idle",
        "cpu.cfs_period_us",
        "cpu.cfs_quota_us",
        "cpu.cfs_burst_us",
    ]


@pytest.mark.parametrize(
    ("cpu", "value"),
    [
        ({"quota": 20000}, "20000 100000"),
        ({"quota": 20000, "period": 50000}, "20000 50000"),
        ({"period": 50000}, "max 50000"),
        ({"quota": -1}, "max 100000"),
    ],
)
def test_quota_of_v2(cpu: dict[str, Any], value: str) -> None:
    """Quota and period are one file."""
    assert written(V2, cpu=cpu) == [("cpu.max", value, value)]


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (1024, 100), (262144, 10000), (512, 59), (3, 2)]
)
def test_weight_of_v2(shares: int, weight: int) -> None:
    """Shares become a weight: least, default and greatest onto each other."""
    assert written(V2, cpu={"shares": shares}) == [("cpu.weight", str(weight), str(weight))]


@given(st.integers(2, 262143))
def test_weights_keep_the_order_of_shares(shares: int) -> None:
    """More shares never mean less weight, and all weights are in range."""
    weight = resources.cpu_weight(shares)
    assert 1 <= weight <= resources.cpu_weight(shares + 1) <= 10000


@pytest.mark.parametrize(
    "cpu",
    [
        {"shares": 1},
        {"shares": 262145},
        {"quota": 999},
        {"quota": -2},
        {"period": 999},
        {"period": 1000001},
        {"burst": 1000},
        {"burst": 3000, "quota": 2000},
        {"idle": 2},
        {"cpus": "4"},
        {"cpus": "1-"},
        {"cpus": "2-1"},
        {"cpus": "a"},
        {"cpus": "0-99999999999"},
        {"mems": "0,1"},
    ],
)
@pytest.mark.parametrize("layout", [V1, V2])
def test_cpu_that_makes_no_sense(layout: Layout, cpu: dict[str, Any]) -> None:
    """Values that the kernel would clamp or refuse are named."""
    with pytest.raises(InvalidSpec, match="/linux/resources/cpu/"):
        build(layout, cpu=cpu)


def test_cpuset_of_v1_inherits() -> None:
    """A new v1 group has no CPUs, so each level gets those of the one above before the choice."""
    placement = build(V1, cpu={"cpus": "2,1"})
    assert placement.inherits == (f"{ROOT}/cpuset/cloche", f"{ROOT}/cpuset/cloche/a")
    assert [(write.path, write.value) for write in placement.writes] == [
        (f"{ROOT}/cpuset/cloche/a/cpuset.cpus", "1-2"),
    ]


def test_cpuset_of_v1_that_comes_along() -> None:
    """Mounted together with a controller that is needed, cpuset has to be filled as well."""
    both = Hierarchy(1, ("cpuset", "cpu"), f"{ROOT}/cpu", f"{ROOT}/cpu", f"{ROOT}/cpu")
    placement = build(Layout("v1", (both,), cpus="0-3", mems="0"))
    assert placement.inherits == (f"{ROOT}/cpu/cloche", f"{ROOT}/cpu/cloche/a")


def test_cpuset_of_v2() -> None:
    """Only the choice is written."""
    assert written(V2, cpu={"cpus": "0,1,3", "mems": "0"}) == [
        ("cpuset.cpus", "0-1,3", "0-1,3"),
        ("cpuset.mems", "0", "0"),
    ]


@given(st.sets(st.integers(0, 300), min_size=1))
def test_lists_of_cpus(members: set[int]) -> None:
    """The kernel's way to write a list is read as the same members."""
    text = resources.number_list(members)
    assert resources.numbers(text, "") == members
    assert resources.number_list(resources.numbers(text, "")) == text


def test_realtime() -> None:
    """v1 has a realtime budget, v2 doesn't."""
    cpu = {"realtimeRuntime": 1000, "realtimePeriod": 100000}
    assert [file for file, *_ in written(V1, cpu=cpu)] == ["cpu.rt_period_us", "cpu.rt_runtime_us"]
    with pytest.raises(ControllerUnavailable, match="realtime"):
        build(V2, cpu=cpu)


# --- the others --------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [V1, V2])
@pytest.mark.parametrize(("limit", "value"), [(50, "50"), (-1, "max"), (0, "1")])
def test_pids(layout: Layout, limit: int, value: str) -> None:
    """-1 is no limit; with 0 as with 1 nothing can be forked."""
    assert written(layout, pids={"limit": limit}) == [("pids.max", value, value)]


BLOCK_IO = {
    "weight": 500,
    "weightDevice": [{"major": 8, "minor": 0, "weight": 10}],
    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}],
    "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 7}],
}


def test_io_of_v1() -> None:
    """Each rate is a file of its own."""
    assert written(V1, blockIO=BLOCK_IO) == [
        ("blkio.bfq.weight", "500", "500"),
        ("blkio.bfq.weight_device", "8:0 10", ""),
        ("blkio.throttle.read_bps_device", "8:0 1000", "8:0 1000"),
        ("blkio.throttle.write_iops_device", "8:0 7", "8:0 7"),
    ]


def test_io_of_v2() -> None:
    """All rates of a device are one line, weights are converted."""
    assert written(V2, blockIO=BLOCK_IO) == [
        ("io.weight", "4950", "default 4950"),
        ("io.weight", "8:0 1", ""),
        ("io.max", "8:0 rbps=1000 wiops=7", "8:0 rbps=1000 wbps=max riops=max wiops=7"),
    ]


def test_weight_of_bfq_on_v2() -> None:
    """BFQ takes the same weights as v1."""
    layout = V2._replace(io_weight="io.bfq.weight")
    assert written(layout, blockIO={"weight": 500})[0] == ("io.bfq.weight", "500", "default 500")


@pytest.mark.parametrize(("weight", "converted"), [(10, 1), (1000, 10000)])
def test_io_weights(weight: int, converted: int) -> None:
    """Least and greatest weight stay so."""
    assert resources.io_weight(weight) == converted


def test_io_that_can_not_be_had() -> None:
    """No scheduler with weights, or the leaf weights of one that is gone."""
    with pytest.raises(ControllerUnavailable, match="no weights"):
        build(V1._replace(io_weight=""), blockIO={"weight": 500})
    with pytest.raises(Unsupported, match="CFQ"):
        build(V1, blockIO={"leafWeight": 500})
    with pytest.raises(InvalidSpec, match="weight"):
        build(V1, blockIO={"weight": 9})


@pytest.mark.parametrize(("layout", "suffix"), [(V1, "limit_in_bytes"), (V2, "max")])
def test_huge_pages(layout: Layout, suffix: str) -> None:
    """Reservation and use are limited, to whole pages."""
    assert written(layout, hugepageLimits=[{"pageSize": "2MB", "limit": 5 * MIB}]) == [
        (f"hugetlb.2MB.rsvd.{suffix}", str(5 * MIB), str(4 * MIB)),
        (f"hugetlb.2MB.{suffix}", str(5 * MIB), str(4 * MIB)),
    ]


@pytest.mark.parametrize("size", ["2", "MB", "2mb", "2TB", "../2MB", "0MB", ""])
def test_huge_pages_of_no_size(size: str) -> None:
    """A size becomes part of a file name, so nothing else passes."""
    with pytest.raises(InvalidSpec, match="pageSize"):
        build(V1, hugepageLimits=[{"pageSize": size, "limit": 0}])


def test_network() -> None:
    """v1 tags packets and gives them priority; v2 can't."""
    network = {"classID": 7, "priorities": [{"name": "eth0", "priority": 5}]}
    assert written(V1, network=network) == [
        ("net_cls.classid", "7", "7"),
        ("net_prio.ifpriomap", "eth0 5", ""),
    ]
    with pytest.raises(ControllerUnavailable, match="net_cls"):
        build(V2, network=network)


@pytest.mark.parametrize("layout", [V1, V2])
def test_rdma(layout: Layout) -> None:
    """A device with one or both limits."""
    assert written(layout, rdma={"mlx": {"hcaHandles": 3}, "rxe": {"hcaObjects": 1}}) == [
        ("rdma.max", "mlx hca_handle=3", ""),
        ("rdma.max", "rxe hca_object=1", ""),
    ]


def test_device_rules_in_their_order() -> None:
    """Everything is denied first, then some allowed."""
    assert written(V1, devices=DEFAULT_DEVICES) == [
        ("devices.deny", "a", ""),
        ("devices.allow", "c 1:3 rw", ""),
    ]


@pytest.mark.parametrize(
    "rule",
    [
        {"allow": True, "type": "a", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": True, "access": "m"},
        {"allow": True, "type": "", "minor": 3, "access": "rwm"},
    ],
)
def test_a_rule_for_both_types_never_allows_all(rule: dict[str, Any]) -> None:
    """The kernel reads ``a 1:3 rwm`` as everything, so it must not be written."""
    values = [value for _, value, _ in written(V1, devices=[DEFAULT_DEVICES[0], rule])]
    assert values[0] == "a"
    assert [value[:2] for value in values[1:]] == ["b ", "c "]


def test_rules_that_deny_nothing() -> None:
    """A privileged container needs no device controller."""
    for layout in (V1, V2):
        assert written(layout, devices=[{"allow": True, "access": "rwm"}]) == []


@pytest.mark.parametrize("access", ["", "x", "rwmx"])
def test_device_access_that_is_none(access: str) -> None:
    """Access is made of r, w and m."""
    with pytest.raises(InvalidSpec, match="access"):
        build(V1, devices=[{"allow": False, "access": access}])


def test_devices_on_v2() -> None:
    """An eBPF program where one may be loaded; an error where nothing enforces the rules."""
    assert V1.devices_enforceable
    assert not V2.devices_enforceable
    with pytest.raises(ControllerUnavailable, match="eBPF"):
        build(V2, devices=DEFAULT_DEVICES)
    may = V2._replace(device_programs=True)
    assert may.devices_enforceable
    placement = build(may, devices=DEFAULT_DEVICES)
    assert placement.program
    assert "devices" not in {write.controller for write in placement.writes}


def test_unified() -> None:
    """Files of v2 by their names, each line a write of its own."""
    files = {"io.max": "8:0 rbps=1\n8:16 rbps=2", "cgroup.max.depth": "3"}
    assert written(V2, unified=files) == [
        ("io.max", "8:0 rbps=1", ""),
        ("io.max", "8:16 rbps=2", ""),
        ("cgroup.max.depth", "3", ""),
    ]
    assert build(V2, unified=files).writes[0].value == "+io"


def test_unified_on_hybrid() -> None:
    """Only what is in the v2 hierarchy."""
    placement = build(HYBRID, unified={"hugetlb.2MB.max": "0"})
    assert placement.writes[-1].path == f"{ROOT}/unified/cloche/a/hugetlb.2MB.max"
    for layout in (V1, HYBRID):
        with pytest.raises(ControllerUnavailable, match=r"memory\.max is a file of cgroup v2"):
            build(layout, unified={"memory.max": "1"})


@pytest.mark.parametrize(
    "file", ["../memory.max", "memory", "", ".max", "memory.", "cgroup.procs", "cgroup.kill"]
)
def test_unified_files_that_are_none(file: str) -> None:
    """Neither a path nor a file that does something else than limit."""
    with pytest.raises(InvalidSpec, match="/linux/resources/unified/"):
        build(V2, unified={file: "1"})


# --- what can't be had -------------------------------------------------------------------------

ASKED: list[tuple[str, dict[str, Any]]] = [
    ("memory", {"memory": {"limit": MIB, "swap": MIB}}),
    ("cpu", {"cpu": {"quota": 10000}}),
    ("cpuset", {"cpu": {"cpus": "0"}}),
    ("pids", {"pids": {"limit": 5}}),
    ("io", {"blockIO": {"weight": 100}}),
    ("hugetlb", {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
    ("devices", {"devices": DEFAULT_DEVICES}),
]


@pytest.mark.parametrize(("controller", "wanted"), ASKED)
def test_a_limit_without_its_controller(controller: str, wanted: dict[str, Any]) -> None:
    """It is an error that names the controller and says what to do, on every kind of machine."""
    v1_without = V1._replace(
        hierarchies=tuple(h for h in V1.hierarchies if not h.has(controller)), swap=False
    )
    left = tuple(name for name in UNIFIED.controllers if name != controller)
    v2_without = V2._replace(hierarchies=(UNIFIED._replace(controllers=left),), swap=False)
    for layout in (v1_without, v2_without, Layout("none")):
        with pytest.raises(ControllerUnavailable) as caught:
            build(layout, **wanted)
        assert caught.value.controller == controller
        assert caught.value.hint


@pytest.mark.parametrize(("controller", "wanted"), ASKED)
def test_a_limit_that_may_not_be_set(controller: str, wanted: dict[str, Any]) -> None:
    """A hierarchy that isn't writable is named."""
    closed = V1._replace(hierarchies=tuple(h._replace(base="") for h in V1.hierarchies))
    with pytest.raises(ControllerUnavailable, match="isn't writable") as caught:
        build(closed, **wanted)
    assert caught.value.controller == controller
    assert "root" in caught.value.hint


def test_a_controller_that_is_not_delegated() -> None:
    """A user's part of the tree lacks what systemd wasn't told to delegate."""
    service = f"{ROOT}/user.slice/user@1000.service"
    part = UNIFIED._replace(base=service, controllers=("memory", "pids"))
    layout = V2._replace(hierarchies=(part,))
    with pytest.raises(ControllerUnavailable, match="isn't delegated") as caught:
        build(layout, cpu={"quota": 10000})
    assert "Delegate=" in caught.value.hint
    assert build(layout, pids={"limit": 5}).into == f"{service}/cloche/a"


def test_a_base_that_holds_processes() -> None:
    """The rule of no internal processes is told of, unless nothing new is asked for."""
    layout = V2._replace(hierarchies=(UNIFIED._replace(occupied=True),))
    with pytest.raises(ControllerUnavailable, match="holds processes"):
        build(layout, cpu={"quota": 10000})
    assert build(layout, pids={"limit": 5}).writes


# --- a share of the machine --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "cpus", "quota"),
    [
        ("1", 2, 100000),
        ("1.5", 2, 150000),
        (".5", 2, 50000),
        ("2.", 2, 200000),
        ("10%", 2, 20000),
        ("10%", 64, 640000),
        ("100%", 3, 300000),
        ("0.01", 1, 1000),
        ("0.5%", 2, 1000),
        ("33.3%", 1, 33300),
    ],
)
def test_cpu_quota(text: str, cpus: int, quota: int) -> None:
    """A number of CPUs, or per cent of all of them."""
    assert limits.cpu_quota(text, cpus) == (quota, 100_000)


@pytest.mark.parametrize(
    "text",
    ["", "%", ".", "0", "0%", "-1", "+1", "2.01", "101%", "0.009", "1e0", "nan", "inf", "1_0",
     "0x1", " 1", "1 %", "1%%", "\N{ARABIC-INDIC DIGIT ONE}", "1.0.0", "9" * 400],
)  # fmt: skip
def test_cpu_quota_of_nonsense(text: str) -> None:
    """Anything else is refused, with what could be had."""
    with pytest.raises(InvalidArgument):
        limits.cpu_quota(text, 2)


@given(st.integers(1, 4096), st.integers(1, 10_000))
def test_per_cent_is_of_all_cpus(cpus: int, hundredths: int) -> None:
    """N% of the machine is that part of its CPUs; nothing measurable is refused."""
    exact = cpus * 100_000 * hundredths / 10_000
    text = f"{hundredths // 100}.{hundredths % 100:02}%"
    if exact < 999:
        with pytest.raises(InvalidArgument):
            limits.cpu_quota(text, cpus)
    elif exact >= 1000:
        quota, period = limits.cpu_quota(text, cpus)
        assert abs(quota - exact) <= 1
        assert 1000 <= quota <= cpus * period


@given(st.text(max_size=8), st.integers(1, 8))
def test_cpu_quota_of_any_text(text: str, cpus: int) -> None:
    """Text is a quota in range or an InvalidArgument, never another error."""
    try:
        quota, period = limits.cpu_quota(text, cpus)
    except InvalidArgument:
        return
    assert 1000 <= quota <= cpus * period
