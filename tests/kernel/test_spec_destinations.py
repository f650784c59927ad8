"""Where mounts of a spec go, in real containers: links, files, /proc, and what lies beneath."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from cloche.kernel import mountinfo
from tests.kernel.attacks.conftest import Treasure
from tests.kernel.specs import Bundle

pytestmark = pytest.mark.needs("root", "busybox")
HIDES = "it would hide a part of /proc"


@pytest.fixture
def bundle(workspace: Path) -> Bundle:
    """A container with a root directory of its own."""
    return Bundle(workspace)


@pytest.fixture
def treasure(workspace: Path) -> Treasure:
    """A directory of the host that nothing may get to."""
    return Treasure(workspace / "treasure")


# --- paths -------------------------------------------------------------------------------------


def test_relative_destination(bundle: Bundle) -> None:
    """It is relative to "/", whatever the working directory is."""
    bundle.spec["process"]["cwd"] = "/bin"
    bundle.mount("one/two")
    (mount,) = bundle.mounts("/one/two")
    assert mount.fstype == "tmpfs"


def test_destination_behind_links(bundle: Bundle) -> None:
    """Links lead to where they lead in the container."""
    (bundle.root / "run").mkdir()
    (bundle.root / "var").mkdir()
    (bundle.root / "var/run").symlink_to("/run")
    (bundle.root / "up").symlink_to("../../../run")
    bundle.mount("/var/run/one")
    bundle.mount("/up/two")
    assert [mount.path for mount in bundle.mounts("/run/one", "/run/two")]


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_destination_that_links_to_nothing(bundle: Bundle, treasure: Treasure, kind: str) -> None:
    """What a link points to is made, in the root, as for an image's /etc/resolv.conf."""
    (bundle.root / "etc").mkdir()
    (bundle.root / "etc/name").symlink_to("../var/one/./name")
    (bundle.root / "var").symlink_to("/bin/../second")
    (bundle.root / "second").symlink_to(treasure.path / "new")
    source = treasure.path / "file" if kind == "file" else treasure.path
    bundle.mount("/etc/name", "bind", source=str(source))
    name = "name" if kind == "file" else "name/file"
    done = bundle.run(f"cat /etc/{name} {treasure.path}/new/one/{name}")
    assert done.failure is None, done.failure
    assert done.stdout == "treasuretreasure"
    assert not (treasure.path / "new").exists()


def test_destination_that_links_to_itself(bundle: Bundle) -> None:
    """Links that go round are an error."""
    (bundle.root / "loop").symlink_to("loop")
    bundle.mount("/loop")
    assert bundle.run().failure == ("mount", "openat2", "/loop", errno.ELOOP)


@pytest.mark.parametrize("kind", ["file", "fifo", "socket"])
def test_bind_of_what_is_no_directory(bundle: Bundle, workspace: Path, kind: str) -> None:
    """A file, FIFO or socket is bound over a file, made if it is missing."""
    source = workspace / "source"
    if kind == "file":
        source.touch()
    elif kind == "fifo":
        os.mkfifo(source)
    else:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(source))
    (bundle.root / "there").write_text("covered")
    bundle.mount("/there", "bind", source=str(source))
    bundle.mount("/deep/new", "bind", source=str(source))
    done = bundle.run("stat -c %F /there /deep/new")
    expected = {"file": "regular empty file", "fifo": "fifo", "socket": "socket"}[kind]
    assert done.stdout == f"{expected}\n" * 2
    assert (bundle.root / "there").read_text() == "covered"


# --- /proc -------------------------------------------------------------------------------------


