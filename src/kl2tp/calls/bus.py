"""What happens to sessions, for whoever listens: `kl2tp events` and the journal.

A listener that does not keep up loses the oldest events, and is told how many: it never holds up the daemon.
"""

import asyncio
import time
from collections import deque
from typing import Any

Event = dict[str, Any]
_MOST_WAITING = 1000
_MOST_LISTENERS = 32


class TooManyListeners(Exception):
    """There are as many as there may be."""


class Listener:
    """One who listens."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._lost = 0
        self._wake = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Take an event."""
        if len(self._events) >= _MOST_WAITING:
            self._events.popleft()
            self._lost += 1
        self._events.append(event)
        self._wake.set()

    async def next(self) -> Event:
        """The next event."""
        while not self._events:
            self._wake.clear()
            await self._wake.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return {"event": "lost", "count": lost}
        return self._events.popleft()


class Bus:
    """All who listen."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def join(self) -> Listener:
        """Begin to listen. Raises TooManyListeners."""
        if len(self._listeners) >= _MOST_LISTENERS:
            raise TooManyListeners
        listener = Listener()
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop listening."""
        self._listeners.discard(listener)

    def tell(self, kind: str, **fields: Any) -> None:
        """Something happened."""
        if self._listeners:
            event = {"event": kind, "time": round(time.time(), 3), **fields}
            for listener in self._listeners:
                listener.hear(event)
