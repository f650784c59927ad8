from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.errors import InvalidArgument
from cloche.kernel import capabilities

STATUS = b"""Name:\tsh
CapInh:\t0000000000000001
CapPrm:\t000001fffeffffff
CapEff:\t0000000000000002
CapBnd:\t000001ffffffffff
CapAmb:\t0000000000000000
NoNewPrivs:\t0
"""


def test_numbers_are_the_kernels() -> None:
    """The first, a middle and the last name have the numbers of <linux/capability.h>."""
    assert capabilities.number("CAP_CHOWN") == 0
    assert capabilities.number("CAP_SYS_ADMIN") == 21
    assert capabilities.number("CAP_CHECKPOINT_RESTORE") == 40 == capabilities.LAST


@pytest.mark.parametrize("name", ["CAP_NET_RAW", "NET_RAW", "net_raw", "cap_net_raw"])
def test_names_are_taken_as_people_write_them(name: str) -> None:
    """Case and the prefix don't matter, as with Docker's --cap-add."""
    assert capabilities.number(name) == 13


@pytest.mark.parametrize("name", ["CAP_ROOT", "", "CAP_", "CAP_CHOWN ", "ALL"])
def test_an_unknown_name_is_refused_by_name(name: str) -> None:
    """What isn't a capability is an error that names it."""
    with pytest.raises(InvalidArgument, match=f"capability {name} doesn't exist"):
        capabilities.number(name)


def test_all_means_every_capability() -> None:
    """ALL is the full set, in either spelling."""
    assert capabilities.mask(["ALL"]) == capabilities.mask(["cap_all"]) == (1 << 41) - 1
    assert capabilities.full(40) == (1 << 41) - 1


@given(st.sets(st.sampled_from(capabilities.NAMES)))
def test_names_and_masks_are_inverse(names: set[str]) -> None:
    """A mask names exactly the capabilities it was made of."""
    assert set(capabilities.names(capabilities.mask(names))) == names


def test_a_capability_from_the_future_is_shown() -> None:
    """A bit above the table isn't dropped from a listing."""
    assert capabilities.names(1 << 41 | 1) == ("CAP_CHOWN", "CAP_41")


def test_the_default_set_is_dockers() -> None:
    """Fourteen capabilities, as /proc shows them in a Docker container."""
    assert capabilities.DEFAULT == 0xA80425FB
    assert len(capabilities.names(capabilities.DEFAULT)) == 14


def test_the_status_file_is_parsed() -> None:
    """Each of the five sets comes from its own line."""
    assert capabilities.parse_status(STATUS) == capabilities.Sets(
        inheritable=1, permitted=0x1FFFEFFFFFF, effective=2, bounding=0x1FFFFFFFFFF, ambient=0
    )


def test_the_callers_sets_are_consistent() -> None:
    """No process has an effective capability that isn't permitted."""
    sets = capabilities.current()
    assert sets.effective & ~sets.permitted == 0
    assert sets.bounding & ~capabilities.full(capabilities.last()) == 0
