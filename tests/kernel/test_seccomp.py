from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cloche.errors import InvalidArgument, InvalidSpec, Unsupported
from cloche.kernel import capabilities, flags, seccomp, syscalls
from cloche.kernel.seccomp import compiler

pytestmark = pytest.mark.needs("libseccomp")

X86_64 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="x86-64's own system calls")
X32_BIT = 0x40000000
CLONE_NEWUSER = flags.CLONE_NEWUSER
NUMBERS = {
    "x86_64": {
        "getpid": 39, "socket": 41, "clone": 56, "personality": 135, "mkdirat": 258, "keyctl": 250,
        "unshare": 272, "mount": 165, "bpf": 321, "ptrace": 101, "chroot": 161,
    },
    "aarch64": {
        "getpid": 172, "socket": 198, "clone": 220, "personality": 92, "mkdirat": 34, "keyctl": 219,
        "unshare": 97, "mount": 40, "bpf": 280, "ptrace": 117, "chroot": 51,
    },
}[os.uname().machine] | {
    "io_uring_setup": 425, "clone3": 435, "close_range": 436, "openat2": 437,
    "from-the-future": 9999,
}  # fmt: skip


def _call(number: int, *arguments: int) -> int:
    """Make a system call with six arguments, as wide as they are; return 0 or its errno."""
    result = syscalls.by_number(number, *(*arguments, 0, 0, 0, 0, 0, 0)[:6])
    return -result if result < 0 else 0


def _filtered(program: bytes, action: Callable[[], list[int]]) -> list[int]:
    """Run an action behind a filter, in a child; a signal that killed it is a negative number."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        syscalls.prctl(flags.PR_SET_NO_NEW_PRIVS, 1)
        syscalls.install_filter(program, seccomp.filter_flags({}))
        os.write(writing, " ".join(str(number) for number in action()).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return [-os.WTERMSIG(status)]
    assert status == 0
    return [int(word) for word in answer.split()]


def _errnos(program: bytes, *calls: tuple[str, int] | str) -> list[int]:
    """Return the errno (0 for success) of each system call, given with its first argument."""

    def action() -> list[int]:
        pairs = [(call, 0) if isinstance(call, str) else call for call in calls]
        return [_call(NUMBERS[name], argument) for name, argument in pairs]

    return _filtered(program, action)


def _profile(*rules: Mapping[str, Any]) -> bytes:
    return compiler.build({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})


@pytest.fixture(scope="module")
def standard() -> bytes:
    """The default profile for Docker's default capabilities."""
    return compiler.build(seccomp.default_profile(capabilities.DEFAULT))


# --- the default profile -------------------------------------------------------------------------


def test_the_default_profile_denies(standard: bytes) -> None:
    """What would reach beyond the container gets EPERM, with every capability of the tests."""
    denied = ("keyctl", "mount", "bpf", "io_uring_setup", ("unshare", CLONE_NEWUSER))
    assert _errnos(standard, *denied) == [errno.EPERM] * len(denied)


def test_the_default_profile_allows_ordinary_work(standard: bytes) -> None:
    """Files, processes, threads and sockets work: a shell pipeline and a TCP connection."""

    def action() -> list[int]:
        done = subprocess.run(
            ["sh", "-c", "ls / | wc -l; exit 7"], capture_output=True, check=False
        )
        with socket.create_server(("127.0.0.1", 0)) as server:
            socket.create_connection(server.getsockname()).close()
        return [done.returncode]

    assert _filtered(standard, action) == [7]


def test_calls_that_do_not_exist_yet_get_enosys(standard: bytes) -> None:
    """As does clone3: the C library then falls back on what it knows."""
    calls = ["from-the-future", "clone3"]
    assert _errnos(standard, *calls) == [errno.ENOSYS] * 2
    assert errno.ENOSYS not in _errnos(standard, "close_range", "openat2")


