"""Attacks by who wrote an image: files, links and devices where the engine looks or mounts."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Cloche
from tests.kernel.attacks.conftest import Treasure

pytestmark = pytest.mark.needs("root", "busybox", "gcc")
OVERLAY = pytest.mark.parametrize("suffix", ["", ":O"])


def lead_to(image: Path, name: str, target: str) -> None:
    """Make a name of the image a symbolic link, in the place of what is there."""
    path = image / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@OVERLAY
@pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc", "sys/fs", "dev/pts"])
@pytest.mark.parametrize("how", ["outside", "inside", "up", "proc", "loop", "file", "fifo"])
def test_place_of_a_mount(
    cloche: Cloche, image: Path, treasure: Treasure, name: str, how: str, suffix: str
) -> None:
    """Whatever is where a file system is to be mounted, the host isn't touched.

    CVE-2026-41579, CVE-2026-47766, CVE-2025-52565 and CVE-2025-31133 were such places.
    """
    if how == "inside":
        Path(f"{image}{treasure.path}").mkdir(parents=True)
    targets = {
        "outside": str(treasure.path),
        "inside": str(treasure.path),
        "up": f"../../../../../../../..{treasure.path}",
        "proc": "/proc/1/root",
        "loop": name,
    }
    if how in targets:
        lead_to(image, name, targets[how])
    else:
        (image / name).parent.mkdir(exist_ok=True)
        (os.mkfifo if how == "fifo" else Path.touch)(image / name)
    command = (
        'for file in /proc/kcore /proc/keys /proc/timer_list; do sh -c "cat < $file"; done;'
        " ls -A /sys/firmware; echo '|/bad' > /proc/sys/kernel/core_pattern; ls /dev"
    )
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    done = cloche("run", "--rootfs", f"{image}{suffix}", "sh", "-c", f"exec 2>/dev/null; {command}")
    assert done.returncode in (0, 1, 2, 125, 127)
    assert "vda" not in done.stdout
    assert "memmap" not in done.stdout
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


@OVERLAY
@pytest.mark.parametrize("name", ["null", "console", "ptmx", "tty", "fd", "pts"])
def test_name_in_dev(
    cloche: Cloche, image: Path, treasure: Treasure, name: str, suffix: str
) -> None:
    """Names in the image's /dev are hidden by a new one, whatever they are (CVE-2025-31133)."""
    lead_to(image, f"dev/{name}", str(treasure.path / "file"))
    script = "echo x > /dev/null; sh -c 'cat /proc/keys'; ls /dev/"
    done = cloche("run", "--rootfs", f"{image}{suffix}", "sh", "-c", script)
    assert "treasure" not in done.stdout
    assert done.returncode in (0, 127)


@OVERLAY
@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
@pytest.mark.parametrize("target", ["/etc/shadow", "{treasure}/file", "/proc/self/environ", "/"])
def test_file_that_is_mounted(
    cloche: Cloche, image: Path, treasure: Treasure, name: str, target: str, suffix: str
) -> None:
    """A file that the engine puts into /etc doesn't land where a link of the image points to."""
    shadow = Path("/etc/shadow").read_bytes()
    lead_to(image, f"etc/{name}", target.format(treasure=treasure.path))
    cloche("run", "--rootfs", f"{image}{suffix}", "sh", "-c", f"echo x > /etc/{name}")
    assert Path("/etc/shadow").read_bytes() == shadow


@pytest.mark.parametrize(
    "options",
    [
        ("-v", "{treasure}:/link/x"),
        ("-v", "{treasure}:/link/../../../../{treasure}"),
        ("--tmpfs", "/link"),
        ("--tmpfs", "/link/deep/er"),
        ("--mount", "type=bind,src={treasure}/file,dst=/link/made"),
        ("--device", "/dev/null:/link/null"),
        ("-w", "/link/made/below"),
        ("-v", "/etc/hostname:/link/file"),
        ("--read-only", "--tmpfs", "/link/below"),
    ],
)
@OVERLAY
def test_link_in_the_way(
    cloche: Cloche, image: Path, treasure: Treasure, options: tuple[str, ...], suffix: str
) -> None:
    """Nothing is made or mounted beyond a link that leads outside (CVE-2024-45310)."""
    lead_to(image, "link", str(treasure.path))
    given = [option.format(treasure=treasure.path) for option in options]
    cloche("run", *given, "--rootfs", f"{image}{suffix}", "sh", "-c", "true")
    assert treasure.is_safe
    (image / "link").unlink()
    lead_to(image, "link", "/proc/1/root")
    cloche("run", *given, "--rootfs", f"{image}{suffix}", "sh", "-c", "true")


@pytest.mark.parametrize("kind", ["link", "fifo", "device", "huge", "directory", "nul", "loop"])
@pytest.mark.parametrize("name", ["passwd", "group"])
def test_accounts(cloche: Cloche, image: Path, kind: str, name: str) -> None:
    """Account files that are none don't keep the engine waiting, nor lead it to the host's."""
    path = image / "etc" / name
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to(f"../../../../../../etc/{'shadow' if name == 'passwd' else 'gshadow'}")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        os.mknod(path, 0o020666, os.makedev(1, 5))
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "directory":
        path.mkdir()
    elif kind == "nul":
        path.write_bytes(b"some\0:x:7:7:\0:/h\0me:/bin/sh\n\0\n:::\nroot\n")
    else:
        path.symlink_to(name)
    user = "some" if name == "passwd" else "0:some"
    done = cloche("run", "-u", user, "--rootfs", str(image), "sh", "-c", "id", timeout=10)
    assert done.returncode == 125
    done = cloche("run", "-u", "0:0", "--rootfs", str(image), "sh", "-c", "echo up", timeout=10)
    assert done.stdout == "up\n"


