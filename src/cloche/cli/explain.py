"""``cloche explain run ...``: show the plan of a container without running it."""

from __future__ import annotations

import os
import sys

from cloche.cli.arguments import add_run_options, run_options
from cloche.cli.parser import Parser
from cloche.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from cloche.plan.steps import Plan

_FORMATS = ("text", "json", "shell")
_DESCRIPTION = """\
Show what "cloche run" would do: every kernel operation in its order, grouped by wall, with what it
does, why, and its manual page. Nothing is run or changed.

Options of explain may stand before or after the word run; the others are those of "cloche run".
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options; those of ``run`` are left for a parser of their own."""
    parser.usage = "cloche explain [--format text|json|shell] run [OPTIONS] IMAGE|--rootfs DIR ..."
    parser.description = _DESCRIPTION
    _add_options(parser)
    parser.add_argument("command", nargs="...", metavar="run ...", help="the command to explain")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        default=None,
        help="text (unless given), json, or a shell script that does the same",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the plan."""
    if not arguments.command or arguments.command[0] != "run":
        raise InvalidArgument(
            "only cloche run can be explained",
            hint="write cloche explain run and then the options of cloche run",
        )
    parser = Parser(prog="cloche explain run", short_help=False)
    _add_options(parser)
    add_run_options(parser)
    given = parser.parse_args(arguments.command[1:])
    options = run_options(given, os.environ)
    from cloche.engine import launch
    from cloche.runtime import output

    plan = launch.plan(options)
    for warning in plan.warnings:
        output.tell_warning(warning)
    sys.stdout.write(_printed(plan, given.format or arguments.format or "text"))
    return 0


def _printed(plan: Plan, form: str) -> str:
    from cloche.plan import explain

    if form == "json":
        return explain.as_json(plan)
    if form == "shell":
        from cloche.plan.shell import as_shell

        return as_shell(plan)
    return explain.as_text(plan)
