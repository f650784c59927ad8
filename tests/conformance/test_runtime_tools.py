"""The runner of the OCI's validation programs, on programs of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance import runtime_tools
from tests.conformance.runtime_tools import Runtime


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory as the programs' source tree is when it is built, but for the programs."""
    (tmp_path / "runtimetest").touch()
    (tmp_path / "rootfs-any.tar.gz").touch()
    return tmp_path


def _program(programs: Path, name: str, script: str) -> Path:
    path = programs / "validation" / name / f"{name}.t"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TAP version 13\nok 1 - a\nok 2 - b\n1..2", (2, 0, [])),
        ("1..1\nok 1 # SKIP not here", (0, 1, [])),
        ("ok 1\n  ---\n  {\n  }\n  ...\nnot ok 2\n# why\n1..2", (1, 0, ["not ok 2\n# why"])),
        ("not ok 1 - a\n# x\nok 2 - b\n# y", (1, 0, ["not ok 1 - a\n# x"])),
        ('TAP version 13\n  ---\n  {\n    "error": 1\n  }\n  ...\n1..0', (0, 0, ['"error": 1'])),
        ("TAP version 13\n1..0", (0, 0, [])),
    ],
)  # fmt: skip
def test_read_tap(text: str, expected: tuple[int, int, list[str]]) -> None:
    """Lines are counted, and what is said after one that isn't ok belongs to it."""
    assert runtime_tools.read_tap(text) == expected


def test_programs_that_are_not_there(programs: Path) -> None:
    """What is missing of the programs is named."""
    with pytest.raises(FileNotFoundError, match=r"no validation/\*/\*.t"):
        runtime_tools.find_programs(programs, [])
    _program(programs, "one", "")
    with pytest.raises(FileNotFoundError, match="no program other"):
        runtime_tools.find_programs(programs, ["other"])
    assert [path.stem for path in runtime_tools.find_programs(programs, ["one"])] == ["one"]


def test_unknown_runtime() -> None:
    """A runtime that isn't there is named; a command may have arguments."""
    with pytest.raises(ValueError, match="no-such-runtime"):
        runtime_tools.parse("no-such-runtime")
    found = runtime_tools.parse(f"ours={sys.executable} -m cloche")
    assert found == Runtime("ours", [sys.executable, "-m", "cloche"])


def test_run(programs: Path, tmp_path: Path) -> None:
    """A program sees its runtime, and its result is told, as is that it takes too long."""
    script = tmp_path / "runtime"
    script.write_text('#!/bin/sh\n[ "$1" = --root ] && [ -d "$2" ] && [ "$3" = state ]\n')
    script.chmod(0o755)
    runtime = Runtime("it", [str(script)])
    good = _program(programs, "good", "$RUNTIME state && echo 'ok 1 - a'")
    bad = _program(programs, "bad", "echo 'not ok 1 - a'; echo reason >&2; exit 3")
    slow = _program(programs, "slow", "exec sleep 100")
    results = [
        runtime_tools.run(path, programs, runtime, limit)
        for path, limit in ((good, 60), (bad, 60), (slow, 0.1))
    ]
    assert [result.verdict for result in results] == [
        "1 ok",
        "**error**, **1 not ok**",
        "**error**",
    ]
    assert results[1].error == "exit 3: reason"
    assert results[2].error == "not done after 0.1 s"
    table = runtime_tools.table(results, [runtime])
    assert "| passed of 3 | 1 |" in table
