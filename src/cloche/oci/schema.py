"""Check a JSON value against a description of what it may be.

The walker is small because the descriptions say everything: the fields of an object and which of
them must be there, the bounds of a number, the words that a string is one of.  Those of a
``config.json`` are in ``cloche.oci.fields``, made from the types of ``cloche.oci.spec``.  Every
error carries the place as a JSON pointer (RFC 6901).
"""

from __future__ import annotations

from cloche.errors import InternalError, InvalidSpec
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Kind: TypeAlias = "type[bool] | type[int] | type[str] | Integer | Word | Array | Map | Object"
    """What a JSON value may be."""

_NAMES: dict[object, str] = {bool: "true or false", int: "an integer", str: "a string"}


class Integer(Record):
    """An integer within bounds, both allowed."""

    least: int
    greatest: int


class Word(Record):
    """One of these strings."""

    words: tuple[str, ...]


class Array(Record):
    """An array, all of whose items are of one kind."""

    item: Kind


class Map(Record):
    """An object with names of any kind, all of whose members are of one kind."""

    member: Kind


class Object(Record):
    """An object with known fields, and the names of those that must be there."""

    fields: dict[str, Kind]
    required: tuple[str, ...]


def child(pointer: str, key: str | int) -> str:
    """Return the JSON pointer of a member or item below another pointer."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def convert(value: object, kind: Kind, pointer: str = "") -> Any:
    """Return the part of a JSON value that its description knows.

    Unknown fields are left out.  So are fields whose value is null: Go programs, which write
    most of these documents, take null for "not given".

    Raises InvalidSpec at the first place that doesn't fit, in the order of the fields.
    """
    if kind is str:
        if not isinstance(value, str):
            raise _wrong_type(value, "a string", pointer)
        return _text(value, pointer)
    if kind is bool or kind is int:
        # bool is a subclass of int in Python, true is no number in JSON
        if type(value) is not kind:
            raise _wrong_type(value, _NAMES[kind], pointer)
        return value
    if isinstance(kind, Object):
        return _object(value, kind, pointer)
    if isinstance(kind, Integer):
        return _bounded(value, kind, pointer)
    if isinstance(kind, Word):
        if not isinstance(value, str) or value not in kind.words:
            words = ", ".join(json_name(word) for word in kind.words)
            raise InvalidSpec(pointer, f"is {json_name(value)} but must be one of {words}")
        return value
    if isinstance(kind, Array):
        if not isinstance(value, list):
            raise _wrong_type(value, "an array", pointer)
        return [convert(entry, kind.item, child(pointer, n)) for n, entry in enumerate(value)]
    if isinstance(kind, Map):
        if not isinstance(value, dict):
            raise _wrong_type(value, "an object", pointer)
        return {
            _text(key, child(pointer, key)): convert(entry, kind.member, child(pointer, key))
            for key, entry in value.items()
        }
    raise InternalError(f"the schema has no rule for {kind}")


def json_name(value: object) -> str:
    """Describe a JSON value in a message, cut where it is long."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = f'"{value}"' if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _object(value: object, kind: Object, pointer: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong_type(value, "an object", pointer)
    result = {}
    for name, field in kind.fields.items():
        member = value.get(name)
        if member is not None:
            result[name] = convert(member, field, child(pointer, name))
        elif name in kind.required:
            raise InvalidSpec(child(pointer, name), "is missing but required")
    return result


def _bounded(value: object, kind: Integer, pointer: str) -> int:
    if type(value) is not int:
        raise _wrong_type(value, "an integer", pointer)
    if not kind.least <= value <= kind.greatest:
        limits = f"{kind.least} to {kind.greatest}"
        raise InvalidSpec(pointer, f"is {json_name(value)} but must be {limits}")
    return value


def _text(value: str, pointer: str) -> str:
    """Refuse what can't become a C string.

    Bytes that aren't UTF-8 are Python's surrogate escapes, written by ``json.dumps`` as
    U+DC80 to U+DCFF; any other lone surrogate has no bytes.
    """
    if "\0" in value:
        raise InvalidSpec(pointer, f"is {json_name(value)} but must be without NUL characters")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidSpec(pointer, "is text with a lone surrogate but must be Unicode") from None
    return value


def _wrong_type(value: object, wanted: str, pointer: str) -> InvalidSpec:
    return InvalidSpec(pointer, f"is {json_name(value)} but must be {wanted}")