def test_names_of_the_host_are_not_looked_up(cloche: Cloche, image: Path) -> None:
    """A user that the host has and the image hasn't doesn't exist."""
    for user in ("daemon", "0:daemon", "nobody"):
        assert cloche("run", "-u", user, "--rootfs", str(image), "sh").returncode == 125


def test_device_in_the_image(cloche: Cloche, image: Path) -> None:
    """A node of the host's memory or disk in the image or a volume can't be opened."""
    for directory in (image, image / "volume"):
        directory.mkdir(exist_ok=True)
        os.mknod(directory / "mem", 0o020666, os.makedev(1, 1))
        os.mknod(directory / "disk", 0o060666, os.makedev(254, 0))
    script = "for file in /mem /disk /v/mem /v/disk; do /attacker open r $file; done"
    done = cloche("run", "-v", f"{image}/volume:/v", "--rootfs", str(image), "sh", "-c", script)
    assert done.stdout.split() == ["EPERM"] * 4


@pytest.mark.parametrize(
    "content",
    [b"#!/proc/self/exe\n", b"#!/proc/self/fd/4\n", b"#!/proc/1/root/bin/sh\n", b"#!/bin/sh\0\n"],
)
def test_program(cloche: Cloche, image: Path, content: bytes) -> None:
    """A script can't name a file of the launcher as its interpreter."""
    (image / "script").write_bytes(content)
    (image / "script").chmod(0o755)
    done = cloche("run", "--rootfs", str(image), "/script")
    assert done.returncode in (0, 125, 126, 127)


def test_program_that_is_a_terminal_command(cloche: Cloche, image: Path) -> None:
    """A name of the image that is told in an error doesn't command the user's terminal."""
    (image / "script").write_bytes(b"#!/\x1b]0;title\x07\x1b[2J\n")
    (image / "script").chmod(0o755)
    done = cloche("run", "--rootfs", str(image), "/script")
    assert done.returncode == 127
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("volume", ["/", "//", "/.", "/x/..", "/../.."])
def test_nothing_is_mounted_over_the_root(cloche: Cloche, treasure: Treasure, volume: str) -> None:
    """A mount upon "/" would leave the container in what lies beneath it."""
    for options in (("-v", f"{treasure.path}:{volume}"), ("--tmpfs", volume)):
        assert cloche("run", *options, "host", "true").returncode == 125


@pytest.mark.parametrize("target", ["/", ".", "../../.."])
def test_link_to_the_root(cloche: Cloche, image: Path, treasure: Treasure, target: str) -> None:
    """The same when a link of the image leads there."""
    lead_to(image, "link", target)
    done = cloche("run", "-v", f"{treasure.path}:/link", "--rootfs", str(image), "sh", "-c", "ls /")
    assert done.returncode == 125


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (("-v", "/proc:/proc"), "/proc"),
        (("-v", "{volume}:/proc/bus"), "/proc"),
        (("-v", "{volume}:/proc/self/attr"), "/proc"),
        (("--tmpfs", "/proc/fs"), "/proc"),
        (("-v", "/sys:/sys"), "/sys"),
        (("--tmpfs", "/sys/fs/cgroup"), "/sys"),
    ],
)
def test_volumes_over_kernel_files(
    cloche: Cloche, workspace: Path, options: tuple[str, ...], where: str
) -> None:
    """Volumes on and in /proc and /sys leave the masks and locks of the rest in place."""
    volume = workspace / "volume"
    volume.mkdir()
    script = (
        "cat /proc/kcore /proc/keys /proc/timer_list; ls -A /sys/firmware;"
        " echo '|/bad' > /proc/sys/kernel/core_pattern"
    )
    pattern = Path("/proc/sys/kernel/core_pattern").read_text()
    given = [option.format(volume=volume) for option in options]
    done = cloche("run", *given, "host", "sh", "-c", f"{script}; true")
    assert (done.returncode, done.stdout) in {(0, ""), (125, "")}
    assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern


@pytest.mark.parametrize("parameter", ["net.ipv4.ip_forward", "kernel.msgmax"])
def test_sysctl_is_not_redirected(
    cloche: Cloche, image: Path, treasure: Treasure, workspace: Path, parameter: str
) -> None:
    """A kernel parameter is set in the kernel, whatever lies over /proc (CVE-2025-52881)."""
    fake = workspace / "fake"
    for name in ("kernel", "net/ipv4"):
        (fake / name).mkdir(parents=True)
    path = parameter.replace(".", "/")
    (fake / path).symlink_to(treasure.path / "file")
    outside = Path("/proc/sys", path).read_text()
    for target in ("/proc/sys", "/proc"):
        source = fake if target == "/proc/sys" else fake.parent
        options = ("--sysctl", f"{parameter}=1", "-v", f"{source}:{target}")
        cloche("run", *options, "--rootfs", str(image), "sh", "-c", "true")
    assert treasure.is_safe
    assert Path("/proc/sys", path).read_text() == outside


def test_layers_are_not_written(cloche: Cloche) -> None:
    """What containers of the image host share stays as it was made."""
    cloche("run", "host", "true", check=True)
    before = _listing(cloche.data)
    script = (
        "echo x > /etc/passwd; rm -rf /usr/bin/env /home; chmod 777 / /etc /usr;"
        " chown 5 /etc/group; echo x > /etc/hosts; ln /etc/group /etc/other; mv /var /rav"
    )
    cloche("run", "host", "sh", "-c", script)
    assert _listing(cloche.data) == before
    assert Path("/usr/bin/env").exists()


def _listing(directory: Path) -> str:
    find = ["find", str(directory), "-printf", "%p %m %U %G %s %T@ %C@ %l\n"]
    return subprocess.run(find, capture_output=True, text=True, check=True).stdout
