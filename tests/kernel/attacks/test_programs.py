"""Attacks on the engine's own program, and on what it knows, from inside a container."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Cloche
from tests.kernel.attacks.conftest import Attack, Treasure

pytestmark = pytest.mark.needs("userns", "gcc")
BOTH = pytest.mark.parametrize("who", ["cloche", "unprivileged"])


@pytest.fixture
def run(who: str, request: pytest.FixtureRequest) -> Cloche:
    """The command as one of the users that a test is repeated for."""
    return request.getfixturevalue(who)  # type: ignore[no-any-return]


def installed(cloche: Cloche) -> dict[str, str]:
    """Return the digest of each file of the engine."""
    script = "import cloche, os; print(os.path.dirname(cloche.__file__))"
    python = cloche.executable.with_name("python")
    package = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True)
    files = [cloche.executable, *Path(package.stdout.strip()).glob("cloche-launch")]
    assert len(files) == 2
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@BOTH
class TestOverwrite:
    """The launcher's executable, which PID 1 begins as (CVE-2019-5736)."""

    @pytest.mark.parametrize("options", [(), ("--init",)])
    @pytest.mark.parametrize("path", ["/proc/self/exe", "/proc/1/exe"])
    def test_magic_link(
        self, run: Cloche, attack: Attack, path: str, options: tuple[str, ...]
    ) -> None:
        """It can't be opened for writing through /proc, as it runs."""
        before = installed(run)
        lines = attack(run, f"overwrite {path}", *options)
        assert lines
        assert not any(line.endswith(" ok") for line in lines)
        assert installed(run) == before
        assert run("run", "host", "echo", "well", check=True).stdout == "well\n"

    def test_after_its_end(self, run: Cloche, attacker: Path) -> None:
        """A descriptor of it that is kept until it has ended is of no use: it is sealed.

        The launcher runs in the container as a program that the container has started.
        """
        before = installed(run)
        # The copy runs (and prints its usage) from /proc/1/exe, then it is over.
        script = "exec 9</proc/1/exe; /proc/self/fd/9; /attacker overwrite /proc/self/fd/9"
        volume = f"{attacker}:/attacker:ro"
        done = run("run", "--init", "-v", volume, "host", "sh", "-c", script)
        assert "usage: cloche-launch" in done.stderr
        assert " ok" not in done.stdout
        assert installed(run) == before

    @pytest.mark.parametrize("options", [(), ("--init",)])
    def test_as_entry_point(self, run: Cloche, workspace: Path, options: tuple[str, ...]) -> None:
        """To be started as the container's own program makes it print its usage."""
        script = workspace / "script"
        script.write_text("#!/proc/self/exe\n")
        script.chmod(0o755)
        volume = f"{script}:/script"
        for program in ("/proc/self/exe", "/script"):
            done = run("run", *options, "-v", volume, "host", program, "3", "4")
            assert done.returncode == 125
            assert done.stderr.startswith("cloche-launch: ")


@BOTH
class TestSecrets:
    """What the launcher knows and the container shall not."""

    @pytest.mark.parametrize("options", [(), ("--init",)])
    def test_environment(self, run: Cloche, options: tuple[str, ...]) -> None:
        """The caller's environment is nowhere in /proc."""
        script = "cat /proc/*/environ /proc/*/cmdline | tr '\\0' '\\n'; env"
        done = run("run", *options, "host", "sh", "-c", script, env={"TOKEN": "hidden-token"})
        assert "hidden-token" not in done.stdout
        assert "CLOCHE_STATE" not in done.stdout

    def test_memory_of_init(self, run: Cloche, attack: Attack) -> None:
        """The init has forgotten the plan and the environment, though its memory can be read."""
        assert attack(run, "memory 1 cloche-launch", "--init") == ["read found"]
        for needle in ("CLOCHE_STATE=", "HOSTNAME=needle"):
            options = ("--init", "--hostname", "needle")
            assert attack(run, f"memory 1 {needle}", *options) == ["read clean"]

    @pytest.mark.parametrize("options", [(), ("--init",)])
    def test_descriptors(self, run: Cloche, options: tuple[str, ...]) -> None:
        """Neither plan, records, baton nor lock are open in a process of the container."""
        script = "ls -l /proc/[0-9]*/fd | sed -n 's/.* -> //p' | sort -u"
        done = run("run", *options, "host", "sh", "-c", script, check=True)
        kinds = {line.split(":")[0] for line in done.stdout.splitlines()}
        assert {kind for kind in kinds if not kind.startswith("/proc")} <= {"/dev/null", "pipe"}

    def test_state_is_not_there(self, run: Cloche) -> None:
        """The directory with what is known of containers can't be reached."""
        state = str(run.state)
        done = run("run", "host", "sh", "-c", f"ls {state} /run /run/cloche /var/lib/cloche")
        assert done.stdout.split() == ["/run:"]


