"""The steps that build the wall of the root, and attacks on each of them.

An attack is an image (or a container that shares its directory) that tries to lead the launcher
outside, to what the host has there.  Nothing of the host may change and nothing be shown.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.steps import Step
from tests.native.containers import (
    DEV,
    DEVPTS,
    ORDINARY_ID,
    PROC,
    WHY,
    Box,
    Treasure,
    make_box,
)

pytestmark = pytest.mark.needs("busybox")

READ_ONLY = flags.MOUNT_ATTR_RDONLY
CHARACTER_DEVICE = stat.S_IFCHR | 0o666


@pytest.fixture(
    params=[
        pytest.param(None, id="root", marks=pytest.mark.needs("root")),
        pytest.param(ORDINARY_ID, id="userns", marks=pytest.mark.needs("userns")),
    ]
)
def box(request: pytest.FixtureRequest, workspace: Path) -> Box:
    """A container of root's, and one of an ordinary user."""
    return make_box(workspace, request.param)


@pytest.fixture
def root_box(workspace: Path) -> Box:
    """A container of root's."""
    return make_box(workspace, None)


@pytest.fixture
def user_box(workspace: Path) -> Box:
    """A container of an ordinary user's."""
    return make_box(workspace, ORDINARY_ID)


@pytest.fixture
def treasure(workspace: Path) -> Iterator[Treasure]:
    """What no container may touch; checked at the end."""
    found = Treasure(workspace)
    yield found
    found.assert_untouched()


def tmpfs(dest: str, *options: str) -> Step:
    """Return a step that mounts a tmpfs."""
    return steps.mount("tmpfs", "tmpfs", options, 0, dest, why=WHY)


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
        done = box.run(tmpfs(dest))
        assert done.failure == ("mount", "move_mount", dest, errno.EBUSY)


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


# --- paths in the root: attacks ----------------------------------------------------------------


def test_absolute_link_stays_inside(box: Box, treasure: Treasure) -> None:
    """An absolute symbolic link in the image counts from the image's root."""
    inside = Path(f"{box.image}{treasure.path}")
    inside.mkdir(parents=True)
    (box.image / "link").symlink_to(treasure.path)
    done = box.run(tmpfs("/link"), command=f"touch {treasure.path}/x && echo inside")
    assert done.stdout == "inside\n"
    assert list(inside.iterdir()) == []


@pytest.mark.parametrize("up", ["..", "../" * 30])
def test_dots_stay_inside(box: Box, treasure: Treasure, up: str) -> None:
    """However many ".." lead up, they lead to the image's root."""
    (box.image / "link").symlink_to(f"{up}{treasure.path}")
    done = box.run(tmpfs(f"/bin/{up}/{treasure.path}"), command=f"ls {treasure.path}")
    assert (done.failure, done.stdout) == (None, "")
    done = box.run(steps.make_dir_in_root(f"/link/{up}/made", 0o755, why=WHY))
    assert done.failure is None
    assert not (treasure.path.parent / "made").exists()


@pytest.mark.parametrize(
    "step",
    [
        tmpfs("/link"),
        tmpfs("/link/below"),
        steps.bind("/dev/null", "/link", why=WHY),
        steps.make_dir_in_root("/link/below", 0o755, why=WHY),
        steps.make_link_in_root("x", "/link/below", why=WHY),
        steps.make_node("/link/below", stat.S_IFIFO | 0o600, 0, 0, why=WHY),
    ],
    ids=lambda step: f"{step.operation.name}-{step.arguments[-1]}",
)
def test_dangling_link_is_an_error(box: Box, treasure: Treasure, step: Step) -> None:
    """Where a link dangles, neither it nor its target is made into anything."""
    (box.image / "link").symlink_to(treasure.path / "new")
    done = box.run(step)
    assert done.failure is not None
    operation, call, _, error = done.failure
    assert operation == step.operation.name
    assert (call, error) in {("mkdirat", errno.EEXIST), ("mknodat", errno.EEXIST)}
    assert sorted(path.name for path in box.image.iterdir()) == ["bin", "link"]


@pytest.mark.parametrize("link", ["/proc/self/root", "/proc/1/root", "/proc/self/cwd"])
def test_magic_links_are_not_followed(box: Box, treasure: Treasure, link: str) -> None:
    """A link of /proc that jumps out of the root is refused, given or met on the way."""
    (box.image / "link").symlink_to(link)
    for dest in (f"{link}{treasure.path}", f"/link{treasure.path}"):
        done = box.run(PROC, tmpfs(dest))
        assert done.failure == ("mount", "openat2", dest, errno.ELOOP)


