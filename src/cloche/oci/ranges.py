"""Lists of CPUs or memory nodes, such as ``0-3,7``."""

from __future__ import annotations

CPUS = 8192
"""The most CPUs that Linux can be built for."""
NODES = 1024
"""The most memory nodes."""


def members(text: str, limit: int) -> int:
    """Return a list as a bit mask; spaces and empty elements don't count.

    Raises ValueError, with the problem in words, for what is no list or has a number from
    ``limit`` on.
    """
    bits = 0
    for part in text.split(","):
        element = part.strip(" ")
        if not element:
            continue
        first, dash, last = element.partition("-")
        low = _number(first, limit)
        high = _number(last, limit) if dash else low
        if low > high:
            raise ValueError(f"{element!r} ends before it begins")
        bits |= (1 << high + 1) - (1 << low)
    return bits


def _number(text: str, limit: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{text!r} is no number")
    if len(text) > 9 or int(text) >= limit:
        raise ValueError(f"{text} is beyond the greatest, {limit - 1}")
    return int(text)