@pytest.mark.parametrize("destination", ["/proc", "/link", "proc/.", "/bin/../proc"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_only_a_procfs_at_proc(
    bundle: Bundle, treasure: Treasure, destination: str, kind: str
) -> None:
    """Nothing else is mounted at /proc, before or after the procfs, whatever the path."""
    (bundle.root / "proc").mkdir()
    (bundle.root / "link").symlink_to("proc")
    before: list[list[object]] = [[], bundle.spec["mounts"]]
    for mounts in before:
        bundle.spec["mounts"] = list(mounts)
        more = {} if kind == "tmpfs" else {"source": str(treasure.path), "options": ["bind"]}
        bundle.mount(destination, **more)
        done = bundle.run()
        assert done.failure is not None
        assert done.failure[1:] == (
            "move_mount",
            f"/{destination.lstrip('/')}: only a procfs can be mounted there",
            errno.EPERM,
        )


def test_procfs_that_is_bound(bundle: Bundle) -> None:
    """A procfs may be bound at /proc."""
    bundle.spec["mounts"] = []
    bundle.linux["namespaces"] = [{"type": "mount"}]
    bundle.mount("/proc", "rbind", source="/proc")
    (mount,) = bundle.mounts("/proc")
    assert mount.fstype == "proc"


def test_files_in_proc_that_may_be_covered(bundle: Bundle, workspace: Path) -> None:
    """Files that tell of the machine's resources may tell of the container's (lxcfs)."""
    (workspace / "fake").write_text("fake\n")
    names = ("cpuinfo", "meminfo", "stat", "uptime", "swaps", "diskstats", "loadavg")
    for name in names:
        bundle.mount(f"/proc/{name}", "bind", source=str(workspace / "fake"))
    bundle.mount("/proc/meminfo", "bind", source=str(workspace / "fake"))
    done = bundle.run("cat " + " ".join(f"/proc/{name}" for name in names))
    assert done.stdout == "fake\n" * len(names)


@pytest.mark.parametrize(
    ("destination", "kind"),
    [
        ("/proc/self/attr", "tmpfs"),
        ("/proc/sys", "tmpfs"),
        ("/proc/version", "file"),
        ("/link/sys/kernel", "tmpfs"),
        ("/proc/1/environ", "file"),
        ("/other/version", "file"),
    ],
)
def test_what_else_is_in_proc(bundle: Bundle, workspace: Path, destination: str, kind: str) -> None:
    """No other part of it is covered, also not by a detour (CVE-2019-16884, CVE-2025-52881)."""
    (workspace / "fake").write_text("fake\n")
    (bundle.root / "link").symlink_to("/proc")
    (bundle.root / "other").symlink_to("proc/../proc")
    source = {"source": str(workspace / "fake"), "options": ["bind"]}
    bundle.mount(destination, **({} if kind == "tmpfs" else source))
    done = bundle.run()
    assert done.failure is not None
    assert done.failure[1:] == ("move_mount", f"{destination}: {HIDES}", errno.EPERM)


# --- what lies beneath -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "mode"), [([], "711"), (["mode=700"], "700"), (["size=64k"], "711")]
)
def test_mode_of_what_is_beneath(bundle: Bundle, options: list[str], mode: str) -> None:
    """A tmpfs has the mode of the directory that it covers, unless it is told another."""
    (bundle.root / "place").mkdir(mode=0o711)
    bundle.mount("/place", *options)
    bundle.mount("/new")
    done = bundle.run("stat -c %a /place /new")
    assert done.stdout.split() == [mode, "1777"]


@pytest.fixture
def crowded(bundle: Bundle, treasure: Treasure) -> Path:
    """A directory in the root with all that a directory may hold."""
    place = bundle.root / "place"
    (place / "sub/empty").mkdir(parents=True)
    (place / "sub/file").write_text("content\n" * 50000)
    (place / ".hidden").touch()
    (place / "setuid").touch()
    os.chown(place / "setuid", 3, 4)
    (place / "setuid").chmod(0o6755)
    os.setxattr(place / "setuid", "security.capability", CAPABILITY)
    (place / "out").symlink_to(treasure.path)
    (place / "dangling").symlink_to("nowhere")
    os.mkfifo(place / "fifo", 0o600)
    os.mknod(place / "node", stat.S_IFCHR | 0o620, os.makedev(1, 3))
    (place / "sub").chmod(0o1770)
    os.utime(place / "sub/file", (1000, 2000))
    os.utime(place / "sub", (3000, 4000))
    place.chmod(0o750)
    os.chown(place, 5, 6)
    return place


CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
LOOK = (
    "cd /place; for file in . .hidden setuid out dangling fifo node sub sub/empty sub/file; do "
    "stat -c '%n %F %a %u:%g %s %t:%T' $file; done; readlink out; readlink dangling; "
    "stat -c %Y sub sub/file; cat sub/file | md5sum"
)


def without_sizes_of_directories(text: str) -> list[str]:
    """Return the lines about the same tree, wherever it lies."""
    lines = text.splitlines()
    return [" ".join(line.split()[:-2]) if " directory " in line else line for line in lines]


@pytest.mark.parametrize("own_users", [False, True])
def test_content_is_copied(
    bundle: Bundle, crowded: Path, treasure: Treasure, own_users: bool
) -> None:
    """Everything in the directory is there again: owners, modes, links, times; the host's stays."""
    bundle.capabilities("CAP_DAC_OVERRIDE")
    if own_users:
        (crowded / "node").unlink()  # can't be made in a user namespace
        bundle.own_users()
        (crowded / "setuid").chmod(0o6755)
    before = bundle.run(LOOK)
    bundle.mount("/place", "tmpcopyup", "ro", "size=8m")
    after = bundle.run(f"{LOOK}; touch /place/x; echo y > /place/sub/file")
    assert after.failure is None, after.failure
    lines = without_sizes_of_directories(before.stdout)
    assert without_sizes_of_directories(after.stdout) == lines
    assert len(lines) >= 14
    assert after.stderr.count("Read-only file system") == 2
    assert treasure.is_safe


def test_extended_attributes_are_copied(bundle: Bundle, crowded: Path) -> None:
    """File capabilities and other attributes come with a file."""
    os.setxattr(crowded / "sub/file", "trusted.mark", b"here")
    bundle.mount("/place", "tmpcopyup")
    running = bundle.start("echo ready; read line")
    stdout = running.process.stdout
    assert stdout is not None
    assert stdout.read(6) == b"ready\n"
    place = f"/proc/{running.look().pid}/root/place"
    assert os.getxattr(f"{place}/setuid", "security.capability") == CAPABILITY
    assert os.getxattr(f"{place}/sub/file", "trusted.mark") == b"here"
    assert running.wait(b"\n").code == 0


def test_mounts_beneath_are_not_copied(bundle: Bundle, workspace: Path) -> None:
    """What is mounted in the directory stays there; an empty directory stands for it."""
    (workspace / "secret").mkdir()
    (workspace / "secret/file").touch()
    (bundle.root / "place").mkdir()
    bundle.mount("/place/inner", source=str(workspace / "secret"), options=["bind"])
    bundle.mount("/place", "tmpcopyup")
    done = bundle.run("ls /place /place/inner")
    assert done.failure is None, done.failure
    assert done.stdout == "/place:\ninner\n\n/place/inner:\n"


def test_content_that_does_not_fit(bundle: Bundle, crowded: Path) -> None:
    """A file system that is too small is an error that names the file."""
    bundle.mount("/place", "tmpcopyup", "size=16k")
    done = bundle.run()
    assert done.failure == ("mount", "sendfile", "/place: file", errno.ENOSPC)


def test_content_that_is_too_deep(bundle: Bundle) -> None:
    """A tree without end is an error."""
    (bundle.root / "place" / "/".join("d" * 110)).mkdir(parents=True)
    bundle.mount("/place", "tmpcopyup")
    done = bundle.run()
    assert done.failure is not None
    assert done.failure[3] == errno.ELOOP


def test_content_that_is_swapped_meanwhile(
    bundle: Bundle, treasure: Treasure, workspace: Path
) -> None:
    """Who swaps a file or directory for a link as it is copied gains errors, nothing else."""
    place = bundle.root / "place"
    place.mkdir()
    (place / "entry").mkdir()
    (place / "entry/file").write_text("own")
    (place / "link").symlink_to(treasure.path)
    swap = (
        "import ctypes, os\n"
        "libc = ctypes.CDLL(None)\n"
        f"os.chdir({str(place)!r})\n"
        "while True: libc.renameat2(-100, b'entry', -100, b'link', 2)\n"
    )
    bundle.mount("/place", "tmpcopyup")
    with subprocess.Popen(["python3", "-c", swap]) as swapper:
        try:
            outputs = [bundle.run("cat /place/*/file; ls -l /place") for _ in range(40)]
        finally:
            swapper.kill()
    assert not any("treasure" in done.stdout.replace(str(treasure.path), "") for done in outputs)
    assert {done.code for done in outputs} <= {0, 1, 125}


# --- entering the root without pivot_root ------------------------------------------------------


@pytest.mark.parametrize("own_users", [False, True])
def test_without_pivot(bundle: Bundle, own_users: bool) -> None:
    """The root is the only one in sight, and nothing of the host's is mounted beneath it."""
    if own_users:
        bundle.own_users()
    bundle.options = {"no_pivot": True}
    bundle.mount("/tmp")
    bundle.linux["maskedPaths"] = ["/proc/version"]
    mounts = bundle.run("cat /proc/self/mountinfo")
    assert mounts.failure is None, mounts.failure
    paths = [mount.path for mount in mountinfo.parse(mounts.stdout)]
    bundle.options = {}
    pivoted = mountinfo.parse(bundle.run("cat /proc/self/mountinfo").stdout)
    assert paths == [mount.path for mount in pivoted]
    bundle.options = {"no_pivot": True}
    done = bundle.run("cd /..; pwd; ls -d /../bin; wc -c < /proc/version")
    assert done.stdout == "/\n/../bin\n0\n"


ESCAPES = {
    "chroot": "mkdir -p /tmp/x; chroot /tmp/x 2>/dev/null; cd /; ls /root /etc/passwd {host}",
    "nsenter": "nsenter --mount=/proc/self/ns/mnt ls {host}",
    "cwd": "ls /proc/1/cwd/{host} /proc/1/root/{host}",
    "umount": "umount -l /; ls {host}; ls /..{host}",
}


@pytest.mark.parametrize("escape", ESCAPES)
def test_escapes_without_pivot(bundle: Bundle, treasure: Treasure, escape: str) -> None:
    """No path leads to the old root, not even with root's rights."""
    bundle.options = {"no_pivot": True}
    bundle.mount("/tmp")
    bundle.capabilities("CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE")
    done = bundle.run(ESCAPES[escape].format(host=treasure.path) + "; true")
    assert done.failure is None, done.failure
    assert "file" not in done.stdout.replace("No such file", "")


@pytest.mark.parametrize("no_pivot", [False, True])
def test_masks_hold_in_a_user_namespace(bundle: Bundle, no_pivot: bool) -> None:
    """A user namespace made in the container gets no procfs without the masks."""
    bundle.options = {"no_pivot": no_pivot}
    bundle.mount("/tmp")
    bundle.linux["maskedPaths"] = ["/proc/version"]
    done = bundle.run("unshare -U -r -m -p -f mount -t proc proc /tmp && echo mounted")
    assert done.failure is None, done.failure
    assert "mounted" not in done.stdout
    assert "Operation not permitted" in done.stderr
