"""Trying something in a child process, so that the caller stays as it is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from cloche.kernel import flags, syscalls
from cloche.kernel.features import Features, Finding, in_user_namespace
from cloche.record import Record

NOBODY = 65534
_MOUNT_POINT = "/tmp"  # noqa: S108 - nothing of it is used: it is only a directory to mount over
_PR_SET_DUMPABLE = 4

Action = Callable[[], str | None]


class Outcome(Record):
    """How an attempt went."""

    succeeded: bool
    detail: str
    """What the action returned, or the failed call and its errno."""


def attempt(action: Action, *, unprivileged: bool = False) -> Outcome:
    """Run an action in a child; an OSError that it raises is how it failed.

    ``unprivileged`` takes root's privileges away first, those over the machine: root of a user
    namespace has none, and often no other user to become.  Such an action mustn't import
    anything, since the user nobody may not be able to read this program's modules.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        os.write(writing, _run(action, unprivileged).encode()[:4096])
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    if not answer:
        return Outcome(False, f"the child died of signal {status & 0x7F}")
    return Outcome(answer[0] == "+", answer[1:])


def _run(action: Action, unprivileged: bool) -> str:
    try:
        if unprivileged and os.geteuid() == 0 and not in_user_namespace():
            drop_privileges()
        return "+" + (action() or "")
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "?")
        return f"-{error.filename}: {name}" if error.filename else f"-{name}"
    except Exception as error:
        return f"-{type(error).__name__}: {error}"


def within(action: Action) -> str | None:
    """Run an action in a child of this child; an OSError with its failure, if it fails.

    A new pid namespace is entered by children only.
    """
    outcome = attempt(action)
    if not outcome.succeeded:
        call, _, name = outcome.detail.rpartition(": ")
        raise OSError(getattr(errno, name, errno.EIO), "", call or outcome.detail)
    return outcome.detail


def drop_privileges() -> None:
    """Become the user nobody, with no capabilities."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # A process that changed its uid isn't dumpable, and then its files in /proc belong to root,
    # so that it couldn't write its own uid_map.
    syscalls.prctl(_PR_SET_DUMPABLE, 1)


def enter_user_namespace(other_kinds: int = 0) -> None:
    """Enter new namespaces as an unprivileged process can: with its own ids mapped to root."""
    uid, gid = os.geteuid(), os.getegid()
    syscalls.unshare(flags.CLONE_NEWUSER | other_kinds)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"0 {uid} 1")
    _write("/proc/self/gid_map", f"0 {gid} 1")


def user_namespace(mapping: str) -> int:
    """Make a user namespace with this map of uids and gids; return its file descriptor."""
    made_reading, made_writing = os.pipe()
    done_reading, done_writing = os.pipe()
    holder = os.fork()
    if holder == 0:
        os.close(done_writing)
        try:
            syscalls.unshare(flags.CLONE_NEWUSER)
            os.close(made_writing)
            os.read(done_reading, 1)
        finally:
            os._exit(0)
    try:
        os.close(made_writing)
        os.read(made_reading, 1)
        _write(f"/proc/{holder}/uid_map", mapping)
        _write(f"/proc/{holder}/gid_map", mapping)
        return os.open(f"/proc/{holder}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(done_writing)
        os.close(made_reading)
        os.close(done_reading)
        os.waitpid(holder, 0)


def private_mounts() -> None:
    """Enter a new mount namespace whose mounts stay unseen outside, and a tmpfs in it.

    The working directory is then the tmpfs, with an empty directory ``place`` to mount on.
    """
    syscalls.unshare(flags.CLONE_NEWNS)
    syscalls.mount("", "/", "", flags.MS_REC | flags.MS_PRIVATE, "")
    syscalls.mount("tmpfs", _MOUNT_POINT, "tmpfs", 0, "mode=755")
    os.chdir(_MOUNT_POINT)
    os.mkdir("place")


def _write(path: str, text: str) -> None:
    """Write a file of /proc, without a codec: nobody may be unable to import one."""
    with open(path, "wb", buffering=0) as file:
        file.write(text.encode())


def obstacle(features: Features) -> str:
    """Return the hint for a call that was refused although the kernel knows it."""
    if not features.may("CAP_SYS_ADMIN"):
        return "needs CAP_SYS_ADMIN; an ordinary user's containers do it in a user namespace"
    return "an outer container's seccomp profile or a security module may forbid it"


def finding(wall: str, name: str, tried: str, outcome: Outcome, hint: str = "") -> Finding:
    """Make a finding of an outcome."""
    if outcome.succeeded:
        detail = f" ({outcome.detail})" if outcome.detail else ""
        return Finding(wall, name, "yes", f"{tried}: worked{detail}")
    return Finding(wall, name, "no", f"{tried}: {outcome.detail}", hint)
