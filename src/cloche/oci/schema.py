"""Check a JSON value against a type built of TypedDict, list, dict, Literal and scalars.

The walker is small because the types say everything: the fields of an object and which of them
must be there, the bounds of a number (``Bounds`` in ``Annotated``), the words of a ``Literal``.
Every error carries the place as a JSON pointer (RFC 6901).
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired, Required, cast, get_args, get_origin

from cloche.errors import InternalError, InvalidSpec
from cloche.oci.spec import Bounds

_NAMES = {bool: "true or false", int: "an integer", str: "a string"}


def child(pointer: str, key: str | int) -> str:
    """Return the JSON pointer of a member or item below another pointer."""
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"


def convert(value: object, kind: object, pointer: str = "") -> object:
    """Return the part of a JSON value that a type knows.

    Unknown fields are left out.  So are fields whose value is null: Go programs, which write
    most of these documents, take null for "not given".

    Raises InvalidSpec at the first place that doesn't fit, in the order of the type's fields.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Required, NotRequired):
        return convert(value, arguments[0], pointer)
    if origin is Annotated:
        return _bounded(convert(value, arguments[0], pointer), arguments[1], pointer)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            words = ", ".join(json_name(word) for word in arguments)
            raise InvalidSpec(pointer, f"is {json_name(value)} but must be one of {words}")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise _wrong_type(value, "an array", pointer)
        item = arguments[0]
        return [convert(entry, item, child(pointer, n)) for n, entry in enumerate(value)]
    if origin is dict:
        if not isinstance(value, dict):
            raise _wrong_type(value, "an object", pointer)
        return {
            _text(key, child(pointer, key)): convert(entry, arguments[1], child(pointer, key))
            for key, entry in value.items()
        }
    if hasattr(kind, "__required_keys__"):
        return _object(value, cast(type, kind), pointer)
    if kind in (bool, int, str):
        # bool is a subclass of int in Python, true is no number in JSON
        if type(value) is not kind:
            raise _wrong_type(value, _NAMES[cast(type, kind)], pointer)
        return _text(value, pointer) if isinstance(value, str) else value
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


def _object(value: object, kind: type, pointer: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _wrong_type(value, "an object", pointer)
    required: frozenset[str] = kind.__required_keys__  # type: ignore[attr-defined]  # a TypedDict
    result = {}
    for name, field in kind.__annotations__.items():
        if value.get(name) is not None:
            result[name] = convert(value[name], field, child(pointer, name))
        elif name in required:
            raise InvalidSpec(child(pointer, name), "is missing but required")
    return result


def _bounded(value: object, bounds: object, pointer: str) -> object:
    assert isinstance(bounds, Bounds)
    assert isinstance(value, int)
    if not bounds.least <= value <= bounds.greatest:
        limits = f"{bounds.least} to {bounds.greatest}"
        raise InvalidSpec(pointer, f"is {json_name(value)} but must be {limits}")
    return value


def _text(value: str, pointer: str) -> str:
    """Refuse what can't become a C string.

    Bytes that aren't UTF-8 are Python's surrogate escapes, written by ``json.dumps`` as
    U+DC80 to U+DCFF; any other lone surrogate has no bytes.
    """
    if "\0" in value:
        raise InvalidSpec(pointer, "holds a NUL character, which no system call can take")
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise InvalidSpec(pointer, "holds a lone surrogate, which is no character") from None
    return value


def _wrong_type(value: object, wanted: str, pointer: str) -> InvalidSpec:
    return InvalidSpec(pointer, f"is {json_name(value)} but must be {wanted}")
