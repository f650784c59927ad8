"""Device rules: what a list of them comes to, and the program that enforces it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cloche.kernel.device_program import program
from cloche.kernel.device_rules import (
    ANY,
    EVERY_ACCESS,
    MKNOD,
    READ,
    WRITE,
    Access,
    HoleError,
    Rule,
    reduce,
)

NUMBERS = (ANY, 1, 3, 0xFFFFFFFF)
RULES = st.builds(
    Rule,
    st.booleans(),
    st.sampled_from("abc"),
    st.sampled_from(NUMBERS),
    st.sampled_from(NUMBERS),
    st.integers(1, EVERY_ACCESS),
)
REQUESTS = st.tuples(
    st.sampled_from("bc"),
    st.sampled_from(NUMBERS[1:]),
    st.sampled_from(NUMBERS[1:]),
    st.sampled_from((MKNOD, READ, WRITE, READ | WRITE)),
)
"""What the kernel asks: mknod(2) for making a node alone, open(2) for reading and writing."""
Request = tuple[str, int, int, int]


def speaks_of(rule: Rule, request: Request) -> bool:
    """Whether a rule is about a device."""
    kind, major, minor, _ = request
    return rule.type in ("a", kind) and rule.major in (ANY, major) and rule.minor in (ANY, minor)


def decided(rules: list[Rule], allowed: bool, request: Request) -> bool:
    """Whether all that a request asks for is allowed: the last rule about each access decides."""
    for bit in (MKNOD, READ, WRITE):
        verdict = allowed
        for rule in rules:
            if rule.access & bit and speaks_of(rule, request):
                verdict = rule.allow
        if request[3] & bit and not verdict:
            return False
    return True


def execute(code: bytes, request: Request) -> int:
    """Run a program as the kernel does, and return its answer.

    Every jump goes forward, so each instruction runs once at most.
    """
    kind, major, minor, access = request
    context = struct.pack("<III", access << 16 | {"b": 1, "c": 2}[kind], major, minor)
    registers: dict[int, int] = {}
    instructions = [struct.unpack_from("<BBhI", code, at) for at in range(0, len(code), 8)]
    at = 0
    while True:
        opcode, both, offset, value = instructions[at]
        target, source = both & 15, both >> 4
        assert offset >= 0
        at += 1
        if opcode == 0x61:
            assert source == 1
            registers[target] = struct.unpack_from("<I", context, offset)[0]
        elif opcode == 0xB4:
            registers[target] = value
        elif opcode == 0xBC:
            registers[target] = registers[source]
        elif opcode == 0x54:
            registers[target] &= value
        elif opcode == 0x74:
            registers[target] >>= value
        elif opcode == 0x16:
            at += offset if registers[target] == value else 0
        elif opcode == 0x56:
            at += offset if registers[target] != value else 0
        elif opcode == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"no such instruction: {opcode:#x}")


@settings(max_examples=500)
@given(st.lists(RULES, max_size=6), st.booleans(), REQUESTS)
def test_the_last_rule_decides(rules: list[Rule], allowed: bool, request: Request) -> None:
    """The program answers as the list of rules does, for every device and access."""
    try:
        access = reduce(rules, allowed=allowed)
    except HoleError:
        assume(False)
    assert bool(execute(program(access), request)) == decided(rules, allowed, request)


@given(st.lists(RULES, max_size=6), st.booleans())
def test_an_outcome_is_its_own(rules: list[Rule], allowed: bool) -> None:
    """Exceptions are all the other way than the default, each device's named once."""
    try:
        access = reduce(rules, allowed=allowed)
    except HoleError:
        assume(False)
    assert all(rule.allow != access.allowed for rule in access.exceptions)
    assert len({rule[1:4] for rule in access.exceptions}) == len(access.exceptions)
    again = reduce(access.exceptions, allowed=access.allowed)
    assert set(again.exceptions) == set(access.exceptions)


def test_everything_starts_anew() -> None:
    """A rule for everything forgets what was before it."""
    rules = [Rule(True, "c", 1, 3, READ), Rule(True, "a", ANY, ANY, EVERY_ACCESS)]
    assert reduce(rules, allowed=False) == Access(True)
    assert reduce(rules, allowed=False).is_unlimited


def test_exceptions_add_up() -> None:
    """A device that two exceptions speak of has an exception with both."""
    rules = [Rule(True, "c", ANY, ANY, WRITE), Rule(True, "c", 3, ANY, READ)]
    assert Rule(True, "c", 3, ANY, WRITE | READ) in reduce(rules, allowed=False).exceptions
    crossed = [Rule(True, "c", 1, ANY, WRITE), Rule(True, "c", ANY, 3, READ)]
    assert Rule(True, "c", 1, 3, READ | WRITE) in reduce(crossed, allowed=False).exceptions


def test_making_nodes_is_not_added() -> None:
    """Nobody asks for making a node and opening it at once, so a rule stays as it was written."""
    rules = [Rule(True, "c", ANY, ANY, MKNOD), Rule(True, "c", 3, ANY, READ)]
    assert reduce(rules, allowed=False).exceptions == tuple(rules)


def test_a_hole_in_an_exception() -> None:
    """The rule that can't be had is named by its number."""
    rules = [Rule(True, "c", 1, ANY, READ), Rule(False, "c", 1, 3, READ)]
    with pytest.raises(HoleError) as caught:
        reduce(rules, allowed=False)
    assert caught.value.index == 1
