"""What an engine hands over that can't be: one line that names the place, and nothing left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import Cloche
from tests.runtimes import Runtime, make_bundle, spec, write_spec
from tests.unit.oci.full import at, replaced
from tests.unit.oci.strategies import changed

pytestmark = [pytest.mark.needs("root", "busybox"), pytest.mark.orphans]

KINDS = ("pid", "network", "ipc", "uts", "mount", "cgroup")
MAP = [{"containerID": 0, "hostID": 100000, "size": 10}]
USERS = {
    "namespaces": [{"type": kind} for kind in (*KINDS, "user")],
    "uidMappings": MAP,
    "gidMappings": MAP,
}


@pytest.fixture
def runtime(workspace: Path) -> Iterator[Runtime]:
    """The runtime, with a state directory of its own."""
    runtime = Runtime(str(Path(sysconfig.get_path("scripts"), "cloche-oci")), workspace)
    yield runtime
    runtime.end()


@pytest.fixture
def bundle(workspace: Path) -> Path:
    """A bundle whose root also has what misleads: links in circles."""
    bundle = make_bundle(workspace / "bundle")
    (bundle / "rootfs/self").symlink_to("self")
    (bundle / "rootfs/there").symlink_to("back")
    (bundle / "rootfs/back").symlink_to("there")
    return bundle


def refusal(runtime: Runtime, *arguments: str) -> str:
    """Return the message of a command that must fail, tell it in one line, and leave nothing."""
    done = runtime(*arguments)
    assert done.code == 1, done
    assert done.stdout == ""
    assert done.stderr.startswith("cloche: ")
    message = done.stderr.removeprefix("cloche: ").removesuffix("\n")
    assert "\n" not in message
    [logged] = runtime.errors()
    assert "".join(c if c.isprintable() else ascii(c)[1:-1] for c in logged) == message
    assert not runtime.root.is_dir() or not os.listdir(runtime.root)
    return message


def create(runtime: Runtime, bundle: Path) -> str:
    """Return why a container can't be created from a bundle."""
    return refusal(runtime, "create", "--bundle", str(bundle), runtime.id())


