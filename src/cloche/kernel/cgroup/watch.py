"""Waiting for what happens to a container: its processes killed for lack of memory, its end."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack

from cloche.kernel.cgroup.files import keyed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.cgroup.group import Group

OOM = "oom"
TICK = "tick"


def watch(group: Group, interval: float | None = None) -> Iterator[str]:
    """Yield ``OOM`` whenever the OOM killer has ended processes, until the container's end.

    With an ``interval`` (seconds) also ``TICK`` each time that it has passed.  The kernel wakes
    the caller: v2 by POLLPRI on ``memory.events``, at most once in 10 ms (of several kills
    meanwhile each is told), v1 by an eventfd, at the removal of the group too.  The end is when
    the v2 group is empty, or no group is left.
    """
    with ExitStack() as open_files:
        poll = select.poll()
        unified, memory = group.unified, group.place("memory")
        ends = -1
        if unified:
            ends = _open(open_files, f"{unified}/cgroup.events")
            poll.register(ends, select.POLLPRI)
        events = eventfd = -1
        if memory and memory != unified:
            eventfd = _register(open_files, memory)
            poll.register(eventfd, select.POLLIN)
        elif memory and os.path.exists(f"{memory}/memory.events"):
            events = _open(open_files, f"{memory}/memory.events")
            poll.register(events, select.POLLPRI)
        known = _value(events, "oom_kill") or 0
        deadline = None if interval is None else time.monotonic() + interval
        while ends < 0 or _value(ends, "populated"):
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = {fd for fd, _ in poll.poll(None if left is None else left * 1000)}
            if eventfd in ready:
                os.eventfd_read(eventfd)
                if not os.path.exists(memory):
                    return
                yield OOM
            kills = _value(events, "oom_kill") or 0
            for _ in range(kills - known):
                yield OOM
            known = max(known, kills)
            if deadline is not None and interval and time.monotonic() >= deadline:
                deadline += interval
                yield TICK


def _open(files: ExitStack, path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    files.callback(os.close, fd)
    return fd


def _register(files: ExitStack, memory: str) -> int:
    """Return an eventfd that a memory group of v1 signals: memory.rst, "OOM Control"."""
    eventfd = os.eventfd(0, os.EFD_CLOEXEC)
    files.callback(os.close, eventfd)
    control = _open(files, f"{memory}/memory.oom_control")
    with open(f"{memory}/cgroup.event_control", "wb", buffering=0) as file:
        file.write(f"{eventfd} {control}".encode())
    return eventfd


def _value(fd: int, name: str) -> int | None:
    """Return a line of a keyed file that is open; None without one, or when its group is gone.

    Reading it is also what lets the next change wake a poll.
    """
    if fd < 0:
        return None
    try:
        return keyed(os.pread(fd, 4096, 0).decode()).get(name)
    except OSError:  # ENODEV
        return None
