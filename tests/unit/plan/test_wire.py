"""The wire form of plans: what is encoded is what is decoded, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import InvalidPlan
from cloche.plan import steps, wire
from cloche.plan.steps import CHILD, HOST, OPERATIONS, Operation, Plan, Step, Value

_TEXT = st.text(
    st.characters(exclude_characters="\0", categories=None, exclude_categories=["Cs"]), max_size=40
) | st.binary(max_size=20).filter(lambda data: b"\0" not in data).map(
    lambda data: data.decode("utf-8", "surrogateescape")
)
_VALUES: dict[str, st.SearchStrategy[Value]] = {
    "i": st.integers(-(1 << 63), (1 << 63) - 1),
    "s": _TEXT,
    "b": st.binary(max_size=200),
    "v": st.lists(_TEXT, max_size=5).map(tuple),
}


def _step(operation: Operation) -> st.SearchStrategy[Step]:
    arguments = st.tuples(*(_VALUES[kind] for kind in operation.signature))
    return st.builds(Step, st.just(operation), st.sampled_from((HOST, CHILD)), arguments, _TEXT)


_PLANS = st.lists(st.sampled_from(OPERATIONS).flatmap(_step), max_size=12).map(
    lambda members: Plan(tuple(members))
)
_OPTIONS = st.builds(
    wire.Options,
    st.integers(0, 3),
    st.lists(_TEXT, max_size=3).map(tuple),
    st.integers(0, wire.NONE),
    st.integers(0, 200),
)


@given(_PLANS, _OPTIONS)
def test_round_trip(plan: Plan, options: wire.Options) -> None:
    """Any plan comes back from its wire form as it was."""
    assert wire.decode(wire.encode(plan, options)) == (plan, options)


@given(_PLANS, st.data())
def test_corrupted_wire_is_refused_or_another_plan(plan: Plan, data: st.DataObject) -> None:
    """Flipped bytes and cut ends never crash the decoder: InvalidPlan, or some plan."""
    damaged = bytearray(wire.encode(plan))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for document in (bytes(damaged), bytes(damaged[:cut])):
        try:
            wire.decode(document)
        except InvalidPlan:
            pass


@pytest.mark.parametrize(
    "arguments",
    [
        ("/a",),
        ("/a", 0o755, 0, 0),
        (1, 0o755, 0),
        ("/a", "755", 0),
        ("/a", 1 << 63, 0),
        ("/a\0b", 0o755, 0),
    ],
)
def test_unfit_arguments_are_refused(arguments: tuple[Value, ...]) -> None:
    """A step whose arguments don't fit its signature can't be encoded."""
    operation = next(found for found in OPERATIONS if found.name == "make_dir")
    with pytest.raises(InvalidPlan):
        wire.encode(Plan((Step(operation, HOST, arguments, "why"),)))


def test_another_catalogue_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan made for other operations than the launcher knows is refused as a whole."""
    document = wire.encode(Plan((steps.pivot_root(why="x"),)))
    monkeypatch.setattr(wire, "catalogue_checksum", lambda: 1)
    with pytest.raises(InvalidPlan):
        wire.decode(document)
