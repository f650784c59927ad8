"""The process itself: its streams, its session, and the program it becomes."""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.plan import hooks, steps
from cloche.plan.situation import Situation
from cloche.plan.steps import HOST, STDIO_INHERIT, Step

INIT_ANNOTATION = "cloche.init"
"""``true``: PID 1 is a tiny init that reaps and forwards signals, the program its child."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def streams(situation: Situation) -> Step:
    """Choose the standard streams, before the child is made."""
    return steps.stdio(
        *situation.launch.stdio,
        why="a stream of the caller that is a terminal is never handed in: it could be read from",
    )


def affinity(situation: Situation) -> tuple[list[Step], list[Step]]:
    """Return the steps for ``execCPUAffinity`` of a process that is added to a container.

    The first ones belong before ``spawn``, the others after the child has joined its cgroups.
    """
    wanted = situation.spec["process"].get("execCPUAffinity")
    if not wanted:
        return [], []
    from cloche.oci import ranges

    before = ranges.members(wanted.get("initial", ""), ranges.CPUS)
    after = ranges.members(wanted.get("final", ""), ranges.CPUS)
    initial = steps.cpu_affinity(
        before, why="where it runs until it is in the container's cgroup", stage=HOST
    )
    final = steps.cpu_affinity(after, why="where it runs in the container")
    return [initial] if before else [], [final] if after else []


def settle(situation: Situation) -> list[Step]:
    """Give the process its session, streams and directory, and no other file."""
    process = situation.spec["process"]
    lifecycle = situation.launch.lifecycle
    plan = [
        steps.session(why="the caller's terminal can't send it signals, nor be typed into"),
        steps.adopt_stdio(why="standard input, output and error as chosen"),
    ]
    if lifecycle and STDIO_INHERIT in situation.launch.stdio:
        plan.append(
            steps.own_stdio(
                process.get("user", {}).get("uid", 0),
                why="programs open /dev/stdout and its like anew, which takes the right to",
            )
        )
    plan.append(
        steps.chdir(
            process.get("cwd", "/"),
            create=True,
            why="the working directory, looked for in the new root only",
        )
    )
    # Before any filter, which may know nothing of close_range(2).
    plan.append(
        steps.close_fds(
            3 + (lifecycle.preserve_fds if lifecycle else 0),
            why="a file of the host that was left open would be a way out of the container",
        )
    )
    return plan


def start(situation: Situation) -> list[Step]:
    """Put an init before the program, if that is wanted."""
    if not wants_init(situation):
        return []
    return [steps.init(why="PID 1 ignores signals it has no handler for, and must reap orphans")]


def become(situation: Situation) -> Step:
    """Return the last step inside: the program."""
    process = situation.spec["process"]
    argv = tuple(process["args"])
    env = tuple(process.get("env", []))
    found = candidates(argv[0], env) if argv else ()
    return steps.exec(found, argv, env, why="from here on the container's program runs")


def wait_for_start(situation: Situation, gate_slot: int) -> list[Step]:
    """Leave a container that is created but not started, if that is wanted."""
    lifecycle = situation.launch.lifecycle
    if lifecycle is None:
        return []
    plan = _look(situation)
    plan += hand_over(situation)
    if lifecycle.gate:
        plan += tell_pid(situation)
        plan.append(steps.leave(why="the container is created"))
        plan.append(steps.wait_at_gate(gate_slot, why="until somebody starts the container"))
    return plan


def watch(situation: Situation) -> list[Step]:
    """Return the last steps outside: wait for the end, or leave."""
    lifecycle = situation.launch.lifecycle
    supervise = steps.supervise(
        timeout_ms=situation.launch.timeout_ms,
        why="relay signals and streams, then take the exit code and clean up",
    )
    if lifecycle is None:
        return [supervise]
    if lifecycle.gate:
        return []
    plan = tell_pid(situation)
    plan += hooks.after_start(situation)
    plan.append(steps.unlock(why="other commands may work on the container now"))
    if lifecycle.foreground:
        if lifecycle.keep:
            plan.append(steps.keep(why="the container is deleted by another command"))
        plan.append(supervise)
        if not lifecycle.keep:
            plan += hooks.at_the_end(situation)
    return plan


def watch_exec(situation: Situation) -> list[Step]:
    """Return the last steps outside of a process that was added to a container."""
    lifecycle = situation.launch.lifecycle
    plan = tell_pid(situation)
    if lifecycle is None or lifecycle.foreground:
        plan.append(steps.supervise(why="relay signals and streams, then take the exit code"))
    return plan


def _look(situation: Situation) -> list[Step]:
    process = situation.spec["process"]
    argv = tuple(process["args"])
    if not argv:
        return []  # it can be created, though not started
    return [
        steps.find_program(
            candidates(argv[0], tuple(process.get("env", []))),
            argv,
            why="a container whose program isn't there shall not be created",
        )
    ]


def hand_over(situation: Situation) -> list[Step]:
    """Send what others are to have of the container."""
    lifecycle = situation.launch.lifecycle
    assert lifecycle is not None
    plan = []
    if lifecycle.console_socket:
        plan.append(
            steps.send_console(
                lifecycle.console_socket, why="whoever manages the container has its terminal"
            )
        )
    if lifecycle.pidfd_socket:
        plan.append(
            steps.send_pidfd(lifecycle.pidfd_socket, why="unlike a pid it can't change its process")
        )
    return plan


def tell_pid(situation: Situation) -> list[Step]:
    """Write the pid file, if there is to be one."""
    lifecycle = situation.launch.lifecycle
    if lifecycle is None or not lifecycle.pid_file:
        return []
    return [steps.write_pid(lifecycle.pid_file, why="whoever manages the container waits for it")]


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


def wants_init(situation: Situation) -> bool:
    """Whether the program is to have a tiny init as its PID 1."""
    value = situation.spec.get("annotations", {}).get(INIT_ANNOTATION, "false")
    if value not in ("true", "false"):
        raise InvalidSpec(
            f"/annotations/{INIT_ANNOTATION}", f"is {value!r} but must be true or false"
        )
    return value == "true"
