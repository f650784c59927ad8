"""JSON without the standard library's ``json``, whose import of ``re`` takes milliseconds.

What does the work there is C code that can be used by itself.  It is given what goes well; for
all else, an error too, the standard module is imported after all, so that there is no difference
in what comes out.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BLANKS = " \t\n\r"
_CONSTANTS = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}


class _Decoding:
    """How to read, as ``json.JSONDecoder`` tells its scanner."""

    strict = True
    object_hook = None
    object_pairs_hook: Any = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__


class DuplicateName(ValueError):
    """Raised when an object has a name twice."""

    def __init__(self, pointer: str) -> None:
        super().__init__(f"{pointer} is there twice")
        self.pointer = pointer
        """Where, as a JSON pointer (RFC 6901)."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateName("")  # only the second reading knows where
    return members


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


class _StrictDecoding(_Decoding):
    """The same, of exactly what RFC 8259 has, and no object with a name twice."""

    object_pairs_hook = staticmethod(_unique)
    parse_constant = staticmethod(_no_number)


class _Pairs(list["Any"]):
    """The members of an object, to be searched for a name that is there twice."""


def loads(text: str | bytes, *, strict: bool = False) -> Any:
    """Return the value of a JSON text; bytes are UTF-8, or UTF-16 or UTF-32.

    When ``strict``, neither NaN nor Infinity is a number, and a name that an object has twice is a
    mistake: of the two programs that read such a text, each may take another one.

    Raises ValueError with the line and column of a mistake, DuplicateName, or RecursionError.
    """
    try:
        from _json import make_scanner

        string = text if isinstance(text, str) else text.decode()
        scan = make_scanner(_StrictDecoding if strict else _Decoding)  # type: ignore[arg-type]
        value, end = scan(string, len(string) - len(string.lstrip(_BLANKS)))
        if not string[end:].strip(_BLANKS):
            return value
    except (ImportError, AttributeError, ValueError, StopIteration, RecursionError):
        pass  # the same again, for the message
    import json

    if not strict:
        return json.loads(text)
    return _members(json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_number), "")


def _members(value: Any, pointer: str) -> Any:
    """Return a value with its objects made of their pairs; raises DuplicateName."""
    if isinstance(value, _Pairs):
        members = {}
        for name, member in value:
            place = f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"
            if name in members:
                raise DuplicateName(place)
            members[name] = _members(member, place)
        return members
    if isinstance(value, list):
        return [_members(item, f"{pointer}/{index}") for index, item in enumerate(value)]
    return value


def dumps(value: object, *, sort_keys: bool = False, indent: str = "") -> str:
    """Return the JSON text of a value, in ASCII.

    It has no blanks, or with ``indent`` a line for each item, and then names are strings only.

    Raises TypeError for what JSON has no form for, ValueError for a value that holds itself.
    """
    if indent:
        return _indented(value, sort_keys, indent, "\n")
    try:
        from _json import encode_basestring_ascii, make_encoder

        encode = make_encoder(
            {}, _refuse, encode_basestring_ascii, None, ":", ",", sort_keys, False, True
        )
        return "".join(encode(value, 0))
    except (ImportError, TypeError, ValueError, RecursionError):
        pass  # the same again, for the message
    import json

    return json.dumps(value, sort_keys=sort_keys, separators=(",", ":"))


def _indented(value: object, sort_keys: bool, indent: str, line: str) -> str:
    """Return the text of a value that stands in a line which begins so."""
    inner = line + indent
    if isinstance(value, dict) and value:
        members = [
            f"{dumps(name)}: {_indented(member, sort_keys, indent, inner)}"
            for name, member in (sorted(value.items()) if sort_keys else value.items())
        ]
        return f"{{{inner}{f',{inner}'.join(members)}{line}}}"
    if isinstance(value, (list, tuple)) and value:
        items = [_indented(item, sort_keys, indent, inner) for item in value]
        return f"[{inner}{f',{inner}'.join(items)}{line}]"
    return dumps(value)


def _refuse(value: object) -> object:
    raise TypeError(value)
