"""When an outbound SA gets precedence over those that come after it (`kernel.precedence`), and when it loses it.

It gets it some time after charon has told of it: then the peer has the pair too, and its predecessor is gone. That is
so in IKEv2 only: with IKEv1 the predecessor would stay in use until the end of its time, which may be later than the
peer's.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from kl2tp.ipsec.ike import ChildSa
from kl2tp.kernel.door import Door
from kl2tp.kernel.precedence import Outbound

SETTLED_S = 2.0
"""Shorter than any time between two changes of keys."""
InDoor = Callable[[Callable[[Door], object]], object]
"""Has something done in the thread that speaks to the kernel."""


def outbound(child: ChildSa) -> Outbound:
    """What the kernel knows a pair's outbound SA by."""
    return child.remote, child.spi_out


class Precedence:
    """The outbound SAs of all connections."""

    def __init__(self, in_door: InDoor) -> None:
        self._in_door = in_door
        self._loop = asyncio.get_running_loop()
        self._fresh: deque[tuple[float, Outbound]] = deque()
        """Those that have none yet, with the time when they get it."""
        self._timer: asyncio.TimerHandle | None = None

    def fresh(self, child: ChildSa) -> None:
        """A pair is there, by IKEv2, that was not before."""
        self._fresh.append((self._loop.time() + SETTLED_S, outbound(child)))
        self._arm()

    def orphaned(self, children: Iterable[ChildSa]) -> None:
        """Nobody will change the keys of these any more; whatever comes in their place comes first."""
        some = list(map(outbound, children))
        self._in_door(lambda door: door.level(some))

    def only(self, known: Iterable[ChildSa]) -> None:
        """No others than these are looked after by a charon: the others were left by an earlier one."""
        there = set(map(outbound, known))
        self._in_door(lambda door: door.level(set(door.preferred()) - there))

    def close(self) -> None:
        """Nothing more of those that charon told of."""
        self._fresh.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is None and self._fresh:
            self._timer = self._loop.call_at(self._fresh[0][0], self._due)

    def _due(self) -> None:
        self._timer = None
        some, now = [], self._loop.time()
        while self._fresh and self._fresh[0][0] <= now:
            some.append(self._fresh.popleft()[1])
        if some:
            self._in_door(lambda door: door.prefer(some))
        self._arm()
