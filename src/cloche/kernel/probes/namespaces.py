"""The wall "namespaces": the eight kinds, id maps, and what networks are made with."""

from __future__ import annotations

import os
import signal

from cloche.kernel import flags, idmap, syscalls
from cloche.kernel.features import Features, Finding, read, userns_obstacle
from cloche.kernel.probes import child

_WALL = "namespaces"
_LIMITS = {"mount": "mnt", "network": "net"}


def probe(features: Features) -> list[Finding]:
    """Find out about namespaces, as the caller and as an unprivileged process."""
    found: list[Finding] = []
    for name, kind in flags.NAMESPACE_KINDS.items():
        found += _kind(name, kind)
    found.append(_joining())
    found.append(_obstacles())
    found += _id_maps(features)
    for name, use, package in _PROGRAMS:
        path = idmap.find_program(name)
        how = f"{path} is there" if path else f"no {name} on the search path"
        hint = "" if path else f"install {package}: {use}"
        found.append(Finding(_WALL, name, "yes" if path else "no", how, hint))
    tun = os.access("/dev/net/tun", os.R_OK | os.W_OK)
    how = f"/dev/net/tun {'can' if tun else 'can not'} be opened for writing"
    found.append(Finding(_WALL, "tun device", "yes" if tun else "no", how))
    return found


_PROGRAMS = (
    ("nft", "container networks need its rules", "nftables"),
    ("pasta", "an unprivileged user's containers reach the network through it", "passt"),
)


def _kind(name: str, kind: int) -> list[Finding]:
    word = f"CLONE_NEW{_word(name)}"
    limit = f"user.max_{_LIMITS.get(name, name)}_namespaces"
    maximum = read(f"/proc/sys/{limit.replace('.', '/')}").decode().strip()
    hint = f"sysctl {limit} is {maximum}; needs CAP_SYS_ADMIN" if maximum else "not in this kernel"
    outcome = child.attempt(lambda: syscalls.unshare(kind))
    found = [
        child.finding(_WALL, f"{name} namespace", f"unshare({word}) in a child", outcome, hint)
    ]
    if kind == flags.CLONE_NEWUSER:
        tried, kinds = f"unshare({word}) and writing its maps, without privileges", 0
    else:
        tried, kinds = f"unshare(CLONE_NEWUSER|{word}), without privileges", kind
    outcome = child.attempt(lambda: child.enter_user_namespace(kinds), unprivileged=True)
    hint = userns_obstacle() or hint
    found.append(child.finding(_WALL, f"{name} namespace, unprivileged", tried, outcome, hint))
    return found


def _word(name: str) -> str:
    return {"mount": "NS", "network": "NET"}.get(name, name.upper())


def _joining() -> Finding:
    outcome = child.attempt(_join_by_pidfd)
    return child.finding(_WALL, "joining by pidfd", "setns(pidfd, CLONE_NEWUTS)", outcome)


def _join_by_pidfd() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    try:
        syscalls.setns(os.pidfd_open(pid), flags.CLONE_NEWUTS)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _obstacles() -> Finding:
    obstacle = userns_obstacle()
    how = obstacle or "no sysctl of kernel.* or user.* forbids it"
    hint = f"an administrator can change it: sysctl {obstacle.split(' = ')[0]}" if obstacle else ""
    return Finding(
        _WALL, "user namespaces allowed by sysctl", "no" if obstacle else "yes", how, hint
    )


def _id_maps(features: Features) -> list[Finding]:
    found = [
        _subordinate(features, "subordinate uids", idmap.SUBUID, "--add-subuids"),
        _subordinate(features, "subordinate gids", idmap.SUBGID, "--add-subgids"),
    ]
    for name in ("newuidmap", "newgidmap"):
        path = idmap.find_program(name)
        problem = idmap.problem(path) if path else "isn't on the search path"
        if path and not problem and b"\nNoNewPrivs:\t1" in read("/proc/self/status"):
            problem = "can't gain privileges: the caller has no_new_privs set"
        how = f"{path or name} {problem or 'is setuid root or has the capability'}"
        hint = "install uidmap (Debian, Ubuntu) or shadow-utils (Fedora)" if problem else ""
        found.append(Finding(_WALL, name, "no" if problem else "yes", how, hint))
    return found


def _subordinate(features: Features, name: str, file: str, option: str) -> Finding:
    if features.may("CAP_SETUID"):
        return Finding(_WALL, name, "yes", "the caller has CAP_SETUID and may map any ids")
    user = features.user or str(features.uid)
    total = sum(each.size for each in idmap.subordinate_ids(file, features.user, features.uid))
    how = f"{file} grants {total} ids to {user}"
    hint = "" if total else f"usermod {option} 100000-165535 {user}"
    return Finding(_WALL, name, "yes" if total else "no", how, hint)
