"""Attacks on the wall of privileges: system calls, capabilities, setuid programs, keys."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.conftest import Cloche
from tests.kernel.attacks.conftest import Attack, Treasure

pytestmark = pytest.mark.needs("userns", "gcc")
BOTH = pytest.mark.parametrize("who", ["cloche", "unprivileged"])
ROOT = pytest.mark.needs("root")
X86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64's other entries")
UNCONFINED = ("--security-opt", "seccomp=unconfined")
NEWUSER, NEWNS = 0x10000000, 0x20000


@pytest.fixture
def run(who: str, request: pytest.FixtureRequest) -> Cloche:
    """The command as one of the users that a test is repeated for."""
    return request.getfixturevalue(who)  # type: ignore[no-any-return]


@BOTH
@X86_64
@pytest.mark.parametrize(
    "command",
    [
        "call 165",  # mount
        f"call 272 {NEWUSER}",  # unshare
        f"call 56 {NEWUSER}",  # clone
        f"call 56 {NEWUSER | 1 << 40}",  # with bits that the kernel drops
        f"clone3 {NEWUSER}",
        "call 250 3",  # keyctl
        "call 248 1 1",  # add_key
        "call 425 8",  # io_uring_setup
        "call 321 0",  # bpf
        "call 323 0",  # userfaultfd
        "call 246",  # kexec_load
        "call 41 38 5 0",  # socket, AF_ALG
        "call 41 40 1 0",  # socket, AF_VSOCK
        f"call 41 {40 | 1 << 32} 1 0",  # of which the kernel drops the upper half
        "call 304 0 0 0",  # open_by_handle_at
        "call 135 0x0400000",  # personality, READ_IMPLIES_EXEC
        "call 428 0 0 1",  # open_tree
        "call 430 0 0",  # fsopen
        "call 442",  # mount_setattr
        "call 0x400000a5",  # mount, by x32
        f"call {0x40000000 | 272} {NEWUSER}",  # unshare, by x32
        "int80 21",  # mount, by i386
        f"int80 310 {NEWUSER}",  # unshare, by i386
        f"int80 120 {NEWUSER}",  # clone, by i386
        "int80 288 3 0",  # keyctl, by i386
        "int80 359 40 1",  # socket, AF_VSOCK, by i386
        "int80 357 0",  # bpf, by i386
        "int80 342 0 0",  # open_by_handle_at, by i386
    ],
)
def test_system_call_that_is_filtered(run: Cloche, attack: Attack, command: str) -> None:
    """Whichever way it is asked for, the kernel isn't reached."""
    assert attack(run, command) in (["EPERM"], ["ENOSYS"])
    privileges = ("--cap-drop", "all", "--security-opt", "no-new-privileges")
    assert attack(run, command, *privileges) in (["EPERM"], ["ENOSYS"])


@BOTH
@pytest.mark.parametrize(
    "command",
    [
        "mount proc proc /tmp/proc",
        "mount sysfs sysfs /tmp/sys",
        "umount /proc/keys",
        "umount /proc/sys",
        "umount /sys/firmware",
        "umount /dev",
        "remount /proc/sys",
        "remount /sys",
        "remount /sys/fs/cgroup",
        "node b 254 0",
        "handle /etc/hosts",
        "write /proc/sys/kernel/core_pattern |/bad",
        "write /proc/sys/vm/drop_caches 1",
    ],
)
def test_as_root_of_a_namespace_within(run: Cloche, attack: Attack, command: str) -> None:
    """Where no filter stands in the way, a user namespace within opens nothing either.

    Its mounts are locked together: nothing that hides something can be taken off, and no fresh
    /proc or /sys is given to who doesn't see all of the present one.
    """
    (answer,) = attack(run, f"in-userns {command}", *UNCONFINED)
    assert answer.split()[-1] in {"EPERM", "EINVAL", "EROFS", "EACCES", "EBUSY"}


@BOTH
def test_keys_of_the_caller(run: Cloche, attacker: Path) -> None:
    """The session keyring inside is another one, and empty, even without a filter."""
    volume = f"{attacker}:/attacker:ro"
    describe = "import ctypes; print(ctypes.CDLL(None).syscall(250, 0, -3, 0))"
    outside = run.run(["python3", "-c", describe]).stdout
    inside = run("run", *UNCONFINED, "-v", volume, "host", "python3", "-c", describe).stdout
    assert int(inside) > 0
    assert inside != outside


@BOTH
class TestSetuid:
    """Programs that run as their owner."""

    @pytest.fixture
    def setuid(self, attacker: Path, workspace: Path) -> Path:
        """A program of uid 0 with the set-user-ID bit."""
        program = workspace / "setuid"
        shutil.copy(attacker, program)
        program.chmod(0o4755)
        return program

    @pytest.mark.needs("root")
    def test_no_new_privileges(self, run: Cloche, setuid: Path) -> None:
        """They gain nothing where that is asked for."""
        user = ("-u", "0") if run.user else ("-u", "12345")
        options = ("--security-opt", "no-new-privileges", "-v", f"{setuid}:/setuid")
        done = run("run", *options, *user, "host", "/setuid", "ids", check=True)
        real, effective = done.stdout.split()
        assert real == effective

    def test_bounding_set(self, run: Cloche) -> None:
        """They gain no capability that the container wasn't given."""
        script = "grep -E 'Cap(Bnd|Inh|Amb)' /proc/self/status | cut -f2"
        done = run("run", "--cap-drop", "all", "host", "sh", "-c", script, check=True)
        assert {int(line, 16) for line in done.stdout.split()} == {0}