# Where it is changed, to what; the place that is named, and what is said of it.
CASES: list[tuple[str, Any, str, str]] = [
    # of the wrong type
    ("/process/args", "true", "/process/args", 'is "true" but must be an array'),
    ("/process/cwd", 5, "/process/cwd", "is 5 but must be a string"),
    ("/process/user/uid", -1, "/process/user/uid", "is -1 but must be 0 to 4294967295"),
    ("/process/user/uid", True, "/process/user/uid", "is true but must be an integer"),
    ("/process/user/gid", 1.5, "/process/user/gid", "is 1.5 but must be an integer"),
    ("/mounts", {}, "/mounts", "is an object but must be an array"),
    ("/linux/namespaces/0/type", "net", "/linux/namespaces/0/type", 'is "net" but must be one of'),
    ("/root", [], "/root", "is an array but must be an object"),
    # missing
    ("/ociVersion", None, "/ociVersion", "is missing but required"),
    ("/process/cwd", None, "/process/cwd", "is missing but required"),
    ("/root/path", None, "/root/path", "is missing but required"),
    ("/process/args", [], "/process/args", "is [] but must name a program"),
    ("/mounts/0/destination", None, "/mounts/0/destination", "is missing but required"),
    # impossible together
    ("/ociVersion", "2.0.0", "/ociVersion", 'is "2.0.0" but must be 1.x'),
    ("/linux/namespaces", [{"type": "mount"}], "/hostname", "must not be without"),
    ("/linux/namespaces", [{"type": "uts"}], "/mounts", "must not be without"),
    ("/linux/uidMappings", MAP, "/linux/uidMappings", "must not be without"),
    ("/linux/namespaces/6", {"type": "pid"}, "/linux/namespaces/6/type", "only once"),
    ("/linux/namespaces/6", {"type": "user"}, "/linux/uidMappings", "is missing but must map"),
    ("/linux/sysctl", {"vm.swappiness": "1"}, "/linux/sysctl/vm.swappiness", "must not be"),
    (
        "/process/rlimits",
        [{"type": "RLIMIT_CORE", "soft": 2, "hard": 1}],
        "/process/rlimits/0/soft",
        "is 2 but must be no more than the hard limit, 1",
    ),
    (
        "/linux/resources",
        {"cpu": {"quota": 5000, "burst": 6000}},
        "/linux/resources/cpu/burst",
        "is 6000 but must be no more than the quota, 5000",
    ),
    (
        "/linux/resources",
        {"memory": {"limit": 1}},
        "/linux/resources/memory/limit",
        "is 1 but must be enough for the launcher's own process",
    ),
    # mappings with holes, or upon one another
    ("/linux", {**USERS, "uidMappings": MAP * 2}, "/linux/uidMappings/1/containerID", "entry 0"),
    # what only the kernel knows: files
    ("/root/path", "nope", "/root/path", "but must be a directory"),
    ("/root/path", "config.json", "/root/path", "but must be a directory"),
    (
        "/mounts/3",
        {"destination": "/x", "source": "/nope", "options": ["bind"]},
        "/mounts/3/source",
        'is "/nope" but must be a file or directory of the host',
    ),
    (
        "/mounts/3",
        {"destination": "/self", "type": "tmpfs"},
        "/mounts/3/destination",
        'is "/self" but must be a place where it can be mounted',
    ),
    (
        "/mounts/3",
        {"destination": "/there/x/y", "type": "tmpfs"},
        "/mounts/3/destination",
        "too many levels of symbolic links",
    ),
    (
        "/mounts/3",
        {"destination": "/bin/busybox/x", "type": "tmpfs"},
        "/mounts/3/destination",
        "not a directory",
    ),
    (
        "/mounts/3",
        {"destination": "/" + "x" * 300, "type": "tmpfs"},
        "/mounts/3/destination",
        "file name too long",
    ),
    # what only the kernel knows: file systems
    (
        "/mounts/3",
        {"destination": "/x", "type": "tmpfs", "options": ["nosuid", "frobnicate"]},
        "/mounts/3/options",
        'is ["nosuid","frobnicate"] but must be options that tmpfs takes',
    ),
    (
        "/mounts/3",
        {"destination": "/x", "type": "tmpfs", "options": ["size=huge"]},
        "/mounts/3/options",
        "Bad value for 'size'",
    ),
    (
        "/mounts/3",
        {"destination": "/x", "type": "nofs"},
        "/mounts/3/type",
        'is "nofs" but must be a file system that this kernel has',
    ),
    (
        "/mounts/3",
        {"destination": "/x", "source": "/", "options": ["bind", "nosuch=1"]},
        "/mounts/3/options",
        "nosuch=1",
    ),
    # what only the kernel knows: the rest
    (
        "/linux/namespaces/1",
        {"type": "network", "path": "/nope"},
        "/linux/namespaces/1/path",
        'is "/nope" but must be a namespace of its type',
    ),
    (
        "/linux/namespaces/1",
        {"type": "network", "path": "/proc/self/ns/mnt"},
        "/linux/namespaces/1/path",
        "but must be a namespace of its type",
    ),
    ("/linux/maskedPaths", ["/self"], "/linux/maskedPaths/0", "symbolic links"),
    ("/linux/readonlyPaths", ["/bin", "/self"], "/linux/readonlyPaths/1", "symbolic links"),
    ("/linux/sysctl", {"net.nope": "1"}, "/linux/sysctl/net.nope", "this kernel has"),
    ("/linux/sysctl", {"kernel.shmmax": "x"}, "/linux/sysctl/kernel.shmmax", "kernel takes"),
    (
        "/linux/devices",
        [{"type": "c", "path": "/self", "major": 1, "minor": 3}],
        "/linux/devices/0/path",
        "but must be a path where a device can be made",
    ),
    (
        "/linux/devices",
        [{"type": "c", "path": "/dev/x", "major": 2**40, "minor": 3}],
        "/linux/devices/0/major",
        "is 1099511627776 but must be 0 to 4095",
    ),
    ("/process/args", ["nope"], "/process/args/0", "not found in the container's PATH"),
    ("/process/args", ["/bin"], "/process/args/0", "is a directory"),
    ("/process/cwd", "/bin/busybox", "/process/cwd", "but must be a directory in the container"),
    (
        "/hooks",
        {"createRuntime": [{"path": "/bin/true"}, {"path": "/nope"}]},
        "/hooks/createRuntime/1/path",
        'is "/nope" but must be a program that runs and succeeds',
    ),
    (
        "/hooks",
        {"createContainer": [{"path": "/bin/false"}]},
        "/hooks/createContainer/0/path",
        "exit code 1",
    ),
]


@pytest.mark.parametrize(
    ("changed", "value", "shown", "words"), CASES, ids=[f"{case[2]}" for case in CASES]
)
def test_bad_value_is_named(
    runtime: Runtime, bundle: Path, changed: str, value: Any, shown: str, words: str
) -> None:
    """Each value that can't be is named by its place, with what must be there instead."""
    document = spec()
    holder, _, key = changed.rpartition("/")
    if key.isdigit() and int(key) == len(at(document, holder)):
        at(document, holder).append(value)
    write_spec(bundle, replaced(document, changed, value))
    message = create(runtime, bundle)
    assert message.startswith(f"config.json: {shown}: "), message
    assert words in message
    assert " but must " in message or " but required" in message


