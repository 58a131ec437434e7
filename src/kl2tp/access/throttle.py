"""What wrong passwords cost: time, and after several of them a rest for the place that they came from.

Failures in a row are counted in three ways, each with its own answer:

- of a peer address (an IPv6 one counts as its /64, of which a host has all): after `refusals` of them nobody is let in
  from there for `refusal_time`. Any success from there ends the row: behind one LAC are thousands of users, of whom
  some always have a wrong password.
- of a user at that peer: until the delay of the last refusal is over, further attempts fail unseen. So guessing one
  user's password goes no faster with many calls at once, and a success with another account helps nothing.
- of a user at any peer: refusals are delayed, but no user can be locked out by somebody elsewhere.

The delay of a refusal doubles with each failure in the longest of the three rows. All three tables are bounded; what
failed longest ago is forgotten first, and made-up user names push no peer out. Nothing here reads a clock.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)

LONGEST_DELAY = 8.0
"""Seconds a refusal is delayed at most: a peer has to get it before it gives up."""
SOURCES = 16384
"""Rows of failures that are remembered of each kind."""
MEMORY = 600.0
"""Seconds after which a row of failures is forgotten, at least."""
_IPV6_HOST = 8
"""Bytes of an IPv6 address that tell hosts apart: the /64."""
_NAME = 64
"""Characters of a user name that count: a name is the peer's word, and may be long."""


class Row:
    """Failures in a row."""

    __slots__ = ("count", "last", "until")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.until = 0.0
        """When attempts are looked at again."""


class Rows(Generic[KeyT]):
    """Rows of failures by what they have in common, bounded."""

    __slots__ = ("_memory", "_rows", "_size")

    def __init__(self, size: int, memory: float) -> None:
        self._rows: OrderedDict[KeyT, Row] = OrderedDict()
        self._size = size
        self._memory = memory

    def __len__(self) -> int:
        return len(self._rows)

    def wait(self, key: KeyT, now: float) -> float:
        """Seconds until an attempt is looked at."""
        row = self._rows.get(key)
        return max(0.0, row.until - now) if row else 0.0

    def failed(self, key: KeyT, now: float) -> Row:
        """One failure more."""
        row = self._rows.get(key)
        if row is None or now >= max(row.until, row.last + self._memory):
            row = self._rows[key] = Row()
        self._rows.move_to_end(key)
        row.count += 1
        row.last = now
        if len(self._rows) > self._size:
            self._rows.popitem(last=False)
        return row

    def succeeded(self, key: KeyT) -> None:
        """The row is over."""
        self._rows.pop(key, None)


class Throttle:
    """Failed logins of one profile, or of all. Times are seconds on any one clock."""

    __slots__ = ("_at_peer", "_delay", "_peers", "_refusal_time", "_refusals", "_users")

    def __init__(
        self, delay: float = 1.0, refusals: int = 10, refusal_time: float = 60.0, sources: int = SOURCES
    ) -> None:
        self._delay = delay
        self._refusals = refusals
        self._refusal_time = refusal_time
        memory = max(MEMORY, refusal_time)
        self._peers: Rows[bytes] = Rows(sources, memory)
        self._at_peer: Rows[tuple[bytes, str]] = Rows(sources, memory)
        self._users: Rows[str] = Rows(sources, memory)

    def wait(self, peer: bytes, user: str, now: float) -> float:
        """0: look at this user's attempt from this (packed) address. Else refuse it unseen, after so many seconds.

        The answer has to be that to a wrong password.
        """
        source, name = _source(peer), user[:_NAME]
        return min(max(self._peers.wait(source, now), self._at_peer.wait((source, name), now)), LONGEST_DELAY)

    def failed(self, peer: bytes, user: str, now: float) -> float:
        """A wrong password. Gives the seconds after which it is to be refused."""
        source, name = _source(peer), user[:_NAME]
        at_peer, all_here = self._at_peer.failed((source, name), now), self._peers.failed(source, now)
        delay = self._delay_of(max(at_peer.count, all_here.count, self._users.failed(name, now).count))
        at_peer.until = now + delay
        if self._refusals and all_here.count >= self._refusals:
            all_here.until = now + self._refusal_time
        return delay

    def succeeded(self, peer: bytes, user: str) -> None:
        """A right password."""
        source, name = _source(peer), user[:_NAME]
        self._peers.succeeded(source)
        self._at_peer.succeeded((source, name))
        self._users.succeeded(name)

    def __len__(self) -> int:
        return len(self._peers) + len(self._at_peer) + len(self._users)

    def _delay_of(self, failures: int) -> float:
        return float(min(self._delay * 2 ** min(failures - 1, 30), LONGEST_DELAY))


def _source(peer: bytes) -> bytes:
    return peer if len(peer) == 4 else peer[:_IPV6_HOST]
