"""What a machine must have for a test: the words of ``@pytest.mark.needs(...)``.

Each word has a probe, run once, that returns an empty string or says what is missing.  A word
without a probe fails the collection.  Where ``CLOCHE_MUST_WORK`` is set (in CI), a probe that
finds something missing fails the test instead of skipping it.
"""

from __future__ import annotations

import ctypes.util
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PROBES: dict[str, Callable[[], str]] = {}


def _word(name: str) -> Callable[[Callable[[], str]], Callable[[], str]]:
    def register(probe: Callable[[], str]) -> Callable[[], str]:
        PROBES[name] = functools.cache(probe)
        return probe

    return register


def missing(words: tuple[str, ...]) -> list[str]:
    """Return what this machine lacks of the named things, as sentences."""
    return [problem for word in words if (problem := PROBES[word]())]


def _try(*command: str) -> str:
    """Run a command quietly; return an empty string or its complaint."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        return f"{command[0]} isn't installed"
    return "" if done.returncode == 0 else f"{' '.join(command)}: {done.stderr.strip()}"


@_word("root")
def _root() -> str:
    return "" if os.geteuid() == 0 else "the tests don't run as root"


@_word("userns")
def _userns() -> str:
    return _try("unshare", "--user", "--map-root-user", "--mount", "true")


def _mounted(fstype: str) -> str:
    with open("/proc/self/mountinfo") as file:
        if any(f" - {fstype} " in line for line in file):
            return ""
    return f"no {fstype} file system is mounted"


@_word("cgroup1")
def _cgroup1() -> str:
    return _mounted("cgroup")


@_word("cgroup2")
def _cgroup2() -> str:
    return _mounted("cgroup2")


@_word("overlay")
def _overlay() -> str:
    with open("/proc/filesystems") as file:
        if any(line.split()[-1] == "overlay" for line in file):
            return ""
    return "the kernel has no overlayfs"


@_word("subuid")
def _subuid() -> str:
    for program in ("newuidmap", "newgidmap"):
        if not shutil.which(program):
            return f"{program} isn't installed"
    if not os.path.exists("/etc/subuid"):
        return "there is no /etc/subuid"
    if os.geteuid() == 0:
        return "" if shutil.which("useradd") else "useradd isn't installed"
    name = _try("getent", "subuid", str(os.geteuid()))
    return f"this user has no subordinate uids: {name}" if name else ""


@_word("libseccomp")
def _libseccomp() -> str:
    return "" if ctypes.util.find_library("seccomp") else "libseccomp isn't installed"


@_word("unprivileged")
def _unprivileged() -> str:
    if os.geteuid() != 0:
        return ""
    for wanted in (Path(sys.executable).resolve(), Path(tempfile.gettempdir(), "file")):
        for parent in wanted.parents:
            if not parent.stat().st_mode & 0o001:
                return f"other users can't reach {wanted}: {parent} is closed to them"
    return ""


@_word("memory-tracking")
def _memory_tracking() -> str:
    return _try("criu", "check", "--feature", "mem_dirty_track")


@_word("resource")
def _resource() -> str:
    with open("/proc/self/status") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
    cap_sys_resource = 1 << 24
    if int(status["CapEff"], 16) & cap_sys_resource:
        return ""
    return "the tests run without CAP_SYS_RESOURCE"


@_word("criu")
def _criu() -> str:
    return _try("criu", "check")


def _program(word: str, name: str) -> None:
    def probe() -> str:
        return "" if shutil.which(name) else f"{name} isn't installed"

    PROBES[word] = probe


for _name in (
    "busybox", "bwrap", "capsh", "clang", "conmon", "containerd", "crun", "ctr", "curl", "docker",
    "dockerd", "gcc", "ip", "nsenter", "podman", "prlimit", "runc", "setpriv", "strace", "unshare",
):  # fmt: skip
    _program(_name, _name)

NOT_IN_CI = frozenset({"criu", "memory-tracking", "resource"})
"""What CI's machine lacks, so that a test which needs it is skipped there too."""


@_word("bpf")
def _bpf() -> str:
    """Attaching to a cgroup takes this capability in the initial user namespace."""
    from cloche.kernel import features

    may = features.detect().cgroups.device_programs
    return "" if may else "eBPF programs may not be loaded here"
