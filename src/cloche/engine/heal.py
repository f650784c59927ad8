"""Clean up after launchers that were killed.

A launcher removes what it made, but not when it is killed with SIGKILL.  Each container's
directory is locked for as long as its launcher lives, so a directory whose lock is free belongs
to nobody, and whoever comes next may take away what is left: processes, cgroups, files, the name.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cloche.kernel.cgroup.layout import Layout

CGROUP_FILE = "cgroup"
"""The file in a container's directory that holds the path of its cgroup."""


def heal(state: str, layout: Layout) -> list[str]:
    """Remove what dead launchers left, and return the ids of their containers.

    What can't be removed (another user's) stays, and is tried again next time.
    """
    directory = f"{state}/containers"
    try:
        ids = os.listdir(directory)
    except FileNotFoundError:
        return []
    return [id for id in ids if _heal(state, id, layout)]


def _heal(state: str, id: str, layout: Layout) -> bool:
    directory = f"{state}/containers/{id}"
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False  # gone meanwhile, or not ours
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        # Between mkdir and flock a launcher's directory is empty and free.
        if not os.listdir(fd):
            return False
        try:
            _remove(state, id, fd, layout)
        except OSError:
            return False
        return True
    finally:
        os.close(fd)


def _remove(state: str, id: str, fd: int, layout: Layout) -> None:
    path = _cgroup_path(fd)
    if path:
        from cloche.kernel.cgroup.group import Group

        group = Group(layout, path)
        group.kill()
        group.remove()
    _forget_name(state, id)
    # The directory is emptied last file first, so that a healer that is killed too leaves
    # enough for the next one.
    entries = sorted(os.listdir(fd), key=lambda name: name == CGROUP_FILE)
    for name in entries:
        try:
            os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=fd)
    os.rmdir(f"{state}/containers/{id}")


def _cgroup_path(fd: int) -> str:
    try:
        file = os.open(CGROUP_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    except FileNotFoundError:
        return ""
    try:
        return os.read(file, 4096).decode("utf-8", "surrogateescape")
    finally:
        os.close(file)


def _forget_name(state: str, id: str) -> None:
    names = f"{state}/names"
    try:
        entries = os.listdir(names)
    except FileNotFoundError:
        return
    for name in entries:
        try:
            if os.path.basename(os.readlink(f"{names}/{name}")) == id:
                os.unlink(f"{names}/{name}")
        except FileNotFoundError:
            continue
