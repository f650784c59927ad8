"""Real containers by `cloche run`: what they see, what they get, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Cloche

BOTH = pytest.mark.parametrize("who", ["cloche", "unprivileged", "subordinate"])
ROOT = pytest.mark.needs("root")


@pytest.fixture
def run(who: str, request: pytest.FixtureRequest) -> Cloche:
    """The command as one of the users that a test is repeated for."""
    return request.getfixturevalue(who)  # type: ignore[no-any-return]


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something that another process does; fail when it never happens."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


@BOTH
@pytest.mark.needs("userns")
class TestSight:
    """What a container sees, for root and for ordinary users alike."""

    def test_own_processes_only(self, run: Cloche) -> None:
        """The program is PID 1 and sees no process but its own."""
        done = run("run", "host", "sh", "-c", "echo $$; ls /proc | grep -c '^[0-9]'", check=True)
        pid, count = done.stdout.split()
        assert pid == "1"
        assert int(count) <= 4

    def test_own_name(self, run: Cloche) -> None:
        """The hostname is the container's and changes nothing outside."""
        done = run("run", "--hostname", "glass", "host", "hostname", check=True)
        assert done.stdout == "glass\n"
        assert os.uname().nodename != "glass"

    def test_own_network(self, run: Cloche) -> None:
        """There is a loopback interface, up, and nothing else."""
        script = "cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /sys/class/net/lo/operstate"
        done = run("run", "host", "sh", "-c", script, check=True)
        assert done.stdout.split()[0] == "lo"
        assert "eth0" not in done.stdout

    def test_no_secrets(self, run: Cloche) -> None:
        """Nothing of the host's homes, passwords, keys or other mounts can be read."""
        marker = Path("/var/tmp/cloche-test-secret")
        marker.write_text("secret")
        marker.chmod(0o644)
        try:
            script = (
                "cat /etc/shadow; cat /var/tmp/cloche-test-secret; ls -A /root /home /mnt /srv;"
                " ls /etc/ssh; ls -d /root/.ssh; find /tmp /var -type f; true"
            )
            done = run("run", "host", "sh", "-c", script, check=True)
        finally:
            marker.unlink()
        assert "secret" not in done.stdout
        lines = [line for line in done.stdout.splitlines() if line and not line.endswith(":")]
        assert lines == []

    def test_mount_table_shows_no_host_root(self, run: Cloche) -> None:
        """The mounts are the container's own; the host's root is not among them."""
        done = run("run", "host", "cat", "/proc/self/mountinfo", check=True)
        points = [line.split()[4] for line in done.stdout.splitlines()]
        assert points[0] == "/"
        assert {"/proc", "/dev", "/dev/pts", "/dev/shm", "/sys"} <= set(points)
        assert not any("scratch" in point for point in points)

    def test_no_way_to_the_host(self, run: Cloche) -> None:
        """No file descriptor and no parent directory of / leads out."""
        script = "ls /proc/self/fd; ls -id / /.. /../..  | awk '{print $1}' | sort -u | wc -l"
        done = run("run", "host", "sh", "-c", script, check=True)
        *fds, roots = done.stdout.split()
        assert set(fds) <= {"0", "1", "2", "3"}
        assert roots == "1"

    def test_capabilities_and_filter(self, run: Cloche) -> None:
        """The fourteen usual capabilities are left, and a filter is installed."""
        done = run("run", "host", "cat", "/proc/self/status", check=True)
        status = dict(line.split(":\t", 1) for line in done.stdout.splitlines())
        usual = 0xA80425FB
        assert int(status["CapEff"], 16) & ~usual == 0
        assert int(status["CapBnd"], 16) & ~usual == 0
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert status["Seccomp"].strip() == "2"

    def test_writes_vanish(self, run: Cloche) -> None:
        """What is written to the image is there in the container only."""
        script = "echo x > /etc/new && cat /etc/new"
        assert run("run", "host", "sh", "-c", script, check=True).stdout == "x\n"
        assert not Path("/etc/new").exists()
        assert run("run", "host", "ls", "/etc/new").returncode == 2

    def test_devices_work(self, run: Cloche) -> None:
        """The standard devices are there and do what they should; the host's disks aren't."""
        script = (
            "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c;"
            " ls /dev; ls -l /dev/fd /dev/stdin > /dev/null"
        )
        done = run("run", "host", "sh", "-c", script, check=True)
        lines = done.stdout.split()
        assert lines[:2] == ["4", "4"]
        assert not any(name.startswith(("vd", "sd", "nvme", "loop")) for name in lines)

    def test_explain_is_the_plan(self, run: Cloche) -> None:
        """Explaining needs nothing to run, and tells every step."""
        done = run("explain", "run", "--format", "json", "host", "true", check=True)
        document = json.loads(done.stdout)
        assert [step["number"] for step in document["steps"]] == list(range(len(document["steps"])))
        assert all(step["what"] and step["why"] and step["man"] for step in document["steps"])

    def test_trace_times_every_step(self, run: Cloche) -> None:
        """With --trace each step has its microseconds, and the exit code stays."""
        done = run("run", "--trace", "host", "sh", "-c", "exit 7")
        assert done.returncode == 7
        assert "root: what can it touch?" in done.stderr
        assert " us in " in done.stderr
        assert "-  us" not in done.stderr


