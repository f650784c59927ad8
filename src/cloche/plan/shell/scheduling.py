"""How the process is scheduled, in a script: chrt, nice, ionice and taskset.

In stage HOST these programs change the child that waits; in stage CHILD they become it.
"""

from __future__ import annotations

from cloche.kernel import scheduling as kernel
from cloche.plan.describe import Arguments, numbers
from cloche.plan.shell.pieces import CHAIN, Facts, Piece, here, not_done
from cloche.plan.shell.quoting import word
from cloche.plan.steps import HOST

_OPTIONS = {
    0: "--other",
    1: "--fifo",
    2: "--rr",
    3: "--batch",
    5: "--idle",
    6: "--deadline",
}


def scheduler(a: Arguments, _: Facts) -> list[Piece]:
    """Set policy and nice value, each by its own program."""
    flags = a.number("flags")
    reset = kernel.POLICY_FLAGS["SCHED_FLAG_RESET_ON_FORK"]
    option = _OPTIONS.get(a.number("policy"))
    if option is None or flags & ~reset:
        return [not_done("chrt(1) doesn't know this policy, or not all of its flags")]
    words = [option]
    words += ["--reset-on-fork"] if flags else []
    words += [
        f"--sched-{name}={a.number(name)}"
        for name in ("runtime", "deadline", "period")
        if a.number(name)
    ]
    command = f"chrt {' '.join(words)}"
    priority, nice = a.number("priority"), a.number("nice")
    if a.step.stage == HOST:
        return [
            here(f'{command} --pid {priority} "$pid"', f'renice --priority {nice} --pid "$pid"')
        ]
    # nice(1) counts from the present value, which it tells when it is given nothing to run.
    return [Piece(CHAIN, (f"{command} {priority}", f'nice --adjustment="$(({nice} - $(nice)))"'))]


def io_priority(a: Arguments, _: Facts) -> list[Piece]:
    """Set class and priority."""
    command = f"ionice --class {a.number('class')}"
    if a.number("class") != kernel.IO_CLASSES["IOPRIO_CLASS_IDLE"]:
        command += f" --classdata {a.number('priority')}"
    if a.step.stage == HOST:
        return [here(f'{command} --pid "$pid"')]
    return [Piece(CHAIN, (command,))]


def memory_policy(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out the memory policy."""
    return [not_done("util-linux can't set a memory policy (numactl(8) can)")]


def cpu_affinity(a: Arguments, _: Facts) -> list[Piece]:
    """Choose the CPUs."""
    command = f"taskset --cpu-list {numbers(a.blob('cpus'))}"
    if a.step.stage == HOST:
        return [here(f"taskset --cpu-list --pid {numbers(a.blob('cpus'))} $$")]
    return [Piece(CHAIN, (command,))]


def resctrl_join(a: Arguments, _: Facts) -> list[Piece]:
    """Move the child into a group."""
    return [here(f'echo "$pid" >{word(a.text("path") + "/tasks")}')]
