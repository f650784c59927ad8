"""What the planner costs to import: start-up time is a feature of the command."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

START_PATH = ("cloche.plan.compile", "cloche.plan.wire", "cloche.runtime.records")
SLOW = (
    "asyncio", "ctypes", "dataclasses", "elftools", "importlib.metadata", "inspect", "logging",
    "pathlib", "random", "socket", "subprocess", "tempfile", "typing_extensions", "urllib",
)  # fmt: skip
"""Modules that cost a millisecond or more, which starting a container has no use for.

``re`` isn't among them, since ``typing`` imports it itself before Python 3.13.
"""


@pytest.mark.parametrize("module", START_PATH)
def test_the_start_path_imports_nothing_slow(module: str) -> None:
    """A module of the start path brings in none of the slow modules."""
    code = f"import sys, {module}; print(*sys.modules)"
    # Where coverage is measured, it is imported by every Python that its variable reaches.
    env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & set(SLOW)
