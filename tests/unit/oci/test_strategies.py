"""Any document of the right types is judged: by the schema, by what contradicts itself."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from cloche.errors import InvalidSpec
from cloche.oci import fields
from cloche.oci.schema import convert
from cloche.oci.validate import validate
from tests.unit.oci.strategies import changed, of


@given(of(fields.Spec))
def test_what_is_made_of_the_fields_fits_the_schema(document: Any) -> None:
    """Nothing is left out of it, and nothing is refused but what can't be a C string."""
    try:
        assert convert(document, fields.Spec) == document
    except InvalidSpec as error:
        problem = error.problem
    else:
        return
    assert "NUL" in problem or "surrogate" in problem


@given(changed())
def test_whatever_is_changed_is_judged(document: Any) -> None:
    """The answer is a valid spec, which is valid once more, or InvalidSpec."""
    try:
        once = validate(document)
    except InvalidSpec:
        return
    assert validate(once) == once
