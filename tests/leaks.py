"""What may outlive a test: nothing.

A ``Snapshot`` holds what the test process has of the kernel's objects: its file descriptors,
mounts, descendants, the cgroups and named network namespaces of the machine, and the files in a
state directory.  The difference of two is a list of leaks.

Some facts that shape it:

* The test process is a child subreaper (``PR_SET_CHILD_SUBREAPER``, prctl(2)): an orphan of any
  depth becomes its child, so that nothing escapes by forking twice.
* It lives in a mount namespace of its own where it may (root), so that mountinfo shows what the
  tests did and nothing of the rest of the machine.  Its mounts are shared among its children as
  systemd has them, so that a container that forgets to cut propagation is seen.
* The kernel tears some things down after the last process has been waited for (a cgroup stays
  busy for a moment), so a leak is what is still there after ``GRACE`` seconds.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

GRACE = 1.0
NETNS_DIRECTORY = "/run/netns"

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE, MS_SHARED = 0x4000, 1 << 18, 1 << 20
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


class Process(NamedTuple):
    """A descendant of the test process."""

    pid: int
    parent: int
    state: str
    name: str


class Snapshot(NamedTuple):
    """What exists at one moment."""

    files: dict[int, str]
    mounts: dict[str, str]
    """Mount id to mount point."""
    processes: dict[int, Process]
    cgroups: frozenset[str]
    namespaces: frozenset[str]
    state: frozenset[str]


class Leak(NamedTuple):
    """One thing that a test left behind."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def isolate() -> None:
    """Make this process a subreaper, in its own mount namespace where that is allowed."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if os.geteuid() == 0 and _libc.unshare(CLONE_NEWNS) == 0:
        for propagation in (MS_PRIVATE, MS_SHARED):
            if _libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | propagation), None) != 0:
                raise OSError(ctypes.get_errno(), "the tests' own mount namespace")


def snapshot(state: Path) -> Snapshot:
    """Return what exists now."""
    return Snapshot(
        _open_files(),
        _mounts(),
        _descendants(),
        frozenset(_cgroups()),
        frozenset(os.listdir(NETNS_DIRECTORY) if os.path.isdir(NETNS_DIRECTORY) else ()),
        frozenset(_state(state)),
    )


def find(before: Snapshot, state: Path, *, orphans: bool) -> list[Leak]:
    """Return what is there now and wasn't before, once ``GRACE`` has passed.

    With ``orphans`` dead children are reaped as init would do, and are no leak.
    """
    end = time.monotonic() + GRACE
    while True:
        if orphans:
            reap(before)
        leaks = _difference(before, snapshot(state))
        if not leaks or time.monotonic() > end:
            return leaks
        time.sleep(0.02)


def _difference(before: Snapshot, after: Snapshot) -> list[Leak]:
    leaks = [
        Leak("file descriptor", f"{number} -> {target}")
        for number, target in after.files.items()
        if before.files.get(number) != target
    ]
    leaks += [
        Leak("mount", point)
        for number, point in after.mounts.items()
        if number not in before.mounts
    ]
    leaks += [
        Leak("zombie" if process.state == "Z" else "process", f"{process.pid} {process.name}")
        for process in after.processes.values()
        if process.pid not in before.processes
    ]
    ours = after.processes.keys()
    leaks += [
        Leak("cgroup", path)
        for path in sorted(after.cgroups - before.cgroups)
        if all(pid in ours for pid in _members(path))
    ]
    leaks += [
        Leak("network namespace", name) for name in sorted(after.namespaces - before.namespaces)
    ]
    leaks += [Leak("state file", path) for path in sorted(after.state - before.state)]
    return leaks


def clean(before: Snapshot, state: Path) -> None:
    """Remove what a test has left, as far as that goes, so that the next isn't hit by it."""
    after = snapshot(state)
    for pid in after.processes.keys() - before.processes.keys():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.05)
    reap(before)
    for number in sorted(after.mounts.keys() - before.mounts.keys(), key=int, reverse=True):
        _libc.umount2(os.fsencode(after.mounts[number]), MNT_DETACH)
    ours = after.processes.keys()
    for path in sorted(after.cgroups - before.cgroups, reverse=True):
        if all(pid in ours for pid in _members(path)):
            with contextlib.suppress(OSError):
                os.rmdir(path)
    for name in after.namespaces - before.namespaces:
        _libc.umount2(os.fsencode(f"{NETNS_DIRECTORY}/{name}"), MNT_DETACH)
        Path(NETNS_DIRECTORY, name).unlink(missing_ok=True)
    for descriptor, target in after.files.items():
        if before.files.get(descriptor) != target:
            with contextlib.suppress(OSError):
                os.close(descriptor)


def reap(before: Snapshot) -> None:
    """Wait for dead children that weren't there before."""
    for process in _descendants().values():
        ours = process.parent == os.getpid() and process.pid not in before.processes
        if ours and process.state == "Z":
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)


def _open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        # The descriptor of the listing itself is closed by now.
        with contextlib.suppress(FileNotFoundError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def _mounts() -> dict[str, str]:
    with open("/proc/self/mountinfo") as file:
        fields = [line.split() for line in file]
    return {field[0]: field[4].encode().decode("unicode_escape") for field in fields}


def _descendants() -> dict[int, Process]:
    everything = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                everything[int(name)] = _process(name)
    found: dict[int, Process] = {}
    wanted = {os.getpid()}
    while wanted:
        children = {pid: process for pid, process in everything.items() if process.parent in wanted}
        found |= children
        wanted = set(children)
    return found


def _process(pid: str) -> Process:
    """Read proc_pid_stat(5); the name stands in parentheses and may hold any character."""
    with open(f"/proc/{pid}/stat", errors="replace") as file:
        text = file.read()
    start, end = text.index("("), text.rindex(")")
    state, parent = text[end + 2 :].split()[:2]
    return Process(int(pid), int(parent), state, text[start + 1 : end])


def _cgroups() -> list[str]:
    """Return every cgroup named ``cloche...`` and all beneath it, in every hierarchy.

    But for the one named ``cloche`` itself: the parent of all containers' groups is kept.
    """
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    points = [line[4] for line in lines if line[line.index("-") + 1] in ("cgroup", "cgroup2")]
    found = []
    for point in points:
        for directory, children, _ in os.walk(point):
            below = directory[len(point) :]
            named = any(part.startswith("cloche") for part in below.split("/"))
            if named and not below.endswith("/cloche"):
                found.append(directory)
            children.sort()
    return found


def _state(directory: Path) -> list[str]:
    """Return the files of containers, and their directories; the tree above them may stay."""
    return [
        str(path)
        for path in directory.rglob("*")
        if not path.is_dir() or path.parent.name == "containers"
    ]


def _members(cgroup: str) -> list[int]:
    try:
        with open(f"{cgroup}/cgroup.procs") as file:
            return [int(line) for line in file]
    except OSError:
        return []
