"""Shares of caches: groups of resctrl, as they would be on a machine that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cloche.errors import InvalidSpec, Unsupported
from cloche.kernel import resctrl
from cloche.kernel.features import Features
from cloche.kernel.resctrl import Resctrl
from cloche.plan import wire
from cloche.plan.compile import compile
from cloche.plan.execute import Target, compile_exec
from cloche.plan.launch import Launch
from cloche.plan.resctrl import own_groups
from cloche.plan.steps import HOST, Plan

MOUNT = "/sys/fs/resctrl"
EXISTING = "    L3:0=7ff;1=01f\n    MB:0=100;1= 70\n"
LINES = {
    "l3CacheSchema": "L3:0=7ff",
    "memBwSchema": "MB:1=70",
    "schemata": ["L2:0=f", "L2:1=f"],
}


def paths(plan: Plan) -> list[tuple[str, str]]:
    """Return what the plan does in resctrl: operation and path beneath the mount."""
    wire.encode(plan)
    found = []
    for step in plan.steps:
        path = str(step.arguments[0]) if step.arguments else ""
        if path.startswith(MOUNT):
            assert step.stage == HOST
            found.append((step.operation.name, path.removeprefix(MOUNT)))
    return found


def test_own_group(spec: Any, features: Features, launch: Launch) -> None:
    """Without a name the group is the container's, and goes with it."""
    spec["linux"]["intelRdt"] = {"schemata": ["L3:0=1"], "enableMonitoring": True}
    plan = compile(spec, features, launch._replace(resctrl=Resctrl(MOUNT)))
    assert paths(plan) == [
        ("make_dir", "/abc"),
        ("cgroup_set", "/abc/schemata"),
        ("make_dir", "/abc/mon_groups/abc"),
        ("resctrl_join", "/abc"),
        ("resctrl_join", "/abc/mon_groups/abc"),
    ]
    made = [step for step in plan.steps if step.operation.name == "make_dir"]
    assert {step.argument("keep") for step in made if "abc" in str(step.argument("path"))} == {0}
    order = [step.operation.name for step in plan.steps]
    assert order.index("spawn") < order.index("resctrl_join") < order.index("pivot_root")
    assert own_groups(spec["linux"]["intelRdt"], MOUNT, "abc") == [
        f"{MOUNT}/abc/mon_groups/abc",
        f"{MOUNT}/abc",
    ]


def test_named_group(spec: Any, features: Features, launch: Launch) -> None:
    """One that isn't there is made from the lines, in the specification's order, and stays."""
    spec["linux"]["intelRdt"] = {"closID": "gold", **LINES}
    plan = compile(spec, features, launch._replace(resctrl=Resctrl(MOUNT)))
    assert paths(plan) == [
        ("make_dir", "/gold"),
        ("cgroup_set", "/gold/schemata"),
        ("resctrl_join", "/gold"),
    ]
    (write,) = (step for step in plan.steps if step.arguments[:1] == (f"{MOUNT}/gold/schemata",))
    assert write.argument("value") == "L3:0=7ff\nMB:1=70\nL2:0=f\nL2:1=f\n"
    assert own_groups(spec["linux"]["intelRdt"], MOUNT, "abc") == []


def test_group_that_is_there(spec: Any, features: Features, launch: Launch) -> None:
    """It is joined, if its shares are those that are asked for."""
    there = launch._replace(resctrl=Resctrl(MOUNT, EXISTING))
    spec["linux"]["intelRdt"] = {"closID": "/"}
    assert paths(compile(spec, features, there)) == [("resctrl_join", "")]
    spec["linux"]["intelRdt"] = {"closID": "gold", "enableMonitoring": True}
    assert paths(compile(spec, features, there)) == [
        ("make_dir", "/gold/mon_groups/abc"),
        ("resctrl_join", "/gold"),
        ("resctrl_join", "/gold/mon_groups/abc"),
    ]
    assert own_groups(spec["linux"]["intelRdt"], MOUNT, "abc") == [f"{MOUNT}/gold/mon_groups/abc"]
    spec["linux"]["intelRdt"] = {"closID": "gold", "l3CacheSchema": "L3:1=1F", "memBwSchema": "MB:"}
    assert paths(compile(spec, features, there))[-1] == ("resctrl_join", "/gold")
    for field, line in (("l3CacheSchema", "L3:1=f"), ("memBwSchema", "MB:2=70")):
        spec["linux"]["intelRdt"] = {"closID": "gold", field: line}
        with pytest.raises(InvalidSpec, match="other shares") as caught:
            compile(spec, features, there)
        assert caught.value.pointer == f"/linux/intelRdt/{field}"


def test_what_is_not_there(spec: Any, features: Features, launch: Launch) -> None:
    """Neither a machine without resctrl nor a group that nobody made is passed over."""
    spec["linux"]["intelRdt"] = {"closID": "gold"}
    for found in (None, Resctrl()):
        with pytest.raises(Unsupported, match="resctrl isn't mounted"):
            compile(spec, features, launch._replace(resctrl=found))
    with pytest.raises(InvalidSpec, match="is gold but must be a group"):
        compile(spec, features, launch._replace(resctrl=Resctrl(MOUNT)))


def test_process_that_is_added(spec: Any, features: Features, launch: Launch) -> None:
    """It isn't born in the container's groups, so it joins them too."""
    spec["linux"]["intelRdt"] = {"schemata": ["L3:0=1"]}
    launch = launch._replace(resctrl=Resctrl(MOUNT))
    plan = compile_exec(spec, features, launch, Target(7, 1))
    assert paths(plan) == [("resctrl_join", "/abc")]


def test_look(tmp_path: Path) -> None:
    """The mount is found wherever it is, and the group's shares are read."""
    mount = tmp_path / "re sctrl"
    (mount / "gold").mkdir(parents=True)
    (mount / "gold/schemata").write_text(EXISTING)
    escaped = str(mount).replace(" ", "\\040")
    line = f"30 1 0:40 / {escaped} rw,relatime - resctrl resctrl rw\n"
    (tmp_path / "mountinfo").write_text("29 1 0:39 / /x rw - tmpfs tmpfs rw\n")
    assert resctrl.look("gold", str(tmp_path)) == Resctrl()
    (tmp_path / "mountinfo").write_text(line)
    assert resctrl.look("", str(tmp_path)) == Resctrl(str(mount))
    assert resctrl.look("lead", str(tmp_path)) == Resctrl(str(mount))
    assert resctrl.look("gold", str(tmp_path)) == Resctrl(str(mount), EXISTING)
