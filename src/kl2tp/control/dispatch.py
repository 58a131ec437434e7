"""Which call a message is about, and whether a new one may begin."""

from typing import TYPE_CHECKING

from kl2tp.control.call import Avps, Call
from kl2tp.control.tables import CallEvent, CallRole
from kl2tp.model.calls import LnsSpec
from kl2tp.wire.avp import Avp
from kl2tp.wire.errors import MessageError
from kl2tp.wire.messages import Cdn, GeneralError, Message, MessageType
from kl2tp.wire.values import ASYNCHRONOUS, SYNCHRONOUS, ResultCode

if TYPE_CHECKING:
    from kl2tp.control.tunnel import Tunnel

_NO_IDS = ResultCode(Cdn.GENERAL_ERROR, GeneralError.NO_RESOURCES, "all session ids are in use")
_ID_IN_USE = ResultCode(Cdn.GENERAL_ERROR, GeneralError.INVALID_SESSION, "the session id is another call's")
_ID_UNKNOWN = ResultCode(Cdn.GENERAL_ERROR, GeneralError.INVALID_SESSION, "there is no such session")
_ID_REUSED = ResultCode(0, 0, "the peer gave its session id to another call")
_NO_SERVICE = ResultCode(Cdn.ADMINISTRATIVE, 0, "no calls are accepted in this tunnel")
_NO_LINES = ResultCode(Cdn.NO_FACILITIES, 0, "no outgoing calls are placed here")
_WRONG_FRAMING = ResultCode(Cdn.GENERAL_ERROR, GeneralError.OUT_OF_RANGE, "this framing was not offered")

CALL_EVENTS = {
    MessageType.OCRQ: CallEvent.OCRQ,
    MessageType.OCRP: CallEvent.OCRP,
    MessageType.OCCN: CallEvent.OCCN,
    MessageType.ICRQ: CallEvent.ICRQ,
    MessageType.ICRP: CallEvent.ICRP,
    MessageType.ICCN: CallEvent.ICCN,
    MessageType.CDN: CallEvent.CDN,
    MessageType.WEN: CallEvent.WEN,
    MessageType.SLI: CallEvent.SLI,
}
"""Messages about calls."""
_REPLIES = {MessageType.ICRP: CallEvent.ICRP_BAD, MessageType.OCRP: CallEvent.OCRP_BAD}
_REQUESTS = {
    MessageType.ICRQ: (CallRole.LNS_INCOMING, CallEvent.ICRQ, CallEvent.ICRQ_BAD),
    MessageType.OCRQ: (CallRole.LAC_OUTGOING, CallEvent.OCRQ, CallEvent.OCRQ_BAD),
}


def deliver(tunnel: "Tunnel", session_id: int, message: Message, now: float) -> None:
    """A message about a call, with the session id of its header."""
    kind = message.type
    assert isinstance(kind, MessageType)
    call = _call_of(tunnel, session_id, message.avps)
    if call is not None:
        event = CALL_EVENTS[kind]
        if kind in _REPLIES and _in_use(tunnel, call, message.avps):
            call.handle(_REPLIES[kind], _ID_IN_USE, now)
        else:
            call.handle(event, message.avps, now)
    elif kind in _REQUESTS:
        _request(tunnel, kind, message.avps, now)
    elif tunnel.resting is None or session_id not in tunnel.resting:
        _stranger(tunnel, CallRole.LNS_INCOMING, session_id, message.avps).handle(CALL_EVENTS[kind], _ID_UNKNOWN, now)


def broken(tunnel: "Tunnel", error: MessageError, session_id: int, code: ResultCode, now: float) -> None:
    """A message about a call that must be understood and is not: end the call (4.1)."""
    call = _call_of(tunnel, session_id, error.avps)
    if call is not None:
        call.handle(CallEvent.BROKEN, code, now)
    elif error.message_type in _REQUESTS:
        role, _, refused = _REQUESTS[MessageType(error.message_type)]
        _stranger(tunnel, role, tunnel.free_call_id(now), error.avps).handle(refused, code, now)


def _call_of(tunnel: "Tunnel", session_id: int, avps: Avps) -> Call | None:
    """By our id in the header; by the peer's in the message, if the peer doesn't know ours yet (4.4.4, 5.3)."""
    if session_id:
        return tunnel.calls.get(session_id)
    if Avp.RESULT_CODE in avps:
        return tunnel.peer_ids.get(avps.get(Avp.ASSIGNED_SESSION_ID, 0))
    return None


def _in_use(tunnel: "Tunnel", call: Call, avps: Avps) -> bool:
    """Whether the peer's new id is that of another call."""
    return tunnel.peer_ids.get(avps[Avp.ASSIGNED_SESSION_ID], call) is not call


def _stranger(tunnel: "Tunnel", role: CallRole, number: int, avps: Avps) -> Call:
    """A call that is not, to answer for it."""
    call = Call(tunnel, role)
    call.id, call.peer_id = number, avps.get(Avp.ASSIGNED_SESSION_ID, 0)
    return call


def _request(tunnel: "Tunnel", kind: MessageType, avps: Avps, now: float) -> None:
    """The peer asks for a call. If it uses an id that it has used for another one, that other is over for it."""
    role, asked, refused = _REQUESTS[kind]
    call = Call(tunnel, role)
    call.learn(avps)
    older = tunnel.peer_ids.get(call.peer_id)
    if older is not None:
        older.handle(CallEvent.LOST, _ID_REUSED, now)
    call.id = tunnel.free_call_id(now)
    refusal = _refusal(call, now)
    call.handle(refused if refusal else asked, refusal or avps, now)


def _refusal(call: Call, now: float) -> ResultCode | None:
    """Why a call is not acceptable."""
    tunnel = call.tunnel
    if not call.id:
        return _NO_IDS
    if call.role is CallRole.LAC_OUTGOING:
        accept = tunnel.host.accept_outgoing
        if accept is None or not accept(call):
            return _NO_LINES
        if not call.info[Avp.FRAMING_TYPE] & (SYNCHRONOUS | ASYNCHRONOUS):
            return _WRONG_FRAMING
    elif not isinstance(tunnel.profile, LnsSpec):
        return _NO_SERVICE
    if tunnel.usage is not None and isinstance(tunnel.profile, LnsSpec):
        return tunnel.usage.call_refusal(tunnel.profile.limits, len(tunnel.calls), now)
    return None


def place(tunnel: "Tunnel", call: Call, now: float) -> None:
    """Begin a call of ours. If there can be none, its owner is told just as if it had ended."""
    if tunnel.closing:
        call.fail("the tunnel is gone")
        return
    call.id = tunnel.free_call_id(now)
    if call.id:
        call.handle(CallEvent.OPEN, None, now)
    else:
        call.fail(_NO_IDS.message)
