"""Containers made by hand, for the tests of single steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.native.containers import ORDINARY_ID, Box, Treasure, make_box


@pytest.fixture(
    params=[
        pytest.param(None, id="root", marks=pytest.mark.needs("root")),
        pytest.param(ORDINARY_ID, id="userns", marks=pytest.mark.needs("userns")),
    ]
)
def box(request: pytest.FixtureRequest, workspace: Path) -> Box:
    """A container of root's, and one of an ordinary user."""
    return make_box(workspace, request.param)


@pytest.fixture
def root_box(workspace: Path) -> Box:
    """A container of root's."""
    return make_box(workspace, None)


@pytest.fixture
def user_box(workspace: Path) -> Box:
    """A container of an ordinary user's."""
    return make_box(workspace, ORDINARY_ID)


@pytest.fixture
def treasure(workspace: Path) -> Iterator[Treasure]:
    """What no container may touch; checked at the end."""
    found = Treasure(workspace)
    yield found
    found.assert_untouched()
