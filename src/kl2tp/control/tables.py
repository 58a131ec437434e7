"""The machines of RFC 2661 section 7 as data: in which state what happens on which event, and what comes next.

One table for control connections (7.2.1) and one for each end of each kind of call (7.4.1, 7.4.2, 7.5.1, 7.5.2). Every
state and event of a machine is named; `kl2tp.control.tunnel` and `kl2tp.control.call` say what the actions do.

IDLE is before and after everything: nothing in IDLE is kept. What the RFC's tables leave out is here too:

- STOPPING: a StopCCN is under way, which is delivered as reliably as anything else (5.7).
- WAIT_ACCEPT: a call was offered, and it is for the operator of this end to take it; mostly that takes no time.
- Timers, a peer that no longer answers, and messages that are broken. A peer that was sent an SCCRP and has never been
  heard of again counts as one that no longer answers: nothing more is sent to an address that may be somebody else's.

Where it sends a CDN in answer to a CDN (7.5.1, wait-cs-answer) we don't: "the peer ... does not send back any
indication" (6.12). Where it cleans up in silence on a message that should not be (7.4.1, ICCN in wait-reply) we send a
CDN: then the peer cleans up as well.
"""

import enum
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar


class TunnelState(enum.IntEnum):
    """Of a control connection."""

    IDLE = 0
    WAIT_CTL_REPLY = 1
    WAIT_CTL_CONN = 2
    ESTABLISHED = 3
    STOPPING = 4


class TunnelEvent(enum.IntEnum):
    """What can happen to a control connection. A message that is not acceptable is an event of its own."""

    OPEN = 0
    """Local open request."""
    SCCRQ = 1
    SCCRQ_BAD = 2
    TIE_LOST = 3
    """An SCCRQ of the peer crossed ours, and its tie breaker wins."""
    TIE_EQUAL = 4
    """The same, and nobody wins."""
    SCCRP = 5
    SCCRP_BAD = 6
    SCCCN = 7
    SCCCN_BAD = 8
    STOPCCN = 9
    HELLO = 10
    CALL = 11
    """A message about a call."""
    BROKEN = 12
    """A message that cannot be understood and must not be ignored."""
    CLOSE = 13
    """Local close request: the operator's, or no call has been there for long."""
    TIMEOUT = 14
    """Set-up takes too long."""
    DEAD = 15
    """The peer acknowledges nothing."""
    REPLACED = 16
    """The peer has given its tunnel id to another tunnel: it began anew."""
    DRAINED = 17
    """The peer has acknowledged all that we sent."""


class TunnelDo(enum.Enum):
    """What is done about it."""

    NOTHING = "nothing"
    REQUEST = "send SCCRQ"
    REPLY = "send SCCRP"
    REFUSE = "send StopCCN, keep nothing"
    CONNECT = "send SCCCN, tell the waiting calls"
    UP = "tell the waiting calls"
    STOP = "send StopCCN, clean up"
    FAULT = "send StopCCN, clean up: nothing of the sort was due"
    DROP = "clean up, acknowledge what was the peer's StopCCN"
    DISCARD = "clean up"
    PASS = "to the call"


class CallState(enum.IntEnum):
    """Of a call."""

    IDLE = 0
    WAIT_TUNNEL = 1
    WAIT_REPLY = 2
    WAIT_ACCEPT = 3
    WAIT_CONNECT = 4
    WAIT_CS_ANSWER = 5
    ESTABLISHED = 6


class CallEvent(enum.IntEnum):
    """What can happen to a call."""

    OPEN = 0
    """Local open request: the bearer rings (LAC), or somebody is to be called (LNS)."""
    TUNNEL_OPEN = 1
    ICRQ = 2
    ICRQ_BAD = 3
    ICRP = 4
    ICRP_BAD = 5
    ICCN = 6
    OCRQ = 7
    OCRQ_BAD = 8
    OCRP = 9
    OCRP_BAD = 10
    OCCN = 11
    CDN = 12
    WEN = 13
    SLI = 14
    BROKEN = 15
    """A message about the call that cannot be understood and must not be ignored: as "not acceptable"."""
    ACCEPT = 16
    """We take the call that was offered."""
    ANSWER = 17
    """The bearer answers, framing is detected."""
    CLOSE = 18
    """Local close request, the bearer fails or is dropped."""
    TIMEOUT = 19
    """Set-up takes too long."""
    LOST = 20
    """The tunnel is gone, or the peer uses its id for another call."""


