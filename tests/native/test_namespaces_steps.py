"""The steps that build the wall of namespaces, and the file descriptors that cross it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cloche.kernel import flags
from cloche.plan import steps
from cloche.plan.steps import Step
from cloche.runtime import records
from tests.native.launching import JOINED_SLOT, WHY, Launch, launch, opened, run, shell, simple

pytestmark = pytest.mark.needs("root")

UID = 65533
PIPED = (subprocess.PIPE,) * 3
KINDS = {
    "mnt": flags.CLONE_NEWNS,
    "pid": flags.CLONE_NEWPID,
    "net": flags.CLONE_NEWNET,
    "ipc": flags.CLONE_NEWIPC,
    "uts": flags.CLONE_NEWUTS,
    "cgroup": flags.CLONE_NEWCGROUP,
    "user": flags.CLONE_NEWUSER,
}


def namespace(name: str, pid: int | str = "self") -> str:
    """Return the identity of a process's namespace."""
    return os.readlink(f"/proc/{pid}/ns/{name}")


class Container:
    """A container that others can join: it runs until it is told to end."""

    def __init__(self, kinds: int, *settle: Step) -> None:
        program = shell("echo ready; read line")
        plan = [steps.spawn(kinds, why=WHY), *settle, program, steps.supervise(why=WHY)]
        self.running = Launch(plan, streams=PIPED)
        assert self.running.process.stdout is not None
        assert self.running.process.stdout.read(6) == b"ready\n"
        self.pid = self.running.look().pid

    def end(self) -> None:
        """End it."""
        assert self.running.wait(b"\n").code == 0


@pytest.fixture
def container() -> Iterator[Container]:
    """A container with namespaces of its own, and a user namespace that maps root only."""
    found = Container(
        sum(KINDS.values()),
        steps.deny_setgroups(why=WHY),
        steps.id_map(f"0 {UID} 10\n", group=False, why=WHY),
        steps.id_map(f"0 {UID} 10\n", group=True, why=WHY),
        steps.identity(0, 0, None, why=WHY),
    )
    yield found
    found.end()


@pytest.mark.parametrize("name", [name for name in KINDS if name != "user"])
def test_spawn_makes_namespaces(name: str) -> None:
    """The child is in a new namespace of each kind that was asked for, and in no other."""
    plan = simple(shell("cd /proc/self/ns; readlink *"), kinds=KINDS[name])
    names = sorted(os.listdir("/proc/self/ns"))
    found = dict(zip(names, launch(plan).stdout.split(), strict=True))
    changed = {kind for kind in KINDS if found[kind] != namespace(kind)}
    assert changed == {name}


def test_user_namespace_with_maps() -> None:
    """HOST writes the maps of the child's user namespace; setgroups can be forbidden."""
    plan = [
        steps.spawn(flags.CLONE_NEWUSER, why=WHY),
        steps.deny_setgroups(why=WHY),
        steps.id_map("0 1000 1\n5 2000 3\n", group=False, why=WHY),
        steps.id_map("0 3000 2\n", group=True, why=WHY),
        steps.identity(0, 1, None, why=WHY),
        shell("id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups"),
        steps.supervise(why=WHY),
    ]
    assert launch(plan).stdout.split() == (
        "0 1 0 1000 1 5 2000 3 0 3000 2 deny".split()
    )  # fmt: skip


@pytest.mark.needs("userns")
def test_ordinary_user_maps_itself() -> None:
    """Without any privilege the own uid can be mapped, by writing to the child's /proc."""
    plan = [
        steps.spawn(flags.CLONE_NEWUSER, why=WHY),
        steps.deny_setgroups(why=WHY),
        steps.id_map(f"0 {UID} 1\n", group=False, why=WHY),
        steps.id_map(f"0 {UID} 1\n", group=True, why=WHY),
        run("/usr/bin/id"),
        steps.supervise(why=WHY),
    ]
    done = launch(plan, uid=UID)
    assert done.stdout.startswith("uid=0(root) gid=0(root)"), done.stderr


def test_map_that_is_refused_is_a_failure() -> None:
    """The kernel's refusal of a map names the file."""
    plan = [
        steps.spawn(flags.CLONE_NEWUSER, why=WHY),
        steps.id_map("0 0 1\n0 0 1\n", group=False, why=WHY),
        run("/bin/true"),
    ]
    done = launch(plan)
    assert done.records.failure is not None
    assert done.records.failure.path.endswith("/uid_map")
    assert done.records.failure.errno == errno.EINVAL


