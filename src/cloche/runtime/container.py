"""A container as the commands of the runtime find it: a directory of files.

::

    <root>/<id>/        locked by whoever changes the container
        state.json      what the create command knew: bundle, time, cgroups
        config.json     the spec, checked, with its paths made absolute
        records         what the launcher has learned: process, progress, failure
        plan            the steps that built it
        gate            the FIFO at which a created container waits

Its status isn't written anywhere; it follows from the records and from the process:

=========  ===========  =====================================================================
status     process      records
=========  ===========  =====================================================================
creating   any          not CREATED yet, and the launcher holds the lock
created    lives        CREATED: it waits at its gate
running    lives        STARTED
paused     lives        either of them, and the cgroup is frozen
stopped    is gone      any
=========  ===========  =====================================================================

What each command may be done to, and where it leads:

=======  =========================  ==========================
command  from                       to
=======  =========================  ==========================
start    created                    running
kill     created running paused     the same, or stopped
pause    created running            paused
resume   paused                     created or running
exec     created running            the same
delete   stopped created            gone (any, with ``--force``)
=======  =========================  ==========================
"""

from __future__ import annotations

import fcntl
import os
import stat

from cloche.errors import (
    ClocheError,
    ContainerNotFound,
    InternalError,
    InvalidSpec,
    NotFound,
    PermissionDenied,
    Unavailable,
    WrongState,
)
from cloche.kernel import signals
from cloche.oci.identifier import check_id
from cloche.record import Record
from cloche.runtime import records

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloche.kernel.cgroup.group import Group
    from cloche.oci.spec import Spec
    from cloche.runtime.systemd.scope import Scope

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"

ALLOWED = {
    "start": (CREATED,),
    "kill": (CREATED, RUNNING, PAUSED),
    "pause": (CREATED, RUNNING),
    "resume": (PAUSED,),
    "exec": (CREATED, RUNNING),
    "update": (CREATED, RUNNING, PAUSED),
    "delete": (STOPPED, CREATED),
    "checkpoint": (RUNNING, PAUSED),
}
"""The states in which each command can be carried out."""

STATE_FILE = "state.json"
STATE_KEYS = ("bundle", "rootfs", "created", "ociVersion", "annotations", "cgroups", "noNewKeyring")
CONFIG_FILE = "config.json"


class Process(Record):
    """A container's first process, told from a later one with its pid by when it started."""

    pid: int
    start_time: int

    def is_alive(self) -> bool:
        """Whether it runs; one that has ended and wasn't waited for doesn't.

        A process looks like such a one, too, when its first thread has ended and others go on.
        """
        found = _stat(self.pid)
        if found is None or found.start_time != self.start_time:
            return False
        return found.state not in "ZX" or found.threads > 1


def require_program(spec: Spec) -> None:
    """Raise InvalidSpec for a spec without a process."""
    if not spec["process"].get("args"):
        raise InvalidSpec("/process", "is missing but must be there: there is no program to run")


