"""How long the event loop stands still: measured where it waits, so that measuring wakes nobody."""

import selectors
import time
from collections.abc import Mapping
from typing import Any


class StallMeter(selectors.BaseSelector):
    """A selector for an asyncio event loop that notes how long the loop stayed away from it."""

    def __init__(self) -> None:
        self._inner = selectors.DefaultSelector()
        self._left_at = 0.0
        self.longest_s = 0.0
        """The longest time between two looks at what is ready, seconds."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready; notes how long nobody asked."""
        entered = time.monotonic()
        if self._left_at:
            self.longest_s = max(self.longest_s, entered - self._left_at)
        ready = self._inner.select(timeout)
        self._left_at = time.monotonic()
        if timeout is not None and not ready:
            # Woken late: some other thread kept the interpreter.
            self.longest_s = max(self.longest_s, self._left_at - entered - max(0.0, timeout) - 0.001)
        return ready

    def reset(self) -> None:
        """Forget what was measured."""
        self.longest_s = 0.0

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._inner.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._inner.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._inner.get_map()

    def close(self) -> None:
        self._inner.close()
