"""A container's statistics in the form that engines read: the output of ``events --stats``.

Names and units are those of runc's, https://github.com/opencontainers/runc, ``types/events.go``:
nanoseconds of CPU, bytes, the terms of cgroup v1.  A figure that is 0 or that a group doesn't have
is left out, or 0 where readers expect it.
"""

from __future__ import annotations

import os

from cloche.kernel.cgroup.files import keyed, read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.kernel.cgroup.group import Group

    Document = dict[str, Any]

UNLIMITED = (1 << 64) - 1
"""What stands for ``max``."""

_CPUSET = (
    "cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page",
    "memory_spread_slab", "memory_pressure", "sched_load_balance", "sched_relax_domain_level",
)  # fmt: skip
_BFQ = (
    ("ioServiceBytesRecursive", "io_service_bytes_recursive"),
    ("ioServicedRecursive", "io_serviced_recursive"),
    ("ioQueueRecursive", "io_queued_recursive"),
    ("ioServiceTimeRecursive", "io_service_time_recursive"),
    ("ioWaitTimeRecursive", "io_wait_time_recursive"),
    ("ioMergedRecursive", "io_merged_recursive"),
    ("ioTimeRecursive", "time_recursive"),
    ("sectorsRecursive", "sectors_recursive"),
)
_IO_STAT = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}
_TICK = 10_000_000
"""Nanoseconds: ``cpuacct.stat`` counts in USER_HZ, a hundredth of a second."""


def report(group: Group) -> Document:
    """Return what a container uses and has used, ready to be written as JSON."""
    return {
        "cpu": _cpu(group),
        "cpuset": _cpuset(group),
        "memory": _memory(group),
        "pids": _pids(group),
        "blkio": _blkio(group),
        "hugetlb": _hugetlb(group),
        "intel_rdt": {},
        "network_interfaces": None,
    }


# --- cpu ---------------------------------------------------------------------------------------


def _cpu(group: Group) -> Document:
    accounting, unified = group.place("cpuacct"), group.unified
    usage: Document = {"kernel": 0, "user": 0}
    throttling: Document = {}
    document: Document = {"usage": usage}
    if accounting:
        usage |= _cpu_of_v1(accounting)
        values = _keyed(f"{group.place('cpu')}/cpu.stat") if group.place("cpu") else {}
        throttling = _throttling(values, "throttled_time", 1)
    elif unified:
        values = _keyed(f"{unified}/cpu.stat")
        usage["total"] = values.get("usage_usec", 0) * 1000
        usage["kernel"] = values.get("system_usec", 0) * 1000
        usage["user"] = values.get("user_usec", 0) * 1000
        throttling = _throttling(values, "throttled_usec", 1000)
    if throttling:
        document["throttling"] = throttling
    return _with_pressure(document, group, "cpu")


def _cpu_of_v1(directory: str) -> Document:
    ticks = _keyed(f"{directory}/cpuacct.stat")
    lines = [line.split() for line in _text(f"{directory}/cpuacct.usage_all").splitlines()[1:]]
    return _present(
        total=int(_text(f"{directory}/cpuacct.usage") or 0),
        percpu=[int(word) for word in _text(f"{directory}/cpuacct.usage_percpu").split()],
        percpu_kernel=[int(words[2]) for words in lines],
        percpu_user=[int(words[1]) for words in lines],
    ) | {"kernel": ticks.get("system", 0) * _TICK, "user": ticks.get("user", 0) * _TICK}


def _throttling(values: dict[str, int], time: str, unit: int) -> Document:
    return _present(
        periods=values.get("nr_periods", 0),
        throttledPeriods=values.get("nr_throttled", 0),
        throttledTime=values.get(time, 0) * unit,
    )


def _cpuset(group: Group) -> Document:
    place = group.place("cpuset")
    document: Document = dict.fromkeys(_CPUSET, 0)
    if not place or group.unified == place:
        return document  # engines read v1's alone
    for name in _CPUSET:
        document[name] = _number(f"{place}/cpuset.{name}")
    return (
        _present(cpus=_list(f"{place}/cpuset.cpus"), mems=_list(f"{place}/cpuset.mems")) | document
    )


def _list(path: str) -> list[int]:
    """Return the members of a list such as ``0-2,7``."""
    members: list[int] = []
    for part in filter(None, _text(path).split(",")):
        first, _, last = part.partition("-")
        members += range(int(first), int(last or first) + 1)
    return members


# --- memory and tasks --------------------------------------------------------------------------


def _memory(group: Group) -> Document:
    place = group.place("memory")
    document: Document = {}
    if place and os.path.exists(f"{place}/memory.stat"):
        raw = _keyed(f"{place}/memory.stat")
        read_memory = _memory_of_v2 if place == group.unified else _memory_of_v1
        document = read_memory(place, raw) | {"raw": raw}
    return _with_pressure(document, group, "memory")


def _memory_of_v1(place: str, raw: dict[str, int]) -> Document:
    document = _present(cache=raw.get("cache", 0))
    names = (("usage", ""), ("swap", "memsw."), ("kernel", "kmem."), ("kernelTCP", "kmem.tcp."))
    for name, prefix in names:
        start = f"{place}/memory.{prefix}"
        if os.path.exists(f"{start}usage_in_bytes"):
            document[name] = _entry(
                _number(f"{start}limit_in_bytes"),
                _number(f"{start}usage_in_bytes"),
                _number(f"{start}max_usage_in_bytes"),
                _number(f"{start}failcnt"),
            )
    return document


