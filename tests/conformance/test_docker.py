"""docker runs containers with a runtime, by way of containerd's shim."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import needs
from tests.conformance.engines import Client, Daemon, Group, line, talk
from tests.conformance.images import FOREVER
from tests.terminals import Terminal

pytestmark = [
    pytest.mark.needs("root", "dockerd", "docker", "containerd", "overlay", "busybox"),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.orphans,  # the shims, which containerd leaves to init
]

IMAGE = "cloche-test"
NAMES = {"data-root": "data", "exec-root": "exec", "pidfile": "pid"}
# No bridge and no rules of a firewall: nothing of the machine's network is touched.
OPTIONS = (
    "--bridge=none --iptables=false --ip6tables=false --ip-forward=false --ip-masq=false "
    "--exec-opt=native.cgroupdriver=cgroupfs --default-runtime=under-test"
).split()


@pytest.fixture(scope="module")
def daemon(private: Path, place: Path, group: Group, root_archive: Path) -> Iterator[Daemon]:
    """A docker of its own, with an image."""
    (place / "daemon.json").write_text("{}")
    socket = f"unix://{place}/socket"
    arguments = [
        "dockerd",
        f"--host={socket}",
        f"--config-file={place}/daemon.json",
        *(f"--{option}={place / name}" for option, name in NAMES.items()),
        f"--cgroup-parent={group.path}",
        f"--add-runtime=under-test={private}",
        *OPTIONS,
    ]
    daemon = Daemon(arguments, place / "log")
    try:
        docker = _client(place)
        daemon.until_ready(docker, "version")
        docker("import", "--change=ENV PATH=/bin", str(root_archive), IMAGE)
        yield daemon
    finally:
        daemon.stop()


def _client(place: Path) -> Client:
    environ = {"DOCKER_CONFIG": str(place / "client")}
    return Client(["docker", f"--host=unix://{place}/socket"], environ)


@pytest.fixture
def docker(daemon: Daemon, place: Path) -> Iterator[Client]:
    """Its command; no mount of a container is left after the test."""
    yield _client(place)
    assert not daemon.mounts_left(but=f"{place}/exec/netns/default")


@pytest.fixture
def run() -> list[str]:
    """The start of a command line that makes a container."""
    return ["run", "--network=none"]


@pytest.fixture
def running(docker: Client, run: list[str]) -> Iterator[str]:
    """The name of a container that runs until it is stopped."""
    limits = ["--memory=64m", "--pids-limit=50"]
    docker(*run, "--detach", "--name=one", *limits, IMAGE, "sh", "-c", FOREVER)
    try:
        docker.until("ready", "logs", "one")
        yield "one"
    finally:
        docker("rm", "--force", "one")


def _state(docker: Client, name: str, field: str) -> str:
    return docker("inspect", f"--format={{{{.State.{field}}}}}", name)


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
def test_exit_code(docker: Client, run: list[str], command: list[str], code: int) -> None:
    """The exit code tells how the program ended, or why it couldn't be executed."""
    assert docker.run(*run, "--rm", IMAGE, *command).returncode == code


def test_terminal(docker: Client, run: list[str], terminal: Terminal) -> None:
    """What is typed reaches the program, and its terminal has the size of the user's."""
    with docker.on_terminal(terminal, *run, "--interactive", "--tty", "--rm", IMAGE, "sh") as sh:
        talk(terminal)
        assert sh.wait(10) == 4


def test_exec_on_a_terminal(docker: Client, running: str, terminal: Terminal) -> None:
    """One more program gets a terminal as the first does."""
    arguments = ("exec", "--interactive", "--tty", running, "sh")
    with docker.on_terminal(terminal, *arguments) as sh:
        talk(terminal)
        assert sh.wait(10) == 4


@pytest.mark.parametrize(
    ("command", "codes"),
    [
        (["sh", "-c", "exit 5"], {5}),
        (["nonsense"], {126, 127}),  # by docker's version
        (["/etc"], {126}),
    ],
)
def test_exec(docker: Client, running: str, command: list[str], codes: set[int]) -> None:
    """The exit code of one more program, or why it couldn't be executed."""
    assert docker.run("exec", running, *command).returncode in codes


def test_exec_options(docker: Client, running: str) -> None:
    """One more program may be another user's, elsewhere, with variables of its own."""
    options = ["--user=12:34", "--workdir=/tmp", "--env=A=b c"]
    found = docker("exec", *options, running, "sh", "-c", 'echo $(id -u) $(id -g) $(pwd) "$A"')
    assert found == "12 34 /tmp b c"


def test_logs(docker: Client, running: str) -> None:
    """What is written is kept."""
    docker("exec", running, "sh", "-c", "echo to the log >/proc/1/fd/1")
    docker.until("ready\nto the log", "logs", running)