class CallDo(enum.Enum):
    """What is done about it."""

    NOTHING = "nothing"
    WAIT = "wait for the tunnel"
    REQUEST = "send ICRQ or OCRQ"
    OFFER = "tell that a call is offered"
    REPLY = "send ICRP or OCRP"
    REFUSE = "send CDN, keep nothing"
    CONNECT = "send ICCN"
    PROCEED = "the peer will place the call"
    ANSWER = "send OCCN"
    UP = "prepare for data"
    LINE_ERRORS = "tell of errors on the line"
    LINK_INFO = "tell of the ACCM"
    CLEAR = "send CDN, clean up"
    FAULT = "send CDN, clean up: nothing of the sort was due"
    DROP = "clean up"


class CallRole(enum.IntEnum):
    """Which end of which kind of call we are."""

    LAC_INCOMING = 0
    LNS_INCOMING = 1
    LAC_OUTGOING = 2
    LNS_OUTGOING = 3


class TunnelStep(NamedTuple):
    """A cell of the table."""

    do: TunnelDo
    next: TunnelState


class CallStep(NamedTuple):
    """A cell of the table."""

    do: CallDo
    next: CallState


_State = TypeVar("_State", bound=enum.IntEnum)
_Event = TypeVar("_Event", bound=enum.IntEnum)
_Do = TypeVar("_Do", bound=enum.Enum)
_Rows: TypeAlias = Iterable[tuple[Iterable[_Event], _Do, _State]]
TunnelTable: TypeAlias = Mapping[TunnelState, Mapping[TunnelEvent, TunnelStep]]
CallTable: TypeAlias = Mapping[CallState, Mapping[CallEvent, CallStep]]


def _spread(rows: "_Rows[_Event, _Do, _State]") -> dict[_Event, tuple[_Do, _State]]:
    """One cell per event; an event that is named twice is a mistake in the table."""
    cells: dict[_Event, tuple[_Do, _State]] = {}
    for events, do, following in rows:
        for event in events:
            if event in cells:
                raise ValueError(f"{event!r} is there twice")
            cells[event] = (do, following)
    return cells


def _tunnel(rows: "_Rows[TunnelEvent, TunnelDo, TunnelState]") -> dict[TunnelEvent, TunnelStep]:
    return {event: TunnelStep(*cell) for event, cell in _spread(rows).items()}


def _call(rows: "_Rows[CallEvent, CallDo, CallState]") -> dict[CallEvent, CallStep]:
    return {event: CallStep(*cell) for event, cell in _spread(rows).items()}


