"""The cgroups of an OCI runtime: where engines expect them, and with what in them."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cloche.errors import ControllerUnavailable, InvalidSpec, Unsupported
from cloche.kernel.cgroup.layout import Layout
from cloche.kernel.device_rules import EVERY_ACCESS, READ, Access, Rule
from cloche.oci.spec import Resources
from cloche.plan import compile as compiler
from cloche.plan import device_access, limits
from cloche.plan.launch import Lifecycle
from cloche.plan.limits import Placement
from tests.unit.plan.test_limits import DEFAULT_DEVICES, HYBRID, MIB, ROOT, UNIFIED, V1
from tests.unit.plan.test_limits import V2 as WITHOUT_PROGRAMS

V2 = WITHOUT_PROGRAMS._replace(device_programs=True)


def build(
    layout: Layout, path: str = "/pod/a", *, devices: bool = True, **wanted: Any
) -> Placement:
    """Build the placement of the container ``abc``."""
    return limits.build_complete(
        layout, path, cast(Resources, wanted), id="abc", page_size=4096, devices=devices
    )


def test_every_hierarchy_is_joined() -> None:
    """Pausing, updating and statistics may come later, so there is a group everywhere."""
    placement = build(V1)
    assert placement.groups == tuple(f"{h.mount}/pod/a" for h in V1.hierarchies)
    assert placement.joins == placement.groups
    assert placement.inherits == (f"{ROOT}/cpuset/pod", f"{ROOT}/cpuset/pod/a")
    assert f"{ROOT}/freezer/pod/a" in build(HYBRID).joins


@pytest.mark.parametrize(
    ("path", "v1", "v2"),
    [
        ("/pod/a", "/pod/a", "/pod/a"),
        ("//pod/./b/../a/", "/pod/a", "/pod/a"),
        ("/../../a", "/a", "/a"),
        ("pod/a", "/own/pod/a", "/pod/a"),
        ("../../a", "/own/a", "/a"),
        ("", "/own/abc", "/abc"),
        ("system.slice:x:abc", "/own/system.slice:x:abc", "/system.slice:x:abc"),
    ],
)
def test_paths(path: str, v1: str, v2: str) -> None:
    """Absolute ones are the mount's; relative ones the caller's, on v2 beside its own group."""
    assert f"{ROOT}/memory{v1}" in build(V1, path).groups
    assert build(V2, path).groups == (f"{ROOT}{v2}",)


def test_a_relative_path_deep_in_v2() -> None:
    """It stays in the part of the tree that is the caller's."""
    service = f"{ROOT}/user.slice/user@1000.service"
    part = UNIFIED._replace(base=service, own=f"{service}/app.slice/a.scope")
    assert build(V2._replace(hierarchies=(part,)), "").into == f"{service}/app.slice/abc"
    alone = part._replace(own=service)
    assert build(V2._replace(hierarchies=(alone,)), "").into == f"{service}/abc"


@pytest.mark.parametrize("path", ["/", "/..", "a\nb", "."])
def test_paths_that_are_none(path: str) -> None:
    """The root of a hierarchy is no container's."""
    with pytest.raises(InvalidSpec, match="cgroupsPath"):
        build(V2, path)


def test_nothing_is_writable() -> None:
    """Without a path and limits that is no error, as for rootless containers; else it is."""
    closed = V1._replace(hierarchies=tuple(h._replace(base="") for h in V1.hierarchies))
    assert build(closed, "", devices=False) == Placement()
    assert build(Layout("none"), "", devices=False) == Placement()
    with pytest.raises(ControllerUnavailable, match="can't be made by this user"):
        build(closed, "/pod/a", devices=False)
    with pytest.raises(ControllerUnavailable):
        build(closed, "", devices=False, pids={"limit": 3})


def test_a_path_outside_of_what_is_delegated() -> None:
    """A user's container can't be where only root makes groups."""
    service = f"{ROOT}/user.slice/user@1000.service"
    layout = V2._replace(hierarchies=(UNIFIED._replace(base=service, own=f"{service}/a"),))
    with pytest.raises(ControllerUnavailable, match="/machine/a can't be made"):
        build(layout, "/machine/a", devices=False)
    inside = build(layout, f"{service.removeprefix(ROOT)}/x", devices=False)
    assert inside.into == f"{service}/x"


def test_every_controller_is_offered() -> None:
    """From the base down to the group; only what is asked for must succeed."""
    placement = build(V2, cpu={"quota": 50000})
    everything = "+cpuset +cpu +io +memory +hugetlb +pids +rdma"
    assert placement.offers == (
        (f"{ROOT}/cgroup.subtree_control", everything),
        (f"{ROOT}/pod/cgroup.subtree_control", everything),
    )
    assert placement.writes[0].path == f"{ROOT}/cgroup.subtree_control"
    occupied = V2._replace(hierarchies=(UNIFIED._replace(occupied=True),))
    assert build(occupied).offers == ()


def test_devices_are_an_allow_list() -> None:
    """Without rules nothing is allowed but what every container has."""
    writes = [(w.file, w.value) for w in build(V1).writes]
    assert writes[0] == ("devices.deny", "a")
    assert {file for file, _ in writes[1:]} == {"devices.allow"}
    values = [value for _, value in writes[1:]]
    assert values[:3] == ["b *:* m", "c *:* m", "c 1:3 rwm"]
    assert build(V2).program
    assert build(V1, devices=False).writes == build(V2, devices=False).writes[:0] == ()
    assert build(V2, devices=False).program == b""


