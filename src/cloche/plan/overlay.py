"""Throw-away layers: overlays whose upper directory lives in memory and dies with the container.

A spec asks for them in two ways: for the root by the annotation ``cloche.root=overlay``, for any
other place by a mount of type overlay with the option ``x-cloche.scratch``.  All share one tmpfs,
mounted at ``<container's directory>/scratch`` and never reachable from inside: what becomes the
container's root is a mount on top of a directory in it.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import Step

ROOT_ANNOTATION = "cloche.root"
SCRATCH_OPTION = "x-cloche.scratch"


def is_root(situation: Situation) -> bool:
    """Whether the root itself is such an overlay."""
    kind = situation.spec.get("annotations", {}).get(ROOT_ANNOTATION, "")
    if kind not in ("", "overlay"):
        raise InvalidSpec(f"/annotations/{ROOT_ANNOTATION}", f"unknown kind of root {kind!r}")
    return kind == "overlay"


def lower(situation: Situation) -> str:
    """Return the root directory that the spec names.

    Raises InvalidSpec when it isn't absolute: relative ones are the bundle's, whose place the
    caller knows.
    """
    path = situation.spec.get("root", {}).get("path", "")
    if not path.startswith("/"):
        raise InvalidSpec("/root/path", f"not an absolute path: {path!r}")
    return path


def root_path(situation: Situation) -> str:
    """Return where the overlay of the root is mounted."""
    return f"{_directory(situation)}/root"


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
        for layer in ("upper", "work"):
            plan.append(
                steps.make_dir_on_mount(
                    f"{directory}/{layer}{index}",
                    0o755,
                    why="an overlay keeps what is written in upper and prepares it in work",
                )
            )
    if is_root(situation):
        path = root_path(situation)
        plan.append(steps.make_dir_on_mount(path, 0o755, why="where the root is assembled"))
        plan.append(
            steps.mount_on_host(
                "overlay",
                "overlay",
                (f"lowerdir={_escape(lower(situation))}", *writable(situation, 0)),
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
    directory = _directory(situation)
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
