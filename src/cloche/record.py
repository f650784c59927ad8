"""Records: immutable values with named fields, written as ``typing.NamedTuple`` is.

::

    class Range(Record):
        first: int
        size: int = 1

To a type checker ``Record`` *is* ``typing.NamedTuple``.  At run time it is the part of it that is
needed here, made without ``typing`` and ``collections``: to import these takes longer than to
plan a container.  For the same reason a module of the start path sets ``TYPE_CHECKING`` to False
by itself, which type checkers know too, and imports what only annotations need beneath it.

The module of a record must have ``from __future__ import annotations``.
"""

from __future__ import annotations

from _collections import _tuplegetter  # type: ignore[import-not-found]  # as `collections` uses it

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, Self
    from typing import NamedTuple as Record

__all__ = ["Record"]


class _Fields(tuple["Any", ...]):
    """The base of every record: a tuple that knows its fields' names."""

    __slots__ = ()
    _fields: tuple[str, ...] = ()
    _field_defaults: dict[str, Any] = {}

    def __new__(cls, /, *values: Any, **named: Any) -> Self:
        if named or len(values) != len(cls._fields):
            return tuple.__new__(cls, _complete(cls, values, named))
        return tuple.__new__(cls, values)

    @classmethod
    def _make(cls, values: Iterable[Any]) -> Self:
        """Return a record of these values, one for each field."""
        return cls(*values)

    def _replace(self, /, **changes: Any) -> Self:
        """Return a record with other values in some fields."""
        unknown = changes.keys() - self._fields
        if unknown:
            raise TypeError(f"{type(self).__name__} has no field {' '.join(sorted(unknown))}")
        named = zip(self._fields, self, strict=True)
        return tuple.__new__(type(self), [changes.get(name, value) for name, value in named])

    def _asdict(self) -> dict[str, Any]:
        """Return the values by the names of their fields."""
        return dict(zip(self._fields, self, strict=True))

    def __repr__(self) -> str:
        named = zip(self._fields, self, strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in named)})"

    def __getnewargs__(self) -> tuple[Any, ...]:
        """For pickle and copy: the arguments of the constructor."""
        return tuple(self)


class _Maker(type):
    """Turns the body of a class into a record: each annotation into a field."""

    def __new__(cls, name: str, _bases: tuple[type, ...], body: dict[str, Any]) -> type:
        """Return the class; it has no trace of this one, so that making instances is quick."""
        fields = tuple(body["__annotations__"])
        body["_field_defaults"] = {field: body[field] for field in fields if field in body}
        for index, field in enumerate(fields):
            body[field] = _tuplegetter(index, None)
        body["_fields"] = body["__match_args__"] = fields
        body["__slots__"] = ()
        return type(name, (_Fields,), body)


def _complete(cls: type[_Fields], values: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """Return a value for every field, or raise TypeError."""
    fields = cls._fields
    count = len(values)
    given = {**cls._field_defaults, **dict(zip(fields, values, strict=False)), **named}
    if (
        count > len(fields)
        or len(given) != len(fields)
        or (named and not named.keys().isdisjoint(fields[:count]))
        or (named and not given.keys() <= set(fields))
    ):
        raise _misfit(cls, count, named, given)
    return [given[field] for field in fields]


def _misfit(
    cls: type[_Fields], count: int, named: dict[str, Any], given: dict[str, Any]
) -> TypeError:
    """Return the error that says what doesn't fit."""
    name, fields = cls.__name__, cls._fields
    if count > len(fields):
        return TypeError(f"{name} has {len(fields)} fields, but {count} values were given")
    for field in named:
        if field in fields[:count]:
            return TypeError(f"{name} was given {field} twice")
        if field not in fields:
            return TypeError(f"{name} has no field {field}")
    missing = [field for field in fields if field not in given]
    return TypeError(f"{name} was given no {', '.join(missing)}")


if not TYPE_CHECKING:
    Record = type.__new__(_Maker, "Record", (), {})
