"""The limits of a container as values for the files of cgroup v1, one function per controller.

Each returns what to write in which order, nothing if the controller isn't asked for anything.
The group is new, so that every file holds its default, unless the request tells of another.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from cloche.kernel.device_rules import ANY, LETTERS, Access, Rule
from cloche.plan import device_access, resources
from cloche.plan.resources import UNLIMITED, Request, Setting

_THROTTLES = ("read_bps", "write_bps", "read_iops", "write_iops")


def memory(request: Request) -> list[Setting]:
    """Limit memory, and memory and swap together.

    The kernel refuses a ``memsw`` limit below the memory limit, and both begin as unlimited: so
    the memory limit is written first, unless the present one is in the way.
    """
    wanted = resources.check_memory(request)
    settings = []
    swap = wanted.get("swap", 0) if request.layout.swap else 0
    sizes = [
        ("memory.limit_in_bytes", wanted.get("limit", 0)),
        ("memory.memsw.limit_in_bytes", swap),
    ]
    present = request.present
    if present and present.memory is not None and (swap < 0 or swap > present.memory):
        sizes.reverse()
    sizes += [
        ("memory.soft_limit_in_bytes", wanted.get("reservation", 0)),
        ("memory.kmem.tcp.limit_in_bytes", wanted.get("kernelTCP", 0)),
    ]
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
    """Limit CPU time.

    What the group may use must never exceed what the group above may, not even between two
    writes: so a period that gets shorter comes after the quota.
    """
    wanted = resources.check_cpu(request)
    present = request.present
    times = [
        ("cpu.cfs_period_us", wanted.get("period", 0)),
        ("cpu.cfs_quota_us", wanted.get("quota", 0)),
    ]
    if present and 0 < wanted.get("period", 0) < present.period:
        times.reverse()
    times += [
        ("cpu.rt_period_us", wanted.get("realtimePeriod", 0)),
        ("cpu.rt_runtime_us", wanted.get("realtimeRuntime", 0)),
    ]
    settings = [Setting(file, str(value), str(value)) for file, value in times if value]
    settings = resources.with_burst(request, settings, "cpu.cfs_burst_us")
    shares = str(wanted.get("shares") or "")
    weight = [Setting("cpu.shares", shares, shares)] if shares else []
    return resources.with_idle(request, weight) + settings


def cpuset(request: Request) -> list[Setting]:
    """Choose CPUs and memory nodes.

    A new v1 group has neither and no process can join it: it inherits both before the choice.
    """
    chosen = resources.cpus_and_mems(request)
    return [Setting(f"cpuset.{name}", value, value) for name, value in chosen.items()]


def blkio(request: Request) -> list[Setting]:
    """Give block I/O a weight and rate limits."""
    wanted = resources.check_weights(request)
    settings = []
    file = request.layout.io_weight
    if wanted.get("weight"):
        settings.append(Setting(file, str(wanted["weight"]), str(wanted["weight"])))
    for device in wanted.get("weightDevice", []):
        if not device.get("weight"):
            continue
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


def devices(access: Access, present: str) -> list[Setting]:
    """Restrict access to devices: the default first, then the exceptions.

    ``present`` is what ``devices.list`` shows, and empty for a new group, which allows what the
    group above does.  ``devices.allow`` and ``devices.deny`` can only be written.
    """
    before = _listed(present)
    if access.is_unlimited and before.is_unlimited:
        return []
    settings = []
    old = {rule[1:4]: rule.access for rule in before.exceptions}
    if access.allowed or before.allowed:
        # The list of a group that allows by default doesn't show its exceptions.
        settings.append(Setting(_device_file(access.allowed), "a"))
        old = {}
    new = {rule[1:4]: rule.access for rule in access.exceptions}
    for key, bits in old.items():
        lost = bits & ~new.get(key, 0)
        if lost:
            settings.append(_exception(not access.allowed, key, lost, allow=access.allowed))
    for key, bits in new.items():
        gained = bits & ~old.get(key, 0)
        if gained:
            settings.append(_exception(not access.allowed, key, gained, allow=not access.allowed))
    return settings


def _device_file(allow: bool) -> str:
    return "devices.allow" if allow else "devices.deny"


def _exception(kind: bool, key: tuple[str, int, int], bits: int, *, allow: bool) -> Setting:
    value = device_access.values(Rule(kind, *key, bits))
    return Setting(_device_file(allow), value)


def _listed(text: str) -> Access:
    """Return what ``devices.list`` shows: lines such as ``c 1:3 rwm``, ``a *:* rwm`` for all."""
    exceptions = []
    for line in text.splitlines():
        kind, numbers, letters = line.split()
        if kind == "a":
            return Access(True)
        major, minor = (ANY if number == "*" else int(number) for number in numbers.split(":"))
        bits = sum(bit for letter, bit in LETTERS if letter in letters)
        exceptions.append(Rule(True, kind, major, minor, bits))
    return Access(not text, tuple(exceptions))


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
