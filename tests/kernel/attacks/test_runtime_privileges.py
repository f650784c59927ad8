"""Attacks on what is between the drop of privileges and the program: filters, init, hooks."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.attacks.conftest import Bundle
from tests.runtimes import Runtime, read_spec, write_spec

pytestmark = [pytest.mark.needs("root", "busybox", "gcc"), pytest.mark.orphans]
NNP = pytest.mark.parametrize("nnp", [True, False], ids=["nnp", "no nnp"])
USER = pytest.mark.parametrize("user", [0, 1000])
SHOW = "while read name value; do case $name in {}*) echo $name $value;; esac; done < {}"
ADMIN = 1 << 21


def with_filter(bundle: Path, *denied: str, init: bool = False) -> dict[str, Any]:
    """Give a container a filter that answers system calls with EPERM."""
    spec = read_spec(bundle)
    refuse = {"names": list(denied), "action": "SCMP_ACT_ERRNO"}
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [refuse]}
    spec["annotations"] = {"cloche.init": "true"} if init else {}
    write_spec(bundle, spec)
    return spec


@NNP
@USER
@pytest.mark.parametrize("init", [False, True])
class TestCapabilityForTheFilter:
    """CAP_SYS_ADMIN, which is kept to install a filter, and is for nothing else."""

    def found(self, text: str) -> dict[str, int]:
        """Return the capability sets of /proc/PID/status."""
        lines = [line.split() for line in text.splitlines() if line.startswith("Cap")]
        return {name: int(value, 16) for name, value in lines}

    def test_program(
        self, runtime: Runtime, bundle: Bundle, nnp: bool, user: int, init: bool
    ) -> None:
        """The program doesn't have it in any set, nor does what it runs."""
        script = f"{SHOW.format('Cap', '/proc/self/status')}; /attacker mount tmpfs x /bin"
        made = bundle(
            *("sh", "-c", f"exec sh -c '{script}'"),
            user={"uid": user, "gid": user},
            noNewPrivileges=nnp,
        )
        with_filter(made, "mkdir", init=init)
        done = runtime("run", "--bundle", str(made), runtime.id())
        assert not any(value & ADMIN for value in self.found(done.stdout).values())
        assert done.stdout.splitlines()[-1] == "EPERM"

    def test_ambient(
        self, runtime: Runtime, bundle: Bundle, nnp: bool, user: int, init: bool
    ) -> None:
        """With ambient capabilities it has those alone."""
        wanted = ["CAP_NET_RAW"]
        sets = ("bounding", "effective", "permitted", "inheritable", "ambient")
        made = bundle(
            *("sh", "-c", SHOW.format("Cap", "/proc/self/status")),
            user={"uid": user, "gid": user},
            noNewPrivileges=nnp,
            capabilities=dict.fromkeys(sets, wanted),
        )
        with_filter(made, "mkdir", init=init)
        done = runtime("run", "--bundle", str(made), runtime.id(), check=True)
        assert set(self.found(done.stdout).values()) == {1 << 13}

    def test_setuid(
        self, runtime: Runtime, bundle: Bundle, nnp: bool, user: int, init: bool
    ) -> None:
        """A set-user-ID program, or one with file capabilities, doesn't get it."""
        made = bundle(
            "/setuid",
            "mount",
            "tmpfs",
            "x",
            "/bin",
            noNewPrivileges=nnp,
            user={"uid": user, "gid": user},
        )
        program = made / "rootfs/setuid"
        shutil.copy(made / "rootfs/attacker", program)
        program.chmod(0o4755)
        with_filter(made, "mkdir", init=init)
        done = runtime("run", "--bundle", str(made), runtime.id("a"))
        assert done.stdout == "EPERM\n"
        make_capable(program)
        done = runtime("run", "--bundle", str(made), runtime.id("b"))
        assert done.stdout in ("EPERM\n", "")


def make_capable(program: Path) -> None:
    """Give a program CAP_SYS_ADMIN as a file capability, permitted and in effect."""
    data = struct.pack("<IIIII", 0x02000001, ADMIN, 0, 0, 0)
    os.setxattr(program, "security.capability", data)


