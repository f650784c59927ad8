"""New limits for a running container: what is written, in which order."""

from __future__ import annotations

from typing import Any, cast

import pytest

from cloche.errors import ControllerUnavailable, InvalidSpec, Unavailable
from cloche.kernel.cgroup.layout import Layout
from cloche.kernel.cgroup.present import Present
from cloche.oci.spec import Resources
from cloche.plan import limits, update
from cloche.plan.update import Changes
from tests.unit.plan.test_limits import DEFAULT_DEVICES, HYBRID, MIB, ROOT, V1
from tests.unit.plan.test_limits import V2 as WITHOUT_PROGRAMS

V2 = WITHOUT_PROGRAMS._replace(device_programs=True)
LIMITED = Present(64 * MIB, 80 * MIB, 10 * MIB, 20000, 50000, 5000)


def changes(layout: Layout, present: Present = LIMITED, **wanted: Any) -> Changes:
    """Return the changes for a container of this layout."""
    resources = cast(Resources, wanted)
    groups = limits.build_complete(
        layout, "/pod/a", {}, id="a", page_size=4096, devices=False
    ).groups
    return update.changes(layout, groups, resources, present, page_size=4096)


def written(layout: Layout, present: Present = LIMITED, **wanted: Any) -> list[tuple[str, str]]:
    """Return files and values in order."""
    return [(w.file, w.value) for w in changes(layout, present, **wanted).writes]


LIMIT, SWAP = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"


@pytest.mark.parametrize(
    ("memory", "files"),
    [
        ({"limit": 128 * MIB, "swap": 256 * MIB}, [SWAP, LIMIT]),
        ({"limit": 16 * MIB, "swap": 32 * MIB}, [LIMIT, SWAP]),
        ({"limit": 72 * MIB, "swap": 76 * MIB}, [SWAP, LIMIT]),
        ({"limit": -1}, [SWAP, LIMIT]),
        ({"limit": 70 * MIB}, [SWAP, LIMIT]),
        ({"swap": 64 * MIB}, [LIMIT, SWAP]),
    ],
)
def test_memory_never_exceeds_its_sum_with_swap(memory: dict[str, int], files: list[str]) -> None:
    """After each write memory has no more than both together, which the kernel wants on v1."""
    held = {LIMIT: 64 * MIB, SWAP: 80 * MIB}
    found = written(V1, memory=memory)
    assert [file for file, _ in found] == files
    for file, value in found:
        held[file] = int(value) if int(value) >= 0 else 1 << 62
        assert held[LIMIT] <= held[SWAP]


def test_memory_of_v2_keeps_the_sum() -> None:
    """A new limit of memory alone leaves the sum with swap as it was."""
    assert written(V2, memory={"limit": 70 * MIB}) == [
        ("memory.max", str(70 * MIB)),
        ("memory.swap.max", str(10 * MIB)),
    ]
    assert written(V2, memory={"limit": -1}) == [("memory.max", "max")]
    assert written(V2, memory={"swap": 64 * MIB})[1] == ("memory.swap.max", "0")


@pytest.mark.parametrize("layout", [V1, V2])
def test_memory_beyond_the_sum(layout: Layout) -> None:
    """A limit of memory above that of both has to change both."""
    with pytest.raises(InvalidSpec, match="/memory/swap"):
        changes(layout, memory={"limit": 81 * MIB})


@pytest.mark.parametrize("layout", [V1, V2])
def test_memory_in_use(layout: Layout) -> None:
    """With checkBeforeUpdate a limit that would kill processes is refused."""
    memory = {"limit": 10 * MIB, "swap": 80 * MIB}
    assert changes(layout, memory=memory).writes
    with pytest.raises(Unavailable, match="are in use"):
        changes(layout, memory=memory | {"checkBeforeUpdate": True})


