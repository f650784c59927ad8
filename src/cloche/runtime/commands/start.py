"""``start``: open the gate of a created container."""

from __future__ import annotations

import errno
import os
import select

from cloche.errors import ClocheError, WrongState
from cloche.runtime import hooks, records
from cloche.runtime.container import Container, require_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.runtime.arguments import Option, Values
    from cloche.runtime.main import Settings

OPTIONS: dict[str, tuple[Option, ...]] = {"start": ()}


def run_start(settings: Settings, values: Values) -> int:
    """Have the container's process become its program, and wait until it has."""
    container = Container(settings.root, values.rest[0])
    container.lock()
    container.require("start")
    require_program(container.spec())
    _open_gate(container)
    found = container.records()
    if found is None or found.progress != records.STARTED:
        raise _failure(container, found)
    try:
        hooks.run(container, "poststart", "running")
    except ClocheError:
        try:
            container.signal(9)
        except WrongState:
            pass  # its program has ended by itself
        raise
    return 0


def _open_gate(container: Container) -> None:
    """Open the gate, and wait until the process behind it has become the program, or has died.

    Raises WrongState when nobody waits behind it any more.
    """
    gate = f"{container.directory}/gate"
    try:
        fd = os.open(gate, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise WrongState(f"cannot start container {container.id}: it is stopped") from error
    try:
        os.write(fd, b"\n")
        # The other end closes when its process execs or dies: then poll(2) says POLLERR.
        poll = select.poll()
        poll.register(fd, 0)
        poll.poll()
    finally:
        os.close(fd)


def _failure(container: Container, found: records.Records | None) -> ClocheError:
    if found is None or found.failure is None:
        return WrongState(f"container {container.id} died before its program ran")
    from cloche.plan import wire
    from cloche.runtime import failure

    with open(f"{container.directory}/plan", "rb") as file:
        plan, _ = wire.decode(file.read())
    return failure.error(plan, found.failure)
