"""The console, masks, read-only paths and kernel parameters, and attacks on each of them."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from cloche.kernel import flags
from cloche.plan import steps
from tests.native.containers import DEV, DEVPTS, PROC, Box, Treasure, tmpfs
from tests.native.launching import WHY

pytestmark = pytest.mark.needs("busybox")


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
    (box.image / "proc").symlink_to("one")
    # The mount stands for another container that shares the directory and swaps the link.
    done = box.run(
        PROC,
        steps.mount_on_host("tmpfs", "tmpfs", (), 0, str(box.image / "one"), why=WHY),
        steps.make_dir_on_mount(str(box.image / "one/keys"), 0o755, why=WHY),
        steps.mask("/proc/keys", why=WHY),
        then=[steps.mount("proc", "proc", (), 0, "/look", why=WHY)],
        command="cat /look/self/mountinfo",
    )
    masked = [line.split() for line in done.stdout.splitlines() if "/keys " in line]
    proc = next(line.split() for line in done.stdout.splitlines() if " - proc " in line)
    assert [(fields[1], fields[4]) for fields in masked] == [(proc[0], "/one/keys")]


def test_mask_where_proc_is_mounted_twice(box: Box) -> None:
    """What was mounted at "/proc" last is what masks apply to, and that is a procfs."""
    done = box.run(PROC, PROC, steps.mask("/proc/version", why=WHY), command="cat /proc/version")
    assert (done.failure, done.code, done.stdout) == (None, 0, "")
    (box.image / "fake").mkdir()
    fake = steps.bind(str(box.image / "fake"), "/proc", why=WHY)
    path = "/proc: only a procfs can be mounted there"
    assert box.run(PROC, fake).failure == ("bind", "move_mount", path, errno.EPERM)


def test_mask_outside_of_proc(box: Box, treasure: Treasure) -> None:
    """A masked path of the image is resolved in it, through links too."""
    (box.image / "secret").mkdir()
    (box.image / "secret/file").write_text("x")
    (box.image / "link").symlink_to("/secret")
    (box.image / "out").symlink_to(treasure.path)
    done = box.run(steps.mask("/link", why=WHY), steps.mask("/out", why=WHY), command="ls /secret")
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
