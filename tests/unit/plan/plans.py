"""What the tests of plans look for in them, and hosts and specs that they are made for."""

from __future__ import annotations

from typing import Any

from cloche.kernel.features import Features
from cloche.plan.steps import Plan, Step


def names(plan: Plan) -> list[str]:
    """Return the operations of a plan in order."""
    return [step.operation.name for step in plan.steps]


def only(plan: Plan, name: str) -> Step:
    """Return the one step of an operation."""
    (step,) = (step for step in plan.steps if step.operation.name == name)
    return step


def every(plan: Plan, name: str) -> list[Step]:
    """Return all steps of an operation."""
    return [step for step in plan.steps if step.operation.name == name]


def unprivileged(features: Features) -> Features:
    """Return the same host as an ordinary user sees it."""
    return features._replace(uid=1000, gid=1000, user="me", capabilities=0)


def with_own_user(spec: Any) -> Any:
    """Add a user namespace that maps the caller alone."""
    spec["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 1000, "size": 1}]
    spec["linux"].update(uidMappings=mapping, gidMappings=mapping)
    return spec
