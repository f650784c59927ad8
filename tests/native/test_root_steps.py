"""The steps that build the wall of the root: mounts, files, entering."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from cloche.kernel import flags
from cloche.plan import steps
from tests.native.containers import PROC, Box, Treasure, tmpfs
from tests.native.launching import WHY

pytestmark = pytest.mark.needs("busybox")

READ_ONLY = flags.MOUNT_ATTR_RDONLY
CHARACTER_DEVICE = stat.S_IFCHR | 0o666


# --- mounts ------------------------------------------------------------------------------------


def test_mount_point_is_made_with_its_parents(box: Box) -> None:
    """A missing mount point is made, as a directory, with every missing parent."""
    done = box.run(PROC, tmpfs("/a/b/../c/"), command="stat -c %a /a /a/c; cat /proc/mounts")
    assert done.failure is None
    assert done.stdout.startswith("755\n1777\n")
    assert "tmpfs /a/c tmpfs rw" in done.stdout


def test_bind_of_a_file_makes_a_file(box: Box, treasure: Treasure) -> None:
    """The mount point of a bound file is an empty file."""
    file = treasure.path / "file"
    done = box.run(steps.bind(str(file), "/x/y", why=WHY), command="cat /x/y")
    assert done.stdout == "precious\n"
    assert (box.image / "x/y").read_bytes() == b""


def test_mount_names_the_file_systems_own_complaint(box: Box) -> None:
    """What the file system says about a bad option is part of the record."""
    done = box.run(tmpfs("/x", "size=banana"))
    assert done.failure == (
        "mount",
        "fsconfig",
        "/x: tmpfs: Bad value for 'size'",
        errno.EINVAL,
    )


def test_mount_of_an_unknown_type(box: Box) -> None:
    """A file system that the kernel doesn't have is named."""
    done = box.run(steps.mount("nosuchfs", "", (), 0, "/x", why=WHY))
    assert done.failure == ("mount", "fsopen", "/x: nosuchfs", errno.ENODEV)


def test_mount_upon_the_root_is_refused(box: Box) -> None:
    """A mount on the root itself would hide it, and is refused however it is spelt."""
    (box.image / "self").symlink_to("/")
    for dest in ("/", "/self", "/bin/.."):
        for step in (
            tmpfs(dest),
            steps.bind("/usr", dest, why=WHY),
            steps.mask(dest, why=WHY),
            steps.readonly(dest, why=WHY),
        ):
            done = box.run(step)
            assert done.failure == (step.operation.name, "move_mount", dest, errno.EBUSY)


def test_bind_is_read_only_with_all_beneath(box: Box, treasure: Treasure) -> None:
    """Recursive attributes reach mounts beneath the bound one."""
    inner = steps.mount_on_host("tmpfs", "tmpfs", (), 0, str(treasure.path), why=WHY)
    bind = steps.bind(str(treasure.path.parent), "/all", set_recursive=READ_ONLY, why=WHY)
    done = box.run(inner, bind, command="touch /all/x /all/treasure/x")
    assert done.stderr.count("Read-only file system") == 2


def test_bind_is_read_only_at_the_top_alone(box: Box, treasure: Treasure) -> None:
    """Plain attributes are those of the top mount."""
    inner = steps.mount_on_host("tmpfs", "tmpfs", (), 0, str(treasure.path), why=WHY)
    bind = steps.bind(str(treasure.path.parent), "/all", set=READ_ONLY, why=WHY)
    done = box.run(inner, bind, command="touch /all/x; touch /all/treasure/x && echo inner")
    assert done.stderr.count("Read-only file system") == 1
    assert done.stdout == "inner\n"


@pytest.mark.needs("userns")
def test_locked_flags_are_named(user_box: Box) -> None:
    """A user namespace can't clear flags of the host's mounts: an error that says so."""
    locked = steps.mount_on_host("tmpfs", "tmpfs", (), READ_ONLY, "/mnt", why=WHY)
    unshare = steps.unshare(flags.CLONE_NEWUSER | flags.CLONE_NEWNS, why=WHY)
    bind = steps.bind("/mnt", "/mnt", clear=READ_ONLY, why=WHY)
    done = user_box.run(locked, unshare, bind)
    assert done.failure is not None
    operation, call, path, error = done.failure
    assert (operation, call, error) == ("bind", "mount_setattr", errno.EPERM)
    assert "locked" in path