def test_clone_may_not_make_namespaces(standard: bytes) -> None:
    """Each of the flags alone is refused, an ordinary fork by clone isn't."""
    kinds = [kind for name, kind in flags.NAMESPACE_KINDS.items() if name != "time"]
    calls = [("clone", kind | signal.SIGCHLD) for kind in kinds]
    assert _errnos(standard, *calls) == [errno.EPERM] * len(kinds)
    # CLONE_SIGHAND without CLONE_VM: the filter lets it pass, and the kernel says EINVAL.
    assert _errnos(standard, ("clone", 0x800)) == [errno.EINVAL]


def test_only_harmless_personalities(standard: bytes) -> None:
    """The present one may be asked for, address randomisation may not be turned off."""
    calls = [("personality", 0xFFFFFFFF), ("personality", 0), ("personality", 0x0040000)]
    assert _errnos(standard, *calls) == [0, 0, errno.EPERM]


@pytest.mark.parametrize("upper", [0, 1 << 32, 0x7FFFFFFF << 32])
def test_no_sockets_to_the_hypervisor_or_into_the_kernel(standard: bytes, upper: int) -> None:
    """Also not with rubbish in the half of the argument that the kernel doesn't look at."""

    def action() -> list[int]:
        families = (socket.AF_VSOCK, 38, socket.AF_INET)
        return [_call(NUMBERS["socket"], upper | family, socket.SOCK_DGRAM) for family in families]

    assert _filtered(standard, action) == [errno.EPERM, errno.EPERM, 0]


def test_capabilities_open_calls() -> None:
    """With CAP_SYS_ADMIN and CAP_SYS_CHROOT the kernel's own answer comes through."""
    granted = capabilities.mask(["CAP_SYS_ADMIN"])
    program = compiler.build(seccomp.default_profile(granted))
    # Bad pointers all; and clone3 exists again.
    calls = ("mount", "clone3", ("unshare", 1 << 63), "chroot")
    assert _errnos(program, *calls) == [errno.EFAULT, errno.EINVAL, errno.EINVAL, errno.EPERM]


def test_the_cached_program_is_the_same(standard: bytes, tmp_path: Path) -> None:
    """Compiled, read back, and by the way of a spec, it is one program."""
    directory = str(tmp_path / "cache")
    for _ in range(2):
        assert seccomp.default_program(capabilities.DEFAULT, directory) == standard
        profile = seccomp.default_profile(capabilities.DEFAULT)
        assert seccomp.program(profile, directory) == standard


# --- the other architectures of the machine ------------------------------------------------------

INT80 = r"""
#include <stdio.h>
#include <stdlib.h>
/* Make 32-bit system calls from a 64-bit program: number, two arguments, again and again. */
int main(int argc, char **argv) {
    for (int i = 1; i + 2 < argc; i += 3) {
        long result = strtoul(argv[i], 0, 0);
        long first = strtoul(argv[i + 1], 0, 0), second = strtoul(argv[i + 2], 0, 0);
        __asm__ volatile("int $0x80" : "+a"(result) : "b"(first), "c"(second), "d"(0L) : "memory",
                         "r8", "r9", "r10", "r11");
        printf("%d ", (int)result);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def int80(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that makes 32-bit x86 system calls."""
    directory = tmp_path_factory.mktemp("int80")
    source, program = directory / "int80.c", directory / "int80"
    source.write_text(INT80)
    subprocess.run(["gcc", "-O1", "-o", str(program), str(source)], check=True)
    if subprocess.run([str(program), "20", "0", "0"], check=False).returncode:
        pytest.skip("this kernel runs no 32-bit programs")
    return program