@BOTH
@pytest.mark.needs("userns")
class TestEnd:
    """Exit codes and signals."""

    @pytest.mark.parametrize("code", [0, 1, 42, 125, 255])
    def test_exit_code(self, run: Cloche, code: int) -> None:
        """The container's exit code is the command's."""
        assert run("run", "host", "sh", "-c", f"exit {code}").returncode == code

    def test_killed_by_signal(self, run: Cloche) -> None:
        """A program that a signal ends gives 128 + n."""
        done = run("run", "--init", "host", "sh", "-c", "kill -KILL $$")
        assert done.returncode == 128 + signal.SIGKILL

    def test_not_found(self, run: Cloche) -> None:
        """A missing program gives 127 and says so."""
        done = run("run", "host", "no-such-program")
        assert done.returncode == 127
        assert "not found in the container's PATH" in done.stderr

    def test_not_executable(self, run: Cloche) -> None:
        """A directory and a plain file give 126 and say what they are."""
        done = run("run", "host", "/etc")
        assert (done.returncode, "is a directory" in done.stderr) == (126, True)
        done = run("run", "host", "/etc/passwd")
        assert (done.returncode, "permission denied" in done.stderr) == (126, True)

    def test_timeout(self, run: Cloche) -> None:
        """At its time limit the container is killed, and that is said."""
        done = run("run", "--timeout", "1", "host", "sleep", "60")
        assert done.returncode == 137
        assert "time limit" in done.stderr

    def test_signal_is_relayed(self, run: Cloche) -> None:
        """SIGTERM to the command reaches the program."""
        script = 'trap "echo got it; exit 3" TERM; echo ready; while :; do sleep 0.05; done'
        with run.start([str(run.executable), "run", "host", "sh", "-c", script]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            process.terminate()
            rest = process.communicate(timeout=20)
        assert (*rest, process.returncode) == ("got it\n", "", 3)

    def test_orphans_die_with_the_container(self, run: Cloche) -> None:
        """Whatever was left in the background ends with PID 1."""
        done = run("run", "host", "sh", "-c", "sleep 98765 & echo started", check=True)
        assert done.stdout == "started\n"
        listing = subprocess.run(["ps", "ax"], capture_output=True, text=True, check=True).stdout
        assert "sleep 98765" not in listing

    def test_input_and_output(self, run: Cloche) -> None:
        """With -i input is passed through; without it there is none."""
        text = "line\n" * 100_000
        assert run("run", "-i", "host", "cat", input=text, check=True).stdout == text
        assert run("run", "host", "cat", input=text, check=True).stdout == ""


@ROOT
class TestLimits:
    """Limits hold, and are what was asked for."""

    def test_memory(self, cloche: Cloche) -> None:
        """A program that takes more than its memory is killed."""
        hog = "x = bytearray(200 << 20); print(len(x))"
        done = cloche("run", "-m", "50m", "--memory-swap", "50m", "host", "python3", "-c", hog)
        assert done.returncode == 137
        enough = cloche("run", "-m", "400m", "host", "python3", "-c", hog)
        assert enough.returncode == 0, enough.stderr

    def test_pids(self, cloche: Cloche) -> None:
        """A fork bomb ends at its limit."""
        script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait"
        done = cloche("run", "--pids-limit", "4", "host", "sh", "-c", script)
        assert "fork" in done.stderr

    @pytest.mark.needs("cgroup1")
    def test_what_is_written_v1(self, cloche: Cloche) -> None:
        """The files hold what was asked for, seen from inside."""
        files = (
            "memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us "
            "cpu/cpu.shares pids/pids.max cpuset/cpuset.cpus"
        )
        done = cloche(
            *("run", "-m", "64m", "--cpus", "10%", "--cpu-shares", "512"),
            *("--pids-limit", "50", "--cpuset-cpus", "0", "host"),
            *("sh", "-c", f"cd /sys/fs/cgroup; cat {files}"),
            check=True,
        )
        quota = (os.cpu_count() or 1) * 10_000
        assert done.stdout.split() == [str(64 << 20), str(quota), "100000", "512", "50", "0"]

    def test_nothing_is_left(self, cloche: Cloche) -> None:
        """Cgroups and directories are gone when the container is (the leak fixture looks too)."""
        cloche("run", "-m", "64m", "host", "true", check=True)
        assert list((cloche.state / "containers").iterdir()) == []

    def test_unavailable_limit_is_an_error(self, unprivileged: Cloche) -> None:
        """A limit that an ordinary user can't have is refused, never left out."""
        done = unprivileged("run", "-m", "64m", "host", "true")
        assert done.returncode == 125
        assert "memory" in done.stderr
        assert "hint:" in done.stderr


@pytest.mark.needs("root", "busybox")
class TestRootfs:
    """A directory as root."""

    @pytest.fixture
    def rootfs(self, workspace: Path) -> Path:
        """A directory with nothing but busybox."""
        root = workspace / "root"
        (root / "bin").mkdir(parents=True)
        (root / "bin/sh").write_bytes(Path("/bin/busybox").read_bytes())
        (root / "bin/sh").chmod(0o755)
        return root

    def test_directory(self, cloche: Cloche, rootfs: Path) -> None:
        """What is written to a plain root stays."""
        cloche("run", "--rootfs", str(rootfs), "sh", "-c", "echo x > /kept", check=True)
        assert (rootfs / "kept").read_text() == "x\n"

    def test_directory_is_made_in_a_root_that_is_read_only(
        self, cloche: Cloche, rootfs: Path
    ) -> None:
        """A missing working directory is made before the root is closed."""
        options = ("--read-only", "-w", "/new/place", "--rootfs", f"{rootfs}:O")
        done = cloche("run", *options, "sh", "-c", "pwd; echo > x")
        assert done.stdout == "/new/place\n"
        assert "Read-only" in done.stderr

    def test_overlay(self, cloche: Cloche, rootfs: Path) -> None:
        """With :O nothing reaches the directory."""
        before = sorted(rootfs.rglob("*"))
        cloche("run", "--rootfs", f"{rootfs}:O", "sh", "-c", "echo x > /kept", check=True)
        assert sorted(rootfs.rglob("*")) == before

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            (b"#!/bin/sh\r\necho\r\n", "carriage return"),
            (b"#!/opt/none\n", "its interpreter /opt/none isn't there"),
            (b"", "an empty file"),
            (b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xf3\x00" + bytes(44), "riscv64"),
        ],
    )
    def test_programs_that_cannot_run(
        self, cloche: Cloche, rootfs: Path, content: bytes, words: str
    ) -> None:
        """Each says exactly what is wrong with it."""
        (rootfs / "it").write_bytes(content)
        (rootfs / "it").chmod(0o755)
        done = cloche("run", "--rootfs", str(rootfs), "/it")
        assert done.returncode in (126, 127)
        assert words in done.stderr

    def test_missing_loader(self, cloche: Cloche, rootfs: Path) -> None:
        """A dynamic program without its loader isn't "not found" but told of."""
        (rootfs / "it").write_bytes(Path("/bin/true").read_bytes())
        (rootfs / "it").chmod(0o755)
        done = cloche("run", "--rootfs", str(rootfs), "/it")
        assert done.returncode == 127
        assert "dynamic loader" in done.stderr


