"""What a container's cgroup reports: figures that look the same whatever the version."""

from __future__ import annotations

from cloche.record import Record


class Cpu(Record):
    """CPU time used, in microseconds."""

    usage_us: int
    user_us: int
    system_us: int
    periods: int = 0
    """How many periods of a quota have passed."""
    throttled_periods: int = 0
    """In how many of them the quota ran out."""
    throttled_us: int = 0


class Memory(Record):
    """Memory in use, in bytes."""

    current: int
    peak: int | None
    """The most that was ever in use; None where the kernel doesn't tell (v2 before 5.19)."""
    limit: int | None
    """None for no limit, as in every figure that is a limit."""
    swap: int | None
    """None where swap isn't accounted."""
    oom_kills: int


class Pids(Record):
    """The number of tasks: processes and threads."""

    current: int
    limit: int | None


class Io(Record):
    """What was read from and written to block devices."""

    read_bytes: int
    written_bytes: int
    reads: int
    writes: int


class Statistics(Record):
    """All figures; None for those whose controller the group doesn't have."""

    cpu: Cpu | None
    memory: Memory | None
    pids: Pids | None
    io: Io | None


class Limits(Record):
    """The limits in effect: the lowest of the group's own and of those of all groups above."""

    memory: int | None
    """Bytes."""
    swap: int | None
    """Bytes, beside the memory."""
    cpus: float | None
    """CPU time for each second that passes, in seconds."""
    cpuset: str
    """The CPUs, such as ``0-3,7``; empty if the group doesn't choose."""
    pids: int | None
