"""Attacks on what the runtime knows of a container, and on its commands as they work."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.attacks.conftest import Bundle, Treasure, delete
from tests.runtimes import Runtime, read_spec, wait_until, write_spec

pytestmark = [pytest.mark.needs("root", "busybox", "gcc"), pytest.mark.orphans]
FILES = ("records", "state.json", "config.json", "plan")
NONSENSE = (b"", b"x", b"[]", b"{}", b"null", b"\xff" * 6000, b'{"cgroup": 3}')


@pytest.fixture
def sleeper(runtime: Runtime, bundle: Bundle) -> str:
    """A running container that sleeps."""
    id = runtime.id()
    runtime("run", "--detach", "--bundle", str(bundle("sleep", "1000")), id, check=True)
    runtime.note(runtime.state(id)["pid"])
    return id


def cgroups(runtime: Runtime) -> list[str]:
    """Return the cgroups of a runtime's containers."""
    mounted = Path("/sys/fs/cgroup")
    patterns = (f"{runtime.prefix}*", f"*/{runtime.prefix}*")
    return [str(path) for pattern in patterns for path in mounted.glob(pattern)]


def runs(pid: int) -> bool:
    """Whether a process is there that isn't dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def left(runtime: Runtime) -> list[str]:
    """Return what is left of a runtime's containers: files and cgroups."""
    return [*map(str, runtime.root.glob("*")), *cgroups(runtime)]


