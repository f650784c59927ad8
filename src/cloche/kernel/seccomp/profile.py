"""Profiles: checking the OCI runtime spec's form, and reading Docker's into it.

Docker's form, which podman's files share, is the OCI form with rules that apply only
``includes``/``excludes`` some architectures, capabilities or kernels, and an ``archMap`` in place
of ``architectures``.  The older of Docker's forms has one ``name`` to a rule.
"""

from __future__ import annotations

import errno
import os

from cloche.errors import InvalidArgument, InvalidSpec, NotFound, PermissionDenied
from cloche.kernel.capabilities import NUMBERS
from cloche.kernel.flags import SECCOMP_FILTER_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeGuard

    Reject = Callable[[str, str], InvalidArgument]
    """Makes the error for a problem at a place, given as a JSON pointer into the profile."""

ACTIONS: dict[str, int] = {
    "SCMP_ACT_KILL": 0x0000_0000,
    "SCMP_ACT_KILL_THREAD": 0x0000_0000,
    "SCMP_ACT_KILL_PROCESS": 0x8000_0000,
    "SCMP_ACT_TRAP": 0x0003_0000,
    "SCMP_ACT_ERRNO": 0x0005_0000,
    "SCMP_ACT_NOTIFY": 0x7FC0_0000,
    "SCMP_ACT_TRACE": 0x7FF0_0000,
    "SCMP_ACT_LOG": 0x7FFC_0000,
    "SCMP_ACT_ALLOW": 0x7FFF_0000,
}
"""What a filter returns for each action; the lower 16 bits are the errno, where there is one."""

OPERATORS: dict[str, int] = {
    "SCMP_CMP_NE": 1,
    "SCMP_CMP_LT": 2,
    "SCMP_CMP_LE": 3,
    "SCMP_CMP_EQ": 4,
    "SCMP_CMP_GE": 5,
    "SCMP_CMP_GT": 6,
    "SCMP_CMP_MASKED_EQ": 7,
}
"""libseccomp's numbers.  With MASKED_EQ, ``value`` is the mask and ``valueTwo`` the value."""

_CARRIER = "sendmsg"
"""The call by which the listener comes out of the container: it can't wait for the listener."""

_WITH_ERRNO = {"SCMP_ACT_ERRNO": 4095, "SCMP_ACT_TRACE": 0xFFFF}
"""The actions that carry a number, and its maximum: the kernel caps errno at 4095."""

_GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_SECCOMP_ARCHITECTURES = {"x86_64": "SCMP_ARCH_X86_64", "aarch64": "SCMP_ARCH_AARCH64"}
"""How Docker's form names a machine in a rule's ``arches``, and in an ``archMap``."""


def action_value(action: str, number: int | None) -> int:
    """Return what a filter returns for an action; EPERM where an errno is left out."""
    if action in _WITH_ERRNO:
        return ACTIONS[action] | (errno.EPERM if number is None else number)
    return ACTIONS[action]


def check_spec(profile: Mapping[str, Any]) -> None:
    """Check a ``linux.seccomp`` object; raises InvalidSpec."""

    def reject(place: str, problem: str) -> InvalidArgument:
        return InvalidSpec(f"/linux/seccomp{place}", problem)

    _check_head(profile, reject)
    for index, rule in enumerate(_array(profile, "syscalls", "", reject)):
        _check_rule(rule, f"/syscalls/{index}", bool(profile.get("listenerPath")), reject)


def load(path: str, capabilities: int) -> dict[str, Any]:
    """Return the profile in a file, in the OCI form; see ``seccomp.load_profile``."""
    from cloche import json

    def reject(place: str, problem: str) -> InvalidArgument:
        return InvalidArgument(f"seccomp profile {path}: {place or '/'}: {problem}")

    try:
        with open(path, "rb") as file:
            document = json.loads(file.read())
    except FileNotFoundError as error:
        raise NotFound(f"seccomp profile {path} doesn't exist") from error
    except PermissionError as error:
        raise PermissionDenied(f"seccomp profile {path} can't be read") from error
    except OSError as error:
        raise InvalidArgument(f"seccomp profile {path}: {error.strerror}".lower()) from error
    except (ValueError, RecursionError) as error:
        raise InvalidArgument(f"seccomp profile {path}: isn't JSON: {error}") from error
    return _Resolver(reject, capabilities).resolve(document)


# --- Docker's form -------------------------------------------------------------------------------