@pytest.mark.parametrize(
    ("user", "field"),
    [
        ({"uid": 50, "gid": 0}, "uid"),
        ({"uid": 0, "gid": 50}, "gid"),
        ({"uid": 0, "gid": 0, "additionalGids": [50]}, "additionalGids"),
    ],
)
def test_id_that_no_mapping_has(
    runtime: Runtime, bundle: Path, user: dict[str, Any], field: str
) -> None:
    """An id in a hole of the mappings can't be the process's."""
    document = spec(user=user)
    document["linux"].update(USERS)
    (bundle / "rootfs").chmod(0o777)
    write_spec(bundle, document)
    assert re.match(rf"config.json: /process/user/{field}\b", create(runtime, bundle))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "/: is something else but must be JSON"),
        (b'{"ociVersion": ', "line 1 column 16"),
        (b"{} x", "Extra data"),
        (b"[]", "/: is an array but must be an object"),
        (b"null", "/: is null but must be an object"),
        (b'{"ociVersion": "1.\xff"}', "/: has no UTF-8 at byte 18 but must be JSON"),
        ('{"ociVersion": "1.3.0"}'.encode("utf-16"), "no UTF-8 at byte 0"),
        (b'{"root": {"path": "a", "path": "b"}}', "/root/path: is there twice but must be"),
        (b'{"ociVersion": "1.3.0\\u0000"}', "/ociVersion: is "),
        (b'{"ociVersion": "1.3.0\\ud800"}', "lone surrogate but must be Unicode"),
        (b'{"ociVersion": NaN}', "NaN is no number"),
        (b"[" * 200_000, "/: is nested too deeply but must be JSON"),
        (b"1" * 5000, "thousands of digits"),
        (b" " * (17 << 20), "/: has 17825792 bytes but must have at most 16777216"),
    ],
    ids=range(14),
)
def test_bad_text_is_named(runtime: Runtime, bundle: Path, data: bytes, words: str) -> None:
    """What isn't a document at all is refused with the place where it ends to be one."""
    (bundle / "config.json").write_bytes(data)
    message = create(runtime, bundle)
    assert message.startswith("config.json: /")
    assert words in message


def test_bundle_without_config(runtime: Runtime, bundle: Path) -> None:
    """Where there is nothing to read, or what isn't a file, the path is named."""
    config = bundle / "config.json"
    config.unlink()
    assert f"{config}: no such file or directory" in create(runtime, bundle)
    assert "nope/config.json: no such file" in refusal_again(runtime, bundle / "nope")
    config.mkdir()
    assert f"{config} isn't a regular file" in refusal_again(runtime, bundle)
    config.rmdir()
    os.mkfifo(config)
    assert f"{config} isn't a regular file" in refusal_again(runtime, bundle)
    config.unlink()
    config.symlink_to("config.json")
    assert f"{config}: too many levels" in refusal_again(runtime, bundle)
    config.unlink()
    config.symlink_to("/dev/zero")
    assert f"{config} isn't a regular file" in refusal_again(runtime, bundle)


def refusal_again(runtime: Runtime, bundle: Path) -> str:
    """Return why a container can't be created, with a log of its own."""
    runtime.log.unlink()
    return create(runtime, bundle)


@pytest.mark.parametrize("id", ["../x", "a/b", "/x", "..", ".", "", "x" * 256, "a\nb", "é"])
def test_bad_id(runtime: Runtime, bundle: Path, id: str) -> None:
    """An id that can't be the name of a directory is refused by name, or by its length."""
    message = refusal(runtime, "create", "--bundle", str(bundle), id)
    assert message.startswith(("invalid container id format: ", "container id must have 1 to 255"))


def test_longest_id(runtime: Runtime, bundle: Path) -> None:
    """An id may be as long as a file's name."""
    id = runtime.id().ljust(255, "x")
    runtime("create", "--bundle", str(bundle), id, check=True)
    runtime.note(runtime.state(id)["pid"])
    runtime("delete", "--force", id, check=True)


