"""Trees of the host: what only the launcher may clone, for the child to bind.

A clone that the child takes is one of its own mounts, with its own rights.  That isn't enough for

- sources that lie behind closed directories, when the container's root is nobody on the host;
- a mount that stays connected with the host (``shared``, ``slave``): the child's mounts were cut
  off as a whole, while a clone taken in the host's namespace stays in its peer group;
- a mount whose owners are mapped, which takes a privilege over its file system.

The launcher keeps clones in slots.  Where there are more trees than slots, it fills them again
when the child has bound the first ones.  A connected tree is cloned just before it is bound: mounts
are numbered as they are made, and mountinfo lists them so, in the order of the spec then.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec, Unsupported
from cloche.kernel import flags
from cloche.plan import overlay, steps
from cloche.plan.mounts import Parsed, parse
from cloche.plan.situation import Situation
from cloche.plan.steps import Step
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Mount

FIRST_SLOT = 4
"""Slots below are for cgroups and namespaces, those from ``overlay.FIRST_SLOT`` for layers."""
CONNECTED_SLOT = overlay.FIRST_SLOT - 1
COUNT = CONNECTED_SLOT - FIRST_SLOT


class Trees(Record):
    """The clones of the host's mounts."""

    opened: dict[int, list[Step]]
    """By the index of a mount of the spec: the steps that fill slots before it is made."""
    slots: dict[int, int]
    """By the index of a mount: the slot of its tree."""
    connected: dict[int, Step]
    """By the index of a mount: the step that clones it just before it is bound."""

    def first(self) -> list[Step]:
        """Return the steps that fill the slots for the first time."""
        return self.opened[min(self.opened)] if self.opened else []

    def next(self, index: int) -> list[Step]:
        """Return the steps that fill slots anew, before the mount of this index."""
        if index in self.connected:
            return [self.connected[index]]
        return self.opened[index] if index in self.opened and index != min(self.opened) else []


def trees(situation: Situation) -> Trees:
    """Choose the mounts of the spec for which the launcher has to clone something.

    Raises InvalidSpec or Unsupported for what can't be had.
    """
    found = Trees({}, {}, {})
    begun = filled = 0
    for index, mount in enumerate(situation.spec.get("mounts", [])):
        parsed = parse(mount, situation, index)
        slot = CONNECTED_SLOT if _is_connected(parsed) else FIRST_SLOT + filled % COUNT
        step = _tree(situation, mount, parsed, index, slot)
        if step is None:
            continue
        found.slots[index] = slot
        if slot == CONNECTED_SLOT:
            found.connected[index] = step
            continue
        if filled % COUNT == 0:
            begun = index
        filled += 1
        found.opened.setdefault(begun, []).append(step)
    return found


def _is_connected(parsed: Parsed) -> bool:
    kinds = flags.MS_SHARED | flags.MS_SLAVE
    return parsed.is_bind and any(kind & kinds for kind in parsed.propagation)


def _tree(situation: Situation, mount: Mount, parsed: Parsed, index: int, slot: int) -> Step | None:
    if not parsed.is_bind or "remount" in parsed.flags.actions:
        return None
    if parsed.idmap is not None:
        return _mapped(situation, mount, parsed, index, slot)
    connected = _is_connected(parsed)
    if connected and not situation.host_is_privileged:
        raise Unsupported(
            f"mount {mount['destination']}: only root can share mounts with the host",
            pointer=f"/mounts/{index}/options",
            hint="leave out the propagation option; private is the default",
        )
    if not connected and not (situation.in_user_namespace and situation.host_is_privileged):
        return None
    return steps.open_tree(
        slot,
        mount.get("source", ""),
        recursive=parsed.recursive,
        why="taken while the host's privileges and peer groups are still at hand",
    )


def _mapped(situation: Situation, mount: Mount, parsed: Parsed, index: int, slot: int) -> Step:
    assert parsed.idmap is not None
    if not situation.host_is_privileged:
        raise Unsupported(
            f"mount {mount['destination']}: only root can map a mount's owners",
            pointer=f"/mounts/{index}",
        )
    if not parsed.idmap.uids and not situation.in_user_namespace:
        raise InvalidSpec(
            f"/mounts/{index}/options",
            "has mapped owners but must not, without mappings or a user namespace",
        )
    return steps.idmap_tree(
        slot,
        mount.get("source", ""),
        recursive=parsed.recursive,
        all_beneath=parsed.idmap.recursive,
        uids=parsed.idmap.uids,
        gids=parsed.idmap.gids,
        why="files of the host have other owners in the container",
    )
