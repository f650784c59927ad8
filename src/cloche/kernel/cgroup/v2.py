"""The driver for cgroup v2: each function works on a group's directory.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

from __future__ import annotations

import os
import select
import time

from cloche.errors import Unavailable
from cloche.kernel.cgroup.files import keyed, read, read_number, write
from cloche.kernel.cgroup.statistics import Cpu, Io, Memory, Pids


def freeze(directory: str, timeout: float) -> None:
    """Stop every process of a group and those beneath it, and wait until they stand still.

    ``timeout`` is seconds.  Raises Unavailable when they don't in time, and thaws again.
    """
    write(f"{directory}/cgroup.freeze", "1")
    try:
        wait_for(directory, "frozen", 1, timeout)
    except Unavailable:
        thaw(directory)
        raise


def thaw(directory: str) -> None:
    """Let the processes of a group go on."""
    write(f"{directory}/cgroup.freeze", "0")


def kill(directory: str, timeout: float) -> None:
    """Kill every process of a group and those beneath it, frozen or not, and wait for the end.

    ``timeout`` is seconds.  Nothing can fork its way out: whoever is born meanwhile is killed
    too (Linux 5.14).  Raises Unavailable when one doesn't end in time.
    """
    write(f"{directory}/cgroup.kill", "1")
    wait_for(directory, "populated", 0, timeout)


def wait_for(directory: str, event: str, value: int, timeout: float) -> None:
    """Wait until a line of ``cgroup.events`` has a value.

    The kernel notifies each change of the file by POLLPRI, to those who have read the former
    content.  It notifies at most once in 10 ms (CGROUP_FILE_NOTIFY_MIN_INTV), so that a wait
    takes up to as long even where nothing has to be waited for.
    """
    deadline = time.monotonic() + timeout
    fd = os.open(f"{directory}/cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLPRI)
        while keyed(os.pread(fd, 4096, 0).decode())[event] != value:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise Unavailable(
                    f"cgroup {directory} isn't {event}={value} after {timeout:g} s",
                    hint="a process may be waiting for a device (state D in ps)",
                )
            poll.poll(max(1, remaining * 1000))
    finally:
        os.close(fd)


def cpu(directory: str) -> Cpu:
    """Return the CPU time, which v2 counts without the controller too."""
    values = keyed(read(f"{directory}/cpu.stat"))
    return Cpu(
        values["usage_usec"],
        values["user_usec"],
        values["system_usec"],
        values.get("nr_periods", 0),
        values.get("nr_throttled", 0),
        values.get("throttled_usec", 0),
    )


def memory(directory: str) -> Memory:
    """Return the use of memory."""
    return Memory(
        int(read(f"{directory}/memory.current")),
        read_number(f"{directory}/memory.peak"),
        read_number(f"{directory}/memory.max"),
        read_number(f"{directory}/memory.swap.current"),
        keyed(read(f"{directory}/memory.events"))["oom_kill"],
    )


def pids(directory: str) -> Pids:
    """Return the number of tasks."""
    return Pids(int(read(f"{directory}/pids.current")), read_number(f"{directory}/pids.max"))


def io(directory: str) -> Io:
    """Return the I/O, of lines such as ``8:0 rbytes=4096 wbytes=0 rios=1 wios=0 ...``."""
    sums = {"rbytes": 0, "wbytes": 0, "rios": 0, "wios": 0}
    for line in read(f"{directory}/io.stat").splitlines():
        for word in line.split()[1:]:
            name, _, number = word.partition("=")
            if name in sums:
                sums[name] += int(number)
    return Io(sums["rbytes"], sums["wbytes"], sums["rios"], sums["wios"])


def memory_limit(directory: str) -> int | None:
    """Return the limit of memory, bytes."""
    return read_number(f"{directory}/memory.max")


def swap_limit(directory: str) -> int | None:
    """Return the limit of swap alone, bytes."""
    return read_number(f"{directory}/memory.swap.max")


def cpu_limit(directory: str) -> float | None:
    """Return the quota in CPUs."""
    try:
        quota, period = read(f"{directory}/cpu.max").split()
    except FileNotFoundError:  # in the root
        return None
    return None if quota == "max" else int(quota) / int(period)


def cpuset(directory: str) -> str:
    """Return the CPUs that may be used."""
    return read(f"{directory}/cpuset.cpus.effective")
