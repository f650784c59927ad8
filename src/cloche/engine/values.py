"""The small grammars of option values: sizes, durations, limits, devices, environments.

They are Docker's, with two additions: a percentage of the machine where a size or a number of
CPUs is wanted, and a plain number of seconds where a duration is.

Each function takes one argument's text and returns its value.  All raise InvalidArgument for a
text that isn't of the form; it names the text, and the hint says what would be right.
"""

from __future__ import annotations

import os

from cloche.errors import InvalidArgument, NotFound
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CPU_PERIOD = 100_000
"""The kernel's and Docker's default, in microseconds."""

_SIZE_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_DURATION_UNITS = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_ULIMITS = {
    "as": "RLIMIT_AS",
    "core": "RLIMIT_CORE",
    "cpu": "RLIMIT_CPU",
    "data": "RLIMIT_DATA",
    "fsize": "RLIMIT_FSIZE",
    "locks": "RLIMIT_LOCKS",
    "memlock": "RLIMIT_MEMLOCK",
    "msgqueue": "RLIMIT_MSGQUEUE",
    "nice": "RLIMIT_NICE",
    "nofile": "RLIMIT_NOFILE",
    "nproc": "RLIMIT_NPROC",
    "rss": "RLIMIT_RSS",
    "rtprio": "RLIMIT_RTPRIO",
    "rttime": "RLIMIT_RTTIME",
    "sigpending": "RLIMIT_SIGPENDING",
    "stack": "RLIMIT_STACK",
}
_DIGITS = "0123456789."
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_NAME_LETTERS = frozenset(_LETTERS + "_.-")
_HOST_LETTERS = frozenset(_LETTERS + "_.-")


class DeviceRequest(Record):
    """A device of the host to be shown in the container, ``access`` of the letters r, w, m."""

    source: str
    destination: str
    access: str = "rwm"


class DeviceRule(Record):
    """A rule for access to devices, with -1 for every number."""

    type: str
    major: int
    minor: int
    access: str


class DeviceRate(Record):
    """A limit or a weight of one block device of the host."""

    path: str
    value: int


class Ulimit(Record):
    """A resource limit by its name in a spec (``RLIMIT_NOFILE``); -1 is unlimited."""

    name: str
    soft: int
    hard: int


def size(text: str, machine: int = 0) -> int:
    """Return bytes: ``512m``, ``2g``, ``1.5gb``, ``1GiB``, ``1048576``; units are powers of 1024.

    With ``machine``, the bytes of the machine, also ``25%``.
    """
    digits, unit = _split_unit(text)
    amount = _decimal(digits)
    if unit == "%" and machine and amount is not None and 0 < amount <= 100:
        return int(machine * amount / 100)
    for ending in ("ib", "b"):
        if len(unit) > len(ending) and unit.lower().endswith(ending):
            unit = unit[: -len(ending)]
            break
    shift = _SIZE_UNITS.get(unit.lower())
    if amount is None or shift is None:
        percent = ", or a percentage such as 25%" if machine else ""
        raise InvalidArgument(f"invalid size {text!r}", hint=f"write 512m, 2g or 1.5g{percent}")
    return int(amount * (1 << shift))


def size_or_unlimited(text: str) -> int:
    """Return bytes, or -1 for ``-1``."""
    return -1 if text == "-1" else size(text)


def duration_ms(text: str) -> int:
    """Return milliseconds: ``10s``, ``1m30s``, ``1.5h``, ``250ms``, or a number of seconds."""
    total = 0.0
    rest = text
    while rest:
        digits, tail = _split_unit(rest)
        unit = tail[: _prefix_length(tail, lambda letter: letter not in _DIGITS)]
        rest = tail[len(unit) :]
        amount = _decimal(digits)
        factor = _DURATION_UNITS.get(unit or ("s" if digits == text else ""))
        if amount is None or factor is None:
            break
        total += amount * factor
    else:
        if total >= 1:
            return int(total)
    raise InvalidArgument(f"invalid duration {text!r}", hint="write 10s, 1m30s, 250ms, or seconds")


