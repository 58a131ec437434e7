"""The PPP client of one call: LCP, PAP or CHAP, IPCP and, if wished, IPv6CP; as little as a server needs to see."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from scale.crowd.messages import (
    CHAP,
    CONF_ACK,
    CONF_NAK,
    CONF_REJ,
    CONF_REQ,
    DATA,
    ECHO_REP,
    ECHO_REQ,
    IPCP,
    IPV4,
    IPV6CP,
    LCP,
    PACKET,
    PAP,
    PROTOCOL_REJ,
    TERM_ACK,
    TERM_REQ,
    chap,
    echo,
    option,
    options,
    packet,
    pap,
)

if TYPE_CHECKING:
    from scale.crowd.crowd import Crowd
    from scale.crowd.tunnel import Tunnel

IDLE, CALLING, LINK, AUTHENTICATING, NETWORK, UP, CLOSING, DOWN = range(8)
STATES = ("idle", "calling", "link", "authenticating", "network", "up", "closing", "down")
_MRU = 1400
_LCP_KNOWN = (1, 2, 3, 5)
"""Options of a server that are taken: MRU, ACCM, authentication, magic number."""
_CHAP_MD5 = b"\xc2\x23\x05"
_PAP = b"\xc0\x23"
_ADDRESS = 3
_MAGIC = 5
_AUTHENTICATION = 3


class Session:
    """One call."""

    __slots__ = (
        "address",
        "auth",
        "began",
        "crowd",
        "frames_seen",
        "id",
        "ipv6",
        "last",
        "magic",
        "name",
        "number",
        "ours",
        "peer_id",
        "pending",
        "pongs",
        "request_id",
        "seen",
        "sent_at",
        "server",
        "state",
        "theirs",
        "tries",
        "tunnel",
        "up_at",
        "wishes",
    )  # fmt: skip

    def __init__(self, crowd: Crowd, number: int, tunnel: Tunnel) -> None:
        self.crowd, self.number, self.tunnel = crowd, number, tunnel
        self.id = number + 1
        self.name = crowd.user(number)
        self.state = IDLE
        self.peer_id = 0
        self.magic = struct.pack("!I", 0x5EED0000 + number)
        self.ours = self.theirs = self.ipv6 = False
        """Whether our request was acknowledged, theirs was, IPv6CP is done; of the layer that is being negotiated."""
        self.auth = 0
        self.request_id = 0
        self.wishes: dict[int, bytes] = {}
        self.last = b""
        """Sent again if nothing comes of it."""
        self.seen = -1
        """Identifier of the server's last LCP request, to know its retransmissions."""
        self.address = self.server = b""
        self.began = self.up_at = self.sent_at = 0.0
        self.tries = 0
        self.pongs = 0

    # -- sending ---------------------------------------------------------------------------------------------------

    def send(self, protocol: int, body: bytes) -> None:
        """One PPP frame."""
        tunnel = self.tunnel
        head = DATA.pack(2, tunnel.peer_id, self.peer_id, 0xFF03, protocol)
        self.crowd.out.append(tunnel.path.wrap(head + body))

    def _ask(self, protocol: int, body: bytes) -> None:
        """The same, to be sent again until something comes of it."""
        self.last = protocol.to_bytes(2) + body
        self.sent_at = self.crowd.now
        self.tries = 0
        self.send(protocol, body)

    def repeat(self) -> None:
        """Send the last request again."""
        self.sent_at = self.crowd.now
        self.tries += 1
        self.send(int.from_bytes(self.last[:2]), self.last[2:])

    def _configure(self, protocol: int) -> None:
        self.request_id = (self.request_id + 1) & 0xFF
        body = b"".join(option(kind, value) for kind, value in self.wishes.items())
        self._ask(protocol, packet(CONF_REQ, self.request_id, body))

    # -- its phases ------------------------------------------------------------------------------------------------

    def begin_link(self) -> None:
        """The call is connected: LCP."""
        self.state = LINK
        self.wishes = {1: _MRU.to_bytes(2), _MAGIC: self.magic}
        self._configure(LCP)

    def _link_up(self) -> None:
        self.state = AUTHENTICATING
        if self.auth == PAP:
            self._ask(PAP, pap(self.name, self.crowd.secret_of(self.number)))
        elif not self.auth:
            self._authenticated()

    def _authenticated(self) -> None:
        self.state = NETWORK
        self.ours = self.theirs = False
        self.ipv6 = not self.crowd.ipv6
        self.wishes = {_ADDRESS: bytes(4)}
        self._configure(IPCP)
        if not self.ipv6:
            self.send(IPV6CP, packet(CONF_REQ, 1, option(1, b"\x02\0\0\0" + self.magic)))

    def _network_up(self) -> None:
        if self.ours and self.theirs and self.ipv6 and self.state == NETWORK:
            self.state = UP
            self.last = b""
            self.crowd.session_up(self)

    def hang_up(self) -> None:
        """End it politely: LCP Terminate-Request, then CDN."""
        self.state = CLOSING
        self._ask(LCP, packet(TERM_REQ, 1))

    def end(self, reason: str) -> None:
        """It is no more."""
        before, self.state, self.last = self.state, DOWN, b""
        if before != DOWN:
            self.crowd.session_down(self, before, reason)

    # -- receiving -------------------------------------------------------------------------------------------------

    def take(self, frame: bytes, at: int, protocol: int) -> None:
        """A PPP frame whose information begins `at`."""
        if protocol == IPV4:
            self._ip(frame, at)
        elif handler := _HANDLERS.get(protocol):
            code, identifier, size = PACKET.unpack_from(frame, at)
            handler(self, code, identifier, frame, at, at + size)
        elif self.state >= NETWORK:
            self.send(LCP, packet(PROTOCOL_REJ, 1, protocol.to_bytes(2) + frame[at:]))

    def _lcp(self, code: int, identifier: int, frame: bytes, at: int, end: int) -> None:
        if code == ECHO_REQ:
            self.crowd.counts["echo_requests"] += 1
            self.send(LCP, packet(ECHO_REP, identifier, self.magic + frame[at + 8 : end]))
        elif code == CONF_REQ:
            self._lcp_request(identifier, frame, at, end)
        elif code == CONF_ACK and self.state == LINK and identifier == self.request_id:
            self.ours = True
            if self.theirs:
                self._link_up()
        elif code in (CONF_NAK, CONF_REJ) and self.state == LINK and identifier == self.request_id:
            self._amend(code, LCP, frame, at, end)
        elif code == TERM_REQ:
            self.send(LCP, packet(TERM_ACK, identifier))
            self.crowd.counts["terminated_by_server"] += self.state == UP
        elif code == TERM_ACK and self.state == CLOSING:
            self.tunnel.clear(self)
        elif code == PROTOCOL_REJ and frame[at + 4 : at + 6] == b"\x80\x57":
            self.ipv6 = True
            self._network_up()

    def _lcp_request(self, identifier: int, frame: bytes, at: int, end: int) -> None:
        self.crowd.counts["server_repeats"] += identifier == self.seen
        self.seen = identifier
        found = list(options(frame, at + 4, end))
        if refused := [option(kind, value) for kind, value in found if kind not in _LCP_KNOWN]:
            self.send(LCP, packet(CONF_REJ, identifier, b"".join(refused)))
            return
        wanted = dict(found).get(_AUTHENTICATION, b"")
        if wanted not in (b"", _PAP, _CHAP_MD5):
            self.send(LCP, packet(CONF_NAK, identifier, option(_AUTHENTICATION, _CHAP_MD5)))
            return
        self.auth = int.from_bytes(wanted[:2])
        self.send(LCP, packet(CONF_ACK, identifier, frame[at + 4 : end]))
        self.theirs = True
        if self.ours and self.state == LINK:
            self._link_up()

    def _amend(self, code: int, protocol: int, frame: bytes, at: int, end: int) -> None:
        """Ask again, for what the server offers instead, and without what it rejects."""
        for kind, value in options(frame, at + 4, end):
            if code == CONF_NAK:
                self.wishes[kind] = value
            else:
                self.wishes.pop(kind, None)
        self._configure(protocol)

    def _pap(self, code: int, identifier: int, frame: bytes, at: int, end: int) -> None:
        if self.state != AUTHENTICATING:
            return
        if code == 2:
            self._authenticated()
        elif code == 3:
            self.end("authentication refused")

    def _chap(self, code: int, identifier: int, frame: bytes, at: int, end: int) -> None:
        if code == 1 and self.state >= AUTHENTICATING:
            challenge = frame[at + 5 : at + 5 + frame[at + 4]]
            self.send(CHAP, chap(identifier, self.name, self.crowd.secret_of(self.number), challenge))
        elif code == 3 and self.state == AUTHENTICATING:
            self._authenticated()
        elif code == 4:
            self.end("authentication refused")

    def _ipcp(self, code: int, identifier: int, frame: bytes, at: int, end: int) -> None:
        if self.state < NETWORK:
            return  # the word that lets us in was lost: what comes before the network phase is dropped (RFC 1661 3.4)
        if code == CONF_REQ:
            self._ipcp_request(identifier, frame, at, end)
        elif self.state == NETWORK and identifier == self.request_id:
            if code == CONF_ACK:
                self.address = self.wishes[_ADDRESS]
                self.ours = True
                self._network_up()
            elif code in (CONF_NAK, CONF_REJ):
                self._amend(code, IPCP, frame, at, end)

    def _ipcp_request(self, identifier: int, frame: bytes, at: int, end: int) -> None:
        found = list(options(frame, at + 4, end))
        if refused := [option(kind, value) for kind, value in found if kind != _ADDRESS]:
            self.send(IPCP, packet(CONF_REJ, identifier, b"".join(refused)))
            return
        self.server = dict(found).get(_ADDRESS, b"")
        self.send(IPCP, packet(CONF_ACK, identifier, frame[at + 4 : end]))
        self.theirs = True
        self._network_up()

    def _ipv6cp(self, code: int, identifier: int, frame: bytes, at: int, end: int) -> None:
        if code == CONF_REQ and self.crowd.ipv6:
            self.send(IPV6CP, packet(CONF_ACK, identifier, frame[at + 4 : end]))
        elif code == CONF_REQ:
            self.send(LCP, packet(PROTOCOL_REJ, 1, b"\x80\x57" + frame[at:end]))
        elif code in (CONF_ACK, CONF_REJ):
            self.ipv6 = True
            self._network_up()

    # -- traffic ---------------------------------------------------------------------------------------------------

    def ping(self, number: int, size: int = 32) -> None:
        """An echo request to the server's address inside."""
        self.send(IPV4, echo(self.address, self.server, number, size))

    def _ip(self, frame: bytes, at: int) -> None:
        """An answer to a ping: from the server, to us."""
        if frame[at + 9] == 1 and frame[at + 20] == 0 and frame[at + 12 : at + 20] == self.server + self.address:
            self.pongs += 1
            self.crowd.counts["pongs"] += 1
        else:
            self.crowd.counts["strange_packets"] += 1


_HANDLERS = {
    LCP: Session._lcp,
    PAP: Session._pap,
    CHAP: Session._chap,
    IPCP: Session._ipcp,
    IPV6CP: Session._ipv6cp,
}
