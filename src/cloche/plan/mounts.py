"""Mounts of a spec, each turned into steps.

A mount of the spec is one of three things: a file system of its own (``proc``, ``tmpfs`` ...), a
bind of something of the host, or a change to a mount that is there (``remount``).

In a user namespace the kernel lets a new proc, sysfs or mqueue be mounted only by the owner of
the pid, network or ipc namespace it would show.  Where that one is shared with the host, the
host's own is bound instead, recursively, so that nothing that is mounted over it is uncovered.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec, Unsupported
from cloche.kernel import flags
from cloche.plan import cgroups, overlay, steps
from cloche.plan.situation import Situation
from cloche.plan.steps import NO_SLOT, Step
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Mount

_HOST_COPIES = {
    "proc": (flags.CLONE_NEWPID, "/proc"),
    "sysfs": (flags.CLONE_NEWNET, "/sys"),
    "mqueue": (flags.CLONE_NEWIPC, "/dev/mqueue"),
}
_WHY = {
    "proc": "shows the processes of the container's pid namespace, and no others",
    "sysfs": "shows the devices of the container's network namespace",
    "devpts": "pseudo-terminals of its own",
    "mqueue": "message queues of its own",
    "tmpfs": "writable, in memory, gone with the container",
    "overlay": "the directory is only read; what is written lies on top",
}
_HANDLED_ACTIONS = frozenset({"remount"})
CREATE_OPTION = "x-cloche.create"
"""Option of a bind: the source is a directory of the host that is made if it is missing."""
_OWN_OVERLAY_OPTIONS = (overlay.SCRATCH_OPTION, "lowerdir=")


class Parsed(Record):
    """What a mount's options ask for."""

    is_bind: bool
    recursive: bool
    propagation: int
    flags: flags.MountFlags


def parse(mount: Mount, situation: Situation, index: int) -> Parsed:
    """Sort a mount's options.

    Raises InvalidSpec or Unsupported for what can't be done.
    """
    parsed = flags.mount_flags(mount.get("options", ()))
    pointer = f"/mounts/{index}/options"
    for action in sorted(parsed.actions - _HANDLED_ACTIONS):
        raise Unsupported(f"config.json: {pointer}: {action} isn't supported yet")
    if mount.get("uidMappings") or mount.get("gidMappings"):
        raise Unsupported(f"config.json: /mounts/{index}: id-mapped mounts aren't supported yet")
    if len(parsed.propagation) > 1:
        raise InvalidSpec(pointer, "more than one propagation is asked for")
    is_bind = bool(parsed.bind) or mount.get("type") == "bind"
    source = mount.get("source", "")
    if is_bind and not source.startswith("/"):
        raise InvalidSpec(f"/mounts/{index}/source", f"not an absolute path: {source!r}")
    if is_bind and "remount" not in parsed.actions:
        for option in parsed.data:
            if option != CREATE_OPTION:
                raise InvalidSpec(pointer, f"has {option!r} but must be options of a bind mount")
    if situation.devices_are_open and not _is_in_dev(mount["destination"]):
        parsed = parsed._replace(set=parsed.set | flags.MOUNT_ATTR_NODEV)
        if is_bind:  # with what is mounted beneath the source
            wanted = parsed.set_recursive | flags.MOUNT_ATTR_NODEV
            parsed = parsed._replace(set_recursive=wanted)
    return Parsed(
        is_bind,
        bool(parsed.bind & flags.MS_REC),
        parsed.propagation[0] if parsed.propagation else 0,
        parsed,
    )


def _is_in_dev(path: str) -> bool:
    return path.rstrip("/") == "/dev" or path.startswith("/dev/")


def missing_sources(situation: Situation) -> list[Step]:
    """Make the directories that binds name as sources and allow to be missing."""
    return [
        steps.make_dir(
            mount["source"], 0o755, keep=True, why="a volume's directory is made when first used"
        )
        for mount in situation.spec.get("mounts", [])
        if CREATE_OPTION in mount.get("options", ())
    ]


