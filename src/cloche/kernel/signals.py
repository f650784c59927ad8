"""Signals, by the C part of ``signal``: the other part imports ``enum``, which takes milliseconds.

Source: signal(7), pidfd_send_signal(2).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

SIGKILL = 9
RTMIN: int = _signal.SIGRTMIN
RTMAX: int = _signal.SIGRTMAX

NUMBERS: dict[str, int] = {
    name: number
    for name, number in vars(_signal).items()
    if name.startswith("SIG") and name[3:].isalnum() and isinstance(number, int)
}
"""Each signal's number by its name, such as ``SIGTERM``."""


def send(pidfd: int, number: int) -> None:
    """Send a signal to the process of a pidfd; raises ProcessLookupError when it has ended."""
    _signal.pidfd_send_signal(pidfd, number)
