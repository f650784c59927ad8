"""What the launcher becomes when a container of the runtime failed to start.

``python -m cloche.runtime.report LOG FORMAT FAILED PLAN_FD RECORDS_FD EXIT_CODE``.
"""

from __future__ import annotations

import os
import sys

from cloche.plan import wire
from cloche.runtime import failure, records
from cloche.runtime.log import Log


def main(argv: list[str]) -> int:
    """Log what the records tell, and return the exit code."""
    path, format, *numbers = argv
    failed, plan_fd, records_fd, code = (int(number) for number in numbers)
    plan, _ = wire.decode(os.pread(plan_fd, os.fstat(plan_fd).st_size, 0))
    found = records.read(records_fd)
    if found.failure is None:
        return code
    log = Log(path, format)
    if found.failure.call == "signal":
        log.failure(f"stopped by {found.failure.path} before the container had started")
        return code
    error = failure.error(plan, found.failure)
    log.failure(error.message, error.hint)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
