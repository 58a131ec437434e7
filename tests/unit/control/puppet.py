"""A peer on strings: it says exactly what a test tells it to, and shows what the endpoint answers."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from kl2tp.control.call import Call
from kl2tp.control.endpoint import Endpoint, Event
from kl2tp.control.profiles import Peer, Profiles
from kl2tp.control.tunnel import Tunnel
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.wire.avp import Avp
from kl2tp.wire.l2tp import ControlHeader, decode_control, encode_control
from kl2tp.wire.messages import Message, MessageType, challenge_response, decode, encode, peek_type
from kl2tp.wire.values import ResultCode
from unit.control.world import octets

OURS: Peer = (bytes((192, 0, 2, 1)), 1701)
THEIRS: Peer = (bytes((203, 0, 113, 9)), 1701)
HELLO = {
    Avp.PROTOCOL_VERSION: 0x0100,
    Avp.HOST_NAME: "puppet",
    Avp.FRAMING_CAPABILITIES: 3,
}
CONNECTED = {Avp.TX_CONNECT_SPEED: 64000, Avp.FRAMING_TYPE: 1}
WISH = {
    Avp.MINIMUM_BPS: 0,
    Avp.MAXIMUM_BPS: 64000,
    Avp.BEARER_TYPE: 1,
    Avp.FRAMING_TYPE: 1,
    Avp.CALLED_NUMBER: "555",
}


def endpoint(*profiles: LnsSpec, secret: bytes | None = None, name: str = "kl2tp") -> Endpoint:
    """An endpoint for peers of these profiles; without any for everybody."""
    return Endpoint(Profiles(profiles or (LnsSpec("all"),)), octets(7), lambda *args: secret, host_name=name)


class Puppet:
    """One tunnel's other end, with numbers of its own and no will."""

    def __init__(self, subject: Endpoint, *, place: Peer = THEIRS, tunnel_id: int = 77, secret: bytes = b"") -> None:
        self.subject = subject
        self.place = place
        self.id = tunnel_id
        self.secret = secret
        self.peer_id = 0
        self.ns = 0
        self.nr = 0
        self.now = 100.0
        self.answers: list[tuple[ControlHeader, Message | None]] = []
        """What was sent to it, apart from repetitions; None: a ZLB."""
        self.packets: list[bytes] = []
        self.events: list[Event] = []

    # -- speaking ----------------------------------------------------------------------------------------------------

    def say(
        self, kind: MessageType, avps: Mapping[Avp, Any] | None = None, session_id: int = 0, **options: Any
    ) -> None:
        """Send a message in its turn."""
        self.say_raw(encode(kind, avps or {}, **options), session_id)

    def say_raw(self, payload: bytes, session_id: int = 0) -> None:
        """Send whatever AVPs."""
        self.packet(encode_control(self.peer_id, session_id, self.ns, self.nr, payload))
        self.ns = self.ns + 1 & 0xFFFF

    def packet(self, data: bytes, place: Peer | None = None) -> None:
        """Send whatever octets, from wherever."""
        self.subject.receive(data, place or self.place, OURS, self.now)
        self.listen()

    def listen(self) -> None:
        """Hear what the endpoint has to say; what must be acknowledged is, if something is sent."""
        self.events += self.subject.take_events()
        for datagram in self.subject.take_datagrams():
            assert datagram.local == OURS
            self.packets.append(datagram.data)
            header, payload = decode_control(datagram.data)
            if header.tunnel_id not in (0, self.id):
                continue  # for another puppet of this place
            if payload and header.ns == self.nr:
                self.nr = self.nr + 1 & 0xFFFF
                self.answers.append((header, decode(payload, self.secret or None)))
            elif not payload:
                self.answers.append((header, None))

    def acknowledge(self) -> None:
        """Send a ZLB."""
        self.packet(encode_control(self.peer_id, 0, self.ns, self.nr))

    def wait(self, seconds: float) -> None:
        """Let time pass, without a word."""
        until = self.now + seconds
        while (deadline := self.subject.deadline) is not None and deadline <= until:
            self.now = max(self.now, deadline)
            self.subject.handle_timer(self.now)
            self.listen()
        self.now = until

    def do(self, act: Callable[[float], Any]) -> Any:
        """Have the endpoint's owner do something."""
        result = act(self.now)
        self.listen()
        return result

    # -- hearing -----------------------------------------------------------------------------------------------------

    def hear(self, kind: MessageType, session_id: int | None = None) -> dict[Avp, Any]:
        """The next message, which is of this kind."""
        while self.answers:
            header, message = self.answers.pop(0)
            if message is None:
                continue
            assert message.type is kind
            assert header.tunnel_id == self.id
            assert session_id is None or header.session_id == session_id
            return message.avps
        raise AssertionError(f"no {kind.name} came")

    def hear_end(self, result: int, error: int = 0) -> dict[Avp, Any]:
        """A StopCCN with these codes."""
        avps = self.hear(MessageType.STOPCCN)
        code: ResultCode = avps[Avp.RESULT_CODE]
        assert (code.result, code.error) == (result, error)
        return avps

    def hear_cdn(self, result: int, error: int = 0, session_id: int | None = None) -> dict[Avp, Any]:
        """A CDN with these codes."""
        avps = self.hear(MessageType.CDN, session_id)
        code: ResultCode = avps[Avp.RESULT_CODE]
        assert (code.result, code.error) == (result, error)
        return avps

    def silence(self) -> None:
        """Nothing more but acknowledgements was said."""
        assert [message for _, message in self.answers if message is not None] == []
        self.answers.clear()

    def took(self, kind: type[Event]) -> list[Any]:
        """The events of a kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def tunnel(self) -> Tunnel:
        """As the endpoint has it."""
        return self.subject.tunnels[self.peer_id]

    # -- whole conversations -----------------------------------------------------------------------------------------

    def ask(self, more: Mapping[Avp, Any] | None = None, **options: Any) -> None:
        """Send an SCCRQ."""
        self.say(MessageType.SCCRQ, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: self.id, **(more or {})}, **options)

    def open(self, more: Mapping[Avp, Any] | None = None, **options: Any) -> dict[Avp, Any]:
        """Be the LAC of an established tunnel; what the SCCRP said."""
        self.ask(more, **options)
        avps = self.hear(MessageType.SCCRP)
        self.peer_id = avps[Avp.ASSIGNED_TUNNEL_ID]
        answer = {}
        if Avp.CHALLENGE in avps:
            answer[Avp.CHALLENGE_RESPONSE] = challenge_response(MessageType.SCCCN, self.secret, avps[Avp.CHALLENGE])
        self.say(MessageType.SCCCN, answer)
        assert self.tunnel.established
        self.silence()
        return avps

    def called(self, spec: LacSpec | None = None) -> tuple[Tunnel, dict[Avp, Any]]:
        """Have the endpoint open a tunnel; what its SCCRQ said."""
        spec = spec or LacSpec("lac", (self.place,))
        tunnel: Tunnel = self.do(lambda now: self.subject.connect(spec, self.place, OURS, now))
        header, message = self.answers.pop(0)
        assert message is not None
        assert (header.tunnel_id, header.session_id, message.type) == (0, 0, MessageType.SCCRQ)
        self.peer_id = tunnel.id
        return tunnel, message.avps

    def accept(self, more: Mapping[Avp, Any] | None = None, spec: LacSpec | None = None, **options: Any) -> Tunnel:
        """Be the LNS of a tunnel that the endpoint opened."""
        tunnel, avps = self.called(spec)
        answer = {**HELLO, Avp.ASSIGNED_TUNNEL_ID: self.id, **(more or {})}
        if Avp.CHALLENGE in avps:
            response = challenge_response(MessageType.SCCRP, self.secret, avps[Avp.CHALLENGE])
            answer[Avp.CHALLENGE_RESPONSE] = response
        self.say(MessageType.SCCRP, answer, **options)
        self.hear(MessageType.SCCCN)
        assert tunnel.established
        return tunnel

    def call(self, session_id: int = 5, more: Mapping[Avp, Any] | None = None) -> Call:
        """As LAC, have an established call."""
        self.say(MessageType.ICRQ, {Avp.ASSIGNED_SESSION_ID: session_id, Avp.CALL_SERIAL_NUMBER: 1})
        theirs = self.hear(MessageType.ICRP, session_id)[Avp.ASSIGNED_SESSION_ID]
        self.say(MessageType.ICCN, {**CONNECTED, **(more or {})}, theirs)
        call = self.tunnel.calls[theirs]
        assert call.established
        self.silence()
        return call


def kinds(packets: Collection[bytes]) -> list[int]:
    """The message types in packets; 0: a ZLB."""
    return [peek_type(decode_control(data)[1]) for data in packets]
