"""``update``: new limits for a running container."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

from cloche.errors import (
    ControllerUnavailable,
    InvalidArgument,
    InvalidSpec,
    NotFound,
    Unavailable,
    Unsupported,
    WrongState,
)
from cloche.runtime.arguments import Option
from cloche.runtime.container import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.kernel.cgroup.group import Group
    from cloche.oci.spec import Resources
    from cloche.plan.limits import Write
    from cloche.plan.update import Changes
    from cloche.runtime.arguments import Values
    from cloche.runtime.main import Settings

OPTIONS = {
    "update": (
        Option(("resources", "r"), "text", "file with the new resources as JSON, - for stdin"),
        Option(("blkio-weight",), "number", "weight of block I/O, 10 to 1000"),
        Option(("cpu-period",), "number", "period of the CPU quota, microseconds"),
        Option(("cpu-quota",), "number", "CPU time in a period, microseconds; -1 for no limit"),
        Option(("cpu-burst",), "number", "CPU time saved up at most, microseconds"),
        Option(("cpu-share", "cpu-shares"), "number", "weight of CPU time, 2 to 262144"),
        Option(("cpu-rt-period",), "number", "period of the realtime budget, microseconds"),
        Option(("cpu-rt-runtime",), "number", "realtime CPU time in a period, microseconds"),
        Option(("cpu-idle",), "number", "1 for the CPU time that nobody else wants, 0 for a share"),
        Option(("cpuset-cpus",), "text", "CPUs to use, such as 0-2,7"),
        Option(("cpuset-mems",), "text", "memory nodes to use"),
        Option(("memory",), "text", "memory, such as 512m; -1 for no limit"),
        Option(("memory-reservation",), "text", "memory that is reclaimed last"),
        Option(("memory-swap",), "text", "memory and swap together; -1 for no limit"),
        Option(("kernel-memory",), "text", "has no effect: memory counts the kernel's too"),
        Option(("kernel-memory-tcp",), "text", "has no effect"),
        Option(("pids-limit",), "number", "number of tasks; -1 for no limit"),
        Option(("l3-cache-schema",), "text", "cache allocation of Intel RDT"),
        Option(("mem-bw-schema",), "text", "memory bandwidth of Intel RDT"),
    )
}

_FIELDS = (
    # option, part of the resources, its field
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
    ("cpuset-cpus", "cpu", "cpus"),
    ("cpuset-mems", "cpu", "mems"),
    ("memory", "memory", "limit"),
    ("memory-reservation", "memory", "reservation"),
    ("memory-swap", "memory", "swap"),
    ("blkio-weight", "blockIO", "weight"),
    ("pids-limit", "pids", "limit"),
)
_SIZES = ("memory", "memory-reservation", "memory-swap")
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_LIMIT = 4 << 20
"""Bytes: more is no document of resources."""


def run_update(settings: Settings, values: Values) -> int:
    """Change the limits of the container's cgroups."""
    container = Container(settings.root, values.rest[0])
    container.lock()
    container.require("update")
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if values.text(name):
            raise Unsupported(f"--{name}: Intel RDT isn't supported", hint="leave it out")
    wanted = _wanted(values)
    if wanted.get("devices") == container.spec().get("linux", {}).get("resources", {}).get(
        "devices"
    ):
        # Engines send the whole of the resources; the devices may be somebody else's by now.
        wanted.pop("devices", None)
    group = container.group()
    if group is None:
        raise WrongState(f"container {container.id} has no cgroup, so it can't be limited")
    changes = _changes(group, wanted)
    if container.state().get("unit"):
        from cloche.runtime.systemd import properties, scope

        # First, since systemd writes these limits itself, in its own order.
        scope.update(container.scope(), properties.properties(changes.resources))
    _apply(changes)
    return 0


