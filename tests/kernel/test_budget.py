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
from tests.runtimes import Runtime, make_bundle
from tests.unit.test_layers import SLOW

MODULES = 72
"""Imported on the way to the launcher, beside what the bare interpreter has."""
OCI_MODULES = {
    "create": 68,
    "start": 40,
    "exec": 56,
    "pause": 38,
    "resume": 38,
    "state": 38,
    "kill": 40,
    "delete": 40,
}
"""The same, of the commands of the OCI runtime."""
PLANNER_CALLS = 400
"""System calls up to the launcher, beside those of the bare interpreter."""
OCI_PLANNER_CALLS = 340
"""The same, of ``cloche-oci run``."""
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


def _imports(errors: str) -> set[str]:
    """The modules that an interpreter said it imported (``-X importtime``)."""
    lines = errors.splitlines()
    return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}


def _bare(cloche: Cloche) -> set[str]:
    """The modules of an interpreter that does nothing."""
    python = [sys.executable, "-X", "importtime", "-c", "pass"]
    return _imports(cloche.run(python, check=True).stderr)


def test_modules_of_the_start(cloche: Cloche, start: list[str]) -> None:
    """The planner imports no more modules than it needs, and none that is slow."""
    python = [sys.executable, "-X", "importtime", str(cloche.executable)]
    names = _imports(cloche.run([*python, *start], check=True).stderr) - _bare(cloche)
    assert "cloche.engine.launch" in names
    assert len(names) <= MODULES, sorted(names)
    assert not names & set(SLOW)


@pytest.mark.orphans
def test_modules_of_the_runtime(
    cloche: Cloche, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No command of the OCI runtime imports more than it needs, or what is slow."""
    bare = _bare(cloche)
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    runtime = Runtime(str(cloche.executable.with_name("cloche-oci")), workspace)
    bundle = make_bundle(workspace / "bundle", "sleep", "1000")
    id = runtime.id()
    try:
        for command, *arguments in (
            ("create", "--bundle", str(bundle), id),
            ("start", id),
            ("exec", id, "true"),
            ("pause", id),
            ("resume", id),
            ("state", id),
            ("kill", id, "KILL"),
            ("delete", "--force", id),
        ):
            done = runtime(command, *arguments, check=True)
            names = _imports(done.stderr) - bare
            assert "cloche.runtime.main" in names
            assert len(names) <= OCI_MODULES[command], (command, sorted(names))
            assert not names & set(SLOW), command
    finally:
        runtime.end()


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


def test_system_calls_of_the_runtime(
    cloche: Cloche, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The OCI runtime makes no more system calls than it needs on the way to its launcher."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
    trace = workspace / "trace"
    bare = len(_calls(cloche, trace, sys.executable, "-c", "pass"))
    runtime = Runtime(str(cloche.executable.with_name("cloche-oci")), workspace)
    bundle = make_bundle(workspace / "bundle")
    argv = runtime.argv("run", "--bundle", str(bundle), runtime.id())
    full = _calls(cloche, trace, sys.executable, *argv)
    programs = [number for number, name in enumerate(full) if name in {"execve", "execveat"}]
    assert programs[1] - bare <= OCI_PLANNER_CALLS
