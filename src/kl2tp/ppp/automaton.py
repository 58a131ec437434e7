"""One control protocol of PPP: the automaton of RFC 1661 4 and the packets of RFC 1661 5, without any option's meaning.

LCP, IPCP and IPv6CP are subclasses that say which options we ask for and what we think of the peer's. A machine knows
nobody: frames go to the list that each call gets, and what the layers beside it have to hear of is the call's answer.
"""

import enum
import math
from collections.abc import Callable
from typing import ClassVar, TypeAlias

from kl2tp.model.names import text
from kl2tp.model.value import dataclass
from kl2tp.ppp.transitions import NEGOTIATING, TABLE, TIMED, Action, Event, State, Transition
from kl2tp.wire.errors import ProtocolError
from kl2tp.wire.ppp import (
    DEFAULT_MRU,
    PACKET_HEADER,
    Code,
    Option,
    decode_options,
    encode_option,
    encode_packet,
    is_part,
)

Json: TypeAlias = "str | int | float | bool | list[Json] | dict[str, Json] | None"
Frames: TypeAlias = list[bytes]

REJECT = b""
"""What `_judge` says of an option that we don't know or don't want at any value."""
_LONGEST_REASON = 100
"""Octets of text that a Terminate-Request takes along."""
_LONGEST_TEXT = 200
"""Octets of a peer's text that are shown."""
_MOST_IDS = 8
"""Identifiers of requests that are kept."""
_ID_LEAP = 64
"""A restored machine begins so many identifiers further on: the last that it used are not saved."""


class Signal(enum.IntEnum):
    """What other layers have to hear of."""

    NONE = 0
    UP = 1
    DOWN = 2
    STARTED = 3
    FINISHED = 4
    PROTOCOL_REJECTED = 5
    """LCP only: `rejected` says which."""


@dataclass(frozen=True, slots=True)
class Restart:
    """How patient the automaton is, RFC 1661 4.6."""

    period: float = 3.0
    """Seconds from one Configure-Request or Terminate-Request to the next."""
    max_configure: int = 10
    max_terminate: int = 2
    max_failure: int = 5
    """Configure-Naks, ours or the peer's, after which an option is given up."""


