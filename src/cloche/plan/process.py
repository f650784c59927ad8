"""The process itself: its streams, its session, and the program it becomes."""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.plan import steps
from cloche.plan.situation import Situation
from cloche.plan.steps import Step

INIT_ANNOTATION = "cloche.init"
"""``true``: PID 1 is a tiny init that reaps and forwards signals, the program its child."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def streams(situation: Situation) -> Step:
    """Choose the standard streams, before the child is made."""
    return steps.stdio(
        *situation.launch.stdio,
        why="a stream of the caller that is a terminal is never handed in: it could be read from",
    )


def settle(situation: Situation) -> list[Step]:
    """Give the process its session, streams and directory."""
    cwd = situation.spec["process"].get("cwd", "/")
    return [
        steps.session(why="the caller's terminal can't send it signals, nor be typed into"),
        steps.adopt_stdio(why="standard input, output and error as chosen"),
        steps.chdir(cwd, create=True, why="the working directory, looked for in the new root only"),
    ]


def start(situation: Situation) -> list[Step]:
    """Become the program."""
    plan = [
        steps.close_fds(
            3, why="a file of the host that was left open would be a way out of the container"
        )
    ]
    if _wants_init(situation):
        plan.append(
            steps.init(why="PID 1 ignores signals it has no handler for, and must reap orphans")
        )
    return plan


def become(situation: Situation) -> Step:
    """Return the last step inside: the program."""
    process = situation.spec["process"]
    argv = tuple(process["args"])
    env = tuple(process.get("env", []))
    return steps.exec(
        candidates(argv[0], env), argv, env, why="from here on the container's program runs"
    )


def watch(situation: Situation) -> Step:
    """Return the last step outside: wait for the end."""
    return steps.supervise(
        timeout_ms=situation.launch.timeout_ms,
        why="relay signals and streams, then take the exit code and clean up",
    )


def candidates(program: str, env: tuple[str, ...]) -> tuple[str, ...]:
    """Return the paths at which a program is looked for, as execvp(3) does it.

    A name without a slash is looked for in the PATH of ``env``, or in a usual one without it.
    """
    if "/" in program or not program:
        return (program,)
    path = _DEFAULT_PATH
    for entry in env:
        if entry.startswith("PATH="):
            path = entry.removeprefix("PATH=")
    return tuple(f"{directory or '.'}/{program}" for directory in path.split(":"))


def _wants_init(situation: Situation) -> bool:
    value = situation.spec.get("annotations", {}).get(INIT_ANNOTATION, "false")
    if value not in ("true", "false"):
        raise InvalidSpec(f"/annotations/{INIT_ANNOTATION}", f"neither true nor false: {value!r}")
    return value == "true"
