"""The parser of /proc/PID/mountinfo."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.kernel import mountinfo
from cloche.kernel.mountinfo import Mount

MANUAL = "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n"

# What a path can be made of; a line feed is escaped, so that it may be in a name too.
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


def escape(name: str) -> str:
    """Encode a name as the kernel does."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\#" else c for c in name)


def test_a_line_of_the_manual_page() -> None:
    """The example of proc_pid_mountinfo(5) has every field where it belongs."""
    assert mountinfo.parse(MANUAL) == [
        Mount(
            36,
            35,
            98,
            0,
            "/mnt1",
            "/mnt2",
            ("rw", "noatime"),
            ("master:1",),
            "ext3",
            "/dev/root",
            ("rw", "errors=continue"),
        )
    ]


@pytest.mark.parametrize("optional", ["", "shared:2 ", "shared:2 master:1 propagate_from:3 "])
def test_optional_fields_may_be_none_or_many(optional: str) -> None:
    """The separator ends them, however many there are."""
    (mount,) = mountinfo.parse(f"1 0 0:1 / /a rw {optional}- tmpfs none rw")
    assert mount.optional == tuple(optional.split())
    assert mount.fstype == "tmpfs"


def test_a_source_may_be_empty() -> None:
    """Two blanks in a row are an empty field."""
    (mount,) = mountinfo.parse("1 0 0:1 / /a rw - tmpfs  rw")
    assert (mount.source, mount.options) == ("", ("rw",))


def test_a_path_may_look_like_the_separator() -> None:
    """A mount point can't be ``-``, since it begins with a slash; a root and a source can."""
    (mount,) = mountinfo.parse("1 0 0:1 /- /- rw - tmpfs - rw")
    assert (mount.root, mount.path, mount.source) == ("/-", "/-", "-")


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (r"a\040b", "a b"),
        (r"\011\012\134\043", "\t\n\\#"),
        (r"\1340", r"\0"),
        (r"a\x", r"a\x"),
        ("a\\", "a\\"),
        (r"\04", r"\04"),
        (r"\777", r"\777"),
        (r"\089", r"\089"),
    ],
)
def test_escapes(field: str, name: str) -> None:
    """Three octal digits are a byte; a backslash before anything else is itself."""
    assert mountinfo.unescape(field) == name


@given(names)
def test_an_escaped_name_comes_back(name: str) -> None:
    """Any name survives, and is one word of one line."""
    field = escape(name)
    assert not set(field) & set(" \t\n")
    assert mountinfo.unescape(field) == name


@given(st.lists(names, min_size=1))
def test_names_of_any_kind_are_kept_apart(paths: list[str]) -> None:
    """Neither a blank nor any of Unicode's line ends breaks a line in two."""
    text = "".join(f"1 0 0:1 / {escape(path)} rw - tmpfs none rw\n" for path in paths)
    assert [mount.path for mount in mountinfo.parse(text)] == paths


@given(st.text())
def test_anything_else_is_refused_in_one_way(text: str) -> None:
    """Text that isn't mountinfo raises ValueError and nothing else."""
    with contextlib.suppress(ValueError):
        mountinfo.parse(text)


@pytest.mark.parametrize("line", ["x", MANUAL.replace(" - ", " "), MANUAL.replace("36", "a"), " "])
def test_the_line_is_named(line: str) -> None:
    """Which line it was is in the message."""
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        mountinfo.parse(line)


def test_the_own_process() -> None:
    """The kernel's file is read, and has the root."""
    mounts = mountinfo.parse(Path("/proc/self/mountinfo").read_text())
    assert any(mount.path == "/" for mount in mounts)
    assert all(os.path.isabs(mount.path) for mount in mounts)
