"""Who may open a tunnel: what becomes of an SCCRQ, RFC 2661 5.1, 6.1 and 7.2.1.

Up to here anybody can send anything under any address. So little is kept, little is sent, and little time is spent.
"""

from kl2tp.control.flood import Flood
from kl2tp.control.host import Host
from kl2tp.control.profiles import Peer, Place
from kl2tp.control.tables import TunnelEvent
from kl2tp.control.tunnel import Tunnel
from kl2tp.model.calls import LnsSpec
from kl2tp.wire.avp import Avp
from kl2tp.wire.errors import MessageError, ProtocolError
from kl2tp.wire.messages import GeneralError, Message, MessageType, StopCcn, decode, peek_host_name
from kl2tp.wire.values import ResultCode

_NOT_AUTHORIZED = ResultCode(StopCcn.NOT_AUTHORIZED, 0, "not authorized")
_NO_SECRET = ResultCode(StopCcn.NOT_AUTHORIZED, 0, "there is no shared secret")
_NO_IDS = ResultCode(StopCcn.GENERAL_ERROR, GeneralError.TRY_ANOTHER, "all tunnel ids are in use")
_SHUTTING_DOWN = ResultCode(StopCcn.SHUTTING_DOWN, 0, "kl2tp stops")
_JUST_NOW_S = 5.0
"""An SCCRQ for a tunnel that is established only since then is one that the network delivered twice."""


class Admission:
    """Answers SCCRQs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._flood: Flood = host.flood

    def request(self, payload: bytes, data: bytes, peer: Peer, local: Place, now: float) -> None:
        """An SCCRQ from anybody; `data` is all of the packet."""
        host = self._host
        if self._flood.lasts and not self._flood.lets_pass(data, peer, now):
            return
        host.counters.requests += 1
        try:
            message, profile, secret = self._read(payload, peer, local)
        except MessageError as error:
            self._broken(error, peer, local, now)
            return
        except ProtocolError:
            host.counters.malformed += 1
            return
        avps = message.avps
        if self._known(peer, avps[Avp.ASSIGNED_TUNNEL_ID], now):
            host.counters.duplicates += 1
            return
        refusal = self._refusal(profile, peer, secret, challenged=Avp.CHALLENGE in avps)
        if refusal is None and self._contest(peer, avps.get(Avp.TIE_BREAKER), now):
            return
        if profile is None:
            profile = LnsSpec("")
        tunnel = self._tunnel(profile, peer, local, now)
        tunnel.learn(avps)
        tunnel.secret = secret
        if refusal is None and not tunnel.id:
            refusal = _NO_IDS
        if refusal is not None:
            self._refuse(tunnel, refusal, now)
            return
        tunnel.usage = host.usage(profile)
        self._make_room(tunnel, profile, now)
        tunnel.handle(TunnelEvent.SCCRQ, avps, now)

    def _read(self, payload: bytes, peer: Peer, local: Place) -> tuple[Message, LnsSpec | None, bytes | None]:
        """The SCCRQ, whom it is for, and the secret that we share with its sender."""
        try:
            message = decode(payload)
        except MessageError:
            # Something may be hidden; the name, which never is, tells by which secret (4.3).
            name = peek_host_name(payload)
            profile, secret = self._parties(peer, local, name)
            if not secret:
                raise
            return decode(payload, secret), profile, secret
        profile, secret = self._parties(peer, local, message.avps[Avp.HOST_NAME])
        return message, profile, secret

    def _parties(self, peer: Peer, local: Place, name: str) -> tuple[LnsSpec | None, bytes | None]:
        profile = self._host.profiles.choose(local, peer, name)
        return profile, self._host.secret_of(profile, peer, name) if profile is not None else None

    def _known(self, peer: Peer, peer_id: int, now: float) -> bool:
        """Whether this SCCRQ, or one that says the same, was answered before."""
        half_open = self._host.half_open_of.get((peer, peer_id))
        if half_open is not None:
            half_open.repeat_welcome()
            return True
        # A peer that lost its memory may well use an id again: that is a new tunnel, and if its peer proves to be there
        # it replaces the old one. Until then the old one stays: this packet can be anybody's.
        tunnel = self._host.tunnel_of.get((peer, peer_id))
        return tunnel is not None and now - tunnel.since < _JUST_NOW_S

    def _refusal(
        self, profile: LnsSpec | None, peer: Peer, secret: bytes | None, *, challenged: bool
    ) -> ResultCode | None:
        """Why the SCCRQ is not acceptable."""
        if self._host.closing:
            return _SHUTTING_DOWN
        if profile is None:
            return _NOT_AUTHORIZED
        if challenged and not secret:
            return _NO_SECRET
        return self._host.usage(profile).tunnel_refusal(profile.limits, peer[0])

    def _contest(self, peer: Peer, theirs: bytes | None, now: float) -> bool:
        """Our SCCRQ and the peer's have crossed: whether theirs is to be forgotten (4.4.3, Tie Breaker)."""
        lost = False
        for tunnel in list(self._host.dialing.get(peer, ())):
            ours = tunnel.tie_breaker
            if ours is None and theirs is None:
                continue  # both want a tunnel of their own
            if ours is not None and (theirs is None or ours <= theirs):
                lost = True
            if ours is None or (theirs is not None and theirs <= ours):
                event = TunnelEvent.TIE_EQUAL if ours == theirs else TunnelEvent.TIE_LOST
                tunnel.handle(event, None, now)
        return lost

    def _tunnel(self, profile: LnsSpec, peer: Peer, local: Place, now: float) -> Tunnel:
        tunnel = Tunnel(self._host, profile, peer, local, now, incoming=True)
        tunnel.id = self._host.free_id()
        return tunnel

    def _make_room(self, tunnel: Tunnel, profile: LnsSpec, now: float) -> None:
        """So many may be half-open: the oldest has had the best chance."""
        assert tunnel.usage is not None
        half_open = tunnel.usage.half_open
        while half_open and len(half_open) >= profile.limits.half_open:
            oldest = half_open[next(iter(half_open))]
            self._flood.evicted(now - oldest.since, now)
            self._host.counters.evicted += 1
            oldest.handle(TunnelEvent.DEAD, None, now)

    def _broken(self, error: MessageError, peer: Peer, local: Place, now: float) -> None:
        """An SCCRQ that cannot be understood: say so if it tells to whom (7.1, 7.2.1)."""
        peer_id = error.avps.get(Avp.ASSIGNED_TUNNEL_ID, 0)
        if error.message_type != MessageType.SCCRQ or not peer_id:
            self._host.counters.malformed += 1
            return
        tunnel = self._tunnel(LnsSpec(""), peer, local, now)
        tunnel.peer_id = peer_id
        tunnel.host_name = error.avps.get(Avp.HOST_NAME, "")
        self._refuse(tunnel, ResultCode(error.result, error.error, str(error)), now)

    def _refuse(self, tunnel: Tunnel, code: ResultCode, now: float) -> None:
        self._host.counters.sccrq_refused += 1
        self._host.refused(tunnel.peer, tunnel.local, tunnel.host_name, code.message)
        tunnel.handle(TunnelEvent.SCCRQ_BAD, code, now)
