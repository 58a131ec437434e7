"""Tunnel and session ids: random, never 0, never one that is in use or was a moment ago (RFC 2661 5.3, 9.2)."""

from collections.abc import Callable

_IDS = 0x10000
_AT_ONCE = 4096
"""Random octets fetched at a time: a system call for each id would cost more than all the rest of it."""
_DRAWS = 64
"""Random ids that are tried before one is looked for: with nine tenths taken, one time in a thousand."""


class Entropy:
    """Random octets from a source that gives many as cheaply as few."""

    __slots__ = ("_at", "_octets", "_source")

    def __init__(self, source: Callable[[int], bytes]) -> None:
        self._source = source
        self._octets = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Octets that nobody else gets."""
        end = self._at + size
        if end > len(self._octets):
            self._octets = self._source(max(_AT_ONCE, size))
            end = size
        taken = self._octets[end - size : end]
        self._at = end
        return taken

    def free_id(self, taken: Callable[[int], bool]) -> int:
        """An id that is not taken; 0 if all are."""
        candidate = 0
        for _ in range(_DRAWS):
            candidate = int.from_bytes(self.take(2), "big")
            if candidate and not taken(candidate):
                return candidate
        for step in range(_IDS):
            near = (candidate + step) % _IDS
            if near and not taken(near):
                return near
        return 0


class Quarantine:
    """Ids that were given back: for some seconds packets for them may still be under way, or the kernel has them."""

    __slots__ = ("_longest_s", "_most", "_until")

    def __init__(self, longest_s: float, most: int) -> None:
        self._longest_s = longest_s
        self._most = most
        self._until: dict[int, float] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._until

    def __len__(self) -> int:
        return len(self._until)

    def put(self, number: int, now: float) -> None:
        """Keep an id. Past a number of them the oldest is let go: so much must be enough for a peer in a loop."""
        until = self._until
        self.expire(now)
        if len(until) >= self._most:
            del until[next(iter(until))]
        until[number] = now + self._longest_s

    def expire(self, now: float) -> None:
        """Let go whose time is over."""
        until = self._until
        while until:
            oldest = next(iter(until))
            if until[oldest] > now:
                break
            del until[oldest]
