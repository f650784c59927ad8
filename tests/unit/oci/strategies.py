"""Specs for Hypothesis, made from the fields that a ``config.json`` is checked with."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from cloche.oci import fields
from cloche.oci.schema import Array, Integer, Map, Object, Word
from tests.unit.oci.full import at, full, pointers, replaced

_WORDS = ("", "/", "..", "a", "/dev/x", "0-3,7", "ro", "bind", "NAME=value", "true", "1.3.0")
_TEXT = st.sampled_from(_WORDS) | st.text(max_size=12)


def of(kind: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for the values that fit a description."""
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(-(2**63), 2**63 - 1)
    if kind is str:
        return _TEXT
    if isinstance(kind, Integer):
        middle = st.integers(max(kind.least, -2), min(kind.greatest, 5000))
        return middle | st.integers(kind.least, kind.greatest)
    if isinstance(kind, Word):
        return st.sampled_from(kind.words)
    if isinstance(kind, Array):
        return st.lists(of(kind.item), max_size=3)
    if isinstance(kind, Map):
        return st.dictionaries(_TEXT, of(kind.member), max_size=2)
    assert isinstance(kind, Object), kind
    members = {name: of(field) for name, field in kind.fields.items()}
    required = {name: members.pop(name) for name in kind.required}
    return st.fixed_dictionaries(required, optional=members)


def kind_at(pointer: str) -> Any:
    """Return the description of the values at a place of a spec."""
    kind: Any = fields.Spec
    for key in pointer.split("/")[1:]:
        if isinstance(kind, Object):
            kind = kind.fields[key]
        elif isinstance(kind, Map):
            kind = kind.member
        else:
            assert isinstance(kind, Array), kind
            kind = kind.item
    return kind


@st.composite
def changed(draw: st.DrawFn, document: Any = None, most: int = 3) -> Any:
    """Return a spec of which a few values, of the right type, are others."""
    found = full() if document is None else document
    for _ in range(draw(st.integers(1, most))):
        places = [place for place in pointers(found)[1:] if _is_known(place)]
        pointer = draw(st.sampled_from(places))
        found = replaced(found, pointer, draw(of(kind_at(pointer))))
        assert at(found, pointer) is not None
    return found


def _is_known(pointer: str) -> bool:
    try:
        kind_at(pointer)
    except KeyError:
        return False
    return True
