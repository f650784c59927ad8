"""Make a root directory out of programs of this machine, with all that they need to start.

First everything is found, only reading; then it is copied, each path to the same path beneath
the directory.  So what can't be found is named before anything is written::

    bash  -> route: /bin -> usr/bin, /usr, /usr/bin, /usr/bin/bash
          -> ELF:   interpreter /lib64/ld-linux-x86-64.so.2, libraries, each with its route
    pip   -> script: #!/usr/bin/python3 -> interpreter, as a program of its own

What a program opens only while it runs isn't seen: plugins by dlopen(3) (name services such as
libnss_dns, locales, character sets), modules of an interpreter, files of data, and programs that
it starts.  They can be named as further files.
"""

from __future__ import annotations

import difflib
import errno
import os
import stat
from contextlib import suppress

from cloche.errors import ClocheError, InvalidArgument, NotFound, PermissionDenied, ProgramNotFound
from cloche.record import Record
from cloche.rootfs import elf, libraries, route, script
from cloche.rootfs.beneath import Beneath
from cloche.rootfs.elf import Elf
from cloche.rootfs.route import Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM = "program"
INTERPRETER = "interpreter"
LIBRARY = "library"
FILE = "file"
"""The roles of a wanted thing."""


class Wanted(Record):
    """A thing that belongs into the root, and why."""

    role: str
    path: str
    """As it was asked for: links in it are not resolved."""
    needed_by: str
    """The path of the first file that needs it; empty for what the user named."""
    stops: tuple[Stop, ...]
    """The way to it; the last stop is the file or directory itself."""


class Copied(Record):
    """One thing beneath the directory after the copy."""

    stop: Stop
    change: str
    """``new``, ``replaced`` or ``same``."""
    wanted: Wanted
    """The first thing that it was needed for."""


class Finder:
    """Finds programs and all that they need; each thing once.  Only reads."""

    def __init__(self, search_path: str) -> None:
        self._search_path = search_path
        self._elves: dict[str, Elf | None] = {}
        self.wanted: dict[str, Wanted] = {}
        """What was found so far, by the path that it was asked for."""

    def add_program(self, name: str) -> None:
        """Add a program, by its path or as the shell finds it in the search path.

        Raises ProgramNotFound for a program, interpreter or library that isn't there,
        InvalidArgument for what can't be run on this machine, and PermissionDenied.
        """
        self._add_program(self._locate(name), PROGRAM, "")

    def add_file(self, path: str) -> None:
        """Add a file with the libraries that it needs if it is one itself, or a whole directory.

        Raises NotFound, ProgramNotFound for a missing library, InvalidArgument for a special
        file, and PermissionDenied.
        """
        path = os.path.abspath(path)
        end = self._add(FILE, path, "")
        if end.is_directory:
            self._add_tree(end.path)
        elif end.is_file:
            self._add_libraries(end.path, "")
        else:
            raise InvalidArgument(f"{path}: neither a file nor a directory")

    def _add_program(self, path: str, role: str, needed_by: str) -> None:
        if path in self.wanted:
            return
        end = self._add(role, path, needed_by)
        if end.is_directory:
            raise InvalidArgument(f"{path} is a directory, not a program")
        if not end.is_file:
            raise InvalidArgument(f"{path} is not a regular file, so it is no program")
        if not end.status.st_mode & 0o111:
            raise PermissionDenied(f"{path}: not executable", hint="data can be named as --file")
        program = self._elf(end.path)
        if program is None:
            self._add_script(path, end.path)
            return
        if not elf.runnable_here(program.machine):
            raise InvalidArgument(
                f"{path} is for {program.machine}, and this machine is {elf.host_machine()}",
                hint=f"install the {elf.host_machine()} build of it",
            )
        interpreter = program.interpreter
        if interpreter:
            loader = self._elf(self._add(INTERPRETER, interpreter, end.path).path)
            if loader is None or loader.machine != program.machine:
                raise InvalidArgument(
                    f"{interpreter}, the loader of {path}, isn't one for {program.machine}"
                )
        self._add_libraries(end.path, interpreter)

    def _add_script(self, path: str, real_path: str) -> None:
        line = script.read(real_path)
        if line is None:
            raise InvalidArgument(
                f"{path} is neither an ELF program nor a script that begins with #!",
                hint="a script needs a first line such as #!/bin/sh; data can be named as --file",
            )
        self._add_program(line.interpreter, INTERPRETER, real_path)
        if line.program:
            self._add_program(self._locate(line.program, path), INTERPRETER, real_path)

    def _add_libraries(self, real_path: str, interpreter: str) -> None:
        """Add the libraries of an ELF file that runs here; others are only data."""
        top = self._elf(real_path)
        if top is None or not elf.runnable_here(top.machine):
            return
        loader = libraries.loader_for(interpreter)
        for library in libraries.closure(real_path, interpreter, loader, self._elf):
            self._add(LIBRARY, library.path, library.needed_by)
            configuration = loader.configuration(library.path, top.machine)
            if configuration:
                self._add(FILE, configuration, library.needed_by)

    def _add_tree(self, top: str) -> None:
        for directory, directories, names in os.walk(top, onerror=_raise):
            for name in sorted(directories + names):
                path = f"{directory}/{name}"
                status = os.lstat(path)
                target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
                stop = Stop(path, status, target)
                if not (stop.is_directory or stop.is_file or stop.is_link):
                    raise InvalidArgument(f"{path}: neither a file, a directory nor a link")
                self.wanted.setdefault(path, Wanted(FILE, path, top, (stop,)))

    def _add(self, role: str, path: str, needed_by: str) -> Stop:
        """Add one thing with its route; return where that leads to."""
        if path not in self.wanted:
            try:
                stops = route.follow(path)
            except (FileNotFoundError, NotADirectoryError) as error:
                by = f", needed by {needed_by}" if needed_by else ""
                kind = NotFound if role == FILE else ProgramNotFound
                raise kind(f"{role} {path} not found{by}") from error
            self.wanted[path] = Wanted(role, path, needed_by, tuple(stops))
        return self.wanted[path].stops[-1]

    def _elf(self, path: str) -> Elf | None:
        """Read an ELF file once; None if it is none."""
        if path not in self._elves:
            regular = stat.S_ISREG(os.stat(path).st_mode)
            self._elves[path] = elf.read(path) if regular else None
        return self._elves[path]

    def _locate(self, name: str, needed_by: str = "") -> str:
        """Return the path of a program, searched for as execvp(3) does."""
        if "/" in name:
            return os.path.abspath(name)
        closed = ""
        for directory in self._search_path.split(":"):
            path = os.path.abspath(os.path.join(directory, name))
            if os.path.isfile(path):
                if os.access(path, os.X_OK):
                    return path
                closed = closed or path
        if closed:
            raise PermissionDenied(f"{closed}: not executable", hint=f"chmod +x {closed}")
        by = f", needed by {needed_by}" if needed_by else ""
        raise ProgramNotFound(f"program {name} not found in PATH{by}", hint=self._advice(name))

    def _advice(self, name: str) -> str:
        names: set[str] = set()
        for directory in self._search_path.split(":"):
            with suppress(OSError):
                names.update(os.listdir(directory or "."))
        close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.7)
        return f"did you mean {close[0]}?" if close else "install it, or give its path"


