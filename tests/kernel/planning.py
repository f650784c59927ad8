"""Plans as ``cloche run`` compiles them, to be carried out by the launcher without Python."""

from __future__ import annotations

import os
import pty
from pathlib import Path

from cloche.plan import wire
from cloche.plan.steps import Plan
from tests.conftest import Cloche

_PLANNER = """
import os, sys
from cloche.cli.arguments import add_run_options, run_options
from cloche.cli.parser import Parser
from cloche.engine import launch
from cloche.plan import wire

parser = Parser(prog="cloche run", short_help=False)
add_run_options(parser)
options = run_options(parser.parse_args(sys.argv[1:]), os.environ)
print(wire.encode(launch.plan(options)).hex())
"""


def planned(run: Cloche, *arguments: str) -> Plan:
    """Return the plan of ``cloche run ARGUMENTS...``, compiled by its user on a terminal."""
    python = run.executable.with_name("python")
    master, slave = pty.openpty()
    try:
        process = run.start([str(python), "-P", "-c", _PLANNER, *arguments], stdin=slave)
        stdout, stderr = process.communicate(timeout=30)
    finally:
        os.close(master)
        os.close(slave)
    assert stdout, stderr
    return wire.decode(bytes.fromhex(stdout))[0]


def launcher_of(run: Cloche) -> Path:
    """Return the launcher of a user's installation."""
    packages = run.executable.parent.parent.glob("lib/python*/site-packages")
    return Path(os.environ.get("CLOCHE_LAUNCHER") or next(packages) / "cloche/cloche-launch")
