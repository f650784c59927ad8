"""Options of a command line in the manner of runc's: declared as a table, read by one loop.

Options come before the first other argument; ``-name`` is ``--name``, a value stands after ``=`` or
in the next argument.  The table also makes the help.  (argparse would take a fifth of the time of
the command ``state`` for its import.)
"""

from __future__ import annotations

import os

from cloche.errors import InvalidArgument
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Option(Record):
    """One option, by the names it goes by, without dashes; the first is the one it is read by."""

    names: tuple[str, ...]
    kind: str
    """``flag``, ``text``, ``number`` or ``list``: one that may be given more than once."""
    help: str
    default: str = ""


class Values:
    """The options' values by name, and the other arguments."""

    def __init__(self, options: Sequence[Option]) -> None:
        self._flags: dict[str, bool] = {}
        self._texts: dict[str, str] = {}
        self._lists: dict[str, list[str]] = {}
        self.given: set[str] = set()
        """The names of the options that were there."""
        self.rest: list[str] = []
        for option in options:
            name = option.names[0]
            if option.kind == "flag":
                self._flags[name] = option.default == "true"
            elif option.kind == "list":
                self._lists[name] = []
            else:
                self._texts[name] = option.default

    def flag(self, name: str) -> bool:
        """Return whether a flag was given."""
        return self._flags[name]

    def text(self, name: str) -> str:
        """Return a value, or the option's default."""
        return self._texts[name]

    def path(self, name: str) -> str:
        """Return a path, made absolute; empty when the option has neither value nor default."""
        path = self._texts[name]
        return os.path.abspath(path) if path else ""

    def number(self, name: str) -> int:
        """Return a whole number, 0 when the option has neither value nor default.

        Raises InvalidArgument for a value that is none.
        """
        return int(self._texts[name] or "0")

    def list(self, name: str) -> list[str]:
        """Return the values of an option that may be given more than once."""
        return self._lists[name]

    def take(self, option: Option, value: str) -> None:
        """Note an option's value."""
        name = option.names[0]
        self.given.add(name)
        if option.kind == "flag":
            if value not in ("true", "false", "1", "0"):
                raise InvalidArgument(f"--{name} takes no value such as {value!r}")
            self._flags[name] = value in ("true", "1")
        elif option.kind == "list":
            self._lists[name].append(value)
        else:
            if option.kind == "number" and not _is_number(value):
                raise InvalidArgument(f"--{name} is {value!r} but must be a whole number")
            self._texts[name] = value


def parse(options: Sequence[Option], arguments: Sequence[str]) -> Values:
    """Read options up to the first other argument, or ``--``.

    Raises InvalidArgument for one that is unknown, or lacks its value.
    """
    known = {name: option for option in options for name in option.names}
    values = Values(options)
    left = list(arguments)
    while left and left[0].startswith("-") and left[0] != "-":
        word = left.pop(0)
        if word == "--":
            break
        name, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        option = known.get(name)
        if option is None:
            raise InvalidArgument(f"there is no option {word.partition('=')[0]}")
        if not equals and option.kind == "flag":
            value = "true"
        elif not equals:
            if not left:
                raise InvalidArgument(f"--{option.names[0]} needs a value")
            value = left.pop(0)
        values.take(option, value)
    values.rest = left
    return values


def describe(options: Sequence[Option]) -> str:
    """Return the options as lines of a help text."""
    rows = []
    for option in options:
        names = ", ".join(f"-{name}" if len(name) == 1 else f"--{name}" for name in option.names)
        default = f" (default {option.default})" if option.default else ""
        value = "" if option.kind == "flag" else " VALUE"
        rows.append((names + value, option.help + default))
    width = max((len(left) for left, _ in rows), default=0)
    return "\n".join(f"  {left:{width}}  {right}" for left, right in rows)


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit()
