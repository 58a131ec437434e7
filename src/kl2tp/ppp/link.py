"""One PPP link: the phases of RFC 1661 3.2, with LCP, authentication and the network protocols in their places.

The link has no side: it demands authentication if its settings say so, and answers if the peer does. Frames begin with
the PPP protocol. After every input its owner takes events and frames, and looks at `deadline`.
"""

import enum
import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from kl2tp.ppp import ipcp, ipv6cp
from kl2tp.ppp.auth.protocol import Attempt
from kl2tp.ppp.authentication import CHALLENGE, Authentication
from kl2tp.ppp.automaton import Automaton, Json, Signal
from kl2tp.ppp.events import AuthNeeded, Down, Event, Ipv4Down, Ipv4Up, Ipv6Down, Ipv6Up, LcpUp, NetworkPhase
from kl2tp.ppp.ipcp import Ipcp, Ipv4Settings
from kl2tp.ppp.ipv6cp import Ipv6cp, Ipv6Settings
from kl2tp.ppp.lcp import Lcp, LinkSettings, Random
from kl2tp.ppp.transitions import NEGOTIATING, State
from kl2tp.wire.errors import ProtocolError
from kl2tp.wire.ppp import CcpOption, Code, Protocol, decode_options, decode_packet

__all__ = [
    *("AuthNeeded", "Down", "Event", "Ipv4Down", "Ipv4Settings", "Ipv4Up", "Ipv6Down", "Ipv6Settings", "Ipv6Up"),
    *("LcpUp", "Link", "LinkSettings", "NetworkPhase", "Phase"),
]

_MOST_HELD = 4
"""Frames of network protocols that are kept until `start_network`."""
_LONGEST_HELD = 256
"""Octets; no Configure-Request of a network protocol is longer in earnest."""
_IPV6_MTU = 1280
"""Octets; without so much there is no IPv6 (RFC 8200 5)."""
_MPPE_S = 10.0
"""A peer that goes so soon after it was denied encryption goes because of that."""
_GIVEN_UP = (State.CLOSED, State.STOPPED, State.CLOSING)
"""States of a network protocol that we don't want or the peer does not."""
_NETWORK_OF: dict[int, int] = {Protocol.IP: Protocol.IPCP, Protocol.IPV6: Protocol.IPV6CP}
"""Who stops if the peer does not speak what it is for."""


class Phase(enum.IntEnum):
    """RFC 1661 3.2."""

    DEAD = 0
    ESTABLISH = 1
    AUTHENTICATE = 2
    NETWORK = 3
    TERMINATE = 4


