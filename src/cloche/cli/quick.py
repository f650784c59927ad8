"""Read a command line without argparse, whose import takes longer than planning a container.

Only what argparse would take without a word is read here.  Where there is a mistake, a call for
help or a rarer way to write something, argparse has to look: it owns the rules and the messages.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class Given:
    """What was given: an attribute for each option, as in ``argparse.Namespace``."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Reader:
    """Takes the declarations that an ``argparse.ArgumentParser`` takes, then reads by them."""

    def __init__(self) -> None:
        self._options: dict[str, tuple[str, str]] = {}
        """By each name: the attribute and the action."""
        self._values: dict[str, Any] = {}

    def add_argument_group(self, title: str) -> Reader:  # noqa: ARG002  groups are for the help
        """Return what the options of a group are declared to."""
        return self

    def add_argument(self, *names: str, action: str = "store", **_settings: object) -> None:
        """Declare an option, or the positional argument that takes all the rest."""
        long = next((name for name in names if name.startswith("--")), names[0])
        attribute = long.lstrip("-").replace("-", "_")
        for name in names:
            self._options[name] = attribute, action
        self._values[attribute] = {"store": None, "store_true": False}.get(action, ())

    def read(self, words: Sequence[str]) -> Given | None:
        """Return what is given, or None where argparse must look."""
        values = self._values.copy()
        left = list(reversed(words))
        while left and left[-1].startswith("-"):
            for name, attached in _split(left.pop(), self._options):
                attribute, action = self._options.get(name, ("", ""))
                if action == "store_true" and attached is None:
                    values[attribute] = True
                    continue
                value = attached or ""
                if attached is None and left and not left[-1].startswith("-"):
                    value = left.pop()  # a number such as -1 may be one too, as argparse can tell
                if action not in ("store", "append") or not value:
                    return None
                values[attribute] = (*values[attribute], value) if action == "append" else value
        values["rest"] = left[::-1]
        return Given(values)


def _split(word: str, options: dict[str, tuple[str, str]]) -> list[tuple[str, str | None]]:
    """Return the options in a word such as ``--init``, ``--memory=1g``, ``-it`` or ``-im1g``.

    Each has the value that is attached to it; a name that is no option stands for what only
    argparse can tell.
    """
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return [(name, value if equals else None)]
    found: list[tuple[str, str | None]] = []
    for at, letter in enumerate(word[1:], 2):
        name = f"-{letter}"
        if options.get(name, ("", ""))[1] == "store_true":
            found.append((name, None))
            continue
        value = word[at:]
        if value[:1] != "=" and " " not in word:  # argparse has rules of its own for these
            return [*found, (name, value or None)]
        return [("", "")]
    return found or [("", "")]
