"""Names of users and groups, looked up in the container's own files."""

from pathlib import Path

import pytest

from cloche.engine.accounts import Account, lookup
from cloche.errors import InvalidArgument, NotFound


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", Account(0, 0, (0,), "/root")),
        ("root", Account(0, 0, (0,), "/root")),
        ("kermit", Account(1000, 100, (100, 2000), "/home/kermit")),
        ("1000", Account(1000, 100, (100, 2000), "/home/kermit")),
        ("daemon", Account(1, 1, (1, 2000), "/usr/sbin")),
        ("4242", Account(4242, 0, (0,), "/")),
        ("kermit:show", Account(1000, 2001, (2001,), "/home/kermit")),
        ("kermit:77", Account(1000, 77, (77,), "/home/kermit")),
        ("4242:users", Account(4242, 100, (100,), "/")),
        (":show", Account(0, 2001, (2001,), "/root")),
        ("2147483647:2147483647", Account(2147483647, 2147483647, (2147483647,), "/")),
    ],
)
def test_user(root: Path, user: str, expected: Account) -> None:
    """Docker's meanings: a group that is named counts alone, else those of the user do."""
    assert lookup(str(root), user) == expected


def test_added_groups(root: Path) -> None:
    """Further groups come after the user's own, each once."""
    found = lookup(str(root), "kermit", ("show", "55", "100"))
    assert found.groups == (100, 2000, 2001, 55)


@pytest.mark.parametrize(
    "user",
    ["gonzo", "kermit:gonzo", "piggy", "fozzie", "rowlf", "scooter", "-1", "1x", "4294967295"],
)
def test_unknown_name(root: Path, user: str) -> None:
    """A name that isn't there, or whose line makes no sense, is named."""
    with pytest.raises(NotFound):
        lookup(str(root), user)


@pytest.mark.parametrize("user", ["2147483648", "4242:4294967294", "kermit:"])
def test_number_out_of_range(root: Path, user: str) -> None:
    """An id that is none, or a group that is left out after its colon, is refused."""
    with pytest.raises(InvalidArgument):
        lookup(str(root), user)


def test_root_without_accounts(tmp_path: Path) -> None:
    """A root without /etc has root and every number, and no names."""
    assert lookup(str(tmp_path), "") == Account(0, 0, (0,), "/")
    assert lookup(str(tmp_path), "7:8") == Account(7, 8, (8,), "/")
    with pytest.raises(NotFound):
        lookup(str(tmp_path), "root")


def test_accounts_of_the_host_are_never_read(tmp_path: Path) -> None:
    """A link to the host's passwd leads to the root's own, which isn't there."""
    (tmp_path / "etc").symlink_to("/etc")
    with pytest.raises(NotFound):
        lookup(str(tmp_path), "root")