@NNP
@USER
class TestInit:
    """The tiny init, which never becomes the program and can be traced by it."""

    def test_is_behind_the_filter(
        self, runtime: Runtime, bundle: Bundle, nnp: bool, user: int
    ) -> None:
        """Else who traces it would have it do what the filter forbids."""
        script = SHOW.format("Seccomp:", "/proc/1/status")
        made = bundle("sh", "-c", script, noNewPrivileges=nnp, user={"uid": user, "gid": user})
        with_filter(made, "mkdir", init=True)
        done = runtime("run", "--bundle", str(made), runtime.id(), check=True)
        assert done.stdout == "Seccomp: 2\n"

    @pytest.mark.parametrize("denied", ["close_range", "capset", "prctl", "pipe2", "mmap"])
    def test_has_no_file(
        self, runtime: Runtime, bundle: Bundle, nnp: bool, user: int, denied: str
    ) -> None:
        """Whatever the filter denies: it would be a directory of the host's."""
        script = "for fd in 0 1 2 3 4 5 6 7 8 9; do [ -L /proc/1/fd/$fd ] && echo $fd; done; true"
        made = bundle("sh", "-c", script, noNewPrivileges=nnp, user={"uid": user, "gid": user})
        with_filter(made, denied, init=True)
        done = runtime("run", "--bundle", str(made), runtime.id())
        assert done.stdout == ""


@NNP
@USER
def test_hook_inside(runtime: Runtime, bundle: Bundle, nnp: bool, user: int) -> None:
    """The image's program that is run as a hook is kept as the container's own is.

    It could leave a process that stays.
    """
    made = bundle("true", noNewPrivileges=nnp, user={"uid": user, "gid": user})
    spec = with_filter(made, "mkdir")
    (made / "rootfs").chmod(0o777)
    script = (
        f"exec > /hooked; {SHOW.format('Cap', '/proc/self/status')};"
        f" {SHOW.format('Seccomp:', '/proc/self/status')}; mkdir /made;"
        " for fd in 0 1 2 3 4 5 6 7 8 9; do [ -L /proc/$$/fd/$fd ] && echo fd $fd; done; true"
    )
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    spec["hooks"] = {"startContainer": [hook]}
    write_spec(made, spec)
    runtime("run", "--bundle", str(made), runtime.id(), check=True)
    lines = dict(
        line.split()
        for line in (made / "rootfs/hooked").read_text().splitlines()
        if not line.startswith("fd")
    )
    assert lines.pop("Seccomp:") == "2"
    assert not any(int(value, 16) & ADMIN for value in lines.values())
    assert not (made / "rootfs/made").exists()
    listed = [line for line in (made / "rootfs/hooked").read_text().splitlines() if "fd" in line]
    assert listed == ["fd 0", "fd 1", "fd 2"]


def test_id_maps_are_long(runtime: Runtime, bundle: Bundle) -> None:
    """As many mappings as the kernel takes (340, in a page) arrive whole (CVE-2021-43784)."""
    made = bundle("cat", "/proc/self/uid_map")
    spec = read_spec(made)
    spec["linux"]["namespaces"].append({"type": "user"})
    maps = [{"containerID": n, "hostID": 1000 + n * 7, "size": 1} for n in range(340)]
    spec["linux"].update(uidMappings=maps, gidMappings=maps)
    write_spec(made, spec)
    for path in (made / "rootfs", *(made / "rootfs").rglob("*")):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    done = runtime("run", "--bundle", str(made), runtime.id(), check=True)
    assert [line.split() for line in done.stdout.splitlines()] == [
        [str(n), str(1000 + n * 7), "1"] for n in range(340)
    ]
    spec["linux"].update(uidMappings=[*maps, {"containerID": 900, "hostID": 90000, "size": 1}])
    write_spec(made, spec)
    assert runtime("run", "--bundle", str(made), runtime.id("b")).code == 1
