"""Attacks on a process that enters a running container, by what runs in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.kernel.attacks.conftest import Bundle, Treasure, delete
from tests.runtimes import Runtime, read_spec, wait_until, write_spec

pytestmark = [pytest.mark.needs("root", "busybox", "gcc"), pytest.mark.orphans]
MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]
ALL = ("bounding", "effective", "permitted")


def start(runtime: Runtime, bundle: Path, name: str = "a") -> str:
    """Run a container that stays."""
    id = runtime.id(name)
    runtime("run", "--detach", "--bundle", str(bundle), id, check=True)
    pid = runtime.state(id)["pid"]
    assert pid, "it has ended"
    runtime.note(pid)
    return id


def with_users(bundle: Path) -> None:
    """Give a container users of its own, and its root every capability among them."""
    spec = read_spec(bundle)
    spec["linux"]["namespaces"].append({"type": "user"})
    spec["linux"].update(uidMappings=MAPS, gidMappings=MAPS)
    known = ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE"]
    spec["process"]["capabilities"] = {key: [*known, "CAP_KILL", "CAP_MKNOD"] for key in ALL}
    write_spec(bundle, spec)
    for path in (bundle / "rootfs", *(bundle / "rootfs").rglob("*")):
        os.chown(path, 100000, 100000, follow_symlinks=False)


class Watch:
    """A container that lies in wait for those who enter."""

    def __init__(self, runtime: Runtime, bundle: Path, *arguments: str) -> None:
        self.runtime = runtime
        self.rootfs = bundle / "rootfs"
        self.rootfs.chmod(0o777)
        script = 'exec > /report; /attacker watch /stop "$@"; sleep 1000'
        spec = read_spec(bundle)
        spec["process"]["args"] = ["sh", "-c", script, "sh", *arguments]
        write_spec(bundle, spec)
        self.id = start(runtime, bundle)
        wait_until(lambda: "watching" in self.report())

    def report(self) -> str:
        """Return what it has found so far."""
        path = self.rootfs / "report"
        return path.read_text() if path.exists() else ""

    def end(self) -> str:
        """Have it stop, and return what it has found."""
        (self.rootfs / "stop").touch()
        wait_until(lambda: "seen" in self.report())
        return self.report()


@pytest.mark.parametrize("users", ["the host's", "its own", "its own, cgroups are the host's"])
def test_who_enters_is_closed(runtime: Runtime, bundle: Bundle, users: str) -> None:
    """Until it is the program nobody traces it or opens what it has (CVE-2016-9962).

    Not even root with every capability over the container's own users.
    """
    made = bundle()
    if users.startswith("its own"):
        with_users(made)
    if users.endswith("cgroups are the host's"):
        # All namespaces are joined before the child is there, which still writes its own /proc.
        spec = read_spec(made)
        kept = [entry for entry in spec["linux"]["namespaces"] if entry["type"] != "cgroup"]
        spec["linux"]["namespaces"] = kept
        spec["process"]["oomScoreAdj"] = 500
        write_spec(made, spec)
    watch = Watch(runtime, made)
    for _ in range(25):
        runtime("exec", watch.id, "true", check=True)
    report = watch.end()
    assert "hole" not in report
    assert int(report.split("seen ")[1]) > 0


@pytest.mark.parametrize("users", ["the host's", "its own"])
def test_who_is_built_beside(runtime: Runtime, bundle: Bundle, users: str) -> None:
    """A container that joins another's pid namespace is closed while it is built."""
    watch = Watch(runtime, bundle())
    pid = runtime.state(watch.id)["pid"]
    other = bundle("true", name="other")
    spec = read_spec(other)
    spec["linux"]["namespaces"][0]["path"] = f"/proc/{pid}/ns/pid"
    write_spec(other, spec)
    if users == "its own":
        with_users(other)
    for number in range(15):
        runtime("run", "--bundle", str(other), runtime.id(f"b{number}"), check=True)
    report = watch.end()
    assert "hole" not in report
    assert int(report.split("seen ")[1]) > 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_who_enters_is_killed(runtime: Runtime, bundle: Bundle, number: int) -> None:
    """Whenever it is killed, exec ends, with an error if it wasn't the program yet."""
    watch = Watch(runtime, bundle(), str(int(number)))
    for _ in range(25):
        assert runtime("exec", watch.id, "true", timeout=20).code in (0, 255, 128 + number)
    assert int(watch.end().split("seen ")[1]) > 0
    assert runtime.status(watch.id) == "running"


