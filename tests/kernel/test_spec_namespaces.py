"""Namespaces that a spec asks for, in real containers."""

from __future__ import annotations

import errno
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


# --- network devices ---------------------------------------------------------------------------


def with_devices(*commands: str) -> list[str]:
    """Return what runs a launcher in a network namespace of its own, after commands for ip(8)."""
    script = "set -e; " + "; ".join(f"ip {command}" for command in commands)
    return ["unshare", "--net", "sh", "-c", f'{script}; exec "$@"', "sh"]


VETH = (
    "link add out type veth peer name other",
    "link set out mtu 1400 address 02:00:00:00:00:07 up",
    "address add 10.9.8.7/24 brd + dev out",
    "address add 10.9.8.1 peer 10.9.8.9/32 dev out",
    "address add 169.254.1.1/16 scope link dev out",
    "address add 10.9.8.99/24 valid_lft 1000 preferred_lft 1000 dev out",
    "address add fd00::7/64 nodad dev out",
)


@pytest.mark.needs("ip")
@pytest.mark.parametrize("own_users", [False, True])
@pytest.mark.parametrize(("name", "inside"), [("", "out"), ("in", "in"), ("net%d", "net0")])
def test_network_device(bundle: Bundle, name: str, inside: str, own_users: bool) -> None:
    """It is up in the container, with its permanent global addresses and attributes."""
    if own_users:
        bundle.own_users()
    bundle.linux["netDevices"] = {"out": {"name": name} if name else {}}
    done = bundle.run("ip -o link; ip -o addr", wrapper=with_devices(*VETH))
    assert done.failure is None, done.failure
    links = [line for line in done.stdout.splitlines() if "mtu" in line]
    assert [line.split()[1].split("@")[0].strip(":") for line in links] == ["lo", inside]
    assert all(word in links[1] for word in ("UP", "mtu 1400", "02:00:00:00:00:07"))
    addresses = [
        line.split(inside, 1)[1].split("scope")[0].split()
        for line in done.stdout.splitlines()
        if f" {inside} " in line and "scope global" in line
    ]
    assert sorted(addresses) == [
        ["inet", "10.9.8.1", "peer", "10.9.8.9/32"],
        ["inet", "10.9.8.7/24", "brd", "10.9.8.255"],
        ["inet6", "fd00::7/64"],
    ]
    assert "169.254" not in done.stdout


@pytest.mark.needs("ip")
def test_network_device_in_a_joined_namespace(bundle: Bundle) -> None:
    """The network namespace may be there already, with devices of the same number."""
    links = [
        f"ip link add {one} type veth peer name {other}"
        for one, other in (("e1", "e2"), ("e3", "e4"))
    ]
    script = "; ".join([*links, "echo ready; read line"])
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-ec", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"ready\n"
    bundle.linux["namespaces"] = [{"type": kind} for kind in ("mount", "pid", "uts", "ipc")] + [
        {"type": "network", "path": f"/proc/{holder.pid}/ns/net"}
    ]
    bundle.linux["netDevices"] = {"out": {"name": "e5"}}
    done = bundle.run("ip -o link", wrapper=with_devices("link add out type veth peer name other"))
    bundle.linux["netDevices"] = {"out": {"name": "e3"}}
    exists = bundle.run(
        "true", wrapper=with_devices("link add out type veth peer name other")
    ).failure
    holder.communicate(b"\n")
    assert done.failure is None, done.failure
    names = {line.split()[1].split("@")[0].strip(":") for line in done.stdout.splitlines()}
    assert names == {"lo", "e1", "e2", "e3", "e4", "e5"}
    assert exists == ("net_device", "RTM_NEWLINK", "out", errno.EEXIST)


@pytest.mark.needs("ip")
@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("none", ("net_device", "ioctl", "none", errno.ENODEV)),
        ("lo", ("net_device", "RTM_NEWLINK", "lo", errno.EINVAL)),
    ],
)
def test_network_device_that_cannot_move(
    bundle: Bundle, name: str, failure: tuple[str, str, str, int]
) -> None:
    """A device that isn't there, or can't leave, is an error."""
    bundle.linux["netDevices"] = {name: {"name": "x"}}
    assert bundle.run("true", wrapper=with_devices("link")).failure == failure