def mount_steps(mount: Mount, situation: Situation, index: int, slot: int | None) -> list[Step]:
    """Return the steps of one mount; ``slot`` holds its tree if the host has opened it."""
    parsed = parse(mount, situation, index)
    kind = mount.get("type", "")
    dest = mount["destination"]
    if "remount" in parsed.flags.actions:
        return _attributes(dest, parsed, "the options of a mount that is there already")
    if parsed.is_bind:
        source = mount["source"]
        return [_bind(source, dest, parsed, slot, f"the host's {source} is shown in the container")]
    if kind in _HOST_COPIES and situation.in_user_namespace:
        namespace, source = _HOST_COPIES[kind]
        if not situation.makes(namespace):
            whole = _with_all_beneath(parsed)
            why = f"a new {kind} needs a namespace of its own; the host's is shown instead"
            return [_bind(source, dest, whole, slot, why)]
    if kind in ("cgroup", "cgroup2"):
        return cgroups.mount_steps(situation, dest, parsed.flags.set, index)
    if not kind:
        raise InvalidSpec(f"/mounts/{index}/type", "missing, and it isn't a bind mount")
    return _new(mount, parsed, situation, index)


def _new(mount: Mount, parsed: Parsed, situation: Situation, index: int) -> list[Step]:
    kind = mount["type"]
    dest = mount["destination"]
    options = tuple(option for option in parsed.flags.data if _is_kept(option, kind, situation))
    if kind == "overlay" and overlay.SCRATCH_OPTION in options:
        options = (
            overlay.lower_option(situation, overlay.lowers(mount)),
            *(option for option in options if not option.startswith(_OWN_OVERLAY_OPTIONS)),
            *overlay.writable(situation, overlay.number(situation, index)),
        )
    plan = [
        steps.mount(
            kind,
            mount.get("source", kind),
            options,
            parsed.flags.set,
            dest,
            propagation=parsed.propagation,
            why=_WHY.get(kind, "a file system of its own"),
        )
    ]
    if parsed.flags.set_recursive or parsed.flags.clear_recursive:
        plan += _attributes(dest, parsed, "the options that count for all mounts beneath too")
    return plan


def _is_kept(option: str, kind: str, situation: Situation) -> bool:
    # A group that the user namespace doesn't map can't own anything in it (EINVAL).
    if kind != "devpts" or not option.startswith("gid="):
        return True
    gid = option.removeprefix("gid=")
    return not gid.isdecimal() or situation.maps_gid(int(gid))


def _bind(source: str, dest: str, parsed: Parsed, slot: int | None, why: str) -> Step:
    return steps.bind(
        source,
        dest,
        slot=NO_SLOT if slot is None else slot,
        recursive=parsed.recursive,
        set=parsed.flags.set,
        clear=parsed.flags.clear,
        set_recursive=parsed.flags.set_recursive,
        clear_recursive=parsed.flags.clear_recursive,
        propagation=parsed.propagation,
        why=why,
    )


def _with_all_beneath(parsed: Parsed) -> Parsed:
    """Return options for a mount together with all beneath it, of which each has flags of its own.

    Beneath the host's /sys lie its cgroups, debugfs and others.
    """
    wanted = parsed.flags.set | parsed.flags.set_recursive
    return parsed._replace(recursive=True, flags=parsed.flags._replace(set_recursive=wanted))


def _attributes(dest: str, parsed: Parsed, why: str) -> list[Step]:
    plan = []
    if parsed.flags.set or parsed.flags.clear:
        plan.append(
            steps.mount_attributes(dest, set=parsed.flags.set, clear=parsed.flags.clear, why=why)
        )
    if parsed.flags.set_recursive or parsed.flags.clear_recursive:
        plan.append(
            steps.mount_attributes(
                dest,
                set=parsed.flags.set_recursive,
                clear=parsed.flags.clear_recursive,
                recursive=True,
                why=why,
            )
        )
    return plan
