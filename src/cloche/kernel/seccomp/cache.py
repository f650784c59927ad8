"""Compiled filters on disk, one file each, named for what they were compiled from.

A filter is part of a wall: whoever can change a cached one can open that wall.  So a file counts
only when it and its directory belong to the caller and nobody else may write there; otherwise
the filter is compiled afresh.  The checksum is for accidents, a file torn by a crash or a bad
disk.

::

    magic[8]   u32 length of the program   u32 crc32 of the program   program
"""

from __future__ import annotations

import os
import stat
import struct
import zlib

_MAGIC = b"CLBPF\x00\x01\n"
_HEADER = struct.Struct("=8sII")
_INSTRUCTION_SIZE = 8
_MAXIMUM = _HEADER.size + 4096 * _INSTRUCTION_SIZE
"""BPF_MAXINSNS instructions are the most that the kernel takes."""


def load(directory: str, name: str) -> bytes | None:
    """Return a cached program, or None when there is none that can be trusted and is whole."""
    try:
        if not _ours(os.stat(directory, follow_symlinks=False)):
            return None
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(f"{directory}/{name}.bpf", flags)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not (_ours(status) and stat.S_ISREG(status.st_mode)):
            return None
        return _decode(os.read(descriptor, _MAXIMUM + 1))
    except OSError:
        return None
    finally:
        os.close(descriptor)


def store(directory: str, name: str, program: bytes) -> None:
    """Keep a program for the next time.

    The directory is made if it is missing.  A cache that can't be written isn't an error: the
    program was compiled all the same, and will be again.
    """
    temporary = f"{directory}/.{name}.{os.getpid()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, flags, 0o600)
        try:
            os.write(descriptor, _encode(program))
            os.rename(temporary, f"{directory}/{name}.bpf")
        except OSError:
            os.unlink(temporary)
        finally:
            os.close(descriptor)
    except OSError:
        pass


def _ours(status: os.stat_result) -> bool:
    """Whether the caller owns it and nobody else may write to it."""
    return status.st_uid == os.geteuid() and not status.st_mode & 0o022


def _encode(program: bytes) -> bytes:
    return _HEADER.pack(_MAGIC, len(program), zlib.crc32(program)) + program


def _decode(content: bytes) -> bytes | None:
    if len(content) < _HEADER.size:
        return None
    magic, length, checksum = _HEADER.unpack_from(content)
    program = content[_HEADER.size :]
    if magic != _MAGIC or length != len(program) or length % _INSTRUCTION_SIZE or not length:
        return None
    return program if zlib.crc32(program) == checksum else None
