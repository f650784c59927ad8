"""What an ELF file says of itself: the machine it is for, and what it needs to run; elf(5).

The file is only read, never executed: running a program to learn what it needs, as ldd(1) does,
gives an untrusted one the caller's privileges.
"""

from __future__ import annotations

import os

from cloche.errors import InvalidArgument, MissingDependency
from cloche.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from elftools.elf.dynamic import DynamicSegment

MAGIC = b"\x7fELF"

_SPELLINGS = {
    "386": "i386",
    "i686": "i386",
    "armv6l": "arm",
    "armv7l": "arm",
    "armv8l": "arm",
    "ppc64le": "ppc64",
    "riscv32": "riscv",
    "riscv64": "riscv",
    "s390x": "s390",
}
"""Names of elf(5) without ``EM_`` and of uname(2), and the one name used here."""

_ALSO_RUNS = {"x86_64": ("i386",), "aarch64": ("arm",)}
"""The 32-bit machines whose programs a 64-bit kernel runs."""


class Machine(Record):
    """What a file and a process must have in common to be loaded together."""

    name: str
    bits: int
    little_endian: bool

    def __str__(self) -> str:
        """Return a name such as ``x86_64``, or ``riscv (32-bit)`` where the name leaves it open."""
        usual = 32 if self.name in ("i386", "arm") else 64
        return self.name if self.bits == usual else f"{self.name} ({self.bits}-bit)"


class Elf(Record):
    """What an ELF file asks of the loader."""

    machine: Machine
    interpreter: str
    """The program that loads it (PT_INTERP); empty for libraries and static programs."""
    needed: tuple[str, ...]
    """The libraries it is linked with (DT_NEEDED), in order."""
    soname: str
    """Its own name as a library (DT_SONAME), or empty."""
    rpath: tuple[str, ...]
    """Where to search for its libraries and theirs (DT_RPATH, unless there is a DT_RUNPATH)."""
    runpath: tuple[str, ...]
    """Where to search for its own libraries alone (DT_RUNPATH)."""


def runnable_here(machine: Machine) -> bool:
    """Whether the running kernel's machine executes programs of this one by itself."""
    here = host_machine()
    return machine.name in (here, *_ALSO_RUNS.get(here, ()))


def host_machine() -> str:
    """Return the name of this machine, as in ``Machine.name``."""
    name = os.uname().machine
    return _SPELLINGS.get(name, name)


def read(path: str) -> Elf | None:
    """Read an ELF file; None if it is none.

    Raises InvalidArgument for one that is broken, MissingDependency without pyelftools, and
    OSError.
    """
    try:
        from elftools.elf.dynamic import DynamicSegment
        from elftools.elf.elffile import ELFFile
        from elftools.elf.segments import InterpSegment
    except ImportError as error:
        raise MissingDependency(
            "pyelftools isn't installed: it reads which libraries a program needs",
            hint="install it with: pip install pyelftools",
        ) from error

    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            return None
        interpreter = ""
        tags: dict[str, list[str]] = {"needed": [], "soname": [], "rpath": [], "runpath": []}
        try:
            elf = ELFFile(file)
            for segment in elf.iter_segments():
                if isinstance(segment, InterpSegment):
                    interpreter = str(segment.get_interp_name())
                elif isinstance(segment, DynamicSegment):
                    _read_tags(segment, tags)
            machine = str(elf["e_machine"]).removeprefix("EM_").lower()
        # pyelftools lets whatever a broken file leads to escape: struct.error, KeyError,
        # UnicodeDecodeError, its own ELFError and ELFParseError, AssertionError ...
        except Exception as error:
            raise InvalidArgument(f"{path}: broken ELF file: {error}") from error
    runpath = _directories(tags["runpath"])
    return Elf(
        Machine(_SPELLINGS.get(machine, machine), elf.elfclass, elf.little_endian),
        interpreter,
        tuple(tags["needed"]),
        next(iter(tags["soname"]), ""),
        () if runpath else _directories(tags["rpath"]),
        runpath,
    )


def _read_tags(segment: DynamicSegment, tags: dict[str, list[str]]) -> None:
    for tag in segment.iter_tags():
        name = str(tag.entry.d_tag).removeprefix("DT_").lower()
        if name in tags:
            tags[name].append(str(getattr(tag, name)))


def _directories(values: list[str]) -> tuple[str, ...]:
    """Split search paths; an empty element is the working directory, and nothing to rely on."""
    return tuple(path for value in values for path in value.split(":") if path)
