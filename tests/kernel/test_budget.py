"""What starting a container may cost, in modules and system calls: unlike times, these are exact.

The numbers are what the start took when they were written, and a little room.  A change that
needs more should say what for; one that needs much less should lower them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import Cloche

MODULES = 95
"""Imported on the way to the launcher, beside what the bare interpreter has."""
PLANNER_CALLS = 1400
"""System calls up to the launcher, beside those of the bare interpreter."""
LAUNCHER_CALLS_PER_STEP = 9
"""System calls of launcher and child, up to the container's program."""

pytestmark = pytest.mark.needs("root", "busybox", "strace")


@pytest.fixture
def start(cloche: Cloche, workspace: Path) -> list[str]:
    """A start that everything is cached for, as arguments of ``cloche``."""
    cloche.environ.pop("COVERAGE_PROCESS_CONFIG", None)  # measuring must not be measured
    root = workspace / "root"
    (root / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin" / "true")
    arguments = ["run", "--network", "none", "--rootfs", f"{root}:O", "/bin/true"]
    cloche(*arguments, check=True)
    return arguments


def _calls(cloche: Cloche, trace: Path, *argv: str) -> list[str]:
    """The names of the system calls of a program and its children, in order."""
    cloche.run(["strace", "-f", "-o", str(trace), *argv], check=True)
    lines = (line.split(maxsplit=1)[1] for line in trace.read_text().splitlines())
    return [line.partition("(")[0] for line in lines if line[0].isalpha()]


def test_modules_of_the_start(cloche: Cloche, start: list[str]) -> None:
    """The planner imports no more modules than it needs."""
    python = [sys.executable, "-X", "importtime"]
    bare = cloche.run([*python, "-c", "pass"], check=True).stderr.splitlines()
    full = cloche.run([*python, str(cloche.executable), *start], check=True).stderr.splitlines()
    names = {line.rpartition("|")[2].strip() for line in full}
    names -= {line.rpartition("|")[2].strip() for line in bare}
    assert len(names) <= MODULES, sorted(names)


def test_system_calls_of_the_start(cloche: Cloche, start: list[str], workspace: Path) -> None:
    """Planner and launcher make no more system calls than they need."""
    trace = workspace / "trace"
    bare = len(_calls(cloche, trace, sys.executable, "-c", "pass"))
    full = _calls(cloche, trace, sys.executable, str(cloche.executable), *start)
    programs = [number for number, name in enumerate(full) if name in {"execve", "execveat"}]
    _, launcher, program = programs
    plan = cloche("explain", "--format", "json", *start, check=True)
    steps = len(json.loads(plan.stdout)["steps"])
    assert launcher - bare <= PLANNER_CALLS
    assert program - launcher <= LAUNCHER_CALLS_PER_STEP * steps
