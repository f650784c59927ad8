"""Subordinate ids: the uids and gids that a user may map into a user namespace of his own.

An unprivileged process may map one uid only, its own (user_namespaces(7)).  More takes the
setuid programs newuidmap(1) and newgidmap(1), which allow what the administrator granted in
``/etc/subuid`` and ``/etc/subgid`` (subuid(5)): lines of ``user:first:count``, where the user is
a name or a number.
"""

from __future__ import annotations

import os
import stat

from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SUBUID = "/etc/subuid"
SUBGID = "/etc/subgid"

_SET_ID_CAPABILITY = {"newuidmap": 7, "newgidmap": 6}
"""CAP_SETUID and CAP_SETGID: what a file capability must hold in place of the setuid bit."""


class Range(Record):
    """A run of ids."""

    first: int
    size: int


def subordinate_ids(path: str, user: str, uid: int) -> tuple[Range, ...]:
    """Return the ranges granted to a user, by name or number, in a subuid(5) file.

    A missing file grants nothing.  Lines that aren't of the form are skipped, as newuidmap does.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except (FileNotFoundError, PermissionError):
        return ()
    owners = (os.fsencode(user), b"%d" % uid) if user else (b"%d" % uid,)
    return tuple(_granted(content, owners))


def _granted(content: bytes, owners: tuple[bytes, ...]) -> Iterator[Range]:
    for line in content.splitlines():
        fields = line.strip().split(b":")
        if len(fields) != 3 or fields[0] not in owners:
            continue
        if fields[1].isdigit() and fields[2].isdigit() and int(fields[2]) > 0:
            yield Range(int(fields[1]), int(fields[2]))


def mapped(path: str) -> tuple[Range, ...]:
    """Return the ids that exist in a user namespace, by its uid_map or gid_map."""
    with open(path, "rb", buffering=0) as file:
        fields = [line.split() for line in file.read(1 << 16).splitlines()]
    return tuple([Range(int(first), int(size)) for first, _, size in fields])


def find_program(name: str, path: str | None = None) -> str | None:
    """Return where a program is on a search path (``PATH`` by default), or None.

    The directories of system programs are searched too: an ordinary user's PATH lacks them.
    """
    directories = (path if path is not None else os.environ.get("PATH", "")).split(":")
    for directory in (*directories, "/usr/bin", "/usr/sbin", "/sbin"):
        if not directory.startswith("/"):
            continue
        candidate = f"{directory}/{name}"
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
    return None


def problem(program: str) -> str:
    """Return why newuidmap or newgidmap, at this path, can't do its work; empty if it can.

    The kernel grants a setuid bit or a file capability at execve(2) only when the file system
    isn't mounted nosuid and the caller hasn't set no_new_privs.
    """
    try:
        status = os.stat(program)
        nosuid = os.statvfs(program).f_flag & os.ST_NOSUID
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    setuid_root = status.st_uid == 0 and status.st_mode & stat.S_ISUID
    if not setuid_root and not _has_file_capability(program):
        return "is neither setuid root nor has the file capability"
    if nosuid:
        return "lies on a file system mounted nosuid"
    return ""


def _has_file_capability(program: str) -> bool:
    """Whether the file's ``security.capability`` (struct vfs_cap_data) permits setting ids."""
    wanted = _SET_ID_CAPABILITY.get(os.path.basename(program))
    try:
        data = os.getxattr(program, "security.capability")
    except OSError:
        return False
    if wanted is None or len(data) < 8:
        return False
    return bool(int.from_bytes(data[4:8], "little") >> wanted & 1)


def usable_program(name: str) -> str | None:
    """Return the path of newuidmap or newgidmap if it is there and can do its work."""
    program = find_program(name)
    return program if program and not problem(program) else None
