"""Finding what programs need, and copying it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from cloche.errors import (
    AlreadyExists,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ProgramNotFound,
)
from cloche.rootfs import elf
from cloche.rootfs.from_host import Wanted, copy, find
from tests.unit.rootfs.conftest import Toolchain, patch_machine


def script(path: Path, content: str, mode: int = 0o755) -> Path:
    """Write an executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, newline="")
    path.chmod(mode)
    return path


def paths(wanted: list[Wanted]) -> list[str]:
    """Return the paths that were asked for."""
    return [one.path for one in wanted]


def test_program_in_path(tmp_path: Path) -> None:
    """A program is found in PATH, with its interpreter and libraries, each with who needs it."""
    shell = shutil.which("sh")
    assert shell
    wanted = find(["sh"], search_path=f"{tmp_path}:{os.path.dirname(shell)}")
    assert wanted[0].path == shell
    assert wanted[0].role == "program"
    real = os.path.realpath(shell)
    found = elf.read(real)
    assert found is not None
    if found.interpreter:
        assert (wanted[1].role, wanted[1].path) == ("interpreter", found.interpreter)
        assert wanted[1].needed_by == real
        names = {os.path.basename(one.path) for one in wanted if one.role == "library"}
        assert names >= set(found.needed) - {os.path.basename(found.interpreter)}


def test_programs_are_not_executed(tmp_path: Path) -> None:
    """Nothing that is copied runs: neither a script, nor what would be its interpreter."""
    trace = tmp_path / "ran"
    interpreter = script(tmp_path / "interpreter", f"#!/bin/sh\ntouch {trace}\n")
    program = script(tmp_path / "program", f"#!{interpreter}\n")
    copy(str(tmp_path / "root"), find([str(program)]))
    assert not trace.exists()


@pytest.mark.needs("gcc")
def test_real_closure_agrees_with_the_loader(tmp_path: Path) -> None:
    """The libraries of a real program are those that its loader lists."""
    program = shutil.which("ls")
    assert program
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    expected = {line.split("=>")[1].split()[0] for line in listed.splitlines() if "=>" in line}
    found = {one.path for one in find([program]) if one.role == "library"}
    assert {os.path.realpath(path) for path in found} == {
        os.path.realpath(path) for path in expected
    }


def test_nested_interpreters(tmp_path: Path) -> None:
    """A script whose interpreter is a script gets the whole chain."""
    inner = script(tmp_path / "inner", "#!/bin/sh\n")
    outer = script(tmp_path / "outer", f"#!{inner} -x\n")
    wanted = find([str(outer)])
    assert paths(wanted)[:3] == [str(outer), str(inner), "/bin/sh"]
    assert [one.needed_by for one in wanted[:3]] == ["", str(outer), str(inner)]


def test_env(tmp_path: Path) -> None:
    """#!/usr/bin/env takes env and the program along."""
    tool = script(tmp_path / "bin" / "tool", "#!/bin/sh\n")
    program = script(tmp_path / "program", "#!/usr/bin/env tool\n")
    wanted = paths(find([str(program)], search_path=str(tool.parent)))
    assert "/usr/bin/env" in wanted
    assert str(tool) in wanted


def test_env_of_a_missing_program(tmp_path: Path) -> None:
    """A program that env won't find is named, with the script."""
    program = script(tmp_path / "program", "#!/usr/bin/env no-such-tool\n")
    with pytest.raises(ProgramNotFound, match="no-such-tool not found") as caught:
        find([str(program)])
    assert str(program) in caught.value.message


def test_interpreter_loop(tmp_path: Path) -> None:
    """A script that is its own interpreter doesn't hang the search."""
    program = tmp_path / "program"
    script(program, f"#!{program}\n")
    assert paths(find([str(program)])) == [str(program)]


def test_missing_program(tmp_path: Path) -> None:
    """A program that isn't in PATH is named, with one that is called alike."""
    script(tmp_path / "frobnicate", "#!/bin/sh\n")
    with pytest.raises(ProgramNotFound, match="program frobincate not found in PATH") as caught:
        find(["frobincate"], search_path=f"{tmp_path}:/no/such/directory")
    assert caught.value.hint == "did you mean frobnicate?"
    with pytest.raises(ProgramNotFound, match="program /no/such not found"):
        find(["/no/such"])
    with pytest.raises(ProgramNotFound):
        find([""])


def test_missing_interpreter(tmp_path: Path) -> None:
    """An interpreter that isn't there is named, with the script that needs it."""
    program = script(tmp_path / "program", "#!/no/such/shell\n")
    with pytest.raises(ProgramNotFound, match="interpreter /no/such/shell not found") as caught:
        find([str(program)])
    assert f"needed by {program}" in caught.value.message


def test_line_ends_of_windows(tmp_path: Path) -> None:
    """A first line that ends in CR LF is recognized as the reason."""
    program = script(tmp_path / "program", "#!/bin/sh\r\necho\r\n")
    with pytest.raises(InvalidArgument, match="CR LF"):
        find([str(program)])


def test_what_is_no_program(tmp_path: Path) -> None:
    """A directory, a FIFO, a text and a file that isn't executable each say what they are."""
    with pytest.raises(InvalidArgument, match="is a directory, not a program"):
        find([str(tmp_path)])
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidArgument, match="not a regular file"):
        find([str(tmp_path / "fifo")])
    with pytest.raises(InvalidArgument, match="neither an ELF program nor a script"):
        find([str(script(tmp_path / "text", "echo hello\n"))])
    script(tmp_path / "closed", "#!/bin/sh\n", 0o644)
    for name in ("closed", str(tmp_path / "closed")):
        with pytest.raises(PermissionDenied, match="not executable"):
            find([name], search_path=str(tmp_path))


