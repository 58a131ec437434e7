"""Router advertisements on a PPP link, RFC 4861 6.2: some once it is up, then rarely, and when they are asked for.

IPv6CP gives a peer nothing but its link-local address: prefix, default route, MTU and name servers come this way.
"""

from collections.abc import Callable, Sequence

from kl2tp.wire.errors import ProtocolError
from kl2tp.wire.icmpv6 import ALL_NODES, UNSPECIFIED, decode_solicitation

INTERVAL = 600.0
"""MaxRtrAdvInterval, seconds; a third of it is the least."""
_INITIAL_INTERVAL = 16.0
_INITIAL = 3
"""Advertisements at the beginning that come at shorter intervals (6.2.4)."""
_ANSWER_DELAY = 0.5
"""Seconds that an answer waits at most (6.2.6): several questions then get one answer."""
_RESTLESS = 3.0
"""Seconds between two advertisements to all (6.2.6)."""


class Advertiser:
    """The router's side. Its owner sends what `take_messages` gives from our link-local address, with hop limit 255."""

    __slots__ = ("_ask_to", "_left", "_message", "_messages", "_next", "_random", "_sent", "deadline")

    def __init__(self, message: bytes, random: Callable[[int], bytes]) -> None:
        """`message` is the advertisement, by `kl2tp.wire.icmpv6.encode_advertisement`."""
        self._message = message
        self._random = random
        self._messages: list[tuple[bytes, bytes]] = []
        self._left = 0
        """Advertisements that still come at short intervals."""
        self._next: float | None = None
        """When the next unsolicited one is due."""
        self._sent: float | None = None
        """When the last one to all was sent."""
        self._ask_to = b""
        """Who gets the answer that waits; empty: none waits."""
        self.deadline: float | None = None
        """When `handle_timer` wants to be called."""

    def start(self, now: float, *, initial: bool = True) -> None:
        """The link is up. Without `initial` it has been for long, and the peer knows all."""
        self._left = _INITIAL if initial else 0
        self._next = now if initial else now + self._interval()
        self.deadline = self._next
        self.handle_timer(now)

    def change(self, message: bytes, now: float) -> None:
        """There is something else to tell (6.2.4)."""
        if message != self._message:
            self._message = message
            self.start(now)

    def stop(self) -> None:
        """The link is gone."""
        self.deadline = self._next = None
        self._ask_to = b""

    def receive(self, message: bytes, source: bytes, now: float) -> None:
        """Take a router solicitation; what is none is dropped."""
        try:
            decode_solicitation(message, source)
        except ProtocolError:
            return
        if self._next is None or self._ask_to:
            return
        self._ask_to = ALL_NODES if source == UNSPECIFIED else source
        at = now + _ANSWER_DELAY * self._chance()
        if self._ask_to == ALL_NODES and self._sent is not None:
            at = max(at, self._sent + _RESTLESS)
        self.deadline = min(at, self._next)

    def handle_timer(self, now: float) -> None:
        """Look at the time."""
        if self.deadline is None or now < self.deadline or self._next is None:
            return
        if now >= self._next:
            self._left -= self._left > 0
            self._next = now + self._interval()
            self._ask_to = ALL_NODES
        if self._ask_to == ALL_NODES:
            self._sent = now
        self._messages.append((self._message, self._ask_to))
        self._ask_to = b""
        self.deadline = self._next

    def take_messages(self) -> Sequence[tuple[bytes, bytes]]:
        """Messages to be sent, each with its destination."""
        if not self._messages:
            return ()
        messages, self._messages = self._messages, []
        return messages

    def _chance(self) -> float:
        """A number between 0 and 1."""
        return int.from_bytes(self._random(2), "big") / 0x10000

    def _interval(self) -> float:
        """Seconds to the next unsolicited advertisement (6.2.4)."""
        interval = INTERVAL * (1 + 2 * self._chance()) / 3
        return min(interval, _INITIAL_INTERVAL) if self._left else interval
