"""The limits of a container as values for the files of cgroup v1, one function per controller.

Each returns what to write in which order, nothing if the controller isn't asked for anything.
The group is new, so that every file holds its default.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.plan import resources
from cloche.plan.resources import POINTER, UNLIMITED, Request, Setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import DeviceRule

_THROTTLES = ("read_bps", "write_bps", "read_iops", "write_iops")


def memory(request: Request) -> list[Setting]:
    """Limit memory, and memory and swap together.

    The kernel refuses a ``memsw`` limit below the memory limit, and both begin as unlimited: so
    the memory limit is written first.
    """
    wanted = resources.check_memory(request)
    settings = []
    sizes = (
        ("memory.limit_in_bytes", wanted.get("limit", 0)),
        ("memory.memsw.limit_in_bytes", wanted.get("swap", 0) if request.layout.swap else 0),
        ("memory.soft_limit_in_bytes", wanted.get("reservation", 0)),
        ("memory.kmem.tcp.limit_in_bytes", wanted.get("kernelTCP", 0)),
    )
    for file, size in sizes:
        if size:
            shown = request.whole_pages(UNLIMITED if size < 0 else size)
            settings.append(Setting(file, str(size), str(shown)))
    if "swappiness" in wanted:
        swappiness = str(wanted["swappiness"])
        settings.append(Setting("memory.swappiness", swappiness, swappiness))
    if wanted.get("disableOOMKiller"):
        expect = "oom_kill_disable 1\nunder_oom 0\noom_kill 0"
        settings.append(Setting("memory.oom_control", "1", expect))
    return settings


def cpu(request: Request) -> list[Setting]:
    """Limit CPU time.  The period comes before the quota, and that before the burst it bounds."""
    wanted = resources.check_cpu(request)
    values = (
        ("cpu.shares", wanted.get("shares", 0)),
        ("cpu.cfs_period_us", wanted.get("period", 0)),
        ("cpu.cfs_quota_us", wanted.get("quota", 0)),
        ("cpu.cfs_burst_us", wanted.get("burst", 0)),
        ("cpu.rt_period_us", wanted.get("realtimePeriod", 0)),
        ("cpu.rt_runtime_us", wanted.get("realtimeRuntime", 0)),
        # Last: an idle group has no shares, and refuses to be given any.
        ("cpu.idle", wanted.get("idle", 0)),
    )
    return [Setting(file, str(value), str(value)) for file, value in values if value]


def cpuset(request: Request) -> list[Setting]:
    """Choose CPUs and memory nodes.

    A new v1 group has neither and no process can join it, so when one is asked for the other is
    filled with all there are.
    """
    chosen = resources.cpus_and_mems(request)
    if not chosen:
        return []
    cpus = chosen.get("cpus", request.layout.cpus)
    mems = chosen.get("mems", request.layout.mems)
    return [Setting("cpuset.cpus", cpus, cpus), Setting("cpuset.mems", mems, mems)]


def blkio(request: Request) -> list[Setting]:
    """Give block I/O a weight and rate limits."""
    wanted = resources.check_weights(request)
    settings = []
    file = request.layout.io_weight
    if wanted.get("weight"):
        settings.append(Setting(file, str(wanted["weight"]), str(wanted["weight"])))
    for device in wanted.get("weightDevice", []):
        value = f"{device['major']}:{device['minor']} {device['weight']}"
        settings.append(Setting(f"{file}_device", value))
    for name, throttles in zip(_THROTTLES, resources.throttles(wanted), strict=True):
        for throttle in throttles:
            rate = throttle.get("rate", 0)
            value = f"{throttle['major']}:{throttle['minor']} {rate}"
            # The file lists all devices, so only a single one foretells what it shows.
            expect = value if len(throttles) == 1 and rate else ""
            settings.append(Setting(f"blkio.throttle.{name}_device", value, expect))
    return settings


def hugetlb(request: Request) -> list[Setting]:
    """Limit huge pages."""
    return resources.huge_pages(request, "limit_in_bytes")


def devices(request: Request) -> list[Setting]:
    """Allow and deny access to devices, rule by rule in the given order.

    Rules of which none denies change nothing: every device is allowed from the start.
    ``devices.allow`` and ``devices.deny`` can only be written; ``devices.list`` shows what came
    of it.
    """
    rules = request.resources.get("devices", [])
    settings: list[Setting] = []
    if all(rule["allow"] for rule in rules):
        return settings
    for index, rule in enumerate(rules):
        file = "devices.allow" if rule["allow"] else "devices.deny"
        values = _device_values(rule, f"{POINTER}/devices/{index}")
        settings += [Setting(file, value) for value in values]
    return settings


def _device_values(rule: DeviceRule, pointer: str) -> list[str]:
    """Return a rule as the kernel reads it.

    At type ``a`` the kernel reads no further: ``a 1:9 r`` would allow *everything*.  So a rule
    for both types that isn't for all devices and all access becomes two.
    """
    kind = rule.get("type") or "a"
    access = rule.get("access", "")
    if not access or set(access) - set("rwm"):
        raise InvalidSpec(f"{pointer}/access", f"{access!r} isn't made of r, w and m")
    if kind not in ("a", "b", "c"):
        raise InvalidSpec(f"{pointer}/type", f"{kind!r} is none of a, b and c")
    major, minor = (
        "*" if number == -1 else str(number)
        for number in (rule.get("major", -1), rule.get("minor", -1))
    )
    if kind == "a" and (major, minor) == ("*", "*") and set(access) == set("rwm"):
        return ["a"]
    kinds = ("b", "c") if kind == "a" else (kind,)
    return [f"{each} {major}:{minor} {access}" for each in kinds]


def net_cls(request: Request) -> list[Setting]:
    """Tag network packets."""
    number = request.resources.get("network", {}).get("classID", 0)
    return [Setting("net_cls.classid", str(number), str(number))] if number else []


def net_prio(request: Request) -> list[Setting]:
    """Give what is sent through an interface a priority."""
    return [
        Setting("net_prio.ifpriomap", f"{wanted['name']} {wanted['priority']}")
        for wanted in request.resources.get("network", {}).get("priorities", [])
    ]
