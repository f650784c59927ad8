"""The resources of a spec as properties of a systemd unit.

systemd writes its properties into the cgroup again whenever it likes (``daemon-reload``): what it
doesn't know would be lost, so it is told the same limits that the plan writes.

Source: systemd.resource-control(5), org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.plan import resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.oci.spec import Cpu, Memory, Resources

    Property = tuple[str, tuple[str, Any]]

INFINITY = (1 << 64) - 1
_PERIOD = 100_000
_SECOND = 1_000_000
_PERCENT = 10_000
"""Microseconds of CPU time a second: systemd keeps whole per cents."""


def properties(wanted: Resources) -> list[Property]:
    """Return what systemd keeps of the resources; it knows nothing of the others."""
    found = _memory(wanted.get("memory", {})) + _cpu(wanted.get("cpu", {}))
    if "pids" in wanted:
        limit = wanted["pids"]["limit"]
        found.append(("TasksMax", ("t", INFINITY if limit < 0 else max(limit, 1))))
    return found


def _memory(wanted: Memory) -> list[Property]:
    found: list[Property] = []
    limit, swap = wanted.get("limit", 0), wanted.get("swap", 0)
    if limit:
        found.append(("MemoryMax", ("t", _size(limit))))
    if wanted.get("reservation"):
        found.append(("MemoryLow", ("t", _size(wanted["reservation"]))))
    if swap:
        found.append(("MemorySwapMax", ("t", INFINITY if swap < 0 else max(swap - limit, 0))))
    return found


def _size(size: int) -> int:
    return INFINITY if size < 0 else size


def _cpu(wanted: Cpu) -> list[Property]:
    found: list[Property] = []
    quota, period = wanted.get("quota", 0), wanted.get("period", 0)
    if period:
        found.append(("CPUQuotaPeriodUSec", ("t", period)))
    if quota > 0:
        time = quota * _SECOND // (period or _PERIOD)
        found.append(("CPUQuotaPerSecUSec", ("t", -(-time // _PERCENT) * _PERCENT)))
    elif quota:
        found.append(("CPUQuotaPerSecUSec", ("t", INFINITY)))
    if wanted.get("idle"):
        found.append(("CPUWeight", ("t", 0)))
    elif wanted.get("shares"):
        found.append(("CPUWeight", ("t", resources.cpu_weight(wanted["shares"]))))
    for name, members in (("AllowedCPUs", "cpus"), ("AllowedMemoryNodes", "mems")):
        text = str(wanted.get(members, ""))
        if text:
            found.append((name, ("ay", _mask(text, members))))
    return found


def _mask(text: str, name: str) -> bytes:
    """Return a list of numbers as bits, the lowest first."""
    bits = sum(1 << number for number in resources.numbers(text, f"/linux/resources/cpu/{name}"))
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")


def unit(path: str, id: str, *, rootless: bool) -> tuple[str, str]:
    """Return slice and name of the scope that a ``cgroupsPath`` stands for.

    Its form is ``slice:prefix:name``.  Raises InvalidSpec for any other.
    """
    parts = path.split(":") if path else ["", "cloche", id]
    if len(parts) != 3 or not parts[2] or "/" in path:
        raise InvalidSpec(
            "/linux/cgroupsPath", f"is {path!r} but must be slice:prefix:name with systemd"
        )
    parent, prefix, name = parts
    if name.endswith(".slice"):
        raise InvalidSpec("/linux/cgroupsPath", f"is {path!r} but must not name a slice")
    scope = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return parent or ("user.slice" if rootless else "system.slice"), scope
