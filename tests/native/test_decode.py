"""The launcher's decoder beside the planner's own: they take and refuse the same plans.

The decoder is built with sanitizers where the compiler has them, and gets its input through the
program ``decode-check``.
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.errors import InvalidPlan
from cloche.plan import steps, wire
from cloche.plan.steps import OPERATIONS, Operation, Plan, Step, Value

pytestmark = pytest.mark.needs("gcc")

NATIVE = Path(__file__).parents[2] / "native"
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g")
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
SLOT_PARAMETERS = {"slot", "cgroup", "joined", "peer", "images_slot", "work_slot"}


class Decoder:
    """The launcher's decoder, in a process of its own."""

    def __init__(self, executable: Path) -> None:
        self.process = subprocess.Popen(
            [executable], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def accepts(self, data: bytes) -> bool:
        """Return whether it takes some bytes for a plan."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(struct.pack("<I", len(data)) + data)
        self.process.stdin.flush()
        answer = self.process.stdout.read(1)
        if answer not in (b"+", b"-"):
            assert self.process.stderr is not None
            pytest.fail(self.process.stderr.read().decode(errors="replace"))
        return answer == b"+"


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Decoder]:
    """The decoder, built for these tests."""
    directory = tmp_path_factory.mktemp("decoder")
    header = directory / "operations.h"
    subprocess.run([sys.executable, NATIVE / "generate_operations.py", header], check=True)
    executable = directory / "decode-check"
    sources = [NATIVE / "decode.c", NATIVE / "fuzz/decode.c", NATIVE / "fuzz/check.c"]
    command = ["gcc", *FLAGS, f"-I{directory}", f"-I{NATIVE}", *map(str, sources)]
    command += ["-o", str(executable)]
    if subprocess.run([*command, *SANITIZE], capture_output=True, check=False).returncode:
        subprocess.run(command, check=True)
    found = Decoder(executable)
    yield found
    found.process.communicate(timeout=10)
    assert found.process.returncode == 0


# --- strategies ----------------------------------------------------------------------------------

_texts = st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=20)
_values: dict[str, st.SearchStrategy[Value]] = {
    "i": st.integers(-(1 << 63), (1 << 63) - 1),
    "s": _texts,
    "b": st.binary(max_size=30),
    "v": st.lists(_texts, max_size=4).map(tuple),
}
_slots = st.integers(steps.NO_SLOT, steps.SLOTS - 1)


def _step(operation: Operation) -> st.SearchStrategy[Step]:
    arguments = st.tuples(
        *(
            _slots if name in SLOT_PARAMETERS else _values[kind]
            for name, kind in operation.parameters
        )
    )
    stages = st.sampled_from([steps.HOST, steps.CHILD])
    return st.builds(Step, st.just(operation), stages, arguments, _texts)


plans = st.builds(Plan, st.lists(st.sampled_from(OPERATIONS).flatmap(_step), max_size=6).map(tuple))
options = st.builds(
    wire.Options,
    flags=st.integers(0, 0xFFFFFFFF),
    report=st.lists(_texts, max_size=3).map(tuple),
    fail_step=st.integers(0, 0xFFFFFFFF),
    fail_errno=st.integers(0, 133),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a plan's wire form with some bytes changed, cut off or added."""
    data = bytearray(wire.encode(draw(plans), draw(options)))
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, len(data) - 1))
        # Most offsets and counts are small, and so are the numbers that are nearly right.
        data[position] = draw(st.integers(0, 255) | st.integers(0, 4))
    cut = draw(st.integers(-8, 8) | st.just(0))
    data = data[:cut] if cut < 0 else data + bytes(cut)
    if draw(st.booleans()) and len(data) >= 16:
        struct.pack_into("<I", data, 12, len(data))
    return bytes(data)


def planner_accepts(data: bytes) -> bool:
    """Return whether the planner's decoder takes some bytes for a plan.

    Beyond it, the launcher refuses slots that aren't there, since it would take them for indices.
    """
    try:
        plan, _ = wire.decode(data)
    except InvalidPlan:
        return False
    return all(
        steps.NO_SLOT <= argument < steps.SLOTS
        for step in plan.steps
        for (name, _), argument in zip(step.operation.parameters, step.arguments, strict=True)
        if name in SLOT_PARAMETERS and isinstance(argument, int)
    )


quick = settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


# --- tests ---------------------------------------------------------------------------------------


@quick
@given(plan=plans, option=options)
def test_every_plan_is_taken(decoder: Decoder, plan: Plan, option: wire.Options) -> None:
    """Whatever the planner encodes, the launcher decodes."""
    assert decoder.accepts(wire.encode(plan, option))


@quick
@given(data=damaged())
def test_damaged_plans_are_taken_or_refused_alike(decoder: Decoder, data: bytes) -> None:
    """A damaged plan is never misread: both decoders agree whether it still is one."""
    assert decoder.accepts(data) == planner_accepts(data)


@quick
@given(data=st.binary(max_size=200))
def test_other_bytes_are_refused(decoder: Decoder, data: bytes) -> None:
    """Bytes that aren't a plan are refused."""
    assert not decoder.accepts(data)


@pytest.mark.parametrize("slot", [-2, steps.SLOTS, 1 << 40, -(1 << 63)])
def test_slots_out_of_range_are_refused(decoder: Decoder, slot: int) -> None:
    """No step gets a slot number that the launcher has no place for."""
    plan = Plan((steps.open_tree(slot, "/", recursive=False, why=""),))
    assert not decoder.accepts(wire.encode(plan))


def test_plan_of_very_many_steps_is_refused(decoder: Decoder) -> None:
    """The count of steps has a limit, so that sizes can't get out of hand."""
    step = steps.no_new_privs(why="")
    assert decoder.accepts(wire.encode(Plan((step,) * 65536)))
    assert not decoder.accepts(wire.encode(Plan((step,) * 65537)))


def test_large_plan_is_taken(decoder: Decoder) -> None:
    """A plan with thousands of arguments and a large file fits."""
    argv = tuple(f"argument {number}" for number in range(20000))
    plan = Plan(
        (
            steps.make_file("/f", 0o600, os.urandom(1 << 20), why="large"),
            steps.exec(("/bin/true",), argv, argv, why="many"),
        )
    )
    assert decoder.accepts(wire.encode(plan))


def test_empty_items_fit(decoder: Decoder) -> None:
    """A vector of empty strings needs more memory than any other of its size."""
    plan = Plan((steps.exec(("",) * 50000, ("",), (), why=""),))
    assert decoder.accepts(wire.encode(plan, wire.Options(report=("",) * 1000)))
