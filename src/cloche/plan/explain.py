"""A plan, printed: as text by wall, or as JSON, with the measured times if there are any."""

from __future__ import annotations

import json
from collections.abc import Sequence

from cloche.plan.describe import stage_word, what
from cloche.plan.steps import (
    CGROUPS,
    NAMESPACES,
    PRIVILEGES,
    PROCESS,
    ROOT,
    WALLS,
    Plan,
    Step,
)

QUESTIONS = {
    ROOT: "what can it touch?",
    NAMESPACES: "what can it see?",
    CGROUPS: "what can it use?",
    PRIVILEGES: "what may it do?",
    PROCESS: "what starts and watches it?",
}

_SHORT = 12

Durations = Sequence[int | None]
"""For each step how long it took, nanoseconds; None if it never ran."""


def as_text(plan: Plan, durations: Durations | None = None, *, width: int = 100) -> str:
    """Return the steps by wall, each with what it does, why, and its manual page.

    The numbers are the order in which the steps run; with durations each has its microseconds
    and each wall a total, the wait for the container's end left out.  The container's id is
    shortened to its first 12 digits.
    """
    lines = []
    identifier = container_id(plan)
    for wall in WALLS:
        members = [
            (number, step) for number, step in enumerate(plan.steps) if step.operation.wall == wall
        ]
        if not members:
            continue
        count = "1 step" if len(members) == 1 else f"{len(members)} steps"
        total = ""
        if durations is not None:
            total = f", {_sum(plan, durations, [number for number, _ in members]):.0f} us"
        lines.append(f"{wall}: {QUESTIONS[wall]} ({count}{total})")
        for number, step in members:
            lines += _lines(number, step, durations, width, identifier)
        lines.append("")
    if durations is not None:
        ran = sum(duration is not None for duration in durations)
        total = f"{_sum(plan, durations, range(len(plan.steps))):.0f} us"
        lines.append(f"total: {total} in {ran} of {len(plan.steps)} steps")
    return "\n".join(lines).rstrip() + "\n"


def container_id(plan: Plan) -> str:
    """Return the id of the plan's container, or an empty string if it doesn't tell."""
    for step in plan.steps:
        if step.operation.name == "lock":
            return str(step.argument("path")).rsplit("/", 1)[1]
    return ""


def as_json(plan: Plan, durations: Durations | None = None) -> str:
    """Return the steps in their order as a JSON document.

    ``{"steps": [{"number", "wall", "stage", "operation", "what", "why", "man", "arguments",
    "microseconds"}], "walls": {name: {"steps", "microseconds"}}}``; blobs are hexadecimal,
    ``microseconds`` only with durations, null for a step that never ran.
    """
    steps = []
    for number, step in enumerate(plan.steps):
        record: dict[str, object] = {
            "number": number,
            "wall": step.operation.wall,
            "stage": stage_word(step),
            "operation": step.operation.name,
            "what": what(step),
            "why": step.why,
            "man": step.operation.man,
            "arguments": {
                name: value.hex() if isinstance(value, bytes) else value
                for (name, _), value in zip(step.operation.parameters, step.arguments, strict=True)
            },
        }
        if durations is not None:
            duration = durations[number]
            record["microseconds"] = None if duration is None else duration / 1000
        steps.append(record)
    walls: dict[str, dict[str, float]] = {}
    for wall in WALLS:
        members = [number for number, step in enumerate(plan.steps) if step.operation.wall == wall]
        walls[wall] = {"steps": len(members)}
        if durations is not None:
            walls[wall]["microseconds"] = _sum(plan, durations, members)
    return json.dumps({"steps": steps, "walls": walls}, indent=2) + "\n"


def _lines(
    number: int, step: Step, durations: Durations | None, width: int, identifier: str
) -> list[str]:
    time = ""
    if durations is not None:
        duration = durations[number]
        time = f"{'-' if duration is None else f'{duration / 1000:.1f}':>9} us"
    head = f"{number:>4}{time}  "
    indent = " " * len(head)
    text = f"{what(step)} [{step.operation.man}]"
    why = step.why
    if len(identifier) > _SHORT:
        text = text.replace(identifier, identifier[:_SHORT])
        why = why.replace(identifier, identifier[:_SHORT])
    lines = _wrap(text, head, indent, width)
    return lines + _wrap(why, f"{indent}| ", f"{indent}| ", width)


def _wrap(text: str, first: str, rest: str, width: int) -> list[str]:
    lines = []
    line = first
    empty = True
    for word in text.split(" "):
        if not empty and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = rest
            empty = True
        line += word if empty else f" {word}"
        empty = False
    return [*lines, line]


def _sum(plan: Plan, durations: Durations, numbers: Sequence[int]) -> float:
    """Return the microseconds of some steps; to wait for the container isn't the start's time."""
    return (
        sum(
            durations[number] or 0
            for number in numbers
            if plan.steps[number].operation.name != "supervise"
        )
        / 1000
    )
