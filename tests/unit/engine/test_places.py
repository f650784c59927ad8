"""Where Cloche keeps its files, and whose they must be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloche.engine.places import places
from cloche.errors import PermissionDenied


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of the caller's, named as both places."""
    monkeypatch.setenv("CLOCHE_STATE", f"{tmp_path}/state")
    monkeypatch.setenv("CLOCHE_DATA", f"{tmp_path}/data")
    return tmp_path


def test_named_by_the_environment(own: Path) -> None:
    """Both may be named, and need not be there yet."""
    assert places() == (f"{own}/state", f"{own}/data")
    assert list(own.iterdir()) == []


def test_links_are_followed_once(own: Path) -> None:
    """A link is followed now: where it leads later doesn't matter."""
    (own / "elsewhere").mkdir()
    (own / "state").symlink_to("elsewhere")
    assert places().state == f"{own}/elsewhere"


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702])
def test_open_to_others(own: Path, mode: int) -> None:
    """A directory that others may write to is refused, and one that is to be made in it."""
    own.chmod(mode)
    with pytest.raises(PermissionDenied, match="another user"):
        places()


def test_sticky_bit_protects_what_is_there(own: Path) -> None:
    """As in /tmp: nobody else can rename or remove it."""
    for name in ("state", "data"):
        (own / name).mkdir()
    own.chmod(0o1777)
    assert places().state == f"{own}/state"
    own.chmod(0o777)
    with pytest.raises(PermissionDenied, match="another user"):
        places()


def test_of_others(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory of another user on the way is refused."""
    caller = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: caller + 1)
    if own.stat().st_uid == 0:
        os.chown(own, 12345, 12345)
    with pytest.raises(PermissionDenied, match=str(own)):
        places()
