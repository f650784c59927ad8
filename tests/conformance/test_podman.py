"""podman runs containers with a runtime: everything that it asks a runtime for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.engines import Client, Group, talk
from tests.conformance.images import FOREVER
from tests.terminals import Terminal

pytestmark = [
    pytest.mark.needs("root", "podman", "conmon", "busybox"),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.orphans,  # conmon, which podman leaves to init
]

IMAGE = "localhost/cloche-test"

# It has the runtime's limits, for setting higher ones takes CAP_SYS_RESOURCE; locks in files, not
# in the machine's shared memory; and no helper programs, which only the network would want.
CONFIGURATION = """\
[containers]
default_ulimits = []
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "under-test"
[engine.runtimes]
under-test = ["{runtime}"]
"""


@pytest.fixture(scope="module")
def podman(private: Path, place: Path, root_archive: Path, group: Group) -> Client:
    """A podman of its own, with an image."""
    group.keep("conmon")
    configuration = place / "containers.conf"
    configuration.write_text(CONFIGURATION.format(runtime=private))
    options = {"root": "images", "runroot": "run", "tmpdir": "tmp"}
    podman = Client(
        [
            "podman",
            *(f"--{name}={place / path}" for name, path in options.items()),
            "--storage-driver=vfs",
        ],
        {"CONTAINERS_CONF": str(configuration), "PODMAN_IGNORE_CGROUPSV1_WARNING": "1"},
    )
    podman("import", "--change=ENV PATH=/bin", str(root_archive), IMAGE)
    return podman


@pytest.fixture
def run(group: Group) -> list[str]:
    """The start of a command line that makes a container in the tests' cgroup."""
    return ["run", f"--cgroup-parent={group.path}"]


@pytest.fixture
def running(podman: Client, run: list[str]) -> Iterator[str]:
    """The name of a container that runs until it is stopped."""
    limits = ["--memory=64m", "--pids-limit=50"]
    health = ["--health-cmd=test -e /healthy", "--health-interval=disable"]
    podman(*run, "--detach", "--name=one", *limits, *health, IMAGE, "sh", "-c", FOREVER)
    try:
        podman.until("ready", "logs", "one")
        yield "one"
    finally:
        podman("rm", "--force", "--time=0", "one")


def _state(podman: Client, name: str, field: str) -> str:
    return podman("inspect", f"--format={{{{.State.{field}}}}}", name)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 3"], 3),
        (["nonsense"], 127),
        (["/bin/nonsense"], 127),
        (["/etc"], 126),
        (["/etc/passwd"], 126),
    ],
)
def test_exit_code(podman: Client, run: list[str], command: list[str], code: int) -> None:
    """The exit code tells how the program ended, or why it couldn't be executed."""
    assert podman.run(*run, "--rm", IMAGE, *command).returncode == code


def test_terminal(podman: Client, run: list[str], terminal: Terminal) -> None:
    """What is typed reaches the program, and its terminal has the size of the user's."""
    with podman.on_terminal(terminal, *run, "--interactive", "--tty", "--rm", IMAGE, "sh") as sh:
        talk(terminal)
        assert sh.wait(10) == 4


def test_exec_on_a_terminal(podman: Client, running: str, terminal: Terminal) -> None:
    """One more program gets a terminal as the first does."""
    arguments = ("exec", "--interactive", "--tty", running, "sh")
    with podman.on_terminal(terminal, *arguments) as sh:
        talk(terminal)
        assert sh.wait(10) == 4


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (["sh", "-c", "exit 5"], 5),
        (["nonsense"], 127),
        (["/etc"], 126),
    ],
)
def test_exec(podman: Client, running: str, command: list[str], code: int) -> None:
    """The exit code of one more program, or why it couldn't be executed."""
    assert podman.run("exec", running, *command).returncode == code


def test_exec_options(podman: Client, running: str) -> None:
    """One more program may be another user's, elsewhere, with variables of its own."""
    options = ["--user=12:34", "--workdir=/tmp", "--env=A=b c"]
    found = podman("exec", *options, running, "sh", "-c", 'echo $(id -u) $(id -g) $(pwd) "$A"')
    assert found == "12 34 /tmp b c"


def test_logs(podman: Client, running: str) -> None:
    """What is written is kept."""
    podman("exec", running, "sh", "-c", "echo to the log >/proc/1/fd/1")
    assert podman("logs", running).splitlines() == ["ready", "to the log"]


def test_stop(podman: Client, running: str) -> None:
    """A container is asked to end, and its exit code kept."""
    podman("stop", "--time=15", running)
    assert _state(podman, running, "Status") == "exited"
    assert _state(podman, running, "ExitCode") == "7"
    podman("start", running)
    assert _state(podman, running, "Status") == "running"


def test_kill(podman: Client, running: str) -> None:
    """Any signal can be sent; KILL ends the container."""
    podman("kill", "--signal=USR1", running)
    podman.until("got USR1", "logs", running)
    podman("kill", running)
    assert podman("wait", running) == "137"


def test_pause(podman: Client, running: str) -> None:
    """A paused container takes no signal until it goes on."""
    podman("pause", running)
    assert _state(podman, running, "Status") == "paused"
    assert podman.run("exec", running, "true").returncode != 0
    podman("unpause", running)
    assert _state(podman, running, "Status") == "running"
    podman("exec", running, "true")


