"""Limits on this machine's own hierarchies: the kernel takes them, shows them, keeps them."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from cloche.errors import ControllerUnavailable, Unsupported
from cloche.kernel.cgroup import layout
from cloche.kernel.cgroup.group import Group
from cloche.kernel.cgroup.layout import Layout
from cloche.oci.spec import Resources
from cloche.plan import limits
from cloche.plan.limits import Placement
from tests import cgroups

MIB = 1 << 20
pytestmark = pytest.mark.needs("root")

Make = Callable[..., tuple[Placement, Group]]


@pytest.fixture
def machine() -> Layout:
    """This machine's layout."""
    found = layout.detect()
    if found.version == "none":
        pytest.skip("this machine has no cgroups")
    return found


@pytest.fixture
def make(machine: Layout) -> Iterator[Make]:
    """Make groups with limits; they are removed at the end."""
    made: list[tuple[Placement, Group]] = []

    def make_groups(**wanted: Any) -> tuple[Placement, Group]:
        path = f"/cloche-test-{uuid.uuid4().hex[:8]}/container"
        page_size = os.sysconf("SC_PAGE_SIZE")
        placement = limits.build(machine, path, cast(Resources, wanted), page_size=page_size)
        try:
            cgroups.make(placement)
            made.append((placement, Group(machine, path)))
        except BaseException:
            cgroups.unmake(placement)
            raise
        return made[-1]

    yield make_groups
    for placement, group in made:
        group.kill()
        group.remove()
        cgroups.unmake(placement)


