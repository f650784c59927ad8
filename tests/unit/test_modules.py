"""The one file of compiled modules that the commands import from."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import cloche
from cloche import modules

PROGRAM = """
import os, sys
from cloche import modules
used = modules.use(sys.argv[1])
import cloche.runtime.main, cloche.kernel, inspect
main = cloche.runtime.main
print(used, type(main.__loader__).__name__, main.__file__, cloche.kernel.__path__[0])
print(inspect.getsource(main.main).partition("(")[0])
"""


def run(directory: Path, **environ: str) -> list[str]:
    """Import with a file of this directory's; return the words that PROGRAM prints."""
    env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    env |= {"PYTHONPATH": str(Path(cloche.__file__).parent.parent)} | environ
    argv = [sys.executable, "-c", PROGRAM, str(directory)]
    return subprocess.run(argv, env=env, capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package's directory with such a file, and links for its sources."""
    source = Path(cloche.__file__).parent
    modules.write(str(source), str(tmp_path / modules.NAME))
    for entry in source.iterdir():
        if entry.name not in (modules.NAME, "__pycache__"):
            (tmp_path / entry.name).symlink_to(entry)
    return tmp_path


def test_modules_come_from_the_file(package: Path) -> None:
    """What is imported comes from the file, and says where its source is."""
    used, loader, file, path, *source = run(package)
    assert (used, loader) == ("True", "Modules")
    assert file == f"{package}/runtime/main.py"
    assert path == f"{package}/kernel"
    assert source == ["def", "main"]


def test_nothing_changes_without_it(tmp_path: Path) -> None:
    """Without the file modules are imported as ever."""
    assert run(tmp_path)[:2] == ["False", "SourceFileLoader"]


def test_another_interpreters_file_is_left_alone(package: Path) -> None:
    """Code of another version of Python isn't run."""
    file = package / modules.NAME
    file.write_bytes(b"\0" + file.read_bytes()[1:])
    assert run(package)[:2] == ["False", "SourceFileLoader"]


def test_not_where_people_debug(package: Path) -> None:
    """With CLOCHE_DEBUG the sources count, as they are."""
    assert run(package, CLOCHE_DEBUG="1")[:2] == ["False", "SourceFileLoader"]


def test_no_file_descriptor_in_the_first_places(package: Path) -> None:
    """What is open for it can't pass for a file descriptor that a container is to get."""
    code = "import sys, os; from cloche import modules; before = os.listdir('/proc/self/fd')\n"
    code += "modules.use(sys.argv[1]); print(*set(os.listdir('/proc/self/fd')) - set(before))"
    env = os.environ | {"PYTHONPATH": str(Path(cloche.__file__).parent.parent)}
    argv = [sys.executable, "-c", code, str(package)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    assert all(int(fd) >= 500 for fd in done.stdout.split())


@pytest.mark.needs("strace")
@pytest.mark.parametrize("name", ["cloche", "cloche-oci"])
def test_the_commands_use_it(name: str) -> None:
    """The installed commands find the file that was built for their interpreter."""
    script = Path(sysconfig.get_path("scripts"), name)
    env = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    done = subprocess.run(
        ["strace", "-e", "trace=openat", sys.executable, str(script), "--version"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert modules.NAME in done.stderr
    assert "cloche/errors" not in done.stderr
