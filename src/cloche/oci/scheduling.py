"""Check what a spec says about scheduling: processors, disks, memory nodes.

Source: OCI runtime-spec, ``config.md`` and ``config-linux.md``; sched_setattr(2),
set_mempolicy(2).
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.oci import ranges
from cloche.oci.schema import json_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import MemoryPolicy, Process, Scheduler

_WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
_MAY_HAVE_NODES = "MPOL_PREFERRED"


def check_process(process: Process) -> None:
    """Refuse parameters that a policy doesn't have, and what is no list of CPUs.

    Raises InvalidSpec.
    """
    if "scheduler" in process:
        _check_scheduler(process["scheduler"])
    affinity = process.get("execCPUAffinity", {})
    pointer = "/process/execCPUAffinity"
    _members(affinity.get("initial", ""), ranges.CPUS, f"{pointer}/initial")
    _members(affinity.get("final", ""), ranges.CPUS, f"{pointer}/final")


def _check_scheduler(scheduler: Scheduler) -> None:
    pointer = "/process/scheduler"
    policy = scheduler["policy"]
    if scheduler.get("priority") and policy not in ("SCHED_FIFO", "SCHED_RR"):
        raise InvalidSpec(
            f"{pointer}/priority", f"is {scheduler['priority']} but must be 0 with {policy}"
        )
    times = {
        "runtime": scheduler.get("runtime", 0),
        "deadline": scheduler.get("deadline", 0),
        "period": scheduler.get("period", 0),
    }
    for name, value in times.items():
        if value and policy != "SCHED_DEADLINE":
            raise InvalidSpec(f"{pointer}/{name}", f"is {value} but must be 0 with {policy}")
        if value >= 2**63:
            raise InvalidSpec(
                f"{pointer}/{name}", f"is {value} but must be less than 2**63 nanoseconds"
            )
    if policy == "SCHED_DEADLINE" and not (
        0 < times["runtime"] <= times["deadline"] <= (times["period"] or times["deadline"])
    ):
        given = ", ".join(f"{name} {value}" for name, value in times.items())
        problem = f"has {given} but must have 0 < runtime <= deadline <= period"
        raise InvalidSpec(pointer, problem)


def check_memory_policy(policy: MemoryPolicy) -> None:
    """Require nodes where the mode is about nodes, and none elsewhere; raises InvalidSpec."""
    pointer = "/linux/memoryPolicy"
    mode = policy["mode"]
    nodes = _members(policy.get("nodes", ""), ranges.NODES, f"{pointer}/nodes")
    if nodes and mode in _WITHOUT_NODES:
        raise InvalidSpec(
            f"{pointer}/nodes", f"is {json_name(policy['nodes'])} but must not be there with {mode}"
        )
    if not nodes and mode not in (*_WITHOUT_NODES, _MAY_HAVE_NODES):
        raise InvalidSpec(
            f"{pointer}/nodes",
            f"is {json_name(policy.get('nodes', ''))} but must name a node with {mode}",
        )
    given = policy.get("flags", [])
    if given and mode in _WITHOUT_NODES:
        raise InvalidSpec(f"{pointer}/flags", f"is {' '.join(given)} but must be empty with {mode}")
    if {"MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"} <= set(given):
        raise InvalidSpec(
            f"{pointer}/flags", f"is {' '.join(given)} but must not be both static and relative"
        )


def _members(text: str, limit: int, pointer: str) -> int:
    try:
        return ranges.members(text, limit)
    except ValueError as error:
        raise InvalidSpec(
            pointer, f"is {json_name(text)} but must be a list such as 0-3,7: {error}"
        ) from None
