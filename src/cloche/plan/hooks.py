"""Hooks: programs of the user's that are run at six moments of a container's life.

::

    create  namespaces, mounts ... prestart, createRuntime   outside, before the root is entered
                                   createContainer           inside, by a path of the outside
    start   ...................... startContainer            inside, just before the program
                                   poststart                 outside, when the program runs
    delete  ...................... poststop                  outside, when nothing is left

Each reads the container's state on its standard input.  What fails ends the container, but for
poststop, which only warns.

Source: OCI runtime-spec, ``config.md`` "POSIX-platform Hooks", ``runtime.md`` "Lifecycle".
"""

from __future__ import annotations

from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import CHILD, HOST, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.oci.spec import Hook, Spec


def before_entering(situation: Situation) -> list[Step]:
    """Return the hooks that run while the container is built and the host's root still seen."""
    return [
        # By its deprecated definition it ran when the container was created, and is told so.
        *_hooks(situation, "prestart", "created", HOST),
        *_hooks(situation, "createRuntime", "creating", HOST),
        *_hooks(situation, "createContainer", "creating", CHILD),
    ]


def before_restoring(situation: Situation) -> list[Step]:
    """Return the hooks that run when a restored container has its namespaces, but no more."""
    return [
        *_hooks(situation, "prestart", "creating", HOST),
        *_hooks(situation, "createRuntime", "creating", HOST),
    ]


def before_start(situation: Situation) -> list[Step]:
    """Return the hooks that run inside, last before the program."""
    return _hooks(situation, "startContainer", "created", CHILD)


def after_start(situation: Situation) -> list[Step]:
    """Return the hooks that run when the program does."""
    return _hooks(situation, "poststart", "running", HOST)


def at_the_end(situation: Situation) -> list[Step]:
    """Return the hooks that run when nothing of the container is left."""
    hooks = _hooks(situation, "poststop", "stopped", HOST)
    if not hooks:
        return []
    return [steps.take_back(why="the hooks are to find it gone"), *hooks]


def state(spec: Spec, id: str, bundle: str, status: str, pid: int = 0) -> dict[str, object]:
    """Return a container's state as the specification wants it; without a pid when it is 0."""
    document: dict[str, object] = {
        "ociVersion": spec["ociVersion"],
        "id": id,
        "status": status,
        "pid": pid,
        "bundle": bundle,
        "annotations": dict(spec.get("annotations", {})),
    }
    if not pid:
        del document["pid"]
    if not document["annotations"]:
        del document["annotations"]
    return document


def _hooks(situation: Situation, moment: str, status: str, stage: int) -> list[Step]:
    moments: dict[str, Any] = {**situation.spec.get("hooks", {})}
    wanted: list[Hook] = moments.get(moment, [])
    lifecycle = situation.launch.lifecycle
    bundle = lifecycle.bundle if lifecycle else ""
    if not wanted:
        return []
    document = state(situation.spec, situation.launch.id, bundle, status)
    return [
        steps.hook(
            hook["path"],
            tuple(hook.get("args", [])) or (hook["path"],),
            tuple(hook.get("env", [])),
            timeout_s=hook.get("timeout", 0),
            directory=bundle if stage == HOST else "",
            state=_with_gap(document, status),
            lenient=moment == "poststop",
            stage=stage,
            why=f"the spec's hook for the moment {moment}",
        )
        for hook in wanted
    ]


def _with_gap(document: dict[str, object], status: str) -> tuple[bytes, bytes]:
    """Return the JSON before and after the pid, which is known to the launcher only."""
    from cloche import json

    if status == "stopped":
        return json.dumps(document).encode(), b""
    before = json.dumps(document).encode()[:-1] + b', "pid": '
    return before, b"}"
