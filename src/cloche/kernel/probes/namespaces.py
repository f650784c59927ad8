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
        found += _kind(features, name, kind)
    found.append(_joining(features))
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


def _kind(features: Features, name: str, kind: int) -> list[Finding]:
    word = f"CLONE_NEW{_word(name)}"
    hint = _limit(name)
    outcome = child.attempt(lambda: syscalls.unshare(kind))
    title = f"{name} namespace"
    tried = f"unshare({word}) in a child"
    found = [child.finding(_WALL, title, tried, outcome, hint or child.obstacle(features))]
    if kind == flags.CLONE_NEWUSER:
        tried, kinds = f"unshare({word}) and writing its maps, without privileges", 0
    else:
        tried, kinds = f"unshare(CLONE_NEWUSER|{word}), without privileges", kind
    outcome = child.attempt(lambda: child.enter_user_namespace(kinds), unprivileged=True)
    hint = userns_obstacle() or hint or _FORBIDDEN
    found.append(child.finding(_WALL, f"{title}, unprivileged", tried, outcome, hint))
    return found


_FORBIDDEN = "an outer container's seccomp profile or a security module may forbid it"


def _limit(name: str) -> str:
    """Return the hint for a kind that is limited to none, or that the kernel doesn't have."""
    sysctl = f"user.max_{_LIMITS.get(name, name)}_namespaces"
    maximum = read(f"/proc/sys/{sysctl.replace('.', '/')}").strip()
    if not maximum:
        return f"the kernel has no {name} namespaces"
    return f"{sysctl} = 0" if maximum == b"0" else ""


def _word(name: str) -> str:
    return {"mount": "NS", "network": "NET"}.get(name, name.upper())


def _joining(features: Features) -> Finding:
    def join() -> None:
        if features.may("CAP_SYS_ADMIN"):
            syscalls.unshare(flags.CLONE_NEWUTS)
        else:
            child.enter_user_namespace(flags.CLONE_NEWUTS)
        _join_by_pidfd()

    outcome = child.attempt(join)
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
