"""What every OCI runtime does with cgroups: where they are, new limits, statistics."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloche.kernel.cgroup import layout
from tests.runtimes import Runtime, make_bundle, read_spec, write_spec

MIB = 1 << 20
pytestmark = [pytest.mark.needs("root", "busybox"), pytest.mark.orphans]


@pytest.fixture
def pod() -> Iterator[str]:
    """The path of a group for containers of this test alone."""
    path = f"/cloche-test-{os.getpid()}"
    yield path
    mounts = {Path(hierarchy.mount) for hierarchy in layout.detect().hierarchies}
    # Others than ours join named hierarchies too.
    for place in {each for mount in mounts for each in (mount, *mount.parent.iterdir())}:
        with contextlib.suppress(OSError):
            Path(f"{place}{path}").rmdir()


@pytest.fixture(params=["cloche-oci", pytest.param("runc", marks=pytest.mark.needs("runc"))])
def runtime(request: pytest.FixtureRequest, workspace: Path, pod: str) -> Iterator[Runtime]:
    """A runtime whose containers are gone before the group that they are in."""
    assert pod
    own = Path(sysconfig.get_path("scripts"), "cloche-oci")
    found = own if request.param == "cloche-oci" else shutil.which(request.param)
    runtime = Runtime(str(found), workspace)
    yield runtime
    runtime.end()


class Limited:
    """A running container with limits."""

    def __init__(self, runtime: Runtime, bundle: Path, path: str, **resources: Any) -> None:
        self.runtime = runtime
        document = read_spec(bundle)
        document["linux"]["cgroupsPath"] = path
        document["linux"]["resources"] = {
            "devices": [{"allow": False, "access": "rwm"}],
            **resources,
        }
        write_spec(bundle, document)
        self.id = runtime.id()
        self.path = path
        runtime("run", "--detach", "--bundle", str(bundle), self.id, check=True)
        runtime.note(runtime.state(self.id)["pid"])

    def file(self, controller: str, v1: str, v2: str = "") -> str:
        """Return what a file of the container's group holds, by its names in both versions."""
        hierarchy = layout.detect().find(controller)
        if hierarchy is None or (hierarchy.version == 2 and not v2):
            pytest.skip(f"this machine has no {v2 or v1}")
        name = v1 if hierarchy.version == 1 else v2
        return Path(f"{hierarchy.mount}{self.path}/{name}").read_text().strip()

    def update(self, *options: str, input: str = "") -> None:
        """Give it new limits."""
        self.runtime("update", *options, self.id, input=input, check=True)


@pytest.fixture
def limited(runtime: Runtime, workspace: Path, pod: str) -> Limited:
    """A container with limits of memory, processor time and tasks."""
    bundle = make_bundle(workspace / "bundle", "sleep", "1000")
    return Limited(
        runtime,
        bundle,
        f"{pod}/a",
        memory={"limit": 64 * MIB, "swap": 128 * MIB},
        cpu={"quota": 50000, "period": 100000, "shares": 512},
        pids={"limit": 20},
    )


def test_limits_are_where_the_path_says(limited: Limited) -> None:
    """An absolute cgroupsPath is beneath the root of each hierarchy."""
    assert limited.file("memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)
    assert limited.file("pids", "pids.max", "pids.max") == "20"
    pid = str(limited.runtime.state(limited.id)["pid"])
    for controller in ("memory", "cpu", "pids", "io", "freezer"):
        if layout.detect().find(controller):
            assert pid in limited.file(controller, "cgroup.procs", "cgroup.procs").split()


def test_memory_goes_up_and_down(limited: Limited) -> None:
    """In each order that the two limits have to be written in."""
    for memory, both in ((256, 512), (32, 48), (40, 44)):
        limited.update("--memory", f"{memory}m", "--memory-swap", f"{both}m")
        assert limited.file("memory", "memory.limit_in_bytes", "memory.max") == str(memory * MIB)
    limited.update("--memory", "-1", "--memory-swap", "-1")
    assert limited.file("memory", "memory.limit_in_bytes", "memory.max") in (
        "max",
        "9223372036854771712",
    )


def test_processor_time(limited: Limited) -> None:
    """A quota keeps its period, and the other way round."""
    limited.update("--cpu-quota", "20000", "--cpu-share", "256")
    assert limited.file("cpu", "cpu.cfs_quota_us", "cpu.max").split()[0] == "20000"
    assert limited.file("cpu", "cpu.shares", "cpu.weight") in ("256", "10", "35")
    limited.update("--cpu-period", "50000")
    assert limited.file("cpu", "cpu.cfs_period_us", "cpu.max").split()[-1] == "50000"


def test_a_document_changes_what_it_has(limited: Limited) -> None:
    """Zeros and what isn't there stay as they are."""
    document = {"memory": {"limit": 0}, "cpu": {"shares": 0}, "pids": {"limit": 9}}
    limited.update("--resources", "-", input=json.dumps(document))
    assert limited.file("pids", "pids.max", "pids.max") == "9"
    assert limited.file("memory", "memory.limit_in_bytes", "memory.max") == str(64 * MIB)


def test_devices_stay_after_an_update(limited: Limited) -> None:
    """What may be opened hasn't to do with memory."""
    before = limited.file("devices", "devices.list")
    limited.update("--pids-limit", "11")
    assert limited.file("devices", "devices.list") == before
    assert "c 1:3 rwm" in before.splitlines()


def test_statistics(limited: Limited) -> None:
    """Once, as one line of JSON with the parts that engines read."""
    line = limited.runtime("events", "--stats", limited.id, check=True).stdout
    document = json.loads(line)
    assert (document["type"], document["id"]) == ("stats", limited.id)
    data = document["data"]
    assert {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt"} <= set(data)
    assert data["memory"]["usage"]["limit"] == 64 * MIB
    assert data["pids"] == {"current": 1, "limit": 20}
    assert "kernel" in data["cpu"]["usage"]


def test_an_empty_group_is_taken_over(runtime: Runtime, workspace: Path, pod: str) -> None:
    """Engines may have made it, with nothing in it."""
    for hierarchy in layout.detect().hierarchies:
        os.makedirs(f"{hierarchy.mount}{pod}/a", exist_ok=True)
    bundle = make_bundle(workspace / "bundle", "sleep", "1000")
    container = Limited(runtime, bundle, f"{pod}/a", pids={"limit": 20})
    assert container.file("pids", "pids.max", "pids.max") == "20"


def test_one_group_is_not_for_two(limited: Limited, workspace: Path) -> None:
    """A second container with the same path is refused, and the first lives on."""
    if limited.runtime.name == "runc":
        pytest.skip("before 1.2 it only warns")
    bundle = str(workspace / "bundle")
    done = limited.runtime("run", "--detach", "--bundle", bundle, limited.runtime.id("b"))
    assert done.code == 1
    assert limited.runtime.state(limited.id)["status"] == "running"
