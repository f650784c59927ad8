"""The wall "root": file systems and the mount calls."""

from __future__ import annotations

import os
import stat

from cloche.kernel import flags, syscalls
from cloche.kernel.features import (
    Features,
    Finding,
    has_filesystem,
    in_user_namespace,
    is_registered,
)
from cloche.kernel.probes import child

_WALL = "root"


def probe(features: Features) -> list[Finding]:
    """Find out about mounts, file systems and device nodes."""
    found: list[Finding] = []
    for name, tried, action, hint in (
        ("private mounts", "mount(tmpfs) in a new mount namespace", child.private_mounts, ""),
        ("overlayfs", "mount(overlay) on tmpfs", _overlay, _OVERLAY_HINT),
        ("procfs of its own", "mount(proc) in a new pid namespace", _procfs, _PROC_HINT),
        ("sysfs of its own", "mount(sysfs) in a new network namespace", _sysfs, ""),
        ("message queues", "mount(mqueue) in a new ipc namespace", _mqueue, ""),
        ("devpts of its own", "mount(devpts, newinstance)", _devpts, ""),
        ("pivot_root", "pivot_root into a tmpfs", _pivot_root, ""),
        ("new mount calls", "fsopen, fsconfig, fsmount, move_mount", _new_mount, _NEW_HINT),
        ("recursive mount attributes", "mount_setattr(AT_RECURSIVE)", _attributes, _NEW_HINT),
    ):
        found += _both(features, name, tried, action, hint)
    for name, tried, action, hint in (
        ("openat2", "openat2(RESOLVE_IN_ROOT)", _openat2, _NEW_HINT),
        ("device nodes", "mknod(null) and writing to it", _mknod, _MKNOD_HINT),
        ("idmapped mounts", "mount_setattr(MOUNT_ATTR_IDMAP) on /", _idmapped, _IDMAP_HINT),
    ):
        found.append(child.finding(_WALL, name, tried, child.attempt(action), hint))
    return found + [_filesystem(name) for name in ("fuse", "erofs", "squashfs")]


_NEW_HINT = "needs Linux 5.14, or an outer container whose seccomp profile knows the call"
_OVERLAY_HINT = "images are copied instead of layered; modprobe overlay, or Linux 5.11 for users"
_PROC_HINT = "the outer container masks parts of /proc: run it with unmasked paths"
_MKNOD_HINT = "the host's nodes are bound into /dev instead"
_IDMAP_HINT = "shared files show the host's owners, or nobody's, in a user namespace"


def _both(
    features: Features, name: str, tried: str, action: child.Action, hint: str
) -> list[Finding]:
    """Try as the caller and, as an unprivileged process, in a user namespace."""
    if not hint or not features.may("CAP_SYS_ADMIN"):
        callers_hint = child.obstacle(features)
    else:
        callers_hint = hint
    return [
        child.finding(_WALL, name, f"{tried}, as the caller", child.attempt(action), callers_hint),
        child.finding(
            _WALL,
            f"{name} in a user namespace",
            f"{tried}, in a user namespace, without privileges",
            child.attempt(lambda: _in_user_namespace(action), unprivileged=True),
            hint,
        ),
    ]


def _filesystem(name: str) -> Finding:
    release = os.uname().release
    if is_registered(name):
        return Finding(_WALL, name, "yes", f"/proc/filesystems lists {name}")
    if has_filesystem(name, release):
        return Finding(_WALL, name, "yes", f"/lib/modules/{release} has a module for {name}")
    return Finding(_WALL, name, "no", f"neither /proc/filesystems nor /lib/modules has {name}")


def _in_user_namespace(action: child.Action) -> str | None:
    child.enter_user_namespace()
    return action()


def _overlay() -> None:
    child.private_mounts()
    for name in ("lower", "upper", "work"):
        os.mkdir(name)
    # Without trusted.* attributes, which need CAP_SYS_ADMIN of the initial user namespace,
    # overlayfs keeps its marks in user.* (Linux 5.11).
    options = "lowerdir=lower,upperdir=upper,workdir=work"
    if in_user_namespace():
        options += ",userxattr"
    syscalls.mount("overlay", "place", "overlay", 0, options)
    os.mkdir("place/made")


def _procfs() -> str | None:
    syscalls.unshare(flags.CLONE_NEWPID)
    return child.within(_mount_procfs)


def _mount_procfs() -> None:
    child.private_mounts()
    syscalls.mount("proc", "place", "proc", 0, "")
    os.stat("place/1")


def _sysfs() -> None:
    syscalls.unshare(flags.CLONE_NEWNET)
    child.private_mounts()
    syscalls.mount("sysfs", "place", "sysfs", flags.MS_RDONLY, "")


def _mqueue() -> None:
    syscalls.unshare(flags.CLONE_NEWIPC)
    child.private_mounts()
    syscalls.mount("mqueue", "place", "mqueue", 0, "")


def _devpts() -> None:
    child.private_mounts()
    syscalls.mount("devpts", "place", "devpts", 0, "newinstance,ptmxmode=0666,mode=0620")


def _mknod() -> None:
    child.private_mounts()
    os.mknod("null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    with open("null", "wb", buffering=0) as null:
        null.write(b"x")


def _pivot_root() -> None:
    child.private_mounts()
    # One directory for both: the old root is then mounted over the new one, pivot_root(2).
    syscalls.pivot_root(".", ".")


def _openat2() -> None:
    root = os.open("/usr", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.close(syscalls.openat2(root, "/../..", os.O_PATH | os.O_CLOEXEC, flags.RESOLVE_IN_ROOT))


def _new_mount() -> None:
    child.private_mounts()
    mounted = syscalls.new_mount("tmpfs", {"mode": "0700"}, flags.MOUNT_ATTR_NOEXEC)
    syscalls.move_mount(mounted, "place")


def _attributes() -> None:
    child.private_mounts()
    tree = syscalls.open_tree(".", recursive=True)
    syscalls.mount_setattr(tree, set_bits=flags.MOUNT_ATTR_RDONLY, recursive=True)


def _idmapped() -> None:
    namespace = child.user_namespace("0 100000 65536")
    tree = syscalls.open_tree("/", recursive=False)
    syscalls.mount_setattr(tree, set_bits=flags.MOUNT_ATTR_IDMAP, userns=namespace)
