"""What a spec mustn't contradict."""

import contextlib
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import InvalidArgument, InvalidSpec
from cloche.oci.identifier import check_id
from cloche.oci.validate import parse, validate
from tests.unit.oci.full import JSON, at, escaped, full, pointers, replaced

MINIMAL = {"ociVersion": "1.0.0", "root": {"path": "rootfs"}}
FORM = re.compile(r"(is|has) .*but (must |required)", re.DOTALL)
"""What is there, and what was expected."""
MAPPING = {"containerID": 0, "hostID": 0, "size": 10}


def without(kind: str) -> list[dict[str, str]]:
    """Return the namespaces of the full spec without one."""
    return [entry for entry in full()["linux"]["namespaces"] if entry["type"] != kind]


def joined(kind: str) -> list[dict[str, str]]:
    """Return the namespaces of the full spec, with one of them joined by path."""
    return [*without(kind), {"type": kind, "path": f"/proc/1/ns/{kind}"}]


def test_full_and_minimal_specs_are_valid() -> None:
    """Every field, and none but the required ones, is fine."""
    assert validate(full()) == full()
    assert validate(MINIMAL) == MINIMAL


def test_parse_reads_json() -> None:
    """The text of a config.json gives the spec, and json.dumps the text again."""
    assert parse(json.dumps(full())) == full()
    assert parse(json.dumps(full()).encode()) == full()


@pytest.mark.parametrize("text", ["", "{", b"\xff\xfe\xfd", "[" * 100_000, "1" * 5000])
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    """Text that isn't JSON, isn't Unicode, or is nested or long without end, is InvalidSpec."""
    with pytest.raises(InvalidSpec) as caught:
        parse(text)
    assert caught.value.pointer == ""


@pytest.mark.parametrize(
    ("text", "pointer"),
    [
        ('{"a": 1, "a": 1}', "/a"),
        ('{"linux": {"a/b": [0, {"x": 1, "y": 2, "x": 3}]}}', "/linux/a~1b/1/x"),
    ],
)
def test_name_that_is_there_twice_is_refused(text: str, pointer: str) -> None:
    """Who checked the document before may have read the other one."""
    with pytest.raises(InvalidSpec) as caught:
        parse(text)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1 column 1"),
        ('{"a": [1,\n}', "line 2 column 1"),
        (b'{"a": "\xff"}', "no UTF-8 at byte 7"),
        (b"\xef\xbb\xbf{}", "BOM"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "thousands of digits"),
        ('{"a": NaN}', "NaN is no number"),
    ],
)
def test_what_is_no_json_is_located(text: str | bytes, words: str) -> None:
    """The message tells where the text stops to be JSON, or why it can't be read."""
    with pytest.raises(InvalidSpec) as caught:
        parse(text)
    assert words in caught.value.problem
    assert FORM.match(caught.value.problem)


@pytest.mark.parametrize("version", ["1.0.0", "1.2.1-dev", "1.3.0+dev", "1.0.0-rc5-dev", "1.99.0"])
def test_every_version_1_is_known(version: str) -> None:
    """Minor versions are compatible with one another, so all of them are taken."""
    assert validate({**MINIMAL, "ociVersion": version})


_STATIC = "MPOL_F_STATIC_NODES"
_LOCAL = {"mode": "MPOL_LOCAL"}

