"""Attacks on the steps that build the wall of the root.

An image, or a container that shares its directory, tries to lead the launcher outside, to what
the host has there.  Nothing of the host may change.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from cloche.plan import steps
from cloche.plan.steps import Step
from tests.native.containers import DEV, DEVPTS, PROC, Box, Treasure, tmpfs
from tests.native.launching import WHY

pytestmark = pytest.mark.needs("busybox")

AT_FDCWD, RENAME_EXCHANGE = -100, 2


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


@pytest.mark.parametrize("dest", ["/link", "/link/below", "/up/below"])
def test_mount_point_that_dangles(box: Box, treasure: Treasure, dest: str) -> None:
    """What a link dangles at is made in the image, never on the host."""
    (box.image / "link").symlink_to(treasure.path / "new")
    (box.image / "up").symlink_to(f"../../..{treasure.path}/new")
    done = box.run(tmpfs(dest), command=f"cd {dest} && pwd -P")
    assert done.failure is None
    assert done.stdout == f"{treasure.path}/new{dest.removeprefix('/link').removeprefix('/up')}\n"


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
    assert done.stdout.split() == ["console", "fd", "fifo", "null", "pts"]


def test_directory_that_is_swapped_meanwhile(box: Box, treasure: Treasure) -> None:
    """Another container may swap a directory for a link at any moment, and gains errors only."""
    (box.image / "place").mkdir()
    (box.image / "swap").symlink_to(treasure.path)
    stop = threading.Event()
    libc = ctypes.CDLL(None)
    one, two = os.fsencode(box.image / "place"), os.fsencode(box.image / "swap")

    def swap() -> None:
        while not stop.is_set():
            libc.renameat2(AT_FDCWD, one, AT_FDCWD, two, RENAME_EXCHANGE)

    box.own_image()
    thread = threading.Thread(target=swap)
    thread.start()
    plan = box.plan(
        steps.make_dir_in_root("/place/a/b/c", 0o777, why=WHY),
        steps.bind("/dev/null", "/place/a/file", why=WHY),
        tmpfs("/place/d/e"),
    )
    try:
        codes = {box.launch(plan).code for _ in range(40)}
    finally:
        stop.set()
        thread.join()
    assert codes <= {0, 125}


def test_files_in_the_way_stay(box: Box) -> None:
    """A path through a file is an error, and the file stays."""
    (box.image / "file").write_text("x")
    done = box.run(tmpfs("/file/below"))
    assert done.failure == ("mount", "openat2", "/file/below", errno.ENOTDIR)
    done = box.run(tmpfs("/file"))
    assert done.failure == ("mount", "move_mount", "/file", errno.ENOTDIR)
    done = box.run(steps.bind("/dev/null", "/bin", why=WHY))
    assert done.failure == ("bind", "move_mount", "/bin", errno.EISDIR)


@pytest.mark.parametrize("create", [False, True])
def test_leaked_directory_is_no_way_out(box: Box, treasure: Treasure, create: bool) -> None:
    """A file descriptor that leaked in doesn't open the host (CVE-2024-21626)."""
    leaking = ("sh", "-c", f'exec 9< {treasure.path}; exec "$@"', "sh")
    (box.image / "link").symlink_to("/proc/self/fd/9")
    for path in ("/proc/self/fd/9", "/proc/self/fd/9/..", "/link", "/proc/self/cwd"):
        done = box.run(PROC, then=[steps.chdir(path, create=create, why=WHY)], wrapper=leaking)
        assert done.failure == ("chdir", "openat2", path, errno.ELOOP)
