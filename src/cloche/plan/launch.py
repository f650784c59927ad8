"""What one launch adds to a runtime spec: facts that config.json has no place for."""

from __future__ import annotations

from cloche.plan.steps import STDIO_INHERIT
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloche.kernel.resctrl import Resctrl


class Lifecycle(Record):
    """How other commands manage a container: what an OCI runtime adds to a start.

    The container's directory stays as long as it is known.  With a gate the launcher leaves when
    the container is built; without one it stays in the foreground, or leaves when the program
    runs.
    """

    bundle: str = ""
    """The bundle's directory, absolute; hooks outside run there."""
    gate: bool = False
    """Whether the program waits for a start command."""
    foreground: bool = False
    keep: bool = False
    """In the foreground: whether the container stays, stopped, when its process has ended."""
    pid_file: str = ""
    console_socket: str = ""
    pidfd_socket: str = ""
    preserve_fds: int = 0
    """How many file descriptors after the standard streams the program gets."""


class Launch(Record):
    """How this one container is to be started, beside what its spec says."""

    id: str
    """The container's id, which names its directory and its cgroups."""
    directory: str
    """The container's own directory, which nothing else uses."""
    names: str = ""
    """The directory of the names in use, a link for each."""
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
    first_pid: int = 0
    """The container's first process, where this one is added to it."""
    resctrl: Resctrl | None = None
    """What there is of resctrl; looked up where the spec has ``intelRdt``."""
    no_new_keyring: bool = False
    """Leave the process in the session keyring of its starter."""

    no_pivot: bool = False
    """Enter the root without pivot_root, as on a machine that runs from its initramfs.

    What has CAP_SYS_ADMIN in the container can then get back to the host's root.
    """
    lifecycle: Lifecycle | None = None
    """None: the container lives and dies with its launcher, and no other command knows it."""

    adopted: bool = False
    """Whether the groups were made for the container, by systemd; the plan then makes none."""
    placeholder: int = 0
    """The pid of a child of the launcher that is in them until the container is; 0 where the
    launcher is itself."""

    @property
    def complete(self) -> bool:
        """Whether its cgroups are those of an OCI runtime, ``limits.build_complete``."""
        return self.lifecycle is not None

    @property
    def records(self) -> str:
        """The file in which other commands find what the launcher has recorded."""
        return f"{self.directory}/records"

    @property
    def plan(self) -> str:
        """The file that holds the plan, in its wire form."""
        return f"{self.directory}/plan"

    @property
    def gate(self) -> str:
        """The FIFO that a created container waits at."""
        return f"{self.directory}/gate"
