"""Ranges of whole numbers, and of addresses as such: merged, subtracted, cut into prefixes.

A range is (first, last), both included.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same numbers in ascending ranges, none of which meets or touches another."""
    result: list[Range] = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        else:
            result.append((first, last))
    return result


def without(ranges: Iterable[Range], removed: Iterable[Range]) -> list[Range]:
    """What is left of ascending ranges once those in `removed` are cut out."""
    result: list[Range] = []
    holes = merged(removed)
    for first, last in ranges:
        for low, high in holes:
            if high < first or low > last:
                continue
            if low > first:
                result.append((first, low - 1))
            first = high + 1
        if first <= last:
            result.append((first, last))
    return result


def common(one: Iterable[Range], other: Iterable[Range]) -> Range | None:
    """The first range that is in both."""
    others = list(other)
    for first, last in one:
        for low, high in others:
            if low <= last and high >= first:
                return max(first, low), min(last, high)
    return None


def prefixes(first: int, last: int, bits: int) -> Iterator[tuple[int, int]]:
    """The fewest prefixes (number, length) that together are this range of `bits`-bit addresses."""
    while first <= last:
        size = min((first & -first).bit_length() - 1 if first else bits, (last - first + 1).bit_length() - 1)
        yield first, bits - size
        first += 1 << size
