"""Find the shared libraries of a program, as its loader will: glibc's ld.so(8), or musl's.

Libraries are loaded breadth first, and one that is loaded serves everybody who needs its name,
wherever it was found.  So the whole tree of one program is resolved at once::

    program --needs--> libA (found by the program's RUNPATH), libB (by the same)
               libA --needs--> libB: loaded already, though libA alone would never find it

Each loader is a class with the method ``candidates``: the paths to try, in order.  A candidate
for another machine is passed over, as loaders do.
"""

from __future__ import annotations

import os
import re
from typing import Protocol

from cloche.errors import ProgramNotFound
from cloche.record import Record
from cloche.rootfs import elf, loader_cache
from cloche.rootfs.elf import Elf, Machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_MULTIARCH = {
    "aarch64": "aarch64-linux-gnu",
    "arm": "arm-linux-gnueabihf",
    "i386": "i386-linux-gnu",
    "ppc64": "powerpc64le-linux-gnu",
    "riscv": "riscv64-linux-gnu",
    "s390": "s390x-linux-gnu",
    "x86_64": "x86_64-linux-gnu",
}

_MUSL_DIRECTORIES = ("/lib", "/usr/local/lib", "/usr/lib")

_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")


class Loaded(Record):
    """A program or library in the order of loading."""

    path: str
    elf: Elf
    loader: Loaded | None
    """Who needed it first; None for the program itself."""

    @property
    def lineage(self) -> Iterator[Loaded]:
        """This object, the one that needed it, and so on up to the program."""
        link: Loaded | None = self
        while link:
            yield link
            link = link.loader


class Library(Record):
    """A library that was found."""

    path: str
    needed_by: str
    """The path of the file that needs it."""


class Loader(Protocol):
    """Where one kind of loader searches."""

    def serves(self, name: str) -> bool:
        """Whether the loader itself takes the place of a library of this name."""

    def candidates(self, name: str, user: Loaded) -> Iterator[str]:
        """Yield the paths where a library that ``user`` needs may be, best first."""

    def configuration(self, path: str, machine: Machine) -> str:
        """Return the file without which the loader wouldn't find this library, or empty."""


class Glibc:
    """The loader of the GNU C library, as ld.so(8) describes it.

    LD_LIBRARY_PATH is left out: it is the caller's, not the program's.
    """

    def __init__(self, cache: Mapping[str, list[str]]) -> None:
        self._cache = cache

    def serves(self, name: str) -> bool:  # noqa: ARG002 - the same for all names
        """Return False: glibc's loader is found among the loaded by its own DT_SONAME."""
        return False

    def candidates(self, name: str, user: Loaded) -> Iterator[str]:
        """Yield paths by DT_RPATH of all users, DT_RUNPATH of the last, cache, default places."""
        if "/" in name:
            yield from _expand(name, user)
            return
        if not user.elf.runpath:
            for ancestor in user.lineage:
                yield from _in_directories(ancestor.elf.rpath, ancestor, name)
        yield from _in_directories(user.elf.runpath, user, name)
        yield from self._cache.get(name, ())
        yield from (f"{directory}/{name}" for directory in default_directories(user.elf.machine))

    def configuration(self, path: str, machine: Machine) -> str:
        """Return the cache for what only the cache knows."""
        if os.path.dirname(path) in default_directories(machine):
            return ""
        return loader_cache.PATH if any(path in paths for paths in self._cache.values()) else ""


class Musl:
    """The loader of musl: no cache, one list of directories, run paths are inherited."""

    def __init__(self, path_file: str) -> None:
        self._path_file = path_file
        try:
            with open(path_file) as file:
                self._directories = [part for part in re.split(r"[:\n]", file.read()) if part]
        except FileNotFoundError:
            self._directories = list(_MUSL_DIRECTORIES)

    def serves(self, name: str) -> bool:
        """Whether musl's loader is that library: it holds all of the C library."""
        return re.match(r"lib(c|pthread|rt|m|dl|util|xnet)\.", name) is not None

    def candidates(self, name: str, user: Loaded) -> Iterator[str]:
        """Yield paths by the run paths of all users, then in the configured directories."""
        if "/" in name:
            yield from _expand(name, user)
            return
        for ancestor in user.lineage:
            yield from _in_directories(ancestor.elf.runpath or ancestor.elf.rpath, ancestor, name)
        yield from (f"{directory}/{name}" for directory in self._directories)

    def configuration(self, path: str, machine: Machine) -> str:  # noqa: ARG002 - the protocol's
        """Return the file of directories for what isn't in a default one."""
        directory = os.path.dirname(path)
        unusual = directory in self._directories and directory not in _MUSL_DIRECTORIES
        return self._path_file if unusual else ""


