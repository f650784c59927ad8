"""Write files beneath a directory, whatever is in it already.

Some facts about paths, and what follows from them:

- Inside a directory that others could write to, or that came out of an archive, a symbolic link
  may point anywhere.  A copy by root that follows it writes over files of the host.
- openat(2) with O_NOFOLLOW refuses a link, but only as the last part of a path.  So each part is
  opened by itself, relative to the file descriptor of the one before, and no path with a "/"
  in it is ever handed to the kernel.
- rename(2) replaces a link, it doesn't follow it, and replaces a file at once, so that nobody
  meets half a one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from contextlib import contextmanager, suppress

from cloche.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied
from cloche.rootfs.route import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

NEW = "new"
SAME = "same"
REPLACED = "replaced"

_TEMPORARY = ".cloche.new"
"""The name of a file or link until it is whole; a left one is swept away by the next copy."""

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CAPABILITY = "security.capability"


class Beneath:
    """A directory that is written to; a context manager that keeps other copies away.

    Raises InvalidArgument when it is the root directory of the machine, and NotFound or
    PermissionDenied when it can't be made.
    """

    def __init__(self, directory: str) -> None:
        if not directory:
            raise InvalidArgument("the directory to copy into has an empty name")
        self.directory = os.path.abspath(directory)
        try:
            os.makedirs(self.directory, exist_ok=True)
            self._fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError as error:
            raise PermissionDenied(f"{error.filename}: permission denied") from error
        except (FileExistsError, NotADirectoryError) as error:
            raise InvalidArgument(f"{error.filename}: not a directory") from error
        except OSError as error:
            reason = os.strerror(error.errno or errno.EIO).lower()
            raise NotFound(f"{error.filename}: {reason}") from error
        self._is_root = os.geteuid() == 0
        self.status = os.fstat(self._fd)
        if os.path.samestat(self.status, os.stat("/")):
            os.close(self._fd)
            raise InvalidArgument(
                f"{directory} is the root directory of this machine",
                hint="name a new directory, such as ./rootfs",
            )

    def __enter__(self) -> Beneath:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def put(self, stop: Stop) -> str:
        """Write what lies at ``stop.path`` on the host to the same path here.

        Returns NEW, REPLACED, or SAME for what was there already: any directory, a link to the
        same place, a file of the same size, mode, owner and modification time.

        Raises AlreadyExists where a directory and something else meet, and OSError.
        """
        parent, name = os.path.split(stop.path)
        with self._open(parent) as parent_fd:
            try:
                there = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
            except FileNotFoundError:
                there = None
            if there and stat.S_ISDIR(there.st_mode) != stop.is_directory:
                raise self._conflict(stop.path, there)
            if stop.is_directory:
                if there is None:
                    self._make_directory(parent_fd, name, stop.status)
                    return NEW
                return SAME
            if there and self._is_same(there, parent_fd, name, stop):
                return SAME
            with suppress(FileNotFoundError):
                os.unlink(_TEMPORARY, dir_fd=parent_fd)
            if stop.is_link:
                os.symlink(stop.target, _TEMPORARY, dir_fd=parent_fd)
            else:
                self._copy(parent_fd, stop)
            os.rename(_TEMPORARY, name, src_dir_fd=parent_fd, dst_dir_fd=parent_fd)
        return REPLACED if there else NEW

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        """Open a directory that is here, part by part; a link on the way is a conflict."""
        fd = os.dup(self._fd)
        try:
            for part in path.split("/"):
                if not part:
                    continue
                try:
                    deeper = os.open(part, _DIRECTORY, dir_fd=fd)
                except NotADirectoryError as error:
                    there = os.stat(part, dir_fd=fd, follow_symlinks=False)
                    raise self._conflict(path, there) from error
                os.close(fd)
                fd = deeper
            yield fd
        finally:
            os.close(fd)

    def _conflict(self, path: str, there: os.stat_result) -> AlreadyExists:
        if stat.S_ISLNK(there.st_mode):
            problem = "a symbolic link is in the way of a directory"
        elif stat.S_ISDIR(there.st_mode):
            problem = "a directory is in the way"
        else:
            problem = "a file is in the way of a directory"
        return AlreadyExists(
            f"{self.directory}{path}: {problem}",
            hint="what is there isn't laid out like this machine: name a new directory",
        )

    def _is_same(self, there: os.stat_result, parent_fd: int, name: str, stop: Stop) -> bool:
        if stop.is_link:
            return (
                stat.S_ISLNK(there.st_mode) and os.readlink(name, dir_fd=parent_fd) == stop.target
            )
        status = stop.status
        return (
            stat.S_ISREG(there.st_mode)
            and (there.st_size, there.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
            and stat.S_IMODE(there.st_mode) == self._mode(status)
            and (
                not self._is_root or (there.st_uid, there.st_gid) == (status.st_uid, status.st_gid)
            )
        )

    def _mode(self, status: os.stat_result) -> int:
        """Return the permissions of a copy: a set-user-ID bit only goes with the same owner."""
        return stat.S_IMODE(status.st_mode) & (0o7777 if self._is_root else 0o1777)

    def _make_directory(self, parent_fd: int, name: str, status: os.stat_result) -> None:
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        fd = os.open(name, os.O_RDONLY | _DIRECTORY & ~os.O_PATH, dir_fd=parent_fd)
        try:
            if self._is_root:
                os.fchown(fd, status.st_uid, status.st_gid)
            # A directory that its owner can't write to couldn't be filled by an ordinary user.
            os.fchmod(fd, self._mode(status) | (0 if self._is_root else 0o700))
        finally:
            os.close(fd)

    def _copy(self, parent_fd: int, stop: Stop) -> None:
        source = os.open(stop.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(source)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            dest = os.open(_TEMPORARY, flags, 0o600, dir_fd=parent_fd)
            try:
                _copy_bytes(source, dest, status.st_size)
                if self._is_root:
                    os.fchown(dest, status.st_uid, status.st_gid)
                    _copy_capabilities(source, dest)
                os.fchmod(dest, self._mode(status))
                os.utime(dest, ns=(status.st_atime_ns, status.st_mtime_ns))
                os.fsync(dest)
            finally:
                os.close(dest)
        finally:
            os.close(source)


def _copy_bytes(source: int, dest: int, size: int) -> None:
    """Copy a file by copy_file_range(2), which shares the blocks where the file system can."""
    copied = 0
    with suppress(OSError):  # EXDEV, EINVAL, EOPNOTSUPP ... : not between these file systems
        while count := os.copy_file_range(source, dest, max(size - copied, 1 << 20)):
            copied += count
    # The file offsets moved along, so this goes on where that ended.
    while data := os.read(source, 1 << 20):
        while data:
            data = data[os.write(dest, data) :]


def _copy_capabilities(source: int, dest: int) -> None:
    """Copy the file capabilities; capabilities(7)."""
    try:
        value = os.getxattr(source, _CAPABILITY)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP):
            return
        raise
    os.setxattr(dest, _CAPABILITY, value)
