"""Text as bash reads it: words, file contents and comments, whatever they hold.

Nothing of a plan reaches a script in any other way, so that no value can become a command.
Scripts are ASCII: what isn't printable is written as the octal escapes of its bytes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-")
_WIDTH = 96


def word(text: str) -> str:
    """Return one word of a command that bash expands to exactly this text."""
    if text and _PLAIN.issuperset(text):
        return text
    if all(" " <= character <= "~" for character in text):
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + "".join(_escape(byte, "\\'") for byte in os.fsencode(text)) + "'"


def words(texts: Iterable[object]) -> str:
    """Return words of a command, separated by blanks."""
    return " ".join(word(str(text)) for text in texts)


def content(data: bytes) -> str:
    """Return the format that makes ``printf`` write these bytes."""
    return "'" + "".join(_escape(byte, "\\%'") for byte in data) + "'"


def comment(text: str, first: str = "# ", rest: str = "#     ") -> list[str]:
    """Return the lines of a comment; control characters in the text are shown escaped."""
    shown = "".join(
        character if " " <= character <= "~" else _escaped(character) for character in text
    )
    lines = []
    line = first
    empty = True
    for part in shown.split(" "):
        if not empty and len(line) + 1 + len(part) > _WIDTH:
            lines.append(line.rstrip())
            line = rest
            empty = True
        line += part if empty else f" {part}"
        empty = False
    return [*lines, line]


def _escape(byte: int, special: str) -> str:
    r"""Return a byte as it stands, or as ``\ooo`` (three digits, so that one may follow)."""
    if 0x20 <= byte < 0x7F and chr(byte) not in special:
        return chr(byte)
    return "\\n" if byte == 0x0A else f"\\{byte:03o}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