def _through_int80(program: bytes, int80: Path, *calls: int) -> list[int]:
    def action() -> list[int]:
        argv = [str(int80), *map(str, calls)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return [int(word) for word in done.stdout.split()] or [done.returncode]

    return _filtered(program, action)


@X86_64
@pytest.mark.needs("gcc")
def test_the_32_bit_door_is_closed(standard: bytes, int80: Path) -> None:
    """The gate int $0x80 has numbers of its own: the same calls are denied, getpid is allowed."""
    results = _through_int80(
        standard, int80,
        *(20, 0, 0),  # getpid
        *(310, CLONE_NEWUSER, 0),  # unshare
        *(120, CLONE_NEWUSER | signal.SIGCHLD, 0),  # clone
        *(288, 0, 0),  # keyctl
        *(21, 0, 0),  # mount
        *(359, socket.AF_VSOCK, socket.SOCK_STREAM),  # socket
        *(435, 0, 0),  # clone3
        *(9999, 0, 0),
    )  # fmt: skip
    assert results[0] > 0
    assert results[1:] == [-errno.EPERM] * 5 + [-errno.ENOSYS] * 2


@X86_64
@pytest.mark.needs("gcc")
def test_an_architecture_that_is_not_listed_is_deadly(int80: Path) -> None:
    """A profile for x86-64 alone lets nothing of the 32-bit world happen."""
    program = compiler.build(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}],
        }
    )
    assert _through_int80(program, int80, 20, 0, 0) == [-signal.SIGSYS]


@X86_64
def test_the_x32_door_is_closed(standard: bytes) -> None:
    """Bit 30 makes other numbers of the same calls: denied all the same, or not existing."""

    def action() -> list[int]:
        names = ("unshare", "keyctl", "mount")
        denied = [_call(NUMBERS[name] | X32_BIT, CLONE_NEWUSER) for name in names]
        return [*denied, _call(9999 | X32_BIT)]

    assert _filtered(standard, action) == [errno.EPERM] * 3 + [errno.ENOSYS]


@X86_64
def test_x32_is_deadly_where_it_is_not_listed() -> None:
    """Without SCMP_ARCH_X32 in the profile an x32 call ends the process."""
    rule = {"names": ["keyctl"], "action": "SCMP_ACT_ERRNO"}
    assert _filtered(_profile(rule), lambda: [_call(39 | X32_BIT)]) == [-signal.SIGSYS]


# --- what a profile can say ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "value", "value_two", "matching", "others"),
    [
        ("SCMP_CMP_EQ", 7, 0, [7], [6, 8, 7 | 1 << 32]),
        ("SCMP_CMP_NE", 7, 0, [6, 8, 7 | 1 << 32], [7]),
        ("SCMP_CMP_LT", 7, 0, [0, 6], [7, 8, 1 << 32]),
        ("SCMP_CMP_LE", 7, 0, [6, 7], [8, 1 << 32]),
        ("SCMP_CMP_GE", 7, 0, [7, 8, 1 << 32], [6]),
        ("SCMP_CMP_GT", 7, 0, [8, 1 << 32], [6, 7]),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x30, [0x30, 0x3F, 0x130], [0x20, 0x70]),
        ("SCMP_CMP_EQ", 2**64 - 1, 0, [2**64 - 1], [2**32 - 1]),
    ],
)
def test_arguments_are_compared(
    operator: str, value: int, value_two: int, matching: list[int], others: list[int]
) -> None:
    """Each operator, as unsigned numbers of 64 bits."""
    argument = {"index": 0, "value": value, "valueTwo": value_two, "op": operator}
    rule = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [argument]}
    program = _profile(rule)
    assert _errnos(program, *(("getpid", number) for number in matching)) == [77] * len(matching)
    assert _errnos(program, *(("getpid", number) for number in others)) == [0] * len(others)


def test_conditions_on_different_arguments_must_all_hold() -> None:
    """Two arguments in one rule are both needed."""
    conditions = [{"index": index, "value": 1, "op": "SCMP_CMP_EQ"} for index in (0, 1)]
    rule = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "args": conditions}

    def action() -> list[int]:
        pairs = ((0, 0), (1, 0), (0, 1), (1, 1))
        return [_call(NUMBERS["getpid"], *pair) for pair in pairs]

    assert _filtered(_profile(rule), action) == [0, 0, 0, errno.EPERM]