def test_stats(podman: Client, running: str) -> None:
    """What a container uses is counted."""
    (stats,) = json.loads(podman("stats", "--no-stream", "--format=json", running))
    assert int(stats["pids"]) >= 1
    assert "67.11MB" in stats["mem_usage"]
    assert not stats["mem_usage"].startswith("0B")


def test_update(podman: Client, running: str, group: Group) -> None:
    """Limits are changed while the container runs."""
    pid = int(_state(podman, running, "Pid"))
    assert group.limit(pid, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    podman("update", "--memory=32m", "--cpus=0.5", running)
    assert group.limit(pid, "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    quota = group.limit(pid, "cpu.cfs_quota_us", "cpu.max").split()
    assert quota[0] == "50000"
    assert group.limit(pid, "pids.max", "pids.max") == "50"


def test_health(podman: Client, running: str) -> None:
    """A health check is one more program."""
    assert podman.run("healthcheck", "run", running).returncode == 1
    podman("exec", running, "touch", "/healthy")
    podman("healthcheck", "run", running)
    assert "healthy" in podman("inspect", running)


def test_inspect(podman: Client, running: str) -> None:
    """The pid that podman knows is that of the program."""
    pid = _state(podman, running, "Pid")
    assert Path("/proc", pid, "cmdline").read_text().startswith("sh\0-c\0")
    assert Path("/proc", pid, "root/bin/busybox").exists()


def test_events(podman: Client, running: str) -> None:
    """A container's life is told."""
    podman("exec", running, "true")
    podman("kill", running)
    podman("wait", running)
    arguments = ("--stream=false", f"--filter=container={running}", "--since=1m")
    told = podman("events", *arguments, "--format={{.Status}}").split()
    position = -1
    for event in ("init", "start", "exec", "kill", "died"):
        position = told.index(event, position + 1)


def test_shared_namespaces(podman: Client, run: list[str], running: str) -> None:
    """A container may share another's namespaces, as those of a pod do."""
    kinds = ("ipc", "net", "pid", "uts")
    links = " ".join(f"/proc/self/ns/{kind}" for kind in kinds)
    shared = [f"--{name}=container:{running}" for name in ("ipc", "network", "pid", "uts")]
    command = ["sh", "-c", f"ls -l {links}"]

    def namespaces(text: str) -> list[str]:
        return [found.split(" -> ")[1] for found in text.splitlines()]

    inside = namespaces(podman(*run, "--rm", *shared, IMAGE, *command))
    assert inside == namespaces(podman("exec", running, *command))


def test_options(podman: Client, run: list[str], workspace: Path) -> None:
    """Options that are a runtime's to carry out."""
    (workspace / "file").write_text("of the host\n")
    options = [
        "--read-only",
        f"--volume={workspace}:/data:ro",
        "--tmpfs=/scratch:size=64k",
        "--hostname=inside",
        "--user=12:34",
        "--cap-drop=all",
        "--security-opt=no-new-privileges",
        "--device=/dev/null:/dev/nothing",
        "--sysctl=net.ipv4.ip_unprivileged_port_start=0",
        "--ulimit=nofile=64:64",
        "--ulimit=nproc=64:64",  # else podman sets a high one, which takes CAP_SYS_RESOURCE
        "--shm-size=1m",
    ]
    script = (
        "cat /data/file; hostname; id -u; touch /x 2>/dev/null || touch /data/x 2>/dev/null || "
        "echo read-only; test -c /dev/nothing && echo device; ulimit -n; "
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; touch /scratch/x && echo scratch"
    )
    found = podman(*run, "--rm", *options, IMAGE, "sh", "-c", script)
    expected = "of the host|inside|12|read-only|device|64|0|scratch"
    assert found.splitlines() == expected.split("|")


def test_user_namespace(podman: Client, run: list[str]) -> None:
    """Root of the container is somebody else on the host."""
    maps = ["--uidmap=0:200000:1000", "--gidmap=0:300000:1000"]
    script = "cat /proc/self/uid_map /proc/self/gid_map; id -u; touch /x && echo own"
    found = podman(*run, "--rm", *maps, IMAGE, "sh", "-c", script)
    expected = ["0 200000 1000", "0 300000 1000", "0", "own"]
    assert [" ".join(row.split()) for row in found.splitlines()] == expected


def test_privileged(podman: Client, run: list[str]) -> None:
    """A privileged container has the host's devices and no masked paths."""
    script = "test -c /dev/kmsg && mount -t tmpfs tmpfs /tmp && echo yes"
    assert podman(*run, "--rm", "--privileged", IMAGE, "sh", "-c", script) == "yes"


@pytest.mark.needs("criu")
def test_checkpoint(podman: Client, running: str) -> None:
    """A container is written to disk, and goes on from there."""
    pid = _state(podman, running, "Pid")
    podman("container", "checkpoint", running)
    assert _state(podman, running, "Status") == "exited"
    podman("container", "restore", running)
    assert _state(podman, running, "Status") == "running"
    assert _state(podman, running, "Pid") != pid
    podman("kill", "--signal=USR1", running)
    podman.until("got USR1", "logs", running)
