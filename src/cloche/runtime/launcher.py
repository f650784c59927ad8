"""Hand a plan to the launcher.

The launcher is run from a copy of its file in sealed memory, never from the file itself: a
container can reach the executable of its own first process through /proc/self/exe, and could
overwrite a file there (CVE-2019-5736).  The plan is sealed too, so that what the launcher has
checked can't change beneath it.
"""

from __future__ import annotations

import errno
import fcntl
import os

from cloche.errors import InternalError, PermissionDenied
from cloche.plan import wire
from cloche.plan.steps import Plan
from cloche.runtime import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

NAME = "cloche-launch"
_MFD_EXEC = 0x10
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def path() -> str:
    """Return the launcher's file: beside the package, or ``$CLOCHE_LAUNCHER`` in development."""
    return os.environ.get("CLOCHE_LAUNCHER") or os.path.join(
        os.path.dirname(os.path.dirname(__file__)), NAME
    )


def become(plan: Plan, options: wire.Options) -> NoReturn:
    """Replace this process with the launcher carrying out a plan.

    Raises InternalError when the launcher can't be executed at all.
    """
    program = _sealed_copy(path())
    plan_fd = _sealed("plan", wire.encode(plan, options))
    records_fd = os.memfd_create("records", 0)
    os.ftruncate(records_fd, records.size(len(plan.steps)))
    try:
        os.execve(program, [NAME, str(plan_fd), str(records_fd)], os.environ)
    except OSError as error:
        if error.errno == errno.EACCES:
            raise PermissionDenied(
                "the launcher can't be executed from memory",
                hint="set the sysctl vm.memfd_noexec to 0 or 1",
            ) from error
        raise InternalError(f"the launcher can't be executed: {error}") from error


def _sealed(name: str, data: bytes) -> int:
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _sealed_copy(file: str) -> int:
    try:
        source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise InternalError(
            f"the launcher isn't installed: {file}", hint="install Cloche again"
        ) from error
    flags = os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC
    try:
        fd = os.memfd_create(NAME, flags | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:  # MFD_EXEC is known since Linux 6.3
            raise
        fd = os.memfd_create(NAME, flags)
    try:
        left = os.fstat(source).st_size
        while left:
            left -= os.sendfile(fd, source, None, left)
    finally:
        os.close(source)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd
