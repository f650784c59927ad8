"""Containers that are written to disk with criu, and come back."""

from __future__ import annotations

import array
import os
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes import Done, Runtime, make_bundle, read_spec, wait_until, write_spec

pytestmark = [pytest.mark.needs("root", "busybox", "criu"), pytest.mark.orphans]

LOCKER = r"""
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

int main(void)
{
    flock(open("/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644), LOCK_EX);
    int count = open("/count", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    while (write(count, "\n", 1) == 1)
        usleep(20000);
}
"""
TALKER = r"""
#include <arpa/inet.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7000)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&address, sizeof address);
    listen(listener, 1);
    if (fork() == 0) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(client, (struct sockaddr *)&address, sizeof address) < 0)
            return 1;
        for (int i = 1;; i++) {
            dprintf(client, "%d\n", i);
            usleep(20000);
        }
    }
    int server = accept(listener, NULL, NULL);
    int file = open("/received", O_WRONLY | O_CREAT | O_APPEND, 0644);
    char bytes[100];
    for (ssize_t size; (size = read(server, bytes, sizeof bytes)) > 0;)
        write(file, bytes, size);
}
"""
COUNTER = "while :; do echo; sleep 0.02; done >>/count"
"""A shell that writes one line after another."""


@pytest.fixture
def runtime(workspace: Path) -> Iterator[Runtime]:
    """The installed runtime, whose containers are gone at the end."""
    runtime = Runtime(str(Path(sysconfig.get_path("scripts"), "cloche-oci")), workspace)
    yield runtime
    runtime.end()


class Bundle:
    """A container with what it leaves in its root directory."""

    def __init__(self, runtime: Runtime, workspace: Path, script: str = COUNTER) -> None:
        self.runtime = runtime
        self.place = make_bundle(workspace / "bundle", "sh", "-c", script)
        root = self.place / "rootfs"
        for name in ("proc", "dev"):
            (root / name).mkdir()
        self.root = root
        self.images = workspace / "images"
        self.id = runtime.id()

    def compile(self, source: str) -> None:
        """Have the container run a program in C."""
        program = self.root / "bin" / "program"
        argv = ["gcc", "-static", "-x", "c", "-", "-o", str(program)]
        subprocess.run(argv, input=source, text=True, check=True)
        document = read_spec(self.place)
        document["process"]["args"] = ["program"]
        write_spec(self.place, document)

    def change(self, **linux: Any) -> None:
        """Change the spec's part ``linux``."""
        document = read_spec(self.place)
        document["linux"].update(linux)
        write_spec(self.place, document)

    def run(self, *options: str) -> int:
        """Start the container and return its process's pid."""
        done = self.command("run", "--detach", "--bundle", str(self.place), *options)
        assert done.code == 0, done
        return self.note()

    def command(self, *words: str) -> Done:
        """Run a command that leaves the container running, without streams that criu can't keep."""
        argv = self.runtime.argv(*words, self.id)
        code = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=False,
        ).returncode
        return Done(code, "", "\n".join(self.runtime.errors()[-1:]) if code else "")

    def note(self) -> int:
        """Return the pid of the container's process, which is reaped at the end."""
        return self.runtime.note(self.runtime.state(self.id)["pid"])

    def checkpoint(self, *options: str, check: bool = True) -> Done:
        """Take a checkpoint."""
        argv = ("checkpoint", "--image-path", str(self.images), *options, self.id)
        found = self.runtime(*argv, check=check)
        self.runtime.reap()
        return found

    def restore(self, *options: str, check: bool = True) -> Done:
        """Bring the container back."""
        argv = ("restore", "--image-path", str(self.images), "--bundle", str(self.place))
        found = self.command(*argv, *options)
        if check:
            assert found.code == 0, found
            self.note()
        return found

    def text(self, name: str) -> str:
        """Return the content of a file in the container's root, without white space at the end."""
        try:
            return (self.root / name).read_text().rstrip()
        except FileNotFoundError:
            return ""

    def count(self) -> int:
        """Return how far the counter has come."""
        try:
            return (self.root / "count").read_text().count("\n")
        except FileNotFoundError:
            return 0

    def wait_for_count(self, more: int = 3) -> int:
        """Wait until the counter has gone on, and return how far it has come."""
        begun = self.count()
        wait_until(lambda: self.count() >= begun + more)
        return self.count()


@pytest.fixture
def bundle(runtime: Runtime, workspace: Path) -> Bundle:
    """A container that counts."""
    return Bundle(runtime, workspace)


class TestCheckpoint:
    """What is written, and what becomes of the container."""

    def test_counts_on(self, runtime: Runtime, bundle: Bundle) -> None:
        """The container is gone after the checkpoint, and goes on where it was when restored."""
        bundle.run()
        bundle.wait_for_count()
        bundle.checkpoint()
        assert runtime("state", bundle.id).code == 1
        before = bundle.count()
        assert before >= 3
        bundle.restore("--detach")
        assert runtime.status(bundle.id) == "running"
        assert bundle.wait_for_count() >= before + 3

    def test_again_and_again(self, bundle: Bundle) -> None:
        """A restored container can be checkpointed too, into the same directory."""
        bundle.run()
        bundle.wait_for_count()
        for _ in range(2):
            bundle.checkpoint()
            before = bundle.count()
            bundle.restore("--detach")
            assert bundle.wait_for_count() >= before + 3

    def test_leaves_running(self, runtime: Runtime, bundle: Bundle) -> None:
        """With --leave-running the container goes on."""
        pid = bundle.run()
        bundle.wait_for_count()
        bundle.checkpoint("--leave-running")
        assert runtime.state(bundle.id)["pid"] == pid
        bundle.wait_for_count()
        assert (bundle.images / "descriptors.json").exists()

    @pytest.mark.needs("memory-tracking")
    def test_pre_dump(self, bundle: Bundle) -> None:
        """A checkpoint after a pre-dump holds what has changed since, and needs both."""
        bundle.run()
        bundle.wait_for_count()
        parent = bundle.images.with_name("parent")
        images, bundle.images = bundle.images, parent
        bundle.checkpoint("--pre-dump")
        bundle.wait_for_count()
        bundle.images = images
        bundle.checkpoint("--parent-path", "../parent")
        assert (images / "parent").is_symlink()
        before = bundle.count()
        bundle.restore("--detach")
        assert bundle.wait_for_count() >= before + 3

    def test_parent_path(self, bundle: Bundle) -> None:
        """The pre-dump is named relative to the checkpoint, and must be there."""
        bundle.run()
        done = bundle.checkpoint("--parent-path", "/parent", check=False)
        assert "--parent-path must be relative" in done.stderr
        done = bundle.checkpoint("--parent-path", "../parent", check=False)
        assert "invalid --parent-path" in done.stderr

    def test_work_path(self, bundle: Bundle, workspace: Path) -> None:
        """criu's logs are written where it was said."""
        work = workspace / "work"
        bundle.run()
        bundle.checkpoint("--work-path", str(work))
        assert (work / "dump.log").exists()
        assert not (bundle.images / "dump.log").exists()
        bundle.restore("--detach", "--work-path", str(work))
        assert (work / "restore.log").exists()

    def test_paused(self, runtime: Runtime, bundle: Bundle) -> None:
        """A paused container can be checkpointed, and runs when it is restored."""
        bundle.run()
        bundle.wait_for_count()
        runtime("pause", bundle.id, check=True)
        bundle.checkpoint()
        bundle.restore("--detach")
        assert runtime.status(bundle.id) == "running"
        bundle.wait_for_count()

    def test_created(self, bundle: Bundle) -> None:
        """A container that hasn't been started can't be checkpointed."""
        bundle.command("create", "--bundle", str(bundle.place))
        bundle.note()
        done = bundle.checkpoint(check=False)
        assert f"cannot checkpoint container {bundle.id}: it is created" in done.stderr
        assert not bundle.images.exists()

    def test_in_the_foreground(self, runtime: Runtime, bundle: Bundle) -> None:
        """The command that runs the container ends with it."""
        argv = runtime.argv("run", "--bundle", str(bundle.place), bundle.id)
        null = subprocess.DEVNULL
        with subprocess.Popen(argv, stdin=null, stdout=null, stderr=null) as process:
            bundle.wait_for_count()
            bundle.checkpoint()
            assert process.wait(timeout=60) == 128 + 9
        bundle.restore("--detach")
        bundle.wait_for_count()


