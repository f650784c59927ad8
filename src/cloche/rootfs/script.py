"""Scripts: which program runs them, by their first line; execve(2), "Interpreter scripts"."""

from __future__ import annotations

import os
import shlex

from cloche.errors import InvalidArgument
from cloche.record import Record

_LONGEST_LINE = 255
"""What the kernel reads of the first line, since Linux 5.1; a longer path isn't executed."""


class Script(Record):
    """What a script needs to run."""

    interpreter: str
    """An absolute path."""
    program: str
    """The program that env(1) looks up in PATH, for ``#!/usr/bin/env program``; or empty."""


def read(path: str) -> Script | None:
    """Read the first line of a file; None if it isn't a script.

    Raises InvalidArgument for a line that names no interpreter, and OSError.
    """
    with open(path, "rb") as file:
        head = file.read(_LONGEST_LINE + 1)
    if not head.startswith(b"#!"):
        return None
    line, newline, _ = head[2:].partition(b"\n")
    text = os.fsdecode(line)
    if text.endswith("\r"):
        raise InvalidArgument(
            f"{path}: its first line ends in CR LF, so its interpreter isn't found",
            hint=f"write it with LF line ends, as sed -i 's/\\r$//' {shlex.quote(path)} does",
        )
    words = text.strip(" \t").replace("\t", " ").split(" ", 1)
    interpreter = words[0]
    if not interpreter or (not newline and len(head) > _LONGEST_LINE and len(words) == 1):
        raise InvalidArgument(f"{path}: its first line names no interpreter")
    if not interpreter.startswith("/"):
        raise InvalidArgument(
            f"{path}: its interpreter {interpreter} isn't an absolute path",
            hint="which program that is depends on the working directory",
        )
    argument = words[1].strip(" ") if len(words) > 1 else ""
    is_env = os.path.basename(interpreter) == "env"
    return Script(interpreter, _program_of_env(path, argument) if is_env else "")


def _program_of_env(path: str, argument: str) -> str:
    """Return the program in the argument of env(1): ``bash``, or ``-S VAR=1 bash -e``."""
    if not argument.startswith("-"):
        return argument
    for option in ("--split-string=", "--split-string", "-S", "-vS"):
        if argument.startswith(option):
            argument = argument.removeprefix(option)
            break
    else:
        raise InvalidArgument(
            f"{path}: env {argument} in its first line: only -S is understood",
            hint="name the program that it runs as one more PROGRAM and the script as --file",
        )
    try:
        words = shlex.split(argument)
    except ValueError as error:
        raise InvalidArgument(f"{path}: env -S in its first line: {error}") from error
    for word in words:
        if not word.startswith("-") and "=" not in word:
            return word
    raise InvalidArgument(f"{path}: env -S in its first line names no program")