class TestFiles:
    """The files of a container, damaged or replaced."""

    @pytest.mark.parametrize("content", NONSENSE)
    @pytest.mark.parametrize("name", FILES)
    def test_nonsense(self, runtime: Runtime, sleeper: str, name: str, content: bytes) -> None:
        """Each command says what is wrong, and `delete --force` removes everything."""
        pid = runtime.state(sleeper)["pid"]
        (runtime.root / sleeper / name).write_bytes(content)
        for command in ("state", "list", "ps", "start", "pause", "resume", "exec", "delete"):
            arguments = {"list": [], "exec": [sleeper, "true"]}.get(command, [sleeper])
            done = runtime(command, *arguments)
            assert "Traceback" not in done.stderr
            assert done.code == 0 or done.stderr.startswith("cloche: ")
        runtime("delete", "--force", sleeper, check=True)
        assert not runs(pid)
        assert left(runtime) == []

    def test_link(self, runtime: Runtime, sleeper: str, treasure: Treasure) -> None:
        """A link in a container's place isn't one, and nothing is removed beyond it."""
        for name in (*FILES, "gate"):
            source = runtime.root / sleeper / name
            if source.is_file():
                (treasure.path / name).write_bytes(source.read_bytes())
        treasure = Treasure(treasure.path.with_name("other"))
        (runtime.root / "planted").symlink_to(treasure.path)
        for command in (["state"], ["kill"], ["delete"], ["delete", "--force"], ["start"]):
            runtime(*command, "planted")
        assert treasure.is_safe
        (runtime.root / "planted").unlink()
        for name in FILES:
            (treasure.path.with_name("treasure") / name).unlink(missing_ok=True)

    def test_of_another_user(self, runtime: Runtime, sleeper: str, treasure: Treasure) -> None:
        """What another user says of a container isn't believed: hooks, pids, cgroups."""
        directory = runtime.root / sleeper
        config = json.loads((directory / "config.json").read_text())
        script = f"echo bad > {treasure.path}/file"
        config["hooks"] = {"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
        (directory / "config.json").write_text(json.dumps(config))
        os.chown(directory, 65532, 65532)
        for command in (["kill", sleeper, "KILL"], ["delete", "--force", sleeper]):
            done = runtime(*command)
            assert done.code == 1
            assert "another user" in done.stderr
        assert runs(json.loads(runtime("ps", "-f", "json", sleeper).stdout or "[0]")[0]) is False
        os.chown(directory, 0, 0)
        (directory / "config.json").write_text(json.dumps({**config, "hooks": {}}))

    def test_closed_to_others(self, runtime: Runtime, sleeper: str) -> None:
        """Other users read none of them, and can't open the gate."""
        directory = runtime.root / sleeper
        assert directory.stat().st_mode & 0o777 == 0o700
        for path in directory.iterdir():
            assert path.stat().st_mode & 0o077 == 0

    @pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
    def test_pid_file(
        self, runtime: Runtime, bundle: Bundle, treasure: Treasure, workspace: Path, kind: str
    ) -> None:
        """What is in the pid file's place is replaced, never written to."""
        place = workspace / "pid"
        if kind == "link":
            place.symlink_to(treasure.path / "file")
        elif kind == "directory":
            place.mkdir()
        else:
            os.mkfifo(place)
        done = runtime(
            "run", "--bundle", str(bundle()), "--pid-file", str(place), runtime.id(), timeout=20
        )
        assert done.code == (1 if kind == "directory" else 0)
        assert treasure.is_safe
        assert list(workspace.glob(".pid*")) == []

    def test_cgroup_of_another(self, runtime: Runtime, sleeper: str, bundle: Bundle) -> None:
        """To delete a container that never came to its cgroup does no harm to whose it is."""
        pid = runtime.state(sleeper)["pid"]
        other = bundle("true", name="other")
        spec = read_spec(other)
        spec["linux"]["cgroupsPath"] = f"/{sleeper}"
        write_spec(other, spec)
        id = runtime.id("b")
        assert runtime("create", "--bundle", str(other), id).code == 1
        assert runs(pid)
        # As if its launcher had been killed before it could fail.
        (runtime.root / id).mkdir(mode=0o700)
        for name in FILES:
            data = (runtime.root / sleeper / name).read_bytes()
            (runtime.root / id / name).write_bytes(data)
        records = bytearray((runtime.root / id / "records").read_bytes())
        records[12:16] = records[40:44] = bytes(4)
        (runtime.root / id / "records").write_bytes(records)
        runtime("delete", "--force", id, check=True)
        assert runs(pid)
        assert cgroups(runtime) != []


def test_first_thread_ends(runtime: Runtime, bundle: Bundle) -> None:
    """A process whose first thread has ended looks dead, and is killed even so."""
    id = runtime.id()
    runtime("run", "--detach", "--bundle", str(bundle("/attacker", "headless")), id, check=True)
    pid = runtime.note(json.loads(runtime("ps", "-f", "json", id).stdout)[0])
    wait_until(lambda: not runs(pid))
    assert runtime.state(id)["status"] == "running"
    assert runtime("delete", id).code == 1
    runtime("kill", id, "KILL", check=True)
    wait_until(lambda: runtime.status(id) == "stopped")
    runtime("delete", id, check=True)


def test_deleted_beside_its_launcher(runtime: Runtime, bundle: Bundle) -> None:
    """A container that is run in the foreground is deleted by two at once."""
    made = bundle("sleep", "1000")
    for number in range(8):
        id = runtime.id(str(number))
        with subprocess.Popen(runtime.argv("run", "--bundle", str(made), id)) as launcher:
            wait_until((runtime.root / id / "config.json").exists)
            wait_until(lambda id=id: runtime.status(id) == "running")  # type: ignore[misc]
            runtime("delete", "--force", id, check=True)
            assert launcher.wait(20) == 137
        assert left(runtime) == []


class TestGate:
    """The FIFO that a created container waits at."""

    @pytest.fixture
    def created(self, runtime: Runtime, bundle: Bundle) -> Iterator[str]:
        """A container that waits to be started; it counts its starts."""
        made = bundle("sh", "-c", "echo started >> /count; sleep 1000")
        (made / "rootfs").chmod(0o777)
        id = runtime.id()
        runtime("create", "--bundle", str(made), id, check=True)
        runtime.note(runtime.state(id)["pid"])
        yield id
        assert len((made / "rootfs/count").read_text().split()) <= 1

    def test_started_by_many(self, runtime: Runtime, created: str) -> None:
        """One of them starts it, the others are told that it runs."""
        argv = runtime.argv("start", created)
        starts = [subprocess.Popen(argv, stderr=subprocess.DEVNULL) for _ in range(6)]
        assert sorted(process.wait(20) for process in starts) == [0, 1, 1, 1, 1, 1]
        assert runtime.status(created) == "running"

    def test_deleted_as_it_starts(self, runtime: Runtime, created: str) -> None:
        """Whoever comes first, both commands end, and nothing is left."""
        start = subprocess.Popen(runtime.argv("start", created), stderr=subprocess.DEVNULL)
        runtime("delete", "--force", created, check=True)
        assert start.wait(20) in (0, 1)
        assert left(runtime) == []
        (runtime.directory / "bundle/rootfs/count").touch()

    def test_killed_at_it(self, runtime: Runtime, created: str) -> None:
        """A start of one that has been killed is an error."""
        runtime("kill", created, "KILL", check=True)
        wait_until(lambda: runtime.status(created) == "stopped")
        assert runtime("start", created, timeout=20).code == 1
        (runtime.directory / "bundle/rootfs/count").touch()


@pytest.mark.parametrize("command", ["create", "run", "start", "exec", "delete"])
def test_killed_at_any_moment(runtime: Runtime, bundle: Bundle, command: str) -> None:
    """Whenever a command is killed, `delete --force` leaves nothing: process, cgroup, file."""
    made = bundle("sleep", "1000")
    chance = random.Random(command)
    for number in range(20):
        id = runtime.id(str(number))
        options = {
            "create": ["create", "--bundle", str(made), id],
            "run": ["run", "--detach", "--bundle", str(made), id],
            "start": ["start", id],
            "exec": ["exec", id, "sleep", "1000"],
            "delete": ["delete", "--force", id],
        }
        if command not in ("create", "run"):
            first = "create" if command == "start" else "run"
            runtime(*options[first], check=True)
        with subprocess.Popen(runtime.argv(*options[command])) as process:
            try:
                process.wait(chance.uniform(0.02, 0.14))
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        delete(runtime, id)
        assert left(runtime) == []


@pytest.mark.parametrize("number", ["KILL", "TERM"])
def test_all_of_a_frozen_one(runtime: Runtime, bundle: Bundle, number: str) -> None:
    """`kill --all` of a paused container ends what it can, at once or as it goes on."""
    id = runtime.id()
    argv = ["run", "--detach", "--bundle", str(bundle("sh", "-c", "sleep 999 & wait")), id]
    runtime(*argv, check=True)
    runtime.note(runtime.state(id)["pid"])
    if runtime("pause", id).code:
        pytest.skip("cgroups can't be frozen here")
    runtime("kill", "--all", id, number, check=True, timeout=20)
    if number == "KILL":
        wait_until(lambda: runtime.status(id) == "stopped")
    else:
        assert runtime.status(id) == "paused"
        runtime("resume", id, check=True)
    runtime("delete", "--force", id, check=True)


def test_among_the_hosts_processes(runtime: Runtime, bundle: Bundle) -> None:
    """Without a pid namespace the whole container is killed, and nobody else."""
    made = bundle("sh", "-c", "/attacker linger; sleep 1000")
    spec = read_spec(made)
    spec["linux"]["namespaces"] = [
        entry for entry in spec["linux"]["namespaces"] if entry["type"] != "pid"
    ]
    write_spec(made, spec)
    id = runtime.id()
    with subprocess.Popen(["sleep", "60"]) as bystander:
        runtime("run", "--detach", "--bundle", str(made), id, check=True)
        wait_until(lambda: "left" in runtime.output())
        pids = json.loads(runtime("ps", "-f", "json", id, check=True).stdout)
        runtime("kill", id, "KILL", check=True)
        wait_until(lambda: not any(runs(pid) for pid in pids))
        runtime("delete", "--force", id, check=True)
        assert bystander.poll() is None
        bystander.kill()
    for pid in pids:
        runtime.note(pid)
    runtime.reap()
