"""The steps that build the wall of cgroups, in real hierarchies, and how cgroups end."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from cloche.kernel import device_program, flags
from cloche.kernel.device_rules import READ, Access, Rule
from cloche.plan import steps
from cloche.plan.steps import Step
from tests.native.launching import WHY, Launch, launch, run, shell, simple

pytestmark = pytest.mark.needs("root")

NAME = f"cloche-native-{os.getpid()}"


def mount_point(controller: str) -> Path:
    """Return where the v1 hierarchy of a controller is mounted; of v2 for an empty name."""
    with open("/proc/self/mountinfo") as file:
        lines = [line.split() for line in file]
    wanted = "cgroup" if controller else "cgroup2"
    for line in lines:
        separator = line.index("-")
        options = line[separator + 3].split(",")
        if line[separator + 1] == wanted and (not controller or controller in options):
            return Path(line[4])
    raise AssertionError(f"no hierarchy of {controller or 'v2'}")


def own_cgroup(controller: str) -> Path:
    """Return a path for a new cgroup below the one that the tests run in."""
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            if controller in names.split(",") and (controller or not names):
                return mount_point(controller) / path.lstrip("/") / NAME
    raise AssertionError(f"not in a cgroup of {controller or 'v2'}")


def limited(cgroup: Path, *settings: Step, program: Step, kinds: int = 0) -> list[Step]:
    """Return a plan with a cgroup that its child joins by itself."""
    create = steps.cgroup_create(str(cgroup), why=WHY)
    join = steps.cgroup_join(str(cgroup), why=WHY)
    return simple(program, join, before=(create, *settings), kinds=kinds)


@pytest.mark.needs("cgroup1")
def test_child_joins_a_v1_cgroup_with_a_limit() -> None:
    """The limit is set and read back, the child is in the group, and nothing stays."""
    cgroup = own_cgroup("pids")
    setting = steps.cgroup_set(f"{cgroup}/pids.max", " 7", expect="7\n", why=WHY)
    script = f"cat {cgroup}/pids.max; grep -c {NAME} /proc/self/cgroup"
    done = launch(limited(cgroup, setting, program=shell(script)))
    assert done.stdout == "7\n1\n", done.stderr
    assert not cgroup.exists()


@pytest.mark.needs("cgroup1")
def test_value_that_the_kernel_changes_is_a_failure() -> None:
    """What the kernel rounds isn't what was asked for."""
    cgroup = own_cgroup("memory")
    path = f"{cgroup}/memory.limit_in_bytes"
    setting = steps.cgroup_set(path, "10000001", expect="10000001", why=WHY)
    done = launch(limited(cgroup, setting, program=run("/bin/true")))
    failure = done.records.failure
    assert done.code == 125
    assert failure is not None
    assert (failure.call, failure.path, failure.errno) == ("readback", path, errno.ERANGE)
    assert not cgroup.exists()


@pytest.mark.needs("cgroup1")
def test_value_that_the_kernel_refuses_is_a_failure() -> None:
    """The kernel's refusal names the file."""
    cgroup = own_cgroup("pids")
    setting = steps.cgroup_set(f"{cgroup}/pids.max", "many", why=WHY)
    failure = launch(limited(cgroup, setting, program=run("/bin/true"))).records.failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("write", errno.EINVAL)
    assert not cgroup.exists()


@pytest.mark.needs("cgroup1")
def test_file_that_cannot_be_read_can_be_set() -> None:
    """A file that is write-only is written without being read back."""
    cgroup = own_cgroup("devices")
    setting = steps.cgroup_set(f"{cgroup}/devices.deny", "a", why=WHY)
    allow = steps.cgroup_set(f"{cgroup}/devices.allow", "c 1:3 rwm", why=WHY)
    script = "echo x >/dev/null && echo written; head -c 1 /dev/zero"
    done = launch(limited(cgroup, setting, allow, program=shell(script)))
    assert done.stdout == "written\n"
    assert "Operation not permitted" in done.stderr


