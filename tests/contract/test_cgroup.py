"""What every cgroup driver promises, v1, v2 and hybrid.

Reading and writing is tested on made-up trees of plain files, for all of them on any machine.
What needs a kernel (freezing, killing, removing) is tested on the machine's own hierarchies, one
version at a time: a hybrid machine has all three drivers.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from cloche.errors import ClocheError, NotFound, Unavailable
from cloche.kernel.cgroup import layout
from cloche.kernel.cgroup.group import Group
from cloche.kernel.cgroup.layout import Layout
from cloche.kernel.cgroup.statistics import Cpu, Io, Memory, Pids
from cloche.oci.spec import Resources
from cloche.plan import limits
from cloche.plan.limits import Placement
from tests import cgroups

MIB = 1 << 20
PATH = "/cloche/a"
WANTED = {
    "memory": {"limit": 64 * MIB, "swap": 80 * MIB},
    "cpu": {"quota": 20000, "period": 50000, "cpus": "1-2"},
    "pids": {"limit": 50},
}

# Files of a group in use, with the same figures in the terms of each version.
FIGURES_V1 = {
    "cpu": {"cpu.stat": "nr_periods 9\nnr_throttled 4\nthrottled_time 5000000\n"},
    "cpuacct": {
        "cpuacct.usage": "9000000\n",
        "cpuacct.usage_user": "6000000\n",
        "cpuacct.usage_sys": "3000000\n",
    },
    "memory": {
        "memory.usage_in_bytes": "4096\n",
        "memory.max_usage_in_bytes": "8192\n",
        "memory.memsw.usage_in_bytes": "5096\n",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
    },
    "pids": {"pids.current": "3\n"},
    "io": {
        "blkio.throttle.io_service_bytes_recursive": "8:0 Read 10\n8:0 Write 20\n8:0 Sync 3\n"
        "8:16 Read 1\nTotal 34\n",
        "blkio.throttle.io_serviced_recursive": "8:0 Read 5\n8:0 Write 6\nTotal 11\n",
    },
}
FIGURES_V2 = {
    "cpu": {
        "cpu.stat": "usage_usec 9000\nuser_usec 6000\nsystem_usec 3000\nnr_periods 9\n"
        "nr_throttled 4\nthrottled_usec 5000\n"
    },
    "cpuset": {"cpuset.cpus.effective": "1-2\n"},
    "memory": {
        "memory.current": "4096\n",
        "memory.peak": "8192\n",
        "memory.swap.current": "1000\n",
        "memory.events": "low 0\nmax 7\noom 3\noom_kill 2\n",
    },
    "pids": {"pids.current": "3\n"},
    "io": {
        "io.stat": "8:0 rbytes=10 wbytes=20 rios=5 wios=6 dbytes=0 dios=0\n"
        "8:16 rbytes=1 wbytes=0 rios=0 wios=0 dbytes=0 dios=0\n"
    },
}


class Machine(NamedTuple):
    """A made-up machine with one container in use."""

    layout: Layout
    placement: Placement


@pytest.fixture(params=["v1", "v2", "hybrid"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    """A made-up machine of each kind."""
    made_up = cgroups.machine(request.param, tmp_path)
    wanted = cast(Resources, WANTED | {"blockIO": {"weight": 100}})
    placement = limits.build(made_up, PATH, wanted, page_size=4096)
    cgroups.make(placement)
    for controller in FIGURES_V1 | FIGURES_V2:
        hierarchy = made_up.find(controller)
        if hierarchy is None:
            continue
        for directory in _above(hierarchy.directory(PATH), hierarchy.mount):
            figures = FIGURES_V1 if hierarchy.version == 1 else FIGURES_V2
            for name, content in figures.get(controller, {}).items():
                Path(directory, name).write_text(content)
            _defaults(Path(directory), hierarchy.version, controller)
    return Machine(made_up, placement)


def _above(directory: str, mount: str) -> list[str]:
    path = Path(directory)
    return [str(each) for each in (path, *path.parents) if str(each).startswith(f"{mount}/")]


def _defaults(directory: Path, version: int, controller: str) -> None:
    """Give a group's limits that weren't written the values that the kernel begins with."""
    v1 = {
        "memory": ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"],
        "cpu": ["cpu.cfs_quota_us"],
        "cpuset": ["cpuset.effective_cpus"],
        "pids": ["pids.max"],
    }
    v2 = {
        "memory": ["memory.max", "memory.swap.max"],
        "cpu": ["cpu.max"],
        "pids": ["pids.max"],
    }
    unlimited = {
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.memsw.limit_in_bytes": "9223372036854771712",
        "cpu.cfs_quota_us": "-1",
        "cpu.max": "max 100000",
        "cpuset.effective_cpus": "1-2",
    }
    for name in (v1 if version == 1 else v2).get(controller, []):
        if not (directory / name).exists():
            (directory / name).write_text(unlimited.get(name, "max") + "\n")


def test_every_value_is_written_into_an_own_group(machine: Machine) -> None:
    """The files hold the values, beneath the made-up mounts only."""
    for write in machine.placement.writes:
        assert write.directory in machine.placement.groups + machine.placement.parents or (
            write.file == "cgroup.subtree_control"
        )
        assert Path(write.path).read_text() == write.value


def test_every_group_can_be_entered(machine: Machine) -> None:
    """A process is born into one group or joins it: each group by exactly one way."""
    placement = machine.placement
    into = (placement.into,) if placement.into else ()
    assert sorted(placement.joins + into) == sorted(placement.groups)


def test_statistics_are_the_same_in_every_version(machine: Machine) -> None:
    """The same use gives the same figures."""
    found = Group(machine.layout, PATH).statistics()
    assert found.cpu == Cpu(9000, 6000, 3000, 9, 4, 5000)
    assert found.memory == Memory(4096, 8192, 64 * MIB, 1000, 2)
    assert found.pids == Pids(3, 50)
    assert found.io == Io(11, 20, 5, 6)


def test_limits_are_read_back(machine: Machine) -> None:
    """What was asked for is what is in effect."""
    found = Group(machine.layout, PATH).limits()
    assert (found.memory, found.swap) == (64 * MIB, 16 * MIB)
    assert (found.cpus, found.cpuset, found.pids) == (0.4, "1-2", 50)


def test_a_lower_limit_above_is_the_one_in_effect(machine: Machine) -> None:
    """A group can't have more than the group it is in."""
    pids = machine.layout.find("pids")
    assert pids is not None
    Path(pids.directory("/cloche"), "pids.max").write_text("7\n")
    assert Group(machine.layout, PATH).limits().pids == 7


