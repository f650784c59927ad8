"""What a step becomes in a script: commands, and where in the script they have to stand.

A shell differs from the launcher in three ways, which the places are for:

- It changes its own namespaces, user or limits only by becoming a program (``nsenter``,
  ``unshare``, ``setpriv`` ...) that does it and then becomes the next: ``CHAIN``.
- One setpriv has to give up all privileges at once, since after it the capabilities are lost that
  another would need: ``SETPRIV``.
- After pivot_root no program of the host can be reached.  So the child first becomes all that it
  has to be, and waits.  The host gives its root the last touches (``BEFORE_PIVOT``) and moves the
  child into it (``PIVOT``).  What comes after, bash can do by itself (``INSIDE``).
"""

from __future__ import annotations

from cloche.kernel import flags
from cloche.plan.describe import Arguments
from cloche.plan.shell.quoting import word
from cloche.plan.steps import Plan
from cloche.record import Record

HERE = "here"
"""Commands for the process that the step belongs to."""
CHAIN = "chain"
"""The words of a program that becomes the rest of what its process does."""
SETPRIV = "setpriv"
"""Options for the child's last setpriv."""
HELPED = "helped"
"""Commands that the host runs in the child's mount namespace, while the child waits."""
BEFORE_PIVOT = "before pivot"
"""The same, once nothing else is left to do before pivot_root."""
PIVOT = "pivot"
"""Commands of the host from pivot_root on."""
INSIDE = "inside"
"""Commands of the child in its root: only what is built into bash."""
NOT_DONE = "not done"
"""A comment: what is beyond a shell."""
REMARK = "remark"
"""A comment: what is different from what the launcher does."""


class Piece(Record):
    """Lines of a script, without indentation, and their place."""

    place: str
    lines: tuple[str, ...]


def here(*lines: str) -> Piece:
    """Return commands for the process that the step belongs to."""
    return Piece(HERE, lines)


def not_done(reason: str) -> Piece:
    """Return the comment that something is beyond a shell."""
    return Piece(NOT_DONE, (reason,))


def remark(text: str) -> Piece:
    """Return a comment about a difference."""
    return Piece(REMARK, (text,))


class Facts(Record):
    """What the commands of one step depend on beside its arguments."""

    before_pivot: bool
    in_user_namespace: bool
    slots: dict[int, str]
    """What the slots of the plan hold: paths of namespaces, cgroups and trees."""
    mapped: dict[tuple[int, str], str]
    """By slot and source of a tree whose owners are mapped: the mapping, as a shell's word."""
    uid: int
    """The user that the program runs as."""
    bounding: int
    no_new_privs: bool
    relays_signals: bool


_SLOT_FILLERS = {
    "cgroup_open": "path",
    "idmap_tree": "source",
    "open_namespace": "path",
    "open_tree": "source",
}
"""The operations that fill a slot, with the argument that names what it holds."""


def facts(plan: Plan) -> Facts:
    """Return what the commands of a plan's first step depend on."""
    steps = {step.operation.name: Arguments(step) for step in plan.steps}
    spawn = steps.get("spawn")
    identity = steps.get("identity")
    bounding = steps.get("bounding_set")
    slots = {}
    mapped = {}
    for step in plan.steps:
        name = _SLOT_FILLERS.get(step.operation.name)
        if name is not None:
            a = Arguments(step)
            slots[a.number("slot")] = a.text(name)
            if step.operation.name == "idmap_tree":
                mapped[a.number("slot"), a.text("source")] = _mapping(a)
    return Facts(
        before_pivot=True,
        in_user_namespace=spawn is not None
        and (bool(spawn.number("kinds") & flags.CLONE_NEWUSER) or spawn.number("joined") >= 0),
        slots=slots,
        mapped=mapped,
        uid=identity.number("uid") if identity is not None else 0,
        bounding=bounding.number("keep") if bounding is not None else -1,
        relays_signals="supervise" in steps and bool(steps["supervise"].number("proxy_signals")),
        no_new_privs="no_new_privs" in steps,
    )


def _mapping(a: Arguments) -> str:
    """Return what mount(8) wants to be told of a tree's owners (``X-mount.idmap``)."""
    if not a.text("uids"):
        return '"/proc/$pid/ns/user"'
    lines = [f"u {line}" for line in a.text("uids").splitlines()]
    lines += [f"g {line}" for line in a.text("gids").splitlines()]
    return word(" ".join(line.replace(" ", ":") for line in lines))
