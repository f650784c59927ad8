"""Records: they do what ``typing.NamedTuple`` does."""

from __future__ import annotations

import copy
import pickle
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.record import Record


class Range(Record):
    """A record."""

    first: int
    size: int = 1
    name: str = ""

    @property
    def end(self) -> int:
        """A property of the class's body."""
        return self.first + self.size

    def moved(self, by: int) -> Range:
        """A method of the class's body."""
        return self._replace(first=self.first + by)

    @classmethod
    def empty(cls) -> Range:
        """A class method that uses the constructor."""
        return cls(0, 0)


class Twin(NamedTuple):
    """The same as a NamedTuple."""

    first: int
    size: int = 1
    name: str = ""


class One(Record):
    """Its field has the name of the first parameter of a constructor."""

    cls: int


def test_it_is_a_tuple_with_named_fields() -> None:
    """A record is a tuple: it compares, unpacks, hashes and matches as one."""
    record = Range(3, 4, "x")
    assert record == (3, 4, "x")
    assert hash(record) == hash((3, 4, "x"))
    assert (record.first, record.size, record.name) == (3, 4, "x")
    assert Range._fields == Twin._fields
    assert Range._field_defaults == Twin._field_defaults
    match record:
        case Range(first, size=size):
            assert (first, size) == (3, 4)
    assert Range.__doc__ == "A record."
    assert Range.__name__ == Range.__qualname__ == "Range"
    assert Range.__module__ == __name__
    assert One(cls=1).cls == 1


def test_the_body_of_the_class_is_kept() -> None:
    """Methods, class methods and properties stay."""
    assert Range(3, 4).end == 7
    assert Range(3).moved(2) == Range(5)
    assert Range.empty() == (0, 0, "")


_ARGUMENTS = st.lists(st.integers(), max_size=4)
_NAMED = st.dictionaries(st.sampled_from(("first", "size", "name", "other", "self")), st.integers())


@given(_ARGUMENTS, _NAMED)
def test_the_constructor_takes_what_a_named_tuple_takes(
    values: list[int], named: dict[str, int]
) -> None:
    """Arguments by place and by name, defaults, and a TypeError for what doesn't fit."""
    try:
        twin = Twin(*values, **named)  # type: ignore[arg-type]
    except TypeError:
        with pytest.raises(TypeError, match="Range"):
            Range(*values, **named)  # type: ignore[arg-type]
    else:
        assert tuple(Range(*values, **named)) == tuple(twin)  # type: ignore[arg-type]


@given(st.integers(), st.integers(), st.text())
def test_the_methods_do_what_those_of_a_named_tuple_do(first: int, size: int, name: str) -> None:
    """``_replace``, ``_asdict``, ``_make``, ``repr``, copies and pickles."""
    record, twin = Range(first, size, name), Twin(first, size, name)
    assert repr(record) == repr(twin).replace("Twin", "Range")
    assert record._asdict() == twin._asdict()
    assert Range._make(tuple(twin)) == record
    assert tuple(record._replace(name="n")) == tuple(twin._replace(name="n"))
    for twin_of in (copy.copy(record), copy.deepcopy(record), pickle.loads(pickle.dumps(record))):
        assert twin_of == record
        assert type(twin_of) is Range


def test_a_record_is_immutable() -> None:
    """Neither fields nor new attributes can be set, and there is no room for them."""
    record = Range(1)
    for name in ("first", "other"):
        with pytest.raises(AttributeError):
            setattr(record, name, 2)
    assert not hasattr(record, "__dict__")


def test_a_mistake_is_told() -> None:
    """An error names the record and the field."""
    with pytest.raises(TypeError, match="Range has no field other"):
        Range(1)._replace(other=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Range was given no first"):
        Range()  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="Range was given first twice"):
        Range(1, first=2)  # type: ignore[misc]
