"""Attacks by a container on another one, or on the host's processes beside it."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Cloche
from tests.kernel.attacks.conftest import Attack, Treasure

pytestmark = pytest.mark.needs("userns", "gcc")
BOTH = pytest.mark.parametrize("who", ["cloche", "unprivileged"])
STARTS = 25


@pytest.fixture
def run(who: str, request: pytest.FixtureRequest) -> Cloche:
    """The command as one of the users that a test is repeated for."""
    return request.getfixturevalue(who)  # type: ignore[no-any-return]


class Swapper:
    """A container that has the directory of another one as a volume and swaps names in it."""

    def __init__(self, cloche: Cloche, directory: Path, attacker: Path) -> None:
        self._options = ("-v", f"{directory}:/shared", "-v", f"{attacker}:/attacker:ro")
        self._cloche = cloche
        self._process: subprocess.Popen[str] | None = None

    def start(self, one: str, other: str) -> None:
        """Begin to swap, and return when it has begun."""
        swap = ("/attacker", "swap", f"/shared/{one}", f"/shared/{other}")
        argv = [str(self._cloche.executable), "run", "--init", *self._options, "host", *swap]
        self._process = self._cloche.start(argv)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "swapping\n"

    def stop(self) -> None:
        """End the container."""
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=20)


@pytest.fixture
def swapper(cloche: Cloche, image: Path, attacker: Path) -> Iterator[Swapper]:
    """A container that swaps names in the image."""
    made = Swapper(cloche, image, attacker)
    yield made
    made.stop()


@pytest.mark.needs("root", "busybox")
class TestRaces:
    """Names that another container swaps while the engine looks and mounts."""

    @pytest.mark.parametrize("name", ["proc", "sys", "dev"])
    def test_mount_point_is_renamed(
        self, cloche: Cloche, image: Path, swapper: Swapper, name: str
    ) -> None:
        """Masks are where the file system is, whatever its mount point is called by then.

        A mount follows its mount point when that is renamed in another mount namespace.
        """
        for directory in (name, "decoy"):
            (image / directory).mkdir()
        swapper.start(name, "decoy")
        script = (
            "exec 2>/dev/null; for place in proc sys decoy; do cd /$place;"
            " ls -A firmware acpi scsi; sh -c 'cat < keys'; sh -c 'cat < timer_list';"
            " echo '|/bad' > sys/kernel/core_pattern; done; true"
        )
        pattern = Path("/proc/sys/kernel/core_pattern").read_text()
        for _ in range(STARTS):
            done = cloche("run", "--rootfs", str(image), "sh", "-c", script)
            words = set(done.stdout.replace(":", " ").split())
            assert words <= {"firmware", "acpi", "scsi"}
        assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern

    @pytest.mark.parametrize("name", ["proc", "sys", "dev", "etc", "tmp", "work/a"])
    def test_directory_becomes_a_link(
        self, cloche: Cloche, image: Path, swapper: Swapper, treasure: Treasure, name: str
    ) -> None:
        """Nothing is made or mounted outside, at whichever moment a directory becomes a link."""
        (image / name).mkdir(parents=True)
        (image / "link").symlink_to(treasure.path)
        swapper.start(name, "link")
        options = ("-w", "/work/a/b/c", "--tmpfs", "/etc/x", "-v", f"{image}/bin:/tmp/y/z")
        for _ in range(STARTS):
            done = cloche(
                "run", *options, "--rootfs", str(image), "sh", "-c", "echo x > /tmp/y/out"
            )
            assert done.returncode in (0, 1, 125, 126, 127)
            assert treasure.is_safe

    def test_source_below_a_volume(
        self, cloche: Cloche, image: Path, swapper: Swapper, treasure: Treasure
    ) -> None:
        """A mount point in another volume, which is swapped there, stays in the container."""
        (image / "volume/inner").mkdir(parents=True)
        (image / "volume/link").symlink_to(treasure.path)
        swapper.start("volume/inner", "volume/link")
        options = ("-v", f"{image}/volume:/v", "--tmpfs", "/v/inner/a/b", "-w", "/v/inner/c")
        for _ in range(STARTS):
            assert cloche("run", *options, "host", "true").returncode in (0, 125)
            assert treasure.is_safe


@BOTH
class TestHost:
    """What of the host's is no file: sockets, queues, processes, names."""

    def test_abstract_socket(self, run: Cloche, attack: Attack) -> None:
        """A socket without a path, as of X11 and D-Bus, is another network's."""
        name = f"cloche-test-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(f"\0{name}")
            listener.listen()
            assert attack(run, f"connect {name}") == ["ECONNREFUSED"]
            assert attack(run, f"connect {name}", "--network", "host") == ["ok"]

    def test_loopback(self, run: Cloche) -> None:
        """What listens on the host's loopback interface isn't reached."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            script = f"import socket; socket.create_connection(('127.0.0.1', {port}), 1)"
            done = run("run", "host", "python3", "-c", script)
        assert "ConnectionRefusedError" in done.stderr

    def test_processes(self, run: Cloche) -> None:
        """No process of the host gets a signal, the launcher included."""
        script = "kill -9 -1 2>/dev/null; kill -9 $PPID 2>/dev/null; echo $PPID; echo alive"
        done = run("run", "host", "sh", "-c", script, check=True)
        assert done.stdout == "0\nalive\n"

    def test_pid_1_cannot_be_killed_from_within(self, run: Cloche) -> None:
        """Nor does PID 1 of the container, by its own."""
        script = "sh -c 'kill -KILL 1; kill -STOP 1; kill -TERM 1'; echo alive"
        for options in ((), ("--init",)):
            done = run("run", *options, "host", "sh", "-c", script)
            assert done.stdout == "alive\n" or (options and done.returncode == 128 + 15)

    def test_names(self, run: Cloche) -> None:
        """No option's text leads out of the place that it is for."""
        for options in (
            ("--name", "../../x"),
            ("--name", ".."),
            ("--name", "a\nb"),
            ("--hostname", "a\n1.2.3.4 host"),
            ("--hostname", "../x"),
            ("--domainname", "a\n1.2.3.4 host"),
            ("--workdir", "../.."),
            ("--cgroup-parent", "../../.."),
            ("--cgroup-parent", "/../x"),
            ("--sysctl", "net/../kernel/core_pattern=x"),
            ("--sysctl", "kernel.core_pattern=x"),
            ("--security-opt", "seccomp=/dev/null"),
        ):
            assert run("run", *options, "host", "true").returncode == 125, options

    def test_environment_is_one_variable(self, run: Cloche) -> None:
        """A line break in a value begins no other variable, nor another line of /etc/hosts."""
        script = "env -0 | tr '\\n\\0' ' \\n' | grep -c '^INJECTED'; grep -c INJECTED /etc/hosts"
        done = run("run", "-e", "A=x\nINJECTED=1", "-w", "/a\nINJECTED", "host", "sh", "-c", script)
        assert done.stdout == "0\n0\n"
