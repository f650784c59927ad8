"""A host and a spec to compile for, as values: nothing of this machine is looked at."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from cloche.kernel.cgroup.layout import Hierarchy, Layout
from cloche.kernel.features import Features
from cloche.plan.launch import Launch

FULL = (1 << 41) - 1
V2 = Layout(
    "v2",
    (
        Hierarchy(
            2,
            ("cpuset", "cpu", "io", "memory", "pids"),
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/session",
            "/sys/fs/cgroup",
            ("cpu", "memory", "pids"),
        ),
    ),
    swap=True,
    cpus="0-1",
    mems="0",
)
V1 = Layout(
    "v1",
    tuple(
        Hierarchy(1, (name,), place, place, place)
        for name in ("cpu", "memory", "pids", "devices", "freezer")
        for place in (f"/sys/fs/cgroup/{name}",)
    ),
)

_SPEC: dict[str, Any] = {
    "ociVersion": "1.3.0",
    "root": {"path": "/bundle/root"},
    "process": {
        "args": ["true"],
        "cwd": "/",
        "env": ["PATH=/bin:/usr/bin"],
        "capabilities": {
            name: ["CAP_CHOWN", "CAP_KILL"] for name in ("bounding", "permitted", "effective")
        },
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["newinstance", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue"},
    ],
    "linux": {
        "namespaces": [
            {"type": kind} for kind in ("mount", "pid", "network", "ipc", "uts", "cgroup")
        ],
    },
}


@pytest.fixture
def spec() -> Any:
    """Return a small valid spec, to be changed at will."""
    return copy.deepcopy(_SPEC)


@pytest.fixture
def features() -> Features:
    """Return a host with everything, seen by root."""
    return Features(
        kernel=(6, 1),
        machine="x86_64",
        uid=0,
        gid=0,
        user="root",
        capabilities=FULL,
        last_cap=40,
        in_user_namespace=False,
        cpus=2,
        memory=8 << 30,
        page_size=4096,
        cgroups=V2,
        subuids=(),
        subgids=(),
        newuidmap=None,
        newgidmap=None,
        lsm=(),
        landlock_abi=4,
        seccomp=("allow",),
        overlay=True,
        unprivileged_userns=True,
    )


@pytest.fixture
def launch() -> Launch:
    """Return a launch with nothing special."""
    return Launch(
        id="abc", directory="/run/test/containers/abc", names="/run/test/names", seccomp=b"\0" * 8
    )
