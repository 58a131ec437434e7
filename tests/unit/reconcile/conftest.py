"""Event loops on a virtual clock: an hour of timers passes in milliseconds, and no test sleeps."""

import asyncio
import selectors
from collections.abc import Callable, Mapping

LONGEST_S = 100_000.0
"""On the virtual clock: whoever waits longer waits for ever."""


class Stuck(Exception):
    """Nothing will ever happen again."""


class VirtualSelector(selectors.DefaultSelector):
    """Where a loop would sleep, the clock is put forward instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now; else the clock shows the end of the timeout."""
        ready = super().select(0)
        if not ready and (timeout is None or self.now > LONGEST_S):
            raise Stuck
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is that of its selector."""

    def __init__(self) -> None:
        self._clock = VirtualSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        """Seconds on the virtual clock."""
        return self._clock.now


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Every asynchronous test of this directory."""
    return {"virtual": VirtualLoop}
