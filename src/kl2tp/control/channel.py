"""Reliable delivery of the control messages of one tunnel, RFC 2661 5.8 and appendix A.

A channel knows payloads, not messages. It numbers what is sent, repeats it until it is acknowledged, and hands on what
is received in order and once. The congestion window works as TCP's did when the RFC was written: slow start, congestion
avoidance, and when the retransmission timer runs out everything under way counts as lost and is sent again from the
oldest on, as fast as acknowledgements come. One timer serves all, for the oldest message.

Each turn of the owner goes: `receive` or `handle_timer`, any number of `send`, `flush`, then `take_datagrams`. To
survive a restart, keep what `save` gives before the datagrams of the same turn leave: then the peer never knows more
than a restored channel.
"""

from collections.abc import Sequence
from typing import Any

from kl2tp.wire.l2tp import ControlHeader, encode_control

DEFAULT_WINDOW = 4
"""Messages that a peer takes that doesn't say (RFC 2661 4.4.3, Receive Window Size)."""
_MODULUS = 0xFFFF
_BEHIND = 0x8000
"""Half of the numbers are behind the expected one, seen already; the others are ahead of it (5.8)."""
_LONGEST_HELD = 2048
"""Octets of a message that is kept while one before it is missing: no peer makes us keep more than that per slot."""

Arrival = tuple[int, bytes]
"""Session id of the header (0: about the tunnel), payload."""


