"""Writing beneath a directory that may hold anything."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from cloche.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from cloche.rootfs.beneath import NEW, REPLACED, SAME, Beneath
from cloche.rootfs.route import Stop


def stop(path: Path) -> Stop:
    """Return what lies at a path of the host."""
    status = path.lstat()
    return Stop(str(path), status, os.readlink(path) if path.is_symlink() else "")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The directory to write to; the parents of the tests' files are there already."""
    directory = tmp_path / "root"
    inside(directory, tmp_path).mkdir(parents=True)
    return directory


def inside(root: Path, path: Path) -> Path:
    """Return where a path of the host lies beneath the root."""
    return root / path.relative_to("/")


def put(root: Path, *paths: Path) -> list[str]:
    """Write things beneath the root and return what each changed."""
    with Beneath(str(root)) as beneath:
        return [beneath.put(stop(path)) for path in paths]


def test_file(root: Path, tmp_path: Path) -> None:
    """A file keeps its content, permissions and times, and isn't copied twice."""
    file = tmp_path / "file"
    file.write_bytes(b"x" * 3_000_000)
    file.chmod(0o751)
    os.utime(file, ns=(1_000_000_000, 1_234_567_891_000_000_000))
    assert put(root, file) == [NEW]
    copy = inside(root, file)
    assert copy.read_bytes() == file.read_bytes()
    assert stat.S_IMODE(copy.stat().st_mode) == 0o751
    assert copy.stat().st_mtime_ns == 1_234_567_891_000_000_000
    inode = copy.stat().st_ino
    assert put(root, file) == [SAME]
    assert copy.stat().st_ino == inode


def test_differing_file_is_replaced_at_once(root: Path, tmp_path: Path) -> None:
    """A file that differs is replaced by a new one: who has the old one open keeps it."""
    file = tmp_path / "file"
    file.write_text("old")
    put(root, file)
    with inside(root, file).open() as old:
        file.write_text("newer")
        assert put(root, file) == [REPLACED]
        assert old.read() == "old"
    assert inside(root, file).read_text() == "newer"
    file.chmod(0o600)
    assert put(root, file) == [REPLACED]
    assert stat.S_IMODE(inside(root, file).stat().st_mode) == 0o600


def test_empty_file(root: Path, tmp_path: Path) -> None:
    """An empty file is copied too."""
    file = tmp_path / "file"
    file.touch()
    assert put(root, file) == [NEW]
    assert inside(root, file).read_bytes() == b""


def test_link(root: Path, tmp_path: Path) -> None:
    """A link is made with its target as it is; another target is replaced."""
    link = tmp_path / "link"
    link.symlink_to("/nowhere/at/all")
    assert put(root, link) == [NEW]
    assert os.readlink(inside(root, link)) == "/nowhere/at/all"
    assert put(root, link) == [SAME]
    link.unlink()
    link.symlink_to("elsewhere")
    assert put(root, link) == [REPLACED]
    assert os.readlink(inside(root, link)) == "elsewhere"


def test_directory(root: Path, tmp_path: Path) -> None:
    """A directory is made with its permissions; one that is there is left alone."""
    directory = tmp_path / "directory"
    directory.mkdir()
    directory.chmod(0o1777)
    assert put(root, directory) == [NEW]
    copy = inside(root, directory)
    assert stat.S_IMODE(copy.stat().st_mode) == 0o1777
    copy.chmod(0o700)
    assert put(root, directory) == [SAME]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o700


def test_link_in_place_of_a_directory(root: Path, tmp_path: Path) -> None:
    """A link where a directory should be isn't followed, wherever it points."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "usr").mkdir()
    file = tmp_path / "usr" / "file"
    file.touch()
    for target in (outside, "../" * 20 + str(outside)[1:], "outside"):
        trap = inside(root, tmp_path / "usr")
        trap.symlink_to(target)
        with pytest.raises(AlreadyExists, match="symbolic link is in the way"):
            put(root, file)
        with pytest.raises(AlreadyExists, match="symbolic link is in the way"):
            put(root, tmp_path / "usr")
        trap.unlink()
    assert list(outside.iterdir()) == []


def test_link_in_place_of_a_file(root: Path, tmp_path: Path) -> None:
    """A link where a file should be is replaced; what it points to is untouched."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = tmp_path / "file"
    file.write_text("new")
    inside(root, file).symlink_to(victim)
    assert put(root, file) == [REPLACED]
    assert victim.read_text() == "precious"
    assert not inside(root, file).is_symlink()


