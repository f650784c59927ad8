"""Beside the walls: what starting and watching a process takes."""

from __future__ import annotations

import errno
import os
import signal

from cloche.kernel import idmap, syscalls
from cloche.kernel.features import Features, Finding
from cloche.kernel.probes import child

_WALL = "process"
_MFD_EXEC = 0x10
_OLDEST = (5, 14)


def probe(features: Features) -> list[Finding]:
    """Find out about the calls that make, watch and start processes."""
    version = f"{features.kernel[0]}.{features.kernel[1]}"
    supported = features.kernel >= _OLDEST
    criu = idmap.find_program("criu")
    return [
        Finding(
            _WALL,
            "kernel",
            "yes" if supported else "no",
            f"uname(2): {version} on {features.machine}",
            "" if supported else "5.14 is the oldest that works",
        ),
        _tried("clone3 with a pidfd", "clone3(CLONE_PIDFD)", _clone3),
        _tried("pidfd", "pidfd_open, pidfd_send_signal", _pidfd),
        _tried("programs in memory", "memfd_create(MFD_EXEC) with seals", _memfd, _MEMFD_HINT),
        Finding(
            _WALL,
            "criu",
            "yes" if criu else "no",
            f"{criu} is there" if criu else "no criu on the search path",
            "" if criu else "install criu for checkpoints",
        ),
    ]


_MEMFD_HINT = "sysctl vm.memfd_noexec must not be 2: the launcher runs from sealed memory"


def _tried(name: str, tried: str, action: child.Action, hint: str = "") -> Finding:
    return child.finding(_WALL, name, tried, child.attempt(action), hint)


def _clone3() -> None:
    pid, pidfd = syscalls.clone3(0)
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)


def _pidfd() -> None:
    signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 0)


def _memfd() -> None:
    import fcntl

    try:
        descriptor = os.memfd_create("probe", os.MFD_ALLOW_SEALING | _MFD_EXEC)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise OSError(error.errno, "", "memfd_create") from error
        # Before Linux 6.3 there was no such flag, and every memfd could be executed.
        descriptor = os.memfd_create("probe", os.MFD_ALLOW_SEALING)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW)
