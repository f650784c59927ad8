"""The steps that give up privileges, and those that set what a process keeps over exec."""

from __future__ import annotations

import errno
import os
import platform
import resource
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from cloche.kernel import capabilities, landlock
from cloche.plan import steps
from cloche.plan.steps import HOST, Step
from tests.native.containers import ORDINARY_ID, PROC, Box, make_box
from tests.native.launching import WHY, Launch

pytestmark = pytest.mark.needs("busybox")

NOTHING = steps.capabilities(0, 0, 0, 0, why=WHY)
NET_RAW = capabilities.mask(["CAP_NET_RAW"])
CHOWN = capabilities.mask(["CAP_CHOWN"])
SHOW_CAPABILITIES = "while read name value; do case $name in Cap*) echo $value;; esac; done"


def capability_sets(box: Box, *then: Step) -> list[int]:
    """Return the inheritable, permitted, effective, bounding and ambient set after some steps."""
    done = box.run(PROC, then=then, command=f"{SHOW_CAPABILITIES} < /proc/self/status")
    assert done.failure is None
    return [int(line, 16) for line in done.stdout.split()]


# --- capabilities and identity -----------------------------------------------------------------


def test_capabilities(box: Box) -> None:
    """Root keeps what the bounding set leaves it, whatever else it had."""
    held = NET_RAW | CHOWN
    sets = capability_sets(
        box, steps.bounding_set(held, why=WHY), steps.capabilities(held, held, CHOWN, 0, why=WHY)
    )
    assert sets == [CHOWN, held, held, held, 0]


@pytest.mark.needs("root")
def test_capabilities_of_an_ordinary_user(root_box: Box) -> None:
    """Another user than root keeps the ambient ones over exec, and no others."""
    sets = capability_sets(
        root_box,
        steps.bounding_set(NET_RAW | CHOWN, why=WHY),
        steps.identity(7, 7, (), why=WHY),
        steps.capabilities(CHOWN, NET_RAW | CHOWN, NET_RAW, NET_RAW, why=WHY),
    )
    assert sets == [NET_RAW, NET_RAW, NET_RAW, NET_RAW | CHOWN, NET_RAW]


@pytest.mark.needs("root")
def test_ordinary_user_without_capabilities(root_box: Box) -> None:
    """Nothing is left of root's power to a user who wasn't given any."""
    sets = capability_sets(root_box, steps.identity(7, 7, (), why=WHY), NOTHING)
    assert sets[:3] == [0, 0, 0]
    assert sets[4] == 0


def test_capability_that_is_not_held(box: Box) -> None:
    """What isn't permitted can't be had again, nor become ambient."""
    more = steps.capabilities(CHOWN, CHOWN, 0, 0, why=WHY)
    assert box.run(then=[NOTHING, more]).failure == ("capabilities", "capset", "", errno.EPERM)
    ambient = steps.capabilities(CHOWN, CHOWN, 0, CHOWN, why=WHY)
    done = box.run(then=[ambient])
    assert done.failure == ("capabilities", "PR_CAP_AMBIENT", "", errno.EPERM)


def test_bounding_set_needs_a_capability(box: Box) -> None:
    """A drop that isn't allowed is an error, and one that isn't needed is none."""
    drop = steps.bounding_set(0, why=WHY)
    done = box.run(then=[NOTHING, drop])
    assert done.failure == ("bounding_set", "PR_CAPBSET_DROP", "", errno.EPERM)
    assert box.run(then=[drop, NOTHING, drop]).failure is None


@pytest.mark.needs("root")
def test_identity(root_box: Box) -> None:
    """User, group and additional groups are those of the step, and no others."""
    done = root_box.run(then=[steps.identity(7, 8, (9, 70000), why=WHY)], command="id")
    assert done.stdout == "uid=7 gid=8 groups=9,70000\n"
    done = root_box.run(then=[steps.identity(7, 8, (), why=WHY)], command="id")
    assert done.stdout == "uid=7 gid=8\n"


