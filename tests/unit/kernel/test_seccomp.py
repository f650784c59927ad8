from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.errors import (
    ClocheError,
    InvalidArgument,
    InvalidSpec,
    MissingDependency,
    NotFound,
    Unsupported,
)
from cloche.kernel import capabilities, flags, seccomp
from cloche.kernel.seccomp import cache, compiler, default, fallback
from cloche.kernel.seccomp.profile import check_spec

PROGRAM = bytes.fromhex("060000000000ff7f")
SIMPLE = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}],
}


def _allowed(profile: dict[str, Any], name: str) -> list[Any]:
    """Return the conditions of each rule that allows a system call; [] is none at all."""
    return [
        rule.get("args")
        for rule in profile["syscalls"]
        if name in rule["names"] and rule["action"] == "SCMP_ACT_ALLOW"
    ]


# --- the default profile -------------------------------------------------------------------------


def test_dangerous_calls_are_never_allowed() -> None:
    """Not to root with every capability either: what Docker's profile leaves out."""
    profile = seccomp.default_profile(capabilities.full(40), "x86_64")
    for name in (
        "add_key request_key keyctl io_uring_setup io_uring_enter io_uring_register userfaultfd "
        "kexec_load kexec_file_load swapon swapoff nfsservctl pivot_root _sysctl uselib "
        "create_module move_pages migrate_pages"
    ).split():
        assert _allowed(profile, name) == [], name
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["defaultErrnoRet"] == errno.EPERM


@pytest.mark.parametrize("capability", sorted(default.BY_CAPABILITY))
def test_capabilities_open_their_calls(capability: str) -> None:
    """A call that belongs to a capability is allowed with it and not without it."""
    without = seccomp.default_profile(0, "x86_64")
    granted = seccomp.default_profile(capabilities.mask([capability]), "x86_64")
    for name in default.BY_CAPABILITY[capability].split():
        assert None in _allowed(granted, name), name
        assert None not in _allowed(without, name), name


def test_clone_makes_no_namespaces() -> None:
    """Without CAP_SYS_ADMIN clone is allowed without any of seven flags, clone3 doesn't exist."""
    profile = seccomp.default_profile(capabilities.DEFAULT, "x86_64")
    [[argument]] = _allowed(profile, "clone")
    assert argument["op"] == "SCMP_CMP_MASKED_EQ"
    assert argument["value"] == 0x7E020000
    assert argument["valueTwo"] == 0
    clone3 = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}
    assert clone3 in profile["syscalls"]


@given(st.integers(min_value=0, max_value=2**64 - 1))
def test_only_harmless_socket_families_pass(argument: int) -> None:
    """The kernel looks at the lower 32 bits only, and so do the rules: no AF_VSOCK or AF_ALG."""
    family = argument & 0xFFFFFFFF
    rules = _allowed(seccomp.default_profile(0, "x86_64"), "socket")
    passes = any(argument & rule["value"] == rule["valueTwo"] for [rule] in rules)
    assert passes == (family < 64 and family not in (38, 40))


def test_each_socket_family_is_decided() -> None:
    """All that there are but two, with and without rubbish in the upper half."""
    rules = _allowed(seccomp.default_profile(0, "x86_64"), "socket")
    for family in range(46):
        for upper in (0, 1 << 32, 0xFFFFFFFF << 32):
            passes = any((family | upper) & rule["value"] == rule["valueTwo"] for [rule] in rules)
            assert passes == (family not in (default.AF_ALG, default.AF_VSOCK))


