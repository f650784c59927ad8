"""Landlock: access rules that a process puts on itself (landlock(7))."""

from __future__ import annotations

LANDLOCK_CREATE_RULESET_VERSION = 1
_NR_LANDLOCK_CREATE_RULESET = 444
"""The same on every architecture, as are all system calls since Linux 5.1."""


def abi() -> int:
    """Return the version of Landlock that the kernel offers, 0 for none.

    0 also when Landlock is built in but left out of the boot parameter ``lsm=``
    (``EOPNOTSUPP``).  Asks the kernel by a system call, and so loads ctypes: not for the start
    path.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    version: int = libc.syscall(
        ctypes.c_long(_NR_LANDLOCK_CREATE_RULESET),
        None,
        ctypes.c_size_t(0),
        ctypes.c_uint32(LANDLOCK_CREATE_RULESET_VERSION),
    )
    return max(version, 0)
