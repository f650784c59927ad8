"""The compiler: a profile in the OCI runtime spec's form to classic BPF, by libseccomp.

libseccomp knows every architecture's numbers, how arguments lie in registers, and how to
arrange hundreds of rules as a decision tree (https://github.com/seccomp/libseccomp).  It is
called through ctypes, since its Python bindings are hardly ever installed.
"""

from __future__ import annotations

import ctypes
import errno
import os

from cloche.errors import ClocheError, InternalError, InvalidSpec, MissingDependency, Unsupported
from cloche.kernel.seccomp import fallback
from cloche.kernel.seccomp.profile import OPERATORS, action_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any

_LIBRARY = "libseccomp.so.2"
_ARCH_X32 = 0x4000_003E
"""libseccomp's own token; the kernel calls x32 x86-64.  All others are ``AUDIT_ARCH_*``."""
_ARCH_NATIVE = 0
_ATTRIBUTE_OPTIMIZE = 8
_BINARY_TREE = 2
_TREE_FROM = 32
"""From so many rules on a tree pays; up to libseccomp 2.5.4 one without any rules is broken."""
_UNKNOWN_CALL = -1
"""__NR_SCMP_ERROR; other negative numbers are calls that other architectures have."""
_WHICH_ACTIONS = "/proc/sys/kernel/seccomp/actions_avail lists those that are"
_MAXIMUM_SIZE = 4096 * 8
"""BPF_MAXINSNS instructions of struct sock_filter."""