class Automaton:
    """The state of one control protocol."""

    PROTOCOL: ClassVar[int]
    NAME: ClassVar[str]
    __slots__ = (
        *("_acked", "_answered", "_asked_at", "_count", "_failures", "_identifier", "_naks", "_other_id", "_peers_ids"),
        *("_request", "_timing", "deadline", "mtu", "reason", "state"),
    )

    def __init__(self, timing: Restart) -> None:
        self._timing = timing
        self.state = State.INITIAL
        self.deadline: float | None = None
        self.mtu = DEFAULT_MRU
        """Octets of information that the peer takes."""
        self.reason = ""
        """Why the layer went down, or cannot come up."""
        self._count = 0
        self._identifier = 0
        """Of our last Configure-Request or Terminate-Request."""
        self._other_id = 0
        """Of the last packet of any other kind that was ours to number."""
        self._request = b""
        """Options of our last Configure-Request."""
        self._answered = True
        """It has got its reply: another reply is a duplicate, and the next request needs an identifier of its own."""
        self._acked = b""
        """Options of the peer's last request that was to our liking."""
        self._peers_ids = b""
        """Identifiers of the peer's requests, the last one last..."""
        self._asked_at = -math.inf
        """...and when that came."""
        self._failures = 0
        """Configure-Naks sent since the last Configure-Ack..."""
        self._naks = 0
        """...and those received."""

    # -- for subclasses --------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """A negotiation begins: forget what came of an earlier one."""
        self._answered = True
        self._failures = self._naks = 0
        self.reason = ""

    def _build(self) -> bytes:
        """The options that we ask for now."""
        return b""

    def _forget_peer(self) -> None:
        """The peer's options are at their defaults, before its request is looked at."""

    def _judge(self, kind: int, value: bytes) -> bytes | None:
        """None if an option of the peer is fine, the option that would be, or REJECT."""
        return REJECT

    def _missing(self, options: list[Option]) -> bytes:
        """Options that we want the peer to ask for, and which it has not (RFC 1661 5.3)."""
        return b""

    def _nakked(self, kind: int, value: bytes) -> str:
        """The peer wants another value of an option of ours. A text: we cannot go on, because..."""
        return ""

    def _refused(self, kind: int) -> str:
        """The peer won't have an option of ours at all. A text as of `_nakked`."""
        return ""

    def _objection(self) -> str:
        """Why we cannot go on although the peer agrees to all we asked for; "": we can."""
        return ""

    def _despair(self) -> str:
        """Why we cannot go on after what the peer has just asked for; "": we can."""
        return ""

    # -- events from the layers beside -----------------------------------------------------------------------------

    def up(self, now: float, out: Frames) -> Signal:
        """The layer below is ready."""
        return self._happen(Event.UP, now, out)

    def down(self, now: float, out: Frames) -> Signal:
        """The layer below is gone."""
        return self._happen(Event.DOWN, now, out)

    def open(self, now: float, out: Frames) -> Signal:
        """We want this layer."""
        return self._happen(Event.OPEN, now, out)

    def close(self, now: float, out: Frames, reason: str = "") -> Signal:
        """We don't want it any longer; `reason` goes to the peer, too."""
        self.reason = reason or self.reason
        return self._happen(Event.CLOSE, now, out)

    def handle_timer(self, now: float, out: Frames) -> Signal:
        """Look at the time."""
        if self.deadline is None or now < self.deadline:
            return Signal.NONE
        if self._count > 0:
            return self._happen(Event.TIMEOUT, now, out)
        if self.state in NEGOTIATING and not self.reason:
            self.reason = f"the peer agreed to none of {self._timing.max_configure} {self.NAME} Configure-Requests"
        return self._happen(Event.EXPIRED, now, out)

    # -- packets ---------------------------------------------------------------------------------------------------

    def receive(self, code: int, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        """Take one packet. What is malformed or answers nothing that was asked is dropped in silence."""
        if self.state <= State.STARTING:
            return Signal.NONE
        handler = _HANDLERS.get(code)
        if handler is None:
            return self._receive_other(code, identifier, data, now, out)
        try:
            return handler(self, identifier, data, now, out)
        except ProtocolError:
            return Signal.NONE

    def _receive_request(self, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        if self.state in (State.CLOSED, State.CLOSING, State.STOPPING):
            return self._happen(Event.GOOD_REQUEST, now, out, identifier)
        recent = now < self._asked_at + self._timing.period
        if recent and self.state != State.STOPPED and identifier in self._peers_ids[:-1]:
            return Signal.NONE  # the network doubled it, and let others overtake it
        if self.state == State.OPENED and self._is_repeated(identifier, data, recent):
            out.append(encode_packet(self.PROTOCOL, Code.CONFIGURE_ACK, identifier, data))
            return Signal.NONE
        code, answer = self._answer(decode_options(data), data)
        if self.state in NEGOTIATING and (problem := self._despair()):
            return self.close(now, out, problem)
        reply = encode_packet(self.PROTOCOL, code, identifier, answer)
        number = bytes((identifier,))
        self._peers_ids = (self._peers_ids.replace(number, b"") + number)[-_MOST_IDS:]
        self._asked_at = now
        if code == Code.CONFIGURE_ACK:
            self._acked, self._failures = data, 0
            return self._happen(Event.GOOD_REQUEST, now, out, identifier, reply)
        return self._happen(Event.BAD_REQUEST, now, out, identifier, reply)

    def _is_repeated(self, identifier: int, data: bytes, recent: bool) -> bool:
        """Whether a request is the one that we agreed to, once more: the network doubled it, or our Ack got lost.

        A new negotiation, for which Opened would have to be left, has another identifier: it "MUST be changed whenever
        a valid reply has been received for a previous request" (RFC 1661 5.1).
        """
        return self._peers_ids[-1:] == bytes((identifier,)) and data == self._acked

    def _answer(self, options: list[Option], data: bytes) -> tuple[Code, bytes]:
        """What we think of the peer's request: a reject of anything comes before a Nak of anything (5.4)."""
        self._forget_peer()
        rejects = naks = b""
        unloved = b""
        for kind, value in options:
            better = self._judge(kind, value)
            if better is None:
                continue
            if better is REJECT:
                rejects += encode_option(kind, value)
            else:
                naks += better
                unloved += encode_option(kind, value)
        # Where it does not converge, Naks become Rejects, and nothing more is asked for (4.6, Max-Failure).
        patient = self._failures < self._timing.max_failure
        if not patient:
            rejects += unloved
        if rejects:
            return Code.CONFIGURE_REJECT, rejects
        if patient:
            naks += self._missing(options)
        if not naks:
            return Code.CONFIGURE_ACK, data
        self._failures += 1
        return Code.CONFIGURE_NAK, naks

    def _receive_ack(self, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        if self.state in NEGOTIATING:
            if self._is_stale(identifier) or data != self._request:
                return Signal.NONE
            self._answered, self._naks = True, 0
            if problem := self._objection():
                return self.close(now, out, problem)
        elif self.state == State.OPENED:
            return Signal.NONE  # every request is answered once, so this is a duplicate
        return self._happen(Event.ACK, now, out, identifier)

    def _is_stale(self, identifier: int) -> bool:
        """Whether a reply is not one to our last request."""
        return self._answered or identifier != self._identifier

    def _receive_nak(self, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        if self.state in NEGOTIATING:
            if self._is_stale(identifier):
                return Signal.NONE
            options = decode_options(data)
            self._answered = True
            self._naks += 1
            # A peer that will not be content with anything is taken for one that does not want the option.
            patient = self._naks <= self._timing.max_failure
            for kind, value in options:
                if problem := self._nakked(kind, value) if patient else self._refused(kind):
                    return self.close(now, out, problem)
        elif self.state == State.OPENED:
            return Signal.NONE
        return self._happen(Event.NAK, now, out, identifier)

    def _receive_reject(self, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        if self.state in NEGOTIATING:
            if self._is_stale(identifier):
                return Signal.NONE
            options = decode_options(data)
            if not options or not is_part(options, self._request):
                return Signal.NONE
            self._answered = True
            for kind, _ in options:
                if problem := self._refused(kind):
                    return self.close(now, out, problem)
        elif self.state == State.OPENED:
            return Signal.NONE
        return self._happen(Event.NAK, now, out, identifier)

    def _receive_terminate_request(self, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        if self.state not in (State.CLOSING, State.STOPPING):
            why = shown(data)
            self.reason = f"the peer ended {self.NAME}" + (f": {why}" if why else "")
        return self._happen(Event.TERMINATE_REQUEST, now, out, identifier)

    def _receive_terminate_ack(self, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        return self._happen(Event.TERMINATE_ACK, now, out, identifier)

    def _receive_code_reject(self, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        if not data:
            return Signal.NONE
        if data[0] > Code.CODE_REJECT:
            return self._happen(Event.REJECT, now, out)
        self.reason = f"the peer does not know code {data[0]} of {self.NAME}"
        return self._happen(Event.FATAL_REJECT, now, out)

    def _receive_other(self, code: int, identifier: int, data: bytes, now: float, out: Frames) -> Signal:
        """A code that only a subclass knows, if anybody."""
        packet = bytes((code, identifier)) + (PACKET_HEADER + len(data)).to_bytes(2, "big") + data
        reply = self._numbered(Code.CODE_REJECT, packet)
        return self._happen(Event.UNKNOWN_CODE, now, out, identifier, reply)

    def _numbered(self, code: Code, data: bytes) -> bytes:
        """A packet of ours with an identifier that the last had not, cut to what the peer takes."""
        self._other_id = (self._other_id + 1) & 0xFF
        return encode_packet(self.PROTOCOL, code, self._other_id, data[: self.mtu - PACKET_HEADER])

    def protocol_rejected(self, now: float, out: Frames) -> Signal:
        """The peer does not speak this protocol."""
        self.reason = f"the peer does not speak {self.NAME}"
        return self._happen(Event.FATAL_REJECT, now, out)

    # -- the automaton ---------------------------------------------------------------------------------------------

    def _happen(self, event: Event, now: float, out: Frames, identifier: int = 0, reply: bytes = b"") -> Signal:
        """An event: what the table says. `reply` is what was made up as the answer to a packet."""
        step = _STEPS[event][self.state]
        if step is None:
            return Signal.NONE
        actions, state, signal = step
        for action in actions:
            action(self, now, out, identifier, reply)
        if state != self.state:
            self.state = state
            if state not in TIMED:
                self.deadline = None
        return signal

    def _start_over(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        self._begin()

    def _init_configure(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        self._count = self._timing.max_configure

    def _init_terminate(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        self._count = self._timing.max_terminate

    def _zero_count(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        """The peer gets the time to see our Terminate-Ack, or to ask again."""
        self._count = 0
        self.deadline = now + self._timing.period

    def _send_request(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        if self._answered:
            self._identifier = (self._identifier + 1) & 0xFF
            self._request = self._build()
            self._answered = False
        self._count -= 1
        self.deadline = now + self._timing.period
        out.append(encode_packet(self.PROTOCOL, Code.CONFIGURE_REQUEST, self._identifier, self._request))

    def _send_terminate_request(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        self._identifier = (self._identifier + 1) & 0xFF
        self._count -= 1
        self.deadline = now + self._timing.period
        why = self.reason.encode()[:_LONGEST_REASON]
        out.append(encode_packet(self.PROTOCOL, Code.TERMINATE_REQUEST, self._identifier, why))

    def _send_terminate_ack(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        out.append(encode_packet(self.PROTOCOL, Code.TERMINATE_ACK, identifier))

    def _send_reply(self, now: float, out: Frames, identifier: int, reply: bytes) -> None:
        out.append(reply)

    # -- to go on after a restart ----------------------------------------------------------------------------------

    def save(self) -> dict[str, Json]:
        """What `_restore` needs of a machine in Opened."""
        return {"i": self._identifier, "o": self._other_id, "a": self._acked.hex(), "ai": self._peers_ids[-1:].hex()}

    def _restore(self, state: dict[str, Json]) -> None:
        """Be in Opened again."""
        self.state = State.OPENED
        self._identifier = (number(state["i"]) + _ID_LEAP) & 0xFF
        self._other_id = (number(state["o"]) + _ID_LEAP) & 0xFF
        self._acked = octets(state["a"])
        self._peers_ids = octets(state["ai"])


def shown(data: bytes) -> str:
    """A peer's text, fit to be shown; some end theirs with a zero."""
    return text(data[:_LONGEST_TEXT].rstrip(b"\0"))


def number(value: Json) -> int:
    """A number that was saved: none of ours is larger than a magic number."""
    if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{value!r} is no number of a PPP link")
    return value


def octets(value: Json) -> bytes:
    """Octets that were saved as hex."""
    if not isinstance(value, str):
        raise TypeError(f"{value!r} are no octets")
    return bytes.fromhex(value)


_Handler: TypeAlias = Callable[[Automaton, int, bytes, float, Frames], Signal]
_HANDLERS: dict[int, _Handler] = {
    Code.CONFIGURE_REQUEST: Automaton._receive_request,
    Code.CONFIGURE_ACK: Automaton._receive_ack,
    Code.CONFIGURE_NAK: Automaton._receive_nak,
    Code.CONFIGURE_REJECT: Automaton._receive_reject,
    Code.TERMINATE_REQUEST: Automaton._receive_terminate_request,
    Code.TERMINATE_ACK: Automaton._receive_terminate_ack,
    Code.CODE_REJECT: Automaton._receive_code_reject,
}

_Doing: TypeAlias = Callable[[Automaton, float, Frames, int, bytes], None]
_Step: TypeAlias = tuple[tuple[_Doing, ...], State, Signal]

_SIGNALS = {
    Action.LAYER_UP: Signal.UP,
    Action.LAYER_DOWN: Signal.DOWN,
    Action.LAYER_STARTED: Signal.STARTED,
    Action.LAYER_FINISHED: Signal.FINISHED,
}
_DOINGS: dict[Action, _Doing] = {
    Action.INIT_COUNT: Automaton._init_configure,
    Action.ZERO_COUNT: Automaton._zero_count,
    Action.SEND_REQUEST: Automaton._send_request,
    Action.SEND_ACK: Automaton._send_reply,
    Action.SEND_NAK: Automaton._send_reply,
    Action.SEND_TERMINATE_REQUEST: Automaton._send_terminate_request,
    Action.SEND_TERMINATE_ACK: Automaton._send_terminate_ack,
    Action.SEND_CODE_REJECT: Automaton._send_reply,
    Action.SEND_ECHO_REPLY: Automaton._send_reply,
}


def _step(state: State, transition: Transition | None) -> _Step | None:
    """A transition in a form that is quick to take."""
    if transition is None:
        return None
    doings = [_DOINGS[action] for action in transition.actions if action not in _SIGNALS]
    if Action.SEND_TERMINATE_REQUEST in transition.actions:
        doings = [Automaton._init_terminate if doing is Automaton._init_configure else doing for doing in doings]
    if Action.SEND_REQUEST in transition.actions and state not in NEGOTIATING:
        doings.insert(0, Automaton._start_over)
    (signal,) = [_SIGNALS[action] for action in transition.actions if action in _SIGNALS] or [Signal.NONE]
    return tuple(doings), transition.state, signal


_STEPS = [[_step(state, TABLE[state, event]) for state in State] for event in Event]
"""`TABLE`, by event and state."""
