"""What the kernel refuses of a spec is told with its place in the spec."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cloche.plan import wire
from tests.conftest import Cloche
from tests.kernel.bundles import KINDS, Bundle

pytestmark = pytest.mark.needs("root", "busybox")
WITH_TIME = {"namespaces": [{"type": kind} for kind in (*KINDS, "time")]}
OVERLAPPING = [
    {"containerID": 0, "hostID": 1, "size": 5},
    {"containerID": 5, "hostID": 3, "size": 5},
]
PROC = {"destination": "/proc", "type": "proc", "source": "proc"}


@pytest.fixture
def bundle(cloche: Cloche, workspace: Path) -> Bundle:
    """A bundle of the test's own."""
    return Bundle(cloche, workspace)


@pytest.mark.parametrize(
    ("linux", "pointer"),
    [
        ({"netDevices": {"none": {}}}, "/linux/netDevices/none"),
        ({"netDevices": {"lo": {"name": "x"}}}, "/linux/netDevices/lo"),
        ({**WITH_TIME, "timeOffsets": {"boottime": {"secs": -(2**40)}}}, "/linux/timeOffsets"),
        ({"timeOffsets": {"boottime": {"secs": 1}}}, "/linux/timeOffsets"),
    ],
)
def test_places_in_linux(bundle: Bundle, linux: dict[str, Any], pointer: str) -> None:
    """The message names the field."""
    done = bundle.run("true", {}, linux)
    assert done.returncode != 0
    assert f"config.json: {pointer}" in done.stderr


@pytest.mark.parametrize(
    ("mount", "field"),
    [
        ({"destination": "/x", "type": "tmpfs", "options": ["size=banana"]}, "options"),
        ({"destination": "/x", "type": "tmpfs", "options": ["nosuchflag"]}, "options"),
        ({"destination": "/proc", "options": ["remount", "nosuchflag"]}, "options"),
        ({"destination": "/bin", "options": ["remount", "size=1m"]}, "destination"),
        ({"destination": "/proc/sys", "type": "tmpfs"}, "destination"),
        ({"destination": "/proc", "type": "tmpfs"}, "destination"),
        ({"destination": "/x", "type": "nosuchfs"}, "type"),
        ({"destination": "/x", "source": "/none", "options": ["bind"]}, "source"),
        (
            {
                "destination": "/x", "source": "/usr", "options": ["bind"],
                "uidMappings": OVERLAPPING, "gidMappings": OVERLAPPING,
            },
            "uidMappings",
        ),
        (
            {
                "destination": "/x", "source": "/proc", "options": ["bind", "idmap"],
                "uidMappings": OVERLAPPING[:1], "gidMappings": OVERLAPPING[:1],
            },
            "options",
        ),
    ],
)  # fmt: skip
def test_places_in_mounts(bundle: Bundle, mount: dict[str, object], field: str) -> None:
    """The message names the mount, by its number, and the field of it."""
    bundle.configure("true")
    path = bundle.path / "config.json"
    spec = json.loads(path.read_text())
    spec["mounts"] = [PROC, mount]
    path.write_text(json.dumps(spec))
    done = bundle("run", "--bundle", str(bundle.path), bundle.id)
    assert done.returncode != 0
    assert f"config.json: /mounts/1/{field}" in done.stderr


def test_without_pivot(bundle: Bundle, cloche: Cloche) -> None:
    """The option of the command reaches the plan."""
    bundle.configure("ls -d /..")
    run = ("run", "--keep", "--no-pivot", "--bundle", str(bundle.path), bundle.id)
    done = bundle(*run, check=True)
    plan = wire.decode((cloche.state / "oci" / bundle.id / "plan").read_bytes())[0]
    bundle("delete", bundle.id, check=True)
    names = [step.operation.name for step in plan.steps]
    assert done.stdout == "/..\n"
    assert "move_root" in names
    assert "pivot_root" not in names
