"""Who speaks through IPsec where nobody else is heard: peers told apart by the SA that their packets came out of.

nftables marks what came out of ESP with the SA's reqid, which IKE gives each client for itself; the listener is told
the mark. A client's first packet may be faster than charon's word that there is a client: it waits for that a moment.
Without nftables there are no marks: then a client is known by its address, if it is the only one there.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from kl2tp.control.profiles import Peer, Place
from kl2tp.ipsec.ike import ChildSa
from kl2tp.kernel import clients as kernel
from kl2tp.model.objects import Marks

_MOST_PARKED = 256
_PARKED_S = 3.0
"""How long a packet waits for word of its sender: an SCCRQ is repeated soon anyway."""


class _Parked(NamedTuple):
    """A datagram of an unknown sender."""

    until: float
    data: bytes
    peer: Place
    local: Place
    mark: int


class Clients:
    """The clients of all places where only IPsec gets in."""

    def __init__(self) -> None:
        self.marks: Marks = (0, 0)
        self.filtered = True
        """Whether there is nftables, and so are marks."""
        self.known: Mapping[int, ChildSa] = {}
        """By reqid; charon's own, always as it is now."""
        self.unknown = 0
        """Packets whose sender did not become known."""
        self._places: frozenset[Place] = frozenset()
        self._parked: deque[_Parked] = deque()

    def guard(self, places: Iterable[Place]) -> None:
        """Only IPsec gets in at these places; zeros are any address."""
        self._places = frozenset(places)

    def guards(self, local: Place) -> bool:
        """Whether only IPsec gets in at one of our addresses."""
        return bool(self._places) and (local in self._places or (bytes(len(local[0])), local[1]) in self._places)

    def reqid(self, mark: int) -> int:
        """Of the SA that a packet came out of; 0: of none that is a client's, or there are no marks."""
        return kernel.reqid_of(mark, self.marks) if mark else 0

    def source(self, peer: Place, mark: int) -> Peer | None:
        """Who sent a packet; None: that is not known, or not known yet."""
        number = self.reqid(mark)
        if number:
            return (*peer, number) if number in self.known else None
        return None if self.filtered else self._by_address(peer)

    def _by_address(self, peer: Place) -> Peer | None:
        found = {reqid for reqid, child in self.known.items() if child.remote == peer[0]}
        return (*peer, found.pop()) if len(found) == 1 else None

    def park(self, data: bytes, peer: Place, local: Place, mark: int, now: float) -> None:
        """Have a packet wait until its sender is known; of too many the oldest is lost."""
        self._expire(now)
        if len(self._parked) >= _MOST_PARKED:
            self._parked.popleft()
            self.unknown += 1
        self._parked.append(_Parked(now + _PARKED_S, data, peer, local, mark))

    def unpark(self, now: float) -> list[tuple[bytes, Peer, Place]]:
        """What need not wait any longer, as it is known now who sent it."""
        self._expire(now)
        found: list[tuple[bytes, Peer, Place]] = []
        left: deque[_Parked] = deque()
        for parked in self._parked:
            source = self.source(parked.peer, parked.mark)
            if source is None:
                left.append(parked)
            else:
                found.append((parked.data, source, parked.local))
        self._parked = left
        return found

    def _expire(self, now: float) -> None:
        while self._parked and self._parked[0].until <= now:
            self._parked.popleft()
            self.unknown += 1
