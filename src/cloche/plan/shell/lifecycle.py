"""What an OCI runtime adds to a container, in a script: most of it has no sense there.

A script is its container's only manager, from its start to its end.
"""

from __future__ import annotations

from cloche.plan.describe import Arguments
from cloche.plan.shell.pieces import Facts, Piece, here, not_done
from cloche.plan.shell.quoting import word
from cloche.plan.steps import HOST


def not_needed(_a: Arguments, _: Facts) -> list[Piece]:
    """Leave out what only other commands would use."""
    return []


def unlock(_a: Arguments, _: Facts) -> list[Piece]:
    """Release the lock."""
    return [here('flock --unlock "$lock"')]


def for_exec(_a: Arguments, _: Facts) -> list[Piece]:
    """Say what stands in the way."""
    return [not_done("a script joins another container's namespaces with nsenter(1) only")]


def for_restore(_a: Arguments, _: Facts) -> list[Piece]:
    """Say what stands in the way."""
    return [not_done("a shell can't speak criu's protocol; criu restore is what to call by hand")]


def send(_a: Arguments, _: Facts) -> list[Piece]:
    """Say what stands in the way."""
    return [not_done("a shell can't send a file descriptor")]


def write_pid(a: Arguments, _: Facts) -> list[Piece]:
    """Write the pid file."""
    return [here(f'echo -n "$pid" >{word(a.text("path"))}')]


def hook(a: Arguments, _: Facts) -> list[Piece]:
    """Leave out a hook: it changes what is outside, and reads a state that a script hasn't."""
    where = "outside" if a.step.stage == HOST else "inside"
    return [not_done(f"the hook {a.text('path')} would run here, {where}")]


def gate(_a: Arguments, _: Facts) -> list[Piece]:
    """Start without waiting: nobody else could open the gate of a script."""
    return []
