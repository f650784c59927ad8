"""What a container's root is made from, whatever it comes from."""

from __future__ import annotations

import os

from cloche.errors import InvalidArgument, NotFound
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.engine.options import RunOptions
    from cloche.rootfs.host import HostImage, Overlay

HOST = "host"
"""The name of the embedded image."""
_SHELL = ("/bin/sh",)


class Image(Record):
    """A root directory, and what belongs on top of it."""

    root: str
    """The absolute path of the directory; the lower one where there is an ``overlay``."""
    overlay: bool = False
    """Whether what is written goes to a throw-away layer and not to the directory."""
    overlays: tuple[Overlay, ...] = ()
    """To be mounted in the root, each with a throw-away layer."""
    binds: tuple[tuple[str, str], ...] = ()
    """Read-only binds: path of the host, path in the container."""
    env: tuple[str, ...] = ()
    """``NAME=value``."""
    command: tuple[str, ...] = _SHELL
    """What runs when the user names no command."""


def find(options: RunOptions, data: str) -> Image:
    """Return the image that options name; ``data`` is the directory of lasting data.

    Raises NotFound for an image or a directory that isn't there, and InvalidArgument for a root
    that isn't a directory.
    """
    if options.rootfs:
        return _directory(options.rootfs, options.rootfs_overlay)
    if options.image == HOST:
        from cloche.rootfs import host

        return from_host(host.prepare(data))
    raise NotFound(
        f"image {options.image} doesn't exist",
        hint="the image that is always there is called host; --rootfs DIR takes a directory",
    )


def from_host(image: HostImage) -> Image:
    """Return the embedded image; its shell is bash where the host has it."""
    shell = ("/bin/bash",) if os.access("/bin/bash", os.X_OK) else _SHELL
    return Image(image.root, True, image.overlays, image.binds, image.env, shell)


def _directory(path: str, overlay: bool) -> Image:
    if not os.path.isdir(path):
        if os.path.exists(path):
            raise InvalidArgument(f"--rootfs {path}: isn't a directory")
        hint = "make one of the host's programs: cloche rootfs from-host DIR bash ls"
        raise NotFound(f"--rootfs {path}: doesn't exist", hint=hint)
    real = os.path.realpath(path)
    if real == "/":
        hint = "use --rootfs /:O, which keeps what is written apart, or the image host"
        if not overlay:
            raise InvalidArgument("--rootfs /: the host's own root can't be given away", hint=hint)
    return Image(real, overlay)
