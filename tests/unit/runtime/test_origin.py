"""Where in a config.json a failed step comes from."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from cloche.kernel import features as host
from cloche.oci.validate import validate
from cloche.plan.compile import compile
from cloche.plan.launch import Launch, Lifecycle
from cloche.plan.steps import OPERATIONS, Plan
from cloche.runtime import failure, origin
from cloche.runtime.records import Failure
from tests.unit.oci.full import at
from tests.unit.plan.conftest import _SPEC, FULL, V2

SPEC: dict[str, Any] = {
    **_SPEC,
    "hostname": "bell",
    "domainname": "garden",
    "process": {
        **_SPEC["process"],
        "rlimits": [
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2},
        ],
        "oomScoreAdj": 5,
    },
    "mounts": [
        *_SPEC["mounts"],
        {"destination": "/data", "type": "tmpfs", "source": "one"},
        {"destination": "data/", "type": "tmpfs", "source": "two"},
        {"destination": "/srv", "source": "/srv", "options": ["bind"]},
    ],
    "hooks": {
        "createRuntime": [{"path": "/h", "args": ["h", "1"]}, {"path": "/h", "args": ["h", "2"]}]
    },
    "linux": {
        "namespaces": [
            *_SPEC["linux"]["namespaces"][:4],
            {"type": "uts", "path": "/run/uts"},
        ],
        "cgroupsPath": "/abc",
        "resources": {
            "memory": {"limit": 1 << 20},
            "pids": {"limit": 5},
            "unified": {"cpu.max.burst": "1"},
        },
        "devices": [{"type": "p", "path": "/dev/pipe"}],
        "sysctl": {"net.ipv4.ip_forward": "1"},
        "maskedPaths": ["/a", "/b"],
        "readonlyPaths": ["/c"],
    },
}


@pytest.fixture(scope="module")
def plan() -> Plan:
    """The plan of a container that other commands manage, on a machine with cgroup v2."""
    files = (("state.json", b"{}"), ("config.json", json.dumps(SPEC).encode()))
    launch = Launch("abc", "/run/test/abc", files=files, lifecycle=Lifecycle(gate=True))
    machine = host.detect()._replace(
        uid=0,
        capabilities=FULL,
        in_user_namespace=False,
        cgroups=V2._replace(device_programs=True),
        page_size=4096,
    )
    return compile(validate(SPEC), machine, launch)


def _failure(plan: Plan, name: str, number: int, call: str, code: int, path: str) -> Failure:
    steps = [index for index, step in enumerate(plan.steps) if step.operation.name == name]
    return Failure(steps[number], 0, code, call, path, b"")


@pytest.mark.parametrize(
    ("name", "number", "call", "code", "pointer"),
    [
        ("open_root", 0, "open", errno.ENOENT, "/root/path"),
        ("mount", 0, "fsopen", errno.ENODEV, "/mounts/0/type"),
        ("mount", 1, "fsconfig", errno.EINVAL, "/mounts/1/options"),
        ("mount", 5, "fsconfig", errno.ENOENT, "/mounts/5/source"),
        ("mount", 6, "move_mount", errno.ENOTDIR, "/mounts/6/destination"),
        ("bind", 0, "openat2", errno.ELOOP, "/mounts/7/destination"),
        ("mask", 1, "openat2", errno.ELOOP, "/linux/maskedPaths/1"),
        ("readonly", 0, "openat2", errno.ELOOP, "/linux/readonlyPaths/0"),
        ("sysctl", 0, "write", errno.EINVAL, "/linux/sysctl/net.ipv4.ip_forward"),
        ("hostname", 0, "sethostname", errno.EINVAL, "/hostname"),
        ("domainname", 0, "setdomainname", errno.EINVAL, "/domainname"),
        ("spawn", 0, "clone3", errno.ENOSPC, "/linux/namespaces"),
        ("join_namespace", 0, "open", errno.ENOENT, "/linux/namespaces/4/path"),
        ("rlimit", 1, "prlimit", errno.EPERM, "/process/rlimits/1/hard"),
        ("oom_score_adj", 0, "write", errno.EACCES, "/process/oomScoreAdj"),
        ("chdir", 0, "chdir", errno.EACCES, "/process/cwd"),
        ("identity", 0, "setresuid", errno.EINVAL, "/process/user/uid"),
        ("find_program", 0, "access", errno.ENOENT, "/process/args/0"),
        ("exec", 0, "execve", errno.EACCES, "/process/args/0"),
        ("hook", 1, "execve", errno.ENOENT, "/hooks/createRuntime/1/path"),
        ("cgroup_create", 0, "mkdir", errno.EACCES, "/linux/cgroupsPath"),
    ],
)
def test_place_of_a_step(
    plan: Plan, name: str, number: int, call: str, code: int, pointer: str
) -> None:
    """Each step that a field asks for leads back to it, and the error says what must be there."""
    path = "/elsewhere" if name == "bind" else "/srv"
    error = failure.error(plan, _failure(plan, name, number, call, code, path))
    assert error.message.startswith(f"config.json: {pointer}: is ")
    assert " but must be " in error.message


def test_source_of_a_bind(plan: Plan) -> None:
    """A bind fails at either end; the path that was tried tells which."""
    found = _failure(plan, "bind", 0, "open_tree", errno.ENOENT, "/srv")
    assert 'config.json: /mounts/7/source: is "/srv" but must be' in origin.explain(plan, found)


@pytest.mark.parametrize(
    ("file", "pointer"),
    [
        ("memory.max", "memory/limit"),
        ("pids.max", "pids/limit"),
        ("cpu.max.burst", "unified/cpu.max.burst"),
    ],
)
def test_place_of_a_limit(plan: Plan, file: str, pointer: str) -> None:
    """The file of a cgroup tells the limit; one that was asked for by its name is that."""
    [index] = [
        index
        for index, step in enumerate(plan.steps)
        if step.operation.name == "cgroup_set" and str(step.argument("path")).endswith(f"/{file}")
    ]
    found = Failure(index, 0, errno.EINVAL, "write", "", b"")
    assert origin.explain(plan, found).startswith(f"config.json: /linux/resources/{pointer}: ")


@pytest.mark.parametrize("name", ["mount", "chdir", "exec"])
def test_child_that_was_killed(plan: Plan, name: str) -> None:
    """Whatever step it dies at, that one isn't to blame: the limit of memory is."""
    found = _failure(plan, name, 0, "child died", errno.EPIPE, "signal 9")
    assert origin.explain(plan, found).startswith("config.json: /linux/resources/memory/limit: is ")
    assert origin.explain(plan, found._replace(path="signal 11")) == ""


def test_every_rule_leads_somewhere(plan: Plan) -> None:
    """Whatever fails, and however, the place exists in the spec, or none is named."""
    calls = ("open", "write", "fsopen", "fsconfig", "mount_setattr", "setgroups", "setresgid")
    for index, step in enumerate(plan.steps):
        for call in calls:
            for code in (errno.EINVAL, errno.EPIPE, errno.ENOENT):
                text = origin.explain(plan, Failure(index, 0, code, call, "", b""))
                if not text:
                    continue
                pointer = text.split(": ")[1]
                assert step.operation.name in origin._RULES
                assert "is missing" in text or at(SPEC, pointer) is not None


def test_rules_are_of_operations() -> None:
    """Every rule is for an operation that exists."""
    assert origin._RULES.keys() <= {operation.name for operation in OPERATIONS}


def test_plan_without_a_spec(plan: Plan) -> None:
    """Where the plan keeps no config.json, the step is named instead."""
    steps = tuple(step for step in plan.steps if step.operation.name != "make_file")
    found = _failure(Plan(steps), "chdir", 0, "chdir", errno.EACCES, "/x")
    assert failure.error(Plan(steps), found).message.startswith("step ")
