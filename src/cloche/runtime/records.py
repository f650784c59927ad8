"""The records: what the launcher learns, in a page of memory that planner and launcher share.

The planner makes a memfd of ``size(plan)`` bytes, zeroed; both processes of the launcher map
it and write into it; whoever holds the file descriptor reads it afterwards.  The layout is
that of ``struct records`` in ``native/records.h``::

    header    u64 magic   u32 step count   u32 progress
              u64 begun   u64 ready   u64 ended          CLOCK_MONOTONIC, nanoseconds
    outcome   i32 pid     u32 exit code  u32 signal      u32 timed out
              u64 user    u64 system                     CPU time, microseconds
              u64 peak    u64 oom kills                  bytes; count
              u64 start time                             of the process: proc_pid_stat(5)
    failure   u32 set     u32 step       u32 stage       i32 errno
              char call[32]   char path[512]
              u32 head length, u32 zero, u8 head[1024]   start of the file that can't be executed
    steps     u64 begun, u64 ended                       for each step, when timed
"""

from __future__ import annotations

import os
import struct

from cloche.errors import InternalError
from cloche.record import Record

MAGIC = 0x0053_4452_4F43_4552
PLANNED, SPAWNED, CREATED, STARTED, EXITED, FAILED = range(6)
"""How far the launcher came; ``CREATED`` when all but the program is ready, ``STARTED`` once it
runs."""

_HEADER = struct.Struct("<QIIQQQ")
_OUTCOME = struct.Struct("<iIIIQQQQQ")
_FAILURE = struct.Struct("<IIIi32s512sII1024s")
_STEP = struct.Struct("<QQ")
FIXED_SIZE = _HEADER.size + _OUTCOME.size + _FAILURE.size


class Failure(Record):
    """The step that failed."""

    step: int
    stage: int
    errno: int
    call: str
    path: str
    head: bytes
    """Where a program couldn't be executed: the first bytes of its file."""


class Timing(Record):
    """When a step began and ended, nanoseconds of CLOCK_MONOTONIC; zeros if it never ran."""

    begun: int
    ended: int


class Records(Record):
    """What a launcher has written so far."""

    progress: int
    begun: int
    ready: int
    ended: int
    pid: int
    exit_code: int
    signal: int
    timed_out: bool
    user_us: int
    system_us: int
    peak_bytes: int
    oom_kills: int
    start_time: int
    """When the process started, clock ticks since boot; 0 unless the records are kept."""
    failure: Failure | None
    steps: tuple[Timing, ...]


def size(step_count: int) -> int:
    """Return the size in bytes of the records of a plan with so many steps."""
    return FIXED_SIZE + step_count * _STEP.size


def read(fd: int) -> Records:
    """Read the records from their memfd.

    Raises InternalError when no launcher has written there.
    """
    data = os.pread(fd, os.fstat(fd).st_size, 0)
    magic, count, progress, begun, ready, ended = _HEADER.unpack_from(data)
    if magic != MAGIC or len(data) != size(count):
        raise InternalError("the launcher left no records")
    outcome = _OUTCOME.unpack_from(data, _HEADER.size)
    pid, exit_code, signal, timed_out, user_us, system_us, peak, oom_kills, start_time = outcome
    failed, step, stage, errno, call, path, head_length, _, head = _FAILURE.unpack_from(
        data, _HEADER.size + _OUTCOME.size
    )
    failure = Failure(step, stage, errno, _text(call), _text(path), head[:head_length])
    return Records(
        progress,
        begun,
        ready,
        ended,
        pid,
        exit_code,
        signal,
        bool(timed_out),
        user_us,
        system_us,
        peak,
        oom_kills,
        start_time,
        failure if failed else None,
        tuple(Timing(*pair) for pair in _STEP.iter_unpack(data[FIXED_SIZE:])),
    )


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
