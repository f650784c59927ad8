"""``cloche features``: what this host's kernel and set-up can do, and how it was found out."""

from __future__ import annotations

import argparse
import os
import sys

from cloche.kernel.features import Finding, probe

_COLOURS = {"yes": "\x1b[32m", "partly": "\x1b[33m", "no": "\x1b[31m"}
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_QUESTIONS = {
    "root": "what can it touch?",
    "namespaces": "what can it see?",
    "cgroups": "what can it use?",
    "privileges": "what may it do?",
    "process": "starting and watching it",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.description = __doc__.split(":", 1)[1].strip().capitalize() if __doc__ else None
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="how to print it"
    )


def run(arguments: argparse.Namespace) -> int:
    """Probe the host and print the findings; always 0, since a missing feature is an answer."""
    findings = probe()
    if arguments.format == "json":
        import json

        json.dump([finding._asdict() for finding in findings], sys.stdout, indent=2)
        print()
    else:
        print(table(findings, colours=_wants_colours()))
    return 0


def table(findings: list[Finding], *, colours: bool) -> str:
    """Return the findings as lines of text, grouped by wall."""
    width = max((len(finding.name) for finding in findings), default=0)
    lines: list[str] = []
    for wall, question in _QUESTIONS.items():
        group = [finding for finding in findings if finding.wall == wall]
        if not group:
            continue
        lines += ["", _styled(wall.upper(), _BOLD, colours) + f"  {question}"]
        for finding in group:
            state = _styled(f"{finding.state:6}", _COLOURS[finding.state], colours)
            lines.append(f"  {state}  {finding.name:{width}}  {finding.how}")
            if finding.hint and finding.state != "yes":
                hint = _styled(f"-> {finding.hint}", _DIM, colours)
                lines.append(f"  {'':6}  {'':{width}}  {hint}")
    return "\n".join(lines[1:])


def _styled(text: str, style: str, colours: bool) -> str:
    return f"{style}{text}{_PLAIN}" if colours else text


def _wants_colours() -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set (https://no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")