@pytest.mark.parametrize("inside", [False, True], ids=["dangling", "inside"])
def test_dev_is_a_link_to_the_host(box: Box, treasure: Treasure, inside: bool) -> None:
    """A /dev that points to a directory of the host never gets there (CVE-2026-41579)."""
    (box.image / "dev").symlink_to(treasure.path)
    if inside:
        Path(f"{box.image}{treasure.path}").mkdir(parents=True)
    done = box.run(
        DEV,
        DEVPTS,
        steps.make_link_in_root("/proc/self/fd", "/dev/fd", why=WHY),
        steps.bind("/dev/null", "/dev/null", why=WHY),
        steps.console("/dev/console", why=WHY),
        steps.make_node("/dev/fifo", stat.S_IFIFO | 0o666, 0, 0, why=WHY),
        command="ls /dev/",
    )
    if inside:
        assert done.stdout.split() == ["console", "fd", "fifo", "null", "pts"]
    else:
        assert done.failure == ("mount", "mkdirat", "/dev", errno.EEXIST)


def test_files_in_the_way_stay(box: Box) -> None:
    """A path through a file is an error, and the file stays."""
    (box.image / "file").write_text("x")
    done = box.run(tmpfs("/file/below"))
    assert done.failure == ("mount", "openat2", "/file/below", errno.ENOTDIR)
    done = box.run(tmpfs("/file"))
    assert done.failure == ("mount", "move_mount", "/file", errno.ENOTDIR)
    done = box.run(steps.bind("/dev/null", "/bin", why=WHY))
    assert done.failure == ("bind", "move_mount", "/bin", errno.EISDIR)


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


# --- the console -------------------------------------------------------------------------------


def test_console(box: Box) -> None:
    """The console is a terminal of the container's own, of the size asked for."""
    done = box.run(
        PROC,
        DEV,
        DEVPTS,
        steps.console("/dev/console", rows=33, columns=111, why=WHY),
        command="stty size < /dev/console; stat -c '%F %u' /dev/console; ls /dev/pts",
    )
    assert done.stdout == "33 111\ncharacter special file 0\n0\nptmx\n"


@pytest.mark.parametrize("target", ["/treasure", "file", "/dev/pts/0", "/proc/self/fd/0"])
def test_console_is_a_link(box: Box, treasure: Treasure, target: str) -> None:
    """A /dev/console that is a link isn't followed (CVE-2025-52565)."""
    (box.image / "dev").mkdir()
    (box.image / "dev/file").write_text("x")
    link = box.image / "dev/console"
    link.symlink_to(treasure.path / "file" if target == "/treasure" else target)
    done = box.run(PROC, DEVPTS, steps.console("/dev/console", why=WHY))
    assert done.failure == ("console", "openat", "/dev/console", errno.ELOOP)


def test_console_without_a_devpts(box: Box) -> None:
    """A directory that merely has a ptmx is no devpts."""
    (box.image / "dev/pts").mkdir(parents=True)
    (box.image / "dev/pts/ptmx").symlink_to("/dev/ptmx")
    done = box.run(steps.console("/dev/console", why=WHY))
    assert done.failure == ("console", "fstatfs", "/dev/pts: isn't a devpts", errno.ENODEV)


def test_console_with_something_upon_ptmx(box: Box) -> None:
    """What is mounted upon ptmx isn't opened."""
    upon = steps.bind("/dev/null", "/dev/pts/ptmx", why=WHY)
    done = box.run(DEV, DEVPTS, upon, steps.console("/dev/console", why=WHY))
    assert done.failure == ("console", "openat2", "/dev/pts/ptmx", errno.EXDEV)


# --- masks and read-only paths -----------------------------------------------------------------


def test_mask(box: Box) -> None:
    """A masked directory is empty, a masked file is the null device, both read-only."""
    done = box.run(
        PROC,
        steps.mask("/proc/keys", why=WHY),
        steps.mask("/proc/fs", why=WHY),
        steps.mask("/proc/tty", why=WHY),
        steps.mask("/proc/no/such", why=WHY),
        steps.mask("/proc/version/no/such", why=WHY),
        command="cat /proc/keys; ls /proc/fs /proc/tty; stat -c '%F %t %T' /proc/keys;"
        "chmod 600 /proc/keys; touch /proc/fs/x /proc/tty/x",
    )
    assert done.stdout == "/proc/fs:\n\n/proc/tty:\ncharacter special file 1 3\n"
    assert done.stderr.count("Read-only file system") == 3


def test_mask_never_uses_the_images_null(box: Box) -> None:
    """A /dev/null of the image that is a link isn't what masks (CVE-2025-31133)."""
    (box.image / "dev").mkdir()
    (box.image / "dev/null").symlink_to("/proc/version")
    done = box.run(PROC, steps.mask("/proc/keys", why=WHY), command="stat -c '%t %T' /proc/keys")
    assert done.stdout == "1 3\n"


def test_mask_finds_the_procfs_that_was_mounted(box: Box) -> None:
    """Masks land on the procfs, wherever an image makes "/proc" point to meanwhile."""
    (box.image / "one").mkdir()
    (box.image / "two").mkdir()
    (box.image / "two/keys").write_text("decoy")
    (box.image / "proc").symlink_to("one")
    # The bind stands for another container that shares the directory and swaps the link.
    done = box.run(
        PROC,
        steps.bind(str(box.image / "two"), "/one", why=WHY),
        steps.mask("/proc/keys", why=WHY),
        then=[steps.mount("proc", "proc", (), 0, "/look", why=WHY)],
        command="cat /look/self/mountinfo",
    )
    masked = [line.split() for line in done.stdout.splitlines() if "/keys " in line]
    proc = next(line.split() for line in done.stdout.splitlines() if " - proc " in line)
    assert [(fields[1], fields[4]) for fields in masked] == [(proc[0], "/one/keys")]


