"""The mounts of a container: the image's, the usual ones, and what the user asked for."""

from __future__ import annotations

import os

from cloche.engine import beneath, defaults
from cloche.engine.options import HOST, NONE, RunOptions
from cloche.engine.volumes import OVERLAY, TMPFS, Volume
from cloche.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.engine.devices import Found
    from cloche.engine.image import Image
    from cloche.oci.spec import Mount

CREATE_OPTION = "x-cloche.create"
"""The source of a bind mount is a directory to be made on the host if it is missing."""
SCRATCH_OPTION = "x-cloche.scratch"
"""An overlay gets a layer for what is written that vanishes with the container."""


def mounts(
    options: RunOptions,
    image: Image,
    files: dict[str, str],
    bound_devices: list[Found],
) -> list[Mount]:
    """Return all mounts in order: the image's, the usual ones, devices, files, the user's.

    What the user mounts takes the place of a usual mount at the same path.  ``files`` are paths
    of the container with their sources; where the root is a plain directory, only those are
    mounted that it has a file for, since nothing is to be written there.
    """
    asked = _by_depth(options.volumes)
    taken = {volume.destination for volume in asked}
    result = [mount for mount in _image_mounts(options, image) if mount["destination"] not in taken]
    for mount in defaults.mounts(options.shm_size):
        path = mount["destination"]
        if path not in taken and not ("/dev" in taken and path.startswith("/dev/")):
            result += _usual(mount, options)
    result += [
        # A user namespace can't make device nodes, so the host's are shown.
        _bind(found.source, found.device["path"], "nosuid", "noexec")
        for found in bound_devices
    ]
    for path, source in files.items():
        if path not in taken and (image.overlay or beneath.is_file(image.root, path)):
            readonly = ("ro",) if options.read_only else ()
            result.append(_bind(source, path, *readonly))
    result += [_volume_mount(volume) for volume in asked]
    return result


def _usual(mount: Mount, options: RunOptions) -> list[Mount]:
    """Return a usual mount as options want it, or nothing."""
    path = mount["destination"]
    if path == defaults.SHM and options.ipc == NONE:
        return []
    if path == "/dev/mqueue" and options.ipc == HOST and not os.path.isdir(path):
        return []
    if path == defaults.SHM and options.ipc == HOST:
        return [_bind(path, path)]
    if path.startswith("/sys") and options.privileged:
        mount["options"].remove("ro")
    return [mount]


def _by_depth(volumes: tuple[Volume, ...]) -> list[Volume]:
    """Sort volumes so that none hides another, as Docker does.

    Raises InvalidArgument when two have the same mount point.
    """
    seen = set()
    for volume in volumes:
        if volume.destination in seen:
            raise InvalidArgument(f"two volumes have the mount point {volume.destination}")
        seen.add(volume.destination)
    return sorted(volumes, key=lambda volume: volume.destination.count("/"))


def _image_mounts(options: RunOptions, image: Image) -> list[Mount]:
    result: list[Mount] = []
    for overlay in image.overlays:
        lower = "lowerdir=" + ":".join(_escaped(path) for path in overlay.lowers)
        readonly = ["ro"] if options.read_only else []
        result.append(_scratch_overlay(overlay.dest, lower, readonly))
    result += [_bind(source, path, "ro", "nosuid", "nodev") for source, path in image.binds]
    return result


def _volume_mount(volume: Volume) -> Mount:
    if volume.kind == OVERLAY:
        return _scratch_overlay(volume.destination, f"lowerdir={_escaped(volume.source)}", [])
    if volume.kind == TMPFS:
        return {
            "destination": volume.destination,
            "type": "tmpfs",
            "source": "tmpfs",
            "options": list(volume.options),
        }
    chosen = list(volume.options)
    if volume.create and not os.path.lexists(volume.source):
        chosen.append(CREATE_OPTION)
    return {
        "destination": volume.destination,
        "type": "bind",
        "source": volume.source,
        "options": chosen,
    }


def _scratch_overlay(destination: str, lower: str, more: list[str]) -> Mount:
    return {
        "destination": destination,
        "type": "overlay",
        "source": "overlay",
        "options": [lower, SCRATCH_OPTION, *more],
    }


def _bind(source: str, destination: str, *chosen: str) -> Mount:
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["bind", "rprivate", *chosen],
    }


def _escaped(path: str) -> str:
    """Escape what separates lower directories: overlayfs in the kernel's documentation."""
    return path.replace("\\", "\\\\").replace(":", "\\:")