def cpu_quota(text: str, machine: int) -> int:
    """Return microseconds in each ``CPU_PERIOD`` for a number of CPUs: ``1.5``, or ``10%``.

    The percentage is of all CPUs of the machine, whose number is ``machine``.
    """
    digits, unit = _split_unit(text)
    amount = _decimal(digits)
    if unit not in ("", "%") or amount is None:
        hint = "write 1.5 for one and a half CPUs, or 10% for a tenth of the machine"
        raise InvalidArgument(f"invalid number of CPUs {text!r}", hint=hint)
    if unit == "%":
        amount = amount * machine / 100
    if not 0.01 <= amount <= machine:
        problem = f"--cpus {text} is out of range: 0.01 to {machine}.00, as there are {machine}"
        raise InvalidArgument(problem, hint="see nproc(1)")
    return round(amount * CPU_PERIOD)


def cpu_list(text: str) -> str:
    """Return a list of CPUs or memory nodes such as ``0-3,7``, checked: cpuset(7)."""
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not _is_number(first) or (dash and not (_is_number(last) and int(first) <= int(last))):
            raise InvalidArgument(f"invalid list {text!r}", hint="write 0-3 or 0,2,5-7")
    return text


def ulimit(text: str) -> Ulimit:
    """Return a resource limit: ``nofile=1024``, ``nofile=1024:2048``, ``core=-1``."""
    name, equals, values = text.partition("=")
    limit = _ULIMITS.get(name)
    if limit is None or not equals:
        hint = "write NAME=SOFT[:HARD] with a name of " + ", ".join(_ULIMITS)
        raise InvalidArgument(f"invalid ulimit {text!r}", hint=hint)
    soft, colon, hard = values.partition(":")
    if not _is_limit(soft) or (colon and not _is_limit(hard)):
        hint = "write NAME=SOFT[:HARD]; -1 is unlimited"
        raise InvalidArgument(f"invalid ulimit {text!r}", hint=hint)
    result = Ulimit(limit, _limit(soft), _limit(hard if colon else soft))
    if result.hard != -1 and (result.soft == -1 or result.soft > result.hard):
        raise InvalidArgument(f"invalid ulimit {text!r}: soft is greater than hard")
    return result


def device(text: str) -> DeviceRequest:
    """Return a device: ``/dev/fuse``, ``/dev/sda:/dev/xvda``, ``/dev/sda:/dev/xvda:rw``."""
    parts = text.split(":")
    access = "rwm"
    if len(parts) > 1 and _is_access(parts[-1]):
        access = parts.pop()
    if not 1 <= len(parts) <= 2 or not all(part.startswith("/") for part in parts):
        hint = "write /dev/NAME[:/dev/NAME-INSIDE][:rwm]"
        raise InvalidArgument(f"invalid device {text!r}", hint=hint)
    return DeviceRequest(parts[0], parts[-1], access)


def device_rule(text: str) -> DeviceRule:
    """Return a rule for devices as cgroup v1 writes it: ``c 1:3 rwm``, ``b 8:* r``."""
    fields = text.split(" ")
    numbers = fields[1].split(":") if len(fields) == 3 else []
    right = (
        len(numbers) == 2
        and fields[0] in ("a", "b", "c")
        and all(number == "*" or _is_number(number) for number in numbers)
        and _is_access(fields[2])
    )
    if not right:
        hint = "write TYPE MAJOR:MINOR ACCESS, such as 'c 10:229 rw'"
        raise InvalidArgument(f"invalid device rule {text!r}", hint=hint)
    major, minor = (-1 if number == "*" else int(number) for number in numbers)
    return DeviceRule(fields[0], major, minor, fields[2])


def device_rate(text: str, parse: Callable[[str], int]) -> DeviceRate:
    """Return a device with a value: ``/dev/sda:1mb``."""
    path, colon, value = text.rpartition(":")
    if not colon or not path.startswith("/"):
        raise InvalidArgument(f"invalid device limit {text!r}", hint="write /dev/NAME:VALUE")
    return DeviceRate(path, parse(value))


def whole_number(text: str) -> int:
    """Return an integer, which may be negative."""
    if not _is_number(text.removeprefix("-")):
        raise InvalidArgument(f"{text!r} isn't a whole number")
    return int(text)