def test_mask_outside_of_proc(box: Box, treasure: Treasure) -> None:
    """A masked path of the image is resolved in it, through links too."""
    (box.image / "secret").mkdir()
    (box.image / "secret/file").write_text("x")
    (box.image / "link").symlink_to("/secret")
    (box.image / "out").symlink_to(treasure.path)
    done = box.run(
        steps.mask("/link", why=WHY), steps.mask("/out", why=WHY), command="ls /secret"
    )
    assert (done.failure, done.stdout) == (None, "")


def test_readonly(box: Box) -> None:
    """A read-only path can't be written nor anything mounted beneath it; a missing one is none."""
    (box.image / "a/b").mkdir(parents=True)
    done = box.run(
        PROC,
        tmpfs("/a/b"),
        steps.readonly("/a", why=WHY),
        steps.readonly("/proc/sys", why=WHY),
        steps.readonly("/no/such", why=WHY),
        command="touch /a/x /a/b/x; echo x > /proc/sys/kernel/domainname",
    )
    assert done.stderr.count("Read-only file system") == 3


# --- kernel parameters -------------------------------------------------------------------------


def test_sysctl(box: Box) -> None:
    """A parameter is set in the container's namespaces only."""
    before = Path("/proc/sys/kernel/msgmax").read_text()
    done = box.run(
        PROC,
        steps.sysctl("kernel/msgmax", "1234", why=WHY),
        steps.readonly("/proc/sys", why=WHY),
        command="cat /proc/sys/kernel/msgmax",
    )
    assert done.stdout == "1234\n"
    assert Path("/proc/sys/kernel/msgmax").read_text() == before


def test_sysctl_is_never_written_to_the_image(box: Box) -> None:
    """What an image has at /proc/sys isn't written to, nor does it lead elsewhere."""
    directory = box.image / "proc/sys/kernel"
    directory.mkdir(parents=True)
    (directory / "msgmax").write_text("decoy")
    done = box.run(steps.sysctl("kernel/msgmax", "1234", why=WHY))
    assert done.failure is None
    assert (directory / "msgmax").read_text() == "decoy"


def test_sysctl_that_is_not_there(box: Box) -> None:
    """A parameter that doesn't exist is named by its path."""
    done = box.run(steps.sysctl("no/such", "1", why=WHY))
    assert done.failure == ("sysctl", "openat2", "/proc/sys/no/such", errno.ENOENT)
    done = box.run(steps.sysctl("kernel/msgmax", "banana", why=WHY))
    assert done.failure == ("sysctl", "write", "/proc/sys/kernel/msgmax", errno.EINVAL)


def test_sysctl_does_not_leave_proc(box: Box, treasure: Treasure) -> None:
    """No path leads out of the procfs: neither dots nor its magic links."""
    for path, error in (
        (f"../..{treasure.path}/file", errno.EXDEV),
        (f"../self/root{treasure.path}/file", errno.ELOOP),
    ):
        assert box.run(steps.sysctl(path, "1", why=WHY)).failure == (
            "sysctl",
            "openat2",
            f"/proc/sys/{path}",
            error,
        )


@pytest.mark.needs("userns", "root")
def test_sysctl_where_proc_can_not_be_mounted(root_box: Box) -> None:
    """A user namespace that gets no procfs of its own makes do with the one that is there."""
    done = root_box.run(
        steps.mount_on_host("tmpfs", "tmpfs", (), 0, "/proc/tty", why=WHY),
        steps.unshare(flags.CLONE_NEWUSER | flags.CLONE_NEWNS, why=WHY),
        steps.sysctl("kernel/msgmax", "1234", why=WHY),
        steps.open_root(str(root_box.image), clone=True, why=WHY),
        steps.bind("/proc", "/proc", why=WHY),
        command="cat /proc/sys/kernel/msgmax",
    )
    assert (done.failure, done.stdout) == (None, "1234\n")


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


@pytest.mark.parametrize("create", [False, True])
def test_leaked_directory_is_no_way_out(box: Box, treasure: Treasure, create: bool) -> None:
    """A file descriptor that leaked in doesn't open the host (CVE-2024-21626)."""
    fd = os.open(treasure.path, os.O_RDONLY | os.O_DIRECTORY)
    (box.image / "link").symlink_to(f"/proc/self/fd/{fd}")
    try:
        for path in (f"/proc/self/fd/{fd}", f"/proc/self/fd/{fd}/..", "/link", "/proc/self/cwd"):
            done = box.run(
                PROC, then=[steps.chdir(path, create=create, why=WHY)], pass_fds=(fd,)
            )
            assert done.failure == ("chdir", "openat2", path, errno.ELOOP)
    finally:
        os.close(fd)


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
