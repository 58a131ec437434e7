"""One control connection, RFC 2661 7.2: `kl2tp.control.tables` says what happens when, this what it means."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kl2tp.control import handshake, reasons, whereabouts
from kl2tp.control.call import Avps, Call
from kl2tp.control.channel import DEFAULT_WINDOW, Channel
from kl2tp.control.dispatch import CALL_EVENTS, broken, deliver
from kl2tp.control.events import TunnelDown, TunnelMoved, TunnelUp
from kl2tp.control.host import NEVER, Alarm, Datagram, Host, Profile
from kl2tp.control.ids import Quarantine
from kl2tp.control.limits import Usage
from kl2tp.control.profiles import Peer, Place, restored_peer, saved_peer
from kl2tp.control.tables import TUNNEL, CallEvent, CallState, TunnelDo, TunnelEvent, TunnelState
from kl2tp.model.calls import LnsSpec
from kl2tp.wire.avp import Avp
from kl2tp.wire.errors import MessageError
from kl2tp.wire.l2tp import ControlHeader, encode_control
from kl2tp.wire.messages import Cdn, GeneralError, MessageType, StopCcn, decode, encode
from kl2tp.wire.values import ASYNCHRONOUS, HIDEABLE, SYNCHRONOUS, ResultCode

_MOST_OWED = 4096
"""Messages that a peer may leave unacknowledged while it has us answer ever more: past them it is no peer."""
_LONGEST_NAME = 256
_RESTING_S = 5.0
"""For how long the id of a call that ended is given to no other."""
_MOST_RESTING = 1024
_HELLO = encode(MessageType.HELLO, {})
_OPENING = (MessageType.SCCRQ, MessageType.SCCRP)

_NOT_DUE = ResultCode(StopCcn.STATE_MACHINE, 0, "a message came that was not due")
_OWES = ResultCode(StopCcn.GENERAL_ERROR, GeneralError.NO_RESOURCES, "the peer acknowledges too little")
_SLOW = ResultCode(StopCcn.CLEAR, 0, "set-up took too long")
_EMPTY = ResultCode(StopCcn.CLEAR, 0, "there was no call for long")
_SLOW_CALL = ResultCode(Cdn.TIMEOUT, 0, "set-up took too long")
_WITHOUT_STOPCCN = {
    TunnelEvent.DEAD: "the peer does not answer",
    TunnelEvent.TIMEOUT: "the peer did not answer in time",
    TunnelEvent.TIE_LOST: "the peer opens a tunnel at the same time: its tie breaker wins",
    TunnelEvent.TIE_EQUAL: "the peer opens a tunnel at the same time, with the same tie breaker",
    TunnelEvent.REPLACED: "the peer began anew",
    TunnelEvent.DRAINED: "",
}

_TUNNEL_EVENTS: dict[int, TunnelEvent] = {
    MessageType.SCCRQ: TunnelEvent.SCCRQ,
    MessageType.SCCRP: TunnelEvent.SCCRP,
    MessageType.SCCCN: TunnelEvent.SCCCN,
    MessageType.STOPCCN: TunnelEvent.STOPCCN,
    MessageType.HELLO: TunnelEvent.HELLO,
}


class Tunnel:
    """A control connection with its calls. Until the peer has shown that its address is its own there is no channel."""

    __slots__ = (
        *("alarm", "calls", "challenge", "channel", "host", "host_name", "id", "incoming", "local", "owner", "peer"),
        *("peer_bearers", "peer_framings", "peer_id", "peer_ids", "peer_window", "pending", "placing", "profile"),
        *("resting", "secret", "since", "state", "suspended_at", "tie_breaker", "told", "usage", "vendor", "wake_at"),
        *("note", "welcome"),
    )

    def __init__(self, host: Host, profile: Profile, peer: Peer, local: Place, now: float, *, incoming: bool) -> None:
        self.host = host
        self.profile = profile
        self.peer = peer
        self.local = local
        self.incoming = incoming
        """Whether the peer opened it."""
        self.id = 0
        """Our tunnel id."""
        self.peer_id = 0
        """The peer's; 0 until it has told us."""
        self.state = TunnelState.IDLE
        self.since = now
        """When it came to its state."""
        self.wake_at = NEVER
        """When set-up has taken too long, or there was no call for too long."""
        self.suspended_at: float | None = None
        """Since when its time stands still; None: it does not."""
        self.alarm: Alarm | None = None
        """Belongs to `Host`."""
        self.secret: bytes | None = None
        self.challenge = b""
        """What the peer has to answer; empty: nothing."""
        self.tie_breaker: bytes | None = None
        self.welcome = b""
        """The SCCRP of a half-open tunnel, as a datagram."""
        self.host_name = ""
        """The peer's."""
        self.vendor = ""
        self.peer_window = DEFAULT_WINDOW
        self.peer_framings = SYNCHRONOUS | ASYNCHRONOUS
        self.peer_bearers: int | None = None
        """None: the peer places no outgoing calls (4.4.3)."""
        self.channel: Channel
        self.calls: dict[int, Call] = {}
        """By our session id."""
        self.peer_ids: dict[int, Call] = {}
        """By the peer's."""
        self.pending: dict[int, Call] = {}
        """Calls in set-up, in the order in which their time is over."""
        self.placing = 0
        """How many calls in set-up are ours."""
        self.resting: Quarantine | None = None
        self.usage: Usage | None = None
        """What the peers of the profile use; only of tunnels that peers opened."""
        self.told = not incoming
        """Whether the owner knows of it."""
        self.owner: object | None = None
        self.note: list[str] = []
        """What the owner wants to find again after a restart."""

    @property
    def established(self) -> bool:
        """Whether calls are possible."""
        return self.state is TunnelState.ESTABLISHED

    @property
    def closing(self) -> bool:
        """Whether it is over."""
        return self.state in (TunnelState.IDLE, TunnelState.STOPPING)

    @property
    def deadline(self) -> float:
        """When `handle_timer` has something to do; NEVER: not of itself."""
        if self.suspended_at is not None:
            return NEVER
        at = self.channel.deadline
        due = self.wake_at if at is None else min(at, self.wake_at)
        for call in self.pending.values():
            return min(due, call.due)
        return due

    def handle(self, event: TunnelEvent, detail: Any, now: float) -> None:
        """Something happened."""
        do, following = _STEPS[self.state][event]
        if following is not self.state:
            self.state, self.since = following, now
        do(self, event, detail, now)

    # -- packets -----------------------------------------------------------------------------------------------------

    def receive(self, header: ControlHeader, payload: bytes, now: float) -> None:
        """A control packet for this tunnel, from its peer."""
        channel = self.channel
        channel.changed = False
        arrivals = channel.receive(header, payload, now)
        if arrivals or (channel.changed and channel.unacked):
            # What was acknowledged need not be known again, but what could be sent in consequence must (5.8).
            self.host.dirty[self] = None
        for session_id, message in arrivals:
            self._message(session_id, message, now)
            if self.state is TunnelState.IDLE:
                return
        if channel.unacked > _MOST_OWED + self.placing and not self.closing:
            self.handle(TunnelEvent.BROKEN, _OWES, now)
        if self.state is TunnelState.STOPPING and not channel.unacked:
            self.handle(TunnelEvent.DRAINED, None, now)

    def _message(self, session_id: int, payload: bytes, now: float) -> None:
        """A message, in its turn."""
        try:
            message = decode(payload, self.secret)
        except MessageError as error:
            self._broken(error, session_id, now)
            return
        kind = message.type
        if kind in CALL_EVENTS:
            self.handle(TunnelEvent.CALL, (session_id, message), now)
            return
        if kind == MessageType.SCCRP and not self.peer_id:
            self._learn_id(message.avps)
        if kind == MessageType.SCCRP and self.state is TunnelState.WAIT_CTL_REPLY:
            refusal = handshake.refusal(MessageType.SCCRP, self, message.avps)
            self.handle(TunnelEvent.SCCRP_BAD if refusal else TunnelEvent.SCCRP, refusal or message.avps, now)
        elif kind == MessageType.SCCCN and self.state is TunnelState.WAIT_CTL_CONN:
            refusal = handshake.refusal(MessageType.SCCCN, self, message.avps)
            self.handle(TunnelEvent.SCCCN_BAD if refusal else TunnelEvent.SCCCN, refusal, now)
        elif (event := _TUNNEL_EVENTS.get(kind)) is not None:
            self.handle(event, message.avps, now)
        # Anything else is of no meaning to us, and its sender said that it need not be (4.4.1).

    def _broken(self, error: MessageError, session_id: int, now: float) -> None:
        """A message that must be understood and is not: end what it was about (4.1, 7.1)."""
        code = ResultCode(error.result, error.error, str(error))
        if error.call_only and self.established:
            broken(self, error, session_id, code, now)
            return
        if error.message_type == MessageType.SCCRP and not self.peer_id:
            self._learn_id(error.avps)
        self.handle(TunnelEvent.BROKEN, code, now)

    def _pass(self, event: TunnelEvent, detail: Any, now: float) -> None:
        session_id, message = detail
        deliver(self, session_id, message, now)

    def send(self, kind: MessageType, avps: Avps, now: float, peer_session_id: int = 0) -> None:
        """Send a message about the tunnel, or about a call that is `peer_session_id` to the peer."""
        self.channel.send(self.encode(kind, avps), peer_session_id, now)
        self.host.dirty[self] = None
        self.host.touch(self)

    def encode(self, kind: MessageType, avps: Avps) -> bytes:
        """A message, with its AVPs hidden if that is wanted.

        Not those of the first two: until it knows who we are, a peer can't know by which secret to reveal them.
        xl2tpd knows it only once it has read a whole SCCRQ or SCCRP with a challenge.
        """
        if self.secret and self.profile.control.hide_avps and kind not in _OPENING:
            return encode(kind, avps, hide=HIDEABLE, secret=self.secret, random=self.host.entropy.take)
        return encode(kind, avps)

    # -- set-up ------------------------------------------------------------------------------------------------------

    def _learn_id(self, avps: Avps) -> None:
        """By which id the peer is to be addressed, whatever else it says (4.4.3)."""
        self.peer_id = self.channel.peer_tunnel_id = avps.get(Avp.ASSIGNED_TUNNEL_ID, 0)

    def learn(self, avps: Avps) -> None:
        """What the peer tells of itself."""
        self.peer_id = avps[Avp.ASSIGNED_TUNNEL_ID]
        self.peer_window = avps.get(Avp.RECEIVE_WINDOW_SIZE, DEFAULT_WINDOW)
        self.host_name = avps[Avp.HOST_NAME][:_LONGEST_NAME]
        self.vendor = avps.get(Avp.VENDOR_NAME, "")[:_LONGEST_NAME]
        self.peer_framings = avps[Avp.FRAMING_CAPABILITIES]
        self.peer_bearers = avps.get(Avp.BEARER_CAPABILITIES)

    def open_channel(self, now: float) -> None:
        """From now on messages are delivered reliably."""
        control = self.profile.control
        self.channel = Channel(
            now,
            receive_window=control.window,
            first_timeout=control.retransmit_first,
            cap=control.retransmit_cap,
            tries=control.retransmit_tries,
            hello_interval=control.hello_interval,
            peer_window=self.peer_window,
        )

    def _request(self, event: TunnelEvent, detail: Any, now: float) -> None:
        """We open it."""
        self.open_channel(now)
        self.wake_at = now + self.profile.control.setup_timeout
        self.host.tunnels[self.id] = self
        self.host.dialing.setdefault(self.peer, []).append(self)
        avps = handshake.introduction(self)
        if self.tie_breaker is not None:
            avps[Avp.TIE_BREAKER] = self.tie_breaker
        self.send(MessageType.SCCRQ, avps, now)

    def _reply(self, event: TunnelEvent, detail: Avps, now: float) -> None:
        """The peer opens it: be half-open. The SCCRP is not repeated before the peer is heard of again.

        Who invents addresses shall not have us send more to them than was sent to us; and a peer that has not received
        the SCCRP repeats its SCCRQ, which is answered with the same.
        """
        avps = handshake.introduction(self) | handshake.response(MessageType.SCCRP, self, detail)
        self.wake_at = now + self.profile.control.setup_timeout
        self.welcome = encode_control(self.peer_id, 0, 0, 1, self.encode(MessageType.SCCRP, avps))
        self.host.note_half_open(self)
        self.repeat_welcome()

    def repeat_welcome(self) -> None:
        """Answer the SCCRQ, for the first time or again."""
        self.host.datagrams.append(Datagram(self.welcome, self.peer, self.local, None))

    def prove_address(self, now: float) -> None:
        """The peer has got the SCCRP: it is where it says it is. What it sends is for a real tunnel now."""
        host = self.host
        assert self.usage is not None
        assert isinstance(self.profile, LnsSpec)
        host.drop_half_open(self)
        self.welcome = b""
        self.open_channel(now)
        # SCCRQ and SCCRP were exchanged and acknowledged: both sides are at 1.
        state = {"peer": self.peer_id, "window": self.peer_window, "ns": 1, "used": 0, "nr": 1, "queue": ()}
        self.channel.restore(state, now)
        host.tunnels[self.id] = self
        refusal = self.usage.tunnel_refusal(self.profile.limits, self.peer[0])
        self.usage.add_tunnel(self.peer[0])
        if refusal is not None:
            self.handle(TunnelEvent.CLOSE, refusal, now)

    def _refuse(self, event: TunnelEvent, detail: Any, now: float) -> None:
        """Of a tunnel that was never more than a message. StopCCN, to be forgotten at once; it is not repeated."""
        code = detail if isinstance(detail, ResultCode) else _NOT_DUE
        avps = {Avp.ASSIGNED_TUNNEL_ID: self.id, Avp.RESULT_CODE: code}
        # An SCCRP was the answer to an SCCRQ of ours, 0: what we send now would be 1.
        ns = 0 if event is TunnelEvent.SCCRQ_BAD else 1
        self.host.answer(encode(MessageType.STOPCCN, avps), self.peer_id, (ns, 1), self.peer, self.local)

    def _connect(self, event: TunnelEvent, detail: Avps, now: float) -> None:
        """The peer has accepted."""
        whereabouts.stop_dialing(self)
        self.learn(detail)
        self.channel.peer_window = self.peer_window
        self.send(MessageType.SCCCN, handshake.response(MessageType.SCCCN, self, detail), now)
        self._up(event, detail, now)

    def _up(self, event: TunnelEvent, detail: Any, now: float) -> None:
        """Established: whatever the peer had under the same id is no more."""
        self.challenge, self.tie_breaker = b"", None
        before = self.host.latest_of.get((self.peer, self.host_name)) if self.incoming else None
        self._note(now)
        self.told = True
        self.host.events.append(TunnelUp(self))
        if before is not None:
            before.probe(now)
        for call in list(self.calls.values()):
            if call.state is CallState.WAIT_TUNNEL:
                call.tunnel_open(now)

    def _note(self, now: float) -> None:
        """Be found by what the peer is; who was found there before is no more."""
        host = self.host
        host.dirty[self] = None
        whereabouts.be_found(self, now)
        if self.incoming:
            host.latest_of[self.peer, self.host_name] = self
        empty = self.profile.control.empty_timeout
        self.wake_at = now + empty if empty and not self.calls else NEVER

    def probe(self, now: float) -> None:
        """Ask whether the peer still knows this tunnel: it has opened another one, maybe because it lost this."""
        if self.established and not self.channel.unacked:
            self.channel.send(_HELLO, 0, now)
            self.host.dirty[self] = None
            self.host.touch(self)

    # -- the end -----------------------------------------------------------------------------------------------------

    def _nothing(self, event: TunnelEvent, detail: Any, now: float) -> None:
        """What happened is of no consequence."""

    def _stop(self, event: TunnelEvent, detail: ResultCode, now: float) -> None:
        """End it, and tell the peer."""
        self._end(detail.message, detail, now)
        self.wake_at = NEVER
        if self.suspended_at is not None:  # nobody would hear of it
            self.state = TunnelState.IDLE
            self._bury(now, acknowledge=False)
            return
        self.send(MessageType.STOPCCN, {Avp.ASSIGNED_TUNNEL_ID: self.id, Avp.RESULT_CODE: detail}, now)

    def _fault(self, event: TunnelEvent, detail: Any, now: float) -> None:
        self._stop(event, _NOT_DUE, now)

    def _drop(self, event: TunnelEvent, detail: Avps, now: float) -> None:
        """The peer ends it."""
        code: ResultCode = detail[Avp.RESULT_CODE]
        self._end(f"the peer ended it: {reasons.of_tunnel(code)}", code, now)
        # A peer that refuses us tells here by which id it is to be answered.
        self.channel.peer_tunnel_id = self.peer_id or detail[Avp.ASSIGNED_TUNNEL_ID]
        self._bury(now, acknowledge=True)

    def _discard(self, event: TunnelEvent, detail: Any, now: float) -> None:
        """End it without a word."""
        if self.host.half_open.get(self.id) is self:
            self.host.drop_half_open(self)
            return
        reason = _WITHOUT_STOPCCN[event]
        self._end(reason, ResultCode(0, 0, reason), now)
        self._bury(now, acknowledge=event is TunnelEvent.DRAINED)

    def _end(self, reason: str, code: ResultCode, now: float) -> None:
        """Nothing of it is left for its owner."""
        whereabouts.stop_dialing(self)
        lost = ResultCode(0, 0, reason)
        for call in list(self.calls.values()):
            call.handle(CallEvent.LOST, lost, now)
        host = self.host
        host.dirty[self] = None
        if host.tunnel_of.get((self.peer, self.peer_id)) is self:
            del host.tunnel_of[self.peer, self.peer_id]
        if host.latest_of.get((self.peer, self.host_name)) is self:
            del host.latest_of[self.peer, self.host_name]
        if self.told:
            self.told = False
            host.events.append(TunnelDown(self, reason, code.result, code.error))
        elif self.incoming and self.state is not TunnelState.IDLE:
            host.refused(self.peer, self.local, self.host_name, reason)

    def _bury(self, now: float, *, acknowledge: bool) -> None:
        """It is gone. If it ended in good order, what the peer repeats is acknowledged for a while (5.7, 5.8)."""
        host, channel = self.host, self.channel
        del host.tunnels[self.id]
        host.forget(self)
        if self.usage is not None:
            self.usage.remove_tunnel(self.peer[0])
        last = b""
        if acknowledge:
            state = channel.save()
            last = encode_control(channel.peer_tunnel_id, 0, state["ns"] + state["used"] & 0xFFFF, state["nr"])
            channel.flush(now)
            if channel.take_datagrams():
                host.datagrams.append(Datagram(last, self.peer, self.local, self))
        host.bury(self, last, now)

    # -- a peer that moves, and one that is not to be reached --------------------------------------------------------

    def move(self, peer: Peer, now: float) -> None:
        """The peer answers our SCCRQ from a port of its choice (8.1), or its SA leads elsewhere now: there it stays."""
        whereabouts.move(self, peer, now)
        self.host.dirty[self] = None
        if self.told:
            self.host.events.append(TunnelMoved(self))

    def suspend(self, now: float) -> None:
        """What is sent does not arrive: time stands still. If it was about to end it is over."""
        if self.state is TunnelState.STOPPING:
            self.handle(TunnelEvent.DEAD, None, now)
        elif self.suspended_at is None:
            self.suspended_at = now
            self.channel.suspend()
            self.host.dirty[self] = None

    def resume(self, now: float) -> None:
        """Time goes on: what would have been due meanwhile is due later by as much."""
        if self.suspended_at is None:
            return
        pause, self.suspended_at = now - self.suspended_at, None
        self.wake_at += pause
        for call in self.pending.values():
            call.due += pause
        self.channel.resume(now)
        self.host.dirty[self] = None
        self.host.touch(self)

    # -- time --------------------------------------------------------------------------------------------------------

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        if self.suspended_at is not None:
            return
        channel = self.channel
        channel.handle_timer(now)
        if channel.dead:
            self.handle(TunnelEvent.DEAD, None, now)
            return
        if channel.hello_due and self.established:
            channel.send(_HELLO, 0, now)
            self.host.dirty[self] = None
        if now >= self.wake_at:
            self.wake_at = NEVER
            if self.established:
                self.handle(TunnelEvent.CLOSE, _EMPTY, now)
            else:
                self.handle(TunnelEvent.TIMEOUT, _SLOW, now)
        while self.pending:
            call = next(iter(self.pending.values()))
            if call.due > now:
                break
            call.handle(CallEvent.TIMEOUT, _SLOW_CALL, now)

    # -- calls -------------------------------------------------------------------------------------------------------

    def free_call_id(self, now: float) -> int:
        """A session id for a new call; 0 if there is none."""
        calls, resting = self.calls, self.resting
        if resting is None:
            return self.host.entropy.free_id(calls.__contains__)
        resting.expire(now)
        return self.host.entropy.free_id(lambda number: number in calls or number in resting)

    def begin_call(self, call: Call, now: float) -> None:
        """A call is in set-up."""
        self.calls[call.id] = self.pending[call.id] = call
        call.due = now + self.profile.control.setup_timeout
        if self.established:
            self.wake_at = NEVER
        if call.placed:
            self.placing += 1
        elif self.usage is not None:
            self.usage.sessions += 1
        self.name_call(call)

    def name_call(self, call: Call) -> None:
        """The peer's id of a call is known."""
        if call.peer_id:
            self.peer_ids[call.peer_id] = call

    def call_is_up(self, call: Call) -> None:
        """A call is no longer in set-up."""
        if self.pending.pop(call.id, None) is not None and call.placed:
            self.placing -= 1

    def end_call(self, call: Call, now: float) -> None:
        """A call is no more: let its id rest, and if it was the last one wait for another."""
        self.call_is_up(call)
        del self.calls[call.id]
        if self.peer_ids.get(call.peer_id) is call:
            del self.peer_ids[call.peer_id]
        if not call.placed and self.usage is not None:
            self.usage.sessions -= 1
        if not self.established:
            return
        if self.resting is None:
            self.resting = Quarantine(_RESTING_S, _MOST_RESTING)
        self.resting.put(call.id, now)
        if not self.calls and (empty := self.profile.control.empty_timeout):
            self.wake_at = now + empty
            self.host.touch(self)

    # -- across a restart --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, Any] | None:
        """What is needed to go on; None: forget it."""
        if not self.established:
            return None
        return {
            "id": self.id,
            "peer_id": self.peer_id,
            "peer": saved_peer(self.peer),
            "local": saved_peer(self.local),
            "profile": self.profile.name,
            "lns": isinstance(self.profile, LnsSpec),
            "incoming": self.incoming,
            "host_name": self.host_name,
            "vendor": self.vendor,
            "framings": self.peer_framings,
            "bearers": self.peer_bearers,
            "channel": self.channel.save(),
            "suspended": self.suspended_at is not None,
            "note": self.note,
        }

    @classmethod
    def restore(cls, host: Host, profile: Profile, state: Mapping[str, Any], now: float) -> "Tunnel":
        """Go on where another process was; what it had sent last is sent again."""
        peer, (address, port, *_) = (restored_peer(state[end]) for end in ("peer", "local"))
        tunnel = cls(host, profile, peer, (address, port), now, incoming=bool(state["incoming"]))
        tunnel.id, tunnel.peer_id = int(state["id"]), int(state["peer_id"])
        tunnel.host_name, tunnel.vendor = str(state["host_name"]), str(state["vendor"])
        tunnel.peer_framings, tunnel.peer_bearers = state["framings"], state["bearers"]
        tunnel.note = [str(word) for word in state.get("note", ())]
        tunnel.secret = host.secret_of(profile, peer, tunnel.host_name)
        tunnel.state, tunnel.told = TunnelState.ESTABLISHED, True
        tunnel.open_channel(now)
        if state.get("suspended"):
            tunnel.suspend(now)
        tunnel.channel.restore(dict(state["channel"]), now)
        host.tunnels[tunnel.id] = tunnel
        if tunnel.incoming and isinstance(profile, LnsSpec):
            tunnel.usage = host.usage(profile)
            tunnel.usage.add_tunnel(peer[0])
        tunnel._note(now)
        host.touch(tunnel)
        return tunnel


_Do: TypeAlias = Callable[[Tunnel, TunnelEvent, Any, float], None]
_DO: dict[TunnelDo, _Do] = {
    TunnelDo.NOTHING: Tunnel._nothing,
    TunnelDo.REQUEST: Tunnel._request,
    TunnelDo.REPLY: Tunnel._reply,
    TunnelDo.REFUSE: Tunnel._refuse,
    TunnelDo.CONNECT: Tunnel._connect,
    TunnelDo.UP: Tunnel._up,
    TunnelDo.STOP: Tunnel._stop,
    TunnelDo.FAULT: Tunnel._fault,
    TunnelDo.DROP: Tunnel._drop,
    TunnelDo.DISCARD: Tunnel._discard,
    TunnelDo.PASS: Tunnel._pass,
}
_STEPS = tuple(
    tuple((_DO[step.do], step.next) for step in (TUNNEL[state][event] for event in TunnelEvent))
    for state in TunnelState
)
"""The table, by position: state, event."""
