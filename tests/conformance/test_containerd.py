"""containerd runs containers and pods with a runtime, by way of its shim for runc."""

from __future__ import annotations

import json
import select
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.conformance import cri, images
from tests.conformance.cri import Cri
from tests.conformance.engines import Client, Daemon, Group, line, talk
from tests.conformance.images import FOREVER
from tests.terminals import Terminal

pytestmark = [
    pytest.mark.needs("root", "containerd", "ctr", "curl", "overlay", "busybox"),
    pytest.mark.usefixtures("nothing_left"),
    pytest.mark.orphans,  # the shims, which containerd leaves to init
]

CONFIGURATION = """\
version = 2
root = "{place}/root"
state = "{place}/state"
[grpc]
  address = "{place}/socket"
[ttrpc]
  address = "{place}/ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{place}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  stream_server_address = "127.0.0.1"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "under-test"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.under-test]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.under-test.options]
        BinaryName = "{runtime}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    conf_dir = "{place}/cni"
"""


@pytest.fixture(scope="module")
def daemon(private: Path, place: Path, group: Group, root_archive: Path) -> Iterator[Daemon]:
    """A containerd of its own, with an image for containers and for pods."""
    group.keep("pod")  # which a kubelet would make
    configuration = place / "config.toml"
    configuration.write_text(CONFIGURATION.format(place=place, image=images.NAME, runtime=private))
    archive = images.oci_archive(place / "image.tar", root_archive)
    daemon = Daemon(["containerd", f"--config={configuration}"], place / "log")
    try:
        ctr = _client(daemon, place)
        daemon.until_ready(ctr, "version")
        ctr("images", "import", str(archive))
        ctr("--namespace=k8s.io", "images", "import", str(archive))
        yield daemon
    finally:
        daemon.stop()


def _client(daemon: Daemon, place: Path) -> Client:
    # Its FIFOs are below /run, which is the daemon's own.
    return Client([*daemon.inside, "ctr", f"--address={place}/socket"])


@pytest.fixture
def ctr(daemon: Daemon, place: Path) -> Iterator[Client]:
    """Its command; no mount of a container is left after the test."""
    yield _client(daemon, place)
    assert not daemon.mounts_left()


@pytest.fixture
def run(private: Path, group: Group) -> list[str]:
    """The start of a command line that makes a container."""
    return ["run", f"--runc-binary={private}", f"--cgroup={group.path}/one"]


@pytest.fixture
def running(ctr: Client, run: list[str]) -> Iterator[str]:
    """The name of a container that runs until it is stopped."""
    ctr(*run, "--detach", f"--memory-limit={64 << 20}", images.NAME, "one", "sh", "-c", FOREVER)
    try:
        yield "one"
    finally:
        ctr.run("tasks", "kill", "--signal=KILL", "one")
        ctr.run("tasks", "delete", "--force", "one")
        ctr("containers", "delete", "one")


def _task(ctr: Client, name: str) -> list[str]:
    """Return pid and status of a task."""
    rows = [row.split() for row in ctr("tasks", "ls").splitlines()]
    return next(row[1:] for row in rows if row[0] == name)


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 3"], 3, ""),
        (["nonsense"], 1, "executable file not found"),
        (["/bin/nonsense"], 1, "no such file or directory"),
        (["/etc"], 1, "permission denied"),
    ],
)
def test_exit_code(ctr: Client, run: list[str], command: list[str], code: int, words: str) -> None:
    """The exit code is the program's, or an error tells why it couldn't be executed."""
    done = ctr.run(*run, "--rm", images.NAME, "one", *command)
    assert done.returncode == code
    assert words in done.stderr


def test_terminal(ctr: Client, run: list[str], terminal: Terminal) -> None:
    """What is typed reaches the program, and its terminal has the size of the user's."""
    with ctr.on_terminal(terminal, *run, "--tty", "--rm", images.NAME, "one", "sh") as sh:
        talk(terminal)
        assert sh.wait(10) == 4


def test_exec(ctr: Client, running: str) -> None:
    """The output and the exit code of one more program, or why it couldn't be executed."""
    arguments = ("tasks", "exec", "--exec-id=two", running)
    done = ctr.run(*arguments, "sh", "-c", "echo inside; exit 5")
    assert (done.stdout, done.returncode) == ("inside\n", 5)
    done = ctr.run(*arguments, "nonsense")
    assert done.returncode == 1
    assert "executable file not found" in done.stderr


def test_exec_on_a_terminal(ctr: Client, running: str, terminal: Terminal) -> None:
    """One more program gets a terminal as the first does."""
    arguments = ("tasks", "exec", "--tty", "--exec-id=two", running, "sh")
    with ctr.on_terminal(terminal, *arguments) as sh:
        talk(terminal)
        assert sh.wait(10) == 4


