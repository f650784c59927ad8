"""The launcher alone, carrying out a plan, beside ``minimal.c``, which has the plan as its code.

Both are executed as processes and waited for.  The plan is compiled and encoded once before, as
is the filter: Python has no part in what is measured.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.measure import Failed
from bench.spec import CAPABILITIES, container
from cloche.kernel import capabilities, features, seccomp
from cloche.plan import wire
from cloche.plan.compile import compile
from cloche.plan.launch import Launch
from cloche.plan.overlay import ROOT_ANNOTATION
from cloche.plan.steps import STDIO_INHERIT, Plan
from cloche.runtime import launcher, records

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
CONTAINER = "cloche-bench"


def contestants(root: Path, directory: Path) -> dict[str, Callable[[], float]]:
    """Return the two, ready to run on this root; ``directory`` is for what they need."""
    program = seccomp.default_program(capabilities.mask(CAPABILITIES), str(directory / "filters"))
    return {
        "launcher": _launcher(_plan(root, directory, program)),
        "minimal.c": _minimal(root, directory, program),
    }


def _plan(root: Path, directory: Path, program: bytes) -> Plan:
    spec = container(root, CONTAINER)
    spec["annotations"] = {ROOT_ANNOTATION: "overlay"}
    launch = Launch(
        CONTAINER,
        str(directory / "state" / CONTAINER),
        stdio=(STDIO_INHERIT, STDIO_INHERIT, STDIO_INHERIT),
        seccomp=program,
    )
    return compile(spec, features.detect(), launch)


def _launcher(plan: Plan) -> Callable[[], float]:
    wire_form = wire.encode(plan)
    plan_fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING)
    os.write(plan_fd, wire_form)
    fcntl.fcntl(plan_fd, fcntl.F_ADD_SEALS, SEALS)
    executable = launcher.path()

    def run() -> float:
        records_fd = os.memfd_create("records", 0)
        os.ftruncate(records_fd, records.size(len(plan.steps)))
        os.set_inheritable(records_fd, True)
        argv = [launcher.NAME, str(plan_fd), str(records_fd)]
        try:
            return _spawn(executable, argv)
        except Failed as error:
            failure = records.read(records_fd).failure
            raise Failed(f"{error}: {failure}") from error
        finally:
            os.close(records_fd)

    os.set_inheritable(plan_fd, True)
    return run


def _minimal(root: Path, directory: Path, program: bytes) -> Callable[[], float]:
    source = Path(__file__).with_name("minimal.c")
    executable = directory / "minimal"
    subprocess.run(["cc", "-O2", "-static", "-o", executable, source], check=True)
    (directory / "scratch").mkdir()
    (directory / "filter").write_bytes(program)
    arguments = [root, directory / "scratch", directory / "filter", "/bin/true"]
    argv = ["minimal", *map(str, arguments), *_cgroup_arguments(_plan(root, directory, program))]
    return lambda: _spawn(str(executable), argv)


def _cgroup_arguments(plan: Plan) -> list[str]:
    """Return the cgroups of a plan as ``minimal`` takes them, with names of their own."""
    arguments = []
    for step in plan.steps:
        match step.operation.name, step.arguments:
            case "cgroup_create", (str(path), *_):
                arguments.append(f"+{path}")
            case "cgroup_set", (str(path), str(value), _):
                arguments.append(f"{path}={value}")
    return [argument.replace(CONTAINER, f"{CONTAINER}-minimal") for argument in arguments]


def _spawn(executable: str, argv: list[str]) -> float:
    begun = time.perf_counter_ns()
    pid = os.posix_spawn(executable, argv, {})
    _, status = os.waitpid(pid, 0)
    taken = (time.perf_counter_ns() - begun) / 1e6
    if status != 0:
        raise Failed(f"{argv[0]}: exit {os.waitstatus_to_exitcode(status)}")
    return taken