@pytest.mark.needs("root")
def test_tree_of_the_host_is_cut_off(root_box: Box, treasure: Treasure) -> None:
    """What is mounted on a tree that the host has opened doesn't come to the host."""
    plan = [
        steps.open_tree(4, str(treasure.path), recursive=True, why=WHY),
        *root_box.plan(
            steps.bind("", "/tree", slot=4, why=WHY),
            tmpfs("/tree/file-system"),
            command="echo x > /tree/file-system/x; cat /tree/file",
        ),
    ]
    (treasure.path / "file-system").mkdir()
    treasure.accept()
    done = root_box.launch(plan)
    assert (done.failure, done.stdout) == (None, "precious\n")


@pytest.mark.needs("root")
def test_root_from_a_tree_of_the_host(root_box: Box, workspace: Path) -> None:
    """The root can be a tree that only the host may open, attached at another directory."""
    place = workspace / "place"
    place.mkdir()
    plan = [
        steps.open_tree(4, str(root_box.image), recursive=True, why=WHY),
        *root_box.plan(
            steps.open_root(str(place), slot=4, clone=True, why=WHY),
            tmpfs("/tmp"),
            command="ls /",
        ),
    ]
    done = root_box.launch(plan)
    assert (done.failure, done.stdout) == (None, "bin\ntmp\n")
    assert list(place.iterdir()) == []


def test_empty_slot_is_refused(box: Box) -> None:
    """A slot that nothing has filled is an error."""
    done = box.run(steps.bind("", "/x", slot=5, why=WHY))
    assert done.failure == ("bind", "open_tree", "", errno.EBADF)


def test_missing_bind_source_is_named(box: Box) -> None:
    """A source that isn't there is named by its path on the host."""
    done = box.run(steps.bind("/no/such/thing", "/x", why=WHY))
    assert done.failure == ("bind", "open_tree", "/no/such/thing", errno.ENOENT)


@pytest.mark.needs("overlay")
def test_overlay_with_a_long_list_of_layers(box: Box, workspace: Path) -> None:
    """Options beyond the 255 bytes that fsconfig takes reach the file system all the same."""
    layers = [workspace / f"{number}-{'x' * 100}" for number in range(4)]
    for layer in layers:
        layer.mkdir(mode=0o755)
        (layer / f"file{layer.name[0]}").touch()
    lower = "lowerdir=" + ":".join(map(str, [*layers, box.image]))
    place = workspace / "merged"
    place.mkdir()
    done = box.run(
        steps.mount_on_host("overlay", "overlay", (lower,), 0, str(place), why=WHY),
        steps.open_root(str(place), clone=False, why=WHY),
        command="ls /",
    )
    assert done.failure is None
    assert done.stdout.split() == ["bin", "file0", "file1", "file2", "file3"]
    assert list(place.iterdir()) == []


def test_directory_on_a_new_mount(box: Box, workspace: Path) -> None:
    """A directory is made on what was mounted, not on the host's directory beneath."""
    place = workspace / "scratch"
    place.mkdir()
    done = box.run(
        steps.mount_on_host("tmpfs", "tmpfs", (), 0, str(place), why=WHY),
        steps.make_dir_on_mount(f"{place}/upper", 0o700, why=WHY),
        steps.bind(f"{place}/upper", "/upper", why=WHY),
        command="stat -c %a /upper",
    )
    assert done.stdout == "700\n"
    assert list(place.iterdir()) == []


def test_attributes_of_the_root_after_entering(box: Box) -> None:
    """The root can be made read-only once it is the root."""
    attributes = steps.mount_attributes("/", set=READ_ONLY, why=WHY)
    done = box.run(then=[attributes], command="touch /x")
    assert "Read-only file system" in done.stderr


def test_attributes_of_what_is_no_mount(box: Box) -> None:
    """Only a mount has attributes."""
    done = box.run(steps.mount_attributes("/bin", set=READ_ONLY, why=WHY))
    assert done.failure == ("mount_attributes", "mount_setattr", "/bin", errno.EINVAL)


# --- files made in the root --------------------------------------------------------------------