def test_each_machine_has_its_own_calls() -> None:
    """The profile is written for two machines, and says so for a third."""
    assert _allowed(seccomp.default_profile(0, "x86_64"), "arch_prctl") == [None]
    arm = seccomp.default_profile(0, "aarch64")
    assert _allowed(arm, "arch_prctl") == []
    assert _allowed(arm, "sync_file_range2") == [None]
    assert arm["architectures"] == ["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    with pytest.raises(Unsupported, match="no default seccomp profile for riscv64"):
        seccomp.default_profile(0, "riscv64")


def test_the_data_has_a_version() -> None:
    """Whoever changes what comes out must raise VERSION, or caches keep the old filters."""
    text = json.dumps(
        [seccomp.default_profile(mask, "x86_64") for mask in (0, capabilities.full(40))],
        sort_keys=True,
    )
    digest = hashlib.sha256(text.encode()).hexdigest()
    assert (seccomp.VERSION, digest[:16]) == (1, "27856e5d66bf06cd")


# --- the cache -----------------------------------------------------------------------------------


def test_a_stored_program_is_loaded_again(tmp_path: Path) -> None:
    """The cache makes its directory, closed to others, and leaves nothing but the file."""
    directory = tmp_path / "cache"
    cache.store(str(directory), "name", PROGRAM)
    assert cache.load(str(directory), "name") == PROGRAM
    assert directory.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in directory.iterdir()] == ["name.bpf"]


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A cache directory with one program in it."""
    directory = tmp_path / "cache"
    cache.store(str(directory), "name", PROGRAM * 3)
    return directory


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_not_trusted(cached: Path, mode: int) -> None:
    """A filter that somebody else could have written is compiled afresh instead."""
    (cached / "name.bpf").chmod(mode)
    assert cache.load(str(cached), "name") is None


def test_a_directory_that_others_may_write_is_not_trusted(cached: Path) -> None:
    """There somebody else could have put the file in place."""
    cached.chmod(0o777)
    assert cache.load(str(cached), "name") is None


@pytest.mark.needs("root")
def test_a_file_of_somebody_else_is_not_trusted(cached: Path) -> None:
    """Neither is the directory's owner enough, nor the file's."""
    os.chown(cached / "name.bpf", 65534, 65534)
    assert cache.load(str(cached), "name") is None
    os.chown(cached / "name.bpf", 0, 0)
    os.chown(cached, 65534, 65534)
    assert cache.load(str(cached), "name") is None


def test_a_link_is_not_followed(cached: Path, tmp_path: Path) -> None:
    """Neither a symbolic link in place of the file nor of the directory."""
    (cached / "link.bpf").symlink_to(cached / "name.bpf")
    assert cache.load(str(cached), "link") is None
    (tmp_path / "other").symlink_to(cached)
    assert cache.load(str(tmp_path / "other"), "name") is None


def test_a_program_of_another_name_is_not_taken(cached: Path) -> None:
    """Who may link or rename the caller's files can't exchange one filter for another."""
    (cached / "strict.bpf").hardlink_to(cached / "name.bpf")
    assert cache.load(str(cached), "strict") is None


@pytest.mark.needs("root")
def test_nothing_is_kept_in_a_directory_of_somebody_else(cached: Path) -> None:
    """There it could be exchanged, or be read by whom it isn't for."""
    os.chown(cached, 65534, 65534)
    cache.store(str(cached), "new", PROGRAM)
    assert [path.name for path in cached.iterdir()] == ["name.bpf"]


def test_a_fifo_is_no_cached_program(cached: Path) -> None:
    """And waiting for its writer isn't either."""
    os.mkfifo(cached / "fifo.bpf", 0o600)
    assert cache.load(str(cached), "fifo") is None


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_file_is_noticed(cached: Path, data: st.DataObject) -> None:
    """Cut short or with any byte changed, it is as if it weren't there."""
    file = cached / "name.bpf"
    cache.store(str(cached), "name", PROGRAM * 3)
    whole = file.read_bytes()
    position = data.draw(st.integers(0, len(whole) - 1))
    file.write_bytes(whole[:position])
    assert cache.load(str(cached), "name") is None
    change = data.draw(st.integers(1, 255))
    damaged = whole[:position] + bytes([whole[position] ^ change]) + whole[position + 1 :]
    file.write_bytes(damaged)
    assert cache.load(str(cached), "name") is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    """The program was compiled all the same."""
    (tmp_path / "file").write_text("")
    cache.store(str(tmp_path / "file"), "name", PROGRAM)
    cache.store("/proc/nowhere", "name", PROGRAM)


def test_the_second_time_nothing_is_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways to a program go through the cache, and different inputs don't meet there."""
    built: list[object] = []

    def build(profile: object) -> bytes:
        built.append(profile)
        return PROGRAM * len(built)

    monkeypatch.setattr(compiler, "build", build)
    directory = str(tmp_path / "cache")
    programs = {
        seccomp.default_program(0, directory),
        seccomp.default_program(1, directory),
        seccomp.program(SIMPLE, directory),
        seccomp.program(SIMPLE | {"defaultAction": "SCMP_ACT_LOG"}, directory),
    }
    assert len(programs) == len(built) == 4
    assert seccomp.default_program(0, directory) == PROGRAM
    assert seccomp.program(SIMPLE, directory) == PROGRAM * 3
    assert len(built) == 4


