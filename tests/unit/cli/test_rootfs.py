"""The command ``cloche rootfs``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import pytest

from cloche.cli import rootfs


def run(*arguments: str) -> int:
    """Run the command in this process."""
    parser = argparse.ArgumentParser()
    rootfs.configure(parser)
    return rootfs.run(parser.parse_args(arguments))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script of the shell."""
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_lines(script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Into a pipe goes one line for each path, and the sum to standard error."""
    assert run("from-host", str(tmp_path / "root"), str(script)) == 0
    out, err = capsys.readouterr()
    assert f"new\t{script}" in out.splitlines()
    assert err.startswith(f"{tmp_path}/root: ")
    run("from-host", str(tmp_path / "root"), str(script))
    out, err = capsys.readouterr()
    assert f"same\t{script}" in out.splitlines()
    assert "0 files copied, 0 B" in err
    assert "were there already" in err


def test_json(script: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON each thing says what it is and why it is there."""
    run("from-host", "--json", str(tmp_path / "root"), str(script))
    copied = {one["path"]: one for one in json.loads(capsys.readouterr().out)}
    assert copied[str(script)] == {
        "path": str(script), "change": "new", "type": "file", "size": 10,
        "role": "program", "needed_by": "",
    }  # fmt: skip
    shell = copied[os.path.realpath("/bin/sh")]
    assert (shell["role"], shell["needed_by"]) == ("interpreter", str(script))


def test_tree(
    script: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a terminal a tree shows what needs what, and a directory as one line."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "one").write_text("x" * 1500)
    (data / "two").symlink_to("one")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    run("from-host", str(tmp_path / "root"), str(script), "--file", str(data))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [str(script), "10", "B"]
    assert lines[1].split()[:2] == ["└──", "/bin/sh"]
    assert lines[-1].split() == [str(data), "1.5", "kB", "in", "2", "entries"]


def test_sub_command_is_required(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a sub-command or a program the usage is shown."""
    for arguments in ([], ["from-host"], ["from-host", "dir"]):
        with pytest.raises(SystemExit):
            run(*arguments)
        assert "usage:" in capsys.readouterr().err