def test_map_program_gets_the_childs_pid() -> None:
    """A program such as newuidmap is run with the child's pid as its first argument."""
    plan = [
        steps.spawn(flags.CLONE_NEWUSER, why=WHY),
        steps.id_map_program(("/bin/echo", "0", "1000", "1"), why=WHY),
        shell(":"),
        steps.supervise(why=WHY),
    ]
    done = launch(plan)
    assert done.stdout == f"{done.records.pid} 0 1000 1\n"


@pytest.mark.parametrize(
    ("program", "call", "number"),
    [("/bin/false", "exit code", errno.EPERM), ("/nowhere", "execve", errno.ENOENT)],
)
def test_map_program_that_fails(program: str, call: str, number: int) -> None:
    """A program that says no, or isn't there, fails the step."""
    plan = [
        steps.spawn(flags.CLONE_NEWUSER, why=WHY),
        steps.id_map_program((program,), why=WHY),
        shell(":"),
    ]
    failure = launch(plan).records.failure
    assert failure is not None
    assert (failure.call, failure.path, failure.errno) == (call, program, number)


@pytest.mark.parametrize("name", ["mnt", "net", "ipc", "uts", "cgroup"])
def test_join_by_path(container: Container, name: str) -> None:
    """The child joins a namespace by its file."""
    join = steps.join_namespace(KINDS[name], f"/proc/{container.pid}/ns/{name}", why=WHY)
    script = shell(f"readlink /proc/self/ns/{name}")
    assert launch(simple(script, join)).stdout.strip() == namespace(name, container.pid)


def test_join_by_process(container: Container) -> None:
    """The child joins several namespaces of a process at once."""
    kinds = flags.CLONE_NEWNET | flags.CLONE_NEWUTS
    join = steps.join(JOINED_SLOT, kinds, why=WHY)
    script = shell("readlink /proc/self/ns/net /proc/self/ns/uts")
    assert launch(simple(script, join, before=[opened(container.pid)])).stdout.split() == [
        namespace("net", container.pid), namespace("uts", container.pid),
    ]  # fmt: skip


def test_join_of_a_process_that_is_gone() -> None:
    """A process that isn't there is named; nor is a later one with its pid taken for it."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        opening = opened(process.pid)
        other = opening._replace(arguments=(*opening.arguments[:2], 1))
        failure = launch(simple(run("/bin/true"), before=[other])).records.failure
        assert failure is not None
        assert (failure.call, failure.errno) == ("pidfd_open", errno.ESRCH)
    failure = launch(simple(run("/bin/true"), before=[opening])).records.failure
    assert failure is not None
    assert (failure.call, failure.path) == ("pidfd_open", f"pid {process.pid}")
    assert failure.errno == errno.ESRCH


def test_namespace_of_another_kind_is_refused() -> None:
    """A path that holds a namespace of another kind isn't taken."""
    for step in (
        steps.open_namespace(0, flags.CLONE_NEWNET, "/proc/self/ns/uts", why=WHY),
        steps.join_namespace(flags.CLONE_NEWNET, "/proc/self/ns/uts", why=WHY, stage=steps.HOST),
    ):
        failure = launch([step, *simple(run("/bin/true"))]).records.failure
        assert failure is not None
        assert failure.errno == errno.EINVAL


def in_user_namespace(container: Container, kinds: int, program: Step) -> Sequence[Step]:
    """Return a plan that spawns in the user namespace of a container."""
    path = f"/proc/{container.pid}/ns/user"
    return [
        steps.open_namespace(2, flags.CLONE_NEWUSER, path, why=WHY),
        steps.spawn(kinds, joined=2, joined_kinds=flags.CLONE_NEWUSER, why=WHY),
        steps.identity(0, 0, None, why=WHY),
        program,
        steps.supervise(why=WHY),
    ]


def test_spawn_in_a_user_namespace_that_exists(container: Container) -> None:
    """New namespaces belong to the joined user namespace; HOST stays outside and waits."""
    script = "id -u; echo $$; readlink /proc/self/ns/user; hostname changed && hostname; exit 9"
    kinds = flags.CLONE_NEWPID | flags.CLONE_NEWUTS
    done = launch(in_user_namespace(container, kinds, shell(script)))
    expected = ["0", "1", namespace("user", container.pid), "changed"]
    assert done.stdout.split() == expected, done.stderr
    assert done.code == 9
    assert done.records.pid > 1


