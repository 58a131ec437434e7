"""One heap for the timers of thousands of machines: arming one costs a comparison, mostly."""

import asyncio
import heapq
import itertools
import math
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

NEVER = math.inf
_FAR_S, _GRAIN_S = 2.0, 0.25
"""What is due in more than so many seconds waits for the next full grain: the keep-alives of thousands of sessions are
then sent by a few wake-ups, not by one each."""


class Timed(Protocol):
    """What has a timer: `timer_at` belongs to the heap and begins as NEVER."""

    timer_at: float

    @property
    def deadline(self) -> float | None: ...


_T = TypeVar("_T", bound=Timed)


class Timers(Generic[_T]):
    """Calls `due(item, now)` when an item's deadline has come.

    An item stands in the heap at most once, at its earliest: a deadline that moves away is noticed when the old one
    comes, which is far cheaper than to look for it in the heap.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[_T, float], None]) -> None:
        self._loop = loop
        self._due = due
        self._heap: list[tuple[float, int, _T]] = []
        self._order = itertools.count()
        self._handle: asyncio.TimerHandle | None = None
        self._handle_at = NEVER

    def arm(self, item: _T) -> None:
        """Take note of an item's deadline."""
        at = item.deadline
        if at is None or at >= item.timer_at:
            return
        if at > self._loop.time() + _FAR_S:
            at = math.ceil(at / _GRAIN_S) * _GRAIN_S
            if at >= item.timer_at:
                return
        item.timer_at = at
        heapq.heappush(self._heap, (at, next(self._order), item))
        if at < self._handle_at:
            self._set(at)

    def _set(self, at: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._handle_at = at
        self._handle = self._loop.call_at(at, self._fire)

    def _fire(self) -> None:
        self._handle, self._handle_at = None, NEVER
        now = self._loop.time()
        heap = self._heap
        while heap and heap[0][0] <= now:
            at, _, item = heapq.heappop(heap)
            if at != item.timer_at:
                continue  # it was armed for an earlier time since
            item.timer_at = NEVER
            deadline = item.deadline
            if deadline is not None and deadline <= now:
                self._due(item, now)
            self.arm(item)
        if heap and heap[0][0] < self._handle_at:
            self._set(heap[0][0])

    def close(self) -> None:
        """Stop."""
        if self._handle is not None:
            self._handle.cancel()
        self._heap.clear()
