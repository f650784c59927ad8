"""What a spec has made in the root: device nodes, covered paths, the first directory."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes import Runtime, make_bundle, spec, write_spec

pytestmark = [pytest.mark.needs("root", "busybox"), pytest.mark.orphans]


@pytest.fixture
def runtime(workspace: Path) -> Iterator[Runtime]:
    """The runtime, with a state directory of its own."""
    runtime = Runtime(str(Path(sysconfig.get_path("scripts"), "cloche-oci")), workspace)
    yield runtime
    runtime.end()


def _said(runtime: Runtime, workspace: Path, script: str, change: dict[str, Any]) -> str:
    """Return what a script prints in a container of a spec with changes in ``linux``."""
    bundle = make_bundle(workspace / "bundle")
    document = spec("sh", "-c", script, **change.pop("process", {}))
    document["linux"] |= change
    write_spec(bundle, document)
    return runtime("run", "--bundle", str(bundle), runtime.id(), check=True).stdout


@pytest.mark.parametrize(
    ("device", "shown"),
    [
        ({"type": "c", "major": 1, "minor": 3}, "character special file 1:3 666 0:0"),
        (
            {"type": "u", "major": 1, "minor": 5, "fileMode": 0o600},
            "character special file 1:5 600 0:0",
        ),
        (
            {"type": "b", "major": 7, "minor": 300, "fileMode": 0o640, "uid": 5, "gid": 6},
            "block special file 7:12c 640 5:6",
        ),
        ({"type": "p", "fileMode": 0o644, "uid": 1}, "fifo 0:0 644 1:0"),
    ],
)
def test_device(runtime: Runtime, workspace: Path, device: dict[str, Any], shown: str) -> None:
    """A node has the type, the numbers, the mode whatever the umask, and the owners."""
    script = "stat -c '%F %t:%T %a %u:%g' /dev/one/node"
    change = {"devices": [{"path": "/dev/one/node", **device}]}
    assert _said(runtime, workspace, script, change) == f"{shown}\n"


def test_readonly_paths(runtime: Runtime, workspace: Path) -> None:
    """A path that is read-only can be read, and not written; one that isn't there is no error."""
    script = "cd /proc/sys/kernel; cat ostype; (echo x > domainname) 2>&1; touch /bin/x 2>&1"
    change = {"readonlyPaths": ["/proc/sys", "/bin", "/nope"]}
    said = _said(runtime, workspace, f"{script}; true", change)
    assert said.startswith("Linux\n")
    assert said.count("Read-only file system") == 2


def test_masked_paths(runtime: Runtime, workspace: Path) -> None:
    """A file that is hidden is empty, and so is a directory."""
    change = {"maskedPaths": ["/proc/version", "/proc/sys", "/nope"]}
    assert _said(runtime, workspace, "cat /proc/version; ls /proc/sys; echo end", change) == "end\n"


def test_first_directory_is_made(runtime: Runtime, workspace: Path) -> None:
    """The process begins in its directory, which is made when it isn't there."""
    assert _said(runtime, workspace, "pwd", {"process": {"cwd": "/a/b"}}) == "/a/b\n"