def test_stop(docker: Client, running: str) -> None:
    """A container is asked to end, and its exit code kept."""
    docker("stop", "--time=15", running)
    assert _state(docker, running, "Status") == "exited"
    assert _state(docker, running, "ExitCode") == "7"
    docker("start", running)
    assert _state(docker, running, "Status") == "running"


def test_kill(docker: Client, running: str) -> None:
    """Any signal can be sent; KILL ends the container."""
    docker("kill", "--signal=USR1", running)
    docker.until("got USR1", "logs", running)
    docker("kill", running)
    assert docker("wait", running) == "137"


def test_pause(docker: Client, running: str) -> None:
    """A paused container runs nothing until it goes on."""
    docker("pause", running)
    assert _state(docker, running, "Status") == "paused"
    assert docker.run("exec", running, "true").returncode != 0
    docker("unpause", running)
    assert _state(docker, running, "Status") == "running"
    docker("exec", running, "true")


def test_stats(docker: Client, running: str) -> None:
    """What a container uses is counted."""
    stats = json.loads(docker("stats", "--no-stream", "--format={{json .}}", running))
    assert int(stats["PIDs"]) >= 1
    assert stats["MemUsage"].endswith("/ 64MiB")
    assert not stats["MemUsage"].startswith("0B")


def test_update(docker: Client, running: str, group: Group) -> None:
    """Limits are changed while the container runs."""
    pid = int(_state(docker, running, "Pid"))
    assert group.limit(pid, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    limits = ["--memory=32m", "--memory-swap=64m", "--cpus=0.5", "--pids-limit=40"]
    docker("update", *limits, running)
    assert group.limit(pid, "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    assert group.limit(pid, "cpu.cfs_quota_us", "cpu.max").split()[0] == "50000"
    assert group.limit(pid, "pids.max", "pids.max") == "40"


def test_top(docker: Client, running: str) -> None:
    """The processes of a container are listed."""
    listed = docker("top", running, "-o", "pid,comm").splitlines()
    assert [_state(docker, running, "Pid"), "sh"] in [row.split() for row in listed]


def test_health(docker: Client, run: list[str]) -> None:
    """A health check is one more program, run again and again."""
    health = ["--health-cmd=test -e /tmp/../etc/passwd", "--health-interval=1s"]
    with docker.start("events", "--filter=event=health_status") as events:
        docker(*run, "--detach", "--name=two", *health, IMAGE, "sh", "-c", FOREVER)
        try:
            assert "healthy" in line(events.stdout, "health_status")
            assert _state(docker, "two", "Health.Status") == "healthy"
        finally:
            docker("rm", "--force", "two")


def test_inspect(docker: Client, running: str) -> None:
    """The pid that docker knows is that of the program."""
    pid = _state(docker, running, "Pid")
    assert Path("/proc", pid, "cmdline").read_text().startswith("sh\0-c\0")
    assert os.path.exists(f"/proc/{pid}/root/bin/busybox")


def test_events(docker: Client, running: str) -> None:
    """A container's life is told."""
    docker("exec", running, "true")
    docker("kill", running)
    docker("wait", running)
    arguments = ("--since=1m", "--until=0s", f"--filter=container={running}")
    told = docker("events", *arguments, "--format={{.Action}}").splitlines()
    position = -1
    for event in ("create", "start", "exec_start: true", "kill", "die"):
        position = [action.strip() for action in told].index(event, position + 1)


def test_options(docker: Client, run: list[str], workspace: Path) -> None:
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
        "--shm-size=1m",
    ]
    script = (
        "cat /data/file; hostname; id -u; touch /x 2>/dev/null || touch /data/x 2>/dev/null || "
        "echo read-only; test -c /dev/nothing && echo device; ulimit -n; "
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; touch /scratch/x && echo scratch"
    )
    found = docker(*run, "--rm", *options, IMAGE, "sh", "-c", script)
    expected = "of the host|inside|12|read-only|device|64|0|scratch"
    assert found.splitlines() == expected.split("|")


def test_privileged(docker: Client, run: list[str], runtime: str) -> None:
    """A privileged container has the host's devices and no masked paths."""
    if "runc" in runtime and (missing := needs.missing(("resource",))):
        pytest.skip(f"runc can't be privileged without all capabilities: {missing[0]}")
    script = "test -c /dev/kmsg && mount -t tmpfs tmpfs /tmp && echo yes"
    assert docker(*run, "--rm", "--privileged", IMAGE, "sh", "-c", script) == "yes"


def test_init(docker: Client, run: list[str]) -> None:
    """docker's own init is bound into the container, and runs the program."""
    found = docker(*run, "--rm", "--init", IMAGE, "sh", "-c", "echo $$; cat /proc/1/comm")
    assert found.splitlines()[1].endswith("init")


def test_host_network(docker: Client, running: str) -> None:
    """The host's network namespace may be shared."""
    command = ("sh", "-c", "ls -l /proc/self/ns/net")
    found = docker("run", "--rm", "--network=host", IMAGE, *command).split(" -> ")[1]
    assert found == os.readlink("/proc/self/ns/net")