def find(
    programs: Sequence[str], files: Sequence[str] = (), *, search_path: str | None = None
) -> list[Wanted]:
    """Return all that the programs need to start, and the files; without writing anything.

    ``search_path`` is a PATH, the caller's own by default.

    Raises ProgramNotFound, NotFound, InvalidArgument and PermissionDenied, which name what is
    wrong and who needs it.
    """
    if search_path is None:
        search_path = os.environ.get("PATH", os.defpath)
    finder = Finder(search_path)
    try:
        for name in programs:
            finder.add_program(name)
        for path in files:
            finder.add_file(path)
    except OSError as error:
        raise _translated(error) from error
    return list(finder.wanted.values())


def copy(directory: str, wanted: Sequence[Wanted]) -> list[Copied]:
    """Copy what was found into a directory, which is made if it isn't there.

    What is there already and the same is left alone, what differs is replaced at once; nothing
    is removed.  Nothing outside the directory is touched, whatever links it holds.  Owners are
    kept when root copies; otherwise set-user-ID bits are dropped.

    Raises AlreadyExists where the directory is laid out differently from this machine,
    InvalidArgument for the machine's own root directory, and PermissionDenied.
    """
    copied: dict[str, Copied] = {}
    with Beneath(directory) as root:
        for one in wanted:
            if os.path.samestat(one.stops[-1].status, root.status):
                raise InvalidArgument(f"{one.needed_by or one.path}: {directory} lies in it")
        for one in wanted:
            for stop in one.stops:
                if stop.path == "/" or stop.path in copied:
                    continue
                try:
                    copied[stop.path] = Copied(stop, root.put(stop), one)
                except OSError as error:
                    raise _translated(error, root.directory + stop.path) from error
    return list(copied.values())


def _raise(error: OSError) -> None:
    raise error


def _translated(error: OSError, path: str = "") -> ClocheError:
    """Say which path failed: the error's own, unless that is only a part of ``path``."""
    name = error.filename if str(error.filename).startswith("/") else path
    message = f"{name}: {os.strerror(error.errno or errno.EIO).lower()}"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return PermissionDenied(message)
    return NotFound(message)
