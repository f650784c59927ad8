"""The wall "cgroups": hierarchies, controllers and what the unified hierarchy adds."""

from __future__ import annotations

import contextlib
import os

from cloche.kernel import flags, syscalls
from cloche.kernel.features import Features, Finding
from cloche.kernel.probes import child

_WALL = "cgroups"
_CONTROLLERS = {
    "cpu": "processor time",
    "cpuset": "which processors are used",
    "memory": "memory",
    "pids": "the number of processes",
    "io": "disk bandwidth",
    "devices": "devices",
    "freezer": "pausing",
    "hugetlb": "huge pages",
}

_DELEGATE = "run as root, or have it delegated: systemd-run --user --scope -p Delegate=yes"


def probe(features: Features) -> list[Finding]:
    """Find out which controllers are where, and whether the caller may use them."""
    layout = features.cgroups
    found = [
        Finding(
            _WALL,
            "hierarchies",
            "yes" if layout.hierarchies else "no",
            f"/proc/self/mountinfo: {layout.version}, {len(layout.hierarchies)} mounted",
            "" if layout.hierarchies else "mount cgroup2 on /sys/fs/cgroup",
        )
    ]
    found += [_controller(features, name, use) for name, use in _CONTROLLERS.items()]
    found.append(_swap(features))
    found += _unified(features)
    return found


def _controller(features: Features, name: str, use: str) -> Finding:
    layout = features.cgroups
    title = f"controller {name}"
    hierarchy = layout.find(name)
    if hierarchy is None:
        unified = layout.unified
        if name in ("freezer", "devices") and unified is not None:
            return _built_in(name, title, unified.base)
        how = "no mounted hierarchy has it"
        hint = f"no limits on {use}, unless the kernel has it and it is mounted"
        return Finding(_WALL, title, "no", how, hint)
    place = f"v{hierarchy.version} at {hierarchy.mount}"
    if not hierarchy.base:
        hint = _DELEGATE if hierarchy.version == 2 else "run as root: v1 isn't delegated to users"
        return Finding(_WALL, title, "no", f"{place}: no group there is writable", hint)
    if hierarchy.version == 2 and hierarchy.occupied and name not in hierarchy.enabled:
        how = f"{hierarchy.base} holds processes, and so can't pass {name} on"
        hint = "start from a delegated scope of its own: systemd-run --user --scope"
        return Finding(_WALL, title, "partly", how, hint)
    return Finding(_WALL, title, "yes", f"{place}: groups can be made in {hierarchy.base}")


def _built_in(name: str, title: str, base: str) -> Finding:
    """v2 has these two without a controller: cgroup.freeze, and eBPF in place of devices."""
    if name == "freezer":
        return Finding(_WALL, title, "yes" if base else "no", "v2 has cgroup.freeze in each group")
    return Finding(_WALL, title, "no", "v2 has no such controller, only eBPF programs")


def _swap(features: Features) -> Finding:
    swap = features.cgroups.swap
    how = f"the memory controller {'has' if swap else 'lacks'} the files that limit swap"
    hint = "" if swap else "boot with swapaccount=1"
    return Finding(_WALL, "swap limits", "yes" if swap else "no", how, hint)


def _unified(features: Features) -> list[Finding]:
    """Try what only the unified hierarchy has, in a group made for it."""
    names = ("CLONE_INTO_CGROUP", "cgroup.kill", "cgroup.freeze")
    unified = features.cgroups.unified
    if unified is None or not unified.base:
        how = f"no group at {unified.mount} is writable" if unified else "no cgroup2 is mounted"
        hint = _DELEGATE if unified else "mount cgroup2"
        return [Finding(_WALL, name, "no", how, hint) for name in names]
    group = f"{unified.base}/cloche-probe-{os.getpid()}"
    try:
        os.mkdir(group)
    except OSError as error:
        how = f"mkdir {group}: {(error.strerror or '').lower()}"
        return [Finding(_WALL, name, "no", how) for name in names]
    try:
        outcome = child.attempt(lambda: _clone_into(group))
        found = [child.finding(_WALL, names[0], f"clone3 into {unified.base}/...", outcome)]
        for name in names[1:]:
            there = os.path.exists(f"{group}/{name}")
            how = f"a new group in {unified.base} {'has' if there else 'lacks'} {name}"
            found.append(Finding(_WALL, name, "yes" if there else "no", how))
        return found
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(group)


def _clone_into(group: str) -> None:
    directory = os.open(group, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    pid, _ = syscalls.clone3(flags.CLONE_INTO_CGROUP, cgroup=directory)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