_PROFILE_KEYS = {
    "$schema", "comment", "defaultAction", "defaultErrnoRet", "defaultErrno", "architectures",
    "archMap", "flags", "listenerPath", "listenerMetadata", "syscalls",
}  # fmt: skip
_RULE_KEYS = {
    "name", "names", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes",
}  # fmt: skip
_FILTER_KEYS = {"arches", "caps", "minKernel"}


class _Resolver:
    """Turns a document of Docker's form, or of the OCI form, into the latter, for this host.

    Unlike Docker it refuses keys that it doesn't know: a misspelt ``args`` would otherwise
    silently allow a system call with any arguments.
    """

    def __init__(self, reject: Reject, capabilities: int) -> None:
        self.reject = reject
        self.capabilities = capabilities
        self.has_path = False
        system = os.uname()
        self.machine = system.machine
        self.release = system.release

    def resolve(self, document: Any) -> dict[str, Any]:
        self.expect_keys(document, "", _PROFILE_KEYS)
        profile = {
            key: document[key]
            for key in ("defaultAction", "flags", "listenerPath", "listenerMetadata")
            if document.get(key) is not None
        }
        if "defaultAction" not in profile:
            raise self.reject("/defaultAction", "is missing")
        self.take_errno(profile, "defaultErrnoRet", document, "defaultErrno", "")
        self.has_path = bool(profile.get("listenerPath"))
        profile["architectures"] = self.architectures(document)
        _check_head(profile, self.reject)
        profile["syscalls"] = [
            self.rule(rule, f"/syscalls/{index}")
            for index, rule in enumerate(_array(document, "syscalls", "", self.reject))
            if self.applies(rule, f"/syscalls/{index}")
        ]
        return profile

    def architectures(self, document: Mapping[str, Any]) -> list[Any]:
        listed = _array(document, "architectures", "", self.reject)
        mapped = _array(document, "archMap", "", self.reject)
        if listed and mapped:
            raise self.reject("/archMap", "can't be combined with architectures")
        for index, entry in enumerate(mapped):
            place = f"/archMap/{index}"
            self.expect_keys(entry, place, {"architecture", "subArchitectures"})
            if entry.get("architecture") == _SECCOMP_ARCHITECTURES.get(self.machine):
                others = _array(entry, "subArchitectures", place, self.reject)
                return [entry["architecture"], *others]
        return listed

    def applies(self, rule: Any, place: str) -> bool:
        """Whether a rule's conditions hold on this machine, for these capabilities."""
        self.expect_keys(rule, place, _RULE_KEYS)
        excluded = any(self.conditions(rule, place, "excludes"))
        return not excluded and all(self.conditions(rule, place, "includes"))

    def conditions(self, rule: Mapping[str, Any], place: str, key: str) -> list[bool]:
        """Return which of the conditions hold.

        To be excluded any one of the named capabilities is enough; to be included it takes all.
        """
        filters = rule.get(key) or {}
        self.expect_keys(filters, f"{place}/{key}", _FILTER_KEYS)
        found = []
        if architectures := self.strings(filters, "arches", f"{place}/{key}"):
            found.append(_GO_ARCHITECTURES.get(self.machine, self.machine) in architectures)
        if names := self.strings(filters, "caps", f"{place}/{key}"):
            held = [bool(self.capabilities >> NUMBERS.get(name, 64) & 1) for name in names]
            found.append(any(held) if key == "excludes" else all(held))
        if minimum := filters.get("minKernel"):
            found.append(self.at_least(minimum, f"{place}/{key}/minKernel"))
        return found

    def at_least(self, minimum: Any, place: str) -> bool:
        from cloche.kernel.features import kernel_version

        parts = minimum.split(".") if isinstance(minimum, str) else []
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            raise self.reject(place, f"isn't a kernel version such as 5.14: {minimum}")
        return kernel_version(self.release) >= (int(parts[0]), int(parts[1]))

    def rule(self, rule: Mapping[str, Any], place: str) -> dict[str, Any]:
        if "name" in rule and "names" in rule:
            raise self.reject(f"{place}/name", "can't be combined with names")
        found: dict[str, Any] = {
            "names": [rule["name"]] if "name" in rule else rule.get("names"),
            "action": rule.get("action"),
        }
        self.take_errno(found, "errnoRet", rule, "errno", place)
        if rule.get("args"):
            found["args"] = rule["args"]
        _check_rule(found, place, self.has_path, self.reject)
        return found

    def take_errno(
        self, into: dict[str, Any], key: str, source: Mapping[str, Any], word: str, place: str
    ) -> None:
        """Copy an errno that is given by number or, as in podman's files, by name."""
        if source.get(key) is not None:
            into[key] = source[key]
        elif source.get(word):
            into[key] = getattr(errno, str(source[word]), None)
            if not isinstance(into[key], int):
                raise self.reject(f"{place}/{word}", f"isn't an errno: {source[word]}")

    def strings(self, source: Mapping[str, Any], key: str, place: str) -> list[str]:
        values = _array(source, key, place, self.reject)
        if not all(isinstance(value, str) for value in values):
            raise self.reject(f"{place}/{key}", "isn't an array of strings")
        return values

    def expect_keys(self, value: Any, place: str, keys: set[str]) -> None:
        if not isinstance(value, dict):
            raise self.reject(place, "isn't an object")
        for key in value:
            if key not in keys:
                raise self.reject(f"{place}/{key}", "isn't a key that a profile has")


