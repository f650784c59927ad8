"""Hand a plan to the launcher as the planner does, and see what comes of it."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from cloche.plan import wire
from cloche.plan.steps import Plan, Step
from cloche.runtime import launcher, records

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Outcome(NamedTuple):
    """How a run ended."""

    code: int
    stdout: str
    stderr: str
    failure: tuple[str, str, str, int] | None


def launch(plan: Sequence[Step], uid: int | None = None, pass_fds: Sequence[int] = ()) -> Outcome:
    plan_fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING)
    os.write(plan_fd, wire.encode(Plan(tuple(plan))))
    os.fchmod(plan_fd, 0o666)
    fcntl.fcntl(plan_fd, fcntl.F_ADD_SEALS, _SEALS)
    records_fd = os.memfd_create("records", 0)
    os.fchmod(records_fd, 0o666)
    os.ftruncate(records_fd, records.size(len(plan)))
    done = subprocess.run(
        [launcher.path(), str(plan_fd), str(records_fd)],
        pass_fds=(plan_fd, records_fd, *pass_fds),
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
        check=False,
        cwd="/",
    )
    failure = records.read(records_fd).failure
    os.close(plan_fd)
    os.close(records_fd)
    if failure:
        failure = (plan[failure.step].operation.name, failure.call, failure.path, failure.errno)
    return Outcome(done.returncode, done.stdout, done.stderr, failure)
