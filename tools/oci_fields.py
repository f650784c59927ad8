"""Writes ``src/cloche/oci/fields.py`` from the types in ``src/cloche/oci/spec.py``.

Run it after each change of these types: ``.venv/bin/python tools/oci_fields.py && make format``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Required, get_args, get_origin

sys.path.insert(0, str(Path(__file__).parent.parent / "src"))

from cloche.oci import spec

TARGET = Path(__file__).parent.parent / "src/cloche/oci/fields.py"

_HEAD = '''\
"""The fields of a ``config.json`` as plain data, for ``cloche.oci.schema``.

Made by ``tools/oci_fields.py`` from the types of ``cloche.oci.spec``, where they are explained.  To
read the types themselves takes ``typing``, whose import takes longer than checking a document.
"""

from __future__ import annotations

from cloche.oci.schema import Array, Integer, Map, Object, Word
'''


def source() -> str:
    """Return the text of the module."""
    found: dict[str, str] = {}
    _describe(spec.Spec, found)
    return "\n".join([_HEAD, *(f"{name} = {text}" for name, text in found.items())]) + "\n"


def _describe(kind: Any, found: dict[str, str]) -> str:
    """Return the expression for a type; what has a name in ``spec`` is put into ``found``."""
    if get_origin(kind) is Required:
        return _describe(get_args(kind)[0], found)
    for name, value in vars(spec).items():
        if not name.startswith("_") and value is kind and _is_named(kind):
            if name not in found:
                text = _expression(kind, found)
                found[name] = text
            return name
    return _expression(kind, found)


def _is_named(kind: Any) -> bool:
    return get_origin(kind) in (Annotated, Literal) or hasattr(kind, "__required_keys__")


def _expression(kind: Any, found: dict[str, str]) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        bounds = arguments[1]
        return f"Integer({_number(bounds.least)}, {_number(bounds.greatest)})"
    if origin is Literal:
        return f"Word({_tuple([_text(word) for word in arguments])})"
    if origin is list:
        return f"Array({_describe(arguments[0], found)})"
    if origin is dict:
        return f"Map({_describe(arguments[1], found)})"
    if hasattr(kind, "__required_keys__"):
        fields = [
            f"    {_text(name)}: {_describe(inner, found)},\n"
            for name, inner in kind.__annotations__.items()
        ]
        required = [_text(name) for name in kind.__annotations__ if name in kind.__required_keys__]
        return f"Object({{\n{''.join(fields)}}}, {_tuple(required)})"
    assert kind in (bool, int, str), kind
    return str(kind.__name__)


def _number(value: int) -> str:
    """Powers of two are easier to read as such."""
    if abs(value) < 2**15:
        return str(value)
    if value < 0:
        return f"-(2**{(-value).bit_length() - 1})"
    return f"2**{value.bit_length()} - 1" if value & (value + 1) == 0 else f"{value:_}"


def _text(value: str) -> str:
    return f'"{value}"'


def _tuple(items: list[str]) -> str:
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


if __name__ == "__main__":
    TARGET.write_text(source())