@ROOT
class TestOptions:
    """Docker's options with docker's meanings."""

    def test_programs_can_be_changed_for_a_while(self, cloche: Cloche) -> None:
        """The machine's own /usr is writable in the container, and untouched."""
        script = "echo x > /usr/bin/cloche-test && cat /usr/bin/cloche-test && rm /usr/bin/env"
        assert cloche("run", "host", "sh", "-c", script, check=True).stdout == "x\n"
        assert not Path("/usr/bin/cloche-test").exists()
        assert Path("/usr/bin/env").exists()

    def test_environment(self, cloche: Cloche, workspace: Path) -> None:
        """-e, --env-file and the defaults make the environment, and nothing of the caller's."""
        (workspace / "env").write_text("# comment\nONE=1\nPASSED\n")
        done = cloche(
            *("run", "-e", "TWO=two words", "--env-file", str(workspace / "env"), "host", "env"),
            env={"PASSED": "on", "LEAKED": "no"},
            check=True,
        )
        found = dict(line.split("=", 1) for line in done.stdout.splitlines())
        assert (found["ONE"], found["TWO"], found["PASSED"]) == ("1", "two words", "on")
        assert "LEAKED" not in found
        assert found["HOME"] == "/root"

    def test_user_and_directory(self, cloche: Cloche) -> None:
        """-u by name and number, -w made if missing."""
        script = "id -u; id -g; pwd"
        done = cloche("run", "-u", "65534:33", "-w", "/a/b", "host", "sh", "-c", script, check=True)
        assert done.stdout.split() == ["65534", "33", "/a/b"]
        done = cloche("run", "-u", "nobody", "host", "id", "-un", check=True)
        assert done.stdout == "nobody\n"
        assert cloche("run", "-u", "nosuchuser", "host", "true").returncode == 125

    def test_volumes(self, cloche: Cloche, workspace: Path) -> None:
        """A volume is the host's directory; :ro can't be written; a missing one is made."""
        shared = workspace / "shared"
        shared.mkdir()
        (shared / "in").write_text("from the host")
        done = cloche(
            *("run", "-v", f"{shared}:/data", "-v", f"{shared}:/fixed:ro", "host"),
            *("sh", "-c", "cat /data/in; echo out > /data/out; echo x > /fixed/x"),
        )
        assert done.stdout == "from the host"
        assert (shared / "out").read_text() == "out\n"
        assert "Read-only" in done.stderr
        cloche("run", "-v", f"{workspace}/new:/new", "host", "touch", "/new/file", check=True)
        assert (workspace / "new/file").exists()

    def test_read_only(self, cloche: Cloche) -> None:
        """--read-only closes the whole root, --tmpfs opens a place in it."""
        script = "touch /x || touch /usr/x || touch /etc/x; touch /tmp/x && echo ok"
        done = cloche("run", "--read-only", "--tmpfs", "/tmp", "host", "sh", "-c", script)
        assert done.stdout == "ok\n"
        assert done.stderr.count("Read-only") == 3

    def test_capabilities(self, cloche: Cloche) -> None:
        """--cap-drop ALL leaves none, --cap-add puts one back."""
        script = "grep Cap /proc/self/status | cut -f2 | sort -u"
        done = cloche("run", "--cap-drop", "ALL", "host", "sh", "-c", script, check=True)
        assert done.stdout == "0000000000000000\n"
        options = ("--cap-drop", "all", "--cap-add", "net_admin")
        done = cloche("run", *options, "host", "sh", "-c", script, check=True)
        assert "0000000000001000" in done.stdout

    def test_no_new_privileges(self, cloche: Cloche) -> None:
        """--security-opt no-new-privileges is the kernel's flag."""
        done = cloche(
            *("run", "--security-opt", "no-new-privileges", "host"),
            *("grep", "NoNewPrivs", "/proc/self/status"),
            check=True,
        )
        assert done.stdout.split() == ["NoNewPrivs:", "1"]

    def test_privileged(self, cloche: Cloche) -> None:
        """--privileged opens everything that the caller has."""
        script = "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs x /mnt"
        done = cloche("run", "--privileged", "host", "sh", "-c", script, check=True)
        assert "Seccomp:\t0" in done.stdout

    def test_host_namespaces(self, cloche: Cloche) -> None:
        """The word host shares what it is said of."""
        names = ("net", "ipc", "uts", "pid", "cgroup")
        options = ("--network=host", "--ipc=host", "--uts=host", "--pid=host", "--cgroupns=host")
        script = " ".join(f"/proc/self/ns/{name}" for name in names)
        done = cloche("run", *options, "host", "sh", "-c", f"readlink {script}", check=True)
        assert done.stdout.split() == [os.readlink(f"/proc/self/ns/{name}") for name in names]

    def test_private_users(self, cloche: Cloche) -> None:
        """--userns private makes the container's root somebody else outside."""
        script = "id -u; cat /proc/self/uid_map"
        done = cloche("run", "--userns", "private", "host", "sh", "-c", script)
        assert done.returncode == 0, done.stderr
        inside, *mapping = done.stdout.split()
        assert inside == "0"
        assert int(mapping[1]) >= 1000

    def test_ulimit_and_sysctl(self, cloche: Cloche) -> None:
        """--ulimit and --sysctl reach the kernel."""
        done = cloche(
            *("run", "--ulimit", "nofile=64:128", "--sysctl", "net.ipv4.ip_forward=1", "host"),
            *("sh", "-c", "ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_forward"),
            check=True,
        )
        assert done.stdout.split() == ["64", "128", "1"]

    def test_name_is_taken_once(self, cloche: Cloche) -> None:
        """A second container can't have the name while the first lives."""
        argv = [str(cloche.executable), "run", "-i", "--name", "one", "host", "sh", "-c"]
        with cloche.start([*argv, "echo up; read x"], stdin=subprocess.PIPE) as first:
            assert first.stdout is not None
            assert first.stdout.readline() == "up\n"
            second = cloche("run", "--name", "one", "host", "true")
            first.communicate("done\n", timeout=20)
        assert second.returncode == 125
        assert "in use" in second.stderr
        assert cloche("run", "--name", "one", "host", "true").returncode == 0

    def test_device(self, cloche: Cloche) -> None:
        """--device gives a device of the host; another one of its kind can't be opened."""
        script = "ls -l /dev/full2 | cut -c1; mknod /tmp/disk b 254 0; cat < /tmp/disk"
        done = cloche("run", "--device", "/dev/full:/dev/full2", "host", "sh", "-c", script)
        assert done.stdout == "c\n"
        assert "not permitted" in done.stderr