@pytest.mark.needs("root")
def test_identity_leaves_no_way_back(root_box: Box) -> None:
    """Real, effective, saved and file system ids are all set."""
    show = "while read name values; do case $name in Uid:|Gid:) echo $values;; esac; done"
    done = root_box.run(
        PROC,
        then=[steps.identity(7, 8, (), why=WHY), NOTHING],
        command=f"{show} < /proc/self/status",
    )
    assert done.stdout == "7 7 7 7\n8 8 8 8\n"


@pytest.mark.needs("userns")
def test_identity_that_is_not_mapped(workspace: Path) -> None:
    """Users and groups that a user namespace doesn't know can't be become."""
    box = make_box(workspace, ORDINARY_ID)
    for step, call, error in (
        (steps.identity(0, 0, (), why=WHY), "setgroups", errno.EPERM),
        (steps.identity(0, 1, None, why=WHY), "setresgid", errno.EINVAL),
        (steps.identity(1, 0, None, why=WHY), "setresuid", errno.EINVAL),
    ):
        assert box.run(then=[step]).failure == ("identity", call, "", error)


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 2**32 + 7])
def test_identity_that_is_none(box: Box, number: int) -> None:
    """A number that isn't an id is refused: the kernel would take -1 for "stay who you are"."""
    for uid, gid in ((number, 0), (0, number)):
        done = box.run(then=[steps.identity(uid, gid, None, why=WHY)])
        assert done.failure == ("identity", "setresuid", "", errno.EINVAL)


# --- filters -----------------------------------------------------------------------------------


def test_no_new_privs(box: Box) -> None:
    """The attribute is set and stays."""
    done = box.run(PROC, then=[steps.no_new_privs(why=WHY)], command="cat /proc/self/status")
    assert "NoNewPrivs:\t1\n" in done.stdout


def forbid(*numbers: int, error: int = errno.EDOM, argument: int | None = None) -> bytes:
    """Return a filter that fails system calls (with this first argument only)."""
    load, jump, give = 0x20, 0x15, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ|K, BPF_RET|K
    program = [(load, 0, 0, 0)]
    for number in numbers:
        program += [(jump, 0, 1 if argument is None else 3, number)]
        if argument is not None:
            program += [(load, 0, 0, 16), (jump, 0, 1, argument)]
        program += [(give, 0, 0, 0x0005_0000 | error)]
    program.append((give, 0, 0, 0x7FFF_0000))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in program)


MAKE_DIRECTORY = forbid(*{"x86_64": (83, 258), "aarch64": (34,)}[platform.machine()])


def test_seccomp(box: Box) -> None:
    """A forbidden call fails as the filter says, the others work."""
    done = box.run(
        then=[steps.no_new_privs(why=WHY), steps.seccomp(MAKE_DIRECTORY, 0, why=WHY)],
        command="mkdir /x; echo still here",
    )
    assert done.stdout == "still here\n"
    assert os.strerror(errno.EDOM) in done.stderr


def test_seccomp_needs_a_privilege(box: Box) -> None:
    """Without no_new_privs the filter takes CAP_SYS_ADMIN."""
    step = steps.seccomp(MAKE_DIRECTORY, 0, why=WHY)
    assert box.run(then=[step]).failure is None
    assert box.run(then=[NOTHING, step]).failure == ("seccomp", "seccomp", "", errno.EACCES)


@pytest.mark.parametrize("program", [b"", b"x", MAKE_DIRECTORY[:-3], b"\0" * 8 * 5000])
def test_seccomp_of_a_bad_program(box: Box, program: bytes) -> None:
    """A program that is none is refused."""
    done = box.run(then=[steps.seccomp(program, 0, why=WHY)])
    assert done.failure == ("seccomp", "seccomp", "", errno.EINVAL)


@pytest.fixture
def landlock_abi() -> int:
    """The version of Landlock that this kernel has."""
    abi = landlock.abi()
    if abi < 1:
        pytest.skip("the kernel has no Landlock")
    return abi


