"""Whatever a valid spec says, it is planned or refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.errors import ClocheError, InternalError, InvalidSpec
from cloche.kernel.features import Features
from cloche.oci.validate import validate
from cloche.plan import wire
from cloche.plan.compile import compile
from cloche.plan.launch import Launch, Lifecycle
from tests.unit.oci.full import full
from tests.unit.oci.strategies import changed
from tests.unit.plan.conftest import _SPEC, V1, V2

_WITHOUT = ("intelRdt", "memoryPolicy", "netDevices", "timeOffsets", "mountLabel", "seccomp")
"""What keeps a spec from being planned on many machines."""


def _plain() -> Any:
    """Return the full spec without what is refused."""
    document = full()
    for name in _WITHOUT:
        del document["linux"][name]
    document["linux"]["namespaces"] = [
        {"type": kind} for kind in ("mount", "pid", "network", "ipc", "uts", "user", "cgroup")
    ]
    document["mounts"] = document["mounts"][:1]
    for name in ("scheduler", "ioPriority", "execCPUAffinity", "apparmorProfile", "selinuxLabel"):
        del document["process"][name]
    document["linux"]["resources"] = {"pids": {"limit": 5}, "memory": {"limit": 1 << 20}}
    document["root"]["path"] = "/bundle/root"
    return document


@given(
    changed(_plain()) | changed(copy.deepcopy(_SPEC)) | changed(full()),
    st.booleans(),
    st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_valid_spec_is_planned_or_refused(
    features: Features, document: Any, v1: bool, managed: bool
) -> None:
    """The planner raises nothing but an error that was meant, and its plan can be encoded."""
    launch = Launch("abc", "/run/test/abc", lifecycle=Lifecycle(gate=True) if managed else None)
    machine = features._replace(cgroups=V1 if v1 else V2._replace(device_programs=True))
    try:
        plan = compile(validate(document), machine, launch)
        wire.encode(plan)
    except InternalError:
        raise
    except ClocheError as error:
        form = " but " if isinstance(error, InvalidSpec) else ""
        assert form in error.message  # noqa: PT017  what matters is its type
    else:
        assert plan.steps


def test_the_plain_spec_is_planned(features: Features) -> None:
    """What the changes begin with is fine."""
    assert compile(validate(_plain()), features, Launch("abc", "/run/test/abc")).steps


@pytest.mark.parametrize("field", _WITHOUT)
def test_fields_that_are_left_out_exist(field: str) -> None:
    """The list above names fields of a spec."""
    assert field in full()["linux"]
