"""The eBPF programs that are attached to a group of cgroup v2 and restrict its devices: bpf(2)."""

from __future__ import annotations

import ctypes
import os
import struct

from cloche.errors import Unsupported
from cloche.kernel import syscalls

_NUMBERS = {"x86_64": 321, "aarch64": 280}
_LOAD, _ATTACH, _DETACH, _FD_BY_ID, _INFO_BY_FD, _QUERY = 5, 8, 9, 13, 15, 16
_PROGRAM_TYPE = 15  # BPF_PROG_TYPE_CGROUP_DEVICE
_ATTACH_TYPE = 6  # BPF_CGROUP_DEVICE
_ALLOW_MULTI, _REPLACE = 2, 4
_MOST_PROGRAMS = 64
_ATTRIBUTES = 128  # bytes of the kernel's union that are set here, the others being zero


def attached(group: str) -> list[int]:
    """Return the ids of the programs of a group's own, by its directory.

    Raises OSError.
    """
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _attached(directory)
    finally:
        os.close(directory)


def replace(group: str, program: bytes, *, name: str = "cloche_devices") -> None:
    """Attach a program to a group in place of that which has the same name.

    In no moment is neither in effect.  Programs of other names, such as systemd's, stay.  Raises
    Unsupported where the kernel refuses the program, OSError.
    """
    loaded = _load(program, name)
    opened = [loaded]
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened.append(directory)
    try:
        former = []
        for number in _attached(directory):
            fd = _call(_FD_BY_ID, struct.pack("<I", number))
            opened.append(fd)
            if _name(fd) == name:
                former.append(fd)
        flags, replaced = _ALLOW_MULTI, 0
        if former:
            flags, replaced = flags | _REPLACE, former[0]
        arguments = (directory, loaded, _ATTACH_TYPE, flags, replaced)
        _call(_ATTACH, struct.pack("<5I", *arguments))
        for fd in former[1:]:
            _call(_DETACH, struct.pack("<3I", directory, fd, _ATTACH_TYPE))
    finally:
        for fd in opened:
            os.close(fd)


def _load(program: bytes, name: str) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    terms = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "<IIQQIIQII16s",
        _PROGRAM_TYPE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(terms),
        0,
        0,
        0,
        0,
        0,
        name.encode(),
    )
    try:
        return _call(_LOAD, attributes)
    except OSError as error:
        raise Unsupported(
            f"the kernel refuses the program that restricts devices: {error.strerror}",
            hint="it takes the host's root, and the system call bpf",
        ) from error


def _attached(directory: int) -> list[int]:
    ids = (ctypes.c_uint32 * _MOST_PROGRAMS)()
    attributes = ctypes.create_string_buffer(
        struct.pack(
            "<IIIIQI", directory, _ATTACH_TYPE, 0, 0, ctypes.addressof(ids), _MOST_PROGRAMS
        ),
        _ATTRIBUTES,
    )
    _bpf(_QUERY, attributes)
    count = struct.unpack_from("<I", attributes, 24)[0]
    return list(ids[:count])


def _name(program: int) -> str:
    info = ctypes.create_string_buffer(_ATTRIBUTES)
    _call(_INFO_BY_FD, struct.pack("<IIQ", program, len(info), ctypes.addressof(info)))
    # struct bpf_prog_info: type, id, tag, two lengths, two addresses, load time, uid, maps
    return info.raw[64:80].split(b"\0", 1)[0].decode()


def _call(command: int, attributes: bytes) -> int:
    return _bpf(command, ctypes.create_string_buffer(attributes, _ATTRIBUTES))


def _bpf(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = _NUMBERS[os.uname().machine]
    result = syscalls.by_number(number, command, ctypes.addressof(attributes), len(attributes))
    if result < 0:
        raise OSError(-result, os.strerror(-result), "bpf")
    return result
