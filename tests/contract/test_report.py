"""The statistics that engines read: the same figures from v1, v2 and hybrid."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cloche.kernel.cgroup import layout, report
from cloche.kernel.cgroup.group import Group
from cloche.kernel.cgroup.watch import OOM, TICK, watch
from cloche.oci.spec import Resources
from cloche.plan import limits
from cloche.plan.limits import Placement
from tests import cgroups

V1 = {
    "cpu": {"cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 5000000\n"},
    "cpuacct": {
        "cpuacct.usage": "9000000\n",
        "cpuacct.stat": "user 6\nsystem 3\n",
        "cpuacct.usage_percpu": "4000000 5000000 \n",
        "cpuacct.usage_all": "cpu user system\n0 1 2\n1 3 4\n",
    },
    "memory": {
        "memory.stat": "cache 4000\nrss 96\n",
        "memory.usage_in_bytes": "4096\n",
        "memory.max_usage_in_bytes": "8192\n",
        "memory.limit_in_bytes": "65536\n",
        "memory.failcnt": "2\n",
        "memory.memsw.usage_in_bytes": "5096\n",
        "memory.memsw.limit_in_bytes": "131072\n",
    },
    "pids": {"pids.current": "3\n", "pids.max": "max\n"},
    "io": {
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\nTotal 30\n",
        "blkio.throttle.io_serviced_recursive": "8:0 Read 5\n8:0 Write 6\nTotal 11\n",
    },
    "hugetlb": {
        "hugetlb.2MB.usage_in_bytes": "2097152\n",
        "hugetlb.2MB.max_usage_in_bytes": "4194304\n",
        "hugetlb.2MB.failcnt": "1\n",
    },
}
V2 = {
    "cpu": {
        "cpu.stat": "usage_usec 9000\nuser_usec 60000\nsystem_usec 30000\nnr_periods 9\n"
        "nr_throttled 4\nthrottled_usec 5000\n",
        "cpu.pressure": "some avg10=0.50 avg60=0.00 avg300=0.00 total=7\n"
        "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    },
    "memory": {
        "memory.stat": "anon 96\nfile 4000\n",
        "memory.current": "4096\n",
        "memory.peak": "8192\n",
        "memory.max": "65536\n",
        "memory.swap.current": "1000\n",
        "memory.swap.max": "65536\n",
    },
    "pids": {"pids.current": "3\n", "pids.max": "max\n"},
    "io": {"io.stat": "8:0 rbytes=10 wbytes=20 rios=5 wios=6 dbytes=0 dios=0\n"},
    "hugetlb": {
        "hugetlb.2MB.current": "1\n",
        "hugetlb.2MB.rsvd.current": "2097152\n",
        "hugetlb.2MB.events": "max 1\n",
    },
}


def build(machine: layout.Layout, path: str, **wanted: Any) -> Placement:
    """Build the placement of a runtime's container."""
    return limits.build_complete(
        machine, path, cast(Resources, wanted), id="a", page_size=4096, devices=False
    )


