"""Where Cloche keeps its files.

===============================  ===========================  =================================
what                             as root                      as another user
===============================  ===========================  =================================
runtime state, lost at reboot    /run/cloche                  $XDG_RUNTIME_DIR/cloche
the rest                         /var/lib/cloche              $XDG_DATA_HOME/cloche
===============================  ===========================  =================================

``CLOCHE_STATE`` and ``CLOCHE_DATA`` name other places.

What lies there is trusted: which cgroup belongs to a dead container and is to be killed, which
filter a container gets.  So nobody else may be able to put anything there.
"""

from __future__ import annotations

import os
import stat

from cloche.errors import PermissionDenied
from cloche.kernel.features import in_user_namespace
from cloche.record import Record

_OVERFLOW_ID = 65534
"""The kernel's default, /proc/sys/kernel/overflowuid."""


class Places(Record):
    """Two directories, absolute."""

    state: str
    data: str


def places() -> Places:
    """Return the caller's places; nothing is made yet.

    Raises PermissionDenied when one of them is in the power of another user.
    """
    environment = os.environ
    state = environment.get("CLOCHE_STATE", "")
    data = environment.get("CLOCHE_DATA", "")
    root = os.geteuid() == 0
    if not state:
        state = "/run/cloche" if root else f"{_runtime_directory()}/cloche"
    if not data:
        data = "/var/lib/cloche" if root else f"{_data_home()}/cloche"
    return Places(_ours("runtime state", state), _ours("data", data))


def _data_home() -> str:
    home = os.environ.get("XDG_DATA_HOME", "")
    return home if home.startswith("/") else os.path.expanduser("~/.local/share")


def _runtime_directory() -> str:
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    if directory.startswith("/"):
        return directory
    # No login session.  In /tmp anybody may have been first, with a link to what is the caller's.
    directory = f"/tmp/cloche-{os.geteuid()}"  # noqa: S108
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionDenied(
            f"{directory} belongs to somebody else",
            hint="set XDG_RUNTIME_DIR to a directory of your own",
        )
    return directory


def _ours(purpose: str, directory: str) -> str:
    """Return a directory's path without symbolic links, after a proof that it is the caller's.

    Whoever may write to a directory may replace what is in it, and so all that is beneath: each
    directory on the way must be the caller's or root's, and not everybody's, save one such as
    /tmp, whose sticky bit protects what is there already.
    """
    real = path = os.path.realpath(directory)
    protected = False
    while True:
        try:
            status = os.stat(path)
        except FileNotFoundError:  # to be made, in the first one that is there
            path = os.path.dirname(path)
            continue
        sticky = stat.S_ISVTX if protected else 0
        if status.st_mode & (stat.S_IWOTH | sticky) == stat.S_IWOTH or not _is_trusted(status):
            raise PermissionDenied(
                f"{purpose} can't be kept in {real}: another user may write to {path}",
                hint="make a directory of your own first, and name it with "
                f"CLOCHE_{'DATA' if purpose == 'data' else 'STATE'}",
            )
        if path == "/":
            return real
        path = os.path.dirname(path)
        protected = True


def _is_trusted(status: os.stat_result) -> bool:
    if status.st_uid in (0, os.geteuid()):
        return True
    # In a user namespace the files of all who aren't mapped into it show one owner, root's too.
    return status.st_uid == _OVERFLOW_ID and in_user_namespace()