def _changes(group: Group, wanted: Resources) -> Changes:
    from cloche.kernel import features as host
    from cloche.kernel.cgroup.present import present
    from cloche.plan import update

    features = host.detect()
    try:
        return update.changes(
            features.cgroups,
            group.directories,
            wanted,
            present(group),
            page_size=features.page_size,
        )
    except InvalidSpec as error:
        raise _invalid(error) from error


def _apply(changes: Changes) -> None:
    """Write all limits, or none: what has been written before a failure is taken back."""
    from cloche.kernel.cgroup import files

    written: list[tuple[str, str]] = []
    try:
        for write in changes.writes:
            _write(write, written)
        if changes.program:
            from cloche.kernel import device_filter

            device_filter.replace(changes.group, changes.program)
    except BaseException:
        for path, value in reversed(written):
            with contextlib.suppress(OSError):
                files.write(path, value)
        raise


def _write(write: Write, written: list[tuple[str, str]]) -> None:
    """Write one limit, and add what the file held where writing that takes it back."""
    from cloche.kernel.cgroup import files

    try:
        before = files.read(write.path) if write.expect else ""
        files.write(write.path, write.value)
        if not write.expect:
            return
        written.append((write.path, before))
        found = files.read(write.path)
    except FileNotFoundError as error:
        raise ControllerUnavailable(
            write.controller,
            f"{write.path} isn't there",
            hint="the group above the container's doesn't pass the controller on",
        ) from error
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise Unavailable(f"{write.path}: can't be set to {write.value}: {reason}") from error
    # The line of memory.oom_control that was written comes first; others count events.
    if found.partition("\n")[0] != write.expect.partition("\n")[0]:
        raise Unavailable(
            f"{write.path}: the kernel keeps {found}, not {write.expect}",
            hint="choose a value that it can keep",
        )


def _wanted(values: Values) -> Resources:
    source = values.text("resources")
    if source:
        return _document(source)
    document: dict[str, dict[str, Any]] = {}
    for option, part, field in _FIELDS:
        if option not in values.given:
            continue
        text = values.text(option)
        value: int | str = text
        if option in _SIZES:
            value = _size(option, text)
        elif field not in ("cpus", "mems"):
            value = values.number(option)
        document.setdefault(part, {})[field] = value
    return _checked(document)


def _document(source: str) -> Resources:
    from cloche import json

    try:
        if source == "-":
            data = sys.stdin.buffer.read(_LIMIT + 1)
        else:
            with open(os.path.abspath(source), "rb") as file:
                data = file.read(_LIMIT + 1)
        if len(data) > _LIMIT:
            raise InvalidArgument(f"{source}: has more than {_LIMIT} bytes")
        return _checked(json.loads(data))
    except FileNotFoundError as error:
        raise NotFound(f"{source}: no such file or directory") from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"{source}: isn't JSON: {error}") from error


def _checked(document: object) -> Resources:
    from cloche.oci import fields, schema

    try:
        resources: Resources = schema.convert(document, fields.Resources)
        return resources
    except InvalidSpec as error:
        raise _invalid(error) from error


def _invalid(error: InvalidSpec) -> InvalidArgument:
    pointer = error.pointer.removeprefix("/linux/resources")
    return InvalidArgument(f"resources: {pointer or '/'}: {error.problem}", hint=error.hint)


def _size(option: str, text: str) -> int:
    """Return a number of bytes, given with a unit or none: ``512m``, ``1.5GiB``, ``-1``."""
    if text == "-1":
        return -1
    number = text.lower().removesuffix("ib")
    number = number if number[-1:].isdigit() else number.removesuffix("b") or number
    unit = "" if number[-1:].isdigit() else number[-1:]
    digits = number.removesuffix(unit).strip()
    plain = digits.replace(".", "", 1)
    if unit not in _UNITS or not (plain.isascii() and plain.isdigit() and len(plain) < 20):
        raise InvalidArgument(f"--{option}: {text!r} isn't a size such as 512m")
    return (
        int(float(digits) * (1 << _UNITS[unit])) if "." in digits else int(digits) << _UNITS[unit]
    )