class Container:
    """One container of a root directory of the runtime's.

    Raises ContainerNotFound when there is none, InvalidArgument for an id that can't be one,
    PermissionDenied for one of another user: its files say which processes get signals, and which
    hooks are run.
    """

    def __init__(self, root: str, id: str) -> None:
        self.id = check_id(id)
        self.directory = f"{root}/{id}"
        try:
            status = os.lstat(self.directory)
        except (FileNotFoundError, NotADirectoryError):
            raise ContainerNotFound(id) from None
        if not stat.S_ISDIR(status.st_mode):  # a link could lead anywhere
            raise ContainerNotFound(id)
        if status.st_uid != os.geteuid():
            raise PermissionDenied(
                f"container {id} belongs to another user (uid {status.st_uid})",
                hint="use the runtime as that user",
            )

    def lock(self) -> None:
        """Wait until no other command works on it, and keep others out until this one ends.

        Raises ContainerNotFound when it has been deleted meanwhile.
        """
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), os.stat(self.directory)):
                return  # never closed: the lock lasts as long as the process
        except FileNotFoundError:
            pass
        raise ContainerNotFound(self.id)

    def state(self) -> dict[str, Any]:
        """Return what the create command has kept.

        Raises ContainerNotFound when it didn't come so far.
        """
        return self._read(STATE_FILE, STATE_KEYS)

    def spec(self) -> Spec:
        """Return the spec that it was made from, with absolute paths."""
        document: Spec = self._read(CONFIG_FILE, ("ociVersion", "process", "root", "linux"))  # type: ignore[assignment]
        return document

    def records(self) -> records.Records | None:
        """Return what its launcher has recorded; None when there is nothing yet.

        Raises Unavailable when it is nothing that a launcher has written.
        """
        try:
            fd = os.open(f"{self.directory}/records", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return records.read(fd) if os.fstat(fd).st_size >= records.FIXED_SIZE else None
        except InternalError as error:
            raise self._damaged("records") from error
        finally:
            os.close(fd)

    def process(self) -> Process | None:
        """Return its first process, dead or alive; None when none was made."""
        found = self.records()
        return Process(found.pid, found.start_time) if found and found.pid > 0 else None

    def group(self) -> Group | None:
        """Return its cgroup; None if it has none any more."""
        from cloche.kernel.cgroup import layout
        from cloche.kernel.cgroup.group import Group

        try:
            places = self._places()
            return Group(layout.detect(), f"of container {self.id}", places) if places else None
        except NotFound:
            return None

    def _places(self) -> list[str]:
        """Return where its cgroups are: as it was kept, or else as its plan has made them."""
        try:
            places: list[str] = self.state()["cgroups"]
            return places
        except ClocheError:
            pass
        from cloche.plan import wire

        try:
            with open(f"{self.directory}/plan", "rb") as file:
                plan, _ = wire.decode(file.read())
        except (FileNotFoundError, ClocheError):
            return []
        made = [step for step in plan.steps if step.operation.name == "cgroup_create"]
        return [str(step.argument("path")) for step in made]

    def scope(self) -> Scope:
        """Return the scope that systemd has made for it; one without a name if it hasn't."""
        from cloche.runtime.systemd.scope import Scope

        state = self.state()
        return Scope(state.get("unit", ""), state.get("userUnit", False))

    def status(self) -> str:
        """Return its status, one of the table above."""
        found = self.records()
        if found is None or found.progress in (records.PLANNED, records.SPAWNED):
            return CREATING if self._is_locked() else STOPPED
        if not Process(found.pid, found.start_time).is_alive():
            return STOPPED
        group = self.group()
        if group is not None and group.is_frozen():
            return PAUSED
        return CREATED if found.progress == records.CREATED else RUNNING

    def require(self, command: str) -> str:
        """Return the status, if it allows a command.

        Raises WrongState otherwise.
        """
        status = self.status()
        if status not in ALLOWED[command]:
            raise WrongState(f"cannot {command} container {self.id}: it is {status}")
        return status

    def pidfd(self) -> int:
        """Return a pidfd of its first process.

        Raises WrongState when that has ended.
        """
        process = self.process()
        if process is not None:
            try:
                fd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                pass
            else:
                if process.is_alive():  # looked at after it was opened: it is this one's
                    return fd
                os.close(fd)
        raise WrongState(f"container {self.id} is not running")

    def signal(self, number: int) -> None:
        """Send its first process a signal.

        Raises WrongState when that has ended.
        """
        fd = self.pidfd()
        try:
            signals.send(fd, number)
        except ProcessLookupError as error:
            raise WrongState(f"container {self.id} is not running") from error
        finally:
            os.close(fd)

    def _read(self, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
        from cloche import json

        try:
            with open(f"{self.directory}/{name}", "rb") as file:
                document = json.loads(file.read())
        except (FileNotFoundError, ValueError) as error:
            raise ContainerNotFound(self.id) from error
        if not isinstance(document, dict) or not document.keys() >= set(keys):
            raise self._damaged(name)
        return document

    def _damaged(self, name: str) -> ClocheError:
        return Unavailable(
            f"container {self.id}: its file {name} is damaged",
            hint="remove what is left of it: delete --force",
        )

    def _is_locked(self) -> bool:
        try:
            fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False


class _Stat(Record):
    state: str
    threads: int
    start_time: int


def _stat(pid: int) -> _Stat | None:
    """Return fields 3, 20 and 22 of a process's proc_pid_stat(5); None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The second field is a name in parentheses, which may hold anything.
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return _Stat(fields[0].decode(), int(fields[17]), int(fields[19]))