# --- what answers ENOSYS -------------------------------------------------------------------------


def _interpret(program: bytes, number: int, architecture: int) -> int | None:
    """Run a prologue as the kernel does; return its verdict, or None when it falls through."""
    code = list(struct.iter_unpack("=HBBI", program))
    at = accumulator = 0
    while at < len(code):
        operation, if_true, if_false, constant = code[at]
        at += 1
        if operation == 0x20:
            accumulator = {0: number, 4: architecture}[constant]
        elif operation == 0x05:
            at += constant
        elif operation == 0x06:
            return int(constant)
        else:
            test = {0x15: accumulator == constant, 0x25: accumulator > constant}
            test[0x45] = bool(accumulator & constant)
            at += if_true if test[operation] else if_false
    assert at == len(code), "jumped beyond the filter's beginning"
    return None


X86_64, I386, ARM64 = 0xC000003E, 0x40000003, 0xC00000B7
ENOSYS = 0x00050000 | errno.ENOSYS


@given(st.integers(0, 2**32 - 1), st.sampled_from([X86_64, I386, ARM64]))
def test_newer_calls_do_not_exist(number: int, architecture: int) -> None:
    """Above each architecture's highest, and there only; x32 has a highest of its own."""
    program = fallback.prologue({X86_64: 450, I386: 449}, 0x40000000 | 547)
    is_x32 = architecture == X86_64 and number & 0x40000000
    highest = {X86_64: 0x40000000 | 547 if is_x32 else 450, I386: 449}.get(architecture)
    newer = highest is not None and number > highest
    assert _interpret(program, number, architecture) == (ENOSYS if newer else None)


@pytest.mark.parametrize("number", [0, 449, 450, 451, 2**31, 0x40000000, 0x40000224, 0xFFFFFFFF])
def test_a_filter_without_x32_leaves_x32_alone(number: int) -> None:
    """The library kills a process for a call of an architecture that the filter doesn't know."""
    program = fallback.prologue({X86_64: 450}, None)
    is_newer = number > 450 and not number & 0x40000000
    assert _interpret(program, number, X86_64) == (ENOSYS if is_newer else None)


def test_without_known_calls_there_is_no_prologue() -> None:
    """A profile that names nothing has no highest call."""
    assert fallback.prologue({}, None) == b""


# --- flags ---------------------------------------------------------------------------------------


