"""Sockets and clock around the control connections: datagrams in, datagrams and events out.

All that one turn of the event loop brings is handled together; then what must not be forgotten is written down, and
only then does anything leave.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kl2tp.calls.clients import Clients
from kl2tp.calls.session import Peer, Session
from kl2tp.calls.timers import NEVER, Timers
from kl2tp.control.endpoint import Endpoint, Event, Refusal
from kl2tp.control.profiles import Peer as Source
from kl2tp.control.profiles import Place, client_of
from kl2tp.kernel import udp
from kl2tp.kernel.udp import Listener, Stray
from kl2tp.wire.errors import ProtocolError
from kl2tp.wire.l2tp import decode_data, encode_data

_log = logging.getLogger("kl2tp.calls")
_DRAIN = 64
"""Datagrams taken from a socket before others get their turn."""
_DATAGRAM = 4096
"""Bytes: more than any control message or PPP frame of a negotiation takes."""
_Post: TypeAlias = dict[tuple[Listener, int], list[tuple[bytes, Place, Place]]]
"""What leaves by a listener through the SAs of a client, 0: of none."""


class _Clockwork:
    """The endpoint as an item of the timers."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.timer_at = NEVER

    @property
    def deadline(self) -> float | None:
        return self.endpoint.deadline


class Switch:
    """One endpoint with its sockets."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        heard: Callable[[Event, float], None],
        pump: Callable[[Session, float], None],
        save: Callable[[], None],
    ) -> None:
        """`heard` takes events of the endpoint, `pump` what a session's PPP machines have to say; `save` writes down
        what changed."""
        self.endpoint = endpoint
        self._heard, self._pump, self._save = heard, pump, save
        self._loop = asyncio.get_running_loop()
        self.refused: Callable[[Refusal], None] = lambda refusal: None
        """Told of peers that were not let in."""
        self.clients = Clients()
        """Who speaks through IPsec."""
        self._listeners: dict[Place, Listener] = {}
        self._newest: dict[tuple[Place, Source], socket.socket] = {}
        """Of tunnels with the same two ends, the socket that gets everything."""
        self._moved: dict[Session, None] = {}
        self._frames: list[tuple[Session, bytes]] = []
        self._settling = self._scheduled = False
        self.timers: Timers[Session] = Timers(self._loop, self._session_due)
        self._clock: Timers[_Clockwork] = Timers(self._loop, self._endpoint_due)
        self._clockwork = _Clockwork(endpoint)
        self.malformed = 0
        """Data packets that could not be decoded."""
        self.strays = 0
        """Data packets for no session of their sender."""
        self.send_errors = 0

    # -- listening sockets -----------------------------------------------------------------------------------------

    def listen(self, places: Iterable[Place]) -> dict[Place, OSError]:
        """Have sockets for exactly these places; where that failed, why."""
        wanted = set(places)
        for place in self._listeners.keys() - wanted:
            listener = self._listeners.pop(place)
            self._loop.remove_reader(listener.fileno())
            listener.close()
        failed: dict[Place, OSError] = {}
        for place in wanted - self._listeners.keys():
            try:
                listener = Listener(*place)
            except OSError as error:
                failed[place] = error
                continue
            self._listeners[place] = listener
            self._loop.add_reader(listener.fileno(), self._listener_readable, listener)
        return failed

    @property
    def places(self) -> set[Place]:
        """Where we listen."""
        return set(self._listeners)

    def _listener_for(self, local: Place) -> Listener | None:
        """The socket that speaks for a local address and port: bound to it, or to all addresses."""
        listeners = self._listeners
        return listeners.get(local) or listeners.get((bytes(len(local[0])), local[1]))

    def _listener_readable(self, listener: Listener) -> None:
        self._hear(listener, self._loop.time())
        self.turn()

    def _hear(self, listener: Listener, now: float) -> None:
        """Take what waits at a listener."""
        for data, peer, local, mark in listener.drain_marked(_DRAIN):
            self._arrived(data, peer, local, mark, now)

    def _arrived(self, data: bytes, peer: Place, local: Place, mark: int, now: float) -> None:
        """A datagram that came to no tunnel's own socket: where only IPsec gets in, find out through whose SA."""
        if not self.clients.guards(local):
            self._datagram(data, peer, local, now)
        elif (source := self.clients.source(peer, mark)) is not None:
            self._datagram(data, source, local, now)
        else:
            self.clients.park(data, peer, local, mark, now)

    def replay(self) -> None:
        """Clients have become known: what waited for that is heard now."""
        now = self._loop.time()
        for data, source, local in self.clients.unpark(now):
            self._datagram(data, source, local, now)
        self.turn()

    # -- the sockets of tunnels ------------------------------------------------------------------------------------

    def adopt(self, peer: Peer, sock: socket.socket, strays: Iterable[Stray] = ()) -> None:
        """A tunnel has its own socket from now on. `strays` came to it before it was connected, from anybody."""
        peer.socket = sock
        peer.ends = ends = (peer.tunnel.local, peer.tunnel.peer)
        if (older := self._newest.get(ends)) is not None and older.fileno() >= 0:
            # A peer that lost its memory is there twice. Before 6.11 the kernel finds a session by the socket alone.
            udp.outrank(sock, older)
        self._newest[ends] = sock
        self._loop.add_reader(sock.fileno(), self._tunnel_readable, peer, sock)
        now = self._loop.time()
        if (listener := self._listener_for(peer.tunnel.local)) is not None:
            self._hear(listener, now)  # what came before the socket was there is older than what came to it
        for data, source, mark in strays:
            self._arrived(data, source, peer.tunnel.local, mark, now)
        self.turn()

    def release(self, peer: Peer) -> None:
        """The tunnel's socket is about to be closed."""
        if peer.socket is not None:
            self._loop.remove_reader(peer.socket.fileno())
            if peer.ends is not None and self._newest.get(peer.ends) is peer.socket:
                del self._newest[peer.ends]
            peer.socket = None

    def _tunnel_readable(self, peer: Peer, sock: socket.socket) -> None:
        now = self._loop.time()
        source, local = peer.tunnel.peer, peer.tunnel.local
        # One at a time: it seldom is more, and to find that out is a system call.
        try:
            if client_of(source):
                self._protected(peer, udp.receive(sock, 1), now)
            else:
                self._datagram(sock.recv(_DATAGRAM), source, local, now)
        except OSError:
            return  # nothing, after all; or an ICMP error, reported once: what was lost is sent again
        self.turn()

    def _protected(self, peer: Peer, arrived: Iterable[Stray], now: float) -> None:
        """Of several sockets with the same two ends the newest gets everything: the mark tells whose a packet is."""
        for data, place, mark in arrived:
            reqid = self.clients.reqid(mark) or client_of(peer.tunnel.peer)
            self._datagram(data, (*place, reqid), peer.tunnel.local, now)

    # -- one turn --------------------------------------------------------------------------------------------------

    def _datagram(self, data: bytes, peer: Source, local: Place, now: float) -> None:
        if not data:
            return
        if data[0] & 0x80:
            self.endpoint.receive(data, peer, local, now)
            return
        try:
            packet = decode_data(data)
        except ProtocolError:
            self.malformed += 1
            return
        session = self._session_of(packet.tunnel_id, packet.session_id, peer)
        if session is None:
            self._settle(now)  # a peer's first frame comes right behind the message that connects its call
            session = self._session_of(packet.tunnel_id, packet.session_id, peer)
        if session is None:
            self.strays += 1
            return
        self.feed(session, packet.payload, now)

    def _session_of(self, tunnel_id: int, session_id: int, peer: Source) -> Session | None:
        """The session with these ids, if that peer may speak for it."""
        tunnel = self.endpoint.tunnels.get(tunnel_id)
        if tunnel is None or not isinstance(tunnel.owner, Peer):
            return None
        if tunnel.peer == peer or (client_of(peer) and client_of(peer) == client_of(tunnel.peer)):
            return tunnel.owner.sessions.get(session_id)
        return None

    def feed(self, session: Session, frame: bytes, now: float) -> None:
        """A PPP frame has come; `turn` looks at what follows from it."""
        session.link.receive(frame, now)
        self._moved[session] = None

    def moved(self, session: Session) -> None:
        """Something was done to a session's machines from outside."""
        self._moved[session] = None

    def frame(self, session: Session, frame: bytes) -> None:
        """A PPP frame that leaves at the end of this turn."""
        self._frames.append((session, frame))

    def turn(self) -> None:
        """Have a turn soon: once all that this pass of the event loop brings has been heard."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Bring everything to rest; write down what changed; then let out what is to be sent."""
        self._scheduled = False
        self._settle(self._loop.time())
        self._refusals()
        self._save()
        self._send_all()
        self._clock.arm(self._clockwork)

    def _refusals(self) -> None:
        """Who was not let in: the endpoint tells of few per second, however many there are."""
        for refusal in self.endpoint.take_refusals():
            self.refused(refusal)

    def _settle(self, now: float) -> None:
        """See to all that follows from what was heard."""
        if self._settling:
            return
        self._settling = True
        try:
            while True:
                events = self.endpoint.take_events()
                moved, self._moved = self._moved, {}
                if not events and not moved:
                    return
                for event in events:
                    self._heard(event, now)
                for session in moved:
                    self._pump(session, now)
        finally:
            self._settling = False

    def _send_all(self) -> None:
        post: _Post = {}
        for datagram in self.endpoint.take_datagrams():
            owner = datagram.tunnel.owner if datagram.tunnel is not None else None
            sock = owner.socket if isinstance(owner, Peer) else None
            self._send(sock, (datagram.data, datagram.peer, datagram.local), post)
        frames, self._frames = self._frames, []
        for session, frame in frames:
            if session.hold is not None:
                if not session.hold.write(frame):
                    self.send_errors += 1
                continue
            tunnel = session.peer.tunnel
            packet = encode_data(tunnel.peer_id, session.call.peer_id, frame)
            self._send(session.peer.socket, (packet, tunnel.peer, tunnel.local), post)
        # What is not sent is as good as lost on the way: control messages and PPP are sent again.
        for (listener, client), datagrams in post.items():
            self.send_errors += listener.send_many(datagrams, client)

    def _send(
        self,
        sock: socket.socket | None,
        datagram: tuple[bytes, Source, Place],
        post: _Post,
    ) -> None:
        """Send by a tunnel's own socket, or leave it with the others of its listener."""
        data, peer, local = datagram
        if sock is not None:
            try:
                sock.send(data)
            except OSError:
                self.send_errors += 1
        elif (listener := self._listener_for(local)) is not None:
            post.setdefault((listener, client_of(peer)), []).append((data, (peer[0], peer[1]), local))
        else:
            self.send_errors += 1

    # -- time ------------------------------------------------------------------------------------------------------

    def _session_due(self, session: Session, now: float) -> None:
        session.link.handle_timer(now)
        self._moved[session] = None
        self.turn()

    def _endpoint_due(self, clockwork: _Clockwork, now: float) -> None:
        self.endpoint.handle_timer(now)
        self.turn()

    def close(self) -> None:
        """Close the listening sockets, stop the clocks."""
        self.listen(())
        self.timers.close()
        self._clock.close()