def test_conditions_on_the_same_argument_are_alternatives() -> None:
    """As runc has it: any one of them is enough."""
    conditions = [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"} for value in (1, 2)]
    rule = {"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "args": conditions}
    calls = [("getpid", 1), ("getpid", 2), ("getpid", 3)]
    assert _errnos(_profile(rule), *calls) == [errno.EPERM, errno.EPERM, 0]


@pytest.mark.parametrize(
    ("action", "outcome"),
    [
        ("SCMP_ACT_KILL", [-signal.SIGSYS]),
        ("SCMP_ACT_KILL_THREAD", [-signal.SIGSYS]),
        ("SCMP_ACT_KILL_PROCESS", [-signal.SIGSYS]),
        ("SCMP_ACT_TRAP", [-signal.SIGSYS]),
        ("SCMP_ACT_ERRNO", [errno.EPERM]),
        ("SCMP_ACT_TRACE", [errno.ENOSYS]),
        ("SCMP_ACT_LOG", [0]),
    ],
)
def test_each_action_is_taken(action: str, outcome: list[int]) -> None:
    """From killing to logging; without a tracer, SCMP_ACT_TRACE is ENOSYS."""
    assert _errnos(_profile({"names": ["getpid"], "action": action}), "getpid") == outcome


def test_an_errno_of_zero_fakes_success() -> None:
    """An errnoRet of 0 skips the call and lets it seem to work."""
    rule = {"names": ["unshare"], "action": "SCMP_ACT_ERRNO", "errnoRet": 0}
    assert _errnos(_profile(rule), ("unshare", 1 << 63)) == [0]


def test_a_permissive_default_invents_no_enosys() -> None:
    """Where the default allows, a newer call is the kernel's to answer."""
    program = _profile({"names": ["getpid"], "action": "SCMP_ACT_ERRNO"})
    assert _errnos(program, "openat2", "getpid")[0] != errno.ENOSYS


def test_unknown_names_are_left_out() -> None:
    """A profile newer than libseccomp still works."""
    rules = [{"names": ["no_such_call", "getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9}]
    assert _errnos(_profile(*rules), "getpid") == [9]


def test_a_foreign_architecture_does_no_harm() -> None:
    """Profiles that list every architecture there is can be compiled here."""
    program = compiler.build(
        {
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_RISCV64"],
            "syscalls": [{"names": ["getpid"], "action": "SCMP_ACT_ERRNO"}],
        }
    )
    assert _errnos(program, "getpid") == [errno.EPERM]


def test_contradicting_rules_and_unknown_architectures_are_refused(tmp_path: Path) -> None:
    """What libseccomp refuses is told with its place, or with the file that it is from."""
    condition = [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]
    rules = [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": number, "args": condition}
        for number in (1, 2)
    ]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    with pytest.raises(
        InvalidSpec, match="has mkdir but must not: it has a rule with another action"
    ) as caught:
        seccomp.program(profile, str(tmp_path))
    assert caught.value.pointer == "/linux/seccomp/syscalls/1"
    with pytest.raises(InvalidArgument, match=r"seccomp profile p\.json: has mkdir but must not"):
        seccomp.program(profile, str(tmp_path), source="p.json")
    with pytest.raises(InvalidSpec, match="SCMP_ARCH_VAX but must be an architecture"):
        seccomp.program(profile | {"architectures": ["SCMP_ARCH_VAX"]}, str(tmp_path))


def test_hundreds_of_conditions_stay_within_the_kernels_limit(tmp_path: Path) -> None:
    """A program above 4096 instructions is refused by name before the kernel says EINVAL."""
    rules = [
        {
            "names": ["getpid"],
            "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 2 * value, "op": "SCMP_CMP_EQ"}],
        }
        for value in range(4200)
    ]
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}
    with pytest.raises(Unsupported, match="instructions, the kernel takes 4096"):
        seccomp.program(profile, str(tmp_path))
