"""Throw-away layers: overlays whose upper directory lives in memory and dies with the container.

A spec asks for them in two ways: for the root by the annotation ``cloche.root=overlay``, for any
other place by a mount of type overlay with the option ``x-cloche.scratch``.  All share one tmpfs,
mounted at ``<container's directory>/scratch`` and never reachable from inside: what becomes the
container's root is a mount on top of a directory in it.

In a container with users of its own the lower directories' files would belong to nobody there.
Where the launcher is privileged, it clones them with their owners mapped (since 5.19 overlayfs
takes such layers, Documentation/filesystems/idmappings.rst); the clones are attached in the tmpfs.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec, Unsupported
from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import SLOTS, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import Mount

FIRST_SLOT = 40
ROOT_ANNOTATION = "cloche.root"
SCRATCH_OPTION = "x-cloche.scratch"


def is_root(situation: Situation) -> bool:
    """Whether the root itself is such an overlay."""
    kind = situation.spec.get("annotations", {}).get(ROOT_ANNOTATION, "")
    if kind not in ("", "overlay"):
        raise InvalidSpec(
            f"/annotations/{ROOT_ANNOTATION}", f"is {kind!r} but must be a kind of root"
        )
    return kind == "overlay"


def lower(situation: Situation) -> str:
    """Return the root directory that the spec names.

    Raises InvalidSpec when it isn't absolute: relative ones are the bundle's, whose place the
    caller knows.
    """
    path = situation.spec.get("root", {}).get("path", "")
    if not path.startswith("/"):
        raise InvalidSpec("/root/path", f"is {path!r} but must be an absolute path")
    return path


def root_path(situation: Situation) -> str:
    """Return where the overlay of the root is mounted."""
    return f"{_directory(situation)}/root"


def host_trees(situation: Situation) -> list[Step]:
    """Clone the lower directories with mapped owners, where that is needed and can be done."""
    return [
        steps.idmap_tree(
            slot, source, why="files of the host's root shall be those of the container's root"
        )
        for source, (slot, _) in _mapped(situation).items()
    ]


def _mapped(situation: Situation) -> dict[str, tuple[int, str]]:
    """Return slot and place of each lower directory that is cloned."""
    possible = situation.makes(flags.CLONE_NEWUSER) and situation.host_is_privileged
    if not possible or situation.features.kernel < (5, 19):
        return {}
    sources = [lower(situation)] if is_root(situation) else []
    for mount in situation.spec.get("mounts", []):
        if SCRATCH_OPTION in mount.get("options", []):
            sources += lowers(mount)
    unique = list(dict.fromkeys(sources))
    if FIRST_SLOT + len(unique) > SLOTS:
        raise Unsupported(f"more than {SLOTS - FIRST_SLOT} directories beneath throw-away layers")
    directory = _directory(situation)
    return {
        source: (FIRST_SLOT + index, f"{directory}/lower{index}")
        for index, source in enumerate(unique)
    }


def lowers(mount: Mount) -> list[str]:
    """Return the directories of a mount's option lowerdir, topmost first."""
    for option in mount.get("options", []):
        if option.startswith("lowerdir="):
            return _split(option.removeprefix("lowerdir="))
    return []


def lower_option(situation: Situation, directories: list[str]) -> str:
    """Return the option lowerdir for these directories, or for their clones."""
    mapped = _mapped(situation)
    places = [mapped[path][1] if path in mapped else path for path in directories]
    return "lowerdir=" + ":".join(_escape(path) for path in places)


def mount_point(situation: Situation) -> list[Step]:
    """Make the mount point of the layers' tmpfs on the host, where the spec wants any."""
    if not _count(situation):
        return []
    return [
        steps.make_dir(
            _directory(situation), 0o755, why="the mount point of the layers that are thrown away"
        )
    ]


def scratch(situation: Situation) -> list[Step]:
    """Mount the tmpfs of the layers, make their directories, and the overlay of the root."""
    count = _count(situation)
    if not count:
        return []
    directory = _directory(situation)
    plan = [
        steps.mount_on_host(
            "tmpfs",
            "tmpfs",
            ("mode=0755",),
            flags.MOUNT_ATTR_NOSUID | flags.MOUNT_ATTR_NODEV,
            directory,
            why="what is written to throw-away layers lives in memory",
        )
    ]
    for index in range(count):
        plan += [
            steps.make_dir_on_mount(
                f"{directory}/{layer}{index}",
                0o755,
                why="an overlay keeps what is written in upper and prepares it in work",
            )
            for layer in ("upper", "work")
        ]
    for slot, path in _mapped(situation).values():
        plan.append(steps.make_dir_on_mount(path, 0o755, why="where a lower directory is attached"))
        plan.append(steps.attach_tree(slot, path, why="an overlay finds its layers by path"))
    if is_root(situation):
        path = root_path(situation)
        plan.append(steps.make_dir_on_mount(path, 0o755, why="where the root is assembled"))
        plan.append(
            steps.mount_on_host(
                "overlay",
                "overlay",
                (lower_option(situation, [lower(situation)]), *writable(situation, 0)),
                0,
                path,
                why="the root directory is only read; what is written lies on top and vanishes",
            )
        )
    return plan


def number(situation: Situation, mount_index: int) -> int:
    """Return the number of the throw-away layer of one of the spec's mounts."""
    before = situation.spec.get("mounts", [])[:mount_index]
    return is_root(situation) + sum(SCRATCH_OPTION in mount.get("options", []) for mount in before)


def writable(situation: Situation, layer: int) -> tuple[str, ...]:
    """Return the options that give an overlay its throw-away layer."""
    directory = _escape(_directory(situation))
    options = (f"upperdir={directory}/upper{layer}", f"workdir={directory}/work{layer}")
    if situation.in_user_namespace:
        # Without CAP_SYS_ADMIN in the initial namespace overlayfs keeps its marks in
        # user.overlay.* instead of trusted.overlay.* (since 5.11).
        return (*options, "userxattr")
    return options


def _directory(situation: Situation) -> str:
    return f"{situation.launch.directory}/scratch"


def _count(situation: Situation) -> int:
    return number(situation, len(situation.spec.get("mounts", [])))


def _escape(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:")


def _split(text: str) -> list[str]:
    """Undo ``_escape`` and the joining by colons."""
    parts = [""]
    letters = iter(text)
    for letter in letters:
        if letter == ":":
            parts.append("")
        else:
            parts[-1] += next(letters, "") if letter == "\\" else letter
    return parts
