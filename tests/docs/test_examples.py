"""The examples in the documents print what they say.

A block marked ``console`` is run: each line that begins with ``$`` is a command (``>`` goes on
with it), and what follows is its output, where ``...`` stands for anything.  Blocks with other
marks (``sh``, ``text``) are only to be read.
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from _pytest.mark import ParameterSet

from tests.conftest import Cloche

REPOSITORY = Path(__file__).parents[2]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Example(NamedTuple):
    """One command with the output that the document shows."""

    command: str
    output: str


def _examples(block: str) -> list[Example]:
    examples: list[Example] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            examples.append(Example(line[2:], ""))
        elif line.startswith("> ") and examples and not examples[-1].output:
            examples[-1] = Example(examples[-1].command + line[2:], "")
        elif examples:
            examples[-1] = examples[-1]._replace(output=examples[-1].output + line)
    return examples


def _blocks() -> list[ParameterSet]:
    found = []
    for document in sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]):
        text = document.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            name = f"{document.relative_to(REPOSITORY)}:{line}"
            found.append(pytest.param(match.group(1), id=name))
    return found


@pytest.mark.parametrize("block", _blocks())
@pytest.mark.needs("root")
def test_example_prints_what_the_document_says(block: str, cloche: Cloche) -> None:
    """A console block of a document, run in order in a fresh place, prints what is shown."""
    for command, output in _examples(block):
        printed = cloche.run(["sh", "-c", f'exec 2>&1; cd "$HOME"; {command}']).stdout
        checker = doctest.OutputChecker()
        assert checker.check_output(output, printed, FLAGS), f"$ {command}{printed}"
