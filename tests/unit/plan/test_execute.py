"""The plan of one more process in a container."""

from __future__ import annotations

from typing import Any

import pytest

from cloche.kernel import flags
from cloche.kernel.features import Features
from cloche.plan import wire
from cloche.plan.execute import Target, compile_exec
from cloche.plan.launch import Launch, Lifecycle
from cloche.plan.steps import STDIO_TERMINAL, Plan

TARGET = Target(4711, 99)


def names(plan: Plan) -> list[str]:
    """Return the names of a plan's operations, in order."""
    return [step.operation.name for step in plan.steps]


def only(plan: Plan, name: str) -> Any:
    """Return the one step of an operation."""
    (found,) = [step for step in plan.steps if step.operation.name == name]
    return found


def test_order(spec: Any, features: Features, launch: Launch) -> None:
    """The process is opened first, joined by its pidfd, and the program comes last."""
    plan = compile_exec(spec, features, launch, TARGET)
    order = names(plan)
    assert order[:2] == ["stdio", "open_process"]
    assert only(plan, "open_process").arguments[1:] == (4711, 99)
    assert order.index("spawn") < order.index("join") < order.index("open_root")
    assert order[-3:] == ["seccomp", "exec", "supervise"]
    wire.encode(plan)


def test_born_inside(spec: Any, features: Features, launch: Launch) -> None:
    """The child is in all namespaces from its birth, when those inside see it first.

    All but that of cgroups, from which a group outside can't be entered.
    """
    plan = compile_exec(spec, features, launch, TARGET)
    spawn = only(plan, "spawn")
    assert spawn.argument("joined") == only(plan, "open_process").argument("slot")
    kinds = 0
    for entry in spec["linux"]["namespaces"]:
        kinds |= flags.NAMESPACE_KINDS[entry["type"]]
    assert spawn.argument("joined_kinds") == kinds & ~flags.CLONE_NEWCGROUP
    assert spawn.argument("kinds") == 0
    assert only(plan, "join").argument("kinds") == flags.CLONE_NEWCGROUP


def test_nothing_to_join(spec: Any, features: Features, launch: Launch) -> None:
    """A container that shares a namespace with the host has none to be entered."""
    spec["linux"]["namespaces"] = [{"type": "mount"}]
    plan = compile_exec(spec, features, launch, TARGET)
    assert only(plan, "spawn").argument("joined_kinds") == flags.CLONE_NEWNS
    assert "join" not in names(plan)


def test_cgroups(spec: Any, features: Features, launch: Launch) -> None:
    """The child is born in a v2 group, and enters v1 groups by files that were opened before."""
    plan = compile_exec(spec, features, launch, Target(1, 2, ("/cg/pids/a",), "/cg/unified/a"))
    order = names(plan)
    assert order.index("cgroup_open") < order.index("spawn") < order.index("cgroup_enter")
    assert order.index("cgroup_tasks") < order.index("spawn")
    assert order.index("cgroup_enter") < order.index("join")
    assert only(plan, "cgroup_tasks").argument("slot") == only(plan, "cgroup_enter").argument(
        "slot"
    )
    assert "cgroup_create" not in order


def test_cgroup_of_its_own(spec: Any, features: Features, launch: Launch) -> None:
    """On v2 it gets a group beneath the container's, which is gone with it."""
    plan = compile_exec(spec, features, launch, Target(1, 2, (), "/cg/a/exec-1", True))
    assert only(plan, "cgroup_create").argument("path") == "/cg/a/exec-1"


@pytest.mark.parametrize("foreground", [True, False])
def test_who_waits(spec: Any, features: Features, launch: Launch, foreground: bool) -> None:
    """The pid is told when the program runs; nobody waits for one that was left."""
    lifecycle = Lifecycle(foreground=foreground, pid_file="/run/pid", preserve_fds=2)
    plan = compile_exec(spec, features, launch._replace(lifecycle=lifecycle), TARGET)
    end = names(plan)[names(plan).index("exec") :]
    assert end == ["exec", "write_pid", *(["supervise"] if foreground else [])]
    assert only(plan, "close_fds").arguments == (5,)
    assert "find_program" in names(plan)
    assert "parent_death_signal" not in names(plan)


def test_terminal(spec: Any, features: Features, launch: Launch) -> None:
    """Its terminal is one of the container's devpts, bound nowhere."""
    spec["process"]["consoleSize"] = {"height": 7, "width": 9}
    launch = launch._replace(stdio=(STDIO_TERMINAL,) * 3)
    plan = compile_exec(spec, features, launch, TARGET)
    assert only(plan, "console").arguments[:3] == ("", 7, 9)