def _tunnel_table() -> TunnelTable:
    """RFC 2661 7.2.1."""
    state, event, do = TunnelState, TunnelEvent, TunnelDo
    idle, stopping = state.IDLE, state.STOPPING
    bad = (event.SCCRQ_BAD, event.SCCRP_BAD, event.SCCCN_BAD)
    tie = (event.TIE_LOST, event.TIE_EQUAL)
    return {
        idle: _tunnel((
            ((event.OPEN,), do.REQUEST, state.WAIT_CTL_REPLY),
            ((event.SCCRQ,), do.REPLY, state.WAIT_CTL_CONN),
            ((event.SCCRQ_BAD, event.SCCRP, event.SCCRP_BAD), do.REFUSE, idle),
            ((event.SCCCN, event.SCCCN_BAD, event.STOPCCN), do.NOTHING, idle),
            ((*tie, event.HELLO, event.CALL, event.BROKEN, event.CLOSE), do.NOTHING, idle),
            ((event.TIMEOUT, event.DEAD, event.REPLACED, event.DRAINED), do.NOTHING, idle),
        )),
        state.WAIT_CTL_REPLY: _tunnel((
            ((event.SCCRP,), do.CONNECT, state.ESTABLISHED),
            (tie, do.DISCARD, idle),
            ((event.SCCRP_BAD, event.BROKEN, event.CLOSE), do.STOP, stopping),
            ((event.SCCRQ, event.SCCRQ_BAD, event.SCCCN, event.SCCCN_BAD, event.CALL), do.FAULT, stopping),
            ((event.STOPCCN,), do.DROP, idle),
            ((event.TIMEOUT, event.DEAD), do.DISCARD, idle),
            ((event.OPEN, event.HELLO, event.REPLACED, event.DRAINED), do.NOTHING, state.WAIT_CTL_REPLY),
        )),
        state.WAIT_CTL_CONN: _tunnel((
            ((event.SCCCN,), do.UP, state.ESTABLISHED),
            ((event.SCCCN_BAD, event.BROKEN, event.CLOSE, event.TIMEOUT), do.STOP, stopping),
            ((event.SCCRQ, event.SCCRQ_BAD, event.SCCRP, event.SCCRP_BAD, event.CALL), do.FAULT, stopping),
            ((event.STOPCCN,), do.DROP, idle),
            ((event.DEAD, event.REPLACED), do.DISCARD, idle),
            ((event.OPEN, *tie, event.HELLO, event.DRAINED), do.NOTHING, state.WAIT_CTL_CONN),
        )),
        state.ESTABLISHED: _tunnel((
            ((event.CALL,), do.PASS, state.ESTABLISHED),
            ((event.BROKEN, event.CLOSE), do.STOP, stopping),
            ((event.SCCRQ, event.SCCRP, event.SCCCN, *bad), do.FAULT, stopping),
            ((event.STOPCCN,), do.DROP, idle),
            ((event.DEAD, event.REPLACED), do.DISCARD, idle),
            ((event.OPEN, *tie, event.HELLO, event.TIMEOUT, event.DRAINED), do.NOTHING, state.ESTABLISHED),
        )),
        stopping: _tunnel((
            ((event.STOPCCN,), do.DROP, idle),
            ((event.DRAINED, event.DEAD, event.REPLACED), do.DISCARD, idle),
            ((event.SCCRQ, event.SCCRP, event.SCCCN, *bad, event.CALL, event.BROKEN), do.NOTHING, stopping),
            ((event.OPEN, *tie, event.HELLO, event.CLOSE, event.TIMEOUT), do.NOTHING, stopping),
        )),
    }  # fmt: skip


TUNNEL = _tunnel_table()
"""The control connection, for who opens it and for who is asked."""

_REQUESTS = (CallEvent.ICRQ, CallEvent.OCRQ)
_INCOMING = (CallEvent.ICRQ, CallEvent.ICRQ_BAD, CallEvent.ICRP, CallEvent.ICRP_BAD, CallEvent.ICCN)
_OUTGOING = (CallEvent.OCRQ, CallEvent.OCRQ_BAD, CallEvent.OCRP, CallEvent.OCRP_BAD, CallEvent.OCCN)
_LOCAL = (CallEvent.OPEN, CallEvent.TUNNEL_OPEN, CallEvent.ACCEPT, CallEvent.ANSWER)


def _nobody(*taken: CallEvent) -> "_Rows[CallEvent, CallDo, CallState]":
    """What becomes of messages for no call, beside those that begin one."""
    event, do, idle = CallEvent, CallDo, CallState.IDLE
    yield from (
        ((event.ICRP, event.ICRP_BAD, event.OCRP, event.OCRP_BAD), do.REFUSE, idle),
        ((event.ICCN, event.OCCN, event.CDN, event.WEN, event.SLI, event.BROKEN), do.NOTHING, idle),
        ((event.CLOSE, event.TIMEOUT, event.LOST), do.NOTHING, idle),
    )
    requests = (event.ICRQ, event.ICRQ_BAD, event.OCRQ, event.OCRQ_BAD)
    yield ((other for other in requests if other not in taken), do.REFUSE, idle)
    yield ((other for other in _LOCAL if other not in taken), do.NOTHING, idle)


def _under_way(here: CallState, *taken: CallEvent) -> "_Rows[CallEvent, CallDo, CallState]":
    """What is the same in all states of set-up, beside the events that have their own rows."""
    event, do, idle = CallEvent, CallDo, CallState.IDLE
    yield ((other for other in (*_INCOMING, *_OUTGOING) if other not in taken), do.FAULT, idle)
    yield ((other for other in (*_LOCAL, event.WEN, event.SLI) if other not in taken), do.NOTHING, here)
    yield ((event.BROKEN, event.CLOSE, event.TIMEOUT), do.CLEAR, idle)
    yield ((event.CDN, event.LOST), do.DROP, idle)