CONTRADICTIONS: list[tuple[str, str, Any]] = [
    # where it shows, what is changed, to what
    ("/ociVersion", "/ociVersion", "1.0"),
    ("/ociVersion", "/ociVersion", "1.0.x"),
    ("/ociVersion", "/ociVersion", "1.01.0"),
    ("/ociVersion", "/ociVersion", "2.0.0"),
    ("/ociVersion", "/ociVersion", "0.5.0-dev"),
    ("/root/path", "/root/path", ""),
    ("/process/args", "/process/args", []),
    ("/process/args/0", "/process/args/0", ""),
    ("/process/cwd", "/process/cwd", "home"),
    ("/process/cwd", "/process/cwd", ""),
    ("/process/env/0", "/process/env/0", "PATH"),
    ("/process/env/1", "/process/env/1", "=x"),
    ("/process/rlimits/0/type", "/process/rlimits/0/type", "RLIMIT_FUN"),
    ("/process/rlimits/0/soft", "/process/rlimits/0/hard", 5),
    (
        "/process/rlimits/1/type",
        "/process/rlimits",
        [{"type": "RLIMIT_CORE", "soft": 0, "hard": 0}] * 2,
    ),
    ("/process/execCPUAffinity/final", "/process/execCPUAffinity/final", "all"),
    ("/mounts/0/destination", "/mounts/0/destination", ""),
    ("/mounts/0/type", "/mounts/0/type", ""),
    ("/mounts/1/source", "/mounts/1/source", ""),
    ("/mounts/1/gidMappings", "/mounts/1/gidMappings", None),
    ("/mounts/1/uidMappings/0/size", "/mounts/1/uidMappings/0/size", 0),
    ("/hooks/poststart/0/path", "/hooks/poststart/0/path", "hook"),
    ("/annotations/", "/annotations", {"": "x"}),
    ("/linux/namespaces/1/type", "/linux/namespaces/1/type", "mount"),
    ("/linux/namespaces/1/path", "/linux/namespaces/1/path", "proc/1/ns/pid"),
    ("/hostname", "/linux/namespaces", without("uts")),
    ("/hostname", "/hostname", "h" * 65),
    ("/domainname", "/domainname", "\u00e4" * 33),
    ("/mounts", "/linux/namespaces", without("mount")),
    ("/linux/uidMappings", "/linux/namespaces", without("user")),
    ("/linux/netDevices", "/linux/namespaces", without("network")),
    ("/linux/timeOffsets", "/linux/namespaces", without("time")),
    ("/linux/timeOffsets", "/linux/namespaces", joined("time")),
    ("/linux/sysctl/kernel.shmmax", "/linux/namespaces", without("ipc")),
    ("/linux/sysctl/kernel.hostname", "/linux/sysctl", {"kernel.hostname": "x"}),
    ("/linux/sysctl/vm.overcommit_memory", "/linux/sysctl", {"vm.overcommit_memory": "1"}),
    ("/linux/sysctl/net~1..~1kernel~1x", "/linux/sysctl", {"net/../kernel/x": "1"}),
    ("/linux/uidMappings", "/linux/uidMappings", []),
    ("/linux/gidMappings", "/linux/gidMappings", None),
    ("/linux/uidMappings/0/size", "/linux/uidMappings/0/size", 0),
    ("/linux/uidMappings/0/hostID", "/linux/uidMappings/0/hostID", 2**32 - 1),
    ("/linux/uidMappings", "/linux/uidMappings", [{**MAPPING, "hostID": n} for n in range(341)]),
    (
        "/linux/gidMappings/0/containerID",
        "/linux/gidMappings",
        [{**MAPPING, "containerID": 9, "hostID": 50}, MAPPING],
    ),
    (
        "/linux/gidMappings/1/hostID",
        "/linux/gidMappings",
        [MAPPING, {"containerID": 20, "hostID": 5, "size": 1}],
    ),
    ("/linux/cgroupsPath", "/linux/cgroupsPath", "/a/../../b"),
    ("/linux/maskedPaths/0", "/linux/maskedPaths/0", "proc/kcore"),
    ("/linux/readonlyPaths/0", "/linux/readonlyPaths/0", ""),
    ("/linux/devices/0/path", "/linux/devices/0/path", "dev/fuse"),
    ("/linux/devices/0/minor", "/linux/devices/0/minor", None),
    ("/linux/devices/1/major", "/linux/devices/1/type", "b"),
    ("/linux/devices/0/major", "/linux/devices/0/major", 4096),
    ("/linux/devices/0/minor", "/linux/devices/0/minor", -1),
    ("/linux/resources/devices/1/minor", "/linux/resources/devices/1/minor", 2**20),
    ("/linux/resources/devices/1/major", "/linux/resources/devices/1/major", -2),
    ("/linux/netDevices/eth0", "/linux/netDevices/eth0/name", "a name"),
    ("/linux/netDevices/a~1b", "/linux/netDevices", {"a/b": {}}),
    ("/linux/netDevices/0123456789abcdef", "/linux/netDevices", {"0123456789abcdef": {}}),
    ("/linux/resources/devices/0/access", "/linux/resources/devices/0/access", "rx"),
    ("/linux/resources/cpu/burst", "/linux/resources/cpu/burst", 1000001),
    ("/linux/resources/cpu/cpus", "/linux/resources/cpu/cpus", "0;1"),
    (
        "/linux/resources/hugepageLimits/0/pageSize",
        "/linux/resources/hugepageLimits/0/pageSize",
        "64kB",
    ),
    (
        "/linux/resources/hugepageLimits/0/pageSize",
        "/linux/resources/hugepageLimits/0/pageSize",
        "",
    ),
    ("/linux/resources/rdma/mlx5_1", "/linux/resources/rdma/mlx5_1", {}),
    ("/linux/resources/unified/..~1x", "/linux/resources/unified", {"../x": "1"}),
    ("/linux/seccomp/defaultErrnoRet", "/linux/seccomp/defaultAction", "SCMP_ACT_ALLOW"),
    ("/linux/seccomp/listenerMetadata", "/linux/seccomp/listenerPath", None),
    ("/linux/seccomp/syscalls/0/names", "/linux/seccomp/syscalls/0/names", []),
    ("/linux/seccomp/syscalls/0/errnoRet", "/linux/seccomp/syscalls/0/action", "SCMP_ACT_LOG"),
    ("/linux/intelRdt/memBwSchema", "/linux/intelRdt/memBwSchema", "L3:0=1"),
    ("/linux/intelRdt/closID", "/linux/intelRdt/closID", "../x"),
    ("/linux/intelRdt/closID", "/linux/intelRdt/closID", "info"),
    ("/linux/intelRdt/schemata/0", "/linux/intelRdt/schemata/0", "L2:0=f\nMB:0=1"),
    ("/linux/memoryPolicy/nodes", "/linux/memoryPolicy/nodes", "0x1"),
    ("/linux/memoryPolicy/nodes", "/linux/memoryPolicy/nodes", "3-2"),
    ("/linux/memoryPolicy/nodes", "/linux/memoryPolicy/nodes", "0-1024"),
    ("/linux/memoryPolicy/nodes", "/linux/memoryPolicy/nodes", ""),
    ("/linux/memoryPolicy/nodes", "/linux/memoryPolicy/mode", "MPOL_LOCAL"),
    ("/linux/memoryPolicy/flags", "/linux/memoryPolicy", _LOCAL | {"flags": [_STATIC]}),
    ("/linux/memoryPolicy/flags", "/linux/memoryPolicy/flags", [_STATIC, "MPOL_F_RELATIVE_NODES"]),
    ("/process/scheduler/priority", "/process/scheduler/priority", 1),
    ("/process/scheduler/runtime", "/process/scheduler/policy", "SCHED_OTHER"),
    ("/process/scheduler/period", "/process/scheduler/period", 2**63),
    ("/process/scheduler", "/process/scheduler/deadline", 4),
    ("/process/scheduler", "/process/scheduler/runtime", 0),
    ("/process/execCPUAffinity/initial", "/process/execCPUAffinity/initial", "0-8192"),
]