def test_processes_of_groups_beneath_count(machine: Machine) -> None:
    """A container's own sub-groups belong to it; 0 is a process of another pid namespace."""
    for directory in machine.placement.groups:
        inner = Path(directory, "inner", "most")
        inner.mkdir(parents=True)
        Path(directory, "cgroup.procs").write_text("20\n3\n0\n")
        (inner / "cgroup.procs").write_text("4\n")
    assert Group(machine.layout, PATH).processes() == [3, 4, 20]


def test_a_group_that_is_not_there(machine: Machine) -> None:
    """It is said so, rather than found empty."""
    with pytest.raises(NotFound, match="/cloche/b"):
        Group(machine.layout, "/cloche/b")


# --- with a kernel -----------------------------------------------------------------------------


class Real:
    """Real groups, made for one test, and what the test has started in them."""

    def __init__(self, group: Group, placement: Placement) -> None:
        self.group = group
        self.placement = placement
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program in the groups; it runs once it has been moved there."""
        gate = f"import os, sys; sys.stdin.read(1); os.execvp({argv[0]!r}, {list(argv)!r})"
        process = subprocess.Popen(
            [sys.executable, "-c", gate], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.processes.append(process)
        assert process.stdin is not None
        cgroups.enter(self.placement, process.pid)
        process.stdin.write(b"x")
        process.stdin.close()
        return process

    def python(self, program: str) -> subprocess.Popen[bytes]:
        """Start a Python program in the groups, and return once it has written a line."""
        process = self.start(sys.executable, "-c", program)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    def end(self) -> None:
        """Kill what runs and remove everything."""
        if any(map(os.path.exists, self.placement.groups)):
            self.group.kill()
            self.group.remove()
        for process in self.processes:
            assert process.stdout is not None
            process.stdout.close()
            process.wait()
        cgroups.unmake(self.placement)


@pytest.fixture(
    params=[
        pytest.param("v1", marks=pytest.mark.needs("root", "cgroup1")),
        pytest.param("v2", marks=pytest.mark.needs("root", "cgroup2")),
        pytest.param("hybrid", marks=pytest.mark.needs("root", "cgroup1", "cgroup2")),
    ]
)
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    """Groups of the test's own in the machine's hierarchies of one version."""
    machine = layout.detect()
    if request.param != "hybrid":
        version = int(request.param[1])
        kept = tuple(each for each in machine.hierarchies if each.version == version)
        machine = machine._replace(version=request.param, hierarchies=kept)
    path = f"/cloche-test-{uuid.uuid4().hex[:8]}/container"
    placement = limits.build(machine, path, {}, page_size=os.sysconf("SC_PAGE_SIZE"))
    cgroups.make(placement)
    made = Real(Group(machine, path), placement)
    yield made
    made.end()


TREE = """
import subprocess, time
child = subprocess.Popen(["sleep", "1000"])
print("ready", flush=True)
child.wait()
"""


@pytest.mark.orphans
def test_all_processes_are_listed_and_killed(real: Real) -> None:
    """kill() takes children too and returns when all have ended."""
    process = real.python(TREE)
    assert process.pid in real.group.processes()
    assert len(real.group.processes()) == 2
    real.group.kill()
    assert real.group.processes() == []
    assert process.wait() == -signal.SIGKILL
    real.group.remove()
    assert not any(map(os.path.exists, real.placement.groups))


def test_killing_nothing(real: Real) -> None:
    """A group without processes is killed at once."""
    real.group.kill(timeout=0.1)


def test_frozen_processes_stand_still(real: Real) -> None:
    """No CPU time passes while frozen, and it does again once thawed."""
    process = real.python("print('ready', flush=True)\nwhile True: pass")
    real.group.freeze()
    before = _ticks(process.pid)
    assert not _uses_cpu(process.pid, before, 0.1)
    real.group.thaw()
    assert _uses_cpu(process.pid, before, 5)
    real.group.kill()
    process.wait()


@pytest.mark.orphans
def test_frozen_processes_are_killed(real: Real) -> None:
    """kill() needs no thaw() before."""
    process = real.python(TREE)
    real.group.freeze()
    real.group.kill()
    assert process.wait() == -signal.SIGKILL


HOPPERS = """
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(20):
    if os.fork() == 0:
        while True:
            if os.fork():
                os._exit(0)
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.orphans
def test_processes_that_fork_all_the_time_are_killed(real: Real) -> None:
    """A process that is another one at each moment doesn't escape."""
    process = real.python(HOPPERS)
    pids = next((path for path in real.placement.groups if "/pids/" in path), "")
    real.group.kill()
    assert real.group.processes() == []
    assert process.wait() == -signal.SIGKILL
    if pids:
        assert Path(pids, "pids.max").read_text() == "max\n"