@pytest.mark.needs("cgroup1")
def test_out_of_memory_kills_are_counted() -> None:
    """A container that the OOM killer ends says so in the records."""
    cgroup = own_cgroup("memory")
    path = f"{cgroup}/memory.limit_in_bytes"
    setting = steps.cgroup_set(path, "16777216", expect="16777216", why=WHY)
    program = run("/usr/bin/env", "python3", "-c", "x = bytearray(200_000_000)")
    done = launch(limited(cgroup, setting, program=program))
    assert done.code == 137
    assert done.records.oom_kills == 1
    assert launch(limited(cgroup, setting, program=run("/bin/true"))).records.oom_kills == 0


def test_existing_cgroup_is_not_taken() -> None:
    """A cgroup that is there belongs to somebody else."""
    cgroup = own_cgroup("")
    cgroup.mkdir()
    try:
        done = launch([steps.cgroup_create(str(cgroup), why=WHY), *simple(run("/bin/true"))])
        assert cgroup.exists()
    finally:
        cgroup.rmdir()
    assert done.records.failure is not None
    assert done.records.failure.errno == errno.EEXIST


def test_empty_cgroup_is_taken_over() -> None:
    """One that is there and empty is used as if it were new, and removed in the end."""
    cgroup = own_cgroup("")
    cgroup.mkdir()
    create = steps.cgroup_create(str(cgroup), take=True, why=WHY)
    done = launch([create, *simple(run("/bin/true"))])
    assert done.code == 0, done.stderr
    assert not cgroup.exists()


def test_cgroup_with_processes_is_not_taken_over() -> None:
    """Whoever is in a group already has nothing to do with the container, and lives on."""
    cgroup = own_cgroup("")
    cgroup.mkdir()
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        Path(cgroup, "cgroup.procs").write_text(str(sleeper.pid))
        create = steps.cgroup_create(str(cgroup), take=True, why=WHY)
        failure = launch([create, *simple(run("/bin/true"))]).records.failure
        assert sleeper.poll() is None
    finally:
        sleeper.kill()
        sleeper.wait()
        cgroup.rmdir()
    assert failure is not None
    assert (failure.call, failure.errno) == ("take over", errno.EBUSY)


@pytest.mark.parametrize(
    ("controller", "file", "value"),
    [pytest.param("freezer", "freezer.state", "FROZEN", marks=pytest.mark.needs("cgroup1")),
     pytest.param("", "cgroup.freeze", "1", marks=pytest.mark.needs("cgroup2"))],
    ids=["v1", "v2"],
)  # fmt: skip
def test_frozen_cgroup_is_not_taken_over(controller: str, file: str, value: str) -> None:
    """In it the child would stand still before it began."""
    cgroup = own_cgroup(controller)
    cgroup.mkdir()
    try:
        Path(cgroup, file).write_text(value)
        create = steps.cgroup_create(str(cgroup), take=True, why=WHY)
        failure = launch([create, *simple(run("/bin/true"))]).records.failure
    finally:
        cgroup.rmdir()
    assert failure is not None
    assert (failure.call, failure.errno) == ("take over", errno.EDEADLK)


@pytest.mark.needs("cgroup1")
def test_cpus_are_inherited_once() -> None:
    """A group without CPUs gets those above; one that has chosen keeps its choice."""
    cgroup = own_cgroup("cpuset")
    inner = cgroup / "inner"
    inherit = [steps.cgroup_inherit(str(each), why=WHY) for each in (cgroup, inner)]
    parent = steps.cgroup_parent(str(cgroup), why=WHY)
    try:
        for chosen in ("", "0"):
            if chosen:
                (cgroup / "cpuset.cpus").write_text(chosen)
            plan = limited(inner, *inherit, program=shell(f"cat {inner}/cpuset.cpus"))
            done = launch([parent, *plan])
            above = (cgroup.parent / "cpuset.cpus").read_text()
            assert done.stdout == (f"{chosen}\n" if chosen else above), done.stderr
    finally:
        cgroup.rmdir()


