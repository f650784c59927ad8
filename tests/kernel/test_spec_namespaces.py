"""Namespaces that a spec asks for, in real containers."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloche.plan import wire
from cloche.runtime import records
from tests.kernel.specs import Bundle
from tests.native.launching import launch

pytestmark = pytest.mark.needs("root", "busybox")
DAY = 86400


@pytest.fixture
def bundle(workspace: Path) -> Bundle:
    """A container with a root directory of its own."""
    return Bundle(workspace)


@pytest.fixture
def shifted() -> Iterator[str]:
    """The path of a time namespace whose clocks are ten days ahead."""
    argv = ["unshare", "--time", "--boottime", str(10 * DAY), "--fork", "cat"]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"x")
    process.stdin.flush()
    process.stdout.read(1)  # the child is there
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    yield f"/proc/{children.split()[0]}/ns/time"
    process.communicate()


def uptime() -> float:
    """Return the host's boot time clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@pytest.mark.parametrize("own_users", [False, True])
def test_clocks_of_a_new_time_namespace(bundle: Bundle, own_users: bool) -> None:
    """The clocks are ahead by what the spec says; the host's aren't."""
    if own_users:
        bundle.own_users()
    before = uptime()
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {
        "boottime": {"secs": 7 * DAY, "nanosecs": 500},
        "monotonic": {"secs": DAY},
    }
    done = bundle.run("cat /proc/uptime /proc/self/timens_offsets; readlink /proc/self/ns/time")
    assert done.failure is None
    first, *rest = done.stdout.split("\n")
    assert abs(float(first.split()[0]) - before - 7 * DAY) < 60
    assert [line.split() for line in rest[:2]] == [
        ["monotonic", str(DAY), "0"],
        ["boottime", str(7 * DAY), "500"],
    ]
    assert rest[2] != os.readlink("/proc/self/ns/time")
    assert uptime() - before < 60


def test_time_namespace_without_offsets(bundle: Bundle) -> None:
    """A time namespace may be new and have the host's clocks."""
    bundle.linux["namespaces"].append({"type": "time"})
    done = bundle.run("for name in time time_for_children; do readlink /proc/self/ns/$name; done")
    assert done.failure is None
    assert len(set(done.stdout.split())) == 1
    assert done.stdout.split()[0] != os.readlink("/proc/self/ns/time")


def test_time_namespace_is_joined(bundle: Bundle, shifted: str) -> None:
    """The clocks of another time namespace count."""
    before = uptime()
    bundle.linux["namespaces"].append({"type": "time", "path": shifted})
    done = bundle.run("cat /proc/uptime")
    assert done.failure is None
    assert abs(float(done.stdout.split()[0]) - before - 10 * DAY) < 60


def test_trace_in_a_time_namespace(bundle: Bundle) -> None:
    """What a trace says of the child's steps is the host's time."""
    bundle.linux["namespaces"].append({"type": "time"})
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": DAY}}
    plan = bundle.plan("true").steps
    done = launch(plan, wire.Options(wire.TIME_STEPS), cwd="/").records
    times = [(step.begun, step.ended) for step in done.steps]
    flat = [moment for pair in times[:-1] for moment in pair]
    assert flat == sorted(flat)
    assert done.progress >= records.SPAWNED


def test_domain_and_host_name(bundle: Bundle) -> None:
    """Names of 64 bytes are taken whole."""
    bundle.spec.update(hostname="h" * 64, domainname="d" * 64)
    done = bundle.run("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname")
    assert done.stdout == f"{'h' * 64}\n{'d' * 64}\n"
