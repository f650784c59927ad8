"""Attacks on the wall of cgroups: leaving a group, lifting its limits, using its files."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.conftest import Cloche
from tests.kernel.attacks.conftest import Attack

pytestmark = pytest.mark.needs("root", "gcc")
UNCONFINED = ("--security-opt", "seccomp=unconfined")


@pytest.mark.needs("cgroup1")
class TestGroups:
    """The files of the container's groups, which it sees below /sys/fs/cgroup."""

    @pytest.mark.parametrize("namespace", ["private", "host"])
    def test_no_file_is_writable(self, cloche: Cloche, namespace: str) -> None:
        """Neither limits, lists of processes, release agents nor new groups."""
        script = (
            "cd /sys/fs/cgroup; find . -type f -not -path './*/.*' | while read f; do"
            ' (: >> "$f") 2> /dev/null && echo "$f"; done; mkdir */x ./x 2> /dev/null; ls -d */x x'
        )
        options = ("-m", "64m", "--pids-limit", "20", "--cgroupns", namespace)
        done = cloche("run", *options, "host", "sh", "-c", script)
        assert done.stdout == ""

    @pytest.mark.parametrize("namespace", ["private", "host"])
    def test_no_group_above(self, cloche: Cloche, namespace: str) -> None:
        """What is seen ends at the container's own group."""
        script = (
            "ls /sys/fs/cgroup/memory/..; cat /sys/fs/cgroup/memory/cgroup.procs | wc -l;"
            " ls -d /sys/fs/cgroup/memory/cloche /sys/fs/cgroup/memory/../../*/cloche"
        )
        done = cloche("run", "-m", "64m", "--cgroupns", namespace, "host", "sh", "-c", script)
        assert "cloche" not in done.stdout

    @pytest.mark.parametrize("options", ["memory", "devices", "pids", "rdma", "none,name=x"])
    def test_mount(self, cloche: Cloche, attack: Attack, options: str) -> None:
        """No hierarchy can be mounted anew (CVE-2022-0492)."""
        assert attack(cloche, f"mount cgroup x /tmp/c {options}") == ["EPERM"]
        assert attack(cloche, f"in-userns mount cgroup x /tmp/c {options}") == ["unshare EPERM"]

    def test_release_agent(self, cloche: Cloche) -> None:
        """Where only the filter is off, a release agent or a device rule can't be set even so."""
        script = (
            "unshare -UrmC --propagation unchanged sh -c '"
            "mkdir /tmp/c /tmp/d; mount -t cgroup -o memory x /tmp/c && echo mounted;"
            " mount -t cgroup -o devices x /tmp/d; echo /bad > /tmp/c/release_agent && echo bad;"
            " echo a > /tmp/d/devices.allow && echo bad'"
        )
        done = cloche("run", *UNCONFINED, "host", "sh", "-c", script)
        assert done.stdout == "mounted\n"

    @pytest.mark.parametrize(
        "device",
        [
            "c 1 1",
            "c 1 2",
            "c 1 4",
            "c 1 11",
            "c 4 0",
            "c 5 3",
            "c 10 200",
            "c 10 229",
            "b 254 0",
            "b 7 0",
        ],
    )
    def test_device_that_is_made(self, cloche: Cloche, attack: Attack, device: str) -> None:
        """A node of the host's memory, disk, log or tunnel can be made, but not opened."""
        assert attack(cloche, f"node {device}") == ["open EPERM"]
        assert attack(cloche, "node c 1 3") == ["open ok"]


@pytest.mark.parametrize("limits", [(), ("-m", "200m"), ("--pids-limit", "200")])
@pytest.mark.parametrize("command", ["linger", "bomb"])
def test_nothing_survives(
    cloche: Cloche, attack: Attack, command: str, limits: tuple[str, ...]
) -> None:
    """Processes that left their session, parents and death signal end with the container."""
    for options in ((), ("--pid", "host"), ("--init",)):
        attack(cloche, command, *limits, *options)
        assert not _running(f"/attacker {command}")


@pytest.mark.parametrize("command", ["linger", "bomb"])
def test_nothing_of_an_ordinary_user_survives(
    unprivileged: Cloche, attack: Attack, command: str
) -> None:
    """The same without any cgroup, by whom the orphans come to: the launcher."""
    for options in ((), ("--pid", "host")):
        attack(unprivileged, command, *options)
        assert not _running(f"/attacker {command}")


@pytest.mark.parametrize("options", [(), ("--pid", "host"), ("--init",)])
def test_time_limit(cloche: Cloche, options: tuple[str, ...]) -> None:
    """Who ignores every signal, stops itself or forks away ends at its time limit."""
    script = (
        "trap '' INT TERM HUP QUIT TSTP ALRM; setsid sleep 86 & kill -STOP $$; setsid sleep 86 &"
        " while :; do sleep 86; done"
    )
    begun = time.monotonic()
    done = cloche("run", "--timeout", "1", *options, "host", "sh", "-c", script)
    assert done.returncode == 137
    assert time.monotonic() - begun < 5
    assert not _running("sleep 86")


@pytest.mark.parametrize("place", ["/tmp/big", "/usr/bin/big", "/dev/shm/big", "/dev/big"])
def test_memory_files_are_counted(cloche: Cloche, place: str) -> None:
    """What is written to throw-away layers and other memory counts as the container's memory."""
    script = f"head -c 100m /dev/zero > {place}; echo $?"
    limits = ("-m", "40m", "--memory-swap", "40m", "--shm-size", "200m")
    done = cloche("run", *limits, "host", "sh", "-c", script)
    killed = done.returncode == 137 or done.stdout.strip() not in ("0", "")
    assert killed, done


def test_exhausted_memory_ends_the_container_only(cloche: Cloche) -> None:
    """The launcher isn't in the group, so the OOM killer takes the container and it is told."""
    hog = "import os\nfor n in range(4): os.fork()\nx = bytearray(1 << 30)\nx[::4096] = x[::4096]"
    limits = ("-m", "40m", "--memory-swap", "40m")
    done = cloche("run", *limits, "host", "python3", "-c", hog)
    assert done.returncode != 0
    assert cloche("run", *limits, "host", "echo", "well", check=True).stdout == "well\n"


def _running(words: str) -> bool:
    listing = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True)
    return words in listing.stdout
