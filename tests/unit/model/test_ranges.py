"""Ranges: what they hold is what sets of the same numbers hold."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from kl2tp.model.ranges import common, merged, prefixes, without

RANGES = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1])))


def numbers(ranges: list[tuple[int, int]]) -> set[int]:
    return {number for first, last in ranges for number in range(first, last + 1)}


@given(RANGES)
def test_merged_ranges_hold_the_same_and_never_touch(ranges: list[tuple[int, int]]) -> None:
    found = merged(ranges)
    assert numbers(found) == numbers(ranges)
    assert all(one[1] + 1 < other[0] for one, other in pairwise(found))


@given(RANGES, RANGES)
def test_what_is_cut_out_is_gone_and_nothing_else(ranges: list[tuple[int, int]], holes: list[tuple[int, int]]) -> None:
    assert numbers(without(merged(ranges), holes)) == numbers(ranges) - numbers(holes)


@given(RANGES, RANGES)
def test_what_is_common(one: list[tuple[int, int]], other: list[tuple[int, int]]) -> None:
    found = common(one, other)
    both = numbers(one) & numbers(other)
    assert (found is None) is (not both)
    assert found is None or numbers([found]) <= both


@given(st.integers(0, 255), st.integers(0, 255))
def test_prefixes_are_the_range(first: int, last: int) -> None:
    found = list(prefixes(first, last, 8))
    assert numbers([(start, start + (1 << 8 - length) - 1) for start, length in found]) == numbers([(first, last)])
    assert all(start % (1 << 8 - length) == 0 for start, length in found)


def test_the_fewest_prefixes() -> None:
    assert list(prefixes(4, 8, 8)) == [(4, 6), (8, 8)]
    assert list(prefixes(0, 255, 8)) == [(0, 0)]
