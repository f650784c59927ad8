"""Scheduling of processors, disks and memory, as steps."""

from __future__ import annotations

from typing import Any

import pytest

from cloche.errors import Unsupported
from cloche.kernel.features import Features
from cloche.plan import describe, steps, wire
from cloche.plan.compile import compile
from cloche.plan.execute import Target, compile_exec
from cloche.plan.launch import Launch
from cloche.plan.shell import as_shell
from cloche.plan.steps import CHILD, HOST, Plan, Step

NAMES = ("scheduler", "io_priority", "memory_policy", "cpu_affinity")


def scheduling(plan: Plan) -> dict[str, Step]:
    """Return the steps that are about scheduling."""
    wire.encode(plan)
    return {step.operation.name: step for step in plan.steps if step.operation.name in NAMES}


@pytest.fixture
def full(spec: Any) -> Any:
    """A spec with everything."""
    spec["process"]["scheduler"] = {
        "policy": "SCHED_DEADLINE",
        "nice": -3,
        "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM"],
        "runtime": 1000000,
        "deadline": 2000000,
        "period": 2**63 - 1,
    }
    spec["process"]["ioPriority"] = {"class": "IOPRIO_CLASS_BE", "priority": 7}
    spec["process"]["execCPUAffinity"] = {"initial": "0-1", "final": "70"}
    spec["linux"]["memoryPolicy"] = {
        "mode": "MPOL_BIND",
        "nodes": "0,2-3",
        "flags": ["MPOL_F_STATIC_NODES"],
    }
    return spec


def test_numbers(full: Any, features: Features, launch: Launch) -> None:
    """Names become the kernel's numbers; the affinity isn't the first process's."""
    found = scheduling(compile(full, features, launch))
    assert {name: step.arguments for name, step in found.items()} == {
        "scheduler": (6, 3, -3, 0, 1000000, 2000000, 2**63 - 1),
        "io_priority": (2, 7),
        "memory_policy": (2 | 1 << 15, b"\x0d" + bytes(7)),
    }
    assert {step.stage for step in found.values()} == {CHILD}


def test_words(full: Any, features: Features, launch: Launch) -> None:
    """Each step tells in the spec's own words what it sets."""
    found = scheduling(compile(full, features, launch))
    deadline = "runtime 1000000, deadline 2000000, period 9223372036854775807"
    flags = "SCHED_FLAG_RESET_ON_FORK, SCHED_FLAG_RECLAIM"
    assert [describe.what(step) for step in found.values()] == [
        f"have it scheduled as SCHED_DEADLINE, nice -3, {deadline}, {flags}",
        "set the I/O priority to IOPRIO_CLASS_BE, 7",
        "set the memory policy to MPOL_BIND, MPOL_F_STATIC_NODES of nodes 0,2-3",
    ]
    assert describe.what(steps.cpu_affinity(0b1011, why="")) == "let it run on the CPUs 0-1,3"


def test_the_host_does_it_where_the_child_may_not(
    full: Any, features: Features, launch: Launch
) -> None:
    """In a user namespace the launcher has the capability, if anybody has."""
    mapping = [{"containerID": 0, "hostID": 5000, "size": 10}]
    full["linux"]["namespaces"].append({"type": "user"})
    full["linux"].update(uidMappings=mapping, gidMappings=mapping)
    found = scheduling(compile(full, features, launch))
    assert found["scheduler"].stage == found["io_priority"].stage == HOST
    assert found["memory_policy"].stage == CHILD


def test_affinity_of_a_process_that_is_added(full: Any, features: Features, launch: Launch) -> None:
    """The first list counts until the cgroups are joined, the second from then on."""
    target = Target(7, 1, ("/sys/fs/cgroup/cpu/x",))
    plan = compile_exec(full, features, launch, target)
    order = [(step.operation.name, step.stage) for step in plan.steps]
    first, second = (n for n, step in enumerate(plan.steps) if step.operation.name == NAMES[3])
    assert order[first][1] == HOST
    assert first < order.index(("spawn", HOST)) < order.index(("cgroup_enter", CHILD)) < second
    assert plan.steps[first].argument("cpus") == b"\x03" + bytes(7)
    assert plan.steps[second].argument("cpus") == bytes(8) + b"\x40" + bytes(7)
    full["process"]["execCPUAffinity"] = {"initial": "", "final": ""}
    assert "cpu_affinity" not in scheduling(compile_exec(full, features, launch, target))


def test_policy_that_no_kernel_has(spec: Any, features: Features, launch: Launch) -> None:
    """A number that is only reserved isn't tried."""
    spec["process"]["scheduler"] = {"policy": "SCHED_ISO"}
    with pytest.raises(Unsupported, match="SCHED_ISO"):
        compile(spec, features, launch)


def test_shell(full: Any, features: Features, launch: Launch) -> None:
    """A script uses util-linux's programs, and says what they can't do."""
    full["process"]["scheduler"] = {"policy": "SCHED_RR", "priority": 5, "nice": 3}
    script = as_shell(compile(full, features, launch))
    assert "chrt --rr 5" in script
    assert "ionice --class 2 --classdata 7" in script
    assert "(memory_policy)" in script
    assert "chrt(1) doesn't know" not in script
