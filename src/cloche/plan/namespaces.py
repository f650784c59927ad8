"""The wall of namespaces: what the container can see.

All new namespaces are made by one clone3, with three exceptions that the kernel forces:

- a cgroup namespace is rooted at the cgroup its maker is in, so the child makes it after it was
  moved there (cgroup_namespaces(7));
- when a user namespace is joined, what is made anew must belong to it, so it is joined first, by
  a process between launcher and child (clone(2), "CLONE_NEWUSER");
- the clocks of a time namespace can be set only as long as nobody is in it, so the child makes it
  without entering it, and then joins it (time_namespaces(7)).
"""

from __future__ import annotations

from cloche.errors import MissingDependency, Unsupported
from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import HOST, NO_SLOT, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloche.oci.spec import IDMapping

_CHILD_JOINS = (
    (flags.CLONE_NEWIPC, "share another container's System V and POSIX queues"),
    (flags.CLONE_NEWUTS, "share another hostname"),
    (flags.CLONE_NEWNET, "use a network that was set up before"),
    (flags.CLONE_NEWCGROUP, "see the cgroup tree as another container does"),
    (flags.CLONE_NEWTIME, "share another container's clocks"),
)
_NEW_TIME_NAMESPACE = "/proc/self/ns/time_for_children"


def before_spawn(situation: Situation, user_slot: int) -> list[Step]:
    """Join what only the launcher can join: a pid namespace counts for children alone."""
    plan = []
    path = situation.joins(flags.CLONE_NEWUSER)
    if path:
        plan.append(
            steps.open_namespace(
                user_slot,
                flags.CLONE_NEWUSER,
                path,
                why="the namespaces that are made shall belong to this user namespace",
            )
        )
    path = situation.joins(flags.CLONE_NEWPID)
    if path:
        plan.append(
            steps.join_namespace(
                flags.CLONE_NEWPID,
                path,
                stage=HOST,
                why="share another container's processes; only children enter a pid namespace",
            )
        )
    return plan


def spawn(situation: Situation, *, cgroup_slot: int, user_slot: int) -> Step:
    """Make the child in its new namespaces."""
    kinds = situation.new & ~(flags.CLONE_NEWCGROUP | flags.CLONE_NEWTIME)
    joins_user = situation.joins(flags.CLONE_NEWUSER) is not None
    return steps.spawn(
        kinds,
        cgroup=cgroup_slot,
        joined=user_slot if joins_user else NO_SLOT,
        joined_kinds=flags.CLONE_NEWUSER if joins_user else 0,
        why="one system call makes the process and every new namespace around it",
    )


def id_maps(situation: Situation) -> list[Step]:
    """Give the new user namespace its ids, from outside, while the child waits."""
    if not situation.makes(flags.CLONE_NEWUSER):
        return []
    if situation.host_maps_any_id:
        return [_map(situation, group) for group in (False, True)]
    plan = []
    if _is_single(situation.gid_mappings, situation.features.gid):
        plan.append(
            steps.deny_setgroups(
                why="without privileges a group map is allowed only if no group can be dropped"
            )
        )
        plan.append(_map(situation, True))
    else:
        plan.append(_map_by_program(situation, True))
    if _is_single(situation.uid_mappings, situation.features.uid):
        plan.append(_map(situation, False))
    else:
        plan.append(_map_by_program(situation, False))
    return plan


def net_devices(situation: Situation) -> list[Step]:
    """Move network devices of the host into the container's network namespace."""
    devices = situation.spec.get("linux", {}).get("netDevices", {})
    if devices and not situation.features.may("CAP_NET_ADMIN"):
        raise Unsupported(
            "only root can take network devices from the host", pointer="/linux/netDevices"
        )
    return [
        steps.net_device(
            name,
            device.get("name") or name,
            path=situation.joins(flags.CLONE_NEWNET) or "",
            why="a device of the host becomes one of the container, with its addresses",
        )
        for name, device in devices.items()
    ]


def inside(situation: Situation) -> list[Step]:
    """Enter the namespaces that the child itself joins or makes."""
    plan = []
    if situation.makes(flags.CLONE_NEWUSER):
        uid = _first(situation.uid_mappings)
        gid = _first(situation.gid_mappings)
        plan.append(
            steps.identity(
                uid,
                gid,
                None,
                why="files made from here on shall belong to the namespace's own root",
            )
        )
    for kind, why in _CHILD_JOINS:
        path = situation.joins(kind)
        if path:
            plan.append(steps.join_namespace(kind, path, why=why))
    if situation.makes(flags.CLONE_NEWCGROUP):
        plan.append(
            steps.unshare(
                flags.CLONE_NEWCGROUP,
                why="the cgroup the child is in now becomes the root of what it sees",
            )
        )
    if situation.makes(flags.CLONE_NEWTIME):
        plan += _own_time(situation)
    return plan


def _own_time(situation: Situation) -> list[Step]:
    offsets = situation.spec.get("linux", {}).get("timeOffsets", {})
    clocks = (("boottime", offsets.get("boottime")), ("monotonic", offsets.get("monotonic")))
    return [
        steps.time_namespace(
            "".join(
                f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
                for clock, offset in clocks
                if offset is not None
            ),
            why="the clocks that count from the start of the machine are the container's own",
        ),
        steps.join_namespace(
            flags.CLONE_NEWTIME,
            _NEW_TIME_NAMESPACE,
            why="who makes a time namespace isn't in it, only its children are",
        ),
    ]


def names_and_network(situation: Situation) -> list[Step]:
    """Fill the new namespaces: hostname, domain name, loopback."""
    plan = []
    name = situation.spec.get("hostname", "")
    if name:
        plan.append(steps.hostname(name, why="the container has a name of its own"))
    name = situation.spec.get("domainname", "")
    if name:
        plan.append(steps.domainname(name, why="the container has a domain of its own"))
    if situation.makes(flags.CLONE_NEWNET):
        plan.append(steps.loopback_up(why="a new network namespace has only lo, and it is down"))
    return plan


def _first(mappings: Sequence[IDMapping]) -> int:
    inside = [mapping["containerID"] for mapping in mappings]
    return 0 if 0 in inside else min(inside)


def _is_single(mappings: Sequence[IDMapping], own: int) -> bool:
    return len(mappings) == 1 and mappings[0]["size"] == 1 and mappings[0]["hostID"] == own


def _map(situation: Situation, group: bool) -> Step:
    mappings = situation.gid_mappings if group else situation.uid_mappings
    lines = "".join(
        f"{mapping['containerID']} {mapping['hostID']} {mapping['size']}\n" for mapping in mappings
    )
    ids = "group ids" if group else "user ids"
    return steps.id_map(lines, group=group, why=f"say which {ids} outside those inside are")


def _map_by_program(situation: Situation, group: bool) -> Step:
    name = "newgidmap" if group else "newuidmap"
    program = situation.features.newgidmap if group else situation.features.newuidmap
    if program is None:
        raise MissingDependency(
            f"{name} isn't installed, and without it only one's own id can be mapped",
            hint="install the package uidmap (shadow-utils on Fedora)",
        )
    mappings = situation.gid_mappings if group else situation.uid_mappings
    argv = [program]
    for mapping in mappings:
        argv += [str(mapping["containerID"]), str(mapping["hostID"]), str(mapping["size"])]
    return steps.id_map_program(
        tuple(argv), why=f"{name} may map the ids that /etc/subuid and /etc/subgid grant the user"
    )
