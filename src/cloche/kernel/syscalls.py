"""System calls that Python's os module lacks, by number, through ctypes.

For probing what a kernel can do, and for tests: importing ctypes takes longer than planning a
container.  Every function raises OSError with the call's name as ``filename``.
"""

from __future__ import annotations

import ctypes
import os
import struct

from cloche.kernel import flags

_NUMBERS: dict[str, int] = {
    # Since Linux 5.1 new calls have the same number on every architecture.
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "openat2": 437,
    "mount_setattr": 442,
}
_OLD_NUMBERS: dict[str, dict[str, int]] = {
    "x86_64": {"keyctl": 250, "setns": 308, "seccomp": 317},
    "aarch64": {"keyctl": 219, "setns": 268, "seccomp": 277},
}

_library = ctypes.CDLL(None, use_errno=True)
_without_releasing = ctypes.PyDLL(None, use_errno=True)
_library.syscall.restype = _without_releasing.syscall.restype = ctypes.c_long


def _long(value: int | bytes | None) -> ctypes.c_long | bytes | None:
    return ctypes.c_long(value) if isinstance(value, int) else value


def call(name: str, *arguments: int | bytes | None) -> int:
    """Make a system call by its name and return its result."""
    number = _NUMBERS.get(name) or _OLD_NUMBERS[os.uname().machine][name]
    result = _library.syscall(ctypes.c_long(number), *[_long(each) for each in arguments])
    return _checked(result, name)


def by_number(number: int, *arguments: int) -> int:
    """Make any system call; return its result, or the errno as a negative number."""
    result: int = _library.syscall(
        ctypes.c_long(number), *[ctypes.c_ulong(each) for each in arguments]
    )
    return -ctypes.get_errno() if result == -1 else result


def _checked(result: int, name: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def unshare(kinds: int) -> None:
    """Leave namespaces (``CLONE_NEW*``) for new ones."""
    _checked(_library.unshare(ctypes.c_int(kinds)), "unshare")


def setns(descriptor: int, kinds: int) -> None:
    """Join namespaces, by a namespace's file or a pidfd."""
    call("setns", descriptor, kinds)


def mount(source: str, target: str, fstype: str, mount_flags: int, data: str) -> None:
    """Mount a file system the old way, in one call."""
    arguments = [text.encode() for text in (source, target, fstype)]
    result = _library.mount(*arguments, ctypes.c_ulong(mount_flags), data.encode())
    _checked(result, f"mount({fstype})" if fstype else "mount")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make a mount the root of this mount namespace."""
    result = _library.pivot_root(new_root.encode(), put_old.encode())
    _checked(result, "pivot_root")


def prctl(option: int, *arguments: int) -> int:
    """Change or ask for an attribute of the process."""
    padded = (*arguments, 0, 0, 0, 0)[:4]
    result = _library.prctl(ctypes.c_int(option), *[ctypes.c_ulong(each) for each in padded])
    return _checked(result, "prctl")


def clone3(clone_flags: int, *, exit_signal: int = 17, cgroup: int = 0) -> tuple[int, int]:
    """Make a child as fork does; return its pid (0 in the child) and a pidfd.

    ``cgroup`` is a directory's file descriptor, for CLONE_INTO_CGROUP.
    """
    pidfd = ctypes.c_int(-1)
    arguments = struct.pack(
        "=11Q",
        clone_flags | flags.CLONE_PIDFD,
        ctypes.addressof(pidfd),
        *(0, 0, exit_signal, 0, 0, 0, 0, 0),
        cgroup,
    )
    # The child must come back holding the interpreter's lock, so it isn't released around this.
    result = _without_releasing.syscall(
        ctypes.c_long(_NUMBERS["clone3"]), arguments, ctypes.c_size_t(len(arguments))
    )
    return _checked(result, "clone3"), pidfd.value


def openat2(directory: int, path: str, open_flags: int, resolve: int) -> int:
    """Open a path as openat does, with rules for how it is resolved (``RESOLVE_*``)."""
    how = struct.pack("=3Q", open_flags, 0, resolve)
    return call("openat2", directory, path.encode(), how, len(how))


def new_mount(fstype: str, options: dict[str, str], attributes: int = 0) -> int:
    """Make a file system and a detached mount of it; return its file descriptor."""
    context = call("fsopen", fstype.encode(), 1)
    try:
        for key, value in options.items():
            command = flags.FSCONFIG_SET_STRING if value else flags.FSCONFIG_SET_FLAG
            call("fsconfig", context, command, key.encode(), value.encode() if value else None, 0)
        call("fsconfig", context, flags.FSCONFIG_CMD_CREATE, None, None, 0)
        return call("fsmount", context, 1, attributes)
    finally:
        os.close(context)


def open_tree(path: str, *, recursive: bool) -> int:
    """Clone a mount, detached, and return its file descriptor."""
    bits = flags.OPEN_TREE_CLONE | os.O_CLOEXEC | (flags.AT_RECURSIVE if recursive else 0)
    return call("open_tree", flags.AT_FDCWD, path.encode(), bits)


def move_mount(mount_descriptor: int, path: str) -> None:
    """Attach a detached mount."""
    bits = flags.MOVE_MOUNT_F_EMPTY_PATH
    call("move_mount", mount_descriptor, b"", flags.AT_FDCWD, path.encode(), bits)


def mount_setattr(
    mount_descriptor: int, *, set_bits: int, recursive: bool = False, userns: int = 0
) -> None:
    """Set ``MOUNT_ATTR_*`` of a mount, with those beneath it if ``recursive``."""
    bits = flags.AT_EMPTY_PATH | (flags.AT_RECURSIVE if recursive else 0)
    attributes = struct.pack("=4Q", set_bits, 0, 0, userns)
    call("mount_setattr", mount_descriptor, b"", bits, attributes, len(attributes))


def install_filter(program: bytes, filter_flags: int) -> int:
    """Install a seccomp filter (struct sock_filter[]); return the listener, if asked for."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    return call("seccomp", flags.SECCOMP_SET_MODE_FILTER, filter_flags, header)
