"""The parser of every sub-command: argparse with Docker's manners.

A mistake is an ``InvalidArgument`` and not an exit; options can't be abbreviated, since a
later release may have another one with the same beginning.
"""

from __future__ import annotations

import argparse

from cloche.errors import InvalidArgument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of a fixed width.

    argparse makes a formatter for each option that is declared, and the usual one asks for the
    width of the terminal by importing shutil: 5 ms of the start of a container.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)


class Parser(argparse.ArgumentParser):
    """A parser that raises InvalidArgument, and whose help is ``--help`` and, mostly, ``-h``."""

    def __init__(self, *, short_help: bool = True, **settings: Any) -> None:
        settings.setdefault("formatter_class", _Formatter)
        settings.setdefault("allow_abbrev", False)
        super().__init__(add_help=False, **settings)
        flags = ("-h", "--help") if short_help else ("--help",)
        self.add_argument(*flags, action="help", help="show this help")

    def error(self, message: str) -> NoReturn:
        """Raise InvalidArgument with what argparse found wrong."""
        problem = message.replace("unrecognized arguments", "unknown arguments")
        raise InvalidArgument(problem, hint=f"see {self.prog} --help")