@pytest.mark.parametrize("who", ["cloche", "unprivileged"])
def test_leaked_descriptors(run: Cloche, treasure: Treasure) -> None:
    """What the caller's shell has open isn't open in the container (CVE-2024-21626)."""
    directory = treasure.path
    command = "cat /proc/self/fd/7/file; ls /proc/self/fd; cat /proc/*/cwd/file"
    leaking = 'exec 7<"$1" 8<"$1/file" 9<>"$1/file"; shift; exec "$@"'
    argv = ["sh", "-c", leaking, "sh", str(directory), str(run.executable), "run"]
    done = run.run([*argv, "host", "sh", "-c", command])
    assert set(done.stdout.split()) <= {"0", "1", "2", "3"}
    for place in ("/proc/self/fd/7", "/proc/self/cwd", "/proc/1/cwd"):
        done = run.run([*argv, "-w", place, "host", "pwd"])
        assert (done.returncode, done.stdout) == (125, "")
    done = run.run([*argv, "host", "/proc/self/fd/8"])
    assert done.returncode in (126, 127)


@pytest.mark.parametrize("who", ["cloche", "unprivileged"])
def test_working_directory_that_is_a_link_of_proc(run: Cloche, workspace: Path) -> None:
    """A link in a volume to a descriptor of the launcher is no working directory."""
    for name, target in (("fd", "/proc/self/fd/4"), ("cwd", "/proc/self/cwd"), ("up", "../../..")):
        (workspace / name).symlink_to(target)
        done = run("run", "-v", f"{workspace}:/v", "-w", f"/v/{name}", "host", "pwd")
        assert (done.returncode, done.stdout) in {(125, ""), (0, "/\n")}


@pytest.mark.needs("root")
@pytest.mark.parametrize("options", [("--pid", "host"), ("--pid", "host", "--init")])
def test_launcher_among_the_hosts_processes(
    cloche: Cloche, attack: Attack, options: tuple[str, ...]
) -> None:
    """Where the host's processes are seen, what they hold is closed even so."""
    if "--init" in options:
        assert cloche("run", *options, "host", "true").returncode == 125
        return
    for pid in (1, os.getpid()):
        lines = attack(cloche, f"process {pid}", *options, "--security-opt", "seccomp=unconfined")
        assert [line for line in lines if line.endswith(" ok")] == ["signal ok"]


def test_launcher_of_an_ordinary_user(unprivileged: Cloche, attacker: Path) -> None:
    """A container among the processes of its user can't look into them either."""
    volume = f"{attacker}:/attacker:ro"
    script = (
        "for pid in $(ls /proc | grep '^[0-9]'); do"
        " grep -qx cloche-host /proc/$pid/comm && /attacker process $pid; done 2>/dev/null"
    )
    done = unprivileged("run", "--pid", "host", "-v", volume, "host", "sh", "-c", script)
    found = {line for line in done.stdout.splitlines() if line.endswith(" ok")}
    assert found <= {"signal ok"}
    assert "environ EACCES" in done.stdout


@pytest.mark.orphans
@pytest.mark.needs("root")
def test_death_signal_that_was_cleared(cloche: Cloche) -> None:
    """Who clears its parent death signal outlives a killed launcher only until the next start."""
    clear = (
        "import ctypes, time; ctypes.CDLL(None).prctl(1, 0); print(1, flush=True); time.sleep(99)"
    )
    argv = [str(cloche.executable), "run", "host", "python3", "-c", clear]
    with cloche.start(argv) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    cloche("run", "host", "true", check=True)
    listing = subprocess.run(["ps", "ax", "-o", "args"], capture_output=True, text=True, check=True)
    assert "ctypes.CDLL(None).prctl" not in listing.stdout
