"""What the planner costs to import: start-up time is a feature of the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloche

START_PATH = (
    "cloche.cli.main",
    "cloche.cli.run",
    "cloche.engine.launch",
    "cloche.kernel.cgroup.group",
    "cloche.kernel.seccomp.profile",
    "cloche.rootfs.host",
    "cloche.runtime.commands.create",
    "cloche.runtime.commands.exec",
    "cloche.runtime.commands.freeze",
    "cloche.runtime.commands.kill",
    "cloche.runtime.commands.start",
    "cloche.runtime.commands.state",
    "cloche.runtime.failure",
    "cloche.runtime.main",
    "cloche.runtime.report",
)
"""What ``cloche run`` and ``cloche-oci`` import on their way to the launcher."""

SLOW = (
    "argparse", "asyncio", "collections", "contextlib", "copyreg", "csv", "ctypes", "dataclasses",
    "elftools", "enum", "functools", "hashlib", "importlib.metadata", "inspect", "json", "locale",
    "logging", "pathlib", "random", "re", "shlex", "shutil", "signal", "socket", "subprocess",
    "tempfile", "traceback", "types", "typing", "typing_extensions", "urllib", "warnings",
)  # fmt: skip
"""Modules that take as long as planning a container, or import some that do."""


@pytest.mark.parametrize("module", START_PATH)
def test_the_start_path_imports_nothing_slow(module: str) -> None:
    """A module of the start path brings in none of the slow modules."""
    code = f"import sys, {module}; print(*sys.modules)"
    # Where coverage is measured, it is imported by every Python that its variable reaches.
    env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    # -S: what the interpreter's `site` imports by itself (a .pth file may) isn't meant.
    env["PYTHONPATH"] = str(Path(cloche.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & set(SLOW)