class Channel:
    """One tunnel's control channel. Times are seconds of any clock that never goes back."""

    __slots__ = (
        "_ack_owed",
        "_avoidance",
        "_congestion_window",
        "_datagrams",
        "_expected",
        "_first",
        "_held",
        "_peer_window",
        "_queue",
        "_retransmit_at",
        "_sent",
        "_threshold",
        "_tried",
        "_used",
        "cap",
        "changed",
        "dead",
        "first_timeout",
        "heard",
        "hello_due",
        "hello_interval",
        "peer_tunnel_id",
        "receive_window",
        "retransmissions",
        "suspended",
        "tries",
    )

    def __init__(
        self,
        now: float = 0.0,
        *,
        receive_window: int = 32,
        first_timeout: float = 1.0,
        cap: float = 8.0,
        tries: int = 5,
        hello_interval: float = 60.0,
        peer_window: int = DEFAULT_WINDOW,
    ) -> None:
        self.receive_window = receive_window
        self.first_timeout = first_timeout
        self.cap = cap
        self.tries = tries
        self.hello_interval = hello_interval
        """0: never ask."""
        self.peer_tunnel_id = 0
        """Tunnel id in the headers that we send; 0 until the peer has assigned one (4.4.3)."""
        self.dead = False
        """The peer acknowledged nothing, however often it was sent."""
        self.hello_due = False
        """Nothing was received for `hello_interval`: the owner should send a HELLO (6.5)."""
        self.heard = now
        """When something was last received; the owner may set it, when data came."""
        self.changed = True
        """What `save` gives is not what it was; the owner clears it."""
        self.retransmissions = 0
        """In all, for statistics."""
        self.suspended = False
        """Nothing that is sent would arrive: all is kept, nothing is repeated, and silence means nothing."""
        self._queue: list[Arrival] = []
        """What is not acknowledged or not even sent, from the oldest on."""
        self._first = 0
        """Ns of the oldest in the queue, or of the next to come."""
        self._sent = 0
        """How many of the queue are under way, as far as we know."""
        self._used = 0
        """How many of the queue were ever sent: their numbers are taken."""
        self._tried = 0
        """Retransmissions of the oldest."""
        self._retransmit_at = now
        self._expected = 0
        """Ns of the next message to come, our Nr."""
        self._ack_owed = False
        self._held: dict[int, Arrival] | None = None
        """What came before its turn, by Ns."""
        self._datagrams: list[bytes] = []
        self.peer_window = peer_window
        self._congestion_window = 1
        self._avoidance = 0
        """Acknowledgements since the window last grew."""

    @property
    def peer_window(self) -> int:
        """Messages that may be under way: the peer's Receive Window Size."""
        return self._peer_window

    @peer_window.setter
    def peer_window(self, size: int) -> None:
        self._peer_window = self._threshold = min(max(size, 1), _BEHIND - 1)

    @property
    def unacked(self) -> int:
        """Messages that the peer has not acknowledged, sent or not."""
        return len(self._queue)

    @property
    def full_interval(self) -> float:
        """How long it takes until a peer that says nothing counts as dead; a closed channel lives on for it (5.8)."""
        return sum(self._interval(tried) for tried in range(self.tries + 1))

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` has something to do."""
        if self.dead or self.suspended:
            return None
        if self._queue:
            return self._retransmit_at
        return self.heard + self.hello_interval if self.hello_interval and not self.hello_due else None

    def send(self, payload: bytes, session_id: int, now: float) -> None:
        """Deliver a message, `session_id` being the peer's for the call that it is about, 0 for the tunnel."""
        if self.dead:
            return
        if not self._queue:
            self._retransmit_at = now + self.first_timeout
        self._queue.append((session_id, payload))
        self.hello_due = False
        self.changed = True
        self._transmit()

    def receive(self, header: ControlHeader, payload: bytes, now: float) -> Sequence[Arrival]:
        """The messages that are now in order: of this packet, and of earlier ones that waited for it."""
        acknowledged = (header.nr - self._first) & _MODULUS
        if self.dead or self._used < acknowledged < _BEHIND:
            return ()  # It acknowledges what was never sent: forged, or of another tunnel.
        self.heard = now
        self.hello_due = False
        if 0 < acknowledged <= self._used:
            self._acknowledge(acknowledged, now)
        return self._arrived(header, payload) if payload else ()

    def _arrived(self, header: ControlHeader, payload: bytes) -> Sequence[Arrival]:
        """A message, other than a ZLB, in whatever order."""
        ahead = (header.ns - self._expected) & _MODULUS
        if ahead == 0:
            return self._deliver((header.session_id, payload))
        if ahead >= _BEHIND:
            self._ack_owed = True  # Our acknowledgement may have been lost (5.8).
        elif ahead < self.receive_window and len(payload) <= _LONGEST_HELD:
            if self._held is None:
                self._held = {}
            self._held.setdefault(header.ns, (header.session_id, payload))
        return ()

    def _deliver(self, arrival: Arrival) -> list[Arrival]:
        """The expected message, and those held that follow it."""
        arrivals = [arrival]
        self._expected = (self._expected + 1) & _MODULUS
        while self._held:
            follower = self._held.pop(self._expected, None)
            if follower is None:
                break
            arrivals.append(follower)
            self._expected = (self._expected + 1) & _MODULUS
        self._ack_owed = True
        self.changed = True
        return arrivals

    def _acknowledge(self, count: int, now: float) -> None:
        """The peer has `count` further messages."""
        del self._queue[:count]
        self._first = (self._first + count) & _MODULUS
        self._sent = max(self._sent - count, 0)
        self._used -= count
        self._tried = 0
        self._retransmit_at = now + self.first_timeout
        self.changed = True
        self._open_window()
        self._transmit()

    def _open_window(self) -> None:
        """One acknowledgement more: slow start up to the threshold, then one message per window (appendix A)."""
        window = self._congestion_window
        if window >= self._peer_window:
            return
        self._avoidance += 1
        if window < self._threshold or self._avoidance >= window:
            self._congestion_window = window + 1
            self._avoidance = 0

    def handle_timer(self, now: float) -> None:
        """Retransmit, give up, or ask for a HELLO, if it is time."""
        deadline = self.deadline
        if deadline is None or now < deadline:
            return
        if not self._queue:
            self.hello_due = True
        elif self._tried >= self.tries:
            self.dead = True
            self._queue.clear()
            self._sent = self._used = 0
        else:
            self._retransmit(now)

    def _retransmit(self, now: float) -> None:
        """Congestion: begin again with the oldest message alone (appendix A)."""
        self._tried += 1
        self._threshold = max(self._congestion_window // 2, 1)
        self._congestion_window = 1
        self._sent = 0
        self._retransmit_at = now + self._interval(self._tried)
        self._transmit()

    def _interval(self, tried: int) -> float:
        """Seconds to wait for an acknowledgement after so many retransmissions."""
        return min(self.first_timeout * 2.0**tried, max(self.cap, self.first_timeout))

    def _transmit(self) -> None:
        """Send what the windows allow."""
        if self.suspended:
            return
        end = min(len(self._queue), self._congestion_window, self._peer_window)
        while self._sent < end:
            session_id, payload = self._queue[self._sent]
            self._emit(session_id, (self._first + self._sent) & _MODULUS, payload)
            self._sent += 1
            if self._sent <= self._used:
                self.retransmissions += 1
            else:
                self._used = self._sent

    def suspend(self) -> None:
        """The way to the peer is closed, and that is known: wait, as if time stood still."""
        self.suspended = True

    def resume(self, now: float) -> None:
        """The way is open again: send at once what is outstanding, and count anew."""
        self.suspended = self.hello_due = False
        self.heard = now
        self._tried = self._sent = 0
        self._congestion_window = 1
        self._retransmit_at = now + self.first_timeout
        self._transmit()

    def flush(self, now: float) -> None:
        """The end of a turn: acknowledge by a ZLB what no message did."""
        if self._ack_owed:
            self._emit(0, (self._first + self._used) & _MODULUS, b"")

    def _emit(self, session_id: int, ns: int, payload: bytes) -> None:
        self._datagrams.append(encode_control(self.peer_tunnel_id, session_id, ns, self._expected, payload))
        self._ack_owed = False

    def take_datagrams(self) -> Sequence[bytes]:
        """What is to be sent, since the last time."""
        datagrams = self._datagrams
        if not datagrams:
            return ()
        self._datagrams = []
        return datagrams

    def save(self) -> dict[str, Any]:
        """All that a channel needs to go on, in JSON's types. What came before its turn comes again."""
        return {
            "peer": self.peer_tunnel_id,
            "window": self._peer_window,
            "ns": self._first,
            "used": self._used,
            "nr": self._expected,
            "queue": [[session_id, payload.hex()] for session_id, payload in self._queue],
        }

    def restore(self, state: dict[str, Any], now: float) -> None:
        """Go on, as a new channel, where another was saved; the oldest message is sent again at once."""
        self.peer_tunnel_id = int(state["peer"])
        self.peer_window = int(state["window"])
        self._first = int(state["ns"])
        self._used = int(state["used"])
        self._expected = int(state["nr"])
        self._queue = [(int(session_id), bytes.fromhex(payload)) for session_id, payload in state["queue"]]
        self._retransmit_at = now + self.first_timeout
        self._transmit()