@pytest.mark.needs("cgroup2")
def test_controllers_are_offered() -> None:
    """What can be passed on is, whatever else the offer has."""
    cgroup = own_cgroup("")
    known = (cgroup.parent / "cgroup.controllers").read_text().split()
    offer = steps.cgroup_offer(
        f"{cgroup}/cgroup.subtree_control", f"+nonsense +{known[0] if known else 'none'}", why=WHY
    )
    create = steps.cgroup_create(str(cgroup), why=WHY)
    program = shell(f"cat {cgroup}/cgroup.subtree_control")
    done = launch(simple(program, before=(create, offer)))
    passed = (cgroup.parent / "cgroup.subtree_control").read_text().split()
    assert done.stdout.split() == [name for name in known[:1] if name in passed], done.stderr
    assert not cgroup.exists()


@pytest.mark.needs("cgroup2")
def test_cgroup_is_given_to_a_user() -> None:
    """With the files that divide it, and none that limits it."""
    cgroup = own_cgroup("")
    create = steps.cgroup_create(str(cgroup), why=WHY)
    delegate = steps.cgroup_delegate(str(cgroup), 12345, why=WHY)
    names = f"{cgroup} {cgroup}/cgroup.procs {cgroup}/cgroup.subtree_control {cgroup}/cgroup.freeze"
    done = launch(simple(shell(f"stat -c %u {names}"), before=(create, delegate)))
    assert done.stdout.split() == ["12345", "12345", "12345", "0"], done.stderr
    assert not cgroup.exists()


@pytest.mark.needs("cgroup2", "bpf")
@pytest.mark.parametrize("allowed", [True, False])
def test_device_program_decides(allowed: bool) -> None:
    """The kernel takes the program, and opens what it allows."""
    exception = Rule(not allowed, "c", 1, 5, READ)
    program = device_program.program(Access(allowed, (exception,)))
    cgroup = own_cgroup("")
    plan = [
        steps.cgroup_create(str(cgroup), why=WHY),
        steps.device_filter(str(cgroup), program, why=WHY),
        steps.cgroup_open(5, str(cgroup), why=WHY),
        steps.spawn(flags.CLONE_NEWPID, cgroup=5, why=WHY),
        shell("head -c 1 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c"),
        steps.supervise(why=WHY),
    ]
    done = launch(plan)
    assert done.stdout.split() == (["0", "1"] if allowed else ["1", "0"]), done.stderr
    assert "Operation not permitted" in done.stderr
    assert not cgroup.exists()


@pytest.mark.needs("cgroup2", "bpf")
def test_device_program_that_the_kernel_refuses() -> None:
    """The verifier's own words tell why."""
    cgroup = own_cgroup("")
    plan = [
        steps.cgroup_create(str(cgroup), why=WHY),
        steps.device_filter(str(cgroup), b"\x95" + bytes(7), why=WHY),
        *simple(run("/bin/true")),
    ]
    failure = launch(plan).records.failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("bpf (load)", errno.EACCES)
    assert "R0 !read_ok" in failure.path


@pytest.mark.needs("cgroup2")
def test_child_is_born_in_a_v2_cgroup() -> None:
    """With CLONE_INTO_CGROUP the child is in the cgroup from its first moment."""
    cgroup = own_cgroup("")
    before = (
        steps.cgroup_create(str(cgroup), why=WHY),
        steps.cgroup_open(5, str(cgroup), why=WHY),
    )
    plan = [
        *before,
        steps.spawn(flags.CLONE_NEWPID, cgroup=5, why=WHY),
        shell("grep ^0: /proc/self/cgroup"),
        steps.supervise(why=WHY),
    ]
    done = launch(plan)
    assert done.stdout.strip().endswith(NAME)
    assert not cgroup.exists()


