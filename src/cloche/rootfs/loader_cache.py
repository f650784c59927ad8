"""The loader's cache: /etc/ld.so.cache, as ldconfig(8) of glibc writes it.

The format is ``struct cache_file_new`` of glibc's ``dl-cache.h``, in the machine's byte order::

    magic    "glibc-ld.so.cache1.1"                                    20 bytes
    header   u32 entries, u32 length of the strings, u8 flags, 3 pad,
             u32 offset of the extensions, 12 unused                   28 bytes
    entries  i32 flags, u32 name, u32 path, u32 unused, u64 hwcap      24 bytes each
    strings  NUL-terminated; name and path are offsets from the magic

Until glibc 2.32 the older format, which old loaders still read, could stand before it::

    magic    "ld.so-1.7.0", 1 pad, u32 entries                         16 bytes
    entries  i32 flags, u32 name, u32 path                             12 bytes each

and the new one follows at the next multiple of eight.
"""

from __future__ import annotations

import struct

from cloche.errors import InvalidArgument

PATH = "/etc/ld.so.cache"

_MAGIC = b"glibc-ld.so.cache1.1"
_OLD_MAGIC = b"ld.so-1.7.0"
_OLD_HEADER = struct.Struct("=11sxI")
_OLD_ENTRY_SIZE = 12
_HEADER = struct.Struct("=20sIIB3xI12x")
_ENTRY = struct.Struct("=iIIIQ")


def read(path: str = PATH) -> dict[str, list[str]]:
    """Return the paths that the cache has for each library name; empty if there is no cache.

    Raises InvalidArgument when the file isn't such a cache.
    """
    try:
        with open(path, "rb") as file:
            return parse(file.read())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InvalidArgument(
            f"{path}: {error}", hint="write it anew with ldconfig, as root"
        ) from error


def parse(data: bytes) -> dict[str, list[str]]:
    """Return the paths that a cache has for each library name.

    Those for any processor come before those for certain ones (glibc-hwcaps), since a copy may
    have to run on another machine.

    Raises ValueError when the bytes are no such cache.
    """
    data = data[_start(data) :]
    if len(data) < _HEADER.size:
        raise ValueError("the loader's cache is cut short")
    magic, count, _, _, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise ValueError("not a loader's cache in glibc's format 1.1")
    end = _HEADER.size + count * _ENTRY.size
    if end > len(data):
        raise ValueError(f"the loader's cache is cut short: {count} entries don't fit")
    entries = list(_ENTRY.iter_unpack(data[_HEADER.size : end]))
    entries.sort(key=lambda entry: entry[4] != 0)
    paths: dict[str, list[str]] = {}
    for _, name, path, _, _ in entries:
        paths.setdefault(_string(data, name), []).append(_string(data, path))
    return paths


def _start(data: bytes) -> int:
    """Return where the new format begins."""
    if not data.startswith(_OLD_MAGIC) or len(data) < _OLD_HEADER.size:
        return 0
    _, count = _OLD_HEADER.unpack_from(data)
    end: int = _OLD_HEADER.size + count * _OLD_ENTRY_SIZE
    return (end + 7) & ~7


def _string(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset)
    if offset >= len(data) or end < 0:
        raise ValueError(f"the loader's cache has no string at offset {offset}")
    return data[offset:end].decode("utf-8", "surrogateescape")