class _Argument(ctypes.Structure):
    """struct scmp_arg_cmp of seccomp.h."""

    _fields_ = (
        ("index", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("value", ctypes.c_uint64),
        ("value_two", ctypes.c_uint64),
    )


class _Version(ctypes.Structure):
    _fields_ = (("major", ctypes.c_uint), ("minor", ctypes.c_uint), ("micro", ctypes.c_uint))


def version() -> tuple[int, int, int]:
    """Return libseccomp's version; raises MissingDependency when it isn't installed."""
    found = _load().seccomp_version().contents
    return int(found.major), int(found.minor), int(found.micro)


def known(architectures: Iterable[str]) -> list[str]:
    """Return those architectures, such as ``SCMP_ARCH_X86``, that libseccomp knows.

    Raises MissingDependency when it isn't installed.
    """
    library = _load()
    return [name for name in architectures if _token(library, name)]


def _token(library: ctypes.CDLL, architecture: str) -> int:
    """Return libseccomp's number of an architecture, 0 for one that it doesn't know."""
    word = architecture.removeprefix("SCMP_ARCH_").lower()
    return int(library.seccomp_arch_resolve_name(word.encode()))


def build(profile: Mapping[str, Any]) -> bytes:
    """Return the program for a profile that was checked before, as struct sock_filter[].

    As with runc, a system call that libseccomp doesn't know is left out: it lies above those
    that it does know, and gets ENOSYS.  Raises InvalidSpec for rules that contradict each other
    or name an unknown architecture, Unsupported when the kernel lacks an action.
    """
    default = action_value(profile["defaultAction"], profile.get("defaultErrnoRet"))
    with_library = _Filter(default)
    try:
        tokens = [with_library.native]
        for index, name in enumerate(profile.get("architectures") or ()):
            token = with_library.add_architecture(name, f"/linux/seccomp/architectures/{index}")
            if token not in tokens:
                tokens.append(token)
        rules = list(profile.get("syscalls") or ())
        if sum(len(rule["names"]) for rule in rules) > _TREE_FROM:
            with_library.optimize()
        for index, rule in enumerate(rules):
            with_library.add_rule(rule, f"/linux/seccomp/syscalls/{index}")
        program = with_library.export()
        if _answers_newer_calls(profile):
            names = {name for rule in rules for name in rule["names"]}
            program = with_library.prologue(tokens, names) + program
    finally:
        with_library.release()
    if len(program) > _MAXIMUM_SIZE:
        raise Unsupported(
            f"seccomp profile: its program has {len(program) // 8} instructions, "
            f"the kernel takes {_MAXIMUM_SIZE // 8}",
            hint="give fewer rules with arguments",
        )
    return program


def _answers_newer_calls(profile: Mapping[str, Any]) -> bool:
    """Whether the default refuses, so that calls newer than the profile need ENOSYS.

    With SCMP_ACT_TRACE the tracer is the one to answer.
    """
    return profile["defaultAction"] not in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")


class _Filter:
    """A filter under construction in libseccomp."""

    def __init__(self, default: int) -> None:
        self.library = _load()
        self.default = default
        self.native = int(self.library.seccomp_arch_native())
        self.context = self.library.seccomp_init(default)
        if not self.context:
            raise Unsupported(
                "the default action of the seccomp profile isn't known to this kernel",
                hint=_WHICH_ACTIONS,
            )

    def release(self) -> None:
        self.library.seccomp_release(self.context)

    def optimize(self) -> None:
        """Ask for a decision tree; a libseccomp before 2.5 can't, and the filter is slower."""
        self.library.seccomp_attr_set(self.context, _ATTRIBUTE_OPTIMIZE, _BINARY_TREE)

    def add_architecture(self, name: str, pointer: str) -> int:
        """Let the rules hold for an architecture such as ``SCMP_ARCH_X86``; return its token."""
        token = _token(self.library, name)
        if not token:
            raise InvalidSpec(
                pointer, f"is {name} but must be an architecture that libseccomp knows"
            )
        result = self.library.seccomp_arch_add(self.context, token)
        if result not in (0, -errno.EEXIST):
            raise InvalidSpec(pointer, f"is {name} but must be one to combine with this machine's")
        return token

    def add_rule(self, rule: Mapping[str, Any], pointer: str) -> None:
        action = action_value(rule["action"], rule.get("errnoRet"))
        if action == self.default:
            return  # libseccomp refuses a rule that changes nothing
        for name in rule["names"]:
            number = self.library.seccomp_syscall_resolve_name(name.encode())
            if number == _UNKNOWN_CALL:
                continue
            for arguments in _conjunctions(rule.get("args") or ()):
                result = self.library.seccomp_rule_add_array(
                    self.context, action, number, len(arguments), arguments
                )
                if result:
                    raise _rule_error(-result, name, rule["action"], pointer)

    def export(self) -> bytes:
        descriptor = os.memfd_create("seccomp")
        try:
            if result := self.library.seccomp_export_bpf(self.context, descriptor):
                raise InternalError(f"seccomp_export_bpf: {os.strerror(-result).lower()}")
            size = os.fstat(descriptor).st_size
            return os.pread(descriptor, size, 0)
        finally:
            os.close(descriptor)

    def prologue(self, tokens: Sequence[int], names: set[str]) -> bytes:
        """Return what answers ENOSYS to system calls above all those that are named here."""
        highest: dict[int, int] = {}
        for token in tokens:
            resolve = self.library.seccomp_syscall_resolve_name_arch
            number = max((resolve(token, name.encode()) for name in names), default=-1)
            if number >= 0:
                highest[token] = number
        highest_x32 = highest.pop(_ARCH_X32, None)
        return fallback.prologue(highest, highest_x32)


def _conjunctions(arguments: Sequence[Mapping[str, Any]]) -> Iterator[ctypes.Array[_Argument]]:
    """Yield the conditions of each rule to add for a list of conditions.

    All of them must hold, in one rule; unless two are on the same argument, which libseccomp
    can't express: then each makes a rule of its own, and one that holds is enough.  So does runc,
    and profiles count on it.
    """
    conditions = [
        _Argument(
            argument["index"],
            OPERATORS[argument["op"]],
            argument["value"],
            argument.get("valueTwo", 0),
        )
        for argument in arguments
    ]
    if len({condition.index for condition in conditions}) == len(conditions):
        yield (_Argument * len(conditions))(*conditions)
        return
    for condition in conditions:
        yield (_Argument * 1)(condition)


def _rule_error(number: int, name: str, action: str, pointer: str) -> ClocheError:
    if number == errno.EEXIST:
        return InvalidSpec(pointer, f"has {name} but must not: it has a rule with another action")
    if number == errno.EOPNOTSUPP:
        return Unsupported(
            f"seccomp action {action} isn't known to this kernel",
            hint=_WHICH_ACTIONS,
        )
    return InvalidSpec(
        pointer, f"has {name} but must be what libseccomp takes ({os.strerror(number)})"
    )


_CONTEXT = ctypes.c_void_p
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "seccomp_version": (ctypes.POINTER(_Version), ()),
    "seccomp_init": (_CONTEXT, (ctypes.c_uint32,)),
    "seccomp_release": (None, (_CONTEXT,)),
    "seccomp_attr_set": (ctypes.c_int, (_CONTEXT, ctypes.c_int, ctypes.c_uint32)),
    "seccomp_arch_native": (ctypes.c_uint32, ()),
    "seccomp_arch_resolve_name": (ctypes.c_uint32, (ctypes.c_char_p,)),
    "seccomp_arch_add": (ctypes.c_int, (_CONTEXT, ctypes.c_uint32)),
    "seccomp_syscall_resolve_name": (ctypes.c_int, (ctypes.c_char_p,)),
    "seccomp_syscall_resolve_name_arch": (ctypes.c_int, (ctypes.c_uint32, ctypes.c_char_p)),
    "seccomp_rule_add_array": (
        ctypes.c_int,
        (_CONTEXT, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Argument)),
    ),
    "seccomp_export_bpf": (ctypes.c_int, (_CONTEXT, ctypes.c_int)),
}
"""Result and parameter types, from seccomp.h."""


def _load() -> ctypes.CDLL:
    """Open the library and declare its functions."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise MissingDependency(
            f"{_LIBRARY} isn't installed, and is needed to compile seccomp profiles",
            hint="install libseccomp2 (Debian, Ubuntu) or libseccomp (Fedora, Arch), "
            "or run with --security-opt seccomp=unconfined",
        ) from error
    for name, (result, parameters) in _FUNCTIONS.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = parameters
    return library
