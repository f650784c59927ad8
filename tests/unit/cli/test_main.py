"""The command itself: sub-commands, help, errors, exit codes."""

import importlib
import os
import subprocess
import sys
import types

import pytest

from cloche import __version__
from cloche.cli import main as command
from cloche.cli.main import main
from cloche.errors import InvalidArgument, NotFound


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Put a sub-command ``verb`` in place; a test gives it its ``run``."""
    module = types.ModuleType("tests.fake_verb")
    module.configure = lambda parser: parser.add_argument("--x")  # type: ignore[attr-defined]
    module.run = lambda arguments: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tests.fake_verb", module)
    entry = command.Command("Family", "tests.fake_verb", "does it")
    monkeypatch.setitem(command.COMMANDS, "verb", entry)
    return module


def raising(error: BaseException) -> object:
    """Return a ``run`` that raises."""

    def run(arguments: object) -> int:
        raise error

    return run


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"], ["help"]])
def test_overview_lists_all_commands(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a command, or with --help, each command stands with one line of help."""
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    for name, entry in command.COMMANDS.items():
        assert any(name in line and entry.help in line for line in printed.splitlines())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints name and version."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cloche {__version__}\n"


@pytest.mark.parametrize("name", command.COMMANDS)
def test_command_has_its_module(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command's module is there, has both functions, and prints its help."""
    entry = command.COMMANDS[name]
    module = importlib.import_module(entry.module)
    assert callable(module.main if entry.has_own_line else module.run)
    assert main([name, "--help"]) == 0
    assert "cloche-oci" if entry.has_own_line else f"cloche {name}" in capsys.readouterr().out


def test_exit_code_is_the_commands(verb: types.ModuleType) -> None:
    """What a sub-command returns is the exit code."""
    assert main(["verb"]) == 3


@pytest.mark.parametrize(
    ("name", "hint"),
    [("rnu", "did you mean cloche run?"), ("xyzzy", "cloche --help"), ("--xyzzy", "cloche --help")],
)
def test_unknown_command(name: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A command that isn't there is named, with the one that was meant, perhaps."""
    assert main([name]) == 125
    printed = capsys.readouterr().err
    assert name in printed
    assert hint in printed


def test_error_is_two_lines(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Our errors are a line with the message and a line with the hint, and exit code 125."""
    verb.run = raising(NotFound("no x", hint="make one"))  # type: ignore[attr-defined]
    assert main(["verb"]) == 125
    assert capsys.readouterr().err == "cloche: no x\nhint: make one\n"


def test_names_in_errors_are_harmless(
    verb: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """A control character in a message is shown and not obeyed by the terminal."""
    verb.run = raising(NotFound("no \x1b[2Jx"))  # type: ignore[attr-defined]
    assert main(["verb"]) == 125
    assert capsys.readouterr().err == "cloche: no \\x1b[2Jx\n"


def test_usage_error(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in the options is one of our errors, and options can't be abbreviated."""
    verb.configure = lambda parser: parser.add_argument("--long")  # type: ignore[attr-defined]
    assert main(["verb", "--lon", "1"]) == 125
    assert "unknown arguments: --lon 1" in capsys.readouterr().err


def test_error_of_the_system(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of the system names the file."""
    verb.run = raising(FileNotFoundError(2, "No such file", "/x"))  # type: ignore[attr-defined]
    assert main(["verb"]) == 125
    assert capsys.readouterr().err == "cloche: /x: no such file\n"


def test_interrupt(verb: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C ends quietly, as a signal would."""
    verb.run = raising(KeyboardInterrupt())  # type: ignore[attr-defined]
    assert main(["verb"]) == 130
    assert capsys.readouterr().err == ""


def test_traceback_when_asked(
    verb: types.ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CLOCHE_DEBUG=1 shows where an error comes from."""
    monkeypatch.setenv("CLOCHE_DEBUG", "1")
    verb.run = raising(InvalidArgument("no x"))  # type: ignore[attr-defined]
    assert main(["verb"]) == 125
    assert "Traceback" in capsys.readouterr().err


def run_module(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    """Run ``python -m cloche`` as a process of its own."""
    command_line = [sys.executable, "-m", "cloche", *arguments]
    return subprocess.run(command_line, text=True, check=False, **settings)  # type: ignore[call-overload,no-any-return]


def test_broken_pipe_is_quiet() -> None:
    """Output into a pipe that nobody reads, as of ``| head``, ends without a word."""
    reader, writer = os.pipe()
    os.close(reader)
    done = run_module("--help", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_start_loads_little() -> None:
    """The start of a container is not paid for with modules that it has no use for."""
    script = (
        "import sys\n"
        "import cloche.cli.main, cloche.cli.parser, cloche.cli.run, cloche.engine.container\n"
        "print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        text=True,
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    loaded = set(done.stdout.split())
    heavy = (
        "asyncio ctypes dataclasses inspect json logging pathlib random shutil subprocess tempfile"
    )
    assert not loaded & {*heavy.split(), "cloche.oci.spec", "cloche.oci.validate"}
