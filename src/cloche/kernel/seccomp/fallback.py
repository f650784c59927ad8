"""The front of every filter: a system call that is newer than its profile doesn't exist.

A profile can only name the system calls of its day.  Were the rest refused with its default,
EPERM, then a C library that tries a new call first would give up instead of falling back on the
old one, as it does on ENOSYS.  So what lies above the highest number that the profile names (and
libseccomp knows) gets ENOSYS, before the filter proper sees it.  runc does the same, and for the
same reason.

::

    ld  [4]                        the architecture, for each one in turn:
    jeq ARCH, else next
        ld  [0]                    the number
        jgt HIGHEST, else filter
        ret ERRNO(ENOSYS)
        ja  filter
    ...
    filter:

x86-64 is two architectures under one name: an x32 call has bit 30 of its number set, and a
highest number of its own.

Only loads of number and architecture, and jumps on constants: the kernel (5.11 and later) runs
a filter of that kind once for each number when it is installed, and afterwards no more for the
calls that are always allowed.
"""

from __future__ import annotations

import errno
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

X32_BIT = 0x4000_0000

_INSTRUCTION = struct.Struct("=HBBI")
"""struct sock_filter: code, jump if true, jump if false, constant (linux/filter.h)."""
_LOAD, _JUMP, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_SET, _RETURN = 0x20, 0x05, 0x15, 0x25, 0x45, 0x06
_NUMBER_OFFSET = 0
_ARCHITECTURE_OFFSET = 4
_ENOSYS = 0x0005_0000 | errno.ENOSYS

Instruction = tuple[int, int, int, int]


def prologue(highest: Mapping[int, int], highest_x32: int | None) -> bytes:
    """Return the instructions to put in front of a filter.

    ``highest`` has the highest known number for each ``AUDIT_ARCH_*``, in the order in which
    they are to be asked for; ``highest_x32`` is x32's, with bit 30, when the filter knows x32.
    Other architectures, and x32 when the filter doesn't, are left to the filter.
    """
    sections = [
        (architecture, _section(number, architecture == _AUDIT_ARCH_X86_64, highest_x32))
        for architecture, number in highest.items()
    ]
    if not sections:
        return b""
    program: list[Instruction] = [(_LOAD, 0, 0, _ARCHITECTURE_OFFSET)]
    remaining = sum(len(section) + 2 for _, section in sections)
    for architecture, section in sections:
        remaining -= len(section) + 2
        program.append((_JUMP_EQUAL, 0, len(section) + 1, architecture))
        program += section
        program.append((_JUMP, 0, 0, remaining))
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)


_AUDIT_ARCH_X86_64 = 0xC000_003E


def _section(number: int, is_x86_64: bool, highest_x32: int | None) -> list[Instruction]:
    """Return the test of the number; it falls off its end into the jump to the filter."""
    load = (_LOAD, 0, 0, _NUMBER_OFFSET)
    refuse = (_RETURN, 0, 0, _ENOSYS)
    if not is_x86_64:
        return [load, (_JUMP_GREATER, 0, 1, number), refuse]
    if highest_x32 is None:
        return [
            load,
            (_JUMP_SET, 2, 0, X32_BIT),
            (_JUMP_GREATER, 0, 1, number),
            refuse,
        ]
    return [
        load,
        (_JUMP_SET, 1, 0, X32_BIT),
        (_JUMP_GREATER, 1, 2, number),
        (_JUMP_GREATER, 0, 1, highest_x32),
        refuse,
    ]
