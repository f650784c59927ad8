"""How the kernel schedules the process, and where its memory lies.

Some of it takes a capability over the machine, CAP_SYS_NICE.  In a user namespace the child
hasn't got it, so its launcher does it for the child then.
"""

from __future__ import annotations

from cloche.errors import Unsupported
from cloche.kernel import scheduling as numbers
from cloche.oci import ranges
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import IoPriority, MemoryPolicy, Scheduler

_CAPABILITY = "CAP_SYS_NICE"


def scheduling(situation: Situation) -> list[Step]:
    """Return the steps for ``scheduler``, ``ioPriority`` and ``memoryPolicy``, as far as given."""
    process = situation.spec["process"]
    linux = situation.spec.get("linux", {})
    stage = situation.stage_with(_CAPABILITY)
    plan = []
    if "scheduler" in process:
        plan.append(_scheduler(process["scheduler"], stage))
    if "ioPriority" in process:
        plan.append(_io_priority(process["ioPriority"], stage))
    if "memoryPolicy" in linux:
        plan.append(_memory_policy(linux["memoryPolicy"]))
    return plan


def _scheduler(wanted: Scheduler, stage: int) -> Step:
    if wanted["policy"] == "SCHED_ISO":
        raise Unsupported("no Linux has SCHED_ISO", pointer="/process/scheduler/policy")
    return steps.scheduler(
        numbers.POLICIES[wanted["policy"]],
        sum(numbers.POLICY_FLAGS[name] for name in set(wanted.get("flags", []))),
        wanted.get("nice", 0),
        wanted.get("priority", 0),
        (wanted.get("runtime", 0), wanted.get("deadline", 0), wanted.get("period", 0)),
        why="when it runs, among all that want to",
        stage=stage,
    )


def _io_priority(wanted: IoPriority, stage: int) -> Step:
    return steps.io_priority(
        numbers.IO_CLASSES[wanted["class"]],
        wanted.get("priority", 0),
        why="whose turn it is at a disk; all that it starts inherits this",
        stage=stage,
    )


def _memory_policy(wanted: MemoryPolicy) -> Step:
    mode = numbers.MEMORY_MODES[wanted["mode"]]
    return steps.memory_policy(
        mode | sum(numbers.MEMORY_FLAGS[name] for name in set(wanted.get("flags", []))),
        ranges.members(wanted.get("nodes", ""), ranges.NODES),
        why="which nodes its memory comes from",
    )