def assignment(text: str) -> tuple[str, str]:
    """Return both sides of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise InvalidArgument(f"{text!r} isn't NAME=VALUE")
    return name, value


def container_name(text: str) -> str:
    """Return a name for a container: Docker's letters, which no path is made of."""
    if len(text) < 2 or text[0] in "_.-" or not _NAME_LETTERS.issuperset(text):
        hint = "use two or more of A-Z a-z 0-9 _ . -, and begin with a letter or digit"
        raise InvalidArgument(f"invalid name {text!r}", hint=hint)
    return text


def host_name(text: str) -> str:
    """Return a hostname: labels of letters, digits and hyphens, joined by dots.

    The kernel takes at most 64 bytes (``__NEW_UTS_LEN``).
    """
    labels = text.split(".")
    right = all(label and label[0] != "-" and label[-1] != "-" for label in labels)
    if not right or len(text) > 64 or not _HOST_LETTERS.issuperset(text):
        hint = "use at most 64 letters, digits, hyphens and dots"
        raise InvalidArgument(f"invalid hostname {text!r}", hint=hint)
    return text


def rootfs(text: str) -> tuple[str, bool]:
    """Return the absolute directory in ``DIR`` or ``DIR:O``, and whether it was the latter."""
    directory = text.removesuffix(":O")
    if not directory:
        raise InvalidArgument("--rootfs needs a directory")
    return absolute(directory), directory != text


def absolute(path: str) -> str:
    """Return a path of the host as an absolute one, without needless slashes or dots.

    Raises NotFound for a relative one when the current directory has been removed.
    """
    try:
        return os.path.abspath(path)
    except FileNotFoundError as error:
        raise NotFound(
            f"{path}: the current directory doesn't exist any more",
            hint="change to one that does, or write an absolute path",
        ) from error


# --- environment -------------------------------------------------------------------------------


def environment(
    entries: Iterable[str], files: Iterable[tuple[str, str]], caller: Mapping[str, str]
) -> tuple[str, ...]:
    """Return ``NAME=value`` from the contents of env files and from ``-e`` options.

    A name without a value is taken from the caller's environment; if it isn't set there it isn't
    in the container either.  ``files`` are pairs of a name and the content.
    """
    found: dict[str, str] = {}
    for file, content in files:
        for number, line in enumerate(content.split("\n"), 1):
            entry = line.removesuffix("\r").lstrip()
            if entry and not entry.startswith("#"):
                _add_variable(found, entry, caller, f"{file}:{number}: ")
    for entry in entries:
        _add_variable(found, entry, caller, "")
    return tuple(f"{name}={value}" for name, value in found.items())


def _add_variable(found: dict[str, str], entry: str, caller: Mapping[str, str], where: str) -> None:
    name, equals, value = entry.partition("=")
    # As in Docker: only a file has rules for the name, -e takes what the kernel takes.
    blank = bool(where) and any(letter.isspace() for letter in name)
    if not name or blank or "\0" in entry:
        hint = "write NAME=VALUE, or NAME to pass on the caller's"
        raise InvalidArgument(f"{where}invalid environment variable {entry!r}", hint=hint)
    if equals:
        found[name] = value
    elif name in caller:
        found[name] = caller[name]


# --- letters -----------------------------------------------------------------------------------


def _prefix_length(text: str, belongs: Callable[[str], bool]) -> int:
    return next((n for n, letter in enumerate(text) if not belongs(letter)), len(text))


def _split_unit(text: str) -> tuple[str, str]:
    length = _prefix_length(text, lambda letter: letter in _DIGITS)
    return text[:length], text[length:].lstrip(" ")


def _decimal(digits: str) -> float | None:
    whole, _, fraction = digits.partition(".")
    if not (whole or fraction) or "." in fraction or len(digits) > 20:
        return None
    return float(digits)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 20


def _is_limit(text: str) -> bool:
    return text in ("-1", "unlimited") or _is_number(text)


def _limit(text: str) -> int:
    return -1 if text in ("-1", "unlimited") else int(text)


def _is_access(text: str) -> bool:
    return bool(text) and set(text) <= set("rwm") and len(set(text)) == len(text)