class TestOptions:
    """What criu keeps only when it is told to."""

    @pytest.mark.needs("gcc")
    def test_connection(self, bundle: Bundle) -> None:
        """An open TCP connection goes on with --tcp-established."""
        bundle.compile(TALKER)
        bundle.run()

        def received() -> int:
            return len(bundle.text("received").split())

        wait_until(lambda: received() > 3)
        bundle.checkpoint("--tcp-established")
        before = received()
        bundle.restore("--detach", "--tcp-established")
        wait_until(lambda: received() > before + 3)
        numbers = bundle.text("received").split()
        assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))

    @pytest.mark.needs("gcc")
    def test_refused_connection(self, bundle: Bundle) -> None:
        """Without the option criu says what it is that it can't keep."""
        bundle.compile(TALKER)
        bundle.run()
        wait_until(lambda: len(bundle.text("received").split()) > 3)
        done = bundle.checkpoint(check=False)
        assert done.code == 1
        assert "criu: " in done.stderr
        assert "tcp" in done.stderr.lower()

    @pytest.mark.needs("gcc")
    def test_file_lock(self, bundle: Bundle) -> None:
        """A lock is held after the restore with --file-locks; without, criu refuses."""
        bundle.compile(LOCKER)
        bundle.run()
        bundle.wait_for_count()
        done = bundle.checkpoint(check=False)
        assert done.code == 1
        assert "lock" in done.stderr
        bundle.checkpoint("--file-locks")
        free = ["flock", "--nonblock", str(bundle.root / "lock"), "true"]
        assert subprocess.run(free, check=False).returncode == 0
        bundle.restore("--detach", "--file-locks")
        bundle.wait_for_count()
        assert subprocess.run(free, check=False).returncode == 1

    def test_cgroup_mode(self, bundle: Bundle) -> None:
        """A mode that isn't one is refused before anything is done."""
        bundle.run()
        done = bundle.checkpoint("--manage-cgroups-mode", "hard", check=False)
        assert "invalid manage-cgroups-mode" in done.stderr
        assert not bundle.images.exists()


