"""What the launcher becomes when there is something to tell: an error, or the trace.

``python -m cloche.cli.report PLAN_FD RECORDS_FD EXIT_CODE``.  By now the container is gone and
everything of it undone; both file descriptors are memory that only this process holds.
"""

from __future__ import annotations

import os
import sys

from cloche.plan import wire
from cloche.plan.explain import as_text
from cloche.runtime import failure, records
from cloche.runtime.output import tell, tell_error


def main(argv: list[str]) -> int:
    """Print what the records tell, on standard error, and return the exit code."""
    plan_fd, records_fd, code = (int(argument) for argument in argv)
    plan, options = wire.decode(os.pread(plan_fd, os.fstat(plan_fd).st_size, 0))
    found = records.read(records_fd)
    if options.flags & wire.TIME_STEPS:
        durations = [step.ended - step.begun if step.ended else None for step in found.steps]
        tell(as_text(plan, durations))
        if found.progress == records.EXITED:
            tell(_summary(found))
    if found.failure is not None and found.failure.call == "signal":
        name = found.failure.path
        tell_error(f"stopped by {name} before the container had started")
    elif found.failure is not None:
        error = failure.error(plan, found.failure)
        tell_error(error.message, error.hint)
    if found.timed_out:
        tell_error("the container was killed at its time limit")
    return code


def _summary(found: records.Records) -> str:
    started = (found.ready - found.begun) / 1e6
    ran = (found.ended - found.ready) / 1e6
    cpu = (found.user_us + found.system_us) / 1000
    return (
        f"started in {started:.1f} ms, ran for {ran:.1f} ms, used {cpu:.1f} ms of CPU "
        f"and {found.peak_bytes / 1e6:.1f} MB at most\n"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
