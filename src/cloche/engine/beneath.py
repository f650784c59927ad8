"""Read files of a root directory that may be hostile, from outside the container.

Some facts about paths in a foreign root, and what follows from them:

- A symbolic link in it means a path in *it*; opened as it stands it would lead to the host's
  files.  So each component is opened on its own, from the directory before it, without
  following links, and links are followed here, with the root as "/".
- ``..`` of the root is the root itself.
- A file may be a FIFO, on which open(2) waits for ever, or a device that acts when opened.  So
  everything is opened with ``O_PATH`` first, which touches nothing, and only what proves to be a
  regular file is opened to be read.

This is what openat2(2) does with ``RESOLVE_IN_ROOT``, which Python can't call without ctypes and
its milliseconds.
"""

from __future__ import annotations

import errno
import os
import stat

_HERE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_LINKS = 40  # MAXSYMLINKS of the kernel


def read(root: str, path: str, limit: int = 1 << 20) -> bytes:
    """Return the content of a regular file beneath a root directory, at most ``limit`` bytes.

    Raises OSError as open(2) would, ``EINVAL`` for what isn't a regular file, and ``EFBIG`` for a
    file that is longer.
    """
    found = _find(root, path)
    try:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise _error(errno.EINVAL, path)
        with open(f"/proc/self/fd/{found}", "rb", buffering=0) as file:
            data = file.read(limit + 1)
    finally:
        os.close(found)
    if len(data) > limit:
        raise _error(errno.EFBIG, path)
    return data


def is_file(root: str, path: str) -> bool:
    """Whether a regular file is there beneath a root directory."""
    try:
        found = _find(root, path)
    except OSError:
        return False
    try:
        return stat.S_ISREG(os.fstat(found).st_mode)
    finally:
        os.close(found)


def _find(root: str, path: str) -> int:
    """Return an ``O_PATH`` descriptor of what a path means with ``root`` as "/"."""
    trail = [os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)]
    try:
        todo = path.split("/")[::-1]
        links = 0
        while todo:
            name = todo.pop()
            if name == "..":
                if len(trail) > 1:
                    os.close(trail.pop())
                continue
            if name in ("", "."):
                continue
            trail.append(os.open(name, _HERE, dir_fd=trail[-1]))
            mode = os.fstat(trail[-1]).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MOST_LINKS:
                    raise _error(errno.ELOOP, path)
                target = os.readlink("", dir_fd=trail[-1])
                for _ in range(len(trail) - 1 if target.startswith("/") else 1):
                    os.close(trail.pop())
                todo += target.split("/")[::-1]
            elif todo and not stat.S_ISDIR(mode):
                raise _error(errno.ENOTDIR, path)
        return trail.pop()
    finally:
        for descriptor in trail:
            os.close(descriptor)


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)
