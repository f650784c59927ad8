"""Every error that Cloche raises, as one tree.

::

    ClocheError                      code, hint
    +-- InvalidArgument              invalid_argument: what the user wrote makes no sense
    |   +-- InvalidSpec              a config.json; names the place by a JSON pointer
    |   +-- InvalidPlan              a plan that the wire form can't carry, or bytes that are none
    +-- NotFound                     not_found
    |   +-- ContainerNotFound        no container has this id
    |   +-- ProgramNotFound          a program, its interpreter or a library isn't there
    |   +-- MissingDependency        a library or system program that Cloche needs isn't installed
    +-- AlreadyExists                already_exists: a name or id is taken
    +-- WrongState                   failed_precondition: a container isn't in the state for it
    +-- PermissionDenied             permission_denied
    +-- Unsupported                  unsupported: this kernel or set-up can't do what was asked
    |   +-- ControllerUnavailable    a cgroup limit whose controller can't be had here
    +-- Unavailable                  unavailable: it didn't happen in time; may work later
    +-- StepFailed                   a step of a plan failed: step, system call, path, errno
    +-- InternalError                internal: a bug in Cloche

The message is lower case, names the object and has no full stop; the hint says what to do.
"""

from __future__ import annotations

import errno as _errno
import os


class ClocheError(Exception):
    """The base of all errors that Cloche raises on purpose."""

    code = "internal"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidArgument(ClocheError):
    """Raised when an option, a name or a value makes no sense, before anything was done."""

    code = "invalid_argument"


class InvalidSpec(InvalidArgument):
    """Raised when a runtime spec breaks its schema or contradicts itself."""

    def __init__(self, pointer: str, problem: str, *, hint: str = "") -> None:
        super().__init__(f"config.json: {pointer or '/'}: {problem}", hint=hint)
        self.pointer = pointer
        """Where in the document, as a JSON pointer (RFC 6901)."""
        self.problem = problem


class InvalidPlan(InvalidArgument):
    """Raised when a plan can't be encoded, or when bytes aren't a plan."""


class NotFound(ClocheError):
    """Raised when a named thing doesn't exist."""

    code = "not_found"


class ContainerNotFound(NotFound):
    """Raised when no container has an id."""

    def __init__(self, id: str) -> None:
        super().__init__(f"container {id} does not exist")
        self.id = id


class ProgramNotFound(NotFound):
    """Raised when a program, its interpreter or one of its libraries can't be found."""


class MissingDependency(NotFound):
    """Raised when a library or system program that Cloche relies on isn't installed."""


class AlreadyExists(ClocheError):
    """Raised when a name or id is in use."""

    code = "already_exists"


class WrongState(ClocheError):
    """Raised when a container's state forbids what was asked: started twice, deleted as it runs."""

    code = "failed_precondition"


class PermissionDenied(ClocheError):
    """Raised when the caller lacks a privilege, before anything was done."""

    code = "permission_denied"


class Unsupported(ClocheError):
    """Raised when this kernel or this machine's set-up can't do what was asked."""

    code = "unsupported"

    def __init__(self, message: str, *, hint: str = "", pointer: str = "") -> None:
        super().__init__(message, hint=hint)
        self.pointer = pointer
        """What of a ``config.json`` asks for it, as a JSON pointer; empty if unknown."""


class ControllerUnavailable(Unsupported):
    """Raised when a limit was asked for and its cgroup controller can't be had."""

    def __init__(
        self, controller: str, problem: str, *, hint: str = "", pointer: str = "/linux/resources"
    ) -> None:
        super().__init__(f"cgroup controller {controller}: {problem}", hint=hint, pointer=pointer)
        self.controller = controller


class Unavailable(ClocheError):
    """Raised when something that had to be waited for didn't happen in time."""

    code = "unavailable"


class StepFailed(ClocheError):
    """Raised when the kernel refused a step of a plan; everything before it has been undone."""

    def __init__(
        self, step: str, syscall: str, path: str, errno: int, *, message: str = "", hint: str = ""
    ) -> None:
        name = _errno.errorcode.get(errno, str(errno))
        where = f" {path}" if path else ""
        super().__init__(
            message or f"{step}: {syscall}{where}: {os.strerror(errno).lower()} ({name})",
            hint=hint,
        )
        self.step = step
        self.syscall = syscall
        self.path = path
        self.errno = errno
        if errno in (_errno.EPERM, _errno.EACCES):
            self.code = "permission_denied"


class InternalError(ClocheError):
    """Raised when Cloche finds itself in a state that it should never be in."""