@pytest.mark.needs("gcc")
def test_foreign_program(toolchain: Toolchain, tmp_path: Path) -> None:
    """A program for another machine is refused, and both machines are named."""
    program = toolchain.program(tmp_path / "p")
    patch_machine(program, 243)
    with pytest.raises(InvalidArgument, match="is for riscv, and this machine is") as caught:
        find([str(program)])
    assert elf.host_machine() in caught.value.message


@pytest.mark.needs("gcc")
def test_loader_for_another_machine(toolchain: Toolchain, tmp_path: Path) -> None:
    """A program whose loader is for another machine can't start."""
    loader = toolchain.library(tmp_path / "ld.so")
    patch_machine(loader, 243)
    program = toolchain.program(tmp_path / "p", flags=[f"-Wl,--dynamic-linker,{loader}"])
    with pytest.raises(InvalidArgument, match="the loader of"):
        find([str(program)])


@pytest.mark.needs("gcc")
def test_missing_library(toolchain: Toolchain, tmp_path: Path) -> None:
    """A library that is nowhere is named before anything is written."""
    library = toolchain.library(tmp_path / "libgone.so.7")
    program = toolchain.program(tmp_path / "p", needs=[library])
    library.unlink()
    with pytest.raises(ProgramNotFound, match=r"library libgone\.so\.7 not found, needed by"):
        copy(str(tmp_path / "root"), find([str(program)]))
    assert not (tmp_path / "root").exists()


@pytest.mark.needs("gcc")
def test_file_brings_its_libraries(toolchain: Toolchain, tmp_path: Path) -> None:
    """A library named as a file, such as a plugin, gets the libraries that it needs."""
    inner = toolchain.library(tmp_path / "libinner.so")
    flags = ["-Wl,--enable-new-dtags,-rpath,$ORIGIN"]
    plugin = toolchain.library(tmp_path / "plugin.so", needs=[inner], flags=flags)
    assert paths(find([], [str(plugin)])) == [str(plugin), str(inner)]


def test_directory_as_file(tmp_path: Path) -> None:
    """A directory is copied whole: files, links and empty directories."""
    data = tmp_path / "data"
    (data / "empty").mkdir(parents=True)
    (data / "file").write_text("text")
    (data / "link").symlink_to("file")
    (data / "away").symlink_to("/no/such/place")
    root = tmp_path / "root"
    copy(str(root), find([], [str(data)]))
    copied = root / data.relative_to("/")
    assert sorted(entry.name for entry in copied.iterdir()) == ["away", "empty", "file", "link"]
    assert (copied / "link").read_text() == "text"
    assert os.readlink(copied / "away") == "/no/such/place"


def test_bad_files(tmp_path: Path) -> None:
    """A file that isn't there and a socket in a directory are named."""
    with pytest.raises(NotFound, match="file /no/such not found"):
        find([], ["/no/such"])
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(InvalidArgument, match="socket: neither a file"):
            find([], [str(tmp_path)])


def test_directory_that_holds_the_root(tmp_path: Path) -> None:
    """A directory can't be copied into itself."""
    root = tmp_path / "root"
    root.mkdir()
    with pytest.raises(InvalidArgument, match="lies in it"):
        copy(str(root), find([], [str(tmp_path)]))
    with pytest.raises(InvalidArgument, match="lies in it"):
        copy(str(root), find([], [str(root)]))
    assert list(root.iterdir()) == []


def test_links_on_the_way_are_copied(tmp_path: Path) -> None:
    """A program behind links is found under each of its names in the copy."""
    (tmp_path / "usr" / "bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    script(tmp_path / "usr" / "bin" / "tool-1", "#!/bin/sh\n")
    (tmp_path / "usr" / "bin" / "tool").symlink_to("tool-1")
    root = tmp_path / "root"
    copy(str(root), find([str(tmp_path / "bin" / "tool")]))
    copied = root / tmp_path.relative_to("/")
    assert os.readlink(copied / "bin") == "usr/bin"
    assert os.readlink(copied / "bin" / "tool") == "tool-1"
    assert (copied / "usr" / "bin" / "tool-1").is_file()


def test_again(tmp_path: Path) -> None:
    """A second copy changes nothing; one more program only adds."""
    root = str(tmp_path / "root")
    first = copy(root, find(["sh"]))
    assert {one.change for one in first} == {"new"}
    second = copy(root, find(["sh"]))
    assert {one.change for one in second} == {"same"}
    assert [one.stop.path for one in second] == [one.stop.path for one in first]
    third = copy(root, find(["sh", "cat"]))
    assert [one.change for one in third if one.stop.path.endswith("/cat")] == ["new"]


def test_hostile_root(tmp_path: Path) -> None:
    """A link in the directory that leads out of it is refused, and nothing is written there."""
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "usr").symlink_to(outside)
    program = shutil.which("env", path="/usr/bin")
    assert program
    with pytest.raises(AlreadyExists, match="symbolic link is in the way"):
        copy(str(root), find([program]))
    assert list(outside.iterdir()) == []


def test_unreadable_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that the caller may not read is named."""
    program = script(tmp_path / "program", "#!/bin/sh\n")

    def closed(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(elf, "read", closed)
    with pytest.raises(PermissionDenied, match=f"{program}: permission denied"):
        find([str(program)])
