"""``kill`` and ``delete``: signals, and the end."""

from __future__ import annotations

import os
import select

from cloche.errors import (
    ClocheError,
    ContainerNotFound,
    InvalidArgument,
    Unavailable,
    WrongState,
)
from cloche.kernel import signals
from cloche.runtime import hooks
from cloche.runtime.arguments import Option
from cloche.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

OPTIONS = {
    "kill": (Option(("all", "a"), "flag", "send it to all processes of the container"),),
    "delete": (Option(("force", "f"), "flag", "kill the container first, whatever its state"),),
}
_PATIENCE_MS = 10_000


def run_kill(settings: Settings, values: Values) -> int:
    """Send a signal."""
    id, *more = values.rest
    if len(more) > 1:
        raise InvalidArgument(f"kill takes no argument {more[1]!r}")
    container = Container(settings.root, id)
    number = _signal(more[0] if more else "SIGTERM")
    if values.flag("all"):
        _signal_all(container, number)
        return 0
    container.require("kill")
    if number == signals.SIGKILL and not _has_pid_namespace(container):
        # Nothing kills the other processes when the first one dies.
        _signal_all(container, number)
        return 0
    container.signal(number)
    if number == signals.SIGKILL:
        _thaw(container)  # a frozen process of cgroup v1 doesn't take note of the signal
    return 0


def run_delete(settings: Settings, values: Values) -> int:
    """Remove what is left of a container."""
    force = values.flag("force")
    try:
        container = Container(settings.root, values.rest[0])
        if not force:
            container.lock()
            container.require("delete")
        else:
            _kill(container)  # the lock may be held by a launcher that waits for it
            container.lock()
    except ContainerNotFound:
        if force:
            return 0
        raise
    _kill(container)
    remove(container, settings)
    return 0


def _signal(text: str) -> int:
    if text.isdigit():
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name.startswith(("RTMIN+", "RTMAX-")):
        start, sign, offset = name[:5], name[5], name[6:]
        if offset.isdigit():
            base = signals.RTMIN if start == "RTMIN" else signals.RTMAX
            return base + int(offset) * (1 if sign == "+" else -1)
    number = signals.NUMBERS.get(f"SIG{name}")
    if number is None:
        raise InvalidArgument(f"unknown signal {text!r}")
    return number


def _signal_all(container: Container, number: int) -> None:
    group = container.group()
    if group is None:
        container.signal(number)
        return
    if number == signals.SIGKILL:
        group.kill()
        return
    group.signal(number)


def _has_pid_namespace(container: Container) -> bool:
    namespaces = container.spec().get("linux", {}).get("namespaces", [])
    return any(entry["type"] == "pid" and not entry.get("path") for entry in namespaces)


def _thaw(container: Container) -> None:
    group = container.group()
    if group is not None and group.is_frozen():
        group.thaw()


def _kill(container: Container) -> None:
    """Kill every process of a container, and wait for the end of the first."""
    try:
        fd = container.pidfd()
    except (WrongState, Unavailable):
        fd = -1
    try:
        if fd >= 0:
            try:
                signals.send(fd, signals.SIGKILL)
            except ProcessLookupError:
                pass
            _thaw(container)
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(_PATIENCE_MS):
                raise WrongState(
                    f"container {container.id}: its process doesn't end",
                    hint="it may be waiting for a device (state D in ps)",
                )
        _end(container, remove=False)
    finally:
        if fd >= 0:
            os.close(fd)


def _remove_shares(container: Container) -> None:
    """Remove the container's own groups of resctrl."""
    wanted = container.spec().get("linux", {}).get("intelRdt")
    if wanted is None:
        return
    from cloche.kernel.resctrl import look
    from cloche.plan.resctrl import own_groups

    for group in own_groups(wanted, look("").mount, container.id):
        try:
            os.rmdir(group)
        except FileNotFoundError:
            pass


def _has_unit(container: Container) -> bool:
    """Whether systemd has made a scope for a container."""
    try:
        return bool(container.state().get("unit"))
    except ClocheError:
        return False  # it can't be known


def _stop_unit(container: Container) -> bool:
    """Have systemd remove the scope that it has made for a container, if it has."""
    if not _has_unit(container):
        return False
    from cloche.runtime.systemd import scope

    scope.stop(container.scope())
    return True


def _end(container: Container, *, remove: bool) -> None:
    """Kill what is in a container's cgroup, and remove that if it is to be."""
    group = container.group()
    if group is None or (_never_was(container) and group.processes()):
        return
    try:
        group.kill()
        if remove and not _stop_unit(container):
            group.remove()
    except FileNotFoundError:
        pass  # the launcher of one in the foreground has removed it


def remove(container: Container, settings: Settings) -> None:
    """Remove cgroups and files; the directory goes last, so that a later command can go on."""
    _end(container, remove=True)
    try:
        _remove_shares(container)
        hooks.run(container, "poststop", "stopped", settings.log.warning)
    except ContainerNotFound:
        pass  # one that was never complete
    except ClocheError as error:
        settings.log.warning(error.message)
    try:
        for name in os.listdir(container.directory):
            _remove_file(f"{container.directory}/{name}")
        os.rmdir(container.directory)
    except FileNotFoundError:
        pass  # likewise


def _never_was(container: Container) -> bool:
    """Whether no process was made: a cgroup of its path that has processes is another's then."""
    try:
        found = container.records()
    except Unavailable:
        return False
    return found is not None and found.pid == 0 and not _has_unit(container)


def _remove_file(path: str) -> None:
    try:
        os.unlink(path)
    except IsADirectoryError:
        os.rmdir(path)  # what a mount of the container's had for its place
