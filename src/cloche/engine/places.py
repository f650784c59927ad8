"""Where Cloche keeps its files.

===============================  ===========================  =================================
what                             as root                      as another user
===============================  ===========================  =================================
runtime state, lost at reboot    /run/cloche                  $XDG_RUNTIME_DIR/cloche
the rest                         /var/lib/cloche              $XDG_DATA_HOME/cloche
===============================  ===========================  =================================

``CLOCHE_STATE`` and ``CLOCHE_DATA`` name other places.
"""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from cloche.errors import PermissionDenied


class Places(NamedTuple):
    """Two directories, absolute."""

    state: str
    data: str


def places() -> Places:
    """Return the caller's places; nothing is made yet.

    Raises PermissionDenied when the place that must serve as runtime directory is another
    user's.
    """
    environment = os.environ
    state = environment.get("CLOCHE_STATE", "")
    data = environment.get("CLOCHE_DATA", "")
    root = os.geteuid() == 0
    if not state:
        state = "/run/cloche" if root else f"{_runtime_directory()}/cloche"
    if not data:
        data = "/var/lib/cloche" if root else f"{_data_home()}/cloche"
    return Places(os.path.abspath(state), os.path.abspath(data))


def _data_home() -> str:
    home = os.environ.get("XDG_DATA_HOME", "")
    return home if home.startswith("/") else os.path.expanduser("~/.local/share")


def _runtime_directory() -> str:
    directory = os.environ.get("XDG_RUNTIME_DIR", "")
    if directory.startswith("/"):
        return directory
    # No login session.  /tmp is everybody's, so the directory must be proven to be ours.
    uid = os.geteuid()
    directory = f"/tmp/cloche-{uid}"
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        pass
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o022:
        raise PermissionDenied(
            f"{directory} belongs to somebody else",
            hint="set XDG_RUNTIME_DIR to a directory of your own",
        )
    return directory
