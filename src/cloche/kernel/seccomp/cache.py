"""Compiled filters on disk, one file each, named for what they were compiled from.

A filter is part of a wall: whoever can change a cached one can open that wall.  So a file counts
only when it and its directory belong to the caller and nobody else may write there; otherwise
the filter is compiled afresh.  The checksum is for accidents, a file torn by a crash or a bad
disk; and a file under another's name, such as a link to it, isn't taken for that one.

::

    magic[8]   u32 length of the program   u32 crc32 of name and program   program
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zlib

_MAGIC = b"CLBPF\x00\x02\n"
_HEADER = struct.Struct("=8sII")
_INSTRUCTION_SIZE = 8
_MAXIMUM = _HEADER.size + 4096 * _INSTRUCTION_SIZE
"""BPF_MAXINSNS instructions are the most that the kernel takes."""


def load(directory: str, name: str) -> bytes | None:
    """Return a cached program, or None when there is none that can be trusted and is whole."""
    opened = []
    try:
        place = _open_directory(directory)
        opened.append(place)
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        file = os.open(f"{name}.bpf", flags, dir_fd=place)
        opened.append(file)
        status = os.fstat(file)
        if not (_ours(status) and stat.S_ISREG(status.st_mode)):
            return None
        return _decode(name, os.read(file, _MAXIMUM + 1))
    except OSError:
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)


def store(directory: str, name: str, program: bytes) -> None:
    """Keep a program for the next time.

    The directory is made if it is missing.  A cache that can't be written isn't an error: the
    program was compiled all the same, and will be again.
    """
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        place = _open_directory(directory)
        try:
            _write(place, name, _encode(name, program))
        finally:
            os.close(place)
    except OSError:
        pass


def _open_directory(directory: str) -> int:
    """Open the cache; raises OSError for one that isn't the caller's.

    All that follows goes by this descriptor: whoever owns a directory above could put another one
    at the path.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    place = os.open(directory, flags)
    if _ours(os.fstat(place)):
        return place
    os.close(place)
    raise PermissionError(errno.EACCES, "belongs to somebody else", directory)


def _write(place: int, name: str, content: bytes) -> None:
    temporary = f".{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.open(temporary, flags, 0o600, dir_fd=place)
    try:
        os.write(file, content)
        os.rename(temporary, f"{name}.bpf", src_dir_fd=place, dst_dir_fd=place)
    except OSError:
        os.unlink(temporary, dir_fd=place)
    finally:
        os.close(file)


def _ours(status: os.stat_result) -> bool:
    """Whether the caller owns it and nobody else may write to it."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _encode(name: str, program: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, len(program), _checksum(name, program)) + program


def _checksum(name: str, program: bytes) -> int:
    return zlib.crc32(program, zlib.crc32(name.encode()))


def _decode(name: str, content: bytes) -> bytes | None:
    if len(content) < _HEADER.size:
        return None
    magic, length, checksum = _HEADER.unpack_from(content)
    program = content[_HEADER.size :]
    if magic != _MAGIC or length != len(program) or length % _INSTRUCTION_SIZE or not length:
        return None
    return program if _checksum(name, program) == checksum else None
