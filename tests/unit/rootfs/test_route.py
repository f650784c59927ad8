"""The way to a file."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cloche.rootfs import route


def names(tmp_path: Path, path: Path | str) -> list[str]:
    """Return the stops on the way, as far as they lie beneath the test's directory."""
    stops = [stop.path for stop in route.follow(str(path))]
    return [os.path.relpath(stop, tmp_path) for stop in stops if stop.startswith(f"{tmp_path}/")]


def test_plain(tmp_path: Path) -> None:
    """A path without links leads through its directories."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "file").touch()
    assert names(tmp_path, f"{tmp_path}/a/./file") == ["a", "a/file"]


def test_links(tmp_path: Path) -> None:
    """Links of directories and chains of links are stops too, relative and absolute ones."""
    (tmp_path / "usr" / "lib").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "usr" / "lib" / "x.so.1.2").touch()
    (tmp_path / "usr" / "lib" / "x.so.1").symlink_to("x.so.1.2")
    (tmp_path / "usr" / "lib" / "x.so").symlink_to(tmp_path / "lib" / "x.so.1")
    stops = names(tmp_path, tmp_path / "lib" / "x.so")
    assert stops[:4] == ["lib", "usr", "usr/lib", "usr/lib/x.so"]
    assert stops[-2:] == ["usr/lib/x.so.1", "usr/lib/x.so.1.2"]


def test_dot_dot_behind_a_link(tmp_path: Path) -> None:
    """The parent ("..") of a link is the parent of where it leads, as in the kernel."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "link").symlink_to("a/b")
    assert names(tmp_path, f"{tmp_path}/link/../file")[-1] == "a/file"


def test_ends_with_dot_dot(tmp_path: Path) -> None:
    """The last stop is what the path leads to, even if the way passed it before."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert names(tmp_path, f"{tmp_path}/a/b/..")[-1] == "a"
    assert [stop.path for stop in route.follow("/..")] == ["/"]
    assert [stop.path for stop in route.follow("/")] == ["/"]


def test_link_to_the_root(tmp_path: Path) -> None:
    """A link to "/" leads to the root directory."""
    (tmp_path / "link").symlink_to("/")
    assert route.follow(str(tmp_path / "link"))[-1].path == "/"


def test_loop(tmp_path: Path) -> None:
    """Links in a circle end with the kernel's error."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links") as caught:
        route.follow(str(tmp_path / "a"))
    assert caught.value.errno == errno.ELOOP


def test_missing(tmp_path: Path) -> None:
    """A way that ends too early is an error: nothing there, a dangling link, a file on the way."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nothing")
    for path in ("nothing", "dangling"):
        with pytest.raises(FileNotFoundError):
            route.follow(str(tmp_path / path))
    for path in ("file/x", "file/.."):
        with pytest.raises(NotADirectoryError):
            route.follow(f"{tmp_path}/{path}")