def test_landlock(box: Box, landlock_abi: int) -> None:
    """Below a read-only path files are read and executed, below a writable one written."""
    for name in ("open", "closed"):
        (box.image / name).mkdir()
        (box.image / name / "file").write_text("x")
    done = box.run(
        PROC,
        then=[
            steps.no_new_privs(why=WHY),
            steps.landlock(landlock_abi, ("/bin",), ("/open", "/open/file"), why=WHY),
        ],
        command="echo y > /open/file; cat /open/file; ls /open; echo y > /bin/new;"
        "cat /closed/file; ls /closed; cat /proc/version",
    )
    assert done.failure is None
    assert done.stdout == "y\nfile\n"
    assert done.stderr.count("Permission denied") == 4


def test_landlock_of_a_path_that_is_not_there(box: Box, landlock_abi: int) -> None:
    """A rule for nothing is an error that names it."""
    step = steps.landlock(landlock_abi, ("/bin",), ("/no/such",), why=WHY)
    assert box.run(then=[step]).failure == ("landlock", "openat2", "/no/such", errno.ENOENT)


def test_landlock_of_a_later_version(box: Box) -> None:
    """What the kernel can't deny isn't taken for denied."""
    if landlock.abi() >= 5:
        pytest.skip("the kernel knows everything that the launcher does")
    step = steps.landlock(5, ("/",), (), why=WHY)
    done = box.run(then=[step])
    assert done.failure is not None
    assert done.failure[1] == "landlock_create_ruleset"


# --- limits and attributes ---------------------------------------------------------------------


def test_rlimit(box: Box) -> None:
    """Soft and hard limit are set; -1 is no limit, as far as one may."""
    done = box.run(
        then=[
            steps.rlimit(resource.RLIMIT_NOFILE, 100, 200, why=WHY),
            steps.rlimit(resource.RLIMIT_CORE, 0, 0, why=WHY),
        ],
        command="ulimit -n; ulimit -Hn; ulimit -c",
    )
    assert done.stdout == "100\n200\n0\n"


def test_rlimit_can_not_be_raised(box: Box) -> None:
    """Raising a hard limit takes a capability of the host."""
    lower = steps.rlimit(resource.RLIMIT_NOFILE, 100, 100, why=WHY)
    for hard in (101, -1):
        step = steps.rlimit(resource.RLIMIT_NOFILE, 100, hard, why=WHY)
        done = box.run(then=[lower, NOTHING, step])
        assert done.failure == ("rlimit", "prlimit", "", errno.EPERM)


def test_rlimit_from_outside(box: Box) -> None:
    """The host can set the limits of its child, and its own stay as they are."""
    step = steps.rlimit(resource.RLIMIT_NOFILE, 100, 200, why=WHY, stage=HOST)
    assert box.run(then=[step], command="ulimit -n; ulimit -Hn").stdout == "100\n200\n"
    plan = [step, *box.plan(command="ulimit -Hn")]  # there is no child yet
    assert box.launch(plan).failure == ("rlimit", "prlimit", "", errno.ESRCH)


def test_oom_score_adj(box: Box) -> None:
    """The score is set, and one out of range refused."""
    done = box.run(
        PROC,
        then=[steps.oom_score_adj(500, why=WHY)],
        command="cat /proc/self/oom_score_adj",
    )
    assert done.stdout == "500\n"
    # Who may not lower it may still ask for what it is.
    same = [NOTHING, steps.oom_score_adj(500, why=WHY)]
    assert box.run(then=[steps.oom_score_adj(500, why=WHY), *same]).failure is None
    done = box.run(then=[steps.oom_score_adj(-5000, why=WHY)])
    assert done.failure == ("oom_score_adj", "write", "/proc/self/oom_score_adj", errno.EINVAL)


@pytest.mark.needs("root")
def test_oom_score_adj_of_another_user(root_box: Box) -> None:
    """A process that has become another user still reaches its own file."""
    done = root_box.run(
        PROC,
        then=[steps.identity(7, 7, (), why=WHY), NOTHING, steps.oom_score_adj(500, why=WHY)],
        command="cat /proc/self/oom_score_adj",
    )
    assert (done.failure, done.stdout) == (None, "500\n")