def test_make_dir_in_root(box: Box) -> None:
    """A directory has the mode asked for, its parents 0755, and one that is there stays."""
    (box.image / "bin").chmod(0o711)
    done = box.run(
        steps.umask(0o077, why=WHY),
        steps.make_dir_in_root("/a/b", 0o1777, why=WHY),
        steps.make_dir_in_root("/bin", 0o1777, why=WHY),
        command="stat -c '%a %u' /a /a/b /bin",
    )
    assert done.stdout == "755 0\n1777 0\n711 0\n"


@pytest.mark.needs("root")
def test_owner_of_what_is_made(root_box: Box) -> None:
    """Directories and nodes belong to whom the step names."""
    done = root_box.run(
        steps.make_dir_in_root("/a", 0o700, uid=3, gid=4, why=WHY),
        steps.make_node("/node", CHARACTER_DEVICE, 1, 3, uid=5, gid=6, why=WHY),
        command="stat -c '%a %u %g %t %T' /a /node",
    )
    assert done.stdout == "700 3 4 0 0\n666 5 6 1 3\n"


def test_make_link_in_root(box: Box) -> None:
    """A link is made as it is told, and what is there already stays."""
    done = box.run(
        steps.make_link_in_root("/proc/self/fd", "/dev/fd", why=WHY),
        steps.make_link_in_root("elsewhere", "/dev/fd", why=WHY),
    )
    assert done.failure is None
    assert os.readlink(box.image / "dev/fd") == "/proc/self/fd"


@pytest.mark.needs("root")
def test_node_that_is_there(root_box: Box, treasure: Treasure) -> None:
    """The same device may be there already; anything else isn't taken for it."""
    node = steps.make_node("/node", CHARACTER_DEVICE, 1, 3, why=WHY)
    assert root_box.run(node, node).failure is None
    taken = ("make_node", "mknodat", "/node", errno.EEXIST)
    assert root_box.run(steps.make_node("/node", CHARACTER_DEVICE, 1, 5, why=WHY)).failure == taken
    (root_box.image / "node").unlink()
    (root_box.image / "node").symlink_to(treasure.path / "file")
    assert root_box.run(node).failure == taken


# --- entering ----------------------------------------------------------------------------------


def test_pivot_root_leaves_nothing_of_the_host(box: Box) -> None:
    """After it only the container's own mounts exist, and ".." of the root is the root."""
    done = box.run(PROC, command="cat /proc/self/mountinfo; ls -d /../bin; ls /..")
    mounts, listing = done.stdout.split("/../bin\n")
    assert [line.split()[4] for line in mounts.splitlines()] == ["/", "/proc"]
    assert listing.split() == ["bin", "proc"]


def test_mount_after_entering(box: Box) -> None:
    """Steps that work in the root still do so when it has become the root."""
    done = box.run(then=[tmpfs("/late")], command="touch /late/x; ls /late")
    assert done.stdout == "x\n"


def test_chdir_makes_missing_directories(box: Box) -> None:
    """The working directory is made when this is wanted, and an error when not."""
    done = box.run(then=[steps.chdir("/a/b", create=True, why=WHY)], command="pwd")
    assert done.stdout == "/a/b\n"
    done = box.run(then=[steps.chdir("/c", create=False, why=WHY)])
    assert done.failure == ("chdir", "openat2", "/c", errno.ENOENT)
    done = box.run(then=[steps.chdir("/bin/sh", create=False, why=WHY)])
    assert done.failure == ("chdir", "openat2", "/bin/sh", errno.ENOTDIR)


@pytest.mark.needs("root")
def test_propagation(root_box: Box) -> None:
    """Propagation is that of the flags, for all mounts where they say so."""
    shared = steps.propagation(flags.MS_SHARED, why=WHY)
    done = root_box.run(PROC, then=[shared], command="cat /proc/self/mountinfo")
    assert ["shared:" in line for line in done.stdout.splitlines()] == [True, False]


def test_open_root_that_is_no_directory(box: Box) -> None:
    """The root has to be a directory that is there."""
    done = box.run(steps.open_root(str(box.image / "bin/sh"), clone=True, why=WHY))
    assert done.failure == ("open_root", "open", str(box.image / "bin/sh"), errno.ENOTDIR)
