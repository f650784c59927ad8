"""Mounts of a spec, each turned into steps.

A mount of the spec is one of three things: a file system of its own (``proc``, ``tmpfs`` ...), a
bind of something of the host, or a change to a mount that is there (``remount``).

In a user namespace the kernel lets a new proc, sysfs or mqueue be mounted only by the owner of
the pid, network or ipc namespace it would show.  Where that one is shared with the host, the
host's own is bound instead, recursively, so that nothing that is mounted over it is uncovered.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.kernel import flags
from cloche.plan import cgroups, overlay, steps
from cloche.plan.situation import Situation
from cloche.plan.steps import NO_SLOT, Step
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloche.oci.spec import IDMapping, Mount

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
_DEFAULTS = frozenset({"async", "nomand", "nolazytime"})
"""What a superblock is when nobody asks for anything."""
_OF_FILE_SYSTEMS = ("mode=", "size=", "uid=", "gid=", "nr_inodes=", "nr_blocks=")
"""Options of a tmpfs, say, that a bind mount of one is often given too."""
CREATE_OPTION = "x-cloche.create"
"""Option of a bind: the source is a directory of the host that is made if it is missing."""
_OWN_OVERLAY_OPTIONS = (overlay.SCRATCH_OPTION, "lowerdir=")


class IdMap(Record):
    """How the owners of a mount are mapped."""

    recursive: bool
    uids: str
    """Lines ``inside outside count``; empty for the map of the container's user namespace."""
    gids: str


class Parsed(Record):
    """What a mount's options ask for."""

    is_bind: bool
    recursive: bool
    propagation: tuple[int, ...]
    flags: flags.MountFlags
    idmap: IdMap | None


def destination(mount: Mount) -> str:
    """Return where a mount goes; relative destinations are relative to "/" (config.md)."""
    return "/" + mount["destination"].lstrip("/")


def parse(mount: Mount, situation: Situation, index: int) -> Parsed:
    """Sort a mount's options.

    Raises InvalidSpec or Unsupported for what can't be done.
    """
    parsed = flags.mount_flags(mount.get("options", ()))
    pointer = f"/mounts/{index}/options"
    if "tmpcopyup" in parsed.actions and mount.get("type") != "tmpfs":
        raise InvalidSpec(pointer, "has tmpcopyup but must not, unless it is a tmpfs")
    is_bind = bool(parsed.bind) or mount.get("type") == "bind"
    source = mount.get("source", "")
    if is_bind and not source.startswith("/"):
        raise InvalidSpec(f"/mounts/{index}/source", f"is {source!r} but must be an absolute path")
    if is_bind:
        for option in parsed.data:
            if option.startswith(_OF_FILE_SYSTEMS):
                continue  # left out, with a warning
            if option != CREATE_OPTION and option not in _DEFAULTS:
                raise InvalidSpec(pointer, f"has {option!r} but must be options of a bind mount")
    if situation.devices_are_open and not _is_in_dev(destination(mount)):
        parsed = parsed._replace(set=parsed.set | flags.MOUNT_ATTR_NODEV)
        if is_bind:  # with what is mounted beneath the source
            wanted = parsed.set_recursive | flags.MOUNT_ATTR_NODEV
            parsed = parsed._replace(set_recursive=wanted)
    return Parsed(
        is_bind,
        bool(parsed.bind & flags.MS_REC),
        parsed.propagation,
        parsed,
        _idmap(mount, parsed.actions, is_bind, index),
    )


def _idmap(mount: Mount, actions: frozenset[str], is_bind: bool, index: int) -> IdMap | None:
    uids, gids = mount.get("uidMappings", []), mount.get("gidMappings", [])
    if not (uids or gids or actions & {"idmap", "ridmap"}):
        return None
    if not is_bind or "remount" in actions:
        problem = "has mapped owners but must be a new bind mount for that"
        raise InvalidSpec(f"/mounts/{index}", problem)
    return IdMap("ridmap" in actions, _lines(uids), _lines(gids))


