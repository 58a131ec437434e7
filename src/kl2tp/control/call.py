"""One call, RFC 2661 7.4 and 7.5: `kl2tp.control.tables` says what happens when, this what it means."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from kl2tp.control import reasons
from kl2tp.control.events import CallDown, CallOffered, CallUp, LineErrors, LinkInfo
from kl2tp.control.tables import CALLS, CallDo, CallEvent, CallRole, CallState
from kl2tp.wire.avp import Avp
from kl2tp.wire.messages import Cdn, GeneralError, MessageType
from kl2tp.wire.values import ANALOG, DIGITAL, SYNCHRONOUS, Q931Cause, ResultCode

if TYPE_CHECKING:
    from kl2tp.control.tunnel import Tunnel

Avps: TypeAlias = Mapping[Avp, Any]
Detail: TypeAlias = Avps | ResultCode | None
"""What comes with an event: the AVPs of a message, or why something ends."""
DEFAULT_SPEED = 10_000_000
"""Tx Connect Speed where there is no line, bits per second."""
_NOT_DUE = ResultCode(Cdn.GENERAL_ERROR, GeneralError.INVALID_SESSION, "a message came that was not due")
_CANNOT = ResultCode(Cdn.NO_FACILITIES, 0, "the peer places no calls of this kind")

_INFO = (
    Avp.CALL_SERIAL_NUMBER,
    Avp.CALLED_NUMBER,
    Avp.CALLING_NUMBER,
    Avp.SUB_ADDRESS,
    Avp.BEARER_TYPE,
    Avp.FRAMING_TYPE,
    Avp.MINIMUM_BPS,
    Avp.MAXIMUM_BPS,
    Avp.TX_CONNECT_SPEED,
    Avp.RX_CONNECT_SPEED,
    Avp.PHYSICAL_CHANNEL_ID,
    Avp.PRIVATE_GROUP_ID,
)
"""What the two ends tell each other of a call, whoever it is that knows."""
_PROXY = tuple(avp for avp in Avp if Avp.INITIAL_RECEIVED_LCP_CONFREQ <= avp <= Avp.PROXY_AUTHEN_RESPONSE)
_KEPT = frozenset((*_INFO, *_PROXY))
_LONGEST = 256
"""Octets or letters of what a peer says about a call: more is no number, name or LCP packet, and not kept."""
_IN_ICRQ = (Avp.BEARER_TYPE, Avp.PHYSICAL_CHANNEL_ID, Avp.CALLED_NUMBER, Avp.CALLING_NUMBER, Avp.SUB_ADDRESS)
_IN_CONNECTED = (Avp.RX_CONNECT_SPEED,)
_IN_ICCN = (*_PROXY, Avp.PRIVATE_GROUP_ID, Avp.RX_CONNECT_SPEED)


class Call:
    """A call, or session; which end of it we are, `role` says."""

    __slots__ = ("due", "id", "info", "owner", "peer_id", "role", "sequencing_required", "state", "told", "tunnel")

    def __init__(self, tunnel: "Tunnel", role: CallRole) -> None:
        self.tunnel = tunnel
        self.role = role
        self.id = 0
        """Our session id."""
        self.peer_id = 0
        """The peer's; 0 until it has told us."""
        self.state = CallState.IDLE
        self.due = 0.0
        """When set-up has taken too long."""
        self.sequencing_required = False
        """Whether the LAC, be it the peer or we, insists on sequence numbers in data messages (4.4.6)."""
        self.info: dict[Avp, Any] = {}
        """What else is known of it: numbers, speeds, the LAC's LCP and authentication (4.4.4 to 4.4.6)."""
        self.told = False
        """Whether the owner knows of it."""
        self.owner: object | None = None

    @property
    def lns(self) -> bool:
        """Whether we are the LNS of it; otherwise the LAC."""
        return self.role in (CallRole.LNS_INCOMING, CallRole.LNS_OUTGOING)

    @property
    def outgoing(self) -> bool:
        """Whether the LAC calls somebody for the LNS; otherwise somebody has called the LAC."""
        return self.role in (CallRole.LAC_OUTGOING, CallRole.LNS_OUTGOING)

    @property
    def placed(self) -> bool:
        """Whether we asked for it; otherwise the peer."""
        return self.role in (CallRole.LAC_INCOMING, CallRole.LNS_OUTGOING)

    @property
    def established(self) -> bool:
        """Whether PPP may run."""
        return self.state is CallState.ESTABLISHED

    @property
    def serial(self) -> int:
        """Call Serial Number: by it people at both ends name the call."""
        return int(self.info.get(Avp.CALL_SERIAL_NUMBER, 0))

    @property
    def called_number(self) -> str:
        """Whom it is for, if the LAC knows."""
        return str(self.info.get(Avp.CALLED_NUMBER, ""))

    @property
    def calling_number(self) -> str:
        """Who called, if the LAC knows."""
        return str(self.info.get(Avp.CALLING_NUMBER, ""))

    @property
    def sub_address(self) -> str:
        """What else was dialled."""
        return str(self.info.get(Avp.SUB_ADDRESS, ""))

    @property
    def tx_speed(self) -> int:
        """Bits per second from the LAC to the caller; 0: not known."""
        return int(self.info.get(Avp.TX_CONNECT_SPEED, 0))

    @property
    def rx_speed(self) -> int:
        """Bits per second from the caller to the LAC; the same as `tx_speed` unless it was told (4.4.6)."""
        return int(self.info.get(Avp.RX_CONNECT_SPEED, self.tx_speed))

    @property
    def proxy(self) -> dict[Avp, Any]:
        """What the LAC has negotiated with the caller already (4.4.5)."""
        return {avp: self.info[avp] for avp in _PROXY if avp in self.info}

    def fail(self, reason: str) -> None:
        """A call of ours that could not even begin."""
        self.tunnel.host.events.append(CallDown(self, reason, 0, 0))

    def handle(self, event: CallEvent, detail: Detail, now: float) -> None:
        """Something happened."""
        step = _STEPS[self.role][self.state][event]
        assert step is not None
        do, self.state = step
        do(self, event, detail, now)

    def learn(self, avps: Avps) -> None:
        """Remember what a message tells of the call."""
        for avp, value in avps.items():
            if avp in _KEPT:
                if not isinstance(value, str | bytes) or len(value) <= _LONGEST:
                    self.info[avp] = value
            elif avp is Avp.ASSIGNED_SESSION_ID:
                self.peer_id = value
            elif avp is Avp.SEQUENCING_REQUIRED:
                self.sequencing_required = True

    # -- what is done, by `CallDo` -----------------------------------------------------------------------------------

    def _nothing(self, event: CallEvent, detail: Detail, now: float) -> None:
        """What happened is of no consequence."""

    def _wait(self, event: CallEvent, detail: Detail, now: float) -> None:
        """We want the call; when there is a tunnel it begins."""
        self.told = True
        self.tunnel.begin_call(self, now)
        if self.tunnel.established:
            self.tunnel_open(now)

    def tunnel_open(self, now: float) -> None:
        """The tunnel that the call waits for is there."""
        if self.role is CallRole.LNS_OUTGOING and not self._fit_to_lac():
            self.handle(CallEvent.CLOSE, _CANNOT, now)
        else:
            self.handle(CallEvent.TUNNEL_OPEN, None, now)

    def _fit_to_lac(self) -> bool:
        """Ask an LAC only for what it said it can do (4.4.3, 4.4.4, 6.9); whether it can anything of it."""
        bearers, framings = self.tunnel.peer_bearers, self.tunnel.peer_framings
        bearer = self.info.get(Avp.BEARER_TYPE, DIGITAL | ANALOG) & (bearers or 0)
        framing = self.info.get(Avp.FRAMING_TYPE, framings) & framings
        self.info[Avp.BEARER_TYPE], self.info[Avp.FRAMING_TYPE] = bearer, framing
        return bearers is not None and bool(framing) and bool(bearer or not bearers)

    def _request(self, event: CallEvent, detail: Detail, now: float) -> None:
        info = self.info
        info[Avp.CALL_SERIAL_NUMBER] = self.tunnel.host.next_serial()
        avps = {Avp.ASSIGNED_SESSION_ID: self.id, Avp.CALL_SERIAL_NUMBER: self.serial}
        if self.role is CallRole.LAC_INCOMING:
            avps.update((avp, info[avp]) for avp in _IN_ICRQ if avp in info)
            self._send(MessageType.ICRQ, avps, now)
            return
        avps |= {
            Avp.MINIMUM_BPS: info.setdefault(Avp.MINIMUM_BPS, 0),
            Avp.MAXIMUM_BPS: info.setdefault(Avp.MAXIMUM_BPS, DEFAULT_SPEED),
            Avp.BEARER_TYPE: info[Avp.BEARER_TYPE],
            Avp.FRAMING_TYPE: info[Avp.FRAMING_TYPE],
            Avp.CALLED_NUMBER: info.setdefault(Avp.CALLED_NUMBER, ""),
        }
        avps.update((avp, info[avp]) for avp in (Avp.SUB_ADDRESS,) if avp in info)
        self._send(MessageType.OCRQ, avps, now)

    def _offer(self, event: CallEvent, detail: Detail, now: float) -> None:
        self.told = True
        self.tunnel.begin_call(self, now)
        self.tunnel.host.events.append(CallOffered(self))
        if not self.tunnel.host.manual_accept:
            self.accept(now)

    def accept(self, now: float) -> None:
        """Take the call. As LAC we have no line that has to answer first: what is called is ourselves."""
        self.handle(CallEvent.ACCEPT, None, now)
        if self.role is CallRole.LAC_OUTGOING:
            self.handle(CallEvent.ANSWER, None, now)

    def _reply(self, event: CallEvent, detail: Detail, now: float) -> None:
        kind = MessageType.OCRP if self.outgoing else MessageType.ICRP
        self._send(kind, {Avp.ASSIGNED_SESSION_ID: self.id}, now)

    def _refuse(self, event: CallEvent, detail: Detail, now: float) -> None:
        """Of a call that was never more than a message."""
        self._disconnect(detail if isinstance(detail, ResultCode) else _NOT_DUE, now)

    def _connect(self, event: CallEvent, detail: Detail, now: float) -> None:
        assert isinstance(detail, Mapping)
        self.learn(detail)
        self.tunnel.name_call(self)
        self._connected(MessageType.ICCN, _IN_ICCN, now)

    def _answer(self, event: CallEvent, detail: Detail, now: float) -> None:
        self._connected(MessageType.OCCN, _IN_CONNECTED, now)

    def _connected(self, kind: MessageType, more: tuple[Avp, ...], now: float) -> None:
        """The last message of set-up, which the LAC sends."""
        info = self.info
        avps = {
            Avp.TX_CONNECT_SPEED: info.setdefault(Avp.TX_CONNECT_SPEED, DEFAULT_SPEED),
            Avp.FRAMING_TYPE: info.setdefault(Avp.FRAMING_TYPE, SYNCHRONOUS),
        }
        avps.update((avp, info[avp]) for avp in more if avp in info)
        if self.sequencing_required:
            avps[Avp.SEQUENCING_REQUIRED] = True
        self._send(kind, avps, now)
        self._is_up()

    def _proceed(self, event: CallEvent, detail: Detail, now: float) -> None:
        assert isinstance(detail, Mapping)
        self.learn(detail)
        self.tunnel.name_call(self)

    def _up(self, event: CallEvent, detail: Detail, now: float) -> None:
        assert isinstance(detail, Mapping)
        self.learn(detail)
        self._is_up()

    def _is_up(self) -> None:
        self.tunnel.call_is_up(self)
        self._changed()
        self.tunnel.host.events.append(CallUp(self))

    def _line_errors(self, event: CallEvent, detail: Detail, now: float) -> None:
        assert isinstance(detail, Mapping)
        self.tunnel.host.events.append(LineErrors(self, detail[Avp.CALL_ERRORS]))

    def _link_info(self, event: CallEvent, detail: Detail, now: float) -> None:
        assert isinstance(detail, Mapping)
        self.tunnel.host.events.append(LinkInfo(self, detail[Avp.ACCM]))

    def _clear(self, event: CallEvent, detail: Detail, now: float) -> None:
        """Local end: tell the peer."""
        assert isinstance(detail, ResultCode)
        self._disconnect(detail, now)
        self._is_down(detail.message, detail, now)

    def _fault(self, event: CallEvent, detail: Detail, now: float) -> None:
        self._clear(event, _NOT_DUE, now)

    def _drop(self, event: CallEvent, detail: Detail, now: float) -> None:
        """The peer knows already, or there is no way to tell it."""
        if isinstance(detail, Mapping):
            code: ResultCode = detail[Avp.RESULT_CODE]
            self._is_down(f"the peer ended it: {reasons.of_call(code)}", code, now, detail.get(Avp.Q931_CAUSE_CODE))
        else:
            assert detail is not None
            self._is_down(detail.message, detail, now)

    def _disconnect(self, code: ResultCode, now: float) -> None:
        avps: dict[Avp, Any] = {Avp.RESULT_CODE: code, Avp.ASSIGNED_SESSION_ID: self.id}
        if (cause := self.info.get(Avp.Q931_CAUSE_CODE)) is not None:
            avps[Avp.Q931_CAUSE_CODE] = cause
        self.tunnel.send(MessageType.CDN, avps, now, self.peer_id)

    def _is_down(self, reason: str, code: ResultCode, now: float, cause: Q931Cause | None = None) -> None:
        self.state = CallState.IDLE
        self.tunnel.end_call(self, now)
        self._changed()
        if self.told:
            self.tunnel.host.events.append(CallDown(self, reason, code.result, code.error, cause))

    def _send(self, kind: MessageType, avps: Avps, now: float) -> None:
        self._changed()
        self.tunnel.send(kind, avps, now, self.peer_id)

    def _changed(self) -> None:
        self.tunnel.host.dirty[self] = None

    # -- across a restart ----------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any] | None:
        """What is needed to go on; None: forget it. The tunnel's id, and ours, name it."""
        if self.state in (CallState.IDLE, CallState.WAIT_TUNNEL):
            return None
        return {
            "tunnel": self.tunnel.id,
            "id": self.id,
            "peer": self.peer_id,
            "role": int(self.role),
            "state": int(self.state),
            "sequencing": self.sequencing_required,
            "info": {int(avp): value.hex() if isinstance(value, bytes) else value for avp, value in self.info.items()},
        }

    @classmethod
    def restore(cls, tunnel: "Tunnel", state: Mapping[str, Any], now: float) -> "Call":
        """Go on; a call in set-up has all its time again."""
        call = cls(tunnel, CallRole(state["role"]))
        call.id, call.peer_id = int(state["id"]), int(state["peer"])
        call.state = CallState(state["state"])
        call.sequencing_required = bool(state["sequencing"])
        for number, value in state["info"].items():
            avp = Avp(int(number))
            octets = avp in _PROXY and isinstance(value, str)
            call.info[avp] = bytes.fromhex(value) if octets else value
        call.told = True
        tunnel.begin_call(call, now)
        if call.established:
            tunnel.call_is_up(call)
        return call


_Do: TypeAlias = Callable[[Call, CallEvent, Detail, float], None]
_DO: dict[CallDo, _Do] = {
    CallDo.NOTHING: Call._nothing,
    CallDo.WAIT: Call._wait,
    CallDo.REQUEST: Call._request,
    CallDo.OFFER: Call._offer,
    CallDo.REPLY: Call._reply,
    CallDo.REFUSE: Call._refuse,
    CallDo.CONNECT: Call._connect,
    CallDo.PROCEED: Call._proceed,
    CallDo.ANSWER: Call._answer,
    CallDo.UP: Call._up,
    CallDo.LINE_ERRORS: Call._line_errors,
    CallDo.LINK_INFO: Call._link_info,
    CallDo.CLEAR: Call._clear,
    CallDo.FAULT: Call._fault,
    CallDo.DROP: Call._drop,
}
_STEPS = tuple(
    tuple(
        tuple((_DO[step.do], step.next) for step in (table[state][event] for event in CallEvent))
        if state in table
        else ()
        for state in CallState
    )
    for table in (CALLS[role] for role in CallRole)
)
"""The tables, by position: role, state, event."""
