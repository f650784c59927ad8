"""What a running container's groups hold, where that decides how new limits are written."""

from __future__ import annotations

import os

from cloche.kernel.cgroup.files import read, read_number
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.cgroup.group import Group


class Present(Record):
    """Limits in bytes and microseconds, the group's own; None for no limit."""

    memory: int | None = None
    swap: int | None = None
    """Of memory and swap together."""
    usage: int = 0
    """The memory in use."""
    quota: int | None = None
    period: int = 100_000
    burst: int = 0
    devices: str = ""
    """v1: what ``devices.list`` shows."""


def present(group: Group) -> Present:
    """Return what the groups of a container hold now."""
    memory, cpu, devices = (group.place(name) for name in ("memory", "cpu", "devices"))
    if memory and os.path.exists(f"{memory}/memory.max"):
        limits = _memory_of_v2(memory)
    elif memory and os.path.exists(f"{memory}/memory.limit_in_bytes"):
        limits = _memory_of_v1(memory)
    else:
        limits = Present()
    quota, period, burst = _cpu(cpu)
    return limits._replace(
        quota=quota,
        period=period,
        burst=burst,
        devices=read(f"{devices}/devices.list") if devices else "",
    )


def _memory_of_v1(directory: str) -> Present:
    return Present(
        read_number(f"{directory}/memory.limit_in_bytes"),
        read_number(f"{directory}/memory.memsw.limit_in_bytes"),
        read_number(f"{directory}/memory.usage_in_bytes") or 0,
    )


def _memory_of_v2(directory: str) -> Present:
    memory = read_number(f"{directory}/memory.max")
    swap = read_number(f"{directory}/memory.swap.max")
    both = None if memory is None or swap is None else memory + swap
    return Present(memory, both, read_number(f"{directory}/memory.current") or 0)


def _cpu(directory: str) -> tuple[int | None, int, int]:
    if os.path.exists(f"{directory}/cpu.max"):
        quota, period = read(f"{directory}/cpu.max").split()
        limit = None if quota == "max" else int(quota)
        return limit, int(period), read_number(f"{directory}/cpu.max.burst") or 0
    if os.path.exists(f"{directory}/cpu.cfs_quota_us"):
        return (
            read_number(f"{directory}/cpu.cfs_quota_us"),
            int(read(f"{directory}/cpu.cfs_period_us")),
            read_number(f"{directory}/cpu.cfs_burst_us") or 0,
        )
    return None, 100_000, 0
