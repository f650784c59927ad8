"""Standard output and error that can't be written to: closed, a full disk, a pipe nobody reads."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO


def fill_standard_streams() -> None:
    """Open /dev/null in place of standard streams that the caller has closed.

    Else the next file to be opened would take such a number, and be written to as if it were
    standard output.
    """
    while True:
        fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        if fd > 2:
            os.close(fd)
            break
    # The interpreter has None for those that it found closed.
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  for good
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  for good


def tell(text: str) -> None:
    """Write to standard error.  If that can't be, the exit code must do."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        drop(sys.stderr)


def tell_error(message: str, hint: str = "") -> None:
    """Write an error and what to do about it to standard error."""
    tell(f"cloche: {_printable(message)}\n")
    if hint:
        tell(f"hint: {_printable(hint)}\n")


def tell_warning(message: str) -> None:
    """Write to standard error what isn't as it was asked for."""
    tell(f"cloche: warning: {_printable(message)}\n")


def _printable(text: str) -> str:
    """Escape control characters: a name in a message must not command the terminal."""
    return "".join(
        letter if letter.isprintable() or letter == "\n" else ascii(letter)[1:-1] for letter in text
    )


def drop(stream: TextIO) -> None:
    """Have a stream swallow what it still holds: the interpreter writes that at exit, or fails."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), stream.fileno())
    except OSError:  # not a file at all
        pass
