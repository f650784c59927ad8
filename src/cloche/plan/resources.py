"""The ``resources`` of a spec: checked, and with its values as the kernel will show them.

The OCI runtime specification speaks of limits in the terms of cgroup v1.  What is common to v1
and v2 is here; what goes into which file is in ``limits_v1`` and ``limits_v2``.

Limits are checked before anything is done where the kernel would change a value without a
word, or refuse it with an errno that explains nothing.
"""

from __future__ import annotations

from cloche.errors import ControllerUnavailable, InvalidSpec, Unsupported
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.cgroup.layout import Layout
    from cloche.kernel.cgroup.present import Present
    from cloche.oci.spec import BlockIo, Cpu, Memory, Resources, ThrottleDevice

POINTER = "/linux/resources"
UNLIMITED = 2**63 - 1
_MOST_NUMBERS = 1 << 16
_UNITS = {"KB": 10, "MB": 20, "GB": 30}


class Request(Record):
    """What is asked for, and of which machine."""

    resources: Resources
    layout: Layout
    page_size: int
    """Bytes; limits of memory are whole pages."""
    present: Present | None = None
    """None for a group that is new, so that every file holds its default."""

    def whole_pages(self, size: int) -> int:
        """Return what the kernel makes of a number of bytes: whole pages, rounded down."""
        return size // self.page_size * self.page_size


class Setting(Record):
    """A value for one file of a cgroup."""

    file: str
    value: str
    expect: str = ""
    """What the file then holds, white space at the ends aside; empty if that can't be
    foretold or the file can't be read."""


def within(value: int, least: int, greatest: int, pointer: str) -> None:
    """Raise InvalidSpec unless a value is in a range, both ends included."""
    if not least <= value <= greatest:
        raise InvalidSpec(pointer, f"is {value} but must be {least} to {greatest}")


# --- memory ------------------------------------------------------------------------------------


def check_memory(request: Request) -> Memory:
    """Return the limits of memory, unless they contradict themselves or can't be had."""
    wanted = request.resources.get("memory", {})
    limit, swap = wanted.get("limit", 0), wanted.get("swap", 0)
    sizes = {
        "limit": limit,
        "reservation": wanted.get("reservation", 0),
        "swap": swap,
        "kernel": wanted.get("kernel", 0),
        "kernelTCP": wanted.get("kernelTCP", 0),
    }
    for name, size in sizes.items():
        within(size, -1, UNLIMITED, f"{POINTER}/memory/{name}")
    if swap > 0 and limit <= 0:
        raise InvalidSpec(
            f"{POINTER}/memory/swap",
            f"is {swap} but must not be there without a limit of memory",
            hint="swap is the sum of memory and swap, so memory has to be limited as well",
        )
    if 0 < swap < limit:
        raise InvalidSpec(
            f"{POINTER}/memory/swap",
            f"is {swap} but must be no less than the limit of memory, {limit}",
            hint="swap is the sum of memory and swap; the same value for both means no swap",
        )
    if swap > 0 and not request.layout.swap:
        raise ControllerUnavailable(
            "memory",
            "swap isn't accounted (the limit's file isn't there)",
            pointer=f"{POINTER}/memory/swap",
            hint="boot with swapaccount=1, or leave the limit of swap out",
        )
    if sizes["kernel"] > 0 and not 0 < limit <= sizes["kernel"]:
        # Linux 5.16 and later take the value and ignore it; what the limit of all memory implies
        # holds nevertheless.
        raise Unsupported(
            "a limit of kernel memory alone can't be had",
            pointer=f"{POINTER}/memory/kernel",
            hint="leave memory.kernel out: memory.limit counts kernel memory too",
        )
    if wanted.get("useHierarchy") is False:
        raise Unsupported(
            "memory is always accounted hierarchically (since Linux 5.11)",
            pointer=f"{POINTER}/memory/useHierarchy",
            hint="leave memory.useHierarchy out",
        )
    return wanted