@pytest.mark.parametrize(("shown", "changed", "value"), CONTRADICTIONS)
def test_contradiction_is_named_by_its_pointer(shown: str, changed: str, value: Any) -> None:
    """Each thing that makes no sense is refused, at the place where it shows."""
    with pytest.raises(InvalidSpec) as caught:
        validate(replaced(full(), changed, value))
    assert caught.value.pointer == shown
    assert FORM.match(caught.value.problem)


def test_unknown_capability_is_no_error() -> None:
    """The specification wants a warning, which the plan has."""
    assert validate(replaced(full(), "/process/capabilities/bounding/0", "CAP_TIME_TRAVEL"))


@pytest.mark.parametrize("infinity", [-1, 2**64 - 1])
def test_unlimited_is_the_greatest_limit(infinity: int) -> None:
    """RLIM_INFINITY is above every number, whichever way it is written."""
    limit = {"type": "RLIMIT_CORE", "soft": 2**64 - 2, "hard": infinity}
    assert validate(replaced(full(), "/process/rlimits", [limit]))
    with pytest.raises(InvalidSpec, match="no more than the hard limit"):
        validate(replaced(full(), "/process/rlimits", [{**limit, "soft": infinity, "hard": 5}]))


def test_masks_need_a_mount_namespace() -> None:
    """Without a mount namespace of its own a mask would hide the host's files."""
    for field in ("maskedPaths", "readonlyPaths"):
        with pytest.raises(InvalidSpec) as caught:
            validate({**MINIMAL, "linux": {field: ["/proc/kcore"]}})
        assert caught.value.pointer == f"/linux/{field}"