def test_trap_at_the_temporary_name(root: Path, tmp_path: Path) -> None:
    """What lies at the temporary name is swept away, not written through."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = tmp_path / "file"
    file.write_text("new")
    temporary = inside(root, tmp_path) / ".cloche.new"
    temporary.symlink_to(victim)
    assert put(root, file) == [NEW]
    assert victim.read_text() == "precious"
    assert not temporary.is_symlink()


def test_hard_link_to_a_file_elsewhere(root: Path, tmp_path: Path) -> None:
    """A file that is also linked elsewhere is replaced here, not written to."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = tmp_path / "file"
    file.write_text("new")
    os.link(victim, inside(root, file))
    assert put(root, file) == [REPLACED]
    assert victim.read_text() == "precious"


def test_fifo_in_place_of_a_file(root: Path, tmp_path: Path) -> None:
    """A FIFO where a file should be is replaced, and nobody waits for a reader."""
    file = tmp_path / "file"
    file.write_text("new")
    os.mkfifo(inside(root, file))
    assert put(root, file) == [REPLACED]


def test_kinds_that_clash(root: Path, tmp_path: Path) -> None:
    """A directory isn't replaced by a file or link, nor a file by a directory."""
    file, directory, link = tmp_path / "file", tmp_path / "directory", tmp_path / "link"
    file.touch()
    directory.mkdir()
    link.symlink_to("directory")
    inside(root, file).mkdir()
    inside(root, directory).touch()
    inside(root, link).mkdir()
    with pytest.raises(AlreadyExists, match="a directory is in the way"):
        put(root, file)
    with pytest.raises(AlreadyExists, match="a directory is in the way"):
        put(root, link)
    with pytest.raises(AlreadyExists, match="a file is in the way of a directory"):
        put(root, directory)


def test_root_of_the_machine(tmp_path: Path) -> None:
    """The machine's own root directory is refused, by any of its names."""
    (tmp_path / "link").symlink_to("/")
    for name in ("/", "//", "/usr/..", str(tmp_path / "link")):
        with pytest.raises(InvalidArgument, match="root directory of this machine"):
            Beneath(name)


def test_directories_that_cannot_be(tmp_path: Path) -> None:
    """An empty name, a file and a place that can't hold directories are refused."""
    (tmp_path / "file").touch()
    with pytest.raises(InvalidArgument, match="empty name"):
        Beneath("")
    for name in ("file", "file/x"):
        with pytest.raises(InvalidArgument, match="not a directory"):
            Beneath(str(tmp_path / name))
    with pytest.raises((NotFound, PermissionDenied)):
        Beneath("/proc/self/nothing")


@pytest.mark.needs("root")
def test_owner_and_set_user_id(root: Path, tmp_path: Path) -> None:
    """Root keeps owners, and with them set-user-ID bits."""
    file = tmp_path / "file"
    file.touch()
    os.chown(file, 1234, 5678)
    file.chmod(0o4755)
    put(root, file)
    status = inside(root, file).stat()
    assert (status.st_uid, status.st_gid) == (1234, 5678)
    assert stat.S_IMODE(status.st_mode) == 0o4755


@pytest.mark.needs("root")
def test_capabilities(root: Path, tmp_path: Path) -> None:
    """Root keeps file capabilities."""
    file = tmp_path / "file"
    file.touch()
    net_raw = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(file, "security.capability", net_raw)
    put(root, file)
    assert os.getxattr(inside(root, file), "security.capability") == net_raw


def test_set_user_id_is_dropped(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user's copy has another owner, so it loses the set-user-ID bit."""
    file = tmp_path / "file"
    file.touch()
    file.chmod(0o6755)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert put(root, file) == [NEW]
    assert stat.S_IMODE(inside(root, file).stat().st_mode) == 0o755
    assert put(root, file) == [SAME]