def huge_pages(request: Request, suffix: str) -> list[Setting]:
    """Limit the reservation of huge pages and their use.

    Beyond the first mmap fails, beyond the second a process gets SIGBUS; the kernel has had
    both since Linux 5.7.
    """
    settings = []
    for index, wanted in enumerate(request.resources.get("hugepageLimits", [])):
        name, limit = wanted["pageSize"], wanted["limit"]
        digits, unit = name[:-2], name[-2:]
        if unit not in _UNITS or not _is_number(digits) or int(digits) == 0:
            raise InvalidSpec(
                f"{POINTER}/hugepageLimits/{index}/pageSize",
                f"is {name!r} but must be a size like 64KB, 2MB or 1GB",
            )
        size = int(digits) << _UNITS[unit]
        for kind in ("rsvd.", ""):
            file = f"hugetlb.{name}.{kind}{suffix}"
            most = UNLIMITED // size * size
            shown = str(limit // size * size)
            if limit >= most:  # all that the kernel's page counter can hold is no limit
                shown = "max" if suffix == "max" else str(most)
            settings.append(Setting(file, str(min(limit, UNLIMITED)), shown))
    return settings


# --- cpu ---------------------------------------------------------------------------------------


def check_cpu(request: Request) -> Cpu:
    """Return the limits of CPU time, unless the kernel would refuse or change them."""
    wanted = request.resources.get("cpu", {})
    pointer = f"{POINTER}/cpu"
    quota, burst = wanted.get("quota", 0), wanted.get("burst", 0)
    if wanted.get("shares"):
        within(wanted["shares"], 2, 262144, f"{pointer}/shares")
    if wanted.get("period"):
        within(wanted["period"], 1000, 1_000_000, f"{pointer}/period")
    if quota not in (0, -1):
        within(quota, 1000, UNLIMITED, f"{pointer}/quota")
    if burst and quota <= 0:
        raise InvalidSpec(
            f"{pointer}/burst", f"is {burst} but must not be there without a quota to save from"
        )
    if burst:
        within(burst, 0, quota, f"{pointer}/burst")
    within(wanted.get("idle", 0), 0, 1, f"{pointer}/idle")
    return wanted


def with_burst(request: Request, settings: list[Setting], file: str) -> list[Setting]:
    """Add the burst to the settings of a quota, which it must never exceed."""
    wanted, present = request.resources.get("cpu", {}), request.present
    burst = wanted.get("burst", 0)
    if not burst and not (present and "burst" in wanted):
        return settings
    setting = Setting(file, str(burst), str(burst))
    if present and burst <= present.burst:
        return [setting, *settings]
    return [*settings, setting]


def with_idle(request: Request, weights: list[Setting]) -> list[Setting]:
    """Add whether a group is idle to the settings of its weight, which no idle group has."""
    wanted = request.resources.get("cpu", {})
    if wanted.get("idle"):
        return [*weights, Setting("cpu.idle", "1", "1")]
    if request.present and "idle" in wanted:
        return [Setting("cpu.idle", "0", "0"), *weights]
    return weights


def cpu_weight(shares: int) -> int:
    """Convert ``cpu.shares`` of v1, 2 to 262144, to ``cpu.weight`` of v2, 1 to 10000.

    A quadratic in the logarithm that maps both minima, both maxima and both defaults (1024 and
    100) onto each other; the linear formula of old made 39 of the default.  Source:
    https://github.com/opencontainers/cgroups, ``ConvertCPUSharesToCgroupV2Value``; crun has
    the same.
    """
    import math  # an extension module, and only v2 with shares needs it

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    logarithm = math.log2(shares)
    return math.ceil(10 ** ((logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34))


def cpus_and_mems(request: Request) -> dict[str, str]:
    """Return which of the lists ``cpus`` and ``mems`` are asked for, as the kernel shows them.

    Raises InvalidSpec for one that can't be had: v1 refuses it with ERANGE, v2 silently leaves
    out what the parent hasn't.
    """
    wanted, layout = request.resources.get("cpu", {}), request.layout
    lists = (
        ("cpus", wanted.get("cpus", ""), layout.cpus, "CPU"),
        ("mems", wanted.get("mems", ""), layout.mems, "memory node"),
    )
    chosen = {}
    for name, text, there, what in lists:
        if not text:
            continue
        pointer = f"{POINTER}/cpu/{name}"
        members = numbers(text, pointer)
        missing = members - numbers(there, pointer) if there else set()
        if missing:
            raise InvalidSpec(
                pointer,
                f"has {what} {number_list(missing)} but must be of {there}",
                hint="the choice is limited by the machine and by the caller's own cgroup",
            )
        chosen[name] = number_list(members)
    return chosen


def numbers(text: str, pointer: str) -> set[int]:
    """Return the members of a list of CPUs or memory nodes, such as ``0-2,7``.

    Raises InvalidSpec.
    """
    members: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        last = last if dash else first
        if not (_is_number(first) and _is_number(last)):
            raise InvalidSpec(
                pointer, f"is {text!r} but must be a list of numbers and ranges like 0-2,7"
            )
        if not int(first) <= int(last) < _MOST_NUMBERS:
            raise InvalidSpec(
                pointer, f"has {part!r} but must have ranges from a lower to a higher number"
            )
        members.update(range(int(first), int(last) + 1))
    return members


def number_list(members: set[int]) -> str:
    """Return a list as the kernel shows it: in order, neighbours joined to ranges."""
    parts = []
    for first in sorted(members):
        if first - 1 in members:
            continue
        last = first
        while last + 1 in members:
            last += 1
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 8


# --- block I/O ---------------------------------------------------------------------------------


def check_weights(request: Request) -> BlockIo:
    """Return the limits of block I/O, unless there is a weight among them that can't be had."""
    wanted = request.resources.get("blockIO", {})
    devices = wanted.get("weightDevice", [])
    if wanted.get("leafWeight") or any(device.get("leafWeight") for device in devices):
        raise Unsupported(
            "a leafWeight can't be had: the I/O scheduler CFQ is gone since Linux 5.0",
            pointer=f"{POINTER}/blockIO",
            hint="use weight",
        )
    weight = wanted.get("weight", 0)
    if weight:
        within(weight, 10, 1000, f"{POINTER}/blockIO/weight")
    for index, device in enumerate(devices):
        if device.get("weight"):
            pointer = f"{POINTER}/blockIO/weightDevice/{index}/weight"
            within(device["weight"], 10, 1000, pointer)
            weight = weight or device["weight"]
    if weight and not request.layout.io_weight:
        raise ControllerUnavailable(
            "io",
            "there are no weights (neither the scheduler BFQ nor iocost is in the kernel)",
            pointer=f"{POINTER}/blockIO",
            hint="load the module bfq, or use rate limits (throttle...) instead",
        )
    return wanted


def io_weight(weight: int) -> int:
    """Convert an OCI I/O weight, 10 to 1000, to ``io.weight`` of v2, 1 to 10000, linearly.

    Source: https://github.com/opencontainers/cgroups, ``ConvertBlkIOToIOWeightValue``.
    """
    return 1 + (weight - 10) * 9999 // 990


def throttles(wanted: BlockIo) -> tuple[list[ThrottleDevice], ...]:
    """Return the rate limits: bytes read, bytes written, reads, writes a second."""
    return (
        wanted.get("throttleReadBpsDevice", []),
        wanted.get("throttleWriteBpsDevice", []),
        wanted.get("throttleReadIOPSDevice", []),
        wanted.get("throttleWriteIOPSDevice", []),
    )


# --- the same in v1 and v2 ---------------------------------------------------------------------


def pids(request: Request) -> list[Setting]:
    """Limit the number of tasks.

    0 is a limit like any other (config-linux.md, "PIDs"): nothing can be forked.  So it is with
    1, which leaves room for the container's own process to be born in the group.
    """
    if "pids" not in request.resources:
        return []
    limit = request.resources["pids"]["limit"]
    value = str(max(limit, 1)) if limit >= 0 else "max"
    return [Setting("pids.max", value, value)]


def rdma(request: Request) -> list[Setting]:
    """Limit handles and objects of RDMA devices."""
    settings = []
    for device, wanted in request.resources.get("rdma", {}).items():
        handles, objects = wanted.get("hcaHandles"), wanted.get("hcaObjects")
        words = [device]
        if handles is not None:
            words.append(f"hca_handle={handles}")
        if objects is not None:
            words.append(f"hca_object={objects}")
        settings.append(Setting("rdma.max", " ".join(words)))
    return settings
