"""The parser of /etc/ld.so.cache."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import InvalidArgument
from cloche.rootfs import loader_cache

Entry = tuple[str, str, int]


def build(entries: list[Entry], *, old: bool = False) -> bytes:
    """Write a cache as ldconfig does: name, path and hwcap of each entry."""
    prefix = b""
    if old:
        prefix = struct.pack("=11sxI", b"ld.so-1.7.0", 1) + b"\0" * 12
        prefix += b"\0" * (-len(prefix) % 8)
    strings = b""
    table = b""
    start = 48 + 24 * len(entries)
    for name, path, hwcap in entries:
        offsets = []
        for text in (name, path):
            offsets.append(start + len(strings))
            strings += text.encode() + b"\0"
        table += struct.pack("=iIIIQ", 3, *offsets, 0, hwcap)
    header = struct.pack("=20sIIB3xI12x", b"glibc-ld.so.cache1.1", len(entries), len(strings), 2, 0)
    return prefix + header + table + strings


def test_names_and_paths() -> None:
    """Each name gives its paths, in the order of the cache."""
    data = build([("liba.so", "/x/liba.so", 0), ("liba.so", "/y/liba.so", 0), ("b", "/b", 0)])
    assert loader_cache.parse(data) == {"liba.so": ["/x/liba.so", "/y/liba.so"], "b": ["/b"]}


def test_plain_before_hwcaps() -> None:
    """A library for any processor comes before one for certain processors."""
    data = build([("a", "/glibc-hwcaps/x86-64-v3/a", 1 << 62), ("a", "/a", 0)])
    assert loader_cache.parse(data) == {"a": ["/a", "/glibc-hwcaps/x86-64-v3/a"]}


def test_old_format_in_front() -> None:
    """A cache that begins with the format of old loaders is read too."""
    data = build([("a", "/a", 0)], old=True)
    assert loader_cache.parse(data) == {"a": ["/a"]}


def test_no_cache(tmp_path: Path) -> None:
    """A machine without a cache simply has no entries."""
    assert loader_cache.read(str(tmp_path / "ld.so.cache")) == {}


@pytest.mark.skipif(not os.path.exists(loader_cache.PATH), reason="this machine has no cache")
def test_this_machine() -> None:
    """The cache of this machine is understood and knows the C library."""
    assert any(path.startswith("/") for path in loader_cache.read()["libc.so.6"])


def test_broken_file_is_named(tmp_path: Path) -> None:
    """A file that is no cache is an error with its path and what to do."""
    path = tmp_path / "ld.so.cache"
    path.write_bytes(b"glibc-ld.so.cache1.1")
    with pytest.raises(InvalidArgument, match="cut short") as caught:
        loader_cache.read(str(path))
    assert str(path) in caught.value.message
    assert "ldconfig" in caught.value.hint


def test_entries_beyond_the_end() -> None:
    """A count of entries that the file can't hold is refused."""
    data = bytearray(build([("a", "/a", 0)]))
    data[20:24] = b"\xff\xff\xff\xff"
    with pytest.raises(ValueError, match="don't fit"):
        loader_cache.parse(bytes(data))


def test_string_beyond_the_end() -> None:
    """An offset outside of the file is refused."""
    data = bytearray(build([("a", "/a", 0)]))
    data[52:56] = b"\xff\xff\xff\x7f"
    with pytest.raises(ValueError, match="no string at offset"):
        loader_cache.parse(bytes(data))


@given(st.binary())
def test_garbage(data: bytes) -> None:
    """Any bytes give entries or a ValueError."""
    _parse_or_refuse(data)


@given(
    st.binary(max_size=200),
    st.integers(min_value=0, max_value=2**32 - 1),
    st.booleans(),
)
def test_garbage_behind_the_magic(data: bytes, count: int, old: bool) -> None:
    """Any bytes behind a valid beginning give entries or a ValueError."""
    magic = b"ld.so-1.7.0\0" if old else b"glibc-ld.so.cache1.1"
    _parse_or_refuse(magic + struct.pack("=I", count) + data)


@given(st.data())
def test_flipped_bytes(data: st.DataObject) -> None:
    """A cache with any one byte changed gives entries or a ValueError."""
    cache = bytearray(build([("liba.so", "/x/liba.so", 0), ("b", "/b", 1 << 62)]))
    cache[data.draw(st.integers(0, len(cache) - 1))] = data.draw(st.integers(0, 255))
    _parse_or_refuse(bytes(cache))


def _parse_or_refuse(data: bytes) -> None:
    try:
        found = loader_cache.parse(data)
    except ValueError:
        return
    assert all(isinstance(path, str) for paths in found.values() for path in paths)
