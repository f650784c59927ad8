"""Clean up after launchers that were killed.

A launcher removes what it made, but not when it is killed with SIGKILL.  Each container's
directory is locked for as long as its launcher lives, so a directory whose lock is free belongs
to nobody, and whoever comes next may take away what is left: processes, cgroups, files, the name.

Who may do what, while several commands start, end and clean up at once:

- Only the holder of the lock on a directory removes anything of it, and only while the directory
  still has its path.  So it is removed once, by one.
- The child holds the same lock until it becomes the program, so that nothing is taken from beneath
  a child that is about to die with its launcher.
- A launcher may find its directory gone between mkdir(2) and flock(2); it makes it anew then.
- Names are freed under one more lock, on the directory of all containers.  A command that has
  waited for it finds free what a dead container had, whoever is still busy with the rest.
- A healer may be killed too: it removes last what the next one needs to go on.
"""

from __future__ import annotations

import fcntl
import os

from cloche.errors import NotFound, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from cloche.kernel.cgroup.layout import Layout

_PATIENCE = 1.0
"""Seconds to wait for the end of killed processes.  A later command tries again."""

CGROUP_FILE = "cgroup"
"""The file in a container's directory that holds the path of its cgroup."""


def heal(state: str, layout: Layout) -> list[str]:
    """Remove what dead launchers left, and return the ids of their containers.

    What can't be removed (another user's, or a process that doesn't end) stays, and is tried
    again next time.
    """
    directory = f"{state}/containers"
    try:
        containers = _open(directory)
    except FileNotFoundError:
        return []
    dead = {}
    try:
        fcntl.flock(containers, fcntl.LOCK_EX)
        for id in os.listdir(containers):
            fd = _claim(f"{directory}/{id}")
            if fd >= 0:
                dead[id] = fd
        if dead:
            _forget_names(f"{state}/names", dead)
        fcntl.flock(containers, fcntl.LOCK_UN)
        return [id for id, fd in dead.items() if _remove(f"{directory}/{id}", fd, layout)]
    finally:
        for fd in (containers, *dead.values()):
            os.close(fd)


def _open(directory: str) -> int:
    return os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _claim(directory: str) -> int:
    """Lock the directory of a dead launcher; return its file descriptor, or -1 if it is none."""
    try:
        fd = _open(directory)
    except OSError:  # gone meanwhile, or not ours
        return -1
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(fd), os.stat(directory)):
            return fd
    except OSError:  # its launcher lives, or has just removed it
        pass
    os.close(fd)
    return -1


def _forget_names(names: str, ids: Container[str]) -> None:
    try:
        entries = os.listdir(names)
    except FileNotFoundError:
        return
    for name in entries:
        try:
            if os.path.basename(os.readlink(f"{names}/{name}")) in ids:
                os.unlink(f"{names}/{name}")
        except OSError:  # a launcher has just removed it
            continue


def _remove(directory: str, fd: int, layout: Layout) -> bool:
    """Remove what is left of a dead launcher's container; return whether all of it is gone."""
    try:
        id = os.path.basename(directory)
        path = _read(CGROUP_FILE, fd)
        # Half a path, from a launcher that was killed as it wrote, is that of all containers.
        is_own = os.path.basename(path) == id and ".." not in path.split("/")
        if not (is_own and _remove_cgroup(path, layout)):
            _kill_users(id)
        for name in sorted(os.listdir(fd), key=lambda name: name == CGROUP_FILE):
            try:
                os.unlink(name, dir_fd=fd)
            except IsADirectoryError:
                os.rmdir(name, dir_fd=fd)
        os.rmdir(directory)
    except (OSError, Unavailable):
        return False
    return True


def _remove_cgroup(path: str, layout: Layout) -> bool:
    """Kill what runs in a container's cgroup and remove it; return whether there was one."""
    from cloche.kernel.cgroup.group import Group

    try:
        group = Group(layout, path)
    except NotFound:  # its launcher was killed before it had made it, or after it had removed it
        return False
    group.kill(_PATIENCE)
    group.remove(_PATIENCE)
    return True


def _kill_users(id: str) -> None:
    """Kill the processes of a container that no cgroup holds together.

    Mostly there are none: the kernel kills the program with its launcher.  But a program may wish
    that away (PR_SET_PDEATHSIG), and running a set-user-ID program does.  The container's files
    tell: its /etc/hosts and the like are mounts of files in a directory that is named for its id,
    and no process outside has such a mount.

    Raises Unavailable when one doesn't end in time.
    """
    import select

    from cloche.kernel import signals

    while pidfds := _users(f"/containers/{id}/".encode()):
        poll = select.poll()
        try:
            for pidfd in pidfds:
                signals.send(pidfd, signals.SIGKILL)
                poll.register(pidfd, select.POLLIN)
            if not poll.poll(_PATIENCE * 1000):
                raise Unavailable(f"processes of container {id[:12]} don't end")
        except ProcessLookupError:
            pass  # it ended by itself
        finally:
            for pidfd in pidfds:
                os.close(pidfd)


def _users(path: bytes) -> list[int]:
    """Return a pidfd of each process that has a mount from this path."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        try:
            # In this order: should the pid go to another process, the signal doesn't.
            pidfd = os.pidfd_open(int(name))
        except OSError:
            continue
        try:
            with open(f"/proc/{name}/mountinfo", "rb") as file:
                uses = path in file.read()
        except OSError:  # it is dead by now
            uses = False
        if uses:
            found.append(pidfd)
        else:
            os.close(pidfd)
    return found


def _read(name: str, directory: int) -> str:
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return ""
    try:
        return os.read(file, 4096).decode("utf-8", "surrogateescape")
    finally:
        os.close(file)