class TestState:
    """State directories that can't be written to."""

    def test_file_in_its_place(self, runtime: Runtime, bundle: Path) -> None:
        """A file isn't a directory."""
        runtime.root.parent.mkdir(exist_ok=True)
        runtime.root.write_text("")
        assert "not a directory" in create(runtime, bundle)
        runtime.root.unlink()

    @pytest.mark.parametrize(
        ("options", "words"), [("ro", "read-only file system"), ("nr_inodes=1", "no space left")]
    )
    def test_read_only_or_full(
        self, runtime: Runtime, bundle: Path, options: str, words: str
    ) -> None:
        """A file system that takes no more is named as that, and is empty as before."""
        runtime.root.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(runtime.root)]
        subprocess.run(mount, check=True)
        try:
            message = create(runtime, bundle)
        finally:
            subprocess.run(["umount", str(runtime.root)], check=True)
        assert words in message
        assert str(runtime.root) in message

    def test_full_after_a_while(self, runtime: Runtime, bundle: Path) -> None:
        """What was written before the space ended is gone."""
        document = spec()
        document["annotations"] = {"big": "x" * (1 << 20)}
        write_spec(bundle, document)
        runtime.root.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(runtime.root)]
        subprocess.run(mount, check=True)
        try:
            message = create(runtime, bundle)
        finally:
            subprocess.run(["umount", str(runtime.root)], check=True)
        assert "no space left on device" in message

    def test_another_users(self, unprivileged: Cloche, bundle: Path, workspace: Path) -> None:
        """An ordinary user can't make containers in root's directory, nor see what is there."""
        root = workspace / "state" / "oci"
        root.mkdir(mode=0o700)
        for command in (["create", "--bundle", str(bundle), "x"], ["list"], ["state", "x"]):
            done = unprivileged("oci", "--root", str(root), *command)
            assert done.returncode == 1
            lines = [line for line in done.stderr.splitlines() if "warning: " not in line]
            assert len(lines) == 1, lines
            assert lines[0].startswith("cloche: ")
        root.rmdir()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ('{"args": ["true"]}', "/cwd: is missing but required"),
        ('{"args": ["true"], "cwd": "x"}', '/cwd: is "x" but must be an absolute path'),
        ('{"args": [], "cwd": "/"}', "/args: is [] but must name a program"),
        ('{"cwd": "/", "cwd": "/"}', "/cwd: is there twice but must be there only once"),
        ("[", "/: is something else but must be JSON"),
    ],
)
def test_bad_process_to_add(runtime: Runtime, bundle: Path, data: str, words: str) -> None:
    """A process that is added to a container is refused likewise, by places in its own file."""
    write_spec(bundle, spec("sleep", "1000"))
    runtime("create", "--bundle", str(bundle), runtime.id(), check=True)
    runtime.note(runtime.state(runtime.id())["pid"])
    runtime("start", runtime.id(), check=True)
    file = bundle / "process.json"
    file.write_text(data)
    done = runtime("exec", "--process", str(file), runtime.id())
    assert done.code == 255
    assert done.stderr.startswith(f"cloche: {file}: {words}")
    assert done.stderr.count("\n") == 1


def test_message_cannot_pass_for_another(runtime: Runtime, bundle: Path) -> None:
    """Line feeds and control characters of a name are shown as such."""
    name = "/nope\ncloche: all is well\x1b[2J"
    mount = {"destination": "/x", "source": name, "options": ["bind"]}
    document = spec()
    document["mounts"].append(mount)
    write_spec(bundle, document)
    message = create(runtime, bundle)
    assert r"\ncloche: all is well\x1b[2J" in message


def _plain() -> dict[str, Any]:
    """A spec with more to change: every value of it may be something else."""
    document = spec("sleep", "1000", user={"uid": 0, "gid": 0, "umask": 0o22})
    document["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}]
    document["hostname"] = "glass"
    document["mounts"].append({"destination": "/tmp", "type": "tmpfs", "options": ["size=1m"]})
    document["mounts"].append({"destination": "/m", "source": "/tmp", "options": ["rbind", "ro"]})
    document["linux"] |= {
        "devices": [{"type": "c", "path": "/dev/one", "major": 1, "minor": 3, "fileMode": 0o600}],
        "resources": {"pids": {"limit": 50}, "memory": {"limit": 1 << 26}},
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/proc/kcore"],
        "readonlyPaths": ["/proc/sys"],
        "rootfsPropagation": "slave",
    }
    return document


@given(changed(_plain(), most=3), st.booleans())
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_whatever_a_spec_says_nothing_is_left(
    runtime: Runtime, bundle: Path, document: dict[str, Any], start: bool
) -> None:
    """A container is made, and can be deleted, or it is refused in one line; nothing is left."""
    document["linux"].pop("cgroupsPath", None)  # the host's own groups aren't to be played with
    write_spec(bundle, document)
    runtime.log.unlink(missing_ok=True)
    done = runtime("create", "--bundle", str(bundle), runtime.id())
    if done.code:
        assert done.code == 1
        assert done.stderr.startswith("cloche: ")
        assert done.stderr.count("\n") == 1
        assert len(runtime.errors()) == 1
    else:
        runtime.note(json.loads(runtime("state", runtime.id(), check=True).stdout)["pid"])
        if start:
            with contextlib.suppress(AssertionError):
                runtime("start", runtime.id(), check=True)
        runtime("delete", "--force", runtime.id(), check=True)
    assert not runtime.root.is_dir() or not os.listdir(runtime.root)
    groups = [path for path, _, _ in os.walk("/sys/fs/cgroup") if path.endswith(runtime.id())]
    assert not groups
