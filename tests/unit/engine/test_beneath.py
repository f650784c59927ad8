"""Files of a root directory that may be hostile."""

import os
from pathlib import Path

import pytest

from cloche.engine import beneath


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a directory beside the root, with a secret."""
    (tmp_path / "secret").write_text("secret")
    return tmp_path


@pytest.fixture
def root(outside: Path) -> Path:
    """Return a root directory with a file."""
    root = outside / "root"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("inside")
    return root


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "etc/passwd", "//etc/./passwd", "/etc/../etc/passwd", "/../etc/passwd"]
)
def test_file_is_read(root: Path, path: str) -> None:
    """Any spelling of a path means the same file; .. of the root is the root."""
    assert beneath.read(str(root), path) == b"inside"
    assert beneath.is_file(str(root), path)


@pytest.mark.parametrize(
    "target",
    ["/etc/passwd", "passwd", "../etc/passwd", "../../../etc/passwd", "/link", "//etc/x/.."],
)
def test_link_within_is_followed(root: Path, target: str) -> None:
    """A link means a path in the root, wherever it seems to lead."""
    (root / "link").symlink_to("etc/passwd")
    (root / "etc/x").mkdir()
    (root / "etc/shadow").symlink_to(target)
    if target.endswith(".."):
        with pytest.raises(OSError, match="Invalid argument"):
            beneath.read(str(root), "/etc/shadow")
    else:
        assert beneath.read(str(root), "/etc/shadow") == b"inside"


@pytest.mark.parametrize("target", ["../secret", "../../secret", "{outside}/secret"])
def test_link_out_finds_nothing(root: Path, outside: Path, target: str) -> None:
    """No link leads to a file of the host."""
    (root / "etc/shadow").symlink_to(target.format(outside=outside))
    (root / "var").symlink_to(str(outside))
    for path in ("/etc/shadow", "/var/secret"):
        with pytest.raises(FileNotFoundError):
            beneath.read(str(root), path)
        assert not beneath.is_file(str(root), path)


def test_loop_of_links_ends(root: Path) -> None:
    """A link to itself is an error and no endless search."""
    (root / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="Too many levels"):
        beneath.read(str(root), "/loop")


def test_only_regular_files_are_opened(root: Path) -> None:
    """A FIFO would hang, a device could act: neither is ever opened to be read."""
    os.mkfifo(root / "fifo")
    for path in ("/fifo", "/etc", "/"):
        with pytest.raises(OSError, match="Invalid argument"):
            beneath.read(str(root), path)
        assert not beneath.is_file(str(root), path)


def test_path_through_a_file(root: Path) -> None:
    """A file is no directory."""
    with pytest.raises(NotADirectoryError):
        beneath.read(str(root), "/etc/passwd/x")


def test_length_is_limited(root: Path) -> None:
    """A file that would fill the memory is refused."""
    assert beneath.read(str(root), "/etc/passwd", 6) == b"inside"
    with pytest.raises(OSError, match="File too large"):
        beneath.read(str(root), "/etc/passwd", 5)


def test_no_descriptor_is_left(root: Path) -> None:
    """Every descriptor is closed again, whether or not something was found."""
    (root / "link").symlink_to("/etc/../etc/passwd")
    before = os.listdir("/proc/self/fd")
    assert beneath.is_file(str(root), "/link")
    assert not beneath.is_file(str(root), "/etc/passwd/x")
    assert not beneath.is_file(str(root / "missing"), "/x")
    assert os.listdir("/proc/self/fd") == before
