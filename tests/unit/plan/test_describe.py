"""Every operation can be told in words, and the catalogue is sound."""

from __future__ import annotations

import pytest

from cloche.plan import describe
from cloche.plan.steps import HOST, OPERATIONS, WALLS, Operation, Step, Value

_SAMPLE: dict[str, Value] = {"i": 0, "s": "/x", "b": b"12345678", "v": ("prog", "1", "2", "3")}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_has_a_clause(operation: Operation) -> None:
    """What a step does can be said for every operation, and is one line."""
    arguments = tuple(_SAMPLE[kind] for kind in operation.signature)
    if operation.name == "id_map":
        arguments = (0, "0 1000 1\n")
    if operation.name == "time_namespace":
        arguments = ("monotonic -5 500000000\n",)
    clause = describe.what(Step(operation, HOST, arguments, ""))
    assert clause
    assert "\n" not in clause
    assert clause[0].islower()


def test_no_clause_without_operation() -> None:
    """The table of clauses has no entry that no operation has."""
    assert set(describe._CLAUSES) == {operation.name for operation in OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_catalogue(operation: Operation) -> None:
    """Each operation belongs to a wall, names a manual page, and its types are on the wire."""
    assert operation.wall in WALLS
    assert operation.man.endswith(")")
    assert set(operation.signature) <= set("isbv")


def test_names_are_unique() -> None:
    """No two operations share a name."""
    names = [operation.name for operation in OPERATIONS]
    assert len(names) == len(set(names))
