"""The table of what becomes of each field of a config.json has them all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cloche.oci import fields
from cloche.oci.schema import Array, Map, Object

REPOSITORY = Path(__file__).parents[2]
DOCUMENT = REPOSITORY / "docs/spec-conformance.md"
STATES = ("done", "refused", "ignored")


class Row(NamedTuple):
    """A row of the table."""

    fields: list[str]
    state: str
    tests: list[Path]


def _rows() -> list[Row]:
    found = []
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            names, state, links = cells
            tests = [DOCUMENT.parent / path for path in re.findall(r"\]\(([^)]+)\)", links)]
            found.append(Row(re.findall(r"`([^`]+)`", names), state, tests))
    return found


def _fields(kind: Any, place: str) -> Iterator[str]:
    """Yield the fields that hold no fields themselves."""
    if isinstance(kind, Object):
        for name, field in kind.fields.items():
            yield from _fields(field, f"{place}.{name}" if place else name)
    elif isinstance(kind, Array) and isinstance(kind.item, Object):
        yield from _fields(kind.item, f"{place}[]")
    elif isinstance(kind, Map) and isinstance(kind.member, Object):
        yield from _fields(kind.member, f"{place}{{}}")
    else:
        yield place


def test_every_field_is_there_once() -> None:
    """The fields of the table are those of the specification."""
    listed = [field for row in _rows() for field in row.fields]
    assert len(listed) == len(set(listed))
    assert set(listed) == set(_fields(fields.Spec, ""))


def test_every_row_says_what_becomes_of_it() -> None:
    """Each row has a state, with the reason for what isn't done."""
    for row in _rows():
        assert row.state.startswith(STATES), row
        assert "refused" not in row.state or re.search("refused[^;]*( |: )", row.state), row


def test_every_test_is_there() -> None:
    """Each row names files with tests."""
    for row in _rows():
        assert row.tests, row
        assert all(path.is_file() for path in row.tests), row


def test_tests_speak_of_their_fields() -> None:
    """The names of a row's fields stand in the files with its tests."""
    for row in _rows():
        text = "".join(path.read_text() for path in row.tests)
        names = [field.rpartition(".")[2].strip("[]{}") for field in row.fields]
        assert [name for name in names if name not in text] == [], row