def _memory_of_v2(place: str, raw: dict[str, int]) -> Document:
    limit, used = _number(f"{place}/memory.max"), _number(f"{place}/memory.current")
    swap_limit, swap = (_number(f"{place}/memory.swap.{end}") for end in ("max", "current"))
    both = UNLIMITED if UNLIMITED in (limit, swap_limit) else limit + swap_limit
    return _present(cache=raw.get("file", 0)) | {
        "usage": _entry(limit, used, _number(f"{place}/memory.peak"), 0),
        # v2 counts them apart; readers expect the sum, as on v1.
        "swap": _entry(both, used + swap, 0, 0),
    }


def _entry(limit: int, usage: int, most: int, failures: int) -> Document:
    return {"limit": limit} | _present(usage=usage, max=most) | {"failcnt": failures}


def _pids(group: Group) -> Document:
    place = group.place("pids")
    if not place or not os.path.exists(f"{place}/pids.current"):
        return _present(current=len(group.processes()))
    limit = _number(f"{place}/pids.max")
    return _present(
        current=_number(f"{place}/pids.current"), limit=0 if limit == UNLIMITED else limit
    )


# --- block I/O and huge pages ------------------------------------------------------------------


def _blkio(group: Group) -> Document:
    place = group.place("io")
    document: Document = {}
    if place and place == group.unified:
        document = _io_of_v2(place)
    elif place:
        document = _io_of_v1(place)
    return _with_pressure(document, group, "io")


def _io_of_v1(place: str) -> Document:
    """Return the figures of the scheduler, if it has any, or else those of the rate limits."""
    found = {name: _devices(f"{place}/blkio.bfq.{file}") for name, file in _BFQ}
    if not any(found.values()):
        found = {name: _devices(f"{place}/blkio.throttle.{file}") for name, file in _BFQ[:2]}
    return _present(**found)


def _devices(path: str) -> list[Document]:
    """Return lines such as ``8:0 Read 4096``, or ``8:0 4096``."""
    entries = []
    for line in _text(path).splitlines():
        numbers, *words = line.split()
        if ":" in numbers:
            major, minor = numbers.split(":")
            kind = words[0] if len(words) == 2 else ""
            entries.append(_entry_of(major, minor, kind, words[-1]))
    return entries


def _io_of_v2(place: str) -> Document:
    tables: dict[str, list[Document]] = {}
    for line in _text(f"{place}/io.stat").splitlines():
        numbers, *words = line.split()
        major, _, minor = numbers.partition(":")
        for word in words:
            name, _, value = word.partition("=")
            if name in _IO_STAT:
                table, kind = _IO_STAT[name]
                tables.setdefault(table, []).append(_entry_of(major, minor, kind, value))
    return tables


def _entry_of(major: str, minor: str, kind: str, value: str) -> Document:
    return _present(major=int(major), minor=int(minor), op=kind, value=int(value))


def _hugetlb(group: Group) -> Document:
    place = group.place("hugetlb")
    if not place:
        return {}
    v2 = place == group.unified
    end = ".current" if v2 else ".usage_in_bytes"
    document = {}
    for file in sorted(os.listdir(place)):
        size = file.removeprefix("hugetlb.").removesuffix(end)
        if not (file.startswith("hugetlb.") and file.endswith(end)) or "." in size:
            continue
        start = f"{place}/hugetlb.{size}"
        # What is reserved counts where the kernel accounts it (Linux 5.7).
        prefix = f"{start}.rsvd" if os.path.exists(f"{start}.rsvd{end}") else start
        if v2:
            failures = _keyed(f"{start}.events").get("max", 0)
            document[size] = _present(usage=_number(prefix + end)) | {"failcnt": failures}
        else:
            most = _number(f"{prefix}.max_usage_in_bytes")
            figures = _present(usage=_number(prefix + end), max=most)
            document[size] = figures | {"failcnt": _number(f"{prefix}.failcnt")}
    return document


# --- files -------------------------------------------------------------------------------------


def _with_pressure(document: Document, group: Group, resource: str) -> Document:
    """Add how long tasks had to wait for a resource (PSI), which only v2 tells of a group."""
    path = f"{group.unified}/{resource}.pressure"
    if not group.unified:
        return document
    pressure: Document = {}
    for line in _text(path).splitlines():
        kind, *words = line.split()
        pairs = [word.split("=") for word in words]
        pressure[kind] = {
            name: int(value) if name == "total" else float(value) for name, value in pairs
        }
    return document | {"psi": pressure} if pressure else document


def _present(**figures: Any) -> Document:
    """Return the figures that aren't zero or empty."""
    return {name: value for name, value in figures.items() if value}


def _text(path: str) -> str:
    """Return what a file holds; nothing where the kernel doesn't have it, or not for this group."""
    try:
        return read(path)
    except OSError:  # ENOENT; EOPNOTSUPP for PSI that is turned off
        return ""


def _keyed(path: str) -> dict[str, int]:
    return keyed(_text(path))


def _number(path: str) -> int:
    """Return the number that a file holds, ``UNLIMITED`` for ``max``, 0 without a file."""
    text = _text(path)
    return UNLIMITED if text == "max" else int(text or 0)
