"""The walker that checks a JSON value against types."""

from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import InternalError, InvalidSpec
from cloche.oci import fields, spec
from cloche.oci.schema import child, convert
from tests.unit.oci.full import JSON, full, pointers, replaced
from tools import oci_fields


def every_field(kind: Any) -> set[str]:
    """Return every field of every object in a type, as Type.field."""
    if hasattr(kind, "__required_keys__"):
        found = set()
        for name, inner in kind.__annotations__.items():
            found |= {f"{kind.__name__}.{name}"} | every_field(inner)
        return found
    if get_origin(kind) is None:
        return set()
    return set().union(*(every_field(inner) for inner in get_args(kind)))


def fields_used(value: Any, kind: Any) -> set[str]:
    """Return every field that a document has, as Type.field."""
    origin, arguments = get_origin(kind), get_args(kind)
    if hasattr(kind, "__required_keys__"):
        found = set()
        for name, member in value.items():
            found |= {f"{kind.__name__}.{name}"} | fields_used(member, kind.__annotations__[name])
        return found
    if origin is list:
        return set().union(*(fields_used(member, arguments[0]) for member in value))
    if origin is dict:
        return set().union(*(fields_used(member, arguments[1]) for member in value.values()))
    return fields_used(value, arguments[0]) if hasattr(origin, "_name") else set()


def test_full_document_has_every_field() -> None:
    """The document that other tests change has each field of each type."""
    assert every_field(spec.Spec) == fields_used(full(), spec.Spec)


def test_full_document_is_kept() -> None:
    """A valid document comes out as it went in."""
    assert convert(full(), fields.Spec) == full()


@pytest.mark.parametrize("pointer", pointers(full()))
def test_wrong_type_is_named_by_its_pointer(pointer: str) -> None:
    """Any value replaced by one of a type that fits nowhere is named exactly."""
    with pytest.raises(InvalidSpec) as caught:
        convert(replaced(full(), pointer, 1.5), fields.Spec)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/process/user/uid", 2**32),
        ("/process/user/uid", -1),
        ("/process/oomScoreAdj", 1001),
        ("/process/rlimits/0/hard", 2**64),
        ("/process/terminal", 1),
        ("/process/user/gid", True),
        ("/linux/resources/memory/limit", 2**63),
        ("/linux/resources/memory/swappiness", 101),
        ("/linux/seccomp/syscalls/0/args/0/index", 6),
        ("/linux/devices/0/fileMode", 2**32),
        ("/linux/devices/0/type", "a"),
        ("/linux/namespaces/0/type", "Mount"),
        ("/linux/rootfsPropagation", "public"),
        ("/process/ioPriority/class", "IOPRIO_CLASS_NONE"),
        ("/process/args/0", "a\0b"),
        ("/hostname", "\ud800"),
        ("/annotations/org.example~1a~0b", ["x"]),
    ],
)
def test_value_out_of_range_is_named(pointer: str, value: Any) -> None:
    """Bounds, words and what can't be a C string are checked."""
    with pytest.raises(InvalidSpec) as caught:
        convert(replaced(full(), pointer, value), fields.Spec)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    "pointer",
    [
        "/ociVersion",
        "/root",
        "/root/path",
        "/process/cwd",
        "/process/consoleSize/width",
        "/process/ioPriority/class",
        "/mounts/0/destination",
        "/hooks/poststop/0/path",
        "/linux/uidMappings/0/size",
        "/linux/resources/pids/limit",
        "/linux/resources/devices/0/allow",
        "/linux/seccomp/defaultAction",
    ],
)
def test_missing_field_is_named(pointer: str) -> None:
    """A required field that is null, which means "not given", is named."""
    with pytest.raises(InvalidSpec, match="is missing but required") as caught:
        convert(replaced(full(), pointer, None), fields.Spec)
    assert caught.value.pointer == pointer


def test_unknown_fields_and_nulls_are_left_out() -> None:
    """Neither another platform's fields nor nulls reach whoever reads the spec."""
    document = replaced(full(), "/windows", {"layerFolders": 3})
    document = replaced(document, "/process/user/username", "kermit")
    document = replaced(document, "/hooks", None)
    expected = full()
    del expected["hooks"]
    assert convert(document, fields.Spec) == expected


def test_bytes_that_are_no_utf8_are_kept() -> None:
    """A path may hold any bytes; Python writes those that aren't UTF-8 as surrogate escapes."""
    document = replaced(full(), "/root/path", "caf\udce9")
    assert convert(document, fields.Spec) == document


def test_pointer_is_escaped() -> None:
    """RFC 6901: ~ becomes ~0 and / becomes ~1."""
    assert child("/a", "b/c~d") == "/a/b~1c~0d"
    assert child("", 0) == "/0"


def test_type_without_a_rule_is_a_bug() -> None:
    """A type that the walker doesn't know is never taken for fine."""
    with pytest.raises(InternalError):
        convert(1.5, float)  # type: ignore[arg-type]


def test_fields_are_those_of_the_types() -> None:
    """The table that is used at run time is what its tool makes of the types."""
    made: dict[str, Any] = {}
    exec(oci_fields.source(), made)
    assert repr(made["Spec"]) == repr(fields.Spec), "run tools/oci_fields.py"


@given(JSON)
def test_any_json_is_judged(document: object) -> None:
    """Whatever the document is, the answer is a spec or InvalidSpec."""
    try:
        convert(document, fields.Spec)
    except InvalidSpec:
        pass


@given(st.sampled_from(pointers(full())), JSON)
def test_any_change_is_judged(pointer: str, value: object) -> None:
    """Whatever is put anywhere, the answer is a spec or InvalidSpec at or below that place."""
    found = pointer
    try:
        convert(replaced(full(), pointer, value), fields.Spec)
    except InvalidSpec as error:
        found = error.pointer
    assert found.startswith(pointer)
