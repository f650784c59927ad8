"""Hand a container, or one more process of one, to the launcher."""

from __future__ import annotations

import os
import sys

from cloche.errors import InvalidArgument
from cloche.plan import wire
from cloche.plan.launch import Launch
from cloche.plan.steps import STDIO_INHERIT, STDIO_TERMINAL, Plan
from cloche.runtime import launcher

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from cloche.oci.spec import Process, Spec
    from cloche.runtime.main import Settings

_INHERITED = (STDIO_INHERIT, STDIO_INHERIT, STDIO_INHERIT)
_TERMINAL = (STDIO_TERMINAL, STDIO_TERMINAL, STDIO_TERMINAL)


def become(plan: Plan, settings: Settings, failed: int) -> NoReturn:
    """Become the launcher; ``failed`` is the exit code of what fails before the program runs."""
    for warning in plan.warnings:
        settings.log.warning(warning)
    # -P: the current directory is the caller's, and no place to import from.
    report = (
        sys.executable,
        "-P",
        "-m",
        "cloche.runtime.report",
        settings.log.path,
        settings.log.format,
        str(failed),
    )
    launcher.become(plan, wire.Options(wire.TIME_STEPS if settings.debug else 0, report))


def streams(process: Process, console_socket: str, detached: bool) -> tuple[int, int, int]:
    """Choose the standard streams.

    Raises InvalidArgument when nobody would hold the terminal.
    """
    terminal = process.get("terminal", False)
    if detached and terminal and not console_socket:
        raise InvalidArgument(
            "cannot allocate tty if the runtime will detach without setting console socket",
            hint="give --console-socket, or process.terminal false",
        )
    if console_socket and not (detached and terminal):
        raise InvalidArgument(
            "cannot use console socket if the runtime will not detach or allocate tty"
        )
    return _TERMINAL if terminal else _INHERITED


def inherited(process: Process, preserve_fds: int) -> int:
    """Return how many file descriptors after the standard streams the program gets.

    Those of socket activation come first (sd_listen_fds(3)), then as many as were asked for.
    Raises InvalidArgument when one of them isn't open.
    """
    activation = 0
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        text = os.environ.get("LISTEN_FDS", "0")
        if not (text.isascii() and text.isdigit()):
            raise InvalidArgument(f"LISTEN_FDS is {text!r} but must be a number")
        activation = int(text)
        env = process.setdefault("env", [])
        env += [f"LISTEN_FDS={activation}", "LISTEN_PID=1"]
    for fd in range(3, 3 + activation + preserve_fds):
        try:
            os.set_inheritable(fd, True)
        except OSError as error:
            raise InvalidArgument(
                f"unable to stat preserved-fd {fd - 3}: file descriptor {fd} isn't open"
            ) from error
    return activation + preserve_fds


def with_resctrl(launch: Launch, spec: Spec) -> Launch:
    """Return a launch that knows what there is of resctrl, where the spec asks for it."""
    wanted = spec.get("linux", {}).get("intelRdt")
    if wanted is None:
        return launch
    from cloche.kernel import resctrl

    return launch._replace(resctrl=resctrl.look(wanted.get("closID", "")))


def with_filter(launch: Launch, spec: Spec, settings: Settings) -> Launch:
    """Return a launch with the spec's system call filter, compiled or from the cache."""
    rules = spec.get("linux", {}).get("seccomp")
    if not rules:
        return launch
    from cloche.kernel import seccomp

    return launch._replace(
        seccomp=seccomp.program(rules, settings.cache),
        seccomp_flags=seccomp.filter_flags(rules),
    )
