"""What one launch adds to a runtime spec: facts that config.json has no place for."""

from __future__ import annotations

from typing import NamedTuple

from cloche.plan.steps import STDIO_INHERIT


class Launch(NamedTuple):
    """How this one container is to be started, beside what its spec says."""

    id: str
    """The container's id, which names its directory and its cgroups."""
    state: str
    """The directory of all runtime state; containers live in ``<state>/containers/<id>``."""
    name: str = ""
    """A name to be taken for as long as the container lives, or empty."""
    files: tuple[tuple[str, bytes], ...] = ()
    """Files to make in the container's directory, which mounts of the spec may use as sources."""
    stdio: tuple[int, int, int] = (STDIO_INHERIT, STDIO_INHERIT, STDIO_INHERIT)
    """``STDIO_*`` of standard input, output and error."""
    timeout_ms: int = 0
    """Kill the container after so many milliseconds; 0 for never."""
    seccomp: bytes = b""
    """The compiled system call filter of the spec; empty for none."""
    seccomp_flags: int = 0
    """``SECCOMP_FILTER_FLAG_*``."""

    @property
    def directory(self) -> str:
        """The container's own directory, gone when the container is."""
        return f"{self.state}/containers/{self.id}"
