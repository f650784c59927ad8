"""A transient scope for a container.

systemd makes a scope around processes that are there already, and it goes with the last of them;
but a container's process shall be born in its cgroup.  So a placeholder, a child that does
nothing, holds the scope until the container's process is in it; the launcher then ends the
placeholder, which is its child as it was the caller's.

A user's processes can't be born in a group from outside: the kernel wants write access to
``cgroup.procs`` of the nearest group above both, and a session's isn't the user's (cgroups(7),
"Delegation containment").  So there the caller holds the scope itself, and the launcher that it
becomes stays in it for as long as it runs: until the container is created, or to its end in the
foreground.
"""

from __future__ import annotations

import os

from cloche.errors import AlreadyExists, MissingDependency, Unavailable, Unsupported
from cloche.record import Record
from cloche.runtime.systemd.bus import Bus, CallError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.runtime.systemd.properties import Property

_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_MANAGER = "org.freedesktop.systemd1.Manager"
_SYSTEM_BUS = "/run/dbus/system_bus_socket"


class Scope(Record):
    """A container's scope."""

    unit: str
    user: bool
    """Whether the user's own systemd has it, not the system's."""
    placeholder: int = 0
    """The pid of the child that holds it for now; 0 if the caller does."""


def start(unit: str, parent: str, description: str, limits: list[Property], *, user: bool) -> Scope:
    """Have systemd make a scope, with a placeholder or, for a user, the caller in it.

    Raises MissingDependency where there is no systemd to ask, AlreadyExists when the unit is
    there, Unavailable when systemd refuses or doesn't come to an end.
    """
    described = [("Description", ("s", description)), *limits]
    with _connect(user=user) as bus:
        if user:
            _start(bus, unit, parent, described, os.getpid())
            return Scope(unit, user)
        pid = _placeholder()
        try:
            _start(bus, unit, parent, described, pid)
        except BaseException:
            end(pid)
            raise
    return Scope(unit, user, pid)


def end(placeholder: int) -> None:
    """End a placeholder; systemd removes the scope with it unless another process is in it."""
    import signal

    if not placeholder:
        return
    os.kill(placeholder, signal.SIGKILL)
    os.waitpid(placeholder, 0)


def update(scope: Scope, limits: list[Property]) -> None:
    """Tell systemd of new limits, until the unit is gone.

    Raises Unavailable when it refuses them.
    """
    if not limits:
        return
    with _connect(user=scope.user) as bus:
        try:
            _manage(bus, "SetUnitProperties", "sba(sv)", scope.unit, True, limits)
        except CallError as error:
            raise Unavailable(f"systemd: {scope.unit}: {error.message}") from error


def stop(scope: Scope) -> None:
    """Have systemd remove a scope whose processes are gone.

    Raises Unavailable when it can't.
    """
    with _connect(user=scope.user) as bus:
        _subscribe(bus)
        try:
            _wait(bus, _manage(bus, "StopUnit", "ss", scope.unit, "replace")[0])
        except CallError as error:
            if not error.name.endswith(".NoSuchUnit"):  # it went with the last process
                raise Unavailable(f"systemd: {scope.unit}: {error.message}") from error


def _connect(*, user: bool) -> Bus:
    path = _SYSTEM_BUS
    if user:
        address = os.environ.get("DBUS_SESSION_BUS_ADDRESS", "")
        path = address.removeprefix("unix:path=").partition(",")[0]
        if not address.startswith("unix:path="):
            path = f"{os.environ.get('XDG_RUNTIME_DIR', f'/run/user/{os.geteuid()}')}/bus"
    if not os.path.isdir("/run/systemd/system"):
        raise MissingDependency(
            "--systemd-cgroup: systemd isn't running here (there is no /run/systemd/system)",
            hint="leave --systemd-cgroup out, and configure the engine for cgroupfs",
        )
    try:
        return Bus(path)
    except OSError as error:
        raise MissingDependency(
            f"--systemd-cgroup: {path}: {(error.strerror or '').lower()}",
            hint="install dbus-user-session and log in anew" if user else "start dbus",
        ) from error


def _placeholder() -> int:
    """Return the pid of a child that waits to be killed, at the latest with this process."""
    import ctypes
    import signal

    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        os.closerange(0, 1 << 16)  # a stream of the container's that it held wouldn't end
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        while os.getppid() == parent:
            signal.pause()
    finally:
        os._exit(0)


def _start(bus: Bus, unit: str, parent: str, properties: list[Property], pid: int) -> None:
    _subscribe(bus)
    accounting = [(f"{name}Accounting", ("b", True)) for name in ("Memory", "CPU", "IO", "Tasks")]
    all_properties = [
        ("Slice", ("s", parent)),
        ("PIDs", ("au", [pid])),
        # The groups in it are the container's own business.
        ("Delegate", ("b", True)),
        ("DefaultDependencies", ("b", False)),
        # Or else one that failed, say for lack of memory, would keep its name.
        ("CollectMode", ("s", "inactive-or-failed")),
        *accounting,
        *properties,
    ]
    try:
        answer = _manage(
            bus, "StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail", all_properties, []
        )
    except CallError as error:
        if error.name.endswith(".UnitExists"):
            raise AlreadyExists(
                f"systemd has a unit {unit} already",
                hint=f"another container has this cgroupsPath; or: systemctl reset-failed {unit}",
            ) from error
        raise Unavailable(f"systemd: {unit}: {error.message}") from error
    result = _wait(bus, answer[0])
    if result != "done":
        raise Unavailable(f"systemd can't make the scope {unit}: {result}")


def _subscribe(bus: Bus) -> None:
    """Ask to be told of the end of jobs."""
    match = f"type='signal',sender='{_NAME}',interface='{_MANAGER}',member='JobRemoved'"
    daemon = "org.freedesktop.DBus"
    bus.call(daemon, "/org/freedesktop/DBus", daemon, "AddMatch", "s", match)
    _manage(bus, "Subscribe")


def _wait(bus: Bus, job: str) -> str:
    """Wait for the end of a job, and return its result."""
    while True:
        _, ended, _, result = bus.signal("JobRemoved")
        if ended == job:
            return str(result)


def _manage(bus: Bus, member: str, signature: str = "", *values: Any) -> list[Any]:
    return bus.call(_NAME, _PATH, _MANAGER, member, signature, *values)


def require_unified(version: str) -> None:
    """Raise Unsupported on a machine whose systemd keeps its scopes in a hierarchy of v1."""
    if version == "v1":
        raise Unsupported(
            "--systemd-cgroup: systemd on pure cgroup v1 isn't supported",
            hint="boot with systemd.unified_cgroup_hierarchy=1, or leave --systemd-cgroup out",
        )