def test_spawn_in_a_user_namespace_tells_failures(container: Container) -> None:
    """What fails there is recorded as anywhere."""
    assert launch(in_user_namespace(container, 0, run("/nowhere"))).code == 127
    plan = list(in_user_namespace(container, 0, run("/bin/true")))
    plan[0] = steps.open_namespace(2, flags.CLONE_NEWNET, "/proc/self/ns/net", why=WHY)
    failure = launch(plan).records.failure
    assert failure is not None
    assert (failure.step, failure.call, failure.errno) == (1, "setns", errno.EINVAL)


def test_pid_namespace_is_joined_before_the_child(container: Container) -> None:
    """The child is born in a pid namespace that is joined for it."""
    opening = [opened(container.pid)]
    plan = simple(shell("echo $$"), before=opening, kinds=0, joined_kinds=flags.CLONE_NEWPID)
    done = launch(plan)
    assert done.code == 0
    assert 1 < int(done.stdout) < 100
    assert int(done.stdout) != done.records.pid


def test_slots_filled_after_spawn_reach_the_child(container: Container) -> None:
    """A tree that HOST opens after spawn is bound by the child: it comes with the baton."""
    target = "/mnt"
    plan = [
        steps.spawn(flags.CLONE_NEWNS, why=WHY),
        steps.propagation(flags.MS_PRIVATE | flags.MS_REC, why=WHY),
        steps.open_tree(40, "/etc", recursive=False, why=WHY),
        steps.open_tree(3, "/usr", recursive=False, why=WHY),
        steps.open_root("/", clone=False, why=WHY),
        steps.bind("/etc", target, slot=40, why=WHY),
        shell(f"ls {target}"),
        steps.supervise(why=WHY),
    ]
    done = launch(plan)
    assert "passwd" in done.stdout.split(), done.stderr


def test_unshare_and_names() -> None:
    """A later namespace is made with unshare; host and domain name are set in it."""
    inside = (
        steps.unshare(flags.CLONE_NEWUTS, why=WHY),
        steps.hostname("glass-bell", why=WHY),
        steps.domainname("garden", why=WHY),
    )
    script = shell("uname -n; cat /proc/sys/kernel/domainname")
    assert launch(simple(script, *inside)).stdout == "glass-bell\ngarden\n"
    assert os.uname().nodename != "glass-bell"


def test_hostname_that_is_too_long() -> None:
    """The kernel's limit of 64 bytes is an error."""
    step = steps.hostname("x" * 65, why=WHY)
    failure = launch(simple(run("/bin/true"), step, kinds=flags.CLONE_NEWUTS)).records.failure
    assert failure is not None
    assert (failure.call, failure.errno) == ("sethostname", errno.EINVAL)


def test_loopback_is_brought_up() -> None:
    """In a new network namespace nothing can be reached, not even oneself, until the step."""
    code = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(server.getsockname()); print('reached')"
    )
    program = run("/usr/bin/env", "python3", "-c", code)
    up = steps.loopback_up(why=WHY)
    assert launch(simple(program, kinds=flags.CLONE_NEWNET)).code == 1
    assert launch(simple(program, up, kinds=flags.CLONE_NEWNET)).stdout == "reached\n"


@pytest.mark.needs("userns")
@pytest.mark.parametrize("kinds", [0, flags.CLONE_NEWUSER])
def test_child_cannot_be_traced(workspace: Path, kinds: int) -> None:
    """Before it runs its program the child is out of reach for other processes of its user."""
    fifo = workspace / "fifo"
    os.mkfifo(fifo, 0o666)
    fifo.chmod(0o666)
    maps = [
        steps.deny_setgroups(why=WHY),
        steps.id_map(f"0 {UID} 1\n", group=False, why=WHY),
        steps.id_map(f"0 {UID} 1\n", group=True, why=WHY),
    ]
    plan = [
        steps.spawn(kinds, why=WHY),
        *(maps if kinds else []),
        steps.join_namespace(0, str(fifo), why=WHY),  # opening it takes for ever
        run("/bin/true"),
    ]
    running = Launch(plan, uid=UID)
    pid = running.until(records.SPAWNED).pid
    end = time.monotonic() + 10
    while os.stat(f"/proc/{pid}/environ").st_uid != 0:  # the owner of all that isn't dumpable
        assert time.monotonic() < end
        time.sleep(0.001)
    running.signal(signal.SIGTERM)
    assert running.wait().code == 128 + signal.SIGTERM
