"""LCP: the options of a link (RFC 1661 6), whether the line loops, whether the peer lives, what it tells of itself.

We ask for a maximum receive unit that fits into the tunnel, for a magic number, and for authentication where the peer
must authenticate itself. The peer may have what costs nothing: an ACCM is for the LAC's line, not for ours, and with
PFC and ACFC it only says that it would take compressed headers, which the kernel's data path never sends. We don't ask
for these. All else is rejected.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from kl2tp.model.calls import AUTH_METHODS
from kl2tp.model.objects import Secret
from kl2tp.model.value import dataclass
from kl2tp.ppp.auth import PROTOCOLS
from kl2tp.ppp.automaton import REJECT, Automaton, Frames, Json, Restart, Signal, number, shown
from kl2tp.ppp.transitions import Event, State
from kl2tp.wire.ppp import (
    DEFAULT_MRU,
    PACKET_HEADER,
    Code,
    LcpOption,
    Protocol,
    encode_option,
    encode_packet,
)

Random: TypeAlias = Callable[[int], bytes]

SMALLEST_MRU = 128
"""Octets; with less a peer could hardly be talked to."""
DEFAULT_ACCM = 0xFFFFFFFF
_LOOPS = 5
"""Times our own magic number may come back before the line is taken for looped."""
_ECHO_REPEATS = 2
"""Times that an Echo-Request is sent again within its interval if there is no reply."""
_MOST_UNANSWERED = 128
"""Identifiers of Echo-Requests that may still be answered."""
_MAGIC = 4
_MRU, _AUTHENTICATION, _MAGIC_NUMBER = 1, 2, 4
"""Options that we ask for, as bits."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What a link is told to do. One object may serve many links."""

    name: str = ""
    """Who we are: as authenticator, and as user."""
    secret: Secret | None = None
    """What we prove that we are so with; without it we refuse to authenticate ourselves."""
    demand: tuple[str, ...] = ()
    """Ways to authenticate, of `kl2tp.model.calls`, of which the peer must go one; the best first."""
    answer: tuple[str, ...] = AUTH_METHODS
    """Ways that we go ourselves if the peer demands it; the best first."""
    mru: int = DEFAULT_MRU
    """Octets that we take."""
    magic: bool = True
    """Whether we ask for a magic number."""
    identification: str = ""
    """Sent once LCP is up, RFC 1570 2.1; empty: nothing."""
    restart: float = 3.0
    max_configure: int = 10
    max_terminate: int = 2
    max_failure: int = 5
    echo_interval: float = 30.0
    """Seconds between Echo-Requests; 0: none."""
    echo_failures: int = 4
    """Echo-Requests without reply after which the peer is taken for dead; 0: never."""
    auth_timeout: float = 30.0
    """Seconds for both sides' authentication, without the time that our verdict takes."""
    rechallenge: float = 0.0
    """Seconds after which the peer is asked again who it is, if it goes by CHAP or EAP; 0: never."""

    @property
    def timing(self) -> Restart:
        """The automatons' part of it."""
        return _timing(self.restart, self.max_configure, self.max_terminate, self.max_failure)


@lru_cache(64)
def _timing(period: float, max_configure: int, max_terminate: int, max_failure: int) -> Restart:
    return Restart(period, max_configure, max_terminate, max_failure)


class Proposal(NamedTuple):
    """One value of the Authentication-Protocol option."""

    option: bytes
    protocol: int
    methods: tuple[str, ...]
    """More than one only for EAP, in order of preference."""


@lru_cache(64)
def proposals(methods: tuple[str, ...]) -> tuple[Proposal, ...]:
    """Ways to authenticate as LCP has them, in order of preference."""
    found: dict[bytes, Proposal] = {}
    for method in methods:
        option, protocol = PROTOCOLS[method]
        known = found.get(option)
        found[option] = Proposal(option, protocol, (*known.methods, method) if known else (method,))
    return tuple(found.values())