class Link:
    """The machines of one link."""

    __slots__ = (
        *("_auth", "_events", "_frames", "_held", "_ipv4", "_ipv6", "_mppe_at", "_random", "_settings", "_until"),
        *("_up", "identity", "lcp", "phase"),
    )

    def __init__(self, settings: LinkSettings, random: Random) -> None:
        self._settings = settings
        self._random = random
        self.lcp = Lcp(settings, random)
        self.phase = Phase.DEAD
        self.identity: str | None = None
        """Who the peer has proved to be."""
        self._auth: Authentication | None = None
        self._ipv4: Ipcp | None = None
        self._ipv6: Ipv6cp | None = None
        self._up = 0
        """Network protocols that are up."""
        self._until: float | None = None
        """When the phase has to be over, or a network protocol up."""
        self._held: tuple[bytes, ...] = ()
        """Frames of network protocols that came early."""
        self._mppe_at = -math.inf
        """When the peer asked for MPPE, which we don't do."""
        self._frames: list[bytes] = []
        self._events: list[Event] = []

    # -- what the owner looks at -----------------------------------------------------------------------------------

    @property
    def mru(self) -> int:
        """Octets of information that we said we take."""
        return self.lcp.mru

    @property
    def peer_mru(self) -> int:
        """Octets of information that the peer takes."""
        return self.lcp.mtu

    def take_frames(self) -> Sequence[bytes]:
        """What is to be sent."""
        if not self._frames:
            return ()
        frames, self._frames = self._frames, []
        return frames

    def take_events(self) -> Sequence[Event]:
        """What happened."""
        if not self._events:
            return ()
        events, self._events = self._events, []
        return events

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` wants to be called; None: no need."""
        soonest = self.lcp.deadline
        for machine in (self._auth, self._ipv4, self._ipv6):
            if machine is not None:
                deadline = machine.deadline
                if deadline is not None and (soonest is None or deadline < soonest):
                    soonest = deadline
        if self._until is not None and (soonest is None or self._until < soonest):
            soonest = self._until
        return soonest

    # -- input from the layer below, and from the owner ------------------------------------------------------------

    def open(self, now: float) -> None:
        """The line is there: negotiate."""
        self.lcp.open(now, self._frames)
        self.lcp.up(now, self._frames)
        self._establish(now)

    def close(self, now: float, reason: str = "") -> None:
        """End the link properly."""
        if self.phase in (Phase.DEAD, Phase.TERMINATE):
            return
        self._lcp_signal(self.lcp.close(now, self._frames, reason), now)

    def lower_down(self, now: float) -> None:
        """The line is gone."""
        if self.phase is Phase.DEAD:
            return
        self.lcp.reason = self.lcp.reason or "the line is gone"
        self._leave_network(now)
        self.lcp.down(now, self._frames)
        self._finish(now)

    def resume(self, now: float) -> None:
        """The line was away for a while, as its owner knows: what was not answered meanwhile is not the peer's fault,
        and what is being agreed upon has its time again."""
        self.lcp.watch_anew(now)
        if self._until is not None:
            self._until = max(self._until, now + self._patience)

    def receive(self, frame: bytes, now: float) -> None:
        """Take a frame, protocol first."""
        if self.phase is Phase.DEAD or len(frame) < 2:
            return
        protocol = frame[0] << 8 | frame[1]
        receive = _RECEIVERS.get(protocol)
        if receive is not None:
            receive(self, protocol, frame, now)
        elif self.phase is Phase.NETWORK and not frame[0] & 1:
            self._receive_unknown(protocol, frame, now)

    def handle_timer(self, now: float) -> None:
        """Look at the time."""
        if self.phase is Phase.DEAD:
            return
        self._lcp_signal(self.lcp.handle_timer(now, self._frames), now)
        if self._auth is not None:
            if not self._auth.handle_timer(now, self._frames):
                self.close(now, f"authentication was not done within {self._settings.auth_timeout:g} s")
            self._look_at_auth(now)
        for ncp in (self._ipv4, self._ipv6):
            if ncp is not None and ncp.deadline is not None and self.phase is Phase.NETWORK:
                was = ncp.state
                self._ncp_signal(ncp, was, ncp.handle_timer(now, self._frames), now)
        if self._until is not None and now >= self._until:
            self._too_late(now)

    def _too_late(self, now: float) -> None:
        """The time for what there is to agree upon is over."""
        if self._auth is not None and self._auth.attempt is not None:
            self._until = now + self._settings.auth_timeout  # it is we who take so long
        elif self.phase is Phase.NETWORK:
            self.close(now, f"no network protocol was up within {self._patience:g} s")
        else:
            seconds = self._patience + self._settings.auth_timeout
            self.close(now, self.lcp.reason or f"LCP and authentication were not done within {seconds:g} s")

    def grant(self, attempt: Attempt, now: float, message: str = "") -> None:
        """Let the peer in. An attempt that is no longer of interest is left alone."""
        self._verdict(attempt, True, message, now)

    def refuse(self, attempt: Attempt, now: float, message: str = "") -> None:
        """Don't."""
        self._verdict(attempt, False, message, now)

    def _verdict(self, attempt: Attempt, ok: bool, message: str, now: float) -> None:
        if self._auth is not None and self._auth.attempt is attempt:
            self._auth.verdict(ok, message, now, self._frames)
            self._look_at_auth(now)

    def start_network(self, ipv4: Ipv4Settings | None, ipv6: Ipv6Settings | None, now: float) -> None:
        """Begin with the network protocols; what the peer has said of them already is heard now."""
        if self.phase is not Phase.NETWORK or self._ipv4 is not None or self._ipv6 is not None:
            return
        timing = self._settings.timing
        room = min(self.lcp.mru, self.lcp.mtu)
        self._ipv4 = Ipcp(timing, ipv4) if ipv4 is not None else None
        if ipv6 is not None and room >= _IPV6_MTU:
            self._ipv6 = Ipv6cp(timing, ipv6, self._random)
        if not self._is_started:
            narrow = f"packets of {room} octets are too short for IPv6"
            self.close(now, narrow if ipv6 is not None else "no network protocol is wanted")
            return
        self._until = now + self._patience
        for ncp in (self._ipv4, self._ipv6):
            if ncp is not None:
                self._start(ncp, now)
        held, self._held = self._held, ()
        for frame in held:
            self.receive(frame, now)

    def _start(self, ncp: Automaton, now: float) -> None:
        ncp.mtu = self.lcp.mtu
        ncp.open(now, self._frames)
        ncp.up(now, self._frames)

    # -- LCP -------------------------------------------------------------------------------------------------------

    @property
    def _patience(self) -> float:
        """Seconds that LCP may take, or the network protocols together: what answers but never agrees ends, too."""
        return self._settings.restart * self._settings.max_configure

    def _establish(self, now: float) -> None:
        """Back to the beginning. A peer that has not got beyond authentication gains no time by that."""
        if self.phase in (Phase.DEAD, Phase.NETWORK):
            self._until = now + self._patience + self._settings.auth_timeout
        self.phase = Phase.ESTABLISH

    def _receive_lcp(self, protocol: int, frame: bytes, now: float) -> None:
        try:
            code, identifier, data = decode_packet(frame[2:])
        except ProtocolError:
            return
        self._lcp_signal(self.lcp.receive(code, identifier, data, now, self._frames), now)

    def _lcp_signal(self, signal: Signal, now: float) -> None:
        """What follows from what LCP did."""
        if signal is Signal.UP:
            self._authenticate(now)
        elif signal is Signal.DOWN:
            self._leave_network(now)
            self._establish(now)
        elif signal is Signal.PROTOCOL_REJECTED:
            self._protocol_rejected(self.lcp.rejected, now)
        elif signal is Signal.FINISHED:
            self._finish(now)
        if self.phase is not Phase.DEAD and self.lcp.state in (State.CLOSING, State.STOPPING):
            self.phase, self._until, self._auth = Phase.TERMINATE, None, None

    def _protocol_rejected(self, protocol: int, now: float) -> None:
        wanted = _NETWORK_OF.get(protocol, protocol)
        for ncp in (self._ipv4, self._ipv6):
            if ncp is not None and wanted == ncp.PROTOCOL and self.phase is Phase.NETWORK:
                was = ncp.state
                self._ncp_signal(ncp, was, ncp.protocol_rejected(now, self._frames), now)
        if protocol == Protocol.LCP:
            self._lcp_signal(self.lcp.protocol_rejected(now, self._frames), now)
        elif self._auth is not None and self._auth.speaks(protocol) and self.phase is Phase.AUTHENTICATE:
            self.close(now, f"the peer does not speak {Protocol(protocol).name}, to which it had agreed")

    def _receive_unknown(self, protocol: int, frame: bytes, now: float) -> None:
        """A protocol that we don't speak, RFC 1661 5.7."""
        if protocol == Protocol.CCP and _asks_for_mppe(frame):
            self._mppe_at = now
        self.lcp.reject_protocol(frame, self._frames)

    def _finish(self, now: float) -> None:
        """The end."""
        reason = self.lcp.reason
        if now < self._mppe_at + _MPPE_S:
            reason += " (the peer had asked for encryption by MPPE, which is not supported)"
        self._auth = self._ipv4 = self._ipv6 = self._until = None
        self._held = ()
        self.phase = Phase.DEAD
        self._events.append(Down(reason))

    # -- authentication --------------------------------------------------------------------------------------------

    def _authenticate(self, now: float) -> None:
        """LCP is up."""
        self._events.append(LcpUp())
        self.lcp.begin_watch(now, self._frames)
        self.phase, self.identity = Phase.AUTHENTICATE, None
        ours, theirs = self.lcp.proposal, self.lcp.peer_proposal
        if ours is not None or theirs is not None:
            self._auth = auth = Authentication(self._settings)
            if ours is not None:
                auth.demand(ours, self._random, now, self._frames)
            if theirs is not None:
                auth.answer(theirs, self._random, now, self._frames)
        self._look_at_auth(now)

    def _receive_auth(self, protocol: int, frame: bytes, now: float) -> None:
        if self.phase not in (Phase.AUTHENTICATE, Phase.NETWORK):
            return
        if self._auth is None:
            self._asked_again(protocol, frame, now)
        if self._auth is not None:
            self._auth.receive(protocol, frame[2:], now, self._frames)
            self._look_at_auth(now)

    def _asked_again(self, protocol: int, frame: bytes, now: float) -> None:
        """The peer may want to know at any time whether we are still we, RFC 1994 2."""
        expected = self.lcp.peer_proposal
        if expected is None or expected.protocol != protocol or frame[2:3] != bytes((CHALLENGE,)):
            return
        if self._settings.secret is not None:
            self._auth = Authentication(self._settings)
            self._auth.answer(expected, self._random, now, self._frames, again=True)

    def _look_at_auth(self, now: float) -> None:
        """What follows from what became of the authentication."""
        auth = self._auth
        if auth is not None:
            if attempt := auth.news():
                self._events.append(AuthNeeded(attempt))
            if auth.result is False:
                self.close(now, auth.reason)
                return
            if auth.result is None:
                return
            if self._up and auth.is_over and not auth.goes_on:
                self._auth = None
        if self.phase is Phase.AUTHENTICATE:
            self.phase, self._until = Phase.NETWORK, None
            self.identity = auth.identity if auth is not None else None
            self._events.append(NetworkPhase(self.identity))

    # -- network protocols -----------------------------------------------------------------------------------------

    def _receive_ncp(self, protocol: int, frame: bytes, now: float) -> None:
        ncp = self._ipv4 if protocol == Protocol.IPCP else self._ipv6
        if self.phase is Phase.AUTHENTICATE or (self.phase is Phase.NETWORK and not self._is_started):
            self._hold(frame)
            if self._auth is not None:
                self._auth.network_seen(now)
                self._look_at_auth(now)
        elif self.phase is not Phase.NETWORK:
            return
        elif ncp is None:
            self.lcp.reject_protocol(frame, self._frames)
        else:
            try:
                code, identifier, data = decode_packet(frame[2:])
            except ProtocolError:
                return
            was = ncp.state
            self._ncp_signal(ncp, was, ncp.receive(code, identifier, data, now, self._frames), now)

    @property
    def _is_started(self) -> bool:
        return self._ipv4 is not None or self._ipv6 is not None

    def _hold(self, frame: bytes) -> None:
        """Keep a frame that came too early. Of Configure-Requests the last is the one that waits for an answer."""
        if len(frame) > _LONGEST_HELD:
            return
        kind = frame[:3]
        others = [held for held in self._held if held[:3] != kind]
        if len(others) < _MOST_HELD:
            self._held = (*others, frame)

    def _ncp_signal(self, ncp: Automaton, was: State, signal: Signal, now: float) -> None:
        """What follows from what IPCP or IPv6CP did."""
        if signal is Signal.UP:
            self._up |= _BITS[ncp.PROTOCOL]
            self._until = None
            if self._auth is not None and not self._auth.goes_on:
                self._auth = None  # the peer would not be here, had it not got the last word of that
            self._tell_up(ncp)
        elif signal is Signal.DOWN or (was in NEGOTIATING and ncp.state in _GIVEN_UP):
            self._up &= ~_BITS[ncp.PROTOCOL]
            self._tell_down(ncp, ncp.reason or "the peer negotiates anew")
            if not self._up:
                self._until = now + self._patience
        if ncp.state in _GIVEN_UP:
            self._give_up(now)

    def _give_up(self, now: float) -> None:
        """Without a network protocol there is nothing to live for."""
        ncps = [ncp for ncp in (self._ipv4, self._ipv6) if ncp is not None]
        if all(ncp.state in _GIVEN_UP for ncp in ncps):
            self.close(now, "; ".join(dict.fromkeys(ncp.reason for ncp in ncps)))

    def _tell_up(self, ncp: Automaton) -> None:
        if isinstance(ncp, Ipcp):
            self._events.append(Ipv4Up(ncp.local, ncp.peer, ncp.dns))
        elif isinstance(ncp, Ipv6cp):
            self._events.append(Ipv6Up(ncp.local, ncp.peer))

    def _tell_down(self, ncp: Automaton, reason: str) -> None:
        self._events.append(Ipv4Down(reason) if ncp is self._ipv4 else Ipv6Down(reason))

    def _leave_network(self, now: float) -> None:
        """LCP is no longer up."""
        for ncp in (self._ipv4, self._ipv6):
            if ncp is not None and self._up & _BITS[ncp.PROTOCOL]:
                self._tell_down(ncp, self.lcp.reason or "the peer negotiates anew")
        self._auth = self._ipv4 = self._ipv6 = None
        self._up = 0
        self._held = ()

    # -- to go on after a restart ----------------------------------------------------------------------------------

    def save(self) -> dict[str, Json]:
        """What `restore` needs; {} of a link that has not got as far as its network protocols."""
        if self.phase is not Phase.NETWORK:
            return {}
        state: dict[str, Json] = {"lcp": self.lcp.save(), "id": self.identity}
        if self._ipv4 is not None:
            state["4s"] = ipcp.save_settings(self._ipv4.settings)
            state["4"] = self._ipv4.save() if self._ipv4.state == State.OPENED else None
        if self._ipv6 is not None:
            state["6s"] = ipv6cp.save_settings(self._ipv6.settings)
            state["6"] = self._ipv6.save() if self._ipv6.state == State.OPENED else None
        return state

    @classmethod
    def restore(cls, settings: LinkSettings, random: Random, state: dict[str, Json], now: float) -> "Link":
        """A link that goes on where it was saved. What was not up then is negotiated anew. Raises ValueError, TypeError
        or KeyError for a state that `save` did not make."""
        link = cls(settings, random)
        lcp = state.get("lcp")
        if not isinstance(lcp, dict):
            link.open(now)
            return link
        link.lcp = Lcp.restore(settings, random, lcp, now)
        link.phase = Phase.NETWORK
        identity = state["id"]
        link.identity = identity if isinstance(identity, str) else None
        link._restore_auth(now)
        link._restore_network(state, now)
        return link

    def _restore_auth(self, now: float) -> None:
        """Who was to be asked again will be."""
        demanded = self.lcp.proposal
        if self._settings.rechallenge and self.identity is not None and demanded is not None:
            self._auth = Authentication(self._settings)
            self._auth.go_on(demanded, self.identity, self._random, now)

    def _restore_network(self, state: dict[str, Json], now: float) -> None:
        timing = self._settings.timing
        wish, saved = state.get("4s"), state.get("4")
        if isinstance(wish, dict):
            ipv4 = ipcp.restore_settings(wish)
            self._ipv4 = Ipcp.restore(timing, ipv4, saved) if isinstance(saved, dict) else Ipcp(timing, ipv4)
        wish, saved = state.get("6s"), state.get("6")
        if isinstance(wish, dict):
            ipv6 = ipv6cp.restore_settings(wish)
            self._ipv6 = (
                Ipv6cp.restore(timing, ipv6, self._random, saved)
                if isinstance(saved, dict)
                else Ipv6cp(timing, ipv6, self._random)
            )
        for ncp in (self._ipv4, self._ipv6):
            if ncp is not None and ncp.state == State.OPENED:
                ncp.mtu = self.lcp.mtu
                self._up |= _BITS[ncp.PROTOCOL]
            elif ncp is not None:
                self._start(ncp, now)
        if not self._is_started:
            self._events.append(NetworkPhase(self.identity))
        elif not self._up:
            self._until = now + self._patience


def _asks_for_mppe(frame: bytes) -> bool:
    """Whether a frame of CCP is a Configure-Request for Microsoft's encryption (RFC 3078)."""
    try:
        code, _, data = decode_packet(frame[2:])
        return code == Code.CONFIGURE_REQUEST and any(kind == CcpOption.MPPE for kind, _ in decode_options(data))
    except ProtocolError:
        return False


_BITS: dict[int, int] = {Protocol.IPCP: 1, Protocol.IPV6CP: 2}
_Receiver: TypeAlias = Callable[[Link, int, bytes, float], None]
_RECEIVERS: dict[int, _Receiver] = {
    Protocol.LCP: Link._receive_lcp,
    Protocol.PAP: Link._receive_auth,
    Protocol.CHAP: Link._receive_auth,
    Protocol.EAP: Link._receive_auth,
    Protocol.IPCP: Link._receive_ncp,
    Protocol.IPV6CP: Link._receive_ncp,
    # Data that the kernel does not take care of yet.
    Protocol.IP: lambda link, protocol, frame, now: None,
    Protocol.IPV6: lambda link, protocol, frame, now: None,
}
