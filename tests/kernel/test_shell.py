"""The shell script of a plan builds the same container as the launcher."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import Cloche

pytestmark = pytest.mark.needs("unshare", "nsenter", "setpriv", "prlimit", "ip")
BOTH = pytest.mark.parametrize("who", ["cloche", "unprivileged", "subordinate"])

PROBES = {
    # Without the ids of mounts and devices, which count up.
    "mounts": "sed 's/^[0-9]* [0-9]* [0-9]*:[0-9]* //' /proc/self/mountinfo",
    "namespaces": "for kind in /proc/self/ns/*; do readlink $kind; done",
    # Not SigIgn: what a shell finds ignored it can't reset, and make(1) ignores signals 32 and 33.
    "status": "grep -E '^(Uid|Gid|Groups|Cap.*|NoNewPrivs|Umask|SigBlk):' /proc/self/status",
    "limits": "cat /proc/self/limits /proc/self/oom_score_adj",
    "ids": "cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups",
    "names": "hostname; cat /proc/sys/kernel/domainname",
    "directory": "pwd; stat -c '%a %u:%g' .",
    "environment": "env | grep -v '^SHLVL=' | sort",
    "descriptors": "ls /proc/self/fd",
    "devices": "ls -lan --time-style=+ /dev",
    "network": "tail -n +3 /proc/net/dev | cut -d: -f1; ls -A /sys/class/net; ip -brief address",
    "cgroups": "cat /proc/self/cgroup; cd /sys/fs/cgroup; cat */memory.limit_in_bytes memory.max "
    "*/pids.max pids.max */cpu.cfs_quota_us cpu.max */devices.list */memory.swappiness 2>&1",
    "hidden": "head -c 9 /proc/timer_list /proc/kcore /proc/scsi 2>&1;"
    " ls -A /sys/firmware /proc/acpi 2>&1",
    "read-only": "for path in /proc/sys/kernel/core_pattern /proc/sysrq-trigger /sys/x /x; do"
    " : >>$path; done 2>&1; rm -f /x",
    "personality": "cat /proc/self/personality; uname -m; cat /proc/sys/net/ipv4/ip_forward",
}
"""What is looked at inside, by name, each with the command that shows it."""


def probe() -> str:
    """Return one command that runs all probes."""
    return "\n".join(f"echo '== {name}'; ({command})" for name, command in PROBES.items())


def sections(output: str) -> dict[str, str]:
    """Take the output of the probes apart; ids of containers and host namespaces get names."""
    output = re.sub(r"\b[0-9a-f]{64}\b", "ID", output)
    for name in os.listdir("/proc/self/ns"):
        output = output.replace(os.readlink(f"/proc/self/ns/{name}"), f"{name} of the host")
    output = re.sub(r"\b(\w+):\[\d+\]", r"\1 of its own", output)
    parts = output.split("== ")[1:]
    return {name: text for name, _, text in (part.partition("\n") for part in parts)}


def script_of(run: Cloche, workspace: Path, *options: str) -> Path:
    """Write the script of ``cloche run OPTIONS``."""
    path = workspace / "container.sh"
    path.write_text(run("explain", "--format", "shell", "run", *options, check=True).stdout)
    return path


def both(run: Cloche, workspace: Path, *options: str) -> tuple[dict[str, str], dict[str, str]]:
    """Run the probes in a container of the launcher and in one of the script."""
    options = ("--hostname", "bell", *options, "sh", "-c", probe())
    real = run("run", *options, check=True)
    script = run.run(["bash", str(script_of(run, workspace, *options))], check=True)
    assert script.stderr == real.stderr
    return sections(script.stdout), sections(real.stdout)


@BOTH
@pytest.mark.needs("userns", "overlay")
@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--user", "0:0", "--cap-drop", "all", "--security-opt", "no-new-privileges"),
        (
            "--read-only",
            "--tmpfs",
            "/scratch:size=1m",
            "--ulimit",
            "nofile=100:200",
            "--shm-size",
            "1m",
        ),
        ("--env", "A=b c'\"$x\\", "--env", "B-C=1", "--env", "TMOUT=1", "--workdir", "/tmp/a b/c"),
        ("--network", "host", "--uts", "private", "--cgroupns", "host"),
        ("--security-opt", "systempaths=unconfined", "--volume", "/etc:/mnt/on host:ro"),
    ],
    ids=["plain", "powerless", "read-only", "environment", "host", "open"],
)
def test_same(
    who: str,
    options: tuple[str, ...],
    workspace: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Script and launcher build the same walls, for root and for ordinary users."""
    shell, real = both(request.getfixturevalue(who), workspace, *options, "host")
    assert real.keys() == PROBES.keys()
    assert shell == real


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    "options",
    [
        ("--memory", "64m", "--cpus", "0.5", "--pids-limit", "40", "--memory-swappiness", "5"),
        (
            "--user",
            "1000:1001",
            "--group-add",
            "7",
            "--cap-add",
            "net_admin",
            "--oom-score-adj",
            "500",
        ),
        (
            "--device",
            "/dev/full:/dev/a b:r",
            "--domainname",
            "dom",
            "--sysctl",
            "net.ipv4.ip_forward=1",
        ),
        ("--privileged",),
        ("--pid", "host", "--ipc", "host"),
    ],
    ids=["limits", "user", "device", "privileged", "pid"],
)
def test_same_for_root(cloche: Cloche, options: tuple[str, ...], workspace: Path) -> None:
    """What takes root is the same too."""
    shell, real = both(cloche, workspace, *options, "host")
    assert shell == real


