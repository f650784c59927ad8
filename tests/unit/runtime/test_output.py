"""Streams that can't be written to."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cloche.runtime import output


def test_full_stream_is_no_second_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What can't be told is dropped for good: closing the stream doesn't fail either."""
    with open("/dev/full", "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        output.tell("text\n")
        assert os.fstat(stream.fileno()).st_rdev == os.stat("/dev/null").st_rdev


def test_stream_that_is_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    """A stream without a file descriptor is left alone."""
    output.drop(sys.stdout)
    output.tell("text\n")
    assert capsys.readouterr().err == "text\n"


def test_streams_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter has None where a stream was closed; afterwards there is one."""
    monkeypatch.setattr(sys, "stdout", None)
    output.fill_standard_streams()
    assert sys.stdout is not None
    assert Path(f"/proc/self/fd/{sys.stdout.fileno()}").exists()