@ROOT
class TestRobust:
    """Killed at any moment, nothing stays."""

    @pytest.mark.orphans
    def test_killed_launcher_takes_the_container_along(self, cloche: Cloche) -> None:
        """SIGKILL to the launcher ends the container, and the next command cleans up."""
        argv = [str(cloche.executable), "run", "-m", "64m", "--name", "xx", "host"]
        with cloche.start([*argv, "sh", "-c", "echo up; sleep 54321"]) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "up\n"
            process.kill()
        wait_until(lambda: not _running("sleep 54321"))
        assert len(list((cloche.state / "containers").iterdir())) == 1
        cloche("run", "--name", "xx", "host", "true", check=True)
        assert list((cloche.state / "containers").iterdir()) == []

    def test_many_at_once(self, cloche: Cloche) -> None:
        """Twenty starts at the same time all work, and leave nothing."""
        cloche("run", "host", "true", check=True)
        argv = [str(cloche.executable), "run", "-m", "64m", "host", "echo", "ok"]
        processes = [cloche.start(argv) for _ in range(20)]
        outputs = [process.communicate(timeout=100) for process in processes]
        assert [stdout for stdout, _ in outputs] == ["ok\n"] * 20, outputs

    def test_interrupted_early(self, cloche: Cloche) -> None:
        """A signal at any time of the start leaves nothing behind."""
        for delay in range(0, 120, 10):
            with cloche.start([str(cloche.executable), "run", "host", "sleep", "1"]) as process:
                time.sleep(delay / 1000)
                process.terminate()
                process.communicate(timeout=20)
        cloche("run", "host", "true", check=True)
        assert list((cloche.state / "containers").iterdir()) == []


def _running(command: str) -> bool:
    listing = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True)
    return command in listing.stdout
