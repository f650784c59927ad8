"""The listener of a system call filter: when it is sent, and with what."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloche.kernel.features import Features
from cloche.kernel.flags import SECCOMP_FILTER_FLAG_NEW_LISTENER
from cloche.plan import wire
from cloche.plan.compile import compile
from cloche.plan.execute import Target, compile_exec
from cloche.plan.launch import Launch, Lifecycle
from cloche.plan.shell import as_shell
from cloche.plan.steps import CHILD, HOST, Plan

from .conftest import V1


@pytest.fixture
def features(features: Features) -> Features:
    """A host whose cgroups can restrict access to devices, as such a container needs."""
    return features._replace(cgroups=V1)


@pytest.fixture
def notifying(launch: Launch) -> Launch:
    """A launch whose filter has a listener."""
    lifecycle = Lifecycle(bundle="/b", gate=True)
    flags = SECCOMP_FILTER_FLAG_NEW_LISTENER
    return launch._replace(lifecycle=lifecycle, seccomp_flags=flags)


@pytest.fixture
def listening(spec: Any) -> Any:
    """A spec with a listener."""
    spec["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent",
        "listenerMetadata": 'a"b',
    }
    spec["annotations"] = {"a": "b"}
    return spec


def state(plan: Plan) -> Any:
    """Return the document that is sent, with the pid 42."""
    wire.encode(plan)
    (step,) = (step for step in plan.steps if step.operation.name == "send_listener")
    assert (step.stage, step.argument("path")) == (HOST, "/run/agent")
    before, between, after = (step.argument(name) for name in ("before", "between", "after"))
    assert isinstance(before, bytes)
    assert isinstance(between, bytes)
    assert isinstance(after, bytes)
    return json.loads(before + b"42" + between + (b"42" + after if after else b""))


@pytest.mark.parametrize("no_new_privs", [False, True])
@pytest.mark.parametrize("init", ["false", "true"])
def test_order(
    listening: Any, features: Features, notifying: Launch, no_new_privs: bool, init: str
) -> None:
    """The host gets the listener right after the filter is there, and before it leaves."""
    listening["process"]["noNewPrivileges"] = no_new_privs
    listening["annotations"]["cloche.init"] = init
    plan = compile(listening, features, notifying)
    order = [(step.operation.name, step.stage) for step in plan.steps]
    at = order.index(("seccomp", CHILD))
    assert order[at + 1] == ("send_listener", HOST)
    assert at < order.index(("leave", HOST))
    slots = {step.argument("slot") for step in plan.steps[at : at + 2]}
    assert len(slots) == 1
    assert "(send_listener)" in as_shell(plan)


def test_state_of_a_new_container(listening: Any, features: Features, notifying: Launch) -> None:
    """The pid is that of the process and that of the container."""
    assert state(compile(listening, features, notifying)) == {
        "ociVersion": "1.3.0",
        "fds": ["seccompFd"],
        "metadata": 'a"b',
        "pid": 42,
        "state": {
            "ociVersion": "1.3.0",
            "id": "abc",
            "status": "creating",
            "pid": 42,
            "bundle": "/b",
            "annotations": {"a": "b"},
        },
    }


def test_state_of_a_running_container(
    listening: Any, features: Features, notifying: Launch
) -> None:
    """A process that is added has a pid of its own."""
    del listening["linux"]["seccomp"]["listenerMetadata"]
    running = notifying._replace(first_pid=7, lifecycle=Lifecycle(bundle="/b"))
    found = state(compile_exec(listening, features, running, Target(7, 1)))
    assert (found["pid"], found["state"]["pid"], found["state"]["status"]) == (42, 7, "running")
    assert "metadata" not in found
