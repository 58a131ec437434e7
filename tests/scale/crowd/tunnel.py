"""The control connection of one caller: Ns and Nr, the server's window, retransmission, and the calls in it."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from scale.crowd import messages
from scale.crowd.messages import CONTROL, CONTROL_HEADER
from scale.crowd.session import CALLING, CLOSING, Session
from scale.crowd.wire import HEADER, Path

if TYPE_CHECKING:
    from scale.crowd.crowd import Crowd

IDLE_TUNNEL, DIALLING, CONNECTED, CLEARING, GONE = range(5)
_FIRST_TIMEOUT_S, _TRIES = 1.0, 6
_BODY = HEADER + 12
"""Where the first AVP of a message begins."""


class Tunnel:
    """One caller's address, with a control connection and its calls."""

    __slots__ = (
        "crowd", "due", "id", "nr", "ns", "owes", "path", "peer_id", "queue", "sessions", "state", "tries", "unacked",
        "waiting", "window",
    )  # fmt: skip

    def __init__(self, crowd: Crowd, number: int, path: Path) -> None:
        self.crowd, self.path = crowd, path
        self.id = number + 1
        self.peer_id = 0
        self.state = IDLE_TUNNEL
        self.sessions: dict[int, Session] = {}
        self.waiting: list[Session] = []
        """Sessions that begin when the tunnel is up."""
        self.ns = self.nr = 0
        self.window = 4
        self.queue: deque[tuple[int, bytes, Session | None]] = deque()
        """(session, message, whose link begins as soon as it has left)."""
        self.unacked: deque[tuple[int, int, bytes]] = deque()
        """(Ns, session, message) of each, oldest first."""
        self.owes = False
        """Whether an acknowledgement is due that nothing else has carried."""
        self.due = 0.0
        self.tries = 0

    # -- what the crowd asks of it ---------------------------------------------------------------------------------

    def call(self, session: Session) -> None:
        """Place a call, when the tunnel is up."""
        session.state = CALLING
        if self.state == CONNECTED:
            self._send(0, messages.icrq(session.id, session.number + 1))
            return
        self.waiting.append(session)
        if self.state == IDLE_TUNNEL:
            self.state = DIALLING
            self._send(0, messages.sccrq(self.id, f"caller{self.id}"))

    def clear(self, session: Session) -> None:
        """End a call: CDN; the last one ends the tunnel."""
        self._send(session.peer_id, messages.cdn(session.id))
        session.end("")
        self._forget(session)

    def stop(self) -> None:
        """StopCCN."""
        if self.state in (DIALLING, CONNECTED):
            self.state = CLEARING
            self._send(0, messages.stopccn(self.id))
            for session in list(self.sessions.values()):
                session.end("")

    # -- reliable delivery -----------------------------------------------------------------------------------------

    def _send(self, session: int, message: bytes, connects: Session | None = None) -> None:
        self.queue.append((session, message, connects))
        self._pump()

    def _pump(self) -> None:
        while self.queue and len(self.unacked) < self.window:
            session, message, connects = self.queue.popleft()
            if not self.unacked:
                self.due, self.tries = self.crowd.now + _FIRST_TIMEOUT_S, 0
                self.crowd.alarm(self)
            self.unacked.append((self.ns, session, message))
            self._transmit(self.ns, session, message)
            self.ns = (self.ns + 1) & 0xFFFF
            if connects is not None and connects.state == CALLING:
                connects.begin_link()

    def _transmit(self, ns: int, session: int, message: bytes) -> None:
        self.owes = False
        head = CONTROL_HEADER.pack(CONTROL, 12 + len(message), self.peer_id, session, ns, self.nr)
        self.crowd.out.append(self.path.wrap(head + message))

    def acknowledge(self) -> None:
        """ZLB, if an acknowledgement is still due."""
        if self.owes:
            self._transmit(self.ns, 0, b"")

    def timeout(self) -> None:
        """Send what was not acknowledged again; each time wait twice as long."""
        if not self.unacked:
            return
        self.tries += 1
        if self.tries >= _TRIES:
            self._gone("the server does not answer")
            return
        self.crowd.counts["l2tp_repeats"] += 1
        self._transmit(*self.unacked[0])
        self.due = self.crowd.now + min(8.0, _FIRST_TIMEOUT_S * 2**self.tries)
        self.crowd.alarm(self)

    def take(self, frame: bytes, size: int, session: int, ns: int, nr: int) -> None:
        """A control message."""
        unacked = self.unacked
        while unacked and 0 < (nr - unacked[0][0]) & 0xFFFF < 0x8000:
            unacked.popleft()
            self.due, self.tries = self.crowd.now + _FIRST_TIMEOUT_S, 0
        if size > 12:
            self.crowd.owing.append(self)
            self.owes = True
            if ns == self.nr:
                self.nr = (ns + 1) & 0xFFFF
                self._message(frame, HEADER + size, session)
            else:
                self.crowd.counts["duplicates" if (ns - self.nr) & 0x8000 else "gaps"] += 1
        if self.queue:
            self._pump()
        if self.state == CLEARING and not self.unacked and not self.queue:
            self._gone("")

    # -- messages --------------------------------------------------------------------------------------------------

    def _message(self, frame: bytes, end: int, session: int) -> None:
        kind = int.from_bytes(frame[_BODY + 6 : _BODY + 8])
        if kind == messages.ICRP:
            self._accepted(frame, end, session)
        elif kind == messages.SCCRP and self.state == DIALLING:
            self._connected(frame, end)
        elif kind == messages.CDN:
            self._cleared(frame, end, session)
        elif kind == messages.STOPCCN:
            self.crowd.counts["stopped_by_server"] += 1
            self.acknowledge()
            self._gone("StopCCN: " + messages.result(messages.avps(frame, _BODY, end)))
        elif kind == messages.HELLO:
            self.crowd.counts["hellos"] += 1

    def _connected(self, frame: bytes, end: int) -> None:
        found = messages.avps(frame, _BODY, end)
        self.peer_id = int.from_bytes(found[messages.ASSIGNED_TUNNEL])
        self.window = int.from_bytes(found.get(messages.WINDOW, b"\0\x04"))
        self.state = CONNECTED
        self._send(0, messages.scccn(self.crowd.tunnel_secret, found.get(messages.CHALLENGE, b"")))
        for session in self.waiting:
            self.call(session)
        self.waiting = []

    def _accepted(self, frame: bytes, end: int, number: int) -> None:
        session = self.sessions.get(number)
        if session is None or session.state != CALLING:
            return
        session.peer_id = int.from_bytes(messages.avps(frame, _BODY, end)[messages.ASSIGNED_SESSION])
        self._send(session.peer_id, messages.ICCN_MESSAGE, session)

    def _cleared(self, frame: bytes, end: int, number: int) -> None:
        self.crowd.counts["cleared_by_server"] += 1
        found = messages.avps(frame, _BODY, end)
        if session := self.sessions.get(number):
            session.end("" if session.state == CLOSING else "CDN: " + messages.result(found))
            self._forget(session)

    def _forget(self, session: Session) -> None:
        del self.sessions[session.id]
        if not self.sessions:
            self.stop()

    def _gone(self, reason: str) -> None:
        """Nothing more will come."""
        before, self.state = self.state, GONE
        self.unacked.clear()
        self.queue.clear()
        for session in list(self.sessions.values()):
            session.end(reason)
        if before != GONE:
            self.crowd.tunnel_gone(self)