def test_flags_are_runcs() -> None:
    """None said is SPEC_ALLOW, an empty list is none, and TSYNC has nothing to do."""
    assert seccomp.filter_flags({}) == flags.SECCOMP_FILTER_FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    assert seccomp.filter_flags({"flags": []}) == 0
    named = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG"]
    assert seccomp.filter_flags({"flags": named}) == 2
    killable = {"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}
    assert seccomp.filter_flags(killable) == 0
    notify = {"syscalls": [{"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}]}
    assert seccomp.filter_flags(killable | notify) == 32 | flags.SECCOMP_FILTER_FLAG_NEW_LISTENER


# --- profiles in a spec --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"defaultAction": "ALLOW"}, "/linux/seccomp/defaultAction"),
        ({"defaultErrnoRet": 1}, "/linux/seccomp/defaultErrnoRet"),
        ({"flags": ["TSYNC"]}, "/linux/seccomp/flags"),
        ({"architectures": ["x86_64"]}, "/linux/seccomp/architectures/0"),
        ({"listenerMetadata": "x"}, "/linux/seccomp/listenerMetadata"),
        (
            {"syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}]},
            "/linux/seccomp/syscalls/0/names",
        ),
        ({"syscalls": [{"names": ["a"], "action": "X"}]}, "/linux/seccomp/syscalls/0/action"),
        (
            {"syscalls": [{"names": ["a"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096}]},
            "/linux/seccomp/syscalls/0/errnoRet",
        ),
    ],
)
def test_a_broken_profile_is_pointed_at(
    change: dict[str, Any], pointer: str, tmp_path: Path
) -> None:
    """Each mistake is an InvalidSpec with its place."""
    with pytest.raises(InvalidSpec) as caught:
        seccomp.program(SIMPLE | change, str(tmp_path))
    assert caught.value.pointer == pointer


@pytest.mark.parametrize(
    ("argument", "place"),
    [
        ({"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}, "index"),
        ({"index": True, "value": 1, "op": "SCMP_CMP_EQ"}, "index"),
        ({"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}, "value"),
        ({"index": 0, "value": 2**64, "op": "SCMP_CMP_EQ"}, "value"),
        ({"index": 0, "op": "SCMP_CMP_EQ"}, "value"),
        ({"index": 0, "value": 1, "valueTwo": 1.5, "op": "SCMP_CMP_EQ"}, "valueTwo"),
        ({"index": 0, "value": 1, "op": "=="}, "op"),
    ],
)
def test_a_broken_argument_is_pointed_at(
    argument: dict[str, Any], place: str, tmp_path: Path
) -> None:
    """An argument that can't be compared never becomes a rule without it."""
    rule = {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [argument]}
    with pytest.raises(InvalidSpec) as caught:
        seccomp.program({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}, str(tmp_path))
    assert caught.value.pointer == f"/linux/seccomp/syscalls/0/args/0/{place}"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({}, "listenerPath"),
        ({"listenerPath": "/x", "defaultAction": "SCMP_ACT_NOTIFY"}, "defaultAction"),
        (
            {
                "listenerPath": "/x",
                "syscalls": [{"names": ["read", "sendmsg"], "action": "SCMP_ACT_NOTIFY"}],
            },
            "syscalls/0/action",
        ),
    ],
)
def test_a_listener_that_could_not_listen(
    change: dict[str, Any], place: str, tmp_path: Path
) -> None:
    """It needs a place to be sent to, and the call that it is sent by."""
    rule = {"names": ["mount"], "action": "SCMP_ACT_NOTIFY"}
    with pytest.raises(InvalidSpec) as caught:
        seccomp.program(SIMPLE | {"syscalls": [rule]} | change, str(tmp_path))
    assert caught.value.pointer == f"/linux/seccomp/{place}"


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the packages to install."""
    monkeypatch.setattr(compiler, "_LIBRARY", "libnosuchthing.so.9")
    with pytest.raises(MissingDependency) as caught:
        seccomp.default_program(0, str(tmp_path))
    assert "libseccomp2 (Debian" in caught.value.hint
    assert "(Fedora" in caught.value.hint


# --- profiles in a file --------------------------------------------------------------------------


def _load(tmp_path: Path, document: object, capability_mask: int = 0) -> dict[str, Any]:
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(document))
    return seccomp.load_profile(str(file), capability_mask)


def test_dockers_conditions_are_resolved(tmp_path: Path) -> None:
    """Rules for other machines, kernels and capabilities are left out."""
    ours = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)

    def rule(name: str, **conditions: object) -> dict[str, object]:
        return {"names": [name], "action": "SCMP_ACT_ALLOW", "comment": "", **conditions}

    rules = [
        rule("always", includes={}, excludes={}, args=[]),
        rule("this-machine", includes={"arches": [ours, "vax"]}),
        rule("other-machine", includes={"arches": ["vax"]}),
        rule("not-this-machine", excludes={"arches": [ours]}),
        rule("old-kernel", includes={"minKernel": "4.8"}),
        rule("new-kernel", includes={"minKernel": "99.0"}),
        rule("not-on-new-kernels", excludes={"minKernel": "4.8"}),
        rule("held", includes={"caps": ["CAP_SYS_ADMIN"]}),
        rule("half-held", includes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}),
        rule("not-when-held", excludes={"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}),
        rule("not-held", excludes={"caps": ["CAP_BPF"]}),
        rule("unknown", includes={"caps": ["CAP_FROM_THE_FUTURE"]}),
    ]
    document = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules}
    profile = _load(tmp_path, document, capabilities.mask(["CAP_SYS_ADMIN"]))
    assert [each["names"][0] for each in profile["syscalls"]] == [
        "always", "this-machine", "old-kernel", "held", "not-held",
    ]  # fmt: skip


def test_dockers_architectures_are_resolved(tmp_path: Path) -> None:
    """An archMap gives this machine's architecture with its relatives."""
    ours = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}[os.uname().machine]
    document = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [
            {"architecture": "SCMP_ARCH_S390X", "subArchitectures": ["SCMP_ARCH_S390"]},
            {"architecture": ours, "subArchitectures": ["SCMP_ARCH_X32"]},
        ],
    }
    assert _load(tmp_path, document)["architectures"] == [ours, "SCMP_ARCH_X32"]


def test_the_old_form_and_podmans_words_are_understood(tmp_path: Path) -> None:
    """One ``name`` to a rule, and an errno by its name."""
    profile = _load(
        tmp_path,
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrno": "ENOSYS",
            "syscalls": [{"name": "mkdir", "action": "SCMP_ACT_ERRNO", "errno": "EACCES"}],
        },
    )
    assert profile["defaultErrnoRet"] == errno.ENOSYS
    assert profile["syscalls"] == [
        {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.EACCES}
    ]


def test_the_oci_form_passes_unchanged(tmp_path: Path) -> None:
    """What is of the form already stays as it is."""
    profile = seccomp.default_profile(capabilities.DEFAULT, "x86_64")
    assert _load(tmp_path, profile) == profile


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "/: isn't an object"),
        ({}, "/defaultAction: is missing"),
        ({"defaultAction": "SCMP_ACT_ALLOW", "sycalls": []}, "/sycalls: isn't a key"),
        ({"defaultAction": "X"}, "/defaultAction: isn't an action"),
        ({"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"name": "x"}]}, "/syscalls/0/action"),
        (
            {
                "defaultAction": "SCMP_ACT_LOG",
                "syscalls": [
                    {
                        "name": "skipped",
                        "action": "SCMP_ACT_LOG",
                        "includes": {"arches": ["vax"]},
                    },
                    {"name": "x", "action": "SCMP_ACT_LOG", "arg": []},
                ],
            },
            "/syscalls/1/arg: isn't a key",
        ),
        (
            {"defaultAction": "SCMP_ACT_LOG", "syscalls": [{"name": "x", "names": ["y"]}]},
            "/syscalls/0/name: can't be combined",
        ),
        (
            {
                "defaultAction": "SCMP_ACT_LOG",
                "syscalls": [{"name": "x", "includes": {"minKernel": "new"}}],
            },
            "/syscalls/0/includes/minKernel: isn't a kernel version",
        ),
        (
            {"defaultAction": "SCMP_ACT_LOG", "architectures": ["SCMP_ARCH_X86"], "archMap": [{}]},
            "/archMap: can't be combined",
        ),
    ],
)
def test_a_broken_file_is_named_with_the_place(
    tmp_path: Path, document: object, message: str
) -> None:
    """The error says which file and where in it, counting the rules that don't apply too."""
    with pytest.raises(InvalidArgument) as caught:
        _load(tmp_path, document)
    assert str(caught.value).startswith(f"seccomp profile {tmp_path}/profile.json: {message}")


def test_files_that_are_no_profiles_are_told_apart(tmp_path: Path) -> None:
    """Missing, a directory, and not JSON each say so."""
    with pytest.raises(NotFound, match="doesn't exist"):
        seccomp.load_profile(str(tmp_path / "none"), 0)
    with pytest.raises(InvalidArgument, match="is a directory"):
        seccomp.load_profile(str(tmp_path), 0)
    (tmp_path / "text").write_bytes(b"\xff{")
    with pytest.raises(InvalidArgument, match="isn't JSON"):
        seccomp.load_profile(str(tmp_path / "text"), 0)
    (tmp_path / "deep").write_text("[" * 100_000)
    with pytest.raises(InvalidArgument, match="isn't JSON"):
        seccomp.load_profile(str(tmp_path / "deep"), 0)


_WORDS = st.sampled_from(
    """
    defaultAction defaultErrnoRet architectures archMap flags syscalls names name action errnoRet
    errno args includes excludes arches caps minKernel index value op architecture subArchitectures
    SCMP_ACT_ERRNO SCMP_ACT_ALLOW SCMP_CMP_EQ SCMP_ARCH_X86_64 mkdir amd64 5.0
    """.split()
)
_SCALARS = st.none() | st.booleans() | st.integers(-1, 5000) | st.floats() | _WORDS
_DOCUMENTS = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=5),
    max_leaves=25,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    document=st.dictionaries(_WORDS, _DOCUMENTS, max_size=5).map(
        lambda found: {"defaultAction": "SCMP_ACT_ERRNO"} | found
    )
)
def test_no_document_breaks_the_loader(tmp_path: Path, document: object) -> None:
    """Whatever the JSON, the outcome is a profile that passes the check, or a ClocheError."""
    try:
        profile = _load(tmp_path, document)
    except ClocheError:
        return
    check_spec(profile)