@pytest.mark.parametrize(
    ("cpu", "files"),
    [
        ({"quota": 10000}, ["cfs_period_us", "cfs_quota_us"]),
        ({"period": 10000, "quota": 5000}, ["cfs_quota_us", "cfs_period_us"]),
        ({"period": 25000}, ["cfs_quota_us", "cfs_period_us"]),
        ({"burst": 1000}, ["cfs_burst_us", "cfs_period_us", "cfs_quota_us"]),
        ({"burst": 9000, "quota": 9000}, ["cfs_period_us", "cfs_quota_us", "cfs_burst_us"]),
        ({"burst": 0, "quota": -1}, ["cfs_burst_us", "cfs_period_us", "cfs_quota_us"]),
        ({"idle": 0, "shares": 100}, ["idle", "shares"]),
        ({"idle": 1, "shares": 100}, ["shares", "idle"]),
    ],
)
def test_cpu_of_v1(cpu: dict[str, int], files: list[str]) -> None:
    """A burst never exceeds its quota, nor a quota what the group above may use."""
    assert [file for file, _ in written(V1, cpu=cpu)] == [f"cpu.{file}" for file in files]


@pytest.mark.parametrize(
    ("cpu", "values"),
    [
        ({"quota": 10000}, [("cpu.max", "10000 50000")]),
        ({"period": 100000}, [("cpu.max", "20000 100000")]),
        ({"quota": -1}, [("cpu.max", "max 50000")]),
        ({"burst": 0}, [("cpu.max.burst", "0")]),
        ({"burst": 9000}, [("cpu.max", "20000 50000"), ("cpu.max.burst", "9000")]),
        ({"idle": 0}, [("cpu.idle", "0")]),
    ],
)
def test_cpu_of_v2(cpu: dict[str, int], values: list[tuple[str, str]]) -> None:
    """Quota and period are one file, so the other one is what it was."""
    assert written(V2, cpu=cpu)[: len(values)] == values


@pytest.mark.parametrize("layout", [V1, V2, HYBRID])
def test_nothing_is_asked(layout: Layout) -> None:
    """Engines send zeros for what stays as it is."""
    zeros: dict[str, Any] = {
        "memory": {"limit": 0, "swap": 0, "reservation": 0},
        "cpu": {"shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": ""},
        "blockIO": {"weight": 0},
    }
    assert changes(layout, **zeros).writes == ()


def test_devices_of_v1_change_only_where_they_differ() -> None:
    """In no moment is more denied than before and after."""
    before = limits.build_complete(
        V1,
        "/a",
        cast(Resources, {"devices": DEFAULT_DEVICES}),
        id="a",
        page_size=4096,
        devices=True,
    )
    listed = "\n".join(w.value for w in before.writes if w.file == "devices.allow")
    present = LIMITED._replace(devices=listed)
    assert written(V1, present, devices=DEFAULT_DEVICES) == []
    more: Any = [
        *DEFAULT_DEVICES,
        {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "r"},
    ]
    assert written(V1, present, devices=more) == [("devices.allow", "b 8:0 r")]
    less = LIMITED._replace(devices=f"{listed}\nb 8:0 rwm")
    assert written(V1, less, devices=more) == [("devices.deny", "b 8:0 wm")]
    everything: Any = [{"allow": True, "access": "rwm"}]
    assert written(V1, present, devices=everything) == [("devices.allow", "a")]
    every = LIMITED._replace(devices="a *:* rwm")
    assert written(V1, every, devices=everything) == []
    assert written(V1, every, devices=DEFAULT_DEVICES)[0] == ("devices.deny", "a")


def test_devices_of_v2_are_a_program() -> None:
    """One takes the other's place."""
    found = changes(V2, devices=DEFAULT_DEVICES)
    assert found.group == f"{ROOT}/pod/a"
    assert found.program


def test_a_controller_that_the_container_has_not() -> None:
    """It isn't made a member of further hierarchies."""
    with pytest.raises(ControllerUnavailable, match="no group of it"):
        update.changes(
            V1, [f"{ROOT}/memory/a"], cast(Resources, {"pids": {"limit": 3}}), LIMITED,
            page_size=4096,
        )  # fmt: skip