class TestRestore:
    """The container that comes back is like any other."""

    def test_commands(self, runtime: Runtime, bundle: Bundle, workspace: Path) -> None:
        """Every other command works on it."""
        bundle.run()
        bundle.wait_for_count()
        bundle.checkpoint()
        pid_file = workspace / "pid"
        bundle.restore("--detach", "--pid-file", str(pid_file))
        pid = runtime.state(bundle.id)["pid"]
        assert pid_file.read_text() == str(pid)
        assert str(pid) in runtime("ps", "--format", "json", bundle.id, check=True).stdout
        done = runtime("exec", bundle.id, "echo", "inside", check=True)
        assert done.stdout == "inside\n"
        runtime("pause", bundle.id, check=True)
        assert runtime.status(bundle.id) == "paused"
        runtime("resume", bundle.id, check=True)
        runtime("kill", bundle.id, "KILL", check=True)
        wait_until(lambda: runtime.status(bundle.id) == "stopped")
        runtime("delete", bundle.id, check=True)

    def test_clock(self, runtime: Runtime, bundle: Bundle) -> None:
        """A program that is added sees the container's clocks."""
        bundle.run()
        bundle.wait_for_count()
        bundle.checkpoint()
        bundle.restore("--detach")
        pid = runtime.state(bundle.id)["pid"]
        done = runtime("exec", bundle.id, "sh", "-c", "ls -l /proc/self/ns/time", check=True)
        assert os.readlink(f"/proc/{pid}/ns/time") in done.stdout

    def test_foreground(self, runtime: Runtime, workspace: Path) -> None:
        """The command relays the streams, and ends with the program's exit code."""
        bundle = Bundle(runtime, workspace, "echo before; read line; echo got $line; exit 7")
        argv = runtime.argv("run", "--bundle", str(bundle.place), bundle.id)
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"before\n"
            bundle.checkpoint()
        argv = runtime.argv("restore", "--image-path", str(bundle.images), "--bundle")
        done = subprocess.run(
            [*argv, str(bundle.place), bundle.id],
            input=b"words\n",
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (7, b"got words\n")
        assert runtime("state", bundle.id).code == 1

    def test_terminal(self, runtime: Runtime, workspace: Path) -> None:
        """The terminal's other end comes to the console socket, with the program at its own."""
        bundle = Bundle(runtime, workspace, "while read line; do echo got $line; done")
        document = read_spec(bundle.place)
        document["process"]["terminal"] = True
        write_spec(bundle.place, document)
        path = workspace / "console"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            bundle.run("--console-socket", str(path))
            master = _receive(listener)
            _converse(master, "one")
            bundle.checkpoint()
            os.close(master)
            bundle.restore("--detach", "--console-socket", str(path))
            master = _receive(listener)
            _converse(master, "two")
            done = runtime("exec", bundle.id, "sh", "-c", "stty </dev/console", check=True)
            assert "speed" in done.stdout
            os.close(master)

    def test_mounts(self, runtime: Runtime, bundle: Bundle, workspace: Path) -> None:
        """Mounts are as they were: their flags, what is hidden, and missing mount points."""
        document = read_spec(bundle.place)
        outer = workspace / "outer"
        for name in ("one", "two", "three"):
            (workspace / name).mkdir()
        outer.mkdir()
        (workspace / "file").write_text("of the host")
        (bundle.root / "link").symlink_to("real")
        (bundle.root / "real").mkdir()
        document["mounts"] += [
            _bind(workspace / "one", "/one", "ro"),
            _bind(workspace / "two", "/two", "ro"),
            _bind(workspace / "three", "/three", "rw", "noexec"),
            _bind(workspace / "file", "/dev/file", "ro"),
            _bind(workspace / "file", "/link/file", "ro"),
            _bind(outer, "/outer", "rw"),
            _bind(workspace / "two", "/outer/inner", "ro"),
            {"destination": "/run", "type": "tmpfs", "source": "tmpfs"},
        ]
        document["linux"]["maskedPaths"] = ["/proc/keys", "/proc/timer_list", "/proc/scsi"]
        document["linux"]["readonlyPaths"] = ["/proc/sys"]
        document["root"]["readonly"] = True
        write_spec(bundle.place, document)
        (bundle.root / "count").touch()
        document["process"]["args"] = ["sh", "-c", COUNTER.replace("/count", "/three/count")]
        write_spec(bundle.place, document)
        before = _mounts(bundle.run())
        bundle.checkpoint()
        (outer / "inner").rmdir()
        bundle.restore("--detach")
        assert _mounts(runtime.state(bundle.id)["pid"]) == before
        assert any("/one ro" in line for line in before)

    def test_mounts_beneath(self, runtime: Runtime, bundle: Bundle, workspace: Path) -> None:
        """What is mounted beneath a directory of the host's comes along with it."""
        outer = workspace / "outer"
        (outer / "inner").mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(outer / "inner")], check=True)
        try:
            document = read_spec(bundle.place)
            document["mounts"].append(
                {
                    "destination": "/outer",
                    "type": "bind",
                    "source": str(outer),
                    "options": ["rbind", "ro"],
                }
            )
            write_spec(bundle.place, document)
            before = _mounts(bundle.run())
            bundle.wait_for_count()
            bundle.checkpoint()
            bundle.restore("--detach")
            assert _mounts(runtime.state(bundle.id)["pid"]) == before
            (outer / "inner" / "file").write_text("of the host")
            runtime("exec", bundle.id, "cat", "/outer/inner/file", check=True)
        finally:
            bundle.runtime.end()
            subprocess.run(["umount", str(outer / "inner")], check=True)

    def test_limits(self, bundle: Bundle) -> None:
        """The cgroups are made anew, with their limits, and the processes are in them."""
        bundle.change(resources={"pids": {"limit": 77}})
        before = _cgroups(bundle.run())
        bundle.wait_for_count()
        bundle.checkpoint()
        assert not _cgroup("pids", before).exists()
        bundle.restore("--detach")
        after = _cgroups(bundle.note())
        assert after == before
        assert (_cgroup("pids", after) / "pids.max").read_text() == "77\n"

    def test_elsewhere(self, runtime: Runtime, bundle: Bundle) -> None:
        """Under another id it is in other cgroups."""
        bundle.run()
        bundle.wait_for_count()
        bundle.checkpoint()
        first, bundle.id = bundle.id, runtime.id("b")
        bundle.restore("--detach")
        found = _cgroups(bundle.note())
        assert any(path.endswith(bundle.id) for path in found.values())
        assert not any(path.endswith(first) for path in found.values())

    @pytest.mark.needs("unshare")
    def test_network_namespace(self, runtime: Runtime, bundle: Bundle, workspace: Path) -> None:
        """A network namespace that was joined is joined again."""
        path = workspace / "net"
        path.touch()
        subprocess.run(["unshare", f"--net={path}", "true"], check=True)
        try:
            document = read_spec(bundle.place)
            for namespace in document["linux"]["namespaces"]:
                if namespace["type"] == "network":
                    namespace["path"] = str(path)
            write_spec(bundle.place, document)
            bundle.run()
            bundle.wait_for_count()
            bundle.checkpoint()
            bundle.restore("--detach")
            inode = os.stat(f"/proc/{bundle.note()}/ns/net").st_ino
            assert inode == path.stat().st_ino
        finally:
            runtime.end()
            subprocess.run(["umount", str(path)], check=True)

    def test_user_namespace(self, bundle: Bundle) -> None:
        """A container with its own users comes back with them."""
        document = read_spec(bundle.place)
        document["linux"]["namespaces"].append({"type": "user"})
        mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        document["linux"]["uidMappings"] = document["linux"]["gidMappings"] = mapping
        write_spec(bundle.place, document)
        subprocess.run(["chown", "-R", "100000:100000", str(bundle.root)], check=True)
        bundle.run()
        bundle.wait_for_count()
        bundle.checkpoint()
        bundle.restore("--detach")
        bundle.wait_for_count()
        assert os.stat(f"/proc/{bundle.note()}").st_uid == 100000

    def test_hooks(self, bundle: Bundle, workspace: Path) -> None:
        """prestart and createRuntime run when the namespaces are there; others don't."""
        log = workspace / "hooks"
        document = read_spec(bundle.place)
        moments = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart")
        document["hooks"] = {
            moment: [
                {
                    "path": shutil.which("sh"),
                    "args": ["sh", "-c", f"cat >>{log}; echo {moment} >>{log}"],
                    "env": ["PATH=/usr/bin:/bin"],
                }
            ]
            for moment in moments
            if moment != "startContainer"
        }
        write_spec(bundle.place, document)
        bundle.run()
        bundle.checkpoint()
        log.unlink()
        bundle.restore("--detach")
        pid = bundle.note()
        lines = log.read_text()
        told = [moment for moment in moments if f"}}{moment}\n" in lines]
        assert told == ["prestart", "createRuntime"]
        assert lines.count(f'"pid": {pid}') == 2

    def test_failing_hook(self, runtime: Runtime, bundle: Bundle) -> None:
        """A hook that fails ends the restore, and nothing is left."""
        bundle.run()
        bundle.checkpoint()
        document = read_spec(bundle.place)
        document["hooks"] = {"prestart": [{"path": shutil.which("false")}]}
        write_spec(bundle.place, document)
        done = bundle.restore("--detach", check=False)
        assert done.code == 1
        assert "hook" in done.stderr
        assert runtime("state", bundle.id).code == 1

    def test_broken_images(self, runtime: Runtime, bundle: Bundle) -> None:
        """When criu fails its own words are told, and nothing is left."""
        bundle.run()
        bundle.checkpoint()
        (bundle.images / "inventory.img").unlink()
        done = bundle.restore("--detach", check=False)
        assert done.code == 1
        assert "criu: " in done.stderr
        assert "Unexpected EOF" in done.stderr
        assert f"(log: {bundle.images}/restore.log)" in done.stderr
        assert runtime("state", bundle.id).code == 1

    def test_no_checkpoint(self, bundle: Bundle) -> None:
        """A directory that holds no checkpoint is refused."""
        done = bundle.restore("--detach", check=False)
        assert done.code == 1
        assert f"{bundle.images} holds no checkpoint" in done.stderr

    def test_taken_id(self, bundle: Bundle) -> None:
        """The id of a container that is there can't be given again."""
        bundle.run()
        bundle.checkpoint("--leave-running")
        done = bundle.restore("--detach", check=False)
        assert "container with given ID already exists" in done.stderr


