"""Start a container: from a user's options to the launcher.

Everything is looked up first, then compiled into a plan; nothing is changed before the launcher
runs it, except that what dead launchers left is cleaned up and caches are filled.
"""

from __future__ import annotations

import os
import stat
import sys

from cloche.engine import container, image
from cloche.engine.heal import CGROUP_FILE, heal
from cloche.engine.options import UNCONFINED
from cloche.engine.places import Places, places
from cloche.errors import InvalidArgument
from cloche.kernel import features as host
from cloche.plan import privileges, wire
from cloche.plan.compile import compile
from cloche.plan.launch import Launch
from cloche.plan.steps import STDIO_NULL, STDIO_PIPE, STDIO_TERMINAL, Plan
from cloche.record import Record
from cloche.runtime import launcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

    from cloche.engine.options import RunOptions
    from cloche.kernel.features import Features
    from cloche.oci.spec import Spec

# -P: the current directory is the user's, and no place to import from.
_REPORT = (sys.executable, "-P", "-m", "cloche.cli.report")


class Prepared(Record):
    """A container that is ready to be started."""

    spec: Spec
    launch: Launch
    plan: Plan


def run(options: RunOptions, warn: Callable[[str], None]) -> NoReturn:
    """Become the launcher of a container, and so end with its exit code.

    ``warn`` tells the user what isn't quite as it was asked for.
    """
    here = places()
    features = host.detect()
    heal(here.state, features.cgroups)
    prepared = prepare(options, features, here, _stdio(options))
    for warning in prepared.plan.warnings:
        warn(warning)
    flags = 0
    if options.trace:
        flags |= wire.TIME_STEPS | wire.REPORT_ALWAYS
    launcher.become(prepared.plan, wire.Options(flags, _REPORT))


def plan(options: RunOptions) -> Plan:
    """Return the plan that ``run`` would carry out, without carrying it out.

    The streams that whoever explains has aren't those that the container will get.
    """
    stdin = STDIO_PIPE if options.interactive else STDIO_NULL
    stdio = (stdin, STDIO_PIPE, STDIO_PIPE)
    if options.terminal:
        stdio = (STDIO_TERMINAL, STDIO_TERMINAL, STDIO_TERMINAL)
    return prepare(options, host.detect(), places(), stdio).plan


def prepare(
    options: RunOptions, features: Features, here: Places, stdio: tuple[int, int, int]
) -> Prepared:
    """Look up what the options name, and compile.

    Raises InvalidArgument, NotFound, Unsupported and their like before anything is changed.
    """
    root = image.find(options, here.data)
    if privileges.LANDLOCK_ANNOTATION in dict(options.annotations):
        from cloche.kernel import landlock

        features = features._replace(landlock_abi=landlock.abi())
    identifier = os.urandom(32).hex()
    launch = Launch(
        id=identifier,
        directory=f"{here.state}/containers/{identifier}",
        names=f"{here.state}/names",
        name=options.name,
        stdio=stdio,
        timeout_ms=options.timeout_ms,
    )
    spec = container.spec(
        options,
        root,
        features,
        identifier,
        launch.directory,
        terminal_size=_terminal_size(options),
    )
    launch = launch._replace(
        files=(
            (CGROUP_FILE, spec["linux"].get("cgroupsPath", "").encode()),
            *container.files(options, identifier),
        ),
    )
    launch = _with_filter(launch, options, spec, here.data)
    return Prepared(spec, launch, compile(spec, features, launch))


def _with_filter(launch: Launch, options: RunOptions, spec: Spec, data: str) -> Launch:
    profile = container.seccomp_profile(options)
    if profile == UNCONFINED:
        return launch
    from cloche.kernel import capabilities, seccomp

    granted = capabilities.mask(spec["process"]["capabilities"].get("bounding", []))
    cache = f"{data}/seccomp"
    if profile is None:
        return launch._replace(
            seccomp=seccomp.default_program(granted, cache),
            seccomp_flags=seccomp.filter_flags({}),
        )
    rules: Any = seccomp.load_profile(profile, granted)
    if seccomp.has_listener(rules):
        spec["linux"]["seccomp"] = rules  # the plan needs to know where the listener is
    return launch._replace(
        seccomp=seccomp.program(rules, cache, source=profile),
        seccomp_flags=seccomp.filter_flags(rules),
    )


def _stdio(options: RunOptions) -> tuple[int, int, int]:
    """Choose the streams: none of the caller's is handed in, the launcher copies by pipes.

    A process can open what it holds anew through /proc/self/fd, for another purpose: write to the
    file that is its input, read the log that its output is appended to, type into a terminal.
    And flags such as O_NONBLOCK belong to all who share a stream.
    """
    if options.terminal:
        if options.interactive and not os.isatty(0):
            raise InvalidArgument(
                "-t wants a terminal and standard input isn't one",
                hint="leave out -t when input comes from a pipe or file",
            )
        typed = STDIO_TERMINAL if options.interactive else STDIO_NULL
        return (typed, STDIO_TERMINAL, STDIO_TERMINAL)
    stdin = _stream(0) if options.interactive else STDIO_NULL
    return (stdin, _stream(1), _stream(2))


def _stream(fd: int) -> int:
    try:
        status = os.fstat(fd)
    except OSError:  # closed by the caller
        return STDIO_NULL
    is_null = stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)
    return STDIO_NULL if is_null else STDIO_PIPE


def _terminal_size(options: RunOptions) -> tuple[int, int]:
    if not options.terminal:
        return (0, 0)
    for fd in (0, 1, 2):
        try:
            return os.get_terminal_size(fd)
        except OSError:
            continue
    return (0, 0)
