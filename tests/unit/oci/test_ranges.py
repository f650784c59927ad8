"""Lists of CPUs and memory nodes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloche.oci.ranges import CPUS, members
from cloche.plan.describe import numbers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("0", 1),
        ("0-3,7", 0b10001111),
        (" 1 , , 3-3,", 0b1010),
        ("8191", 1 << 8191),
    ],
)
def test_members(text: str, expected: int) -> None:
    """Numbers and ranges, in any order, with spaces around them."""
    assert members(text, CPUS) == expected


@pytest.mark.parametrize("text", ["all", "-1", "1-", "3-1", "0x1", "1 2", "8192", "9" * 20, "²"])
def test_what_is_no_list(text: str) -> None:
    """What is no list, or beyond any machine, is refused with a reason."""
    with pytest.raises(ValueError, match=r"."):
        members(text, CPUS)


@given(st.sets(st.integers(0, CPUS - 1)))
def test_list_and_mask_are_the_same(expected: set[int]) -> None:
    """A list of numbers, its mask, and the mask in words hold the same numbers."""
    mask = members(",".join(map(str, expected)), CPUS)
    assert {n for n in range(CPUS) if mask >> n & 1} == expected
    assert members(numbers(mask.to_bytes(CPUS // 8, "little")), CPUS) == mask
