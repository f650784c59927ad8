"""The container's share of caches and memory bandwidth: ``linux.intelRdt``.

A group that the spec names is somebody else's, who may have made it before: it stays, and its
shares are only compared.  Without a name the container gets a group of its own.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec, Unsupported
from cloche.kernel import resctrl
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import IntelRdt

_POINTER = "/linux/intelRdt"


def create(situation: Situation) -> list[Step]:
    """Make the container's groups, on the host.

    Raises Unsupported where resctrl isn't mounted, InvalidSpec where a group that the spec names
    isn't there or has other shares.
    """
    wanted = situation.spec["linux"]["intelRdt"]
    found = _found(situation)
    name = wanted.get("closID", "")
    group = _group(situation)
    lines = _lines(wanted)
    if name:
        _compare(wanted, found, name)
    plan = []
    if not name:
        plan.append(steps.make_dir(group, 0o755, why="the container's own share of the caches"))
    elif found.schemata is None:
        plan.append(
            steps.make_dir(group, 0o755, keep=True, why="a group that other containers may share")
        )
    if lines:
        plan.append(
            steps.cgroup_set(
                f"{group}/schemata",
                "".join(f"{line}\n" for line in lines),
                why="how much of each cache and memory bus the group may use",
            )
        )
    if wanted.get("enableMonitoring"):
        counted = f"{group}/mon_groups/{situation.launch.id}"
        plan.append(steps.make_dir(counted, 0o755, why="what the container uses is counted here"))
    return plan


def join(situation: Situation) -> list[Step]:
    """Move the child into the groups."""
    wanted = situation.spec["linux"]["intelRdt"]
    group = _group(situation)
    groups = [group]
    if wanted.get("enableMonitoring"):
        groups.append(f"{group}/mon_groups/{situation.launch.id}")
    return [
        steps.resctrl_join(path, why="its children are born in the same group") for path in groups
    ]


def own_groups(wanted: IntelRdt, mount: str, id: str) -> list[str]:
    """Return the groups to be removed with a container, in this order."""
    name = wanted.get("closID", "")
    group = resctrl.place(mount, name or id)
    counted = [f"{group}/mon_groups/{id}"] if wanted.get("enableMonitoring") else []
    return counted if name else [*counted, group]


def _found(situation: Situation) -> resctrl.Resctrl:
    found = situation.launch.resctrl
    if found is None or not found.mount:
        raise Unsupported(
            "the file system resctrl isn't mounted here",
            pointer=_POINTER,
            hint="where the processor has RDT and the kernel CONFIG_X86_CPU_RESCTRL: "
            "mount -t resctrl resctrl /sys/fs/resctrl",
        )
    return found


def _group(situation: Situation) -> str:
    name = situation.spec["linux"]["intelRdt"].get("closID", "")
    return resctrl.place(_found(situation).mount, name or situation.launch.id)


def _lines(wanted: IntelRdt) -> list[str]:
    """Return the lines to be written, in the order that the specification wants."""
    lines = [wanted.get("l3CacheSchema", ""), wanted.get("memBwSchema", "")]
    return [line for line in (*lines, *wanted.get("schemata", [])) if line]


def _compare(wanted: IntelRdt, found: resctrl.Resctrl, name: str) -> None:
    if found.schemata is None:
        if not _lines(wanted):
            raise InvalidSpec(
                f"{_POINTER}/closID",
                f"is {name} but must be a group in {found.mount}, or have shares to make it from",
            )
        return
    for field, line in (
        ("l3CacheSchema", wanted.get("l3CacheSchema", "")),
        ("memBwSchema", wanted.get("memBwSchema", "")),
    ):
        if line and resctrl.differs(found.schemata, line):
            raise InvalidSpec(
                f"{_POINTER}/{field}",
                f"is there but must not be: the group {name} has other shares already",
            )