def _lines(mappings: Sequence[IDMapping]) -> str:
    return "".join(
        f"{mapping['containerID']} {mapping['hostID']} {mapping['size']}\n" for mapping in mappings
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
    dest = destination(mount)
    if "remount" in parsed.flags.actions:
        return _remount(dest, parsed)
    if parsed.is_bind:
        source = mount["source"]
        why = f"the host's {source} is shown in the container"
        return _bind(source, dest, parsed, slot, situation, why)
    if kind in _HOST_COPIES and situation.in_user_namespace:
        namespace, source = _HOST_COPIES[kind]
        if not situation.makes(namespace):
            whole = _with_all_beneath(parsed)
            why = f"a new {kind} needs a namespace of its own; the host's is shown instead"
            return _bind(source, dest, whole, slot, situation, why)
    if kind in ("cgroup", "cgroup2"):
        return cgroups.mount_steps(situation, dest, parsed.flags.set, index)
    if not kind:
        raise InvalidSpec(
            f"/mounts/{index}/type", "is missing but must be there, unless it is a bind mount"
        )
    return _new(mount, parsed, situation, index)


def _new(mount: Mount, parsed: Parsed, situation: Situation, index: int) -> list[Step]:
    kind = mount["type"]
    source = mount.get("source", kind)
    dest = destination(mount)
    options = tuple(option for option in parsed.flags.data if _is_kept(option, kind, situation))
    if kind == "overlay" and overlay.SCRATCH_OPTION in options:
        options = (
            overlay.lower_option(situation, overlay.lowers(mount)),
            *(option for option in options if not option.startswith(_OWN_OVERLAY_OPTIONS)),
            *overlay.writable(situation, overlay.number(situation, index)),
        )
    options += _label(kind, situation)
    # Nothing is beneath a new mount, so that what counts for all beneath counts for it alone.
    attributes = parsed.flags.set_recursive & ~parsed.flags.clear | parsed.flags.set
    if attributes & flags.MOUNT_ATTR_RDONLY and source.startswith("/"):
        # On a device that isn't to be written, the file system must not even replay its journal.
        options = ("ro", *options)
    first, *others = parsed.propagation or (0,)
    why = _WHY.get(kind, "a file system of its own")
    return [
        steps.mount(
            kind,
            source,
            options,
            attributes,
            dest,
            propagation=first,
            beneath=_beneath(parsed, options) if kind == "tmpfs" else 0,
            why=why,
        ),
        *_propagations(dest, others),
    ]


def _label(kind: str, situation: Situation) -> tuple[str, ...]:
    """Return the option that gives all files of a new file system the label of the spec.

    Those of proc, sysfs and mqueue are labelled by the kernel, and shared with others.
    """
    label = situation.spec.get("linux", {}).get("mountLabel", "")
    if not label or kind in _HOST_COPIES or "selinux" not in situation.features.lsm:
        return ()
    return (f"context={label}",)


def warnings(situation: Situation) -> list[str]:
    """Return what of the mounts is left out, since it would have no effect."""
    found = []
    if (
        situation.spec.get("linux", {}).get("mountLabel")
        and "selinux" not in situation.features.lsm
    ):
        found.append("config.json: /linux/mountLabel: nothing is labelled, as SELinux isn't active")
    for index, mount in enumerate(situation.spec.get("mounts", [])):
        parsed = parse(mount, situation, index)
        found += [
            f"config.json: /mounts/{index}/options: without {option!r}: a bind mount can't have it"
            for option in parsed.flags.data
            if parsed.is_bind and option.startswith(_OF_FILE_SYSTEMS)
        ]
    return found


def _beneath(parsed: Parsed, options: tuple[str, ...]) -> int:
    """Return what a tmpfs takes over from its mount point: what its options don't say."""
    given = {option.partition("=")[0] for option in options}
    taken = 0 if "mode" in given else steps.BENEATH_MODE
    if "tmpcopyup" in parsed.flags.actions:
        taken |= steps.BENEATH_CONTENT
        taken |= 0 if given & {"uid", "gid"} else steps.BENEATH_OWNER
    return taken


def _is_kept(option: str, kind: str, situation: Situation) -> bool:
    # A group that the user namespace doesn't map can't own anything in it (EINVAL).
    if kind != "devpts" or not option.startswith("gid="):
        return True
    gid = option.removeprefix("gid=")
    return not gid.isdecimal() or situation.maps_gid(int(gid))


def _bind(
    source: str, dest: str, parsed: Parsed, slot: int | None, situation: Situation, why: str
) -> list[Step]:
    # A clone of the child's own is connected as all its mounts are, one of the host's isn't.
    inherits = slot is not None and situation.propagation & flags.MS_SLAVE
    first, *others = parsed.propagation or (situation.propagation if inherits else 0,)
    return [
        steps.bind(
            source,
            dest,
            slot=NO_SLOT if slot is None else slot,
            recursive=parsed.recursive,
            set=parsed.flags.set,
            clear=parsed.flags.clear,
            set_recursive=parsed.flags.set_recursive,
            clear_recursive=parsed.flags.clear_recursive,
            propagation=first,
            why=why,
        ),
        *_propagations(dest, others),
    ]


def _propagations(dest: str, kinds: Sequence[int]) -> list[Step]:
    why = "one after the other: a slave that is shared passes on what it receives"
    return [steps.mount_attributes(dest, propagation=kind, why=why) for kind in kinds]


def _with_all_beneath(parsed: Parsed) -> Parsed:
    """Return options for a mount together with all beneath it, of which each has flags of its own.

    Beneath the host's /sys lie its cgroups, debugfs and others.
    """
    wanted = parsed.flags.set | parsed.flags.set_recursive
    return parsed._replace(recursive=True, flags=parsed.flags._replace(set_recursive=wanted))


def _remount(dest: str, parsed: Parsed) -> list[Step]:
    """Change a mount that is there, of a file system that others may have mounted too.

    Read-only and the like become attributes of the mount: the superblock of a sysfs is that of all
    who share its network namespace.
    """
    why = "the options of a mount that is there already"
    own = () if parsed.is_bind else parsed.flags.data
    plan = [steps.reconfigure(dest, own, why=why)] if own else []
    top, beneath = parsed.flags, parsed.flags
    if beneath.set_recursive or beneath.clear_recursive:
        plan.append(
            steps.mount_attributes(
                dest,
                set=beneath.set_recursive,
                clear=beneath.clear_recursive,
                recursive=True,
                why=why,
            )
        )
    if top.set or top.clear:
        plan.append(steps.mount_attributes(dest, set=top.set, clear=top.clear, why=why))
    return plan + _propagations(dest, parsed.propagation)