# --- the OCI runtime spec's form -----------------------------------------------------------------


def _check_head(profile: Mapping[str, Any], reject: Reject) -> None:
    _check_action(profile, "defaultAction", "defaultErrnoRet", "", reject)
    if profile["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise reject("/defaultAction", f"can't be SCMP_ACT_NOTIFY: that holds for {_CARRIER} too")
    for name in _array(profile, "flags", "", reject):
        if not isinstance(name, str) or name not in SECCOMP_FILTER_FLAGS:
            raise reject("/flags", f"isn't a flag of seccomp: {name}")
    for index, name in enumerate(_array(profile, "architectures", "", reject)):
        if not isinstance(name, str) or not name.startswith("SCMP_ARCH_"):
            raise reject(f"/architectures/{index}", f"isn't an architecture: {name}")
    if profile.get("listenerMetadata") and not profile.get("listenerPath"):
        raise reject("/listenerMetadata", "makes no sense without listenerPath")


def _check_rule(rule: Any, place: str, has_path: bool, reject: Reject) -> None:
    if not isinstance(rule, dict):
        raise reject(place, "isn't an object")
    names = _array(rule, "names", place, reject)
    if not names:
        raise reject(f"{place}/names", "isn't an array of at least one name")
    for name in names:
        if not isinstance(name, str) or not name or "\0" in name:
            raise reject(f"{place}/names", f"isn't the name of a system call: {name!r}")
    _check_action(rule, "action", "errnoRet", place, reject)
    if rule["action"] == "SCMP_ACT_NOTIFY":
        if _CARRIER in names:
            raise reject(f"{place}/action", f"can't be SCMP_ACT_NOTIFY for {_CARRIER}")
        if not has_path:
            raise reject("/listenerPath", "is missing, and SCMP_ACT_NOTIFY needs it")
    for number, argument in enumerate(_array(rule, "args", place, reject)):
        _check_argument(argument, f"{place}/args/{number}", reject)


def _check_action(
    source: Mapping[str, Any], key: str, errno_key: str, place: str, reject: Reject
) -> None:
    action = source.get(key)
    if not isinstance(action, str) or action not in ACTIONS:
        raise reject(f"{place}/{key}", f"isn't an action of seccomp: {action}")
    number = source.get(errno_key)
    if number is None:
        return
    maximum = _WITH_ERRNO.get(action)
    if maximum is None:
        raise reject(f"{place}/{errno_key}", f"makes no sense with {action}")
    if not _is_integer(number) or not 0 <= number <= maximum:
        raise reject(f"{place}/{errno_key}", f"isn't a number from 0 to {maximum}: {number}")


def _check_argument(argument: Any, place: str, reject: Reject) -> None:
    if not isinstance(argument, dict):
        raise reject(place, "isn't an object")
    index = argument.get("index")
    if not _is_integer(index) or not 0 <= index <= 5:
        raise reject(f"{place}/index", f"isn't a number from 0 to 5: {index}")
    for key, value in (("value", argument.get("value")), ("valueTwo", argument.get("valueTwo", 0))):
        if not _is_integer(value) or not 0 <= value < 2**64:
            raise reject(f"{place}/{key}", f"isn't an unsigned number of 64 bits: {value}")
    operator = argument.get("op")
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise reject(f"{place}/op", f"isn't an operator of seccomp: {operator}")


def _array(source: Mapping[str, Any], key: str, place: str, reject: Reject) -> list[Any]:
    """Return an array that may be left out."""
    values = source.get(key)
    if values is None:
        return []
    if not isinstance(values, list):
        raise reject(f"{place}/{key}", "isn't an array")
    return values


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
