"""What is read from ELF files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloche.errors import InvalidArgument, MissingDependency
from cloche.rootfs import elf
from cloche.rootfs.elf import Machine
from tests.unit.rootfs.conftest import Toolchain, patch_machine


@pytest.mark.needs("gcc")
def test_program(toolchain: Toolchain, tmp_path: Path) -> None:
    """A program names its interpreter, its libraries in order, and its run path."""
    library = toolchain.library(tmp_path / "liba.so.1")
    flags = ["-Wl,--enable-new-dtags,-rpath,$ORIGIN/x::/y"]
    found = elf.read(str(toolchain.program(tmp_path / "p", needs=[library], flags=flags)))
    assert found is not None
    assert found.machine.name == elf.host_machine()
    assert found.interpreter.startswith("/lib")
    assert found.needed[0] == "liba.so.1"
    assert any(name.startswith("libc.") for name in found.needed)
    assert (found.rpath, found.runpath) == ((), ("$ORIGIN/x", "/y"))


@pytest.mark.needs("gcc")
def test_library(toolchain: Toolchain, tmp_path: Path) -> None:
    """A library has a name of its own, and an old-style path if it was linked so."""
    flags = ["-Wl,--disable-new-dtags,-rpath,/old"]
    found = elf.read(str(toolchain.library(tmp_path / "liba.so.1", flags=flags)))
    assert found is not None
    assert (found.soname, found.interpreter, found.needed) == ("liba.so.1", "", ())
    assert (found.rpath, found.runpath) == (("/old",), ())


@pytest.mark.needs("gcc")
def test_static_program(toolchain: Toolchain, tmp_path: Path) -> None:
    """A static program needs nothing."""
    flags = ["-static", "-nostdlib", "-nostartfiles", "-Wl,-e,main"]
    found = elf.read(str(toolchain.program(tmp_path / "p", flags=flags)))
    assert found is not None
    assert (found.interpreter, found.needed) == ("", ())


def test_not_elf(tmp_path: Path) -> None:
    """A file of another kind, or an empty one, is no ELF file and no error."""
    path = tmp_path / "file"
    path.write_bytes(b"#!/bin/sh\n")
    assert elf.read(str(path)) is None
    path.write_bytes(b"")
    assert elf.read(str(path)) is None


def test_truncated(tmp_path: Path) -> None:
    """A file that ends behind the magic is broken, and named."""
    path = tmp_path / "file"
    path.write_bytes(b"\x7fELF\x02\x01\x01")
    with pytest.raises(InvalidArgument, match="broken ELF file") as caught:
        elf.read(str(path))
    assert str(path) in caught.value.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(4, 900), st.integers(0, 255)), min_size=1, max_size=8),
    length=st.integers(4, 20_000),
)
def test_damaged(tmp_path: Path, changes: list[tuple[int, int]], length: int) -> None:
    """A damaged program is read or refused, never a crash."""
    data = bytearray(Path(sys.executable).read_bytes()[:length])
    for offset, value in changes:
        if offset < len(data):
            data[offset] = value
    path = tmp_path / "damaged"
    path.write_bytes(data)
    try:
        found = elf.read(str(path))
    except InvalidArgument:
        return
    assert found is not None


@pytest.mark.needs("gcc")
def test_other_machine(toolchain: Toolchain, tmp_path: Path) -> None:
    """A file for another machine is told from one for this machine."""
    path = toolchain.library(tmp_path / "liba.so")
    patch_machine(path, 243)
    found = elf.read(str(path))
    assert found is not None
    assert str(found.machine) == "riscv"
    assert not elf.runnable_here(found.machine)


@pytest.mark.parametrize(
    ("here", "machine", "runs"),
    [
        ("x86_64", "x86_64", True),
        ("x86_64", "i386", True),
        ("x86_64", "aarch64", False),
        ("aarch64", "arm", True),
        ("i386", "x86_64", False),
    ],
)
def test_runnable(monkeypatch: pytest.MonkeyPatch, here: str, machine: str, runs: bool) -> None:
    """A 64-bit machine also runs its 32-bit predecessor's programs, not the other way round."""
    monkeypatch.setattr(elf, "host_machine", lambda: here)
    assert elf.runnable_here(Machine(machine, 64, True)) is runs


def test_names_of_machines() -> None:
    """A machine is called by one name, with its width only where that isn't the usual one."""
    assert str(Machine("x86_64", 64, True)) == "x86_64"
    assert str(Machine("x86_64", 32, True)) == "x86_64 (32-bit)"
    assert str(Machine("i386", 32, True)) == "i386"


def test_without_pyelftools(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where pyelftools is missing, the error says how to get it."""
    monkeypatch.setitem(sys.modules, "elftools.elf.elffile", None)
    with pytest.raises(MissingDependency) as caught:
        elf.read(sys.executable)
    assert "pip install pyelftools" in caught.value.hint