def test_label_is_never_written_to_the_image(box: Box) -> None:
    """A file of the image isn't taken for the kernel's (CVE-2019-16884, CVE-2025-52881)."""
    directory = box.image / "proc/thread-self/attr"
    directory.mkdir(parents=True)
    (directory / "exec").write_text("decoy")
    (directory / "exec").chmod(0o666)
    done = box.run(then=[steps.lsm_label("exec", "no such label", why=WHY)])
    # Most machines have no security module that takes this label.
    assert done.failure is not None
    assert done.failure[2] == "/proc/thread-self/attr/exec"
    assert (directory / "exec").read_text() == "decoy"


def test_personality(box: Box) -> None:
    """The execution domain outlasts exec."""
    addr_no_randomize = 0x0040000
    done = box.run(
        PROC,
        then=[steps.personality(addr_no_randomize, why=WHY)],
        command="cat /proc/self/personality",
    )
    assert done.stdout == "00040000\n"


def test_umask(box: Box) -> None:
    """The mask is the one of the step."""
    done = box.run(then=[steps.umask(0o027, why=WHY)], command="umask")
    assert done.stdout == "0027\n"


def test_keyring(box: Box) -> None:
    """The session keyring is a new one, of the name of the step."""
    done = box.run(PROC, then=[steps.keyring("cloche-test", why=WHY)], command="cat /proc/keys")
    assert "cloche-test: empty" in done.stdout


KEYCTL = {"x86_64": 250, "aarch64": 219}[platform.machine()]


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_keyring_where_there_is_none(box: Box, error: int) -> None:
    """Where an outer container's filter refuses keyctl altogether no keyring can be reached."""
    outer = steps.seccomp(forbid(KEYCTL, error=error), 0, why=WHY)
    done = box.run(then=[steps.no_new_privs(why=WHY), outer, steps.keyring("x", why=WHY)])
    assert done.failure is None


@pytest.mark.parametrize("error", [errno.EPERM, errno.EDQUOT])
def test_keyring_that_is_refused(box: Box, error: int) -> None:
    """Where only the new keyring is refused the container would get its starter's."""
    outer = steps.seccomp(forbid(KEYCTL, error=error, argument=1), 0, why=WHY)
    done = box.run(then=[steps.no_new_privs(why=WHY), outer, steps.keyring("x", why=WHY)])
    assert done.failure == ("keyring", "keyctl", "x", error)


def test_session(box: Box) -> None:
    """The process leads a session of its own, whether it did before or not."""
    step = steps.session(why=WHY)
    done = box.run(PROC, then=[step, step], command="cat /proc/1/stat")
    assert done.stdout.split()[5] == "1"


def test_close_fds(box: Box) -> None:
    """No file descriptor that the launcher was started with comes into the container."""
    leaking = ("sh", "-c", 'exec 7< / 9> /dev/null; exec "$@"', "sh")
    command = "ls /proc/1/fd; true"
    done = box.run(PROC, then=[steps.close_fds(3, why=WHY)], command=command, wrapper=leaking)
    assert done.stdout == "0\n1\n2\n"
    done = box.run(PROC, command=command, wrapper=leaking)
    assert done.stdout == "0\n1\n2\n7\n9\n"


@pytest.mark.orphans
def test_parent_death_signal(box: Box) -> None:
    """When the launcher is killed the container dies with it."""
    plan = box.plan(
        then=[steps.parent_death_signal(signal.SIGKILL, why=WHY)], command="echo ready; read line"
    )
    box.own_image()
    pipes = (subprocess.PIPE,) * 3
    launched = Launch(plan, uid=box.other_user, streams=pipes, cwd="/")
    stdout = launched.process.stdout
    assert stdout
    assert stdout.readline() == b"ready\n"
    launched.signal(signal.SIGKILL)
    assert stdout.read() == b"", "the container holds its standard output no more"
    launched.wait()