def test_joined_user_namespace_needs_no_mappings() -> None:
    """A user namespace that is joined has its maps already."""
    namespaces = [{"type": "user", "path": "/proc/1/ns/user"}]
    assert validate({**MINIMAL, "linux": {"namespaces": namespaces}})


def test_empty_path_is_a_new_namespace() -> None:
    """Go programs write an empty string for what isn't given."""
    spec = validate({**MINIMAL, "linux": {"namespaces": [{"type": "pid", "path": ""}]}})
    assert spec["linux"]["namespaces"] == [{"type": "pid", "path": ""}]


@pytest.mark.parametrize("identifier", ["a", "A_1.b+c-d", "...", "x" * 255])
def test_container_id_is_taken(identifier: str) -> None:
    """All letters that are fit for a file name are fit for an id."""
    assert check_id(identifier) == identifier


@pytest.mark.parametrize("identifier", ["", ".", "..", "a/b", "a b", "é", "a\n", "x" * 256])
def test_container_id_is_refused(identifier: str) -> None:
    """What could be a path, or couldn't be a file name, is no id."""
    with pytest.raises(InvalidArgument):
        check_id(identifier)


def judged(document: object) -> Any:
    """Return the valid spec; None for a document that is refused in the words that all are."""
    try:
        return validate(document)
    except InvalidSpec as error:
        problem = error.problem
    assert FORM.match(problem)
    return None


@given(st.sampled_from(pointers(full())), JSON)
def test_any_change_is_judged(pointer: str, value: object) -> None:
    """Whatever is put anywhere, the answer is a valid spec or InvalidSpec."""
    once = judged(replaced(full(), pointer, value))
    assert once is None or validate(once) == once


@given(st.dictionaries(st.sampled_from(pointers(full())[1:]), JSON, min_size=2, max_size=4))
def test_any_changes_are_judged(changes: dict[str, object]) -> None:
    """So it is with several changes at a time, one of which may take the others' place away."""
    document = full()
    for pointer, value in changes.items():
        with contextlib.suppress(LookupError, TypeError, ValueError):
            document = replaced(document, pointer, value)
    judged(document)


@given(st.binary(max_size=40) | st.text(max_size=40) | JSON.map(json.dumps))
def test_any_text_is_judged(data: bytes | str) -> None:
    """Whatever a file holds, the answer is a valid spec or InvalidSpec."""
    with contextlib.suppress(InvalidSpec):
        parse(data)


@given(st.sampled_from(pointers(full())[1:]))
def test_any_missing_member_is_judged(pointer: str) -> None:
    """Without any of its members a spec is still valid, or the place of what is wrong is told."""
    holder, _, key = pointer.rpartition("/")
    parent = at(full(), holder)
    if isinstance(parent, dict):
        parent = {name: value for name, value in parent.items() if escaped(name) != key}
    else:
        parent = [value for index, value in enumerate(parent) if str(index) != key]
    judged(replaced(full(), holder, parent))


IDS = st.integers(min_value=0, max_value=2**32 - 2)


@given(st.lists(st.tuples(IDS, IDS, st.integers(1, 2**20)), max_size=8))
def test_mappings_that_overlap_are_refused(entries: list[tuple[int, int, int]]) -> None:
    """Mappings are valid exactly when no id is there twice, on either side."""
    mappings = [{"containerID": c, "hostID": h, "size": s} for c, h, s in entries]
    document = {
        **MINIMAL,
        "linux": {
            "namespaces": [{"type": "user"}],
            "uidMappings": mappings,
            "gidMappings": [MAPPING],
        },
    }

    def disjoint(ranges: list[range]) -> bool:
        pairs = [(a, b) for n, a in enumerate(ranges) for b in ranges[:n]]
        inside = all(one.stop <= 2**32 - 1 for one in ranges)
        return inside and all(a.stop <= b.start or b.stop <= a.start for a, b in pairs)

    expected = bool(entries) and all(
        disjoint([range(entry[side], entry[side] + entry[2]) for entry in entries])
        for side in (0, 1)
    )
    try:
        validate(document)
    except InvalidSpec:
        assert not expected
    else:
        assert expected
