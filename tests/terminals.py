"""A terminal emulator, for what a user sees and types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import struct
import termios
import time

LIMIT = 5.0
"""Seconds that a test waits for something to be seen."""


class Terminal:
    """A terminal emulator: what the user sees and types."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.seen = b""
        self.resize(24, 80)
        self.original = termios.tcgetattr(self.slave)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the window."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def own(self) -> None:
        """Make it the controlling terminal of the calling process, the leader of a session."""
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def type(self, keys: bytes) -> None:
        """Type something; what is shown meanwhile is kept for ``expect``."""
        while keys:
            readable, writable, _ = select.select([self.master], [self.master], [], LIMIT)
            assert readable or writable, f"nobody reads {keys[:40]!r}"
            if readable:
                self.drain()
            if writable:
                # More than a terminal's buffer holds would wait, or be lost.
                keys = keys[os.write(self.master, keys[:1024]) :]

    def drain(self) -> None:
        """Take what is shown by now."""
        if select.select([self.master], [], [], 0)[0]:
            with contextlib.suppress(OSError):
                self.seen += os.read(self.master, 65536)

    def expect(self, text: bytes) -> bytes:
        """Wait until something is seen; return what was seen up to there, and forget it."""
        end = time.monotonic() + LIMIT
        while text not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{text!r} isn't in {self.seen!r}"
            select.select([self.master], [], [], left)
            self.drain()
        found, _, self.seen = self.seen.partition(text)
        return found + text

    @property
    def is_raw(self) -> bool:
        """Whether keys are passed on as bytes."""
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    @property
    def is_restored(self) -> bool:
        """Whether the settings are those of the start."""
        return termios.tcgetattr(self.slave) == self.original

    def until(self, raw: bool) -> None:
        """Wait until it is raw, or not."""
        end = time.monotonic() + LIMIT
        while self.is_raw != raw:
            assert time.monotonic() < end
            time.sleep(0.005)

    def close(self) -> None:
        """Close the window."""
        os.close(self.slave)
        os.close(self.master)