@pytest.mark.parametrize(
    "controller",
    [pytest.param("freezer", marks=pytest.mark.needs("cgroup1")),
     pytest.param("", marks=pytest.mark.needs("cgroup2"))],
    ids=["v1", "v2"],
)  # fmt: skip
def test_whatever_is_in_a_cgroup_ends_with_it(controller: str, workspace: Path) -> None:
    """Processes in the cgroup, in cgroups below it and frozen ones die; all cgroups go."""
    cgroup = own_cgroup(controller)
    freeze = "echo FROZEN >$c/deep/freezer.state" if controller else "echo 1 >$c/deep/cgroup.freeze"
    procs = "tasks" if controller else "cgroup.procs"
    # Those that join deeper cgroups leave the process tree too, so that only the cgroup holds them.
    script = f"""
c={cgroup}
mkdir $c/deep $c/deep/er
echo 0 >$c/{procs}
for place in . deep deep/er; do
    setsid sh -c "echo 0 >$c/$place/{procs}; echo >>{workspace}/begun; exec sleep 60" &
done
while [ "$(wc -l <{workspace}/begun)" != 3 ]; do sleep 0.01; done
{freeze}
"""
    (workspace / "begun").touch()
    create = steps.cgroup_create(str(cgroup), why=WHY)
    done = launch(simple(shell(script), before=(create,), kinds=0))
    assert done.code == 0, done.stderr
    assert not cgroup.exists()


@pytest.mark.needs("cgroup1")
def test_failure_after_the_child_is_in_its_cgroup_leaves_nothing() -> None:
    """The child is killed and the cgroup removed when a later step fails."""
    cgroup = own_cgroup("pids")
    plan = limited(cgroup, program=run("/nowhere"))
    assert launch(plan).code == 127
    assert not cgroup.exists()


@pytest.mark.needs("cgroup1")
def test_parent_cgroup_is_shared_and_stays() -> None:
    """A parent of several containers is made when missing, and not removed."""
    cgroup = own_cgroup("pids")
    parent = steps.cgroup_parent(str(cgroup), why=WHY)
    plan = [parent, *limited(cgroup / "one", program=run("/bin/true"))]
    try:
        assert launch(plan).code == 0
        assert launch(plan).code == 0
        assert cgroup.exists()
        assert not (cgroup / "one").exists()
    finally:
        with contextlib.suppress(FileNotFoundError):
            cgroup.rmdir()


@pytest.mark.needs("cgroup1")
def test_fork_bomb_ends() -> None:
    """A container that only forks, ended by the launcher, leaves no process."""
    cgroup = own_cgroup("pids")
    limit = steps.cgroup_set(f"{cgroup}/pids.max", "60", why=WHY)
    bomb = "import os\nwhile True:\n  try: os.fork() or os.setsid()\n  except OSError: pass"
    program = run("/usr/bin/env", "python3", "-c", bomb)
    plan = limited(cgroup, limit, program=program)
    plan[-1] = steps.supervise(timeout_ms=300, why=WHY)
    running = Launch(plan)
    assert running.wait().records.timed_out
    assert not cgroup.exists()


# --- resctrl -------------------------------------------------------------------------------------


def test_child_is_moved_into_a_group_of_resctrl(tmp_path: Path) -> None:
    """The host writes the child's pid as it sees it; here into a file that stands for resctrl's."""
    (tmp_path / "tasks").write_text("")
    join = steps.resctrl_join(str(tmp_path), why=WHY)
    done = launch(
        [
            steps.spawn(flags.CLONE_NEWPID, why=WHY),
            join,
            run("/bin/true"),
            steps.supervise(why=WHY),
        ]
    )
    assert (tmp_path / "tasks").read_text() == str(done.records.pid)
    early = launch([join, *simple(run("/bin/true"))])
    assert early.records.failure is not None
    assert early.records.failure.errno == errno.ESRCH


def test_group_of_resctrl_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file."""
    join = steps.resctrl_join(f"{tmp_path}/none", why=WHY)
    done = launch([steps.spawn(0, why=WHY), join, run("/bin/true"), steps.supervise(why=WHY)])
    assert done.records.failure is not None
    assert done.records.failure.path == f"{tmp_path}/none/tasks"
