"""Plans as text and as JSON."""

from __future__ import annotations

import json

from cloche.plan import steps
from cloche.plan.explain import as_json, as_text, container_id
from cloche.plan.steps import Plan

_ID = "0123456789abcdef" * 4
_PLAN = Plan(
    (
        steps.lock(f"/run/c/containers/{_ID}", 0o711, why="alone"),
        steps.cgroup_set("/cg/memory.max", "64", expect="64", why="so much and no more"),
        steps.seccomp(b"\1" * 16, 0, why="fewer calls"),
        steps.supervise(why="until it ends"),
    )
)


def test_text_is_grouped_by_wall() -> None:
    """Each wall has a heading with its question, each step its number, deed, why and man page."""
    text = as_text(_PLAN)
    lines = text.splitlines()
    assert lines[0] == "cgroups: what can it use? (1 step)"
    assert lines[1] == "   1  set /cg/memory.max to 64 [cgroups(7)]"
    assert lines[2] == "      | so much and no more"
    assert "privileges: what may it do? (1 step)" in lines
    assert " us  " not in text


def test_text_shortens_the_id() -> None:
    """The id is cut to the twelve digits that people know it by."""
    assert container_id(_PLAN) == _ID
    assert _ID not in as_text(_PLAN)
    assert f"/run/c/containers/{_ID[:12]} " in as_text(_PLAN)
    assert _ID in as_json(_PLAN)


def test_text_with_times() -> None:
    """Each step has its microseconds, each wall a sum; waiting for the end isn't counted."""
    text = as_text(_PLAN, [1500, 2500, None, 10**9])
    assert "   1      2.5 us  set" in text
    assert "   2        - us  install" in text
    assert "cgroups: what can it use? (1 step, 2 us)" in text
    assert text.endswith("total: 4 us in 3 of 4 steps\n")


def test_lines_are_wrapped() -> None:
    """No line is wider than asked for, unless a single word is."""
    assert max(map(len, as_text(_PLAN, width=60).splitlines())) <= 60


def test_json() -> None:
    """The document has every step in order with all its arguments, blobs in hexadecimal."""
    document = json.loads(as_json(_PLAN, [1500, 2500, None, 10**9]))
    assert [step["operation"] for step in document["steps"]] == [
        step.operation.name for step in _PLAN.steps
    ]
    limit, program = document["steps"][1:3]
    assert limit["arguments"] == {"path": "/cg/memory.max", "value": "64", "expect": "64"}
    assert (limit["wall"], limit["stage"], limit["microseconds"]) == ("cgroups", "host", 2.5)
    assert program["arguments"]["program"] == "01" * 16
    assert program["microseconds"] is None
    assert document["walls"]["cgroups"] == {"steps": 1, "microseconds": 2.5}
