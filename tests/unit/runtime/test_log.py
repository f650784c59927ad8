"""What the runtime tells, and where."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cloche.runtime.log import Log

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z"


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of the log is an object with the three fields that engines read."""
    log = Log(str(tmp_path / "log"), "json")
    log.failure('no "way"', "try another")
    log.warning("hm")
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert [(line["level"], line["msg"]) for line in lines] == [
        ("error", 'no "way" (try another)'),
        ("warning", "hm"),
    ]
    assert all(re.fullmatch(TIME, line["time"]) for line in lines)
    assert capsys.readouterr().err == 'cloche: no "way" (try another)\n'


def test_text(tmp_path: Path) -> None:
    """The other form is that of logrus."""
    Log(str(tmp_path / "log"), "text").failure("it's gone")
    line = (tmp_path / "log").read_text()
    assert re.fullmatch(rf'time="{TIME}" level=error msg="it\'s gone"\n', line)


def test_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error gets words for people, or the log's lines if those were asked for."""
    Log().warning("hm")
    assert capsys.readouterr().err == "cloche: warning: hm\n"
    Log("", "json").failure("no")
    assert json.loads(capsys.readouterr().err)["msg"] == "no"


def test_log_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The failure is told all the same."""
    Log(str(tmp_path / "nosuch" / "log"), "json").failure("no")
    errors = capsys.readouterr().err
    assert "cloche: no\n" in errors
    assert "no such file or directory" in errors
