"""The time of day, in the form that everything of the OCI uses: RFC 3339, in UTC."""

from __future__ import annotations

import time


def now() -> str:
    """Return the time to the nanosecond, such as ``2024-02-29T12:00:00.123456789Z``."""
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"
