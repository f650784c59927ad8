"""The search for shared libraries, against the rules of ld.so(8)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloche.errors import ProgramNotFound
from cloche.rootfs import elf, libraries
from cloche.rootfs.elf import Elf, Machine
from cloche.rootfs.libraries import Glibc, Loaded, Musl
from tests.unit.rootfs.conftest import Toolchain, patch_machine

OLD = "-Wl,--disable-new-dtags,-rpath,"
NEW = "-Wl,--enable-new-dtags,-rpath,"

X86_64 = Machine("x86_64", 64, True)


def found(program: Path, cache: dict[str, list[str]] | None = None) -> dict[str, str]:
    """Resolve a library that stands for a program; return each path with who needs it."""
    closure = libraries.closure(str(program), "", Glibc(cache or {}))
    return {library.path: library.needed_by for library in closure}


def user(path: str, *, rpath: str = "", runpath: str = "", loader: Loaded | None = None) -> Loaded:
    """Return a loaded object with search paths."""
    elf_file = Elf(X86_64, "", (), "", (rpath,) if rpath else (), (runpath,) if runpath else ())
    return Loaded(path, elf_file, loader)


@pytest.mark.needs("gcc")
def test_rpath_serves_all_that_is_loaded(toolchain: Toolchain, tmp_path: Path) -> None:
    """DT_RPATH of the program also finds what its libraries need."""
    inner = toolchain.library(tmp_path / "lib" / "libinner.so")
    outer = toolchain.library(tmp_path / "lib" / "libouter.so", needs=[inner])
    program = toolchain.library(tmp_path / "p", needs=[outer], flags=[f"{OLD}{tmp_path}/lib"])
    assert found(program) == {str(outer): str(program), str(inner): str(outer)}


@pytest.mark.needs("gcc")
def test_runpath_serves_its_own_object_only(toolchain: Toolchain, tmp_path: Path) -> None:
    """DT_RUNPATH of the program doesn't find what its libraries need."""
    inner = toolchain.library(tmp_path / "lib" / "libinner.so")
    outer = toolchain.library(tmp_path / "lib" / "libouter.so", needs=[inner])
    program = toolchain.library(tmp_path / "p", needs=[outer], flags=[f"{NEW}{tmp_path}/lib"])
    with pytest.raises(ProgramNotFound, match=f"libinner.so not found, needed by {outer}"):
        found(program)


@pytest.mark.needs("gcc")
def test_loaded_library_serves_everybody(toolchain: Toolchain, tmp_path: Path) -> None:
    """A library that the program loads serves another that wouldn't find it by itself."""
    inner = toolchain.library(tmp_path / "lib" / "libinner.so")
    outer = toolchain.library(tmp_path / "lib" / "libouter.so", needs=[inner])
    program = toolchain.library(
        tmp_path / "p", needs=[outer, inner], flags=[f"{NEW}{tmp_path}/lib"]
    )
    assert found(program) == {str(outer): str(program), str(inner): str(program)}


@pytest.mark.needs("gcc")
@pytest.mark.parametrize("origin", ["$ORIGIN", "${ORIGIN}"])
def test_origin(toolchain: Toolchain, tmp_path: Path, origin: str) -> None:
    """$ORIGIN is the directory of the object that says it."""
    inner = toolchain.library(tmp_path / "lib" / "deep" / "libinner.so")
    outer = toolchain.library(
        tmp_path / "lib" / "libouter.so", needs=[inner], flags=[f"{NEW}{origin}/deep"]
    )
    program = toolchain.library(
        tmp_path / "bin" / "p", needs=[outer], flags=[f"{NEW}{origin}/../lib"]
    )
    paths = [os.path.normpath(path) for path in found(program)]
    assert paths == [str(outer), str(inner)]


@pytest.mark.needs("gcc")
def test_cycle(toolchain: Toolchain, tmp_path: Path) -> None:
    """Libraries that need each other are each found once."""
    one = toolchain.library(tmp_path / "libone.so")
    flags = [f"{NEW}$ORIGIN"]
    two = toolchain.library(tmp_path / "libtwo.so", needs=[one], flags=flags)
    toolchain.library(one, needs=[two], flags=flags)
    program = toolchain.library(tmp_path / "p", needs=[one], flags=flags)
    assert found(program) == {str(one): str(program), str(two): str(one)}


@pytest.mark.needs("gcc")
def test_cache(toolchain: Toolchain, tmp_path: Path) -> None:
    """The cache finds what no run path names; a stale entry is passed over."""
    library = toolchain.library(tmp_path / "lib" / "liba.so")
    program = toolchain.library(tmp_path / "p", needs=[library])
    cache = {"liba.so": [str(tmp_path / "gone" / "liba.so"), str(library)]}
    assert list(found(program, cache)) == [str(library)]


@pytest.mark.needs("gcc")
def test_missing_library(toolchain: Toolchain, tmp_path: Path) -> None:
    """A library that is nowhere is named, with who needs it."""
    library = toolchain.library(tmp_path / "libgone.so")
    program = toolchain.library(tmp_path / "p", needs=[library])
    library.unlink()
    with pytest.raises(ProgramNotFound, match=r"libgone\.so not found, needed by") as caught:
        found(program)
    assert str(program) in caught.value.message


