"""The wall "privileges": capabilities, filters, security modules and limits."""

from __future__ import annotations

import os

from cloche.errors import ClocheError
from cloche.kernel import capabilities, flags, landlock, syscalls
from cloche.kernel.features import Features, Finding, read
from cloche.kernel.probes import child

_WALL = "privileges"
_ALLOW_ALL = bytes.fromhex("0600 00 00 0000ff7f")
"""One instruction, little-endian: return SECCOMP_RET_ALLOW."""
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SETTERS = ("CAP_SYS_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_NET_ADMIN")


def probe(features: Features) -> list[Finding]:
    """Find out what the caller may do, and what it can take away from a container."""
    return [
        _capabilities(features),
        _no_new_privs(),
        child.finding(
            _WALL, "ambient capabilities", "prctl(PR_CAP_AMBIENT)", child.attempt(_ambient)
        ),
        _resource(features),
        *_seccomp(features),
        *_modules(features),
        child.finding(
            _WALL,
            "keyring of its own",
            "keyctl(KEYCTL_JOIN_SESSION_KEYRING)",
            child.attempt(_keyring),
            "an outer container's seccomp profile forbids it",
        ),
    ]


def _capabilities(features: Features) -> Finding:
    whole = capabilities.full(features.last_cap)
    missing = capabilities.names(whole & ~features.capabilities)
    held = features.last_cap + 1 - len(missing)
    how = f"/proc/self/status: {held} of {features.last_cap + 1}"
    if not missing:
        return Finding(_WALL, "capabilities", "yes", how)
    if held:
        how += f", without {', '.join(missing)}"
    usable = all(features.may(name) for name in _SETTERS)
    hint = "" if usable else "containers get theirs from a user namespace"
    return Finding(_WALL, "capabilities", "partly" if held else "no", how, hint)


def _no_new_privs() -> Finding:
    is_set = b"\nNoNewPrivs:\t1" in read("/proc/self/status")
    how = f"/proc/self/status: NoNewPrivs {int(is_set)}"
    hint = "setuid programs such as newuidmap don't work for the caller" if is_set else ""
    return Finding(_WALL, "gaining privileges by exec", "no" if is_set else "yes", how, hint)


def _ambient() -> None:
    syscalls.prctl(flags.PR_CAP_AMBIENT, flags.PR_CAP_AMBIENT_IS_SET, 0)


def _resource(features: Features) -> Finding:
    import resource

    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    may = features.may("CAP_SYS_RESOURCE")
    how = f"CAP_SYS_RESOURCE is {'there' if may else 'missing'}; hard limit of open files {files}"
    hint = "" if may else "limits above the caller's own, and a lower oom_score_adj, are refused"
    return Finding(_WALL, "raising limits", "yes" if may else "no", how, hint)


def _seccomp(features: Features) -> list[Finding]:
    actions = " ".join(features.seccomp)
    found = [
        child.finding(_WALL, "seccomp filter", "seccomp(2) in a child", child.attempt(_filter)),
        Finding(
            _WALL,
            "seccomp actions",
            "yes" if actions else "no",
            f"/proc/sys/kernel/seccomp/actions_avail: {actions or 'not there'}",
        ),
        child.finding(
            _WALL,
            "seccomp notification",
            "seccomp(SECCOMP_FILTER_FLAG_NEW_LISTENER)",
            child.attempt(_listener),
        ),
    ]
    try:
        from cloche.kernel.seccomp import compiler

        version = ".".join(str(number) for number in compiler.version())
        found.append(Finding(_WALL, "libseccomp", "yes", f"libseccomp.so.2 is version {version}"))
    except ClocheError as error:
        found.append(Finding(_WALL, "libseccomp", "no", str(error), error.hint))
    return found


def _filter() -> None:
    syscalls.prctl(flags.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.install_filter(_ALLOW_ALL, 0)


def _listener() -> None:
    syscalls.prctl(flags.PR_SET_NO_NEW_PRIVS, 1)
    syscalls.install_filter(_ALLOW_ALL, flags.SECCOMP_FILTER_FLAG_NEW_LISTENER)


def _modules(features: Features) -> list[Finding]:
    abi = landlock.abi()
    found = [
        Finding(
            _WALL,
            "Landlock",
            "yes" if abi else "no",
            f"landlock_create_ruleset(LANDLOCK_CREATE_RULESET_VERSION): ABI {abi}",
            "" if abi else "boot with landlock in lsm=",
        )
    ]
    listed = os.access("/sys/kernel/security/lsm", os.R_OK)
    source = "/sys/kernel/security/lsm" if listed else "the modules' own files in /sys"
    for name, title in (("apparmor", "AppArmor"), ("selinux", "SELinux")):
        active = name in features.lsm
        how = f"{source}: {'active' if active else 'not active'}"
        found.append(Finding(_WALL, title, "yes" if active else "no", how))
    return found


def _keyring() -> None:
    syscalls.call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, b"cloche-probe")