@pytest.mark.needs("root", "busybox")
@pytest.mark.parametrize("suffix", ["", ":O"])
def test_links_stay_in_the_root(cloche: Cloche, suffix: str, workspace: Path) -> None:
    """Mount points that an image's links seem to lead out of it lie inside."""
    root = workspace / "root"
    for name in ("bin", "run"):
        (root / name).mkdir(parents=True)
    outside = workspace / "outside"
    outside.mkdir()
    (root / "var").symlink_to("../../../../..")
    (root / "escape").symlink_to(outside)
    subprocess.run(["cp", "/bin/busybox", f"{root}/bin"], check=True)
    (root / "bin/sh").symlink_to("busybox")
    options = ("--tmpfs", "/escape/there", "--tmpfs", "/var/run", "--rootfs", f"{root}{suffix}")
    command = ("sh", "-c", "busybox cat /proc/self/mountinfo")
    script = script_of(cloche, workspace, *options, *command)
    shell = cloche.run(["bash", str(script)], check=True)
    points = {line.split()[4] for line in shell.stdout.splitlines()}
    assert f"{outside}/there" in points
    assert "/run" in points
    assert list(outside.iterdir()) == []


@BOTH
@pytest.mark.needs("userns")
@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("sh", "-c", "exit 7"), 7),
        (("/nonexistent",), 127),
        (("/etc",), 126),
        (("sh", "-c", "kill -KILL $$; sleep 5"), 137),
    ],
    ids=["exit", "missing", "directory", "killed"],
)
def test_exit_code(
    who: str,
    command: tuple[str, ...],
    code: int,
    workspace: Path,
    request: pytest.FixtureRequest,
) -> None:
    """The script ends as the program does, or says like the launcher why there was none."""
    run = request.getfixturevalue(who)
    # PID 1 can't kill itself, but the shell's parent namespace has another PID 1.
    options = ("--pid", "host") if code == 137 else ()
    script = script_of(run, workspace, *options, "host", *command)
    assert run.run(["bash", str(script)]).returncode == code


@pytest.mark.needs("root")
def test_time_limit(cloche: Cloche, workspace: Path) -> None:
    """A container that lives too long is killed, and nothing of it stays."""
    script = script_of(cloche, workspace, "--timeout", "300ms", "host", "sleep", "30")
    assert cloche.run(["bash", str(script)], timeout=10).returncode == 137


@pytest.mark.needs("root")
def test_streams(cloche: Cloche, workspace: Path) -> None:
    """Input arrives, and output and errors come apart."""
    command = ("-i", "host", "sh", "-c", "cat; echo error >&2")
    path = workspace / "container.sh"
    explained = cloche("explain", "--format", "shell", "run", *command, input="", check=True)
    path.write_text(explained.stdout)
    done = cloche.run(["bash", str(path)], input="typed\n", check=True)
    assert (done.stdout, done.stderr) == ("typed\n", "error\n")


@pytest.mark.needs("root")
def test_signal(cloche: Cloche, workspace: Path) -> None:
    """A signal to the script reaches the program."""
    command = "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"
    script = script_of(cloche, workspace, "host", "sh", "-c", command)
    with cloche.start(["bash", str(script)]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        process.terminate()
        assert process.wait(timeout=10) == 9


@pytest.mark.needs("root")
@pytest.mark.orphans
def test_failure_undoes(cloche: Cloche, workspace: Path) -> None:
    """A step that fails ends the script with 125, and what was made before is gone."""
    source = workspace / "source"
    source.mkdir()
    script = script_of(cloche, workspace, "--volume", f"{source}:/mnt", "host", "true")
    source.rmdir()
    done = cloche.run(["bash", str(script)])
    assert done.returncode == 125
    assert str(source) in done.stderr
    assert list((cloche.state / "containers").iterdir()) == []
