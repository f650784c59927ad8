"""Access to devices as an eBPF program, which is all that cgroup v2 has for it.

The kernel runs the program at each open and each mknod, with what is asked for; it answers 1 to
allow and 0 to deny.  Only programs that end are taken, so it is straight: a test for each
exception, then the default.

Source: <linux/bpf.h> (``struct bpf_cgroup_dev_ctx``), https://docs.kernel.org/bpf/standardization/
instruction-set.html.
"""

from __future__ import annotations

import struct

from cloche.kernel.device_rules import ANY, Access, Rule

_TYPES = {"b": 1, "c": 2}
"""``BPF_DEVCG_DEV_*``."""

# Opcodes: the class (load, 32-bit jump, 32-bit arithmetic), the operation, and the operand.
_LOAD_WORD = 0x61
_EXIT = 0x95
_MOVE = 0xB4
_MOVE_REGISTER = 0xBC
_AND = 0x54
_SHIFT_RIGHT = 0x74
_JUMP_IF_EQUAL = 0x16
_JUMP_IF_NOT_EQUAL = 0x56

# Registers: 0 has the answer, 1 the context and then what is worked out.
_ANSWER, _SCRATCH, _TYPE, _ACCESS, _MAJOR, _MINOR = range(6)


def program(access: Access) -> bytes:
    """Return the program, an array of ``struct bpf_insn`` of a little-endian machine.

    Where exceptions allow, one of them has to cover all that is asked for; where they deny, one
    denies that speaks of any of it.  So the device controller of v1 does it too.
    """
    parts = [
        _instruction(_LOAD_WORD, _TYPE, _SCRATCH, offset=0),
        _instruction(_MOVE_REGISTER, _ACCESS, _TYPE),
        _instruction(_AND, _TYPE, value=0xFFFF),
        _instruction(_SHIFT_RIGHT, _ACCESS, value=16),
        _instruction(_LOAD_WORD, _MAJOR, _SCRATCH, offset=4),
        _instruction(_LOAD_WORD, _MINOR, _SCRATCH, offset=8),
    ]
    for exception in access.exceptions:
        parts += _test(exception)
    parts += _answer(access.allowed)
    return b"".join(parts)


def _test(rule: Rule) -> list[bytes]:
    """Answer if an exception fits; go on behind it if not."""
    known = [(_TYPE, _TYPES[rule.type])]
    if rule.major != ANY:
        known.append((_MAJOR, rule.major))
    if rule.minor != ANY:
        known.append((_MINOR, rule.minor))
    # The jumps behind the test, and how far each has to go: over all that follows it.
    behind = 5
    length = len(known) + behind
    parts = [
        _instruction(_JUMP_IF_NOT_EQUAL, register, offset=length - place - 1, value=value)
        for place, (register, value) in enumerate(known)
    ]
    parts.append(_instruction(_MOVE_REGISTER, _SCRATCH, _ACCESS))
    if rule.allow:
        parts.append(_instruction(_AND, _SCRATCH, value=~rule.access))
        parts.append(_instruction(_JUMP_IF_NOT_EQUAL, _SCRATCH, offset=2))
    else:
        parts.append(_instruction(_AND, _SCRATCH, value=rule.access))
        parts.append(_instruction(_JUMP_IF_EQUAL, _SCRATCH, offset=2))
    return parts + _answer(rule.allow)


def _answer(allow: bool) -> list[bytes]:
    return [_instruction(_MOVE, _ANSWER, value=int(allow)), _instruction(_EXIT)]


def _instruction(
    code: int, target: int = 0, source: int = 0, *, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("<BBhI", code, target | source << 4, offset, value & 0xFFFFFFFF)
