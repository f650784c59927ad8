"""What every OCI runtime with runc's command line promises: ours, and the peers' to prove it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes import Runtime, make_bundle, read_spec, wait_until, write_spec
from tests.terminals import Terminal

pytestmark = [pytest.mark.needs("root", "busybox"), pytest.mark.orphans]


@pytest.fixture(params=["cloche-oci", pytest.param("runc", marks=pytest.mark.needs("runc"))])
def runtime(request: pytest.FixtureRequest, workspace: Path) -> Iterator[Runtime]:
    """A runtime whose containers are gone at the end."""
    own = Path(sysconfig.get_path("scripts"), "cloche-oci")
    found = own if request.param == "cloche-oci" else shutil.which(request.param)
    runtime = Runtime(str(found), workspace)
    yield runtime
    runtime.end()


@pytest.fixture
def sleeper(runtime: Runtime, workspace: Path) -> str:
    """A running container that sleeps."""
    bundle = make_bundle(workspace / "bundle", "sleep", "1000")
    id = runtime.id()
    runtime("run", "--detach", "--bundle", str(bundle), id, check=True)
    runtime.note(runtime.state(id)["pid"])
    return id


class TestLife:
    """The commands in their order, and out of it."""

    def test_create_start_delete(self, runtime: Runtime, workspace: Path) -> None:
        """The program runs when it is started, not before; what is left can be deleted once."""
        bundle = make_bundle(workspace / "bundle", "sh", "-c", "echo hello; exit 3")
        id = runtime.id()
        pid_file = workspace / "pid"
        runtime("create", "--bundle", str(bundle), "--pid-file", str(pid_file), id, check=True)
        pid = int(pid_file.read_text())
        state = runtime.state(id)
        assert (state["status"], state["pid"], state["id"]) == ("created", pid, id)
        assert state["bundle"] == str(bundle)
        assert runtime.output().count("hello") == 0
        runtime("start", id, check=True)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
        state = runtime.state(id)
        assert (state["status"], state.get("pid", 0)) == ("stopped", 0)
        runtime("delete", id, check=True)
        assert runtime("state", id).code == 1
        assert "does not exist" in runtime.errors()[-1]

    def test_started_once_only(self, runtime: Runtime, sleeper: str) -> None:
        """A container that runs, or has run, isn't started."""
        assert runtime("start", sleeper).code == 1
        runtime("kill", sleeper, "KILL", check=True)
        wait_until(lambda: runtime.status(sleeper) == "stopped")
        assert runtime("start", sleeper).code == 1

    def test_id_is_taken_once(self, runtime: Runtime, sleeper: str, workspace: Path) -> None:
        """Two containers can't have one id, and the first takes no harm."""
        done = runtime("create", "--bundle", str(workspace / "bundle"), sleeper)
        assert done.code == 1
        assert "exist" in runtime.errors()[-1]
        assert runtime.status(sleeper) == "running"

    def test_running_container_is_not_deleted(self, runtime: Runtime, sleeper: str) -> None:
        """Only by force, which is silent about one that isn't there."""
        assert runtime("delete", sleeper).code == 1
        runtime("delete", "--force", sleeper, check=True)
        assert runtime("state", sleeper).code == 1
        assert runtime("delete", sleeper).code == 1
        runtime("delete", "--force", sleeper, check=True)

    def test_created_container_is_deleted(self, runtime: Runtime, workspace: Path) -> None:
        """One that never ran is ended."""
        bundle = make_bundle(workspace / "bundle")
        runtime("create", "--bundle", str(bundle), runtime.id(), check=True)
        pid = runtime.note(runtime.state(runtime.id())["pid"])
        runtime("delete", runtime.id(), check=True)
        runtime.reap()
        assert not Path(f"/proc/{pid}").exists()

    def test_without_a_program(self, runtime: Runtime, workspace: Path) -> None:
        """A container can be created without a process, but not be started."""
        if runtime.name == "runc":
            pytest.skip("runc wants a process at create")
        bundle = make_bundle(workspace / "bundle")
        document = read_spec(bundle)
        del document["process"]
        write_spec(bundle, document)
        runtime("create", "--bundle", str(bundle), runtime.id(), check=True)
        assert runtime.status(runtime.id()) == "created"
        assert runtime("start", runtime.id()).code == 1
        assert "/process" in runtime.errors()[-1]
        runtime("delete", runtime.id(), check=True)
        assert runtime("run", "--bundle", str(bundle), runtime.id()).code == 1

    def test_list(self, runtime: Runtime, sleeper: str) -> None:
        """Containers are listed as a table, as JSON, as ids."""
        assert runtime("list", "--quiet", check=True).stdout.split() == [sleeper]
        found = json.loads(runtime("list", "--format", "json", check=True).stdout)
        assert [entry["id"] for entry in found] == [sleeper]
        head, line = runtime("list", check=True).stdout.splitlines()
        assert head.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
        assert line.split()[:3] == [sleeper, str(found[0]["pid"]), "running"]

    @pytest.mark.parametrize("id", ["../x", "a/b", "", ".."])
    def test_id_is_no_path(self, runtime: Runtime, workspace: Path, id: str) -> None:
        """An id that leads somewhere is refused by every command."""
        bundle = make_bundle(workspace / "bundle")
        assert runtime("create", "--bundle", str(bundle), id).code == 1
        assert runtime("delete", id).code == 1
        assert runtime("state", id).code == 1


