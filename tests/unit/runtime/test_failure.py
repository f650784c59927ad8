"""What a failed step means: messages and hints."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from cloche.plan import steps
from cloche.plan.steps import CHILD, Plan
from cloche.runtime import failure
from cloche.runtime.records import Failure

_PLAN = Plan(
    (
        steps.mount("proc", "proc", (), 0, "/proc", why="x"),
        steps.exec(("/bin/it", "/usr/bin/it"), ("it", "-v"), (), why="x"),
    )
)


def _failure(number: int, code: int, path: str = "", head: bytes = b"") -> Failure:
    return Failure(number, CHILD, code, "execve" if number else "fsopen", path, head)


def _elf(machine: int, interpreter: bytes) -> bytes:
    """Return the first bytes of a 64-bit ELF file for a machine, with a PT_INTERP."""
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = len(interpreter) + 1
    program = struct.pack("<IIQQQQQQ", 3, 4, 120, 0, 0, size, size, 1)
    return ident + header + program + interpreter + b"\0"


@pytest.mark.parametrize(
    ("code", "head", "words"),
    [
        (errno.ENOENT, b"", "it: executable file not found in the container's PATH"),
        (errno.EISDIR, b"", "permission denied: it is a directory"),
        (errno.EACCES, b"", "permission denied"),
        (errno.ENOEXEC, b"", "an empty file"),
        (errno.ENOEXEC, b"hello", "neither a script"),
        (errno.E2BIG, b"", "too long"),
        (errno.E2BIG, b"\x7fELF", "too long"),
        (errno.ENOENT, b"#!/bin/sh\r\necho\r\n", "carriage return"),
        (errno.ENOENT, b"#!/opt/nope -x\n", "interpreter /opt/nope isn't there"),
        (errno.ENOENT, b"#!\n", "names no interpreter"),
        (errno.EACCES, b"#!/bin/x\n", "interpreter /bin/x"),
        (errno.ENOENT, _elf(62, b"/lib64/ld.so"), "dynamic loader /lib64/ld.so"),
        (errno.ENOEXEC, _elf(243, b"/lib/ld.so"), "is a program for riscv64"),
        (errno.ETXTBSY, b"", "text file busy (ETXTBSY)"),
    ],
)
def test_programs_that_cannot_be_executed(code: int, head: bytes, words: str) -> None:
    """Each reason why a program can't be executed is named as what it is."""
    found = _failure(1, code, "/bin/it" if head or code != errno.ENOENT else "", head)
    error = failure.error(_PLAN, found)
    assert words in error.message


def test_failed_step_names_everything() -> None:
    """Any other failure tells number, deed, call, path, reason and errno."""
    error = failure.error(_PLAN, _failure(0, errno.EPERM, "/proc"))
    expected = "step 0 failed: mount a new proc at /proc: fsopen /proc: operation not permitted"
    assert error.message == f"{expected} (EPERM)"
    assert error.code == "permission_denied"


def test_own_interpreter() -> None:
    """The loader is found in the first bytes of a real program."""
    with open("/bin/sh", "rb") as file:
        head = file.read(1024)
    assert failure.elf_machine(head) == os.uname().machine
    assert os.path.exists(failure.elf_interpreter(head))


@pytest.mark.parametrize("length", [0, 4, 20, 63, 64, 100, 119])
def test_short_heads(length: int) -> None:
    """A file that is cut anywhere is no reason to crash."""
    head = _elf(62, b"/lib64/ld.so")[:length]
    failure.elf_machine(head)
    assert failure.elf_interpreter(head) == ""


def test_limit_that_cannot_be_raised_is_pointed_at() -> None:
    """Of several limits the hint tells which of the spec's it was."""
    plan = Plan(tuple(steps.rlimit(number, 1, 1, why="x") for number in (4, 7)))
    error = failure.error(plan, Failure(1, CHILD, errno.EPERM, "prlimit", "", b""))
    assert "CAP_SYS_RESOURCE" in error.hint
    assert "/process/rlimits/1" in error.hint
