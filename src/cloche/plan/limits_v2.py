"""The limits of a container as values for the files of cgroup v2, one function per controller.

The specification speaks in terms of v1; each function converts, and refuses what v2 can't do.

Source: https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

from __future__ import annotations

from cloche.errors import ControllerUnavailable, InvalidSpec
from cloche.plan import resources
from cloche.plan.resources import POINTER, UNLIMITED, Request, Setting

_THROTTLES = ("rbps", "wbps", "riops", "wiops")
_DEFAULT_PERIOD = 100_000


def memory(request: Request) -> list[Setting]:
    """Limit memory and swap, which v2 counts apart."""
    wanted = resources.check_memory(request)
    if wanted.get("disableOOMKiller"):
        _refuse("memory", "the OOM killer can't be turned off", "memory.disableOOMKiller")
    if "swappiness" in wanted:
        _refuse("memory", "a group has no swappiness of its own", "memory.swappiness")
    limit, swap = wanted.get("limit", 0), wanted.get("swap", 0)
    if wanted.get("kernelTCP", 0) > 0 and not 0 < limit <= wanted["kernelTCP"]:
        _refuse("memory", "TCP buffers have no limit of their own", "memory.kernelTCP")
    settings = []
    if limit:
        settings.append(_size(request, "memory.max", limit))
    if swap and request.layout.swap:
        # Zero is a limit here: no swap at all.
        swap_alone = -1 if swap < 0 else swap - limit
        settings.append(_size(request, "memory.swap.max", swap_alone))
    if wanted.get("reservation"):
        # What v1's soft limit is for: what is beneath it is reclaimed last.
        settings.append(_size(request, "memory.low", wanted["reservation"]))
    return settings


def _size(request: Request, file: str, size: int) -> Setting:
    # What is beyond the range of the kernel's page counter is unlimited too.
    unlimited = size < 0 or size >= request.whole_pages(UNLIMITED)
    expect = "max" if unlimited else str(request.whole_pages(size))
    return Setting(file, "max" if size < 0 else str(size), expect)


def cpu(request: Request) -> list[Setting]:
    """Limit CPU time: quota and period are one file."""
    wanted = resources.check_cpu(request)
    if wanted.get("realtimeRuntime") or wanted.get("realtimePeriod"):
        _refuse("cpu", "groups have no realtime budget", "cpu.realtimeRuntime and realtimePeriod")
    settings = []
    quota, period = wanted.get("quota", 0), wanted.get("period", 0)
    if quota or period:
        value = f"{quota if quota > 0 else 'max'} {period or _DEFAULT_PERIOD}"
        settings.append(Setting("cpu.max", value, value))
    settings = resources.with_burst(request, settings, "cpu.max.burst")
    weight = str(resources.cpu_weight(wanted["shares"])) if wanted.get("shares") else ""
    weights = [Setting("cpu.weight", weight, weight)] if weight else []
    return resources.with_idle(request, weights) + settings


def cpuset(request: Request) -> list[Setting]:
    """Choose CPUs and memory nodes; what isn't chosen is inherited."""
    chosen = resources.cpus_and_mems(request)
    return [Setting(f"cpuset.{name}", value, value) for name, value in chosen.items()]


def io(request: Request) -> list[Setting]:
    """Give block I/O a weight and rate limits, one line for each device."""
    wanted = resources.check_weights(request)
    file = request.layout.io_weight
    settings = []
    if wanted.get("weight"):
        value = _weight(file, wanted["weight"])
        settings.append(Setting(file, value, f"default {value}"))
    for device in wanted.get("weightDevice", []):
        if not device.get("weight"):
            continue
        value = f"{device['major']}:{device['minor']} {_weight(file, device['weight'])}"
        settings.append(Setting(file, value))
    lines: dict[str, dict[str, str]] = {}
    for name, throttles in zip(_THROTTLES, resources.throttles(wanted), strict=True):
        for throttle in throttles:
            line = lines.setdefault(f"{throttle['major']}:{throttle['minor']}", {})
            line[name] = str(throttle.get("rate") or "max")
    for device_numbers, rates in lines.items():
        value = " ".join([f"{name}={rate}" for name, rate in rates.items()])
        shown = " ".join([f"{name}={rates.get(name, 'max')}" for name in _THROTTLES])
        # The file lists all limited devices, so only a single one foretells what it shows.
        alone = len(lines) == 1 and set(rates.values()) != {"max"}
        expect = f"{device_numbers} {shown}" if alone else ""
        settings.append(Setting("io.max", f"{device_numbers} {value}", expect))
    return settings


def _weight(file: str, weight: int) -> str:
    return str(weight if file == "io.bfq.weight" else resources.io_weight(weight))


def hugetlb(request: Request) -> list[Setting]:
    """Limit huge pages."""
    return resources.huge_pages(request, "max")


def unified(request: Request) -> list[tuple[str, Setting]]:
    """Return the controller and setting of each file that is asked for by its v2 name.

    A value of several lines is written line by line, as the kernel reads but one in each write.
    """
    settings = []
    for file, value in request.resources.get("unified", {}).items():
        pointer = f"{POINTER}/unified/{file.replace('~', '~0').replace('/', '~1')}"
        controller, dot, rest = file.partition(".")
        if "/" in file or not (controller and dot and rest):
            raise InvalidSpec(pointer, f"is {file!r} but must be the name of a cgroup file")
        if controller == "cgroup" and not file.startswith("cgroup.max."):
            raise InvalidSpec(pointer, f"is {file!r} but must be a limit")
        settings += [(controller, Setting(file, line)) for line in value.strip().split("\n")]
    return settings


def _refuse(controller: str, problem: str, setting: str) -> None:
    raise ControllerUnavailable(
        controller,
        f"in cgroup v2 {problem}",
        hint=f"leave {setting} out",
        pointer=f"{POINTER}/{setting.split(' ', 1)[0].replace('.', '/')}",
    )