class TestRun:
    """Run in the foreground: the runtime stands for its program."""

    def test_streams_and_exit_code(self, runtime: Runtime, workspace: Path) -> None:
        """The program has the runtime's streams, and the runtime its exit code."""
        script = "read line; echo out $line; echo err >&2; exit 7"
        bundle = make_bundle(workspace / "bundle", "sh", "-c", script)
        done = runtime("run", "--bundle", str(bundle), runtime.id(), input="in\n")
        assert done == (7, "out in\n", "err\n")
        assert runtime("state", runtime.id()).code == 1

    def test_killed_program(self, runtime: Runtime, workspace: Path) -> None:
        """A signal shows as 128 more."""
        bundle = make_bundle(workspace / "bundle", "sh", "-c", "echo ready; exec sleep 1000")
        with subprocess.Popen(
            runtime.argv("run", "--bundle", str(bundle), runtime.id()),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            runtime("kill", runtime.id(), "KILL", check=True)
            assert process.wait(20) == 137

    def test_signals_are_forwarded(self, runtime: Runtime, workspace: Path) -> None:
        """What is sent to the runtime reaches the program."""
        script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
        bundle = make_bundle(workspace / "bundle", "sh", "-c", script)
        with subprocess.Popen(
            runtime.argv("run", "--bundle", str(bundle), runtime.id()),
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
            process.send_signal(signal.SIGTERM)
            assert process.stdout.read() == "caught\n"
            assert process.wait(20) == 5

    def test_keep(self, runtime: Runtime, workspace: Path) -> None:
        """With --keep the container is stopped, not gone."""
        bundle = make_bundle(workspace / "bundle")
        runtime("run", "--keep", "--bundle", str(bundle), runtime.id(), check=True)
        assert runtime.status(runtime.id()) == "stopped"

    def test_program_that_is_not_there(self, runtime: Runtime, workspace: Path) -> None:
        """It is told at once, in words that engines know, and nothing is left."""
        bundle = make_bundle(workspace / "bundle", "nosuch")
        for command in ("create", "run"):
            assert runtime(command, "--bundle", str(bundle), runtime.id()).code == 1
            assert "executable file not found in" in runtime.errors()[-1]
            assert runtime("state", runtime.id()).code == 1

    def test_terminal(self, runtime: Runtime, workspace: Path, terminal: Terminal) -> None:
        """The program has a terminal of its own, shown on that of the user."""
        bundle = make_bundle(workspace / "bundle", "sh", "-c", "tty; stty size", terminal=True)
        terminal.resize(33, 77)
        process = subprocess.Popen(
            runtime.argv("run", "--bundle", str(bundle), runtime.id()),
            stdin=terminal.slave,
            stdout=terminal.slave,
            stderr=terminal.slave,
            start_new_session=True,
            preexec_fn=terminal.own,  # noqa: PLW1509  there are no threads
        )
        assert b"/dev/pts/0" in terminal.expect(b"\r\n")
        assert process.wait(20) == 0


class TestConsoleSocket:
    """A terminal for who manages the container."""

    @pytest.mark.parametrize("command", ["create", "run"])
    def test_master_is_sent(self, runtime: Runtime, workspace: Path, command: str) -> None:
        """The master end comes over the socket, and shows what the program writes."""
        bundle = make_bundle(workspace / "bundle", "sh", "-c", "tty; sleep 1000", terminal=True)
        path = str(workspace / "console.sock")
        more = ["--detach"] if command == "run" else []
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            runtime(
                command, *more, "--bundle", str(bundle), "--console-socket", path, runtime.id(),
                check=True,
            )  # fmt: skip
            runtime.note(runtime.state(runtime.id())["pid"])
            connection, _ = listener.accept()
            with connection:
                _, fds, _, _ = socket.recv_fds(connection, 100, 1)
        if command == "create":
            runtime("start", runtime.id(), check=True)
        with os.fdopen(fds[0], "rb", buffering=0) as master:
            assert b"/dev/pts/0" in master.read(100)

    def test_contradictions(self, runtime: Runtime, workspace: Path) -> None:
        """A terminal that nobody would have, and a socket that nothing would come to."""
        bundle = make_bundle(workspace / "bundle", terminal=True)
        assert runtime("create", "--bundle", str(bundle), runtime.id()).code == 1
        assert "console socket" in runtime.errors()[-1]
        write_spec(bundle, _with_terminal(bundle, False))
        done = runtime("run", "--bundle", str(bundle), "--console-socket", "x", runtime.id())
        assert done.code == 1


def _with_terminal(bundle: Path, terminal: bool) -> dict[str, Any]:
    document = read_spec(bundle)
    document["process"]["terminal"] = terminal
    return document


class TestExec:
    """One more process."""

    def test_streams_and_exit_code(self, runtime: Runtime, sleeper: str) -> None:
        """It has the runtime's streams, the container's walls, and an exit code."""
        script = "read line; echo $line $(hostname); ps | grep -c 'sleep [1]'; exit 4"
        done = runtime("exec", sleeper, "sh", "-c", script, input="in\n")
        assert done == (4, "in glass\n1\n", "")

    def test_options(self, runtime: Runtime, sleeper: str) -> None:
        """User, groups, directory and variables are as asked."""
        done = runtime(
            "exec", "--user", "7:8", "--additional-gids", "9", "--cwd", "/bin", "--env", "A=b",
            sleeper, "sh", "-c", "id -u; id -g; id -G; pwd; echo $A $HOME",
            check=True,
        )  # fmt: skip
        uid, gid, groups, cwd, variables = done.stdout.splitlines()
        assert (uid, gid, cwd, variables) == ("7", "8", "/bin", "b /")
        assert set(groups.split()) == {"8", "9"}

    def test_process_file(self, runtime: Runtime, sleeper: str, workspace: Path) -> None:
        """A whole process can come from a file."""
        path = workspace / "process.json"
        process = {"args": ["env"], "cwd": "/", "env": ["X=y", "PATH=/bin"], "user": {}}
        process["user"] = {"uid": 0, "gid": 0}
        path.write_text(json.dumps(process))
        done = runtime("exec", "--process", str(path), sleeper, check=True)
        assert "X=y\n" in done.stdout
        assert "HOME" not in done.stdout or "HOME=/" in done.stdout

    def test_detached(self, runtime: Runtime, sleeper: str, workspace: Path) -> None:
        """It goes on when the runtime has left, and is one of the container's processes."""
        path = workspace / "pid"
        runtime("exec", "--detach", "--pid-file", str(path), sleeper, "sleep", "999", check=True)
        pid = runtime.note(int(path.read_text()))
        assert pid in json.loads(runtime("ps", "--format", "json", sleeper, check=True).stdout)

    def test_what_cannot_be_executed(self, runtime: Runtime, sleeper: str) -> None:
        """The runtime's own exit code is 255, its words those that engines know."""
        assert runtime("exec", sleeper, "nosuch").code == 255
        assert "executable file not found in" in runtime.errors()[-1]
        assert runtime("exec", sleeper, "/bin").code == 255

    def test_terminal(self, runtime: Runtime, sleeper: str, terminal: Terminal) -> None:
        """It can have a terminal of the container's."""
        process = subprocess.Popen(
            runtime.argv("exec", "--tty", sleeper, "tty"),
            stdin=terminal.slave,
            stdout=terminal.slave,
            stderr=terminal.slave,
            start_new_session=True,
            preexec_fn=terminal.own,  # noqa: PLW1509  there are no threads
        )
        assert b"/dev/pts/0" in terminal.expect(b"\r\n")
        assert process.wait(20) == 0

    def test_not_in_a_stopped_container(self, runtime: Runtime, sleeper: str) -> None:
        """Where nothing runs, nothing can be added."""
        runtime("kill", sleeper, "KILL", check=True)
        wait_until(lambda: runtime.status(sleeper) == "stopped")
        assert runtime("exec", sleeper, "true").code == 255

    def test_preserved_file(self, runtime: Runtime, sleeper: str) -> None:
        """File descriptors that are asked for come through, others don't."""
        script = "cat <&3; ls /proc/self/fd | tr '\\n' ' '"
        reader, writer = os.pipe()
        os.write(writer, b"through\n")
        os.close(writer)
        code = (
            f"import os,sys; os.dup2({reader},3); os.set_inheritable(3,True); "
            "os.execvp(sys.argv[1],sys.argv[1:])"
        )
        argv = runtime.argv("exec", "--preserve-fds", "1", sleeper, "sh", "-c", script)
        done = subprocess.run(
            [sys.executable, "-c", code, *argv],
            pass_fds=(reader,),
            capture_output=True,
            text=True,
            check=True,
        )
        os.close(reader)
        first, fds = done.stdout.split("\n", 1)
        assert first == "through"
        assert set(fds.split()) <= {"0", "1", "2", "3", "4"}


class TestFreeze:
    """Pause and resume."""

    def test_pause_and_resume(self, runtime: Runtime, sleeper: str) -> None:
        """A paused container says so, isn't added to, and goes on."""
        runtime("pause", sleeper, check=True)
        assert runtime.status(sleeper) == "paused"
        assert runtime("exec", sleeper, "true").code == 255
        runtime("resume", sleeper, check=True)
        assert runtime.status(sleeper) == "running"
        runtime("exec", sleeper, "true", check=True)

    def test_paused_container_is_killed(self, runtime: Runtime, sleeper: str) -> None:
        """Delete by force takes a paused one too."""
        runtime("pause", sleeper, check=True)
        runtime("delete", "--force", sleeper, check=True)
        assert runtime("state", sleeper).code == 1


class TestKill:
    """Signals by number and name."""

    @pytest.mark.parametrize("name", ["9", "KILL", "SIGKILL", "kill"])
    def test_names(self, runtime: Runtime, sleeper: str, name: str) -> None:
        """A signal has a number, and a name in two forms, in either case."""
        runtime("kill", sleeper, name, check=True)
        wait_until(lambda: runtime.status(sleeper) == "stopped")

    def test_unknown_signal(self, runtime: Runtime, sleeper: str) -> None:
        """What is no signal is refused."""
        assert runtime("kill", sleeper, "NOSUCH").code == 1

    def test_container_without_pid_namespace(self, runtime: Runtime, workspace: Path) -> None:
        """All its processes are killed where none dies with the first."""
        bundle = make_bundle(workspace / "bundle", "sh", "-c", "sleep 998 & exec sleep 999")
        document = read_spec(bundle)
        document["linux"]["namespaces"] = [
            entry for entry in document["linux"]["namespaces"] if entry["type"] != "pid"
        ]
        write_spec(bundle, document)
        runtime("run", "--detach", "--bundle", str(bundle), runtime.id(), check=True)
        pids: list[int] = []

        def both() -> bool:
            pids[:] = json.loads(runtime("ps", "--format", "json", runtime.id()).stdout)
            return len(pids) == 2

        wait_until(both)
        for pid in pids:
            runtime.note(pid)
        runtime("kill", "--all", runtime.id(), "KILL", check=True)

        def gone() -> bool:
            runtime.reap()
            return not any(Path(f"/proc/{pid}").exists() for pid in pids)

        wait_until(gone)


class TestHooks:
    """Programs that are run on the way."""

    def test_order_and_state(self, runtime: Runtime, workspace: Path) -> None:
        """Each moment's hooks run once, in order, and read the state that fits."""
        bundle = make_bundle(workspace / "bundle", "sleep", "1000")
        log = workspace / "log"
        document = read_spec(bundle)
        moments = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        document["hooks"] = {
            moment: [_hook(f"echo {moment} $V $(cat) >>{log}", env=["V=v", "PATH=/bin:/usr/bin"])]
            for moment in moments
        }
        document["annotations"] = {"a.b": "c"}
        write_spec(bundle, document)
        runtime("create", "--bundle", str(bundle), runtime.id(), check=True)
        pid = runtime.note(runtime.state(runtime.id())["pid"])
        runtime("start", runtime.id(), check=True)
        runtime("delete", "--force", runtime.id(), check=True)
        lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
        assert [line[0] for line in lines] == list(moments)
        assert {line[1] for line in lines} == {"v"}
        states = [json.loads(line[2]) for line in lines]
        assert {state["id"] for state in states} == {runtime.id()}
        assert [state["pid"] for state in states[:2]] == [pid, pid]
        expected = ["created", "creating", "creating", "running", "stopped"]
        if runtime.name == "runc":
            expected = ["creating", "creating", "creating", "created", "stopped"]
        assert [state["status"] for state in states] == expected
        assert states[0]["annotations"]["a.b"] == "c"

    def test_start_container(self, runtime: Runtime, workspace: Path) -> None:
        """It runs inside, after start and before the program."""
        bundle = make_bundle(workspace / "bundle", "sh", "-c", "echo program >>/log")
        document = read_spec(bundle)
        hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo hook $(hostname) >>/log"]}
        document["hooks"] = {"startContainer": [{**hook, "env": ["PATH=/bin"]}]}
        write_spec(bundle, document)
        log = bundle / "rootfs/log"
        runtime("create", "--bundle", str(bundle), runtime.id(), check=True)
        pid = runtime.note(runtime.state(runtime.id())["pid"])
        assert not log.exists()
        runtime("start", runtime.id(), check=True)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        assert log.read_text() == "hook glass\nprogram\n"

    @pytest.mark.parametrize("moment", ["prestart", "createRuntime", "createContainer"])
    def test_failing_hook(self, runtime: Runtime, workspace: Path, moment: str) -> None:
        """The container isn't created, and what the hook said is told."""
        bundle = make_bundle(workspace / "bundle")
        document = read_spec(bundle)
        document["hooks"] = {moment: [_hook("echo unhappy >&2; exit 3")]}
        write_spec(bundle, document)
        assert runtime("create", "--bundle", str(bundle), runtime.id()).code == 1
        assert "unhappy" in " ".join(runtime.errors())
        assert runtime("state", runtime.id()).code == 1

    def test_time_limit(self, runtime: Runtime, workspace: Path) -> None:
        """A hook that takes too long is killed, and has failed."""
        bundle = make_bundle(workspace / "bundle")
        document = read_spec(bundle)
        document["hooks"] = {"createRuntime": [{**_hook("exec sleep 100"), "timeout": 1}]}
        write_spec(bundle, document)
        assert runtime("create", "--bundle", str(bundle), runtime.id()).code == 1
        assert runtime("state", runtime.id()).code == 1


def _hook(script: str, env: list[str] | None = None) -> dict[str, Any]:
    return {
        "path": "/bin/sh",
        "args": ["sh", "-c", script],
        "env": env or ["PATH=/bin:/usr/bin"],
    }