def test_a_privileged_container_has_all_devices() -> None:
    """What is allowed on top takes nothing away."""
    everything = [{"allow": True, "access": "rwm"}]
    wanted = cast(Resources, {"devices": everything})
    for layout in (V1, V2):
        placement = limits.build_complete(
            layout, "/a", wanted, id="abc", page_size=4096, devices=True
        )
        assert placement.writes == ()
        assert placement.program == b""


def test_rules_come_before_what_is_always_allowed() -> None:
    """A rule can't take the standard devices away, and adds its own."""
    rules: Any = [
        {"allow": False, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"},
    ]
    access = device_access.access(rules, complete=True)
    assert not access.allowed
    assert Rule(True, "c", 1, 3, EVERY_ACCESS) in access.exceptions
    assert Rule(True, "b", 8, 0, READ) in access.exceptions


def test_a_hole_is_named() -> None:
    """A rule that the kernel can't have is an error at its place."""
    rules: Any = [
        *DEFAULT_DEVICES,
        {"allow": True, "type": "c", "major": 7, "access": "rw"},
        {"allow": False, "type": "c", "major": 7, "minor": 1, "access": "w"},
    ]
    with pytest.raises(InvalidSpec) as caught:
        device_access.access(rules, complete=True)
    assert caught.value.pointer == "/linux/resources/devices/3"


@pytest.mark.parametrize("number", [1 << 32, -2])
def test_numbers_that_no_device_has(number: int) -> None:
    """A number that doesn't fit would be another's."""
    rules: Any = [{"allow": True, "type": "c", "major": number, "access": "rw"}]
    with pytest.raises(InvalidSpec, match="/linux/resources/devices/0/major"):
        device_access.access(rules, complete=True)


@pytest.mark.parametrize("layout", [V1, V2])
def test_zeros_of_engines(layout: Layout) -> None:
    """Engines write zeros for what isn't set, and lists of nothing."""
    zeros: dict[str, Any] = {
        "memory": dict.fromkeys(("limit", "swap", "reservation", "kernel", "kernelTCP"), 0)
        | {"disableOOMKiller": False, "checkBeforeUpdate": False},
        "cpu": dict.fromkeys(
            ("shares", "quota", "period", "burst", "realtimeRuntime", "realtimePeriod", "idle"), 0
        )
        | {"cpus": "", "mems": ""},
        "blockIO": {"weight": 0, "leafWeight": 0, "weightDevice": []},
        "network": {"classID": 0, "priorities": []},
        "hugepageLimits": [],
        "rdma": {},
        "unified": {},
    }
    assert build(layout, devices=False, **zeros) == build(layout, devices=False)


@pytest.mark.parametrize("layout", [V1, V2])
def test_kernel_memory_that_is_implied(layout: Layout) -> None:
    """Kernel memory is a part of all memory, so a limit that isn't lower holds by itself."""
    memory = {"limit": MIB, "kernel": MIB, "kernelTCP": 2 * MIB}
    assert build(layout, memory=memory).writes
    with pytest.raises(Unsupported):
        build(layout, memory=memory | {"kernel": MIB - 1})


@pytest.mark.parametrize(("layout", "shown"), [(V1, str((1 << 63) - (1 << 21))), (V2, "max")])
def test_all_huge_pages(layout: Layout, shown: str) -> None:
    """Beyond what the kernel can count there is no limit."""
    wanted = [{"pageSize": "2MB", "limit": (1 << 64) - 1}]
    write = build(layout, hugepageLimits=wanted).writes[-1]
    if layout is V1:
        write = next(w for w in build(layout, hugepageLimits=wanted).writes if "rsvd" in w.file)
    assert (write.value, write.expect) == (str((1 << 63) - 1), shown)


def test_a_device_with_a_leaf_weight_of_zero() -> None:
    """A weight that isn't given is none to be written."""
    block = {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 0}]}
    assert not [w for w in build(V1, blockIO=block).writes if w.file.startswith("blkio")]


def test_a_plan_for_a_runtime(spec: Any, features: Any, launch: Any) -> None:
    """Groups may be there already, and no node is withheld: the rules are enforced."""
    features = features._replace(cgroups=features.cgroups._replace(device_programs=True))
    plan = compiler.compile(spec, features, launch._replace(lifecycle=Lifecycle()))
    names = [step.operation.name for step in plan.steps]
    assert "device_filter" in names
    create = next(step for step in plan.steps if step.operation.name == "cgroup_create")
    assert create.argument("take") == 1
    assert create.argument("path") == "/sys/fs/cgroup/abc"
    nested = features._replace(in_user_namespace=True)
    plan = compiler.compile(spec, nested, launch._replace(lifecycle=Lifecycle()))
    assert "device_filter" not in [step.operation.name for step in plan.steps]


def test_the_group_is_given_to_the_containers_user(spec: Any, features: Any, launch: Any) -> None:
    """Where it has a hierarchy of its own, mounted writable, and is another user than root."""
    launch = launch._replace(lifecycle=Lifecycle())
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"]["uidMappings"] = [{"containerID": 0, "hostID": 5000, "size": 100}]
    spec["linux"]["gidMappings"] = [{"containerID": 0, "hostID": 5000, "size": 100}]
    spec["process"]["user"] = {"uid": 7, "gid": 0}
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    spec["mounts"].append(mount)
    features = features._replace(cgroups=features.cgroups._replace(device_programs=True))

    def given() -> list[tuple[Any, ...]]:
        plan = compiler.compile(spec, features, launch)
        return [s.arguments for s in plan.steps if s.operation.name == "cgroup_delegate"]

    assert given() == [("/sys/fs/cgroup/abc", 5007)]
    spec["mounts"][-1] = mount | {"options": ["ro"]}
    assert given() == []


def test_unlimited_is_all() -> None:
    """An outcome that allows all needs no program."""
    assert Access(True).is_unlimited
    assert not Access(False).is_unlimited