def _bind(source: Path, dest: str, *options: str) -> dict[str, Any]:
    return {
        "destination": dest,
        "type": "bind",
        "source": str(source),
        "options": ["bind", *options],
    }


def _mounts(pid: int) -> list[str]:
    """Return the mounts of a process: place, flags and type."""
    lines = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    found = []
    for line in lines:
        mount, _, kind = line.partition(" - ")
        _, _, _, _, place, attributes, *_ = mount.split()
        found.append(f"{place} {attributes} {kind.split()[0]}")
    return sorted(found)


def _cgroups(pid: int) -> dict[str, str]:
    """Return the cgroups of a process by their controllers."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    return {line.split(":", 2)[1]: line.split(":", 2)[2] for line in lines}


def _cgroup(controller: str, groups: dict[str, str]) -> Path:
    """Return the directory of the group with a controller."""
    for names, path in groups.items():
        if controller in names.split(","):
            return Path(f"/sys/fs/cgroup/{names}{path}")
    return Path(f"/sys/fs/cgroup{groups['']}")


def _receive(listener: socket.socket) -> int:
    """Return the file descriptor that is sent to a console socket."""
    listener.settimeout(60)
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(60)
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(4))
    found = array.array("i")
    found.frombytes(ancillary[0][2][:4])
    return found[0]


def _converse(master: int, word: str) -> None:
    """Type a word, and wait for the answer."""
    os.write(master, f"{word}\n".encode())
    heard = b""
    while f"got {word}".encode() not in heard:
        heard += os.read(master, 1000)