class Lcp(Automaton):
    """The Link Control Protocol of one link."""

    PROTOCOL = Protocol.LCP
    NAME = "LCP"
    __slots__ = (
        *("_asked", "_echo_at", "_echo_id", "_loops", "_proposals", "_random", "_repeats", "_settings", "_unanswered"),
        *("magic", "mru", "peer_accm", "peer_identification", "peer_magic", "peer_proposal", "rejected"),
    )

    def __init__(self, settings: LinkSettings, random: Random) -> None:
        super().__init__(settings.timing)
        self._settings = settings
        self._random = random
        self._asked = 0
        self._proposals: tuple[Proposal, ...] = ()
        """What we may still demand; the first is what we ask for now."""
        self.mru = settings.mru
        """What we ask the peer to keep to. `mtu` is what the peer asked for."""
        self.magic = 0
        """Ours; 0: none."""
        self.peer_magic = 0
        self.peer_accm = DEFAULT_ACCM
        self.peer_proposal: Proposal | None = None
        """How the peer wants us to authenticate."""
        self.peer_identification = ""
        self.rejected = 0
        """The protocol that the peer does not speak, with `Signal.PROTOCOL_REJECTED`."""
        self._loops = 0
        self._echo_id = 0
        self._echo_at = 0.0
        """When the next Echo-Request is due."""
        self._unanswered = 0
        """Echo-Requests without reply..."""
        self._repeats = 0
        """...and how often the last is still to be repeated."""

    @property
    def proposal(self) -> Proposal | None:
        """How the peer has agreed to authenticate itself."""
        return self._proposals[0] if self._asked & _AUTHENTICATION else None

    # -- what we ask for -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        super()._begin()
        settings = self._settings
        self.mru = settings.mru
        self._proposals = proposals(settings.demand)
        self._asked = _MRU if settings.mru != DEFAULT_MRU else 0
        if self._proposals:
            self._asked |= _AUTHENTICATION
        self.magic = self._loops = 0
        if settings.magic:
            self._asked |= _MAGIC_NUMBER
            self.magic = self._new_magic()

    def _new_magic(self) -> int:
        """A number that is not 0: that would mean that there is none."""
        return int.from_bytes(self._random(_MAGIC), "big") or 1

    def _build(self) -> bytes:
        options = b""
        if self._asked & _MRU:
            options += encode_option(LcpOption.MRU, self.mru.to_bytes(2, "big"))
        if self._asked & _AUTHENTICATION:
            options += encode_option(LcpOption.AUTHENTICATION, self._proposals[0].option)
        if self._asked & _MAGIC_NUMBER:
            options += encode_option(LcpOption.MAGIC, self.magic.to_bytes(_MAGIC, "big"))
        return options

    def _nakked(self, kind: int, value: bytes) -> str:
        if kind == LcpOption.MRU and self._asked & _MRU:
            wanted = int.from_bytes(value, "big")
            if len(value) == 2 and SMALLEST_MRU <= wanted < self.mru:
                self.mru = wanted
        elif kind == LcpOption.AUTHENTICATION and self._asked & _AUTHENTICATION:
            return self._demand_another(value)
        elif kind == LcpOption.MAGIC and self._asked & _MAGIC_NUMBER:
            self.magic = self._new_magic()
        return ""

    def _demand_another(self, value: bytes) -> str:
        """Demand what the peer would rather have, if that is to our liking, or else what we would like next."""
        left = self._proposals[1:]
        liked = [proposal for proposal in left if proposal.option == value]
        if not left:
            return self._no_way()
        self._proposals = (*liked, *(proposal for proposal in left if proposal.option != value))
        return ""

    def _no_way(self) -> str:
        return f"the peer refuses to authenticate itself by {' or '.join(self._settings.demand)}"

    def _refused(self, kind: int) -> str:
        if kind == LcpOption.AUTHENTICATION and self._asked & _AUTHENTICATION:
            return self._no_way()
        if kind == LcpOption.MRU:
            self._asked &= ~_MRU
            self.mru = DEFAULT_MRU
        elif kind == LcpOption.MAGIC:
            self._asked &= ~_MAGIC_NUMBER
            self.magic = 0
        return ""

    # -- what the peer asks for ------------------------------------------------------------------------------------

    def _forget_peer(self) -> None:
        self.mtu = DEFAULT_MRU
        self.peer_magic = 0
        self.peer_accm = DEFAULT_ACCM
        self.peer_proposal = None

    def _judge(self, kind: int, value: bytes) -> bytes | None:
        judge = _JUDGES.get(kind)
        return judge(self, value) if judge is not None else REJECT

    def _judge_mru(self, value: bytes) -> bytes | None:
        if len(value) != 2:
            return REJECT
        mru = int.from_bytes(value, "big")
        if mru < SMALLEST_MRU:
            return encode_option(LcpOption.MRU, SMALLEST_MRU.to_bytes(2, "big"))
        self.mtu = mru
        return None

    def _judge_accm(self, value: bytes) -> bytes | None:
        if len(value) != 4:
            return REJECT
        self.peer_accm = int.from_bytes(value, "big")
        return None

    def _judge_authentication(self, value: bytes) -> bytes | None:
        settings = self._settings
        answers = proposals(settings.answer) if settings.secret is not None else ()
        for proposal in answers:
            if proposal.option == value:
                self.peer_proposal = proposal
                return None
        return encode_option(LcpOption.AUTHENTICATION, answers[0].option) if answers else REJECT

    def _judge_magic(self, value: bytes) -> bytes | None:
        """6.4: our own number means that the line may be looped, unless the peer chose the same by chance."""
        if len(value) != _MAGIC:
            return REJECT
        magic = int.from_bytes(value, "big")
        if magic and magic != self.magic:
            self.peer_magic = magic
            self._loops = 0
            return None
        if magic:
            self._loops += 1
        return encode_option(LcpOption.MAGIC, self._new_magic().to_bytes(_MAGIC, "big"))

    def _judge_flag(self, value: bytes) -> bytes | None:
        return REJECT if value else None

    def _despair(self) -> str:
        looped = self._loops >= min(_LOOPS, self._settings.max_failure)
        return "the line is looped: our own magic number came back time and again" if looped else ""

    def _is_repeated(self, identifier: int, data: bytes, recent: bool) -> bool:
        """Later on only a magic number tells a request that came twice from one of a peer that has started anew and
        counts its packets from the same number."""
        return (recent or self.peer_magic != 0) and super()._is_repeated(identifier, data, recent)

    # -- packets that only LCP knows -------------------------------------------------------------------------------

    def _receive_other(self, code: int, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        if code in (Code.IDENTIFICATION, Code.TIME_REMAINING):
            if code == Code.IDENTIFICATION:
                self.peer_identification = shown(data[_MAGIC:])
            return Signal.NONE
        if not Code.PROTOCOL_REJECT <= code <= Code.DISCARD_REQUEST:
            return super()._receive_other(code, identifier, data, now, out)
        if self.state != State.OPENED:
            return Signal.NONE  # 5.7, 5.8: "In any other state ... silently discarded"
        if code == Code.PROTOCOL_REJECT:
            return self._receive_protocol_reject(data)
        if len(data) < _MAGIC or code == Code.DISCARD_REQUEST:
            return Signal.NONE
        looped = self.magic != 0 and int.from_bytes(data[:_MAGIC], "big") == self.magic
        if code == Code.ECHO_REQUEST:
            return Signal.NONE if looped else self._happen(Event.EXTRA, now, out, 0, self._echo(identifier, data))
        if not looped and (self._echo_id - identifier) & 0xFF < self._unanswered:
            self._unanswered = self._repeats = 0
            self.deadline = self._echo_at
        return Signal.NONE

    def _receive_protocol_reject(self, data: bytes) -> Signal:
        if len(data) < 2:
            return Signal.NONE
        self.rejected = int.from_bytes(data[:2], "big")
        return Signal.PROTOCOL_REJECTED

    def _echo(self, identifier: int, data: bytes) -> bytes:
        answer = self.magic.to_bytes(_MAGIC, "big") + data[_MAGIC : self.mtu - PACKET_HEADER]
        return encode_packet(Protocol.LCP, Code.ECHO_REPLY, identifier, answer)

    def reject_protocol(self, frame: bytes, out: Frames) -> None:
        """Tell the peer that we don't speak the protocol of this frame."""
        out.append(self._numbered(Code.PROTOCOL_REJECT, frame))

    # -- does the peer live? ---------------------------------------------------------------------------------------

    def begin_watch(self, now: float, out: Frames) -> None:
        """LCP is up: say who we are, and begin to ask for echoes."""
        settings = self._settings
        if settings.identification:
            text = self.magic.to_bytes(_MAGIC, "big") + settings.identification.encode()
            out.append(self._numbered(Code.IDENTIFICATION, text))
        self._watch(now)

    def watch_anew(self, now: float) -> None:
        """Forget the echoes that were not answered."""
        if self.state == State.OPENED:
            self._watch(now)

    def _watch(self, now: float) -> None:
        self._unanswered = self._repeats = 0
        if self._settings.echo_interval > 0:
            # Links that came up together shall not ask together for ever.
            self.deadline = self._echo_at = now + self._settings.echo_interval * (0.5 + self._random(1)[0] / 512)

    def handle_timer(self, now: float, out: Frames) -> Signal:
        """The restart timer, or in Opened the time for an echo."""
        if self.state != State.OPENED:
            return super().handle_timer(now, out)
        if self.deadline is None or now < self.deadline:
            return Signal.NONE
        if now >= self._echo_at:
            failures = self._settings.echo_failures
            if failures and self._unanswered >= failures:
                return self.close(now, out, f"the peer answered none of {failures} echo requests")
            self._unanswered = min(self._unanswered + 1, _MOST_UNANSWERED)
            self._echo_id = (self._echo_id + 1) & 0xFF
            self._echo_at = now + self._settings.echo_interval
            self._repeats = _ECHO_REPEATS
        else:
            self._repeats -= 1
        request = self.magic.to_bytes(_MAGIC, "big")
        out.append(encode_packet(Protocol.LCP, Code.ECHO_REQUEST, self._echo_id, request))
        # What got lost on the way is asked again soon, so that a bad line is not taken for a dead peer.
        soon = now + self._settings.restart
        self.deadline = min(soon, self._echo_at) if self._repeats else self._echo_at
        return Signal.NONE

    # -- to go on after a restart ----------------------------------------------------------------------------------

    def save(self) -> dict[str, Json]:
        """What `restore` needs of a link whose LCP is up."""
        return {
            **super().save(),
            "m": self.magic,
            "pm": self.peer_magic,
            "r": self.mru,
            "t": self.mtu,
            "e": self._echo_id,
            "ac": self.peer_accm,
            "p": self.peer_proposal.option.hex() if self.peer_proposal is not None else "",
            "d": ours.option.hex() if (ours := self.proposal) is not None else "",
        }

    @classmethod
    def restore(cls, settings: LinkSettings, random: Random, state: dict[str, Json], now: float) -> "Lcp":
        """A machine that goes on in Opened."""
        lcp = cls(settings, random)
        lcp._restore(state)
        lcp.magic, lcp.peer_magic = number(state["m"]), number(state["pm"])
        lcp.mru, lcp.mtu = number(state["r"]), number(state["t"])
        lcp._echo_id = number(state["e"])
        lcp.peer_accm = number(state["ac"])
        for proposal in proposals(settings.answer):
            if proposal.option.hex() == state["p"]:
                lcp.peer_proposal = proposal
        for proposal in proposals(settings.demand):
            if proposal.option.hex() == state.get("d"):
                lcp._proposals, lcp._asked = (proposal,), _AUTHENTICATION
        lcp._watch(now)
        return lcp


_JUDGES: dict[int, Callable[[Lcp, bytes], bytes | None]] = {
    LcpOption.MRU: Lcp._judge_mru,
    LcpOption.ACCM: Lcp._judge_accm,
    LcpOption.AUTHENTICATION: Lcp._judge_authentication,
    LcpOption.MAGIC: Lcp._judge_magic,
    LcpOption.PFC: Lcp._judge_flag,
    LcpOption.ACFC: Lcp._judge_flag,
}
