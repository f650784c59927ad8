"""What a spec says about scheduling, as the kernel shows it of a real container."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Cloche
from tests.kernel.bundles import KINDS, Bundle, own_users

pytestmark = pytest.mark.needs("root", "busybox")
USERS = pytest.mark.parametrize("linux", [{}, own_users()], ids=["host", "private"])
SCHED = "cat /proc/self/sched"


@pytest.fixture
def bundle(cloche: Cloche, workspace: Path) -> Bundle:
    """A bundle of the test's own."""
    return Bundle(cloche, workspace)


def shown(text: str, *names: str) -> list[str]:
    """Return the values of some lines ``name : value``."""
    values = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    stripped = {name.strip(): value.strip() for name, value in values.items()}
    return [stripped[name] for name in names]


@USERS
@pytest.mark.parametrize(
    ("scheduler", "policy", "priority"),
    [
        ({"policy": "SCHED_OTHER", "nice": 7}, "0", "127"),
        ({"policy": "SCHED_OTHER", "nice": -20}, "0", "100"),
        ({"policy": "SCHED_BATCH", "nice": 19}, "3", "139"),
        ({"policy": "SCHED_IDLE"}, "5", "120"),
    ],
)
def test_scheduler(
    bundle: Bundle, linux: Any, scheduler: dict[str, Any], policy: str, priority: str
) -> None:
    """Policy and nice value are the spec's; a nice value below 0 takes the host's privilege."""
    done = bundle.run(SCHED, {"scheduler": scheduler}, linux, check=True)
    assert shown(done.stdout, "policy", "prio") == [policy, priority]


@pytest.mark.parametrize(
    ("scheduler", "policy", "priority"),
    [
        ({"policy": "SCHED_FIFO", "priority": 3}, "1", "96"),
        (
            {"policy": "SCHED_RR", "priority": 99, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "2",
            "0",
        ),
        (
            {
                "policy": "SCHED_DEADLINE",
                "runtime": 1_000_000,
                "deadline": 50_000_000,
                "period": 100_000_000,
            },
            "6",
            "-1",
        ),
    ],
)
def test_realtime(bundle: Bundle, scheduler: dict[str, Any], policy: str, priority: str) -> None:
    """Realtime policies too, once the container's cgroup has a share of realtime."""
    # The shell itself: SCHED_DEADLINE can't be inherited, so that it could start no other program.
    show = "while read -r name colon value; do echo $name: $value; done </proc/self/sched"
    linux = {}
    if os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"):
        linux["resources"] = {"cpu": {"realtimePeriod": 1_000_000, "realtimeRuntime": 1000}}
    done = bundle.run(show, {"scheduler": scheduler}, linux, check=True)
    assert shown(done.stdout, "policy", "prio") == [policy, priority]


def test_what_the_kernel_refuses_is_told(bundle: Bundle) -> None:
    """A demand that the kernel can't meet ends the start."""
    deadline = {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}
    done = bundle.run("true", {"scheduler": deadline})
    assert done.returncode == 1
    assert "sched_setattr: invalid argument" in done.stderr


@USERS
@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"class": "IOPRIO_CLASS_RT", "priority": 0}, 1 << 13),
        ({"class": "IOPRIO_CLASS_BE", "priority": 7}, 2 << 13 | 7),
        ({"class": "IOPRIO_CLASS_IDLE", "priority": 0}, 3 << 13),
    ],
)
def test_io_priority(bundle: Bundle, linux: Any, wanted: dict[str, Any], expected: int) -> None:
    """Class and priority are the container's alone, the caller's stays."""
    names = {1: f"realtime: prio {expected & 7}", 2: f"best-effort: prio {expected & 7}", 3: "idle"}
    done = bundle.run("ionice -p $$", {"ioPriority": wanted}, linux, check=True)
    assert done.stdout.strip() == names[expected >> 13]


@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="a kernel without NUMA")
@USERS
@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_DEFAULT"}, "default"),
    ],
)
def test_memory_policy(
    bundle: Bundle, linux: dict[str, Any], policy: dict[str, Any], expected: str
) -> None:
    """The policy is that of every mapping that has none of its own."""
    done = bundle.run("cat /proc/self/numa_maps", {}, {**linux, "memoryPolicy": policy}, check=True)
    assert {line.split()[1] for line in done.stdout.splitlines()} == {expected}


def test_memory_of_a_node_that_is_not_there(bundle: Bundle) -> None:
    """Which nodes there are is the kernel's to say."""
    policy = {"mode": "MPOL_BIND", "nodes": "1000"}
    done = bundle.run("true", {}, {"memoryPolicy": policy})
    assert done.returncode == 1
    assert "set_mempolicy: invalid argument" in done.stderr


@pytest.mark.orphans
def test_affinity_of_exec(bundle: Bundle) -> None:
    """A process that is added runs on the CPUs of the spec, the first one wherever it may."""
    show = "grep Cpus_allowed_list /proc/self/status"
    last = max(os.sched_getaffinity(0))
    affinity = {"initial": "0", "final": f"{last}"}
    namespaces = [{"type": kind} for kind in KINDS]
    bundle.configure("sleep 1000", {"execCPUAffinity": affinity}, {"namespaces": namespaces})
    run = bundle.manage("run", "--detach", "--bundle", str(bundle.path), bundle.id)
    assert run == (0, "")
    try:
        for wanted, expected in ((affinity, f"{last}"), ({"initial": "0"}, "0")):
            bundle.configure("", {"execCPUAffinity": wanted, "args": ["sh", "-c", show]})
            process = json.loads((bundle.path / "config.json").read_text())["process"]
            (bundle.path / "process.json").write_text(json.dumps(process))
            file = str(bundle.path / "process.json")
            done = bundle("exec", "--process", file, bundle.id, check=True)
            assert done.stdout.split()[1] == expected
    finally:
        bundle("delete", "--force", bundle.id)
