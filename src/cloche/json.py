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
    object_hook = object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = _CONSTANTS.__getitem__


def loads(text: str | bytes) -> Any:
    """Return the value of a JSON text; bytes are UTF-8, or UTF-16 or UTF-32.

    Raises ValueError with the line and column of a mistake, or RecursionError.
    """
    try:
        from _json import make_scanner

        string = text if isinstance(text, str) else text.decode()
        scan = make_scanner(_Decoding)  # type: ignore[arg-type]  # any object with these attributes
        value, end = scan(string, len(string) - len(string.lstrip(_BLANKS)))
        if not string[end:].strip(_BLANKS):
            return value
    except (ImportError, AttributeError, ValueError, StopIteration, RecursionError):
        pass  # the same again, for the message
    import json

    return json.loads(text)


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