def _established(*, lns: bool) -> dict[CallEvent, CallStep]:
    """A call that is up: the LAC tells of its line (6.13), the LNS of the PPP options that matter to it (6.14)."""
    event, do, idle, here = CallEvent, CallDo, CallState.IDLE, CallState.ESTABLISHED
    return _call((
        ((*_INCOMING, *_OUTGOING), do.FAULT, idle),
        ((event.WEN,), do.LINE_ERRORS if lns else do.NOTHING, here),
        ((event.SLI,), do.NOTHING if lns else do.LINK_INFO, here),
        ((*_LOCAL, event.TIMEOUT), do.NOTHING, here),
        ((event.BROKEN, event.CLOSE), do.CLEAR, idle),
        ((event.CDN, event.LOST), do.DROP, idle),
    ))  # fmt: skip


def _placed(*, lns: bool) -> dict[CallState, dict[CallEvent, CallStep]]:
    """The states that are the same for a call that we ask for, as LAC (7.4.1) or as LNS (7.5.2)."""
    event, do = CallEvent, CallDo
    idle, wait_tunnel, wait_reply = CallState.IDLE, CallState.WAIT_TUNNEL, CallState.WAIT_REPLY
    return {
        idle: _call((((event.OPEN,), do.WAIT, wait_tunnel), *_nobody(event.OPEN))),
        wait_tunnel: _call((
            ((event.TUNNEL_OPEN,), do.REQUEST, wait_reply),
            ((*_INCOMING, *_OUTGOING, event.BROKEN), do.NOTHING, wait_tunnel),
            ((event.WEN, event.SLI), do.NOTHING, wait_tunnel),
            ((event.OPEN, event.ACCEPT, event.ANSWER), do.NOTHING, wait_tunnel),
            ((event.CLOSE, event.TIMEOUT, event.CDN, event.LOST), do.DROP, idle),
        )),
        CallState.ESTABLISHED: _established(lns=lns),
    }  # fmt: skip


def _call_tables() -> dict[CallRole, CallTable]:
    """RFC 2661 7.4 and 7.5."""
    state, event, do = CallState, CallEvent, CallDo
    idle, up = state.IDLE, state.ESTABLISHED
    offered = _call((
        ((event.ACCEPT,), do.REPLY, state.WAIT_CONNECT),
        *_under_way(state.WAIT_ACCEPT, event.ACCEPT),
    ))  # fmt: skip
    return {
        CallRole.LAC_INCOMING: {
            **_placed(lns=False),
            state.WAIT_REPLY: _call((
                ((event.ICRP,), do.CONNECT, up),
                ((event.ICRP_BAD,), do.CLEAR, idle),
                *_under_way(state.WAIT_REPLY, event.ICRP, event.ICRP_BAD),
            )),
        },
        CallRole.LNS_INCOMING: {
            idle: _call((((event.ICRQ,), do.OFFER, state.WAIT_ACCEPT), *_nobody(event.ICRQ))),
            state.WAIT_ACCEPT: offered,
            state.WAIT_CONNECT: _call((
                ((event.ICCN,), do.UP, up),
                *_under_way(state.WAIT_CONNECT, event.ICCN),
            )),
            up: _established(lns=True),
        },
        CallRole.LAC_OUTGOING: {
            idle: _call((((event.OCRQ,), do.OFFER, state.WAIT_ACCEPT), *_nobody(event.OCRQ))),
            state.WAIT_ACCEPT: {**offered, event.ACCEPT: CallStep(do.REPLY, state.WAIT_CS_ANSWER)},
            state.WAIT_CS_ANSWER: _call((
                ((event.ANSWER,), do.ANSWER, up),
                *_under_way(state.WAIT_CS_ANSWER, event.ANSWER),
            )),
            up: _established(lns=False),
        },
        CallRole.LNS_OUTGOING: {
            **_placed(lns=True),
            state.WAIT_REPLY: _call((
                ((event.OCRP,), do.PROCEED, state.WAIT_CONNECT),
                ((event.OCRP_BAD,), do.CLEAR, idle),
                *_under_way(state.WAIT_REPLY, event.OCRP, event.OCRP_BAD),
            )),
            state.WAIT_CONNECT: _call((
                ((event.OCCN,), do.UP, up),
                *_under_way(state.WAIT_CONNECT, event.OCCN),
            )),
        },
    }  # fmt: skip


CALLS = _call_tables()
"""Calls, by our part in them."""
