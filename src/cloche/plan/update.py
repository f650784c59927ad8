"""New limits for a running container: what is written, in an order that the kernel takes.

What isn't asked for stays as it is.  A limit that only makes sense with another (a quota and its
period, memory and the sum with swap) is completed with what the group has.
"""

from __future__ import annotations

from cloche.errors import ControllerUnavailable, Unavailable
from cloche.plan import device_access, limits, limits_v1
from cloche.plan.controllers import require_device_rules
from cloche.plan.limits import Write
from cloche.plan.resources import Request
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloche.kernel.cgroup.layout import Hierarchy, Layout
    from cloche.kernel.cgroup.present import Present
    from cloche.oci.spec import Cpu, Memory, Resources


class Changes(Record):
    """New limits as kernel operations."""

    writes: tuple[Write, ...]
    resources: Resources
    """What was asked for, completed with what the group has."""
    program: bytes = b""
    """The eBPF program that takes the former one's place; empty if devices stay as they are."""
    group: str = ""
    """The v2 group that the program is for."""


def changes(
    layout: Layout,
    groups: Sequence[str],
    wanted: Resources,
    present: Present,
    *,
    page_size: int,
) -> Changes:
    """Return how a container gets new limits.

    ``groups`` are the directories of its groups, ``wanted`` the new limits alone, ``page_size``
    the machine's in bytes.  Raises InvalidSpec for what makes no sense with the present limits,
    ControllerUnavailable and Unsupported for what can't be had, Unavailable where the memory in
    use is in the way.
    """
    memory = layout.find("memory")
    completed = wanted.copy()
    if "memory" in wanted:
        v1 = memory is not None and memory.version == 1
        completed["memory"] = _memory(wanted["memory"], present, v1=v1)
    if "cpu" in wanted:
        completed["cpu"] = _cpu(wanted["cpu"], present)
    request = Request(completed, layout, page_size, present)
    writes = [
        Write(controller, _group(layout, groups, controller), *setting)
        for controller, setting in limits.settings(request)
    ]
    if not wanted.get("devices"):
        return Changes(tuple(writes), completed)
    require_device_rules(layout)
    access = device_access.access(wanted["devices"], complete=True)
    if layout.find("devices") is not None:
        group = _group(layout, groups, "devices")
        values = limits_v1.devices(access, present.devices)
        writes += [Write("devices", group, *setting) for setting in values]
        return Changes(tuple(writes), completed)
    from cloche.kernel import device_program

    group = _group(layout, groups, "cgroup")
    return Changes(tuple(writes), completed, device_program.program(access), group)


def _memory(wanted: Memory, present: Present, *, v1: bool) -> Memory:
    limit, swap = wanted.get("limit", 0), wanted.get("swap", 0)
    if wanted.get("checkBeforeUpdate"):
        for name, size in (("limit", limit), ("swap", swap)):
            if 0 < size <= present.usage:
                raise Unavailable(
                    f"memory.{name} of {size} bytes: {present.usage} are in use",
                    hint="choose a higher limit, or leave checkBeforeUpdate out",
                )
    result = wanted.copy()
    if swap > 0 and not limit and present.memory is not None:
        result["limit"] = present.memory
    elif limit > 0 and not swap and present.swap is not None:
        result["swap"] = present.swap
    elif limit < 0 and not swap and v1:
        # Memory must not have more than memory and swap together.
        result["swap"] = -1
    return result


def _cpu(wanted: Cpu, present: Present) -> Cpu:
    result = wanted.copy()
    dependent = wanted.get("period") or wanted.get("burst")
    if not wanted.get("quota") and present.quota is not None and dependent:
        result["quota"] = present.quota
    if result.get("quota") and not wanted.get("period"):
        result["period"] = present.period
    return result


def _group(layout: Layout, groups: Sequence[str], controller: str) -> str:
    hierarchy: Hierarchy | None = layout.unified
    if controller != "cgroup":
        hierarchy = layout.find(controller)
    if hierarchy is not None:
        for group in groups:
            if group.startswith(f"{hierarchy.mount}/"):
                return group
    raise ControllerUnavailable(
        controller,
        "the container has no group of it",
        hint="a limit can be changed only where the container was made with the controller",
    )
