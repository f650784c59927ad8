"""Starts from unfriendly surroundings: full disks, closed streams, odd paths, tight limits."""

from __future__ import annotations

import hashlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Cloche

pytestmark = [pytest.mark.needs("root", "userns")]

HELLO = ("run", "host", "echo", "hello")


@pytest.fixture
def mounted(workspace: Path) -> Iterator[Callable[[str], Path]]:
    """Mount tmpfs with options, in the mount namespace of the tests."""
    place = workspace / "mounted"
    place.mkdir()
    count = 0

    def mount(options: str) -> Path:
        nonlocal count
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"mode=755,{options}", "tmpfs", place], check=True
        )
        count += 1
        return place

    yield mount
    for _ in range(count):
        subprocess.run(["umount", place], check=True)


def shell(cloche: Cloche, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which ``cloche`` is found."""
    return cloche.run(["bash", "-c", script])


def starts(cloche: Cloche) -> bool:
    """Whether a container starts; if not, that is said, and nothing is left."""
    done = cloche(*HELLO)
    if done.returncode == 0:
        assert done.stdout == "hello\n"
        return True
    assert done.returncode == 125, done
    assert done.stderr.startswith("cloche: "), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(cloche.state.glob("containers/*"))
    return False


class TestPlaces:
    """State and data directories."""

    def test_full_state(self, cloche: Cloche, mounted: Callable[[str], Path]) -> None:
        """With room for only some of its files a container doesn't start, and leaves none."""
        place = mounted("size=4k")
        cloche.state = place / "state"
        cloche.environ["CLOCHE_STATE"] = str(cloche.state)
        results = []
        for pages in (1, 2, 4, 8):
            subprocess.run(["mount", "-o", f"remount,size={pages * 4}k", place], check=True)
            results.append(starts(cloche))
        assert results[0] is False
        assert results[-1] is True

    def test_state_without_inodes(self, cloche: Cloche, mounted: Callable[[str], Path]) -> None:
        """Wherever the last inode is taken, nothing but the shared directories stays."""
        place = mounted("nr_inodes=2")
        cloche.state = place / "state"
        cloche.environ["CLOCHE_STATE"] = str(cloche.state)
        results = []
        for count in range(2, 12):
            subprocess.run(["mount", "-o", f"remount,nr_inodes={count}", place], check=True)
            results.append(starts(cloche))
        assert results == sorted(results)
        assert results[-1] is True

    def test_full_data(self, cloche: Cloche, mounted: Callable[[str], Path]) -> None:
        """An image that can't be prepared is an error; a filter that can't be kept is none."""
        place = mounted("size=4k")
        cloche.environ["CLOCHE_DATA"] = str(place / "data")
        assert not starts(cloche)
        subprocess.run(["mount", "-o", "remount,size=4m", place], check=True)
        assert starts(cloche)
        shutil.rmtree(place / "data/seccomp")
        (place / "filler").write_bytes(bytes(8 << 20)[: shutil.disk_usage(place).free])
        assert starts(cloche)
        assert not list(place.glob("data/seccomp/*"))

    def test_read_only(self, cloche: Cloche, mounted: Callable[[str], Path]) -> None:
        """A read-only state or data directory is named."""
        place = mounted("ro")
        for name in ("CLOCHE_STATE", "CLOCHE_DATA"):
            done = cloche(*HELLO, env={name: f"{place}/deep/er"})
            assert done.returncode == 125
            assert f"{place}/deep" in done.stderr
            assert "read-only file system" in done.stderr

    def test_no_permission(self, unprivileged: Cloche, workspace: Path) -> None:
        """A directory of somebody else is named."""
        (workspace / "closed").mkdir(mode=0o755)
        for name in ("CLOCHE_STATE", "CLOCHE_DATA"):
            done = unprivileged(*HELLO, env={name: f"{workspace}/closed/deep"})
            assert done.returncode == 125
            assert f"{workspace}/closed" in done.stderr
            assert "permission denied" in done.stderr

    def test_strict_mounts(self, cloche: Cloche, mounted: Callable[[str], Path]) -> None:
        """noexec, nosuid and nodev where the files lie are no obstacle."""
        place = mounted("noexec,nosuid,nodev")
        for name in ("CLOCHE_STATE", "CLOCHE_DATA"):
            cloche.environ[name] = str(place / name)
        cloche.state = place / "CLOCHE_STATE"
        assert starts(cloche)

    @pytest.mark.parametrize("mask", ["000", "077", "777"])
    @pytest.mark.parametrize("who", ["cloche", "unprivileged"])
    def test_umask(self, who: str, mask: str, request: pytest.FixtureRequest) -> None:
        """Neither the engine's files nor the container's depend on the caller's umask."""
        run: Cloche = request.getfixturevalue(who)
        private = "" if who == "unprivileged" else "--userns private "
        script = (
            f"umask {mask}; cloche run host sh -c 'umask; stat -c %a /etc/hosts /tmp' &&"
            f" cloche run {private}host cat /etc/hostname >/dev/null"
        )
        done = shell(run, script)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.split() == ["0022", "644", "1777"]
        found = (run.state / "containers").stat().st_mode & 0o777
        assert found == 0o711

    @pytest.mark.needs("userns", "unshare")
    @pytest.mark.parametrize("who", ["cloche", "unprivileged"])
    def test_root_of_a_user_namespace(self, who: str, request: pytest.FixtureRequest) -> None:
        """Who is root by ``unshare -r`` only may do less than it seems, and gets what it may."""
        run: Cloche = request.getfixturevalue(who)
        script = "unshare -r cloche run host sh -c 'id -u; echo >/dev/null; head -c 2 /dev/zero'"
        done = shell(run, script)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "0\n\0\0"

    @pytest.mark.parametrize(
        "name", ["/".join(["d" * 50] * 6), "a:b\\c,d e\nf=g", "/".join(["p:\\,"] * 90)]
    )
    @pytest.mark.parametrize("userns", ["host", "private"])
    def test_odd_paths(self, cloche: Cloche, workspace: Path, name: str, userns: str) -> None:
        """Paths longer than a mount option, or full of what separates options, just work."""
        place = workspace / name
        place.mkdir(parents=True)
        env = {"CLOCHE_STATE": f"{place}/s", "CLOCHE_DATA": f"{place}/d"}
        script = "echo new >/usr/new; cat /usr/new; cat /etc/new 2>&1 || echo x >/etc/new"
        done = cloche("run", "--userns", userns, "host", "sh", "-c", script, env=env, check=True)
        assert done.stdout.startswith("new\n")

    def test_endless_path(self, cloche: Cloche) -> None:
        """A path longer than the kernel takes is an error like any other."""
        for name in ("CLOCHE_STATE", "CLOCHE_DATA"):
            done = cloche(*HELLO, env={name: "/tmp" + "/long" * 1000})
            assert done.returncode == 125
            assert "file name too long" in done.stderr

    def test_current_directory_is_gone(self, cloche: Cloche, workspace: Path) -> None:
        """It isn't needed, unless a path is relative to it."""
        script = (
            f"mkdir {workspace}/gone; cd {workspace}/gone; rmdir {workspace}/gone;"
            "cloche run host pwd; cloche run -v ./x:/x host true"
        )
        done = shell(cloche, script)
        assert done.stdout == "/\n"
        assert "./x: the current directory doesn't exist any more" in done.stderr


class TestStreams:
    """Standard streams that are closed, full, slow, or cut off."""

    @pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-"])
    def test_closed(self, cloche: Cloche, closed: str) -> None:
        """Closed streams are /dev/null to the container, and no other file takes their place."""
        script = "readlink /proc/self/fd/0 >&2; echo out; exit 3"
        done = shell(cloche, f"cloche run -i host sh -c '{script}' {closed}")
        assert done.returncode == 3, done
        assert done.stdout == ("" if ">&-" in closed.split() else "out\n")
        if "2>&-" not in closed and "<&-" in closed:
            assert done.stderr == "/dev/null\n"
        assert shell(cloche, f"cloche run host nonsense {closed}").returncode == 127
        assert shell(cloche, f"cloche run --bad host {closed}").returncode == 125
        assert shell(cloche, f"cloche --version {closed}").returncode == 0

    def test_full_disk(self, cloche: Cloche, mounted: Callable[[str], Path]) -> None:
        """Output that doesn't fit on the disk is an error, not lost."""
        place = mounted("size=64k")
        done = shell(cloche, f"cloche run host head -c 1M /dev/zero >{place}/file")
        assert done.returncode == 125
        assert "write standard output: no space left on device" in done.stderr
        assert (place / "file").stat().st_size == 65536

    @pytest.mark.parametrize(
        ("command", "code"),
        [
            ("run host echo >/dev/full", 125),
            ("run host nonsense 2>/dev/full", 127),
            ("run --bad 2>/dev/full", 125),
            ("explain run host true >/dev/full", 125),
            ("--version >/dev/full", 125),
        ],
    )
    def test_dev_full(self, cloche: Cloche, command: str, code: int) -> None:
        """Whatever can't be written, the exit code is right and nothing breaks."""
        done = shell(cloche, f"cloche {command}")
        assert done.returncode == code
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr

    def test_reader_goes_away(self, cloche: Cloche) -> None:
        """The program gets its own SIGPIPE, even when the caller ignores that signal."""
        script = "trap '' PIPE; cloche run --init host yes | head -1; echo ${PIPESTATUS[0]}"
        assert shell(cloche, script).stdout == "y\n141\n"

    def test_much_output_to_a_slow_reader(self, cloche: Cloche) -> None:
        """Nothing is lost when the reader is slower than the container, and outlives it."""
        size = 40 << 20
        argv = [str(cloche.executable), "run", "host", "head", "-c", str(size), "/dev/zero"]
        received = 0
        with subprocess.Popen(argv, env=cloche.environ, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            time.sleep(0.2)  # the pipes are full, the container waits
            while chunk := process.stdout.read(1 << 20):
                received += len(chunk)
        assert (received, process.returncode) == (size, 0)

    def test_much_input(self, cloche: Cloche) -> None:
        """A hundred megabytes arrive complete and in order."""
        data = os.urandom(1 << 20) * 100
        argv = [str(cloche.executable), "run", "-i", "host", "sha1sum"]
        done = subprocess.run(
            argv, env=cloche.environ, input=data, stdout=subprocess.PIPE, check=True
        )
        assert done.stdout.split()[0].decode() == hashlib.sha1(data).hexdigest()

    def test_exit_with_output_pending(self, cloche: Cloche) -> None:
        """What was written before the end is delivered, by background processes too."""
        script = "(head -c 60000 /dev/zero; echo) & wait; exit 4"
        argv = [str(cloche.executable), "run", "host", "sh", "-c", script]
        with subprocess.Popen(argv, env=cloche.environ, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            time.sleep(0.15)
            assert len(process.stdout.read()) == 60001
        assert process.returncode == 4


class TestLimits:
    """Limits and signal actions that the caller imposes on its children."""

    def test_few_files(self, cloche: Cloche) -> None:
        """With too few file descriptors the failing step is named; nothing is left."""
        results = []
        for count in (5, 8, 10, 12, 14, 16, 18, 24, 32):
            done = shell(cloche, f"ulimit -n {count}; cloche run host true")
            results.append(done.returncode == 0)
            if done.returncode:
                assert done.returncode in (1, 125), done  # 1: the interpreter hasn't started
                assert "oo many open files" in done.stderr
            assert not list(cloche.state.glob("containers/*"))
        assert results == sorted(results)
        assert results[-1]

    def test_few_processes(self, unprivileged: Cloche) -> None:
        """Where the user may have no further process, that is what is said."""
        assert starts(unprivileged)
        done = shell(unprivileged, "ulimit -u 1; exec cloche run host true")
        if done.returncode == 0:
            pytest.skip("RLIMIT_NPROC isn't enforced here")
        assert done.returncode == 125
        assert "resource temporarily unavailable" in done.stderr

    def test_ignored_signals(self, cloche: Cloche) -> None:
        """A caller that ignores signals (nohup) gets its exit code, and its container none."""
        script = (
            "trap '' CHLD PIPE INT HUP QUIT TERM USR1;"
            "cloche run host sh -c 'grep SigIgn /proc/self/status; exit 6'; echo $?"
        )
        assert shell(cloche, script).stdout.split() == ["SigIgn:", "0" * 16, "6"]

    def test_blocked_signals(self, cloche: Cloche) -> None:
        """Signals that the caller blocks aren't blocked in the container."""
        argv = [str(cloche.executable), "run", "host", "grep", "SigBlk", "/proc/self/status"]
        done = subprocess.run(
            argv,
            env=cloche.environ,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals()),
        )
        assert done.stdout.split()[1] == "0" * 16

    def test_small_files(self, cloche: Cloche) -> None:
        """RLIMIT_FSIZE, which the launcher's own memory files count for, is told of."""
        argv = [str(cloche.executable), *HELLO]
        done = subprocess.run(
            argv,
            env=cloche.environ,
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        )
        assert done.returncode == 125
        assert "file too large" in done.stderr


class TestArguments:
    """Arguments and environments that aren't text."""

    def test_bytes_pass(self, cloche: Cloche) -> None:
        """Bytes that aren't UTF-8, line feeds and empty strings come through as they are."""
        for locale in ("C.UTF-8", "C", "POSIX"):
            done = subprocess.run(
                [
                    *(
                        os.fsencode(cloche.executable),
                        b"run",
                        b"-e",
                        b"X=\xff\xfe",
                        b"-w",
                        b"/\xfd",
                    ),
                    *(b"host", b"sh", b"-c", b'pwd; printf "<%s>" "$X" "$@"'),
                    *(b"sh", b"\xff", b"", b"a\nb", "é".encode()),
                ],
                env=cloche.environ | {"LC_ALL": locale},
                stdout=subprocess.PIPE,
                check=True,
            )
            assert done.stdout == b"/\xfd\n<\xff\xfe><\xff><><a\nb><\xc3\xa9>", locale

    def test_environment_of_bytes(self, cloche: Cloche) -> None:
        """A caller's variable with any bytes is passed on when asked for."""
        done = subprocess.run(
            [str(cloche.executable), "run", "-e", "ODD", "host", "sh", "-c", 'printf %s "$ODD"'],
            env={os.fsencode(k): os.fsencode(v) for k, v in cloche.environ.items()}
            | {b"ODD": b"\xff\n\x01", b"\xfe": b"\xfe"},
            stdout=subprocess.PIPE,
            check=True,
        )
        assert done.stdout == b"\xff\n\x01"

    def test_empty_command(self, cloche: Cloche) -> None:
        """An empty string is no program."""
        done = cloche("run", "host", "")
        assert (done.returncode, done.stderr) == (127, "cloche: the command is an empty string\n")

    def test_long_arguments(self, cloche: Cloche, workspace: Path) -> None:
        """As many and as long ones as the kernel takes for any program; more are an error."""
        many = ["x" * 130] * 10_000
        done = cloche("run", "host", "sh", "-c", "echo $#", "sh", *many, check=True)
        assert done.stdout == "10000\n"
        big = "y" * 131_000
        done = cloche("run", "host", "sh", "-c", "echo ${#1}", "sh", big, check=True)
        assert done.stdout == "131000\n"
        lines = "".join(f"V{number}={'z' * 100_000}\n" for number in range(40))
        (workspace / "env").write_text(lines)
        done = cloche("run", "--env-file", str(workspace / "env"), "host", "true")
        assert done.returncode == 126
        assert done.stderr.endswith(": arguments and environment are too long together\n")