def loader_for(interpreter: str) -> Loader:
    """Return the search of the loader that lies at a path (PT_INTERP)."""
    name = os.path.basename(interpreter)
    if name.startswith("ld-musl-"):
        return Musl(f"/etc/{os.path.splitext(name)[0]}.path")
    return Glibc(loader_cache.read())


def default_directories(machine: Machine) -> tuple[str, ...]:
    """Return where glibc's loader looks without being told, on any distribution."""
    directories = []
    for library in _library_directories(machine):
        directories += [f"/{library}", f"/usr/{library}"]
    return tuple(directories)


def closure(
    program: str, interpreter: str, loader: Loader, read: Callable[[str], Elf | None] = elf.read
) -> list[Library]:
    """Return every library that a program needs, in the order of loading.

    ``program`` is the path of an ELF file with all links resolved, ``interpreter`` that of its
    loader or empty.  ``read`` may remember what it has read.

    Raises ProgramNotFound for a library that is nowhere or for another machine only.
    """
    top = read(program)
    if top is None:
        return []
    loaded = {os.path.basename(interpreter)}
    interpreter_elf = read(interpreter) if interpreter else None
    if interpreter_elf:
        loaded.add(interpreter_elf.soname)
    order = [Loaded(program, top, None)]
    for user in order:
        for name in user.elf.needed:
            if name in loaded or loader.serves(name):
                continue
            found = _find(name, user, loader, read)
            loaded |= {name, found.elf.soname}
            order.append(found)
    return [Library(one.path, one.loader.path) for one in order if one.loader]


def _find(name: str, user: Loaded, loader: Loader, read: Callable[[str], Elf | None]) -> Loaded:
    others = []
    for path in loader.candidates(name, user):
        try:
            library = read(path)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
        if library is None:
            continue
        if library.machine == user.elf.machine:
            return Loaded(path, library, user)
        others.append(f"{path} is for {library.machine}")
    if others:
        raise ProgramNotFound(
            f"library {name} not found for {user.elf.machine}, needed by {user.path}: {others[0]}",
            hint=f"install the {user.elf.machine} package that has it",
        )
    raise ProgramNotFound(
        f"library {name} not found, needed by {user.path}",
        hint="install the package that has it; if it was installed just now, run ldconfig",
    )


def _in_directories(directories: tuple[str, ...], user: Loaded, name: str) -> Iterator[str]:
    for directory in directories:
        for expanded in _expand(directory, user):
            yield f"{expanded}/{name}"


def _expand(path: str, user: Loaded) -> Iterator[str]:
    """Yield a path with the loader's tokens replaced: $ORIGIN, $LIB and $PLATFORM.

    What $LIB means was fixed when the loader was built, so all its meanings are tried.  A path
    that isn't absolute then depends on the working directory, and is left out.
    """
    machine = user.elf.machine
    origin = os.path.dirname(user.path)
    for library in _library_directories(machine):
        values = {"ORIGIN": origin, "LIB": library, "PLATFORM": machine.name}
        expanded = _TOKEN.sub(lambda match: values[match[1] or match[2]], path)  # noqa: B023
        if expanded.startswith("/"):
            yield expanded
        if "LIB" not in path:
            return


def _library_directories(machine: Machine) -> Iterator[str]:
    if machine.name in _MULTIARCH:
        yield f"lib/{_MULTIARCH[machine.name]}"
    yield "lib64" if machine.bits == 64 else "lib32"
    yield "lib"