@pytest.mark.needs("gcc")
def test_other_machine_is_passed_over(toolchain: Toolchain, tmp_path: Path) -> None:
    """A library for another machine is passed over, and named if there is no other."""
    wrong = toolchain.library(tmp_path / "wrong" / "liba.so")
    right = toolchain.library(tmp_path / "right" / "liba.so")
    program = toolchain.library(
        tmp_path / "p", needs=[right], flags=[f"{NEW}{tmp_path}/wrong:{tmp_path}/right"]
    )
    patch_machine(wrong, 243)
    assert list(found(program)) == [str(right)]
    right.unlink()
    with pytest.raises(ProgramNotFound, match=r"liba\.so not found for .*is for riscv"):
        found(program)


@pytest.mark.needs("gcc")
def test_what_is_no_elf_is_passed_over(toolchain: Toolchain, tmp_path: Path) -> None:
    """A linker script or a directory of the library's name isn't the library."""
    library = toolchain.library(tmp_path / "good" / "liba.so")
    text = tmp_path / "text" / "liba.so"
    text.parent.mkdir()
    text.write_text("INPUT(-la)")
    (tmp_path / "dir" / "liba.so").mkdir(parents=True)
    directories = ":".join(str(tmp_path / name) for name in ("text", "dir", "good"))
    program = toolchain.library(tmp_path / "p", needs=[library], flags=[f"{NEW}{directories}"])
    assert list(found(program)) == [str(library)]


def test_order_of_glibc() -> None:
    """RPATHs from the inside out, then cache, then the default places."""
    top = user("/bin/p", rpath="/top")
    inner = user("/lib/liba.so", rpath="/inner", loader=top)
    paths = list(Glibc({"x": ["/cached/x"]}).candidates("x", inner))
    assert paths[:3] == ["/inner/x", "/top/x", "/cached/x"]
    assert paths[3:] == [f"{place}/x" for place in libraries.default_directories(X86_64)]


def test_runpath_silences_rpaths() -> None:
    """An object with DT_RUNPATH isn't helped by anybody's DT_RPATH."""
    inner = user("/lib/liba.so", runpath="/inner", loader=user("/bin/p", rpath="/top"))
    paths = list(Glibc({}).candidates("x", inner))
    assert paths[0] == "/inner/x"
    assert "/top/x" not in paths


def test_tokens() -> None:
    """$LIB is tried with each meaning, $PLATFORM is the machine, $ORIGINAL is no token."""
    paths = list(Glibc({}).candidates("x", user("/o/p", runpath="/r/$LIB/$PLATFORM")))
    assert paths[:3] == [
        "/r/lib/x86_64-linux-gnu/x86_64/x",
        "/r/lib64/x86_64/x",
        "/r/lib/x86_64/x",
    ]
    assert next(Glibc({}).candidates("x", user("/o/p", runpath="/$ORIGINAL"))) == "/$ORIGINAL/x"


def test_name_with_slash() -> None:
    """A needed name with a slash is a path, and isn't searched for."""
    assert list(Glibc({}).candidates("$ORIGIN/x", user("/o/p"))) == ["/o/x"]
    assert list(Glibc({}).candidates("relative/x", user("/o/p"))) == []


def test_cache_is_needed_for_unusual_places() -> None:
    """The cache goes along where the loader finds a library by it alone."""
    loader = Glibc({"a": ["/opt/x/a"], "b": ["/usr/lib/b"]})
    assert loader.configuration("/opt/x/a", X86_64) == "/etc/ld.so.cache"
    assert loader.configuration("/usr/lib/b", X86_64) == ""
    assert loader.configuration("/found/by/runpath", X86_64) == ""


def test_musl(tmp_path: Path) -> None:
    """Musl's loader is the C library itself, inherits run paths, and has a file of directories."""
    path_file = tmp_path / "ld-musl-x86_64.path"
    path_file.write_text("/a:/b\n/c\n")
    loader = Musl(str(path_file))
    assert loader.serves("libc.musl-x86_64.so.1")
    assert loader.serves("libpthread.so.0")
    assert not loader.serves("libcrypto.so.3")
    inner = user("/lib/liba.so", loader=user("/bin/p", runpath="/top"))
    assert list(loader.candidates("x", inner)) == ["/top/x", "/a/x", "/b/x", "/c/x"]
    assert loader.configuration("/a/x", X86_64) == str(path_file)
    assert loader.configuration("/top/x", X86_64) == ""


def test_musl_without_configuration(tmp_path: Path) -> None:
    """Without its file musl's loader has directories of its own."""
    loader = Musl(str(tmp_path / "none"))
    assert list(loader.candidates("x", user("/bin/p"))) == [
        "/lib/x", "/usr/local/lib/x", "/usr/lib/x",
    ]  # fmt: skip
    assert loader.configuration("/usr/lib/x", X86_64) == ""


def test_which_loader() -> None:
    """The kind of loader is told by its name."""
    assert isinstance(libraries.loader_for("/lib/ld-musl-x86_64.so.1"), Musl)
    assert isinstance(libraries.loader_for("/lib64/ld-linux-x86-64.so.2"), Glibc)


def test_every_file_is_read_once(tmp_path: Path) -> None:
    """The reader of ELF files is the caller's, so that it can remember."""
    asked: list[str] = []

    def read(path: str) -> Elf | None:
        asked.append(path)
        return elf.read(path)

    path = tmp_path / "text"
    path.write_text("")
    assert libraries.closure(str(path), "", Glibc({}), read) == []
    assert asked == [str(path)]
