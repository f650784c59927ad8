"""The wall of cgroups: what the container can use.

``cloche.plan.limits`` decides which groups there are and what is written into them; here that
becomes steps.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.kernel import flags
from cloche.kernel.cgroup.layout import Hierarchy
from cloche.plan import limits, steps
from cloche.plan.limits import Placement
from cloche.plan.situation import Situation
from cloche.plan.steps import NO_SLOT, Step


def placement(situation: Situation) -> Placement:
    """Return the container's groups, or an empty placement where the spec asks for none.

    Raises ControllerUnavailable for a limit that can't be had here.
    """
    linux = situation.spec.get("linux", {})
    path = linux.get("cgroupsPath", "")
    resources = linux.get("resources", {})
    features = situation.features
    if situation.launch.adopted:
        return limits.build_adopted(
            features.cgroups,
            resources,
            page_size=features.page_size,
            devices=situation.restricts_devices,
        )._replace(shared=not situation.launch.placeholder)
    if situation.launch.complete:
        return limits.build_complete(
            features.cgroups,
            path,
            resources,
            id=situation.launch.id,
            page_size=features.page_size,
            devices=situation.restricts_devices,
        )
    if not path:
        if any(resources.values()):
            raise InvalidSpec("/linux/cgroupsPath", "is missing but must be there for limits")
        return Placement()
    return limits.build(features.cgroups, path, resources, page_size=features.page_size)


def directories(situation: Situation) -> list[str]:
    """Return the directories of the container's groups, for commands that come later."""
    return list(placement(situation).groups)


def create(placement: Placement, slot: int, *, take: bool = False) -> list[Step]:
    """Make the groups and set their limits, before anything can run in them.

    With ``take`` a group may be there already, if it is empty.
    """
    plan = [
        steps.cgroup_parent(path, why="the group that all containers' groups are in")
        for path in placement.parents
    ]
    plan += _groups(placement, take=take)
    plan += [
        steps.cgroup_inherit(path, why="a new cpuset group has no CPU, and nothing could run in it")
        for path in placement.inherits
    ]
    plan += [
        steps.cgroup_offer(path, value, why="what isn't limited now may be later")
        for path, value in placement.offers
    ]
    plan += [
        steps.cgroup_set(
            write.path,
            write.value,
            expect=write.expect,
            why=_WHY.get(write.controller, "a limit that was asked for"),
        )
        for write in placement.writes
    ]
    if placement.program:
        plan.append(steps.device_filter(placement.into, placement.program, why=_WHY["devices"]))
    if placement.into:
        plan.append(
            steps.cgroup_open(slot, placement.into, why="the child is born in it, never outside")
        )
    return plan


def _groups(placement: Placement, *, take: bool) -> list[Step]:
    if placement.shared:
        return []  # to end what is in them would end the launcher
    if placement.adopted:
        return [
            steps.cgroup_adopt(
                path, why="systemd has made it, and keeps it while something is in it"
            )
            for path in placement.groups
        ]
    why = "a group of the container's own can be limited and counted"
    return [steps.cgroup_create(path, take=take, why=why) for path in placement.groups]


def birth_slot(placement: Placement, slot: int) -> int:
    """Return the slot of the group that the child is born in, if there is one."""
    return slot if placement.into else NO_SLOT


def join(placement: Placement) -> list[Step]:
    """Move the child into its v1 groups, where nothing can be born into."""
    return [
        steps.cgroup_join(
            path, why="from here on what the child uses is counted, and limited, here"
        )
        for path in placement.joins
    ]


def release(situation: Situation) -> list[Step]:
    """End the process that has kept the groups for the child, which is in them now."""
    pid = situation.launch.placeholder
    if not pid:
        return []
    return [steps.end_placeholder(pid, why="the container's process keeps the scope from now on")]


def mount_steps(situation: Situation, dest: str, attributes: int, index: int) -> list[Step]:
    """Show the container its own groups at ``dest``.

    Raises InvalidSpec where the machine has no cgroups.
    """
    layout = situation.features.cgroups
    if layout.version == "none":
        raise InvalidSpec(
            f"/mounts/{index}", "is of cgroups but must not be: this machine has none"
        )
    own = placement(situation)
    if layout.version == "v2":
        unified = layout.unified
        assert unified is not None
        return [_show(situation, unified, own.into, dest, attributes)]
    plan = [
        steps.mount(
            "tmpfs",
            "tmpfs",
            ("mode=0755",),
            attributes & ~flags.MOUNT_ATTR_RDONLY,
            dest,
            why="one directory for each hierarchy",
        )
    ]
    for hierarchy in layout.hierarchies:
        group = next((path for path in own.groups if path.startswith(hierarchy.mount + "/")), "")
        if not group:
            continue
        name = hierarchy.mount.rsplit("/", 1)[1]
        plan.append(_show(situation, hierarchy, group, f"{dest}/{name}", attributes))
        if len(hierarchy.controllers) > 1:
            plan += [
                steps.make_link_in_root(name, f"{dest}/{controller}", why="found by either name")
                for controller in hierarchy.controllers
            ]
    if attributes & flags.MOUNT_ATTR_RDONLY:
        plan.append(
            steps.mount_attributes(
                dest, set=flags.MOUNT_ATTR_RDONLY, why="all its directories are there now"
            )
        )
    return plan


_WHY = {
    "memory": "beyond it the container's processes are killed, not the machine's",
    "cpu": "how much of the processors it gets",
    "cpuset": "which processors and memory nodes it may use",
    "pids": "a fork bomb ends here",
    "io": "how much of the disks it gets",
    "hugetlb": "how many huge pages it may take",
    "devices": "which devices it may open, whatever nodes it finds or makes",
    "cgroup": "pass the controllers on to the container's group",
}


def _show(
    situation: Situation, hierarchy: Hierarchy, group: str, dest: str, attributes: int
) -> Step:
    if not situation.makes(flags.CLONE_NEWCGROUP):
        return steps.bind(
            group or hierarchy.own,
            dest,
            set=attributes,
            why="without a cgroup namespace a bind shows no more than the container's own group",
        )
    unified = hierarchy.version == 2
    return steps.mount(
        "cgroup2" if unified else "cgroup",
        "cgroup",
        () if unified else hierarchy.controllers,
        attributes,
        dest,
        why="shows the tree from the root of the cgroup namespace down",
    )
