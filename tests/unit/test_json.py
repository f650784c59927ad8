"""JSON: what comes out is what the standard module gives, errors too."""

from __future__ import annotations

import contextlib
import json as standard
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cloche
from cloche import json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
BLANKS = st.text(" \t\n\r\f\v\xa0", max_size=3)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le")


def outcome(function: Any, *arguments: Any, **named: Any) -> tuple[str, str]:
    """Return what came of a call: the value, or the error and its message."""
    try:
        return "value", repr(function(*arguments, **named))
    except (ValueError, TypeError, RecursionError) as error:
        return type(error).__name__, str(error)


@given(VALUES, BLANKS, BLANKS, st.booleans(), st.sampled_from(ENCODINGS))
def test_texts_are_read_alike(
    value: object, before: str, after: str, escaped: bool, encoding: str
) -> None:
    """Any value, with blanks (real ones and others) around it, as text and as bytes."""
    text = before + standard.dumps(value, ensure_ascii=escaped) + after
    assert outcome(json.loads, text) == outcome(standard.loads, text)
    data = text.encode(encoding, "surrogatepass")
    assert outcome(json.loads, data) == outcome(standard.loads, data)


@given(VALUES, st.integers(0, 60), st.text('{}[]",:\\ue+-0.1\0\ufeffNIn', max_size=3))
def test_damaged_texts_are_refused_alike(value: object, place: int, damage: str) -> None:
    """A text with something else in the middle gives the same value or the same message."""
    text = standard.dumps(value)
    text = text[:place] + damage + text[place + 1 :]
    assert outcome(json.loads, text) == outcome(standard.loads, text)


@given(st.binary(max_size=12))
def test_any_bytes_are_judged_alike(data: bytes) -> None:
    """Bytes that are no text give the same error."""
    assert outcome(json.loads, data) == outcome(standard.loads, data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"a": 1, "a": 2}',
        "[NaN, Infinity, -Infinity]",
        "[" * 100_000,
        '{"a":' * 100_000,
        "1" * 5000,
        "1e999",
        "-0",
        '"\ud800"',
        r'"\ud800"',
        r'"\ud83d\ude00"',
        '"\t"',
        "1 2",
        "\ufeff1",
        "01",
        "[1,]",
        b"\xff\xfe1\0",
        b"1\0",
        b'"\xed\xa0\x80"',
        b"\xef\xbb\xbf1",
        b"",
    ],
)
def test_special_texts_are_read_alike(text: str | bytes) -> None:
    """The corners: no value, twice the same key, no numbers, depth, surrogates, encodings."""
    assert outcome(json.loads, text) == outcome(standard.loads, text)


@given(VALUES)
def test_strict_texts_are_read(value: object) -> None:
    """What has no NaN and no Infinity is read like anything else."""
    text = standard.dumps(value)
    if {"NaN", "Infinity", "-Infinity"} & set(text.replace(",", " ").replace("]", " ").split()):
        return
    with contextlib.suppress(ValueError):  # a text that looks like a number
        assert repr(json.loads(text, strict=True)) == repr(standard.loads(text))


@pytest.mark.parametrize(
    ("text", "pointer"),
    [('{"a":1,"b":2,"a":3}', "/a"), ('[0,{"x~/":{"":1,"":2}}]', "/1/x~0~1/")],
)
def test_strict_names_are_there_once(text: str, pointer: str) -> None:
    """A name that is there twice is found, however deep."""
    assert json.loads(text)
    with pytest.raises(json.DuplicateName) as caught:
        json.loads(text, strict=True)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a":-Infinity}'])
def test_strict_numbers_are_numbers(text: str) -> None:
    """What JSON has no form for is no number."""
    assert json.loads(text) is not None
    with pytest.raises(ValueError, match="no number"):
        json.loads(text, strict=True)


@given(VALUES, st.booleans())
def test_values_are_written_alike(value: object, sort: bool) -> None:
    """The text is the standard module's, without blanks."""
    text = json.dumps(value, sort_keys=sort)
    assert text == standard.dumps(value, sort_keys=sort, separators=(",", ":"))


@given(VALUES, st.booleans(), st.sampled_from((" ", "\t", "    ")))
def test_indented_values_are_written_alike(value: object, sort: bool, indent: str) -> None:
    """With an item in each line, for people."""
    text = json.dumps(value, sort_keys=sort, indent=indent)
    assert text == standard.dumps(value, sort_keys=sort, indent=indent)


def test_what_cannot_be_written_is_refused_alike() -> None:
    """What JSON has no form for, mixed keys that can't be sorted, a list in itself, depth."""
    circle: list[object] = []
    circle.append(circle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (b"", [object], {(): 1}, circle, deep, math.nan, {1: 2, None: 3, False: 4}):
        for sort in (False, True):
            wanted = outcome(standard.dumps, value, sort_keys=sort, separators=(",", ":"))
            assert outcome(json.dumps, value, sort_keys=sort) == wanted
    with pytest.raises(TypeError):
        json.dumps({1: 2, "a": 3}, sort_keys=True)


def test_nothing_is_imported_for_what_goes_well() -> None:
    """Neither reading nor writing imports the standard module."""
    code = (
        "import sys; from cloche import json; json.dumps(json.loads(b' {\"a\": [1.5, null]} '));"
        "assert not {'json', 're', 'typing'} & sys.modules.keys()"
    )
    root = str(Path(cloche.__file__).parent.parent)
    subprocess.run([sys.executable, "-S", "-c", code], check=True, env={"PYTHONPATH": root})
