"""The wall of the root: what the container can touch.

The child sees the host's mounts first, in a copy of the mount namespace that is made private.
It then builds the container's root there and moves into it::

    /                                     the host's, private copy
    +-- <state>/containers/<id>/scratch   a tmpfs, only for a throw-away overlay
    |   +-- upper0, work0 ...             what the container writes
    |   +-- root                          the overlay: the container's root
    |       +-- proc dev sys ...          mounts of the spec, in order
    +-- or the bundle's root directory, bound onto itself

    pivot_root: the container's root becomes /, the host's mounts are detached with all theirs.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.kernel import flags
from cloche.oci import sysctl
from cloche.plan import overlay, steps
from cloche.plan.mounts import mount_steps
from cloche.plan.situation import Situation
from cloche.plan.steps import Step
from cloche.plan.trees import Trees

_WHY_CUT_OFF = {
    0: "nothing that is mounted from here on may reach the host, nor the reverse",
    flags.MS_SLAVE: "nothing that is mounted from here on may reach the host",
}
_PROPAGATIONS = {
    "shared": flags.MS_SHARED,
    "unbindable": flags.MS_UNBINDABLE,
}


def build(situation: Situation, host: Trees) -> list[Step]:
    """Open the root and mount everything in it, up to where devices come."""
    plan = [
        steps.propagation(
            situation.propagation,
            why=_WHY_CUT_OFF[situation.propagation & flags.MS_SLAVE],
        )
    ]
    plan += overlay.scratch(situation)
    if overlay.is_root(situation):
        plan.append(
            steps.open_root(
                overlay.root_path(situation),
                clone=False,
                why="every path from here on is resolved beneath it",
            )
        )
    else:
        plan.append(
            steps.open_root(
                overlay.lower(situation),
                clone=True,
                why="pivot_root wants a mount point; paths from here on are resolved beneath it",
            )
        )
    if situation.devices_are_open:
        # Before anything is mounted in it, /dev above all; with what the directory has beneath it.
        plan.append(
            steps.mount_attributes(
                "/",
                set=flags.MOUNT_ATTR_NODEV,
                recursive=True,
                why="no device node in the image opens a device",
            )
        )
    for index, mount in enumerate(situation.spec.get("mounts", [])):
        plan += host.next(index)
        plan += mount_steps(mount, situation, index, host.slots.get(index))
    return plan


def enter(situation: Situation) -> list[Step]:
    """Hide what must not be seen, and make the root the only one there is."""
    linux = situation.spec.get("linux", {})
    plan = _sysctls(situation)
    plan += [
        steps.readonly(path, why="the kernel's knobs can be read but not turned")
        for path in linux.get("readonlyPaths", [])
    ]
    plan += [
        steps.mask(path, why="tells of the host, or lets it be attacked")
        for path in linux.get("maskedPaths", [])
    ]
    if situation.launch.no_pivot:
        plan.append(steps.move_root(why="an initramfs can't be pivoted away from, only be covered"))
    else:
        plan.append(
            steps.pivot_root(why="unlike after a chroot, no path or file leads back to the host")
        )
    propagation = linux.get("rootfsPropagation", "")
    kind = _PROPAGATIONS.get(propagation.removeprefix("r"))
    if kind is not None:
        recursive = flags.MS_REC if propagation.startswith("r") else 0
        why = "how mounts made in the container spread there"
        plan.append(steps.propagation(kind | recursive, why=why))
    return plan


def _sysctls(situation: Situation) -> list[Step]:
    linux = situation.spec.get("linux", {})
    own = {entry["type"] for entry in linux.get("namespaces", [])}
    plan = []
    for name, value in sorted(linux.get("sysctl", {}).items()):
        problem = sysctl.problem(name, own)
        if problem:
            raise InvalidSpec(f"/linux/sysctl/{name}", f"is there but must not be: it {problem}")
        why = "a kernel parameter of the container's namespaces"
        plan.append(steps.sysctl(sysctl.path(name), value, why=why))
    return plan


def close(situation: Situation) -> list[Step]:
    """Take from the root what the container isn't to have, after the last thing is made in it."""
    plan = []
    if situation.spec.get("root", {}).get("readonly", False):
        plan.append(
            steps.mount_attributes(
                "/", set=flags.MOUNT_ATTR_RDONLY, why="the root can be read but not written"
            )
        )
    return plan
