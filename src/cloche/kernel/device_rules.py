"""What rules for access to devices come to: one default, and the exceptions from it.

The device controller of cgroup v1 keeps nothing else, and takes an exception back only if it is
named by the very same words: denying ``c 1:*`` after ``c 1:3`` was allowed changes nothing there.
So a list of rules is worked out here, and both versions get the outcome: for each device and each
kind of access the last rule that speaks of it decides.

Source: https://docs.kernel.org/admin-guide/cgroup-v1/devices.html, security/device_cgroup.c.
"""

from __future__ import annotations

from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MKNOD = 1
READ = 2
WRITE = 4
EVERY_ACCESS = MKNOD | READ | WRITE
"""``BPF_DEVCG_ACC_*`` of <linux/bpf.h>."""

ANY = -1

LETTERS = (("r", READ), ("w", WRITE), ("m", MKNOD))


class Rule(Record):
    """One rule, or one exception from the default."""

    allow: bool
    type: str
    """``b`` or ``c``; ``a``, for both, only in a rule."""
    major: int
    """``ANY`` for all, as for ``minor``."""
    minor: int
    access: int

    @property
    def is_for_everything(self) -> bool:
        """Whether it speaks of every device and every access."""
        return self[1:] == ("a", ANY, ANY, EVERY_ACCESS)


class Access(Record):
    """The outcome of a list of rules."""

    allowed: bool
    """What is true of every access that no exception speaks of."""
    exceptions: tuple[Rule, ...] = ()
    """In no order that matters.  Where some are allowed, one alone covers all that an access
    asks for, if any do: the kernel doesn't add two of them up."""

    @property
    def is_unlimited(self) -> bool:
        """Whether everything is allowed."""
        return self.allowed and not self.exceptions


class HoleError(ValueError):
    """Raised when a rule makes an exception from an exception; has the rule's index."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.index = index


def reduce(rules: Iterable[Rule], *, allowed: bool) -> Access:
    """Return the outcome of rules that are applied in order, on top of one default.

    Raises HoleError where a wildcard would keep only a part of what it stands for.
    """
    bits: dict[tuple[str, int, int], int] = {}
    for index, rule in enumerate(rules):
        if rule.is_for_everything:
            allowed = rule.allow
            bits.clear()
            continue
        for kind in "bc" if rule.type == "a" else rule.type:
            key = (kind, rule.major, rule.minor)
            if rule.allow != allowed:
                _add(bits, key, rule.access)
            elif not _take_back(bits, key, rule.access):
                raise HoleError(index)
    exceptions = [Rule(not allowed, *key, access) for key, access in bits.items()]
    return Access(allowed, tuple(exceptions))


def _add(bits: dict[tuple[str, int, int], int], new: tuple[str, int, int], access: int) -> None:
    """Add an exception, so that each device that it shares with another has one with both.

    That is for opening to read and write; making a node is never asked for with anything else.
    """
    bits[new] = bits.get(new, 0) | access
    for key, other in list(bits.items()):
        both = _common(key, new)
        opening = (other | access) & (READ | WRITE)
        if both is not None and opening:
            bits[both] = bits.get(both, 0) | opening


def _take_back(
    bits: dict[tuple[str, int, int], int], key: tuple[str, int, int], access: int
) -> bool:
    """Remove what a rule covers from the exceptions; return False if a part of one would stay."""
    for other in list(bits):
        both = _common(other, key)
        if both is None or not bits[other] & access:
            continue
        if both != other:
            return False
        bits[other] &= ~access
        if not bits[other]:
            del bits[other]
    return True


def _common(one: tuple[str, int, int], two: tuple[str, int, int]) -> tuple[str, int, int] | None:
    """Return what stands for the devices that two exceptions both speak of."""
    if one[0] != two[0]:
        return None
    numbers = []
    for first, second in zip(one[1:], two[1:], strict=True):
        if ANY not in (first, second) and first != second:
            return None
        numbers.append(max(first, second))
    return one[0], numbers[0], numbers[1]
