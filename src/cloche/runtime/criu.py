"""Talk with criu(8), which takes checkpoints and restores them.

``criu swrk FD`` reads a request from a socket and answers there.  Its command line can do nearly
the same, but can't hand out the terminal of a container that is restored.  Messages are in the
encoding of protocol buffers; the numbers of their fields are those of criu's ``images/rpc.proto``.
"""

from __future__ import annotations

import os
import socket

from cloche.errors import MissingDependency, Unavailable
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "criu"
DUMP = 1
RESTORE = 2
PRE_DUMP = 4
NOTIFY = 6
"""Types of requests and responses."""

OPTIONS = {
    "images_dir_fd": 1,
    "pid": 2,
    "leave_running": 3,
    "ext_unix_sk": 4,
    "tcp_established": 5,
    "evasive_devices": 6,
    "shell_job": 7,
    "file_locks": 8,
    "log_level": 9,
    "log_file": 10,
    "ps": 11,
    "notify_scripts": 12,
    "root": 13,
    "parent_img": 14,
    "track_mem": 15,
    "auto_dedup": 16,
    "work_dir_fd": 17,
    "link_remap": 18,
    "ext_mnt": 23,
    "rst_sibling": 26,
    "inherit_fd": 27,
    "manage_cgroups_mode": 34,
    "external": 37,
    "empty_ns": 38,
    "join_ns": 39,
    "freeze_cgroup": 44,
    "tcp_skip_in_flight": 46,
    "lazy_pages": 48,
    "orphan_pts_master": 50,
    "config_file": 51,
    "tcp_close": 52,
    "lsm_profile": 53,
    "lsm_mount_context": 63,
}
"""The fields of ``criu_opts`` that are used here."""

CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
_LOG_LEVEL = 4
_TOLD_LINES = 3
_UNTOLD = (
    "Dumping FAILED.",
    "Pre-dumping FAILED.",
    "Restoring FAILED.",
    # It goes on without; the second is from a look at what the kernel can do, in a cgroup that
    # denies the device.
    "rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted",
    "tun: Unable to create tun: Operation not permitted",
    # What follows from an end.
    "cg: cgroupd: recv req error: No such file or directory",
)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def program() -> str:
    """Return criu's path.

    Raises MissingDependency when it isn't there.
    """
    import shutil

    found = shutil.which(NAME, path=search_path())
    if found is None:
        raise MissingDependency(
            "the program criu isn't installed, and it is what takes and restores checkpoints",
            hint="install the package criu; then see: criu check",
        )
    return os.path.abspath(found)


def search_path() -> str:
    """Return where criu and the programs that it runs are looked for."""
    return os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"


# --- messages ------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """Encode a number: 7 bits in each byte, the lowest first, with a flag that more follow."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def field(number: int, value: int | str | bytes) -> bytes:
    """Encode one field of a message; bytes may be a message of their own."""
    if isinstance(value, int):
        return varint(number << 3 | _VARINT) + varint(value)
    data = os.fsencode(value) if isinstance(value, str) else value
    return varint(number << 3 | _BYTES) + varint(len(data)) + data


def pair(first: int | str, second: int | str) -> bytes:
    """Encode a message of two fields, numbered 1 and 2."""
    return field(1, first) + field(2, second)


class Options:
    """A ``criu_opts`` that grows."""

    def __init__(self, log_file: str) -> None:
        self.encoded = b""
        self.add("log_level", _LOG_LEVEL)
        self.add("log_file", log_file)
        self.add("notify_scripts", 1)

    def add(self, name: str, value: int | str | bytes) -> None:
        """Add a field; more than one of a name make a list."""
        self.encoded += field(OPTIONS[name], value)


def fields(message: bytes) -> dict[int, int | bytes]:
    """Decode a message's fields by number; of several with a number the last counts.

    Raises ValueError when it is none.
    """
    found: dict[int, int | bytes] = {}
    at = 0
    while at < len(message):
        tag, at = _take_varint(message, at)
        if tag & 7 == _VARINT:
            found[tag >> 3], at = _take_varint(message, at)
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(tag & 7, 0)
        if tag & 7 == _BYTES:
            size, at = _take_varint(message, at)
        if (not size and tag & 7 != _BYTES) or at + size > len(message):
            raise ValueError("not a message")
        found[tag >> 3] = message[at : at + size]
        at += size
    return found


def _take_varint(message: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(message):
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, at
    raise ValueError("not a message")


class Response(Record):
    """What criu answers."""

    type: int
    success: bool
    notice: str
    """The moment that it tells of: it waits then."""
    message: str
    """What went wrong first."""


def response(message: bytes) -> Response:
    """Decode a response.

    Raises ValueError when it is none.
    """
    found = fields(message)
    notice = found.get(5, b"")
    script = fields(notice).get(1, b"") if isinstance(notice, bytes) else b""
    kind = found.get(1, 0)
    return Response(
        kind if isinstance(kind, int) else 0, found.get(2) == 1, _text(script), _text(found.get(9))
    )


def _text(value: int | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else ""


# --- a checkpoint --------------------------------------------------------------------------------


def dump(kind: int, options: Options, log: str, on_notice: Callable[[str], None]) -> None:
    """Have criu carry out a request of the type ``DUMP`` or ``PRE_DUMP``.

    ``log`` is the path of the log that it writes.  Raises MissingDependency, or Unavailable with
    criu's own words.
    """
    import subprocess

    path = program()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        process = subprocess.Popen(
            [path, "swrk", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            env=dict(os.environ, PATH=search_path()),
        )
        theirs.close()
        try:
            ours.sendall(field(1, kind) + field(2, options.encoded))
            last = _converse(ours, on_notice)
        finally:
            # After a pre-dump it waits for further requests, until its socket is closed.
            ours.close()
            code = process.wait()
    if last is None:
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        raise Unavailable(complaint(log, f"it ended with {how}"))
    if not last.success:
        raise Unavailable(complaint(log, last.message or "it failed"))


def _converse(connection: socket.socket, on_notice: Callable[[str], None]) -> Response | None:
    """Acknowledge notices until the response comes, or the end."""
    while True:
        try:
            data = connection.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            return None
        found = response(data)
        if found.type != NOTIFY or not found.success:
            return found
        on_notice(found.notice)
        connection.sendall(field(1, NOTIFY) + field(3, 1))


def complaint(log: str, said: str) -> str:
    """Return what criu complains of: the last errors in its log, or what it said otherwise."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            errors = [_error(line) for line in file if " Error (" in line]
    except OSError:
        return f"criu: {said}"
    told = [error for error in errors if error and error not in _UNTOLD][-_TOLD_LINES:]
    return f"criu: {'; '.join(told) or said} (log: {log})"


def _error(line: str) -> str:
    """Return the text of an error's line: ``(time) PID: Error (file:line): text``."""
    return line.partition(" Error (")[2].partition("): ")[2].strip()
