"""The embedded image ``host``: the machine's own programs, and nothing of its secrets.

The root of such a container is stacked from what is there already, so it starts at once::

    /                overlay over the *skeleton*: a small directory tree, made once per machine
    /usr             overlay over the host's /usr, below a layer that hides parts of it
    /bin /lib ...    the host's own symbolic links into /usr (or overlays, where not merged)
    /etc/alternatives, /etc/ld.so.cache    read-only binds: always what the host has now

Some facts about overlayfs, and what follows from them:

- A lower directory is seen without the file systems mounted beneath it.  So a disk or a share
  mounted somewhere in /usr is not shown.
- A character device 0:0 in an upper layer (a *whiteout*) hides the name in the layers below.
  Anybody may make one since Linux 5.8.  So /usr/local/etc and the like, where administrators
  keep configuration, are hidden at no cost, and can be made anew inside.
- A lower directory must not change while it is in use.  So a skeleton is never altered once it
  has its name; another state of the host gives another name.

What everybody may read in /usr is shown.  A container whose root is the host's root (no user
namespace) can also read files there that are closed to others; distributions keep none.
"""

from __future__ import annotations

import errno
import os

from cloche.errors import ClocheError, PermissionDenied, Unsupported
from cloche.record import Record

VERSION = 1
"""Raised whenever the content of the skeleton changes: it is part of the skeleton's name."""

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Directories of the root that merged machines have as links into /usr; see file-hierarchy(7)."""

_BINDS = ("etc/alternatives", "etc/ld.so.cache")

_STORES = {
    "nix/store": "run/current-system/sw/bin",
    "gnu/store": "run/current-system/profile/bin",
}
"""Where NixOS and Guix keep everything, and where there the usual programs are."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CERTIFICATES = (
    "etc/ssl/certs",
    "etc/pki/ca-trust/extracted/pem",
    "etc/ca-certificates/extracted",
    "var/lib/ca-certificates",
)
"""The directories that a change of the trusted certificates touches, on the distributions."""


class Overlay(Record):
    """A directory of the container that is an overlay over directories of the host."""

    dest: str
    lowers: tuple[str, ...]
    """Host directories, topmost first, as in ``lowerdir=``."""


class HostImage(Record):
    """What to stack into the root of a container of the image ``host``."""

    root: str
    """The skeleton: the lower directory of the container's throw-away root."""
    overlays: tuple[Overlay, ...]
    """To be mounted onto that root, each with a throw-away upper directory of its own."""
    binds: tuple[tuple[str, str], ...]
    """Read-only binds: path of the host, path in the container."""
    env: tuple[str, ...]
    """The default environment, ``NAME=value``."""


def prepare(data_dir: str, host: str = "/") -> HostImage:
    """Return the image ``host``, making its skeleton in ``data_dir`` if there is none yet.

    A skeleton that is there costs a dozen system calls and no write.  ``host`` is the root
    directory that the image shows.

    Raises PermissionDenied where ``data_dir`` can't be written, and Unsupported where the file
    system can't hold the skeleton or the machine has no /usr.
    """
    host = os.path.join(os.path.abspath(host), "")
    layout = _layout(host)
    base = os.path.join(os.path.abspath(data_dir), "host")
    skeleton = os.path.join(base, _key(host, layout))
    if not os.path.isdir(skeleton):  # once per machine
        from cloche.rootfs import skeleton as builder

        try:
            builder.build(skeleton, host, layout)
        except OSError as error:
            raise _translated(error, base) from error

    overlays = [Overlay("/usr", (f"{skeleton}/usr", f"{host}usr"))]
    overlays += [Overlay(f"/{name}", (host + name,)) for name, target in layout if not target]
    path = _PATH
    store = _store(host)
    if store:
        overlays.append(Overlay(f"/{store}", (host + store,)))
        path = f"{os.path.realpath(host + _STORES[store])}:{path}"
    binds = tuple((host + path, f"/{path}") for path in _BINDS if os.path.exists(host + path))
    return HostImage(f"{skeleton}/root", tuple(overlays), binds, (f"PATH={path}",))


def _layout(host: str) -> tuple[tuple[str, str], ...]:
    """Return each of the merged names that the host has, with its link target ("": no link)."""
    layout = []
    for name in _MERGED:
        try:
            layout.append((name, os.readlink(host + name)))
        except FileNotFoundError:
            continue
        except OSError:  # EINVAL: there, and not a link
            layout.append((name, ""))
    return tuple(layout)


def _key(host: str, layout: tuple[tuple[str, str], ...]) -> str:
    """Return the name of the skeleton for this state of the host.

    It is short, since overlayfs takes at most 255 bytes for all lower directories together when
    they come through fsconfig(2).
    """
    letters = []
    for name in _MERGED:
        target = dict(layout).get(name)
        if target is None:
            letters.append("-")
        elif target in ("", f"usr/{name}"):
            letters.append("l" if target else "d")
        else:
            letters.append(f"({target.replace('%', '%25').replace('/', '%2f')})")
    return f"{VERSION}{''.join(letters)}{_certificates_changed(host):x}"


def _certificates_changed(host: str) -> int:
    """Return when the trusted certificates changed last, nanoseconds since 1970."""
    newest = 0
    for path in _CERTIFICATES:
        try:
            newest = max(newest, os.stat(host + path).st_mtime_ns)
        except OSError:
            continue
    return newest


def _store(host: str) -> str:
    """Return the store that the host's shell lives in, "" on most machines."""
    try:
        shell = os.readlink(f"{host}bin/sh")
    except OSError:
        return ""
    return next((store for store in _STORES if shell.startswith(f"/{store}/")), "")


def _translated(error: OSError, base: str) -> ClocheError:
    reason = os.strerror(error.errno or errno.EIO).lower()
    message = f"the image host can't be prepared in {base}: {reason}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(message, hint="use a data directory that you can write to")
    return Unsupported(message, hint="use a data directory on a local file system with free space")
