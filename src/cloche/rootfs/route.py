"""The way to a file: every directory and symbolic link that lies on it; path_resolution(7).

A program copied to where its path leads would not be found under the name it was called by:
/lib64/ld-linux-x86-64.so.2 may lie behind two links.  So a copy needs the whole route.
"""

from __future__ import annotations

import errno
import os
import stat

from cloche.record import Record

_MOST_LINKS = 40
"""The kernel gives up after so many symbolic links in one path."""


class Stop(Record):
    """One thing on the way, under its own path: no directory in front of it is a link."""

    path: str
    status: os.stat_result
    target: str = ""
    """Where it points to, for a symbolic link."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)


def follow(path: str) -> list[Stop]:
    """Return every stop on the way to an absolute path, in order; the last is what it leads to.

    Raises OSError where the way ends too early.
    """
    stops: list[Stop] = []
    place = ""
    ahead = _names(path)
    links = 0
    while ahead:
        name = ahead.pop(0)
        if name == "..":
            place = place.rpartition("/")[0]
            continue
        here = f"{place}/{name}"
        status = os.lstat(here)
        if not stat.S_ISLNK(status.st_mode):
            if ahead and not stat.S_ISDIR(status.st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            stops.append(Stop(here, status))
            place = here
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(here)
        stops.append(Stop(here, status, target))
        if target.startswith("/"):
            place = ""
        ahead = _names(target) + ahead
    place = place or "/"
    if not stops or stops[-1].path != place:  # it ended with "..", or with a link to such a place
        stops.append(Stop(place, os.lstat(place)))
    return stops


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]