def run(placement: Placement, program: str) -> subprocess.CompletedProcess[str]:
    """Run a Python program that enters the groups before anything else."""
    enter = f"""
import os
for group in {list(placement.joins)!r}:
    open(group + "/tasks", "w").write("0")
if {placement.into!r}:
    open({placement.into!r} + "/cgroup.procs", "w").write("0")
"""
    return subprocess.run(
        [sys.executable, "-c", enter + program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def has(machine: Layout, *controllers: str) -> None:
    """Skip a test where a controller isn't there."""
    for controller in controllers:
        if machine.find(controller) is None:
            pytest.skip(f"this machine has no controller {controller}")


def test_this_machine_is_understood(machine: Layout) -> None:
    """Each hierarchy has its mount, the caller's own group and a place for containers."""
    for hierarchy in machine.hierarchies:
        assert os.path.isdir(hierarchy.mount)
        assert hierarchy.base.startswith(hierarchy.mount)
        assert str(os.getpid()) in Path(hierarchy.own, "cgroup.procs").read_text().split()


def test_detection_is_cheap(machine: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is done at every start: a few files, however many hierarchies and groups there are."""
    opened: list[str] = []

    def note(path: str, *arguments: Any, **options: Any) -> int:
        opened.append(path)
        return real(path, *arguments, **options)

    real = os.open
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", note)
        layout.detect()
    assert "/proc/self/cgroup" in opened
    assert len(opened) <= 8, opened


# What the kernel shows after a write, for each file; `make` compares.
EVERYTHING: dict[str, dict[str, Any]] = {
    "memory": {"memory": {"limit": 64 * MIB + 1, "reservation": 32 * MIB + 1}},
    "cpu": {"cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 10000}},
    "idle": {"cpu": {"shares": 512, "idle": 1}},
    "unlimited": {"memory": {"limit": -1}, "cpu": {"quota": -1}, "pids": {"limit": -1}},
    "cpuset": {"cpu": {"cpus": "0", "mems": "0"}},
    "pids": {"pids": {"limit": 50}},
    "devices": {
        "devices": [
            {"allow": False, "access": "rwm"},
            {"allow": True, "access": "m"},
            {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
        ]
    },
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_the_kernel_shows_what_is_expected(machine: Layout, make: Make, name: str) -> None:
    """Rounding, order and format are foretold for each controller."""
    has(machine, *({name} - {"idle", "unlimited"}))
    if name == "devices" and not machine.devices_enforceable:
        pytest.skip("this machine can't restrict devices")
    placement, _ = make(**EVERYTHING[name])
    assert placement.writes


def test_swap_is_limited_with_memory(machine: Layout, make: Make) -> None:
    """The sum of memory and swap is read back as two limits."""
    has(machine, "memory")
    if not machine.swap:
        pytest.skip("this machine doesn't account swap")
    _, group = make(memory={"limit": 64 * MIB, "swap": 96 * MIB})
    found = group.limits()
    assert (found.memory, found.swap) == (64 * MIB, 32 * MIB)


def test_a_weight_for_io(machine: Layout, make: Make) -> None:
    """The file that detection has named takes the weight."""
    has(machine, "io")
    if not machine.io_weight:
        pytest.skip("this machine has no I/O weights")
    make(blockIO={"weight": 500})


def test_a_rate_of_a_disk(machine: Layout, make: Make) -> None:
    """A rate limit is shown as it was written."""
    has(machine, "io")
    disks = [Path(f"/sys/block/{name}/dev") for name in os.listdir("/sys/block")]
    numbers = [
        disk.read_text().strip() for disk in disks if not disk.parent.name.startswith("loop")
    ]
    if not numbers:
        pytest.skip("this machine has no disk")
    major, minor = map(int, numbers[0].split(":"))
    device = {"major": major, "minor": minor, "rate": MIB + 1}
    make(blockIO={"throttleReadBpsDevice": [device], "throttleWriteIOPSDevice": [device]})


def test_limits_in_effect(machine: Layout, make: Make) -> None:
    """What is asked for is what the group reports."""
    has(machine, "memory", "cpu", "cpuset", "pids")
    _, group = make(
        memory={"limit": 64 * MIB},
        cpu={"quota": 20000, "period": 100000, "cpus": "0"},
        pids={"limit": 50},
    )
    found = group.limits()
    assert (found.memory, found.cpus, found.cpuset, found.pids) == (64 * MIB, 0.2, "0", 50)


def test_a_process_moves_itself(machine: Layout, make: Make) -> None:
    """A thread that writes 0 to ``tasks`` is in every group, with what it starts later."""
    placement, group = make(pids={"limit": 50})
    done = run(placement, "print(open('/proc/self/cgroup').read())")
    lines = done.stdout.split()
    assert len([line for line in lines if "cloche-test" in line]) == len(placement.groups)
    assert group.processes() == []
    statistics = group.statistics()
    assert statistics.pids is None or statistics.pids.current == 0


@pytest.mark.needs("cgroup1", "userns", "unshare")
def test_a_process_of_a_user_namespace_moves_itself(machine: Layout, make: Make) -> None:
    """Its kernel uid still owns the files, so that it may join once it is in there."""
    placement, _ = make()
    if not placement.joins:
        pytest.skip("there is no v1 group to join")
    script = "".join(f"echo 0 > {group}/tasks && " for group in placement.joins)
    done = subprocess.run(
        ["unshare", "--user", "sh", "-c", f"{script} cat /proc/self/cgroup"],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout.count("cloche-test") == len(placement.joins)


def test_too_much_memory_is_killed_and_counted(machine: Layout, make: Make) -> None:
    """The process dies, the machine doesn't, and the statistics tell."""
    has(machine, "memory")
    wanted = {"limit": 32 * MIB} | ({"swap": 32 * MIB} if machine.swap else {})
    placement, group = make(memory=wanted)
    done = run(placement, "b = b'x' * (200 << 20); print('survived')")
    assert done.returncode == -9
    found = group.statistics().memory
    assert found is not None
    assert found.oom_kills == 1
    assert found.limit == 32 * MIB
    assert found.peak is None or 16 * MIB < found.peak <= 32 * MIB


@pytest.mark.orphans
def test_too_many_processes_are_refused(machine: Layout, make: Make) -> None:
    """Fork fails at the limit."""
    has(machine, "pids")
    placement, _ = make(pids={"limit": 3})
    program = """
import signal
children = 0
try:
    while children < 20:
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            signal.pause()
        children += 1
except BlockingIOError:
    print(children)
"""
    done = run(placement, program)
    assert done.stdout == "2\n", done.stderr


def test_the_quota_is_kept(machine: Layout, make: Make) -> None:
    """With a tenth of a CPU, work takes ten times as long, and throttling is counted."""
    has(machine, "cpu")
    placement, group = make(cpu={"quota": 10000, "period": 100000})
    program = """
import time
begun = time.monotonic()
end = time.process_time() + 0.1
while time.process_time() < end:
    pass
print(time.monotonic() - begun)
"""
    done = run(placement, program)
    assert float(done.stdout) > 0.3
    found = group.statistics().cpu
    assert found is not None
    assert found.throttled_periods > 0
    assert found.throttled_us > 0


def test_devices_are_denied(machine: Layout, make: Make) -> None:
    """Only what the rules allow can be opened, whatever nodes there are."""
    if not machine.devices_enforceable:
        pytest.skip("this machine can't restrict devices")
    null = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"}
    placement, _ = make(devices=[{"allow": False, "access": "rwm"}, null])
    program = """
open("/dev/null").close()
try:
    open("/dev/zero").close()
except PermissionError:
    print("denied")
"""
    done = run(placement, program)
    assert done.stdout == "denied\n", done.stderr


def test_a_controller_that_is_not_here(machine: Layout) -> None:
    """A limit that this machine can't keep is refused before anything is made."""
    wanted: list[tuple[str, dict[str, Any]]] = [
        ("net_cls", {"network": {"classID": 1}}),
        ("rdma", {"rdma": {"mlx": {"hcaHandles": 1}}}),
        ("hugetlb", {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
    ]
    for controller, resources in wanted:
        if machine.find(controller) is None:
            with pytest.raises(ControllerUnavailable) as caught:
                limits.build(machine, "/cloche-test-x", cast(Resources, resources), page_size=4096)
            assert caught.value.controller == controller


def test_kernel_memory_is_not_silently_ignored(machine: Layout) -> None:
    """Kernels take a limit of kernel memory and ignore it; here it is an error."""
    with pytest.raises(Unsupported):
        limits.build(machine, "/cloche-test-x", {"memory": {"kernel": MIB}}, page_size=4096)