@pytest.mark.orphans
def test_groups_in_use_are_not_removed(real: Real) -> None:
    """remove() says which group is busy, once it has waited."""
    process = real.python(TREE)
    with pytest.raises(Unavailable) as caught:
        real.group.remove(timeout=0.05)
    assert "cloche-test" in str(caught.value)
    real.group.kill()
    process.wait()


def test_groups_of_the_container_are_removed(real: Real) -> None:
    """What the container has made beneath its groups goes with them."""
    for directory in real.placement.groups:
        os.makedirs(f"{directory}/inner/most")
    real.group.remove()
    assert not any(map(os.path.exists, real.placement.groups))


def test_cpu_time_is_counted(real: Real) -> None:
    """Work shows in the statistics of every version."""
    process = real.python("sum(range(3_000_000)); print('ready', flush=True)")
    found = real.group.statistics().cpu
    assert found is not None
    assert found.usage_us > 10_000
    assert abs(found.user_us + found.system_us - found.usage_us) < found.usage_us / 2
    real.group.kill()
    process.wait()


@pytest.mark.orphans
def test_processes_that_end_by_themselves(real: Real) -> None:
    """A race between kill() and processes that come and go is no error."""
    process = real.start("sh", "-c", "while :; do true & done")
    errors: list[ClocheError] = []

    def kill() -> None:
        try:
            real.group.kill()
        except ClocheError as error:
            errors.append(error)

    threads = [threading.Thread(target=kill) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    process.wait()
    assert errors == []
    assert real.group.processes() == []


def _ticks(pid: int) -> int:
    fields: list[Any] = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(fields[0])


def _uses_cpu(pid: int, before: int, seconds: float) -> bool:
    """Whether a process gets CPU time within some seconds."""
    pause = threading.Event()
    for _ in range(int(seconds * 50)):
        if _ticks(pid) > before:
            return True
        pause.wait(0.02)
    return False


@pytest.mark.parametrize("kind", ["v1", "v2", "hybrid"])
def test_a_group_that_goes_meanwhile(kind: str, tmp_path: Path) -> None:
    """Its launcher may remove it at any moment; then nothing is frozen, or has to be killed."""
    made_up = cgroups.machine(kind, tmp_path)
    placement = limits.build_complete(made_up, "/pod/a", {}, id="a", page_size=4096, devices=False)
    cgroups.make(placement)
    group = Group(made_up, "a", placement.groups)
    for directory in placement.groups:
        shutil.rmtree(directory)
    assert not group.is_frozen()
    group.thaw()
    group.kill()
    group.remove()
