"""The device rules of a spec, as the kernel shall have them."""

from __future__ import annotations

from cloche.errors import InvalidSpec
from cloche.kernel.device_rules import (
    ANY,
    EVERY_ACCESS,
    LETTERS,
    MKNOD,
    Access,
    HoleError,
    Rule,
    reduce,
)
from cloche.plan.resources import POINTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.oci.spec import DeviceRule

_ACCESS = dict(LETTERS)

UNLIMITED = Access(True)

ALWAYS = (
    # Any node may be made, and only these opened: a container's own, terminals, and tun.
    Rule(True, "a", ANY, ANY, MKNOD),
    *(
        Rule(True, "c", major, minor, EVERY_ACCESS)
        for major, minor in (
            (1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, ANY), (10, 200),
        )
    ),
)  # fmt: skip
"""What an OCI runtime allows on top of the spec's rules, whatever they say: the devices that
the specification has in every container, and what engines have come to rely on.  Source:
https://github.com/opencontainers/runc, ``AllowedDevices``."""


def access(rules: list[DeviceRule], *, complete: bool) -> Access:
    """Return what a spec's rules come to.

    ``complete`` is the way of an OCI runtime: nothing is allowed to begin with, and ``ALWAYS``
    comes on top.  Otherwise the rules begin with everything allowed, as the kernel does.  Raises
    InvalidSpec for a rule that is none or can't be had.
    """
    checked = [_rule(rule, f"{POINTER}/devices/{index}") for index, rule in enumerate(rules)]
    try:
        return reduce([*checked, *(ALWAYS if complete else ())], allowed=not complete)
    except HoleError as error:
        index = min(error.index, len(rules) - 1)  # or what comes on top collides with the last
        raise InvalidSpec(
            f"{POINTER}/devices/{index}",
            "is an exception but must not be, from a rule that is an exception itself",
            hint="the kernel has one default and exceptions from it; name the devices one by one",
        ) from error


def values(exception: Rule) -> str:
    """Return an exception as ``devices.allow`` and ``devices.deny`` of v1 want it."""
    major, minor = ("*" if number == ANY else number for number in exception[2:4])
    letters = "".join(letter for letter, bit in LETTERS if exception.access & bit)
    return f"{exception.type} {major}:{minor} {letters}"


def _rule(rule: DeviceRule, pointer: str) -> Rule:
    """Return a rule; a missing type or number stands for all.

    A type that is missing is never that of ``a 1:9 r``, which the kernel of v1 reads as
    *everything*: it means both types, of this number alone.
    """
    letters = rule.get("access", "")
    if not letters or set(letters) - set("rwm"):
        raise InvalidSpec(f"{pointer}/access", f"is {letters!r} but must be of r, w and m")
    kind = rule.get("type") or "a"
    if kind not in ("a", "b", "c"):
        raise InvalidSpec(f"{pointer}/type", f"is {kind!r} but must be a, b or c")
    numbers = []
    for name in ("major", "minor"):
        number = rule.get(name, ANY)
        if not (isinstance(number, int) and ANY <= number < 1 << 32):
            raise InvalidSpec(
                f"{pointer}/{name}", f"is {number!r} but must be the number of a device"
            )
        numbers.append(number)
    bits = sum(_ACCESS[letter] for letter in set(letters))
    return Rule(rule["allow"], kind, numbers[0], numbers[1], bits)