def test_who_enters_is_stopped(runtime: Runtime, bundle: Bundle) -> None:
    """Who waits for one that was stopped can be interrupted, and takes it along."""
    watch = Watch(runtime, bundle(), str(int(signal.SIGSTOP)))
    argv = runtime.argv("exec", watch.id, "true")
    for _ in range(5):
        with subprocess.Popen(argv, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.terminate()
                assert process.wait(20) in (255, 143)
    watch.end()
    listing = json.loads(runtime("ps", "--format", "json", watch.id, check=True).stdout)
    assert {Path(f"/proc/{pid}/comm").read_text().strip() for pid in listing} <= {"sh", "sleep"}


def test_who_has_entered_is_held(runtime: Runtime, bundle: Bundle) -> None:
    """Who is dead, and traced, can't be waited for; exec can be interrupted even so."""
    made = bundle("sh", "-c", "exec /attacker hold > /report")
    id = start(runtime, made)
    wait_until(lambda: "holding" in (made / "rootfs/report").read_text())
    with subprocess.Popen(runtime.argv("exec", id, "sleep", "0.5")) as process:

        def dead() -> bool:
            """Whether the launcher's child is a zombie."""
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
            for pid in children.split():
                status = Path(f"/proc/{pid}/status").read_text()
                if "Z (zombie)" in status and "sleep" in status:
                    return True
            return False

        wait_until(dead)
        process.terminate()
        assert process.wait(20) == 143
    delete(runtime, id)


class TestWorkingDirectory:
    """`--cwd`, and the spec's (CVE-2024-21626)."""

    LEAK = 'exec 7<"$1"; shift; exec "$@"'

    @pytest.mark.parametrize(
        "place", ["/proc/self/fd/7", "/proc/self/cwd", "/proc/1/cwd", "/proc/thread-self/fd/7"]
    )
    def test_magic_link(
        self, runtime: Runtime, bundle: Bundle, treasure: Treasure, place: str
    ) -> None:
        """A descriptor of the caller's is no working directory, nor by a link of the image's."""
        made = bundle("sh", "-c", "cat file; ls ..")
        (made / "rootfs/link").symlink_to(place)
        leak = ["sh", "-c", self.LEAK, "sh", str(treasure.path)]
        for number, path in enumerate((place, "/link", f"{place}/..", "/link/../..")):
            spec = read_spec(made)
            spec["process"]["cwd"] = path
            write_spec(made, spec)
            argv = runtime.argv("run", "--bundle", str(made), runtime.id(str(number)))
            done = subprocess.run([*leak, *argv], capture_output=True, text=True, check=False)
            assert "treasure" not in done.stdout
            assert "tmp" not in done.stdout
        made = bundle("sleep", "1000", name="sleeper")
        (made / "rootfs/link").symlink_to(place)
        id = start(runtime, made)
        for path in (place, "/link", f"{place}/..", "/link/../.."):
            argv = runtime.argv("exec", "--cwd", path, id, "sh", "-c", "cat file; ls ..")
            done = subprocess.run([*leak, *argv], capture_output=True, text=True, check=False)
            assert "treasure" not in done.stdout
            assert "tmp" not in done.stdout

    def test_missing(self, runtime: Runtime, bundle: Bundle, treasure: Treasure) -> None:
        """One that has to be made isn't made outside (CVE-2024-45310)."""
        made = bundle("sleep", "1000")
        (made / "rootfs/out").symlink_to(f"../../../..{treasure.path}")
        (made / "rootfs/absolute").symlink_to(treasure.path)
        id = start(runtime, made)
        for path in ("/out/new", "/absolute/new", "/../../../../.." + str(treasure.path / "new")):
            runtime("exec", "--cwd", path, id, "true")
        assert treasure.is_safe


def test_descriptors_of_the_caller(runtime: Runtime, bundle: Bundle, treasure: Treasure) -> None:
    """None is open in the program, but those that were asked for, and these must be open."""
    id = start(runtime, bundle("sleep", "1000"))
    leak = ["sh", "-c", 'exec 3<"$1" 4<"$1" 9<"$1"; shift; exec "$@"', "sh", str(treasure.path)]
    script = "for fd in $(/bin/busybox seq 0 20); do [ -e /proc/$$/fd/$fd ] && echo $fd; done"

    def descriptors(*options: str, before: list[str]) -> list[str]:
        argv = [*before, *runtime.argv("exec", *options, id, "sh", "-c", script)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.stdout.split()

    assert descriptors(before=leak) == ["0", "1", "2"]
    assert descriptors("--preserve-fds", "1", before=leak) == ["0", "1", "2", "3"]
    # Not a descriptor that the runtime happens to have there.
    for count in range(1, 12):
        assert descriptors("--preserve-fds", str(count), before=[]) == []


@pytest.mark.parametrize(
    "user",
    [
        "-1",
        "4294967295",
        "4294967296",
        "0x0",
        "1:",
        ":1",
        "root",
        "1:-1",
        " 1",
        "1 ",
        "+1",
        "1:2:3",
        "",
        "\u0661",
        "9" * 5000,
    ],
)
def test_user_that_is_no_number(runtime: Runtime, bundle: Bundle, user: str) -> None:
    """Nobody becomes root by a user that means none (CVE-2026-30892)."""
    id = start(runtime, bundle("sleep", "1000", user={"uid": 7, "gid": 7}))
    done = runtime("exec", "--user", user, id, "id", "-u")
    assert "Traceback" not in done.stderr
    assert (done.code, done.stdout) == ((0, "7\n") if user == "" else (255, ""))


def test_user_without_group(runtime: Runtime, bundle: Bundle) -> None:
    """A user alone leaves the group as it is."""
    id = start(runtime, bundle("sleep", "1000", user={"uid": 7, "gid": 8}))
    assert runtime("exec", "--user", "1", id, "id").stdout.startswith("uid=1 gid=8")
    assert runtime("exec", "--user", "1:2", id, "id").stdout.startswith("uid=1 gid=2")


def test_capabilities(runtime: Runtime, bundle: Bundle) -> None:
    """None is inheritable or ambient that nobody has asked for (CVE-2022-29162)."""
    id = start(runtime, bundle("sleep", "1000"))
    for user in ("0", "1000"):
        for options in ((), ("--cap", "CAP_NET_RAW")):
            script = "while read name value; do case $name in Cap*) echo $name $value;; esac; done"
            command = ("sh", "-c", f"{script} < /proc/self/status")
            done = runtime("exec", "--user", user, *options, id, *command, check=True)
            found = {line.split()[0]: int(line.split()[1], 16) for line in done.stdout.splitlines()}
            assert (found["CapInh:"], found["CapAmb:"]) == (0, 0)
            assert found["CapBnd:"] & (1 << 21) == 0
            assert bool(found["CapEff:"]) == (user == "0")


class TestHostileRoot:
    """A container that has put its own things in the places that exec looks at."""

    SCRIPTS = {
        "no proc": "umount -l /proc",
        "tmpfs on proc": "mount -t tmpfs tmpfs /proc; mkdir -p /proc/self /proc/thread-self/attr;"
        " echo x > /proc/self/oom_score_adj; touch /proc/thread-self/attr/exec",
        "own file in proc": "touch /fake; mount -o bind /fake /proc/1/oom_score_adj;"
        " mount -o bind /fake /proc/self/oom_score_adj",
        "part of proc": "mount -o bind /proc/sys /proc",
        "tmpfs on root": "mount -t tmpfs tmpfs /; mkdir /proc",
        "no devices": "mount -t tmpfs tmpfs /dev",
        "tmpfs on pts": "mount -t tmpfs tmpfs /dev/pts; touch /dev/pts/ptmx",
        "link to pts": "umount -l /dev/pts; mkdir /p; mount -t devpts devpts /p;"
        " rm -r /dev/pts; ln -s /p /dev/pts",
    }

    @pytest.mark.parametrize("script", SCRIPTS)
    def test_mounts(self, runtime: Runtime, bundle: Bundle, script: str) -> None:
        """Exec works, or says what is wrong; nothing of the host is reached or changed."""
        made = bundle("sh", "-c", f"{self.SCRIPTS[script]}; echo up > /up; sleep 1000")
        spec = read_spec(made)
        admin = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_KILL"]
        spec["process"]["capabilities"] = dict.fromkeys(ALL, admin)
        spec["process"]["oomScoreAdj"] = 500
        for applet in ("umount", "rm", "ln"):
            (made / "rootfs/bin" / applet).symlink_to("busybox")
        write_spec(made, spec)
        id = start(runtime, made)
        pid = runtime.state(id)["pid"]
        wait_until(lambda: Path(f"/proc/{pid}/root/up").exists() or (made / "rootfs/up").exists())
        own = Path("/proc/self/oom_score_adj").read_text()
        for options in ((), ("--tty",)):
            done = runtime("exec", *options, id, "/bin/sh", "-c", "echo ran", timeout=20)
            assert done.code in (0, 255)
            assert (done.stdout.strip() == "ran") == (done.code == 0)
            assert done.code == 0 or done.stderr.startswith("cloche: ")
        assert Path("/proc/self/oom_score_adj").read_text() == own

    def test_program_is_the_launcher(self, runtime: Runtime, bundle: Bundle) -> None:
        """A script whose interpreter is /proc/self/exe changes nothing of it (CVE-2019-5736)."""
        made = bundle("sleep", "1000")
        script = made / "rootfs/bin/trap"
        script.write_text("#!/proc/self/exe\n")
        script.chmod(0o755)
        id = start(runtime, made)
        for program in ("trap", "/proc/self/exe"):
            done = runtime("exec", id, program, "3", "4")
            assert done.code == 125
            assert done.stderr.startswith("cloche-launch: ")
        for path in ("/proc/self/exe", "/proc/1/exe"):
            assert runtime("exec", id, "/attacker", "overwrite", path).stdout.count(" ok") == 0

    def test_unreachable_first_process(self, runtime: Runtime, bundle: Bundle) -> None:
        """A first process in namespaces that it has made itself takes exec there, not further."""
        script = "exec /attacker in-userns watch /stop > /report"
        # A map of root's own id takes that capability (user_namespaces(7)).
        sets = {key: ["CAP_SETFCAP"] for key in ALL}
        made = bundle("sh", "-c", script, capabilities=sets)
        id = start(runtime, made)
        wait_until(lambda: "watching" in (made / "rootfs/report").read_text())
        done = runtime("exec", id, "sh", "-c", "echo ran")
        assert done.code in (0, 255)


def test_processes_are_used_up(runtime: Runtime, bundle: Bundle) -> None:
    """With pids.max reached exec works or says so, and leaves nothing."""
    made = bundle("sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000 & echo up > /up; wait")
    spec = read_spec(made)
    spec["linux"]["resources"] = {"pids": {"limit": 4}}
    write_spec(made, spec)
    id = start(runtime, made)
    wait_until((made / "rootfs/up").exists)
    for _ in range(3):
        assert runtime("exec", id, "true", timeout=20).code in (0, 255)
    listing = json.loads(runtime("ps", "--format", "json", id, check=True).stdout)
    assert len(listing) == 4
    assert os.waitpid(-1, os.WNOHANG)[0] in (0, *listing)