def test_kill(ctr: Client, running: str) -> None:
    """A signal is sent to the program, whose exit code is kept until it is asked for."""
    with ctr.start("events") as events:
        # The command says nothing when it has subscribed: so something is told until it sees it.
        while not _hears(ctr, events.stdout):
            pass
        ctr("tasks", "kill", "--signal=TERM", running)
        assert '"exit_status":7' in line(events.stdout, "/tasks/exit")
    assert _task(ctr, running)[1] == "STOPPED"
    assert "exit code 7" in ctr.run("tasks", "delete", running).stderr


def _hears(ctr: Client, stream: IO[bytes] | None) -> bool:
    """Change something; return whether the stream tells of it."""
    assert stream is not None
    ctr("namespaces", "label", "default", "told=yes")
    return bool(select.select([stream], [], [], 0.2)[0])


def test_pause(ctr: Client, running: str) -> None:
    """A paused container goes on when it is told to."""
    ctr("tasks", "pause", running)
    assert _task(ctr, running)[1] == "PAUSED"
    ctr("tasks", "resume", running)
    assert _task(ctr, running)[1] == "RUNNING"


def test_metrics(ctr: Client, running: str) -> None:
    """What a container uses is counted."""
    figures = json.loads(ctr("tasks", "metrics", "--format=json", running))
    assert figures["pids"]["current"] >= 1
    if "usage" in figures["memory"] and isinstance(figures["memory"]["usage"], dict):
        assert figures["memory"]["usage"]["limit"] == 64 << 20  # v1
    else:
        assert figures["memory"]["usage_limit"] == 64 << 20


def test_processes(ctr: Client, running: str) -> None:
    """The pid that containerd knows is that of the program, and first in the list of all."""
    pid = _task(ctr, running)[0]
    assert Path("/proc", pid, "cmdline").read_text().startswith("sh\0-c\0")
    assert ctr("tasks", "ps", running).splitlines()[1].split()[0] == pid


# --- pods ---------------------------------------------------------------------------------------


@pytest.fixture
def kubelet(daemon: Daemon, place: Path) -> Cri:
    """The connection that a kubelet has."""
    return Cri(place / "socket")


@pytest.fixture
def pod(kubelet: Cri, group: Group, ctr: Client) -> Iterator[tuple[str, cri.Message]]:
    """A pod on the host's network, made by the runtime handler under test: id and configuration."""
    namespaces: cri.Message = {1: cri.NODE, 2: cri.POD, 3: cri.POD}
    configuration: cri.Message = {
        1: {1: "pod", 2: "uid", 3: "default"},
        8: {1: f"{group.path}/pod", 2: {1: namespaces}},
    }
    found = kubelet("RunPodSandbox", {1: configuration, 2: "under-test"})
    name = _text(found[1][0])
    try:
        yield name, configuration
    finally:
        kubelet("StopPodSandbox", {1: name})
        kubelet("RemovePodSandbox", {1: name})


def test_pod(kubelet: Cri, pod: tuple[str, cri.Message], group: Group) -> None:
    """A container of a pod runs, takes new limits and one more program, and is stopped."""
    sandbox, configuration = pod
    namespaces: cri.Message = {1: cri.NODE, 2: cri.POD, 3: cri.POD}
    container: cri.Message = {
        1: {1: "one"},
        2: {1: images.NAME},
        3: ["sh", "-c", FOREVER],
        15: {1: {4: 64 << 20}, 2: {3: namespaces}},
    }
    created = kubelet("CreateContainer", {1: sandbox, 2: container, 3: configuration})
    name = _text(created[1][0])
    kubelet("StartContainer", {1: name})
    assert _status(kubelet, name)[3] == [cri.RUNNING]
    script = "test -d /proc/1 && echo $(cat /proc/1/comm); exit 5"
    found = kubelet("ExecSync", {1: name, 2: ["sh", "-c", script], 3: 10})
    assert (found[1], found[3]) == ([b"sh\n"], [5])
    pid = _pid(kubelet, name)
    assert group.limit(pid, "memory.limit_in_bytes", "memory.max") == str(64 << 20)
    kubelet("UpdateContainerResources", {1: name, 2: {4: 32 << 20}})
    assert group.limit(pid, "memory.limit_in_bytes", "memory.max") == str(32 << 20)
    kubelet("StopContainer", {1: name, 2: 10})
    status = _status(kubelet, name)
    assert (status[3], status[7]) == ([cri.EXITED], [7])
    kubelet("RemoveContainer", {1: name})


def _text(value: int | bytes) -> str:
    assert isinstance(value, bytes)
    return value.decode()


def _status(kubelet: Cri, name: str) -> dict[int, list[int | bytes]]:
    (status,) = kubelet("ContainerStatus", {1: name})[1]
    assert isinstance(status, bytes)
    return cri.decode(status)


def _pid(kubelet: Cri, name: str) -> int:
    """Return a container's pid, which the verbose status holds in a map of JSON documents."""
    for entry in kubelet("ContainerStatus", {1: name, 2: 1})[2]:
        assert isinstance(entry, bytes)
        fields = cri.decode(entry)
        if fields[1] == [b"info"]:
            pid: int = json.loads(_text(fields[2][0]))["pid"]
            return pid
    raise AssertionError("the status has no info")