@ROOT
def test_made_inside_a_setuid_program_is_no_help_outside(cloche: Cloche, attacker: Path) -> None:
    """What root makes set-user-ID inside isn't reached by users of the host (CVE-2021-41091).

    The files of /etc that are made for a container are the host's, owned by its root.
    """
    script = "cat /attacker > /etc/hosts; chmod 4755 /etc/hosts; echo made; read wait"
    argv = [
        str(cloche.executable),
        *("run", "-i", "-v", f"{attacker}:/attacker:ro", "host", "sh", "-c", script),
    ]
    with cloche.start(argv, stdin=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        (hosts,) = cloche.state.glob("containers/*/hosts")
        assert hosts.stat().st_mode & 0o4000
        # By a shell: setpriv itself still has root's capabilities when it looks the program up.
        become = ["setpriv", "--reuid=65533", "--regid=65533", "--clear-groups"]
        other = cloche.run([*become, "sh", "-c", f"{hosts} ids"])
        process.communicate("\n", timeout=20)
    assert other.stdout == ""
    assert "Permission denied" in other.stderr


@pytest.mark.parametrize("who", ["unprivileged", "subordinate"])
@pytest.mark.needs("root", "subuid")
def test_files_of_others(run: Cloche, workspace: Path) -> None:
    """Root of an ordinary user's container reads and writes what that user may, no more."""
    closed = workspace / "closed"
    closed.write_text("of root")
    closed.chmod(0o600)
    script = "id -u; cat /v/closed; echo x >> /v/closed; chmod 777 /v/closed; chown 0 /v/closed"
    done = run("run", "-v", f"{workspace}:/v", "host", "sh", "-c", script)
    assert done.stdout == "0\n"
    assert closed.read_text() == "of root"
    assert closed.stat().st_mode & 0o7777 == 0o600
    done = run(
        "run", "-v", "/etc:/v", "host", "sh", "-c", "cat /v/shadow /v/gshadow; ls /v/ssl/private"
    )
    assert done.stdout == ""


@ROOT
class TestPrivateUsers:
    """`--userns private`: root inside is nobody outside, even with every capability."""

    OPTIONS = ("--userns", "private", "--cap-add", "all", *UNCONFINED)

    def test_files(self, cloche: Cloche, treasure: Treasure, workspace: Path) -> None:
        """What is made on a volume belongs to an id that nobody on the host has."""
        open_place = workspace / "open"
        open_place.mkdir()
        open_place.chmod(0o777)
        (treasure.path / "file").chmod(0o600)
        script = "cp /bin/id /v/open/id; chmod 4755 /v/open/id; echo x >> /v/treasure/file"
        options = (*self.OPTIONS, "-v", f"{workspace}:/v")
        cloche("run", *options, "host", "sh", "-c", script)
        assert (open_place / "id").stat().st_uid >= 100_000
        (treasure.path / "file").chmod(0o666)

    @pytest.mark.parametrize(
        "script",
        [
            "umount /proc/sys; echo '|/bad' > /proc/sys/kernel/core_pattern",
            "umount /proc/sys; echo 1 > /proc/sys/vm/drop_caches",
            "mount -o remount,rw,bind /sys; echo 1 > /sys/kernel/profiling",
            "mount -t cgroup -o memory x /mnt; echo 9999999999 > /mnt/memory.limit_in_bytes",
            "mount -t cgroup -o memory x /mnt; echo /bad > /mnt/release_agent",
            "mount -t cgroup -o devices x /mnt; echo a > /mnt/devices.allow",
            "mount -t cgroup -o pids x /mnt; echo max > /mnt/pids.max",
            "mknod /tmp/disk b 254 0 && cat /tmp/disk",
            "mount -t devtmpfs x /mnt && cat /mnt/vda",
            "mount -t ext4 /dev/vda /mnt",
            "dmesg --clear",
            "date -s 2001-01-01 > /dev/null",
            "cat /proc/kcore",
            "chroot /proc/1/root cat /etc/shadow",
            "nsenter --target 1 --mount cat /root/.profile",
            "swapoff -a; modprobe loop; echo b > /proc/sysrq-trigger",
        ],
    )
    def test_kernel(self, cloche: Cloche, script: str) -> None:
        """Not even with all that can be taken off taken off is the kernel at its command."""
        pattern = Path("/proc/sys/kernel/core_pattern").read_text()
        limits = ("-m", "64m", "--pids-limit", "50")
        done = cloche("run", *self.OPTIONS, *limits, "host", "sh", "-c", f"{script}; exit $?")
        assert done.returncode != 0
        assert done.stdout == ""
        assert Path("/proc/sys/kernel/core_pattern").read_text() == pattern
