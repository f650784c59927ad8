"""User namespaces: who gets one, and what stands behind its ids."""

from typing import Any

import pytest

from cloche.engine import users
from cloche.errors import InvalidArgument, PermissionDenied
from cloche.kernel.features import Features


def test_only_root_does_without(features: Features, ordinary: Features) -> None:
    """Root's containers have the host's users unless asked otherwise, all others never."""
    assert not users.is_private("", features)
    assert not users.is_private("host", features)
    assert users.is_private("private", features)
    assert users.is_private("", ordinary)
    with pytest.raises(PermissionDenied, match="--userns host"):
        users.is_private("host", ordinary)


def test_ordinary_user_with_ranges(ordinary: Features) -> None:
    """The user is root inside, and the granted ids come above."""
    maps = users.mappings(ordinary)
    assert maps.uids == [
        {"containerID": 0, "hostID": 1000, "size": 1},
        {"containerID": 1, "hostID": 100_000, "size": 65_536},
    ]
    assert maps.gids[1]["hostID"] == 200_000


@pytest.mark.parametrize("lacks", ["newuidmap", "newgidmap", "subuids", "subgids"])
def test_ordinary_user_without(ordinary: Features, lacks: str) -> None:
    """Where one of the four things is missing, the user's own id is all there is."""
    nothing: Any = () if lacks.startswith("sub") else None
    maps = users.mappings(ordinary._replace(**{lacks: nothing}))
    assert maps.uids == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert maps.gids == [{"containerID": 0, "hostID": 1000, "size": 1}]


def test_root_gives_ids_of_nobody(features: Features) -> None:
    """Root's containers get ids that aren't the host's: 0 inside is no one outside."""
    maps = users.mappings(features)
    (entry,) = maps.uids
    assert entry["containerID"] == 0
    assert entry["hostID"] >= 524_288
    assert entry["size"] == 65_536
    assert maps.gids == maps.uids


def test_unmapped_id_is_refused(ordinary: Features) -> None:
    """An id that doesn't exist in the namespace is named before the kernel says EINVAL."""
    maps = users.mappings(ordinary)
    users.require_mapped(65_536, maps.uids, "user")
    with pytest.raises(InvalidArgument, match="user 65537"):
        users.require_mapped(65_537, maps.uids, "user")