@pytest.fixture(params=["v1", "v2", "hybrid"])
def figures(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The report of a made-up container on each kind of machine."""
    made_up = cgroups.machine(request.param, tmp_path)
    placement = build(made_up, "/pod/a")
    cgroups.make(placement)
    for controller in V1 | V2:
        hierarchy = made_up.find(controller)
        if hierarchy is None:
            continue
        group = next(each for each in placement.groups if each.startswith(hierarchy.mount + "/"))
        for name, text in (V1 if hierarchy.version == 1 else V2).get(controller, {}).items():
            Path(group, name).write_text(text)
    found = report.report(Group(made_up, "a", placement.groups))
    return cast(dict[str, Any], json.loads(json.dumps(found)))


def test_all_parts_are_there(figures: dict[str, Any]) -> None:
    """Readers expect each of them, empty or not."""
    assert list(figures) == [
        "cpu",
        "cpuset",
        "memory",
        "pids",
        "blkio",
        "hugetlb",
        "intel_rdt",
        "network_interfaces",
    ]


def test_cpu(figures: dict[str, Any]) -> None:
    """Nanoseconds, whatever the kernel counts in."""
    usage = figures["cpu"]["usage"]
    assert (usage["total"], usage["user"], usage["kernel"]) == (9000000, 60000000, 30000000)
    assert figures["cpu"]["throttling"] == {
        "periods": 9,
        "throttledPeriods": 4,
        "throttledTime": 5000000,
    }
    if "percpu" in usage:
        assert usage["percpu"] == [4000000, 5000000]
        assert (usage["percpu_user"], usage["percpu_kernel"]) == ([1, 3], [2, 4])
    else:
        assert figures["cpu"]["psi"]["some"] == {
            "avg10": 0.5,
            "avg60": 0.0,
            "avg300": 0.0,
            "total": 7,
        }


def test_memory(figures: dict[str, Any]) -> None:
    """Swap is the sum with memory everywhere."""
    memory = figures["memory"]
    assert memory["cache"] == 4000
    assert (memory["usage"]["usage"], memory["usage"]["limit"]) == (4096, 65536)
    assert memory["usage"]["max"] == 8192
    assert (memory["swap"]["usage"], memory["swap"]["limit"]) == (5096, 131072)
    assert memory["raw"]


def test_tasks_and_disks(figures: dict[str, Any]) -> None:
    """No limit is left out; each device has its entries."""
    assert figures["pids"] == {"current": 3}
    blkio = figures["blkio"]
    assert blkio["ioServiceBytesRecursive"] == [
        {"major": 8, "op": "Read", "value": 10},
        {"major": 8, "op": "Write", "value": 20},
    ]
    assert [entry["value"] for entry in blkio["ioServicedRecursive"]] == [5, 6]


def test_huge_pages(figures: dict[str, Any]) -> None:
    """Each size once, and what is reserved where that is told apart."""
    huge = figures["hugetlb"]
    assert set(huge) <= {"2MB"}
    if huge:
        assert (huge["2MB"]["usage"], huge["2MB"]["failcnt"]) == (2097152, 1)


# --- the machine's own -------------------------------------------------------------------------


@pytest.fixture
def container() -> Iterator[tuple[Placement, Group]]:
    """Groups of a container with little memory, on this machine."""
    machine = layout.detect()
    memory = machine.find("memory")
    if memory is None or not memory.base:
        pytest.skip("this machine doesn't let us limit memory")
    path = f"/cloche-test-{os.getpid()}/a"
    placement = build(machine, path, memory={"limit": 32 << 20})
    try:
        cgroups.make(placement)
        group = Group(machine, path, placement.groups)
        yield placement, group
        with contextlib.suppress(FileNotFoundError):  # a test may have removed it
            group.kill()
            group.remove()
    finally:
        cgroups.unmake(placement)


@pytest.mark.needs("root")
def test_a_kill_is_told_and_the_end_too(container: tuple[Placement, Group]) -> None:
    """A process that takes too much memory is one event; without any process it ends."""
    placement, group = container
    sleeper = subprocess.Popen(["sleep", "60"])
    cgroups.enter(placement, sleeper.pid)
    events: list[str] = []
    told = threading.Event()

    def collect() -> None:
        for event in watch(group):
            events.append(event)
            told.set()

    thread = threading.Thread(target=collect)
    thread.start()
    code = f"""
import os
for place in {list(placement.groups)!r}:
    open(place + "/cgroup.procs", "w").write("0")
x = bytearray(200_000_000)
"""
    hog = subprocess.run([sys.executable, "-c", code], check=False)
    assert told.wait(10)
    sleeper.kill()
    sleeper.wait()
    group.remove()
    thread.join(10)
    assert not thread.is_alive()
    assert hog.returncode == -9
    assert events == [OOM]


@pytest.mark.needs("root")
def test_time_passes(container: tuple[Placement, Group]) -> None:
    """With an interval there is an event when nothing happens."""
    placement, group = container
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        cgroups.enter(placement, sleeper.pid)
        events = watch(group, 0.01)
        assert [next(events), next(events)] == [TICK, TICK]
        sleeper.kill()


@pytest.mark.needs("root")
def test_the_machines_own_figures(container: tuple[Placement, Group]) -> None:
    """The kernel has every file that is read."""
    placement, group = container
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        cgroups.enter(placement, sleeper.pid)
        found = report.report(group)
        sleeper.kill()
    assert found["memory"]["usage"]["limit"] == 32 << 20
    assert found["pids"]["current"] == 1
    assert found["memory"]["raw"]
