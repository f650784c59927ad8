"""What is said to criu, and what it says."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import MissingDependency
from cloche.runtime import criu


class TestMessages:
    """The encoding of protocol buffers."""

    def test_known(self) -> None:
        """Bytes as criu's own libraries make them."""
        assert criu.varint(1) == b"\x01"
        assert criu.varint(300) == b"\xac\x02"
        assert criu.field(2, 150) == b"\x10\x96\x01"
        assert criu.field(2, "testing") == b"\x12\x07testing"
        assert criu.field(37, b"") == b"\xaa\x02\x00"

    @given(
        st.dictionaries(
            st.integers(1, 2**29 - 1), st.integers(0, 2**64 - 1) | st.binary(max_size=300)
        )
    )
    def test_round_trip(self, values: dict[int, int | bytes]) -> None:
        """What is encoded comes out again."""
        message = b"".join(criu.field(number, value) for number, value in values.items())
        assert criu.fields(message) == values

    @given(st.binary(max_size=40))
    def test_damaged(self, message: bytes) -> None:
        """Bytes that are no message are refused, without another error."""
        try:
            criu.fields(message)
        except ValueError:
            pass

    def test_response(self) -> None:
        """A response with its notice, and one with what went wrong."""
        notice = criu.field(1, "network-lock") + criu.field(2, 7)
        found = criu.response(criu.field(1, 6) + criu.field(2, 1) + criu.field(5, notice))
        assert found == criu.Response(6, True, "network-lock", "")
        found = criu.response(criu.field(1, 1) + criu.field(2, 0) + criu.field(9, "why"))
        assert found == criu.Response(1, False, "", "why")


class TestComplaint:
    """What is told of a failure."""

    def test_last_errors(self, tmp_path: Path) -> None:
        """The last errors of the log, of children too, without those that say nothing."""
        log = tmp_path / "dump.log"
        log.write_text(
            "(00.000001) Error (a.c:1): first\n"
            "(00.000001) Error (a.c:1): second\n"
            "(00.000002) Running: an Error is near\n"
            "(00.000003)      7: Error (b.c:2): part: third\n"
            "(00.000003) Error (b.c:2): fourth\n"
            "(00.000004) Error (c.c:3): Dumping FAILED.\n"
        )
        told = criu.complaint(str(log), "unused")
        assert told == f"criu: second; part: third; fourth (log: {log})"

    def test_no_log(self, tmp_path: Path) -> None:
        """Without a log, what it has said itself."""
        assert criu.complaint(str(tmp_path / "none"), "it failed") == "criu: it failed"


def test_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the program, and says how it is had."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(MissingDependency, match="criu isn't installed") as caught:
        criu.program()
    assert "install the package criu" in caught.value.hint
