"""Router advertisements to the peers of sessions with IPv6: prefix, default route, MTU and name servers."""

import asyncio
import logging
import os
from collections.abc import Callable

from kl2tp.calls.network import LINK_LOCAL
from kl2tp.calls.session import Session
from kl2tp.calls.timers import NEVER, Timers
from kl2tp.control.ids import Entropy
from kl2tp.kernel import netns
from kl2tp.kernel.icmpv6 import RouterSocket
from kl2tp.ppp.router_advertisement import Advertiser
from kl2tp.wire.icmpv6 import Prefix, RouterAdvertisement, encode_advertisement

_log = logging.getLogger("kl2tp.calls")
_DRAIN = 64
_LEAST_MTU = 1280
_LINK_PREFIX = 64
"""Length that stateless address configuration needs (RFC 4862 5.5.3)."""


class _Link:
    """One session's advertiser, with where it sends."""

    __slots__ = ("advertiser", "index", "place", "source", "timer_at")

    def __init__(self, advertiser: Advertiser, place: str, index: int, source: bytes) -> None:
        self.advertiser = advertiser
        self.place = place
        """Namespace of the device."""
        self.index = index
        self.source = source
        self.timer_at = NEVER

    @property
    def deadline(self) -> float | None:
        return self.advertiser.deadline


class Advertising:
    """The routers' part of all sessions."""

    def __init__(self) -> None:
        self._aio = asyncio.get_running_loop()
        self._links: dict[tuple[str, int], _Link] = {}
        """By namespace and index of the device."""
        self._of: dict[Session, _Link] = {}
        self._sockets: dict[str, RouterSocket] = {}
        self._timers: Timers[_Link] = Timers(self._aio, self._due)
        self._random: Callable[[int], bytes] = Entropy(os.urandom).take
        self.send_errors = 0

    def start(self, session: Session, *, initial: bool = True) -> None:
        """IPv6 is up. Without `initial` it has been for long."""
        hold, grant = session.hold, session.grant
        if hold is None or session in self._of or not self._open(hold.netns):
            return
        advertiser = Advertiser(_message(session), self._random)
        link = _Link(advertiser, hold.netns, hold.ifindex, LINK_LOCAL + grant.local_iid)
        self._of[session] = self._links[hold.netns, hold.ifindex] = link
        advertiser.start(self._aio.time(), initial=initial)
        self._send(link)

    def stop(self, session: Session) -> None:
        """IPv6 is down, or the session over."""
        if (link := self._of.pop(session, None)) is not None:
            link.advertiser.stop()
            self._links.pop((link.place, link.index), None)

    def _open(self, place: str) -> bool:
        """Have a socket in a namespace; whether there is one."""
        if place not in self._sockets:
            try:
                with netns.entered(place):
                    sock = self._sockets[place] = RouterSocket()
            except (OSError, netns.NoNamespace) as error:
                _log.error("no router advertisements in namespace %r: %s", place, error)
                return False
            self._aio.add_reader(sock.fileno(), self._readable, place, sock)
        return True

    def _readable(self, place: str, sock: RouterSocket) -> None:
        now = self._aio.time()
        for message, source, index in sock.drain(_DRAIN):
            if (link := self._links.get((place, index))) is not None:
                link.advertiser.receive(message, source, now)
                self._send(link)

    def _due(self, link: _Link, now: float) -> None:
        link.advertiser.handle_timer(now)
        self._send(link)

    def _send(self, link: _Link) -> None:
        sock = self._sockets[link.place]
        for message, destination in link.advertiser.take_messages():
            try:
                sock.send(message, link.source, destination, link.index)
            except OSError:
                self.send_errors += 1  # the next one will do: the peer asks if it is in a hurry
        self._timers.arm(link)

    def close(self) -> None:
        """Stop all."""
        self._timers.close()
        for sock in self._sockets.values():
            self._aio.remove_reader(sock.fileno())
            sock.close()
        self._sockets.clear()


def _message(session: Session) -> bytes:
    """What there is to tell a peer."""
    grant = session.grant
    # A prefix longer or shorter than a link's is for the peer's own networks: it is routed, not configured.
    own = grant.prefix_length == _LINK_PREFIX
    prefixes = (Prefix(grant.prefix, grant.prefix_length),) if grant.prefix and own else ()
    dns = tuple(address for address in grant.dns if len(address) == 16)
    return encode_advertisement(RouterAdvertisement(prefixes=prefixes, mtu=max(session.mtu, _LEAST_MTU), dns=dns))
