"""A toolchain that builds small ELF files to look into."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


class Toolchain:
    """Builds programs and libraries that need one another."""

    def library(self, path: Path, *, needs: Sequence[Path] = (), flags: Sequence[str] = ()) -> Path:
        """Build a shared library that needs others by their names, and nothing of libc."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._link(path, needs, ["-shared", "-nostdlib", f"-Wl,-soname,{path.name}", *flags], "")
        return path

    def program(self, path: Path, *, needs: Sequence[Path] = (), flags: Sequence[str] = ()) -> Path:
        """Build a program that needs libraries by their names, and libc."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._link(path, needs, flags, "int main(void) { return 0; }")
        return path

    def _link(self, path: Path, needs: Sequence[Path], flags: Sequence[str], source: str) -> None:
        command = ["gcc", "-x", "c", "-", "-fPIC", "-o", str(path), "-x", "none"]
        command += ["-Wl,--no-as-needed", "-Wl,--allow-shlib-undefined"]
        command += ["-Wl,--unresolved-symbols=ignore-all", *map(str, needs), *flags]
        subprocess.run(command, input=source, text=True, check=True, capture_output=True)


@pytest.fixture(scope="session")
def toolchain() -> Toolchain:
    """The machine's compiler; tests that use it say ``needs("gcc")``."""
    return Toolchain()


def patch_machine(path: Path, machine: int) -> None:
    """Change the machine that an ELF file says it is for (e_machine, at byte 18)."""
    with path.open("r+b") as file:
        file.seek(18)
        file.write(machine.to_bytes(2, "little"))
