"""Compile one more process of a container that runs: what ``exec`` does.

::

    HOST    open the container's first process (its pid and start time agree)
            its cgroups . spawn, in all its namespaces but that of cgroups
    CHILD       cgroups . that namespace . its root . limits
                session . streams . capabilities . user . filters . exec
    HOST    tell the pid . supervise, or leave

The child is nobody's to look at until it has become the program: it isn't dumpable
(CVE-2016-9962), every file descriptor of the host closes at exec (CVE-2024-21626), and paths are
looked for in the container's root only after it has been entered by pidfd.  It is born where it
belongs: as soon as it is in the pid namespace the container's processes see it, and those that may
trace anybody (CAP_SYS_PTRACE without users of their own) get at its root by ``/proc/PID/root``.
"""

from __future__ import annotations

from cloche.kernel import flags
from cloche.plan import privileges, process, steps
from cloche.plan.launch import Launch
from cloche.plan.situation import Situation
from cloche.plan.steps import NO_SLOT, STDIO_TERMINAL, Plan, Step
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.features import Features
    from cloche.oci.spec import Spec

_PROCESS_SLOT = 0
_CGROUP_SLOT = 1
_FIRST_TASKS_SLOT = 2


class Target(Record):
    """The running container that a process is added to."""

    pid: int
    start_time: int
    """When its first process started, clock ticks since boot."""
    joins: tuple[str, ...] = ()
    """The container's v1 cgroups, as directories."""
    into: str = ""
    """The v2 cgroup to be born in, or empty."""
    makes_into: bool = False
    """Whether that one is made for the process, beneath the container's.

    A container that has passed controllers on to groups of its own may hold no process in its top
    group (cgroups(7), "no internal processes"), but another child is always possible.
    """


def compile_exec(spec: Spec, features: Features, launch: Launch, target: Target) -> Plan:
    """Return the plan that runs a spec's process in a container that was made from the rest of it.

    Raises InvalidSpec or Unsupported for what can't be done.
    """
    linux = spec.get("linux", {})
    kinds = 0
    for namespace in linux.get("namespaces", []):
        kinds |= flags.NAMESPACE_KINDS[namespace["type"]]
    facts = Situation(
        spec,
        features,
        launch,
        kinds,
        (),
        tuple(linux.get("uidMappings", [])),
        tuple(linux.get("gidMappings", [])),
    )
    plan = [
        process.streams(facts),
        steps.open_process(
            _PROCESS_SLOT,
            target.pid,
            target.start_time,
            why="the one process that the container was made with, not a later one with its pid",
        ),
    ]
    if target.makes_into:
        plan.append(
            steps.cgroup_create(target.into, why="a group that passes controllers on holds none")
        )
    if target.into:
        plan.append(
            steps.cgroup_open(
                _CGROUP_SLOT, target.into, why="the child is born in it, never outside"
            )
        )
    initial, final = process.affinity(facts)
    plan += initial
    # Whoever is in another cgroup namespace can't be born into a group outside of it.
    before = kinds & ~flags.CLONE_NEWCGROUP
    tasks = dict(enumerate(target.joins, _FIRST_TASKS_SLOT))
    plan += [
        steps.cgroup_tasks(slot, path, why="the child won't find it from inside")
        for slot, path in tasks.items()
    ]
    plan.append(
        steps.spawn(
            0,
            cgroup=_CGROUP_SLOT if target.into else NO_SLOT,
            joined=_PROCESS_SLOT if before else NO_SLOT,
            joined_kinds=before,
            why="all namespaces in one call, through the pidfd: no path is looked up",
        )
    )
    if "intelRdt" in linux:
        from cloche.plan import resctrl

        plan += resctrl.join(facts)
    plan += [
        steps.cgroup_enter(slot, why="what the child uses is counted, and limited, here")
        for slot in tasks
    ]
    plan += final
    if kinds & flags.CLONE_NEWCGROUP:
        plan.append(
            steps.join(
                _PROCESS_SLOT,
                flags.CLONE_NEWCGROUP,
                why="through the pidfd too: no path is looked up",
            )
        )
    plan.append(
        steps.open_root("/", clone=False, why="every path from here on is resolved beneath it")
    )
    plan += _console(facts)
    plan += privileges.limits(facts)
    plan += process.settle(facts)
    plan += privileges.drop(facts)
    plan += privileges.filters_before_waiting(facts)
    plan += process.wait_for_start(facts, NO_SLOT)
    plan += privileges.filters_at_the_end(facts)
    plan.append(process.become(facts))
    plan += process.watch_exec(facts)
    return Plan(tuple(plan), privileges.warnings(facts))


def _console(facts: Situation) -> list[Step]:
    if STDIO_TERMINAL not in facts.launch.stdio:
        return []
    size = facts.spec["process"].get("consoleSize", {"height": 0, "width": 0})
    return [
        steps.console(
            "",
            rows=size["height"],
            columns=size["width"],
            uid=facts.spec["process"].get("user", {}).get("uid", 0),
            why="a terminal of the container's own devpts; only its other end is the host's",
        )
    ]
