"""Root directories made from the machine's programs, and the layers of ``host``, for real."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest

from cloche.rootfs.from_host import copy, find
from cloche.rootfs.host import prepare
from tests.conftest import Cloche


def chroot(root: Path, *command: str) -> str:
    """Run a command in a root directory and return its output."""
    done = subprocess.run(
        ["chroot", str(root), *command],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("root")
def test_shell_runs_there(workspace: Path) -> None:
    """Copied programs find their libraries and see nothing but what was copied."""
    if not shutil.which("bash"):
        pytest.skip("bash isn't installed")
    root = workspace / "root"
    copied = copy(str(root), find(["bash", "ls", "cat"]))
    expected = sorted({one.stop.path.split("/")[1] for one in copied})
    assert chroot(root, "bash", "-c", "ls / | cat").split() == expected
    bash = os.path.realpath(shutil.which("bash") or "")
    assert (root / bash[1:]).stat().st_mode == os.stat(bash).st_mode


@pytest.mark.needs("root")
def test_script_runs_there(workspace: Path) -> None:
    """A copied script runs with the interpreter that env finds."""
    script = workspace / "hello"
    script.write_text("#!/usr/bin/env sh\necho hello\n")
    script.chmod(0o755)
    root = workspace / "root"
    copy(str(root), find([str(script)]))
    assert chroot(root, str(script)) == "hello\n"


@pytest.mark.needs("root", "gcc")
def test_library_from_an_unusual_place(workspace: Path) -> None:
    """A program whose library lies beside it, by $ORIGIN, runs there too."""
    for name, flags, source in (
        ("libanswer.so", ["-shared", "-fPIC"], "int answer(void) { return 42; }"),
        (
            "program",
            [f"{workspace}/libanswer.so", "-Wl,-rpath,$ORIGIN"],
            "int answer(void);\nint main(void) { return answer() - 42; }",
        ),
    ):
        command = ["gcc", "-x", "c", "-", "-o", f"{workspace}/{name}", "-x", "none", *flags]
        subprocess.run(command, input=source, text=True, check=True)
    root = workspace / "root"
    copy(str(root), find([f"{workspace}/program"]))
    chroot(root, f"{workspace}/program")


@pytest.mark.needs("root", "busybox")
def test_static_busybox(workspace: Path) -> None:
    """A static program needs nothing but itself."""
    root = workspace / "root"
    copied = copy(str(root), find(["busybox"]))
    if sum(one.stop.is_file for one in copied) > 1:
        pytest.skip("busybox isn't static here")
    assert chroot(root, "busybox", "echo", "hello") == "hello\n"


@pytest.mark.needs("root", "overlay", "unshare")
def test_layers_of_host(workspace: Path) -> None:
    """Stacked as the image says, programs run, and hidden places can be made anew."""
    image = prepare(str(workspace / "data"))
    script = textwrap.dedent(
        """
        set -e
        mount -t tmpfs none "$1"
        n=0
        layer() {
            n=$((n + 1)); mkdir -p "$1/up$n" "$1/work$n" "$1/root$2"
            mount -t overlay -o "lowerdir=$3,upperdir=$1/up$n,workdir=$1/work$n" none "$1/root$2"
        }
        base=$1; shift
        while [ $# -gt 0 ]; do layer "$base" "$1" "$2"; shift 2; done
        exec chroot "$base/root" /bin/sh -c '
            test ! -e /etc/shadow && test ! -e /usr/local/etc && mkdir /usr/local/etc
            ls -A / /root /home /usr/local/etc
            id -un; echo "$(ls /usr/bin | wc -l)"'
        """
    )
    layers = [("", (image.root,)), *image.overlays]
    arguments = [part for dest, lowers in layers for part in (dest, ":".join(lowers))]
    (workspace / "mnt").mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(workspace / "mnt"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    assert "/home:\n\n/root:\n\n/usr/local/etc:\n" in done.stdout
    assert done.stdout.split()[-2:] == ["root", str(len(os.listdir("/usr/bin")))]


@pytest.mark.needs("root")
def test_command(cloche: Cloche, workspace: Path) -> None:
    """``cloche rootfs from-host`` prints what it copied, and the directory runs."""
    root = workspace / "root"
    done = cloche("rootfs", "from-host", "--json", str(root), "cat", check=True)
    copied = json.loads(done.stdout)
    assert {"program", "interpreter"} <= {one["role"] for one in copied}
    assert all(one["change"] == "new" for one in copied)
    (root / "note").write_text("hello")
    assert chroot(root, "cat", "/note") == "hello"
