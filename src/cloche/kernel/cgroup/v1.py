"""The driver for cgroup v1: each function works on a group's directory in one hierarchy.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import errno
import os
import select
import time

from cloche.errors import Unavailable
from cloche.kernel import signals
from cloche.kernel.cgroup.files import keyed, read, read_number, write
from cloche.kernel.cgroup.statistics import Cpu, Io, Memory, Pids

# Why a group may have no list of processes: it was removed meanwhile, or it is a threaded group
# of v2, whose processes the group above lists.
_NO_LIST = (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP)


def freeze(directory: str, timeout: float) -> None:
    """Stop every process of a group of the freezer, and wait until they stand still.

    ``timeout`` is seconds.  Raises Unavailable when they don't in time, and thaws again.

    Some facts about the freezer of v1.  After FROZEN was written the state is FREEZING until
    the last task stands still.  No event tells when that is: the file supports neither poll nor
    inotify, reading it is what makes the kernel look again.  And a task forked at the wrong
    moment escapes until FROZEN is written once more.  So there is no way but to repeat both,
    giving the tasks the processor in between.
    """
    state = f"{directory}/freezer.state"
    deadline = time.monotonic() + timeout
    write(state, "FROZEN")
    while read(state) != "FROZEN":
        if time.monotonic() > deadline:
            thaw(directory)
            raise Unavailable(
                f"cgroup {directory} isn't frozen after {timeout:g} s",
                hint="a process may be waiting for a device (state D in ps)",
            )
        os.sched_yield()
        write(state, "FROZEN")


def thaw(directory: str) -> None:
    """Let the processes of a group of the freezer go on."""
    write(f"{directory}/freezer.state", "THAWED")


def kill(directory: str, timeout: float) -> None:
    """Kill every process of a group and those beneath it, and wait for the end.

    ``timeout`` is seconds.  Raises Unavailable when one doesn't end in time.  Frozen processes
    have to be thawed for it, before or after.

    v1 kills no group at once, so this goes process by process, again until there is none.  A
    process with a pending SIGKILL can't fork; what was born before is found in the next round.
    """
    deadline = time.monotonic() + timeout
    while pidfds := _open(directory):
        try:
            for pidfd in pidfds:
                try:
                    signals.send(pidfd, signals.SIGKILL)
                except ProcessLookupError:
                    pass  # it ended by itself
            _wait(pidfds, directory, deadline)
        finally:
            for pidfd in pidfds:
                os.close(pidfd)


def send(directory: str, number: int) -> None:
    """Send a signal to every process of a group and those beneath it."""
    for pidfd in _open(directory):
        try:
            signals.send(pidfd, number)
        except ProcessLookupError:
            pass  # it ended by itself
        finally:
            os.close(pidfd)


def _open(directory: str) -> list[int]:
    """Return a pidfd of each process of a group.

    A pid read from ``cgroup.procs`` may belong to another process by the time it is opened.  So
    the list is read again afterwards: a pid that is still there is one of the group's, or the
    process that its pidfd stands for is dead, and a signal to it harmless.
    """
    opened = {}
    try:
        for pid in processes(directory):
            try:
                opened[pid] = os.pidfd_open(pid)
            except ProcessLookupError:
                pass
        still = set(processes(directory))
    except OSError:
        for pidfd in opened.values():
            os.close(pidfd)
        raise
    for pid in opened.keys() - still:
        os.close(opened.pop(pid))
    return list(opened.values())


def _wait(pidfds: list[int], directory: str, deadline: float) -> None:
    """Wait until all of these processes have ended: a pidfd is readable then."""
    running = set(pidfds)
    poll = select.poll()
    for pidfd in pidfds:
        poll.register(pidfd, select.POLLIN)
    while running:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise Unavailable(
                f"{len(running)} processes of cgroup {directory} don't end",
                hint="they may be waiting for a device (state D in ps), or be frozen",
            )
        for pidfd, _ in poll.poll(max(1, remaining * 1000)):
            poll.unregister(pidfd)
            running.discard(pidfd)


def processes(directory: str) -> list[int]:
    """Return the pids of a group and those beneath it; works for v2 too.

    A process of a pid namespace that isn't beneath the caller's has no pid here and is left
    out; so is one that has ended but wasn't waited for.
    """
    pids: set[int] = set()
    for parent, _, files in os.walk(directory):
        if "cgroup.procs" not in files:
            continue
        try:
            pids.update(int(word) for word in read(f"{parent}/cgroup.procs").split())
        except OSError as error:
            if error.errno not in _NO_LIST:
                raise
    return sorted(pids - {0})


def cpu(directory: str, accounting: str) -> Cpu:
    """Return the CPU time.

    ``accounting`` is the group in the hierarchy of cpuacct, ``directory`` in that of cpu, empty
    without one.
    """
    values = keyed(read(f"{directory}/cpu.stat")) if directory else {}
    return Cpu(
        int(read(f"{accounting}/cpuacct.usage")) // 1000,
        int(read(f"{accounting}/cpuacct.usage_user")) // 1000,
        int(read(f"{accounting}/cpuacct.usage_sys")) // 1000,
        values.get("nr_periods", 0),
        values.get("nr_throttled", 0),
        values.get("throttled_time", 0) // 1000,
    )


def memory(directory: str) -> Memory:
    """Return the use of memory."""
    current = int(read(f"{directory}/memory.usage_in_bytes"))
    both = read_number(f"{directory}/memory.memsw.usage_in_bytes")
    return Memory(
        current,
        read_number(f"{directory}/memory.max_usage_in_bytes"),
        read_number(f"{directory}/memory.limit_in_bytes"),
        None if both is None else max(both - current, 0),
        keyed(read(f"{directory}/memory.oom_control")).get("oom_kill", 0),
    )


def pids(directory: str) -> Pids:
    """Return the number of tasks."""
    return Pids(int(read(f"{directory}/pids.current")), read_number(f"{directory}/pids.max"))


def io(directory: str) -> Io:
    """Return the I/O, of lines such as ``8:0 Read 4096``."""
    size = _sums(f"{directory}/blkio.throttle.io_service_bytes_recursive")
    count = _sums(f"{directory}/blkio.throttle.io_serviced_recursive")
    return Io(
        size.get("Read", 0), size.get("Write", 0), count.get("Read", 0), count.get("Write", 0)
    )


def _sums(path: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for line in read(path).splitlines():
        words = line.split()
        if len(words) == 3:
            sums[words[1]] = sums.get(words[1], 0) + int(words[2])
    return sums


def memory_limit(directory: str) -> int | None:
    """Return the limit of memory, bytes."""
    return read_number(f"{directory}/memory.limit_in_bytes")


def swap_limit(directory: str) -> int | None:
    """Return the limit of swap alone, bytes: what the sum may have beyond the memory."""
    both = read_number(f"{directory}/memory.memsw.limit_in_bytes")
    memory = memory_limit(directory)
    return None if both is None or memory is None else both - memory


def cpu_limit(directory: str) -> float | None:
    """Return the quota in CPUs."""
    quota = read_number(f"{directory}/cpu.cfs_quota_us")
    return None if quota is None else quota / int(read(f"{directory}/cpu.cfs_period_us"))


def cpuset(directory: str) -> str:
    """Return the CPUs that may be used."""
    return read(f"{directory}/cpuset.effective_cpus")
