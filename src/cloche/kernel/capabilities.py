"""Capabilities: root's privileges in pieces (capabilities(7)).

A set of capabilities is an ``int`` here, a bit mask as the kernel shows it in
``/proc/<pid>/status``: bit n is capability n of ``<linux/capability.h>``.
"""

from __future__ import annotations

from cloche.errors import InvalidArgument
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES: tuple[str, ...] = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
"""Every capability up to Linux 6.18; the index is its number."""

NUMBERS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}

LAST = len(NAMES) - 1
"""The highest capability known here; the running kernel's own is ``last()``."""


class Sets(Record):
    """The five capability sets of a process, as bit masks."""

    inheritable: int
    permitted: int
    effective: int
    bounding: int
    ambient: int


def number(name: str) -> int:
    """Return a capability's number by its name, in any case, with or without ``CAP_``.

    Raises InvalidArgument for a name that isn't one.
    """
    key = name.upper()
    if not key.startswith("CAP_"):
        key = "CAP_" + key
    found = NUMBERS.get(key)
    if found is None:
        raise InvalidArgument(
            f"capability {name} doesn't exist",
            hint="capabilities(7) lists all names, such as CAP_NET_ADMIN",
        )
    return found


def mask(names: Iterable[str]) -> int:
    """Return the set of these capabilities; the name ``ALL`` stands for every one known here.

    Raises InvalidArgument for a name that isn't one.
    """
    bits = 0
    for name in names:
        bits |= (1 << len(NAMES)) - 1 if name.upper() in ("ALL", "CAP_ALL") else 1 << number(name)
    return bits


def names(bits: int) -> tuple[str, ...]:
    """Return the names in a set, in order of number.

    A capability newer than this table is named ``CAP_<number>``, so that none is ever hidden.
    """
    found = []
    while bits:
        lowest = bits & -bits
        index = lowest.bit_length() - 1
        found.append(NAMES[index] if index < len(NAMES) else f"CAP_{index}")
        bits ^= lowest
    return tuple(found)


def full(last_cap: int) -> int:
    """Return the set of every capability of a kernel whose highest has this number."""
    return (2 << last_cap) - 1


DEFAULT = mask(
    (
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    )
)
"""The fourteen capabilities that Docker leaves to a container by default."""

_FIELDS = (b"\nCapInh:\t", b"\nCapPrm:\t", b"\nCapEff:\t", b"\nCapBnd:\t", b"\nCapAmb:\t")


def parse_status(status: bytes) -> Sets:
    """Return the capability sets in the content of a ``/proc/<pid>/status`` file."""
    masks = []
    for field in _FIELDS:
        start = status.index(field) + len(field)
        masks.append(int(status[start : start + 16], 16))
    return Sets(*masks)


def current() -> Sets:
    """Return the capability sets of the calling process."""
    with open("/proc/self/status", "rb", buffering=0) as file:
        return parse_status(file.read(8192))


def last() -> int:
    """Return the number of the running kernel's highest capability."""
    with open("/proc/sys/kernel/cap_last_cap", "rb", buffering=0) as file:
        return int(file.read(32))
