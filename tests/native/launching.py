"""Start the launcher on small plans without a root of their own, and look at what it records."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any, NamedTuple, TypeAlias

from cloche.errors import InternalError
from cloche.kernel import flags
from cloche.plan import steps, wire
from cloche.plan.steps import Plan, Step
from cloche.runtime import launcher, records
from cloche.runtime.records import Records

WHY = "for a test"
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
NO_OPTIONS = wire.Options()
TIMEOUT = 30.0

Stream: TypeAlias = int | IO[bytes]


class Result(NamedTuple):
    """How a launcher ended."""

    code: int
    stdout: str
    stderr: str
    records: Records


class Launch:
    """A launcher that runs."""

    def __init__(
        self,
        plan: Sequence[Step],
        options: wire.Options = NO_OPTIONS,
        *,
        streams: tuple[Stream, Stream, Stream] = (
            subprocess.DEVNULL,
            subprocess.PIPE,
            subprocess.PIPE,
        ),
        wrapper: Sequence[str] = (),
        uid: int | None = None,
        env: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """Start it; ``wrapper`` is a command that execs what stands after it."""
        data = wire.encode(Plan(tuple(plan)), options)
        plan_fd = sealed(data)
        self._records = os.memfd_create("records", os.MFD_CLOEXEC)
        os.fchmod(self._records, 0o666)
        os.ftruncate(self._records, records.size(len(plan)))
        self.process = subprocess.Popen(
            [*wrapper, launcher.path(), str(plan_fd), str(self._records)],
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            pass_fds=(plan_fd, self._records),
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
            env=env,
            **more,
        )
        os.close(plan_fd)

    def signal(self, number: int) -> None:
        """Send the launcher a signal."""
        self.process.send_signal(number)

    def look(self) -> Records:
        """Return what has been recorded so far."""
        return records.read(self._records)

    def until(self, progress: int) -> Records:
        """Wait until it has come so far, and return what has been recorded by then."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end and self.process.poll() is None:
            with contextlib.suppress(InternalError):  # it hasn't begun to write
                found = self.look()
                if found.progress >= progress:
                    return found
            time.sleep(0.001)
        self.process.kill()
        raise AssertionError(f"the launcher hasn't come to {progress}: {self.wait()}")

    def wait(self, stdin: bytes | None = None) -> Result:
        """Wait for its end, feeding its standard input if that is a pipe."""
        try:
            stdout, stderr = self.process.communicate(stdin, timeout=TIMEOUT)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        result = Result(
            self.process.returncode,
            (stdout or b"").decode(errors="replace"),
            (stderr or b"").decode(errors="replace"),
            self.look(),
        )
        self.forget()
        return result

    def forget(self) -> None:
        """Close the records of a launcher that has ended, if they aren't wanted."""
        os.close(self._records)


def launch(plan: Sequence[Step], options: wire.Options = NO_OPTIONS, **more: Any) -> Result:
    """Run the launcher to its end."""
    return Launch(plan, options, **more).wait()


def sealed(data: bytes, seals: int = SEALS) -> int:
    """Return a memfd that holds a plan's wire form."""
    fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.fchmod(fd, 0o666)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def run(*argv: str, env: tuple[str, ...] = ()) -> Step:
    """Return the step that becomes a program."""
    return steps.exec((argv[0],), argv, env or ("PATH=/usr/bin:/bin",), why=WHY)


def shell(script: str) -> Step:
    """Return the step that becomes a shell with a script."""
    return run("/bin/sh", "-c", script)


JOINED_SLOT = 9


def opened(pid: int) -> Step:
    """Return the step that opens a process, for ``simple(joined_kinds=...)`` or ``join``."""
    with open(f"/proc/{pid}/stat") as file:
        start_time = int(file.read().rpartition(")")[2].split()[19])
    return steps.open_process(JOINED_SLOT, pid, start_time, why=WHY)


def simple(
    program: Step,
    *inside: Step,
    before: Sequence[Step] = (),
    kinds: int = flags.CLONE_NEWPID,
    joined_kinds: int = 0,
    stdio: tuple[int, int, int] = (steps.STDIO_INHERIT,) * 3,
    timeout_ms: int = 0,
    proxy_signals: bool = True,
) -> list[Step]:
    """Return a plan that spawns, takes some steps inside and becomes a program."""
    supervise = steps.supervise(timeout_ms=timeout_ms, proxy_signals=proxy_signals, why=WHY)
    return [
        steps.stdio(*stdio, why=WHY),
        *before,
        steps.spawn(
            kinds,
            joined=JOINED_SLOT if joined_kinds else steps.NO_SLOT,
            joined_kinds=joined_kinds,
            why=WHY,
        ),
        steps.adopt_stdio(why=WHY),
        *inside,
        program,
        supervise,
    ]
