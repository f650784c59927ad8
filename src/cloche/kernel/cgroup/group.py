"""A container's cgroup at run time: its processes, freezing, killing, figures, removal.

One container has a group in each of several hierarchies on v1, or a single one on v2, or both
on a hybrid machine.  ``Group`` hides that: for each question it asks the hierarchy that can
answer, through the driver of that hierarchy's version (``v1`` or ``v2``).
"""

from __future__ import annotations

import errno
import os
import time

from cloche.errors import ControllerUnavailable, NotFound, Unavailable
from cloche.kernel.cgroup import v1, v2
from cloche.kernel.cgroup.files import read, read_number, write
from cloche.kernel.cgroup.layout import Hierarchy, Layout
from cloche.kernel.cgroup.statistics import Limits, Statistics

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeVar

    _Figure = TypeVar("_Figure")
    _Number = TypeVar("_Number", int, float)

PATIENCE = 10.0
"""Seconds to wait for processes to stop or end."""


class Group:
    """The groups of one container.

    ``path`` is as in the engine's ``cgroupsPath``, or ``directories`` are where they are.
    Raises NotFound when it has none.
    """

    def __init__(self, layout: Layout, path: str, directories: Sequence[str] = ()) -> None:
        self._found: list[tuple[Hierarchy, str]] = []
        for hierarchy in layout.hierarchies:
            inside = [place for place in directories if place.startswith(f"{hierarchy.mount}/")]
            directory = inside[0] if inside else "" if directories else hierarchy.directory(path)
            if hierarchy.base and directory and os.path.isdir(directory):
                self._found.append((hierarchy, directory))
        if not self._found:
            raise NotFound(f"there is no cgroup {path}")
        self._path = path
        self._unified = self._first(lambda hierarchy: hierarchy.version == 2)

    @property
    def directories(self) -> list[str]:
        """The group's directory in each hierarchy that it is in."""
        return [directory for _, directory in self._found]

    @property
    def unified(self) -> str:
        """The group's directory in the v2 hierarchy, or ""."""
        return self._unified

    @property
    def joined(self) -> tuple[str, ...]:
        """The group's directories in hierarchies of v1, which processes move into."""
        return tuple(place for hierarchy, place in self._found if hierarchy.version == 1)

    def processes(self) -> list[int]:
        """Return the pids of all processes, those of groups made by the container too.

        One that the caller's pid namespace doesn't have is left out.
        """
        return v1.processes(self._home())

    def signal(self, number: int) -> None:
        """Send a signal to all processes; those that are born meanwhile don't get it."""
        v1.send(self._home(), number)

    def freeze(self, timeout: float = PATIENCE) -> None:
        """Stop all processes, and wait up to ``timeout`` seconds until they stand still.

        Raises Unavailable when they don't (they go on then), ControllerUnavailable where
        groups can't be frozen.
        """
        if self._unified:
            v2.freeze(self._unified, timeout)
        else:
            v1.freeze(self._freezer(), timeout)

    def thaw(self) -> None:
        """Let frozen processes go on; does nothing if they aren't frozen.

        Raises ControllerUnavailable where groups can't be frozen.
        """
        with _UnlessGone():
            if self._unified:
                v2.thaw(self._unified)
            else:
                v1.thaw(self._freezer())

    def is_frozen(self) -> bool:
        """Whether the processes have been told to stand still."""
        with _UnlessGone():
            if self._unified:
                return read(f"{self._unified}/cgroup.freeze") == "1"
            freezer = self.place("freezer")
            return bool(freezer) and read(f"{freezer}/freezer.state") != "THAWED"
        return False

    def kill(self, timeout: float = PATIENCE) -> None:
        """Kill all processes, frozen or not, and wait up to ``timeout`` seconds for their end.

        Raises Unavailable when they don't end.
        """
        with _UnlessGone():
            if self._unified:
                v2.kill(self._unified, timeout)
            else:
                self._kill_on_v1(timeout)

    def _kill_on_v1(self, timeout: float) -> None:
        if self.place("freezer"):
            self.thaw()  # a frozen task of v1 doesn't take note of the signal
        pids = self.place("pids")
        if not pids:
            v1.kill(self._home(), timeout)
            return
        # Without this a fork bomb could be faster than a loop over the processes.
        limit = read(f"{pids}/pids.max")
        write(f"{pids}/pids.max", "0")
        try:
            v1.kill(self._home(), timeout)
        finally:
            write(f"{pids}/pids.max", limit)

    def statistics(self) -> Statistics:
        """Return what the container uses and has used."""
        cpu = None
        if self.place("cpuacct"):
            cpu = v1.cpu(self.place("cpu"), self.place("cpuacct"))
        elif self._unified:
            cpu = v2.cpu(self._unified)
        return Statistics(
            cpu,
            self._figure("memory", "memory.events", v1.memory, v2.memory),
            self._figure("pids", "pids.current", v1.pids, v2.pids),
            self._figure("io", "io.stat", v1.io, v2.io),
        )

    def limits(self) -> Limits:
        """Return the limits in effect, read back from the kernel."""
        chosen = self._figure("cpuset", "cpuset.cpus.effective", v1.cpuset, v2.cpuset)
        return Limits(
            memory=_least(self._chain("memory", v1.memory_limit, v2.memory_limit)),
            swap=_least(self._chain("memory", v1.swap_limit, v2.swap_limit)),
            cpus=_least(self._chain("cpu", v1.cpu_limit, v2.cpu_limit)),
            cpuset=chosen or "",
            pids=_least(self._chain("pids", _pids_limit, _pids_limit)),
        )

    def remove(self, timeout: float = PATIENCE) -> None:
        """Remove the groups, and those beneath them that the container made.

        Raises Unavailable when there still are processes in one after ``timeout`` seconds.
        """
        deadline = time.monotonic() + timeout
        if self._unified:
            with _UnlessGone():
                v2.wait_for(self._unified, "populated", 0, timeout)
        for _, directory in self._found:
            for inner, _, _ in os.walk(directory, topdown=False):
                _remove(inner, deadline)

    def _first(self, fits: Callable[[Hierarchy], bool]) -> str:
        for hierarchy, directory in self._found:
            if fits(hierarchy):
                return directory
        return ""

    def place(self, controller: str) -> str:
        """Return the group's directory in the hierarchy of a controller, or ""."""
        return self._first(lambda hierarchy: hierarchy.has(controller))

    def _home(self) -> str:
        """Return a directory that lists the container's processes: any will do."""
        return self._unified or self._found[0][1]

    def _freezer(self) -> str:
        freezer = self.place("freezer")
        if not freezer:
            raise ControllerUnavailable(
                "freezer",
                f"{self._path} has no group in it",
                hint="mount the freezer of v1, or a v2 hierarchy, then start the container anew",
            )
        return freezer

    def _figure(
        self,
        controller: str,
        file: str,
        one: Callable[[str], _Figure],
        two: Callable[[str], _Figure],
    ) -> _Figure | None:
        """Ask the driver of a controller's hierarchy; None if the group doesn't have it.

        On v2 a group has a controller only if the group above passes it on: ``file`` is there.
        """
        for hierarchy, directory in self._found:
            if hierarchy.has(controller):
                if hierarchy.version == 1:
                    return one(directory)
                return two(directory) if os.path.exists(f"{directory}/{file}") else None
        return None

    def _chain(
        self,
        controller: str,
        one: Callable[[str], _Figure],
        two: Callable[[str], _Figure],
    ) -> list[_Figure]:
        """Ask the driver about the group and about each group above it, below the root."""
        for hierarchy, directory in self._found:
            if hierarchy.has(controller):
                ask = one if hierarchy.version == 1 else two
                place, answers = directory, []
                while len(place) > len(hierarchy.mount):
                    answers.append(ask(place))
                    place = os.path.dirname(place)
                return answers
        return []


class _UnlessGone:
    """Takes the end of a group for success.

    Whoever made it may remove it as soon as its last process is gone: its launcher, or systemd.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENODEV)


def _pids_limit(directory: str) -> int | None:
    return read_number(f"{directory}/pids.max")


def _least(limits: Iterable[_Number | None]) -> _Number | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _remove(directory: str, deadline: float) -> None:
    """Remove a group.

    A process counts until it is off the processor for the last time, which may be a moment
    after its pidfd has told of its end (and where v1 has no event): rmdir says EBUSY until then.
    """
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"cgroup {directory} can't be removed",
                    hint="kill the processes in it first",
                ) from error
            os.sched_yield()
