"""A whole endpoint under fuzzing: any packets from any peers, whatever its owner does, time and restarts in between.

Nothing may be raised, what is kept must stay within its bounds and agree with itself, and in the end all must be gone.
"""

import json
import random
from collections.abc import Callable, Iterator
from typing import Any

from kl2tp.control.endpoint import Endpoint, Tunnel
from kl2tp.control.host import NEVER
from kl2tp.control.profiles import Peer, Profiles
from kl2tp.control.tables import CallState
from kl2tp.model.calls import ControlSpec, LacSpec, LimitsSpec, LnsSpec
from kl2tp.wire.avp import MANDATORY, Avp, join
from kl2tp.wire.l2tp import decode_control, encode_control
from kl2tp.wire.messages import LAYOUTS, MessageType, challenge_response, decode, encode

SECRET = b"secret"
_LOCAL: Peer = (bytes((192, 0, 2, 1)), 1701)
_PEERS: tuple[Peer, ...] = (
    *((bytes((10, 0, 0, number)), 1701 + number // 3) for number in range(6)),
    *((bytes((10, 0, 0, 2)), 1701, client) for client in (1, 2)),
)
_LIMITS = LimitsSpec(tunnels=5, tunnels_per_peer=3, sessions=8, sessions_per_tunnel=5, half_open=4)
_LNS = (
    LnsSpec("open", peers=((_PEERS[0][0], 31),), limits=_LIMITS, control=ControlSpec(hello_interval=9.0)),
    LnsSpec("secret", limits=_LIMITS, control=ControlSpec(hide_avps=True)),
)
_LAC = LacSpec("lac", _PEERS[:1])
_QUIET_S = 200.0


def _secret(profile: Any, peer: Peer, name: str) -> bytes | None:
    return SECRET if profile.name == "secret" or peer is _PEERS[5] else None


class _Subject:
    """An endpoint, and how it is poked."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 10.0
        self.store: dict[str, str] = {}
        self.welcomes: list[tuple[Peer, int, bytes]] = []
        """Half-open tunnels: peer, our id, the challenge."""
        self.endpoint = self._new()

    def _new(self) -> Endpoint:
        endpoint = Endpoint(Profiles(_LNS), self.random.randbytes, _secret)
        endpoint.accept_outgoing(lambda call: True)
        return endpoint

    def turn(self) -> None:
        """What an owner does at the end of each turn."""
        endpoint = self.endpoint
        endpoint.take_events()
        endpoint.take_refusals()
        for item in endpoint.take_dirty():
            key = str(item.id) if isinstance(item, Tunnel) else f"{item.tunnel.id}.{item.id}"
            state = item.save()
            self.store[key] = json.dumps(state)
            if state is None:
                del self.store[key]
        for datagram in endpoint.take_datagrams():
            if payload := decode_control(datagram.data)[1]:
                message = decode(payload, SECRET)
                if message.type is MessageType.SCCRP:
                    found = datagram.peer, message.avps[Avp.ASSIGNED_TUNNEL_ID], message.avps.get(Avp.CHALLENGE, b"")
                    self.welcomes = [*self.welcomes[-3:], found]
        self.check()

    def check(self) -> None:
        """What is kept agrees with itself."""
        host = self.endpoint._host
        assert not host.touched
        assert len(host.half_open) <= len(_LNS) * _LIMITS.half_open
        assert host.half_open.keys().isdisjoint(host.tunnels)
        assert set(host.half_open_of.values()) == set(host.half_open.values())
        assert {t for t in host.tunnels.values() if t.established} == set(host.tunnel_of.values())
        for profile in _LNS:
            usage = host.usage(profile)
            tunnels = [t for t in host.tunnels.values() if t.usage is usage]
            assert usage.tunnels == len(tunnels) == sum(usage.tunnels_of.values())
            assert usage.tunnels <= _LIMITS.tunnels + _LIMITS.half_open
            assert usage.sessions == sum(not c.placed for t in tunnels for c in t.calls.values()) <= _LIMITS.sessions
        for number, tunnel in host.tunnels.items():
            assert tunnel.id == number
            calls = tunnel.calls
            assert {c.peer_id: c for c in calls.values() if c.peer_id} == tunnel.peer_ids
            assert set(tunnel.pending) == {c.id for c in calls.values() if c.state is not CallState.ESTABLISHED}
            assert tunnel.placing == sum(c.placed for c in tunnel.pending.values())
            assert all(c.state is not CallState.IDLE for c in calls.values())
            assert tunnel.deadline == NEVER or tunnel.alarm is not None

    def restart(self) -> None:
        """A new process goes on where this one was."""
        states = [json.loads(text) for text in self.store.values()]
        self.endpoint = self._new()
        profiles: dict[str, Any] = {profile.name: profile for profile in (*_LNS, _LAC)}
        self.endpoint.restore(
            {
                "tunnels": [state for state in states if "tunnel" not in state],
                "calls": [state for state in states if "tunnel" in state],
            },
            lambda state: profiles[state["profile"]],
            self.now,
        )

    def pass_time(self, seconds: float) -> None:
        """Up to a moment, timer by timer."""
        until = self.now + seconds
        turns = 0
        while (deadline := self.endpoint.deadline) is not None and deadline <= until:
            turns = turns + 1 if deadline <= self.now else 0
            assert turns < 5, "it asks for its timer again and again, and does nothing"
            self.now = max(self.now, deadline)
            self.endpoint.handle_timer(self.now)
            self.turn()
        self.now = until

    def message(self, tunnel: Tunnel | None, peer: Peer, session_id: int, payload: bytes) -> None:
        """A packet with the numbers that are due."""
        numbers = (0, 0)
        if tunnel is not None:
            state = tunnel.channel.save()
            numbers = state["nr"], state["ns"] + state["used"] & 0xFFFF
        data = encode_control(tunnel.id if tunnel is not None else 0, session_id, *numbers, payload)
        self.endpoint.receive(data, peer, _LOCAL, self.now)


def _pick(items: list[Any], number: int) -> Any:
    return items[number % len(items)] if items else None


def _avps(kind: MessageType, number: int, more: bytes) -> bytes:
    """A message with all that it must say, small numbers in it, and any octets behind."""
    layout = LAYOUTS[kind]
    avps: dict[Avp, Any] = {}
    for avp in layout.rules.values():
        if avp.avp in layout.required or number & 8:
            size = max(avp.shortest, min(avp.longest, 2))
            avps[avp.avp] = avp.read(bytes((*bytes(size), 1 + number % 3))[-size:] if size else b"")
    if Avp.PROTOCOL_VERSION in avps:
        avps[Avp.PROTOCOL_VERSION] = 0x0100
    avps.pop(Avp.CHALLENGE_RESPONSE, None)
    return encode(kind, avps) + more


def _poke(subject: _Subject, what: int, number: int, octets: bytes) -> None:
    """One event."""
    endpoint, now = subject.endpoint, subject.now
    tunnels = list(endpoint.tunnels.values())
    tunnel: Tunnel | None = _pick(tunnels, number)
    call = _pick([call for t in tunnels for call in t.calls.values()], number)
    peer = tunnel.peer if tunnel is not None else _pick(list(_PEERS), number)
    if what < 20:
        endpoint.receive(octets, _pick(list(_PEERS), number), _LOCAL, now)
    elif what < 40:
        subject.message(tunnel, peer, call.id if call is not None and number & 4 else 0, octets)
    elif what < 80:
        subject.message(None, _pick(list(_PEERS), number), 0, _avps(MessageType.SCCRQ, number, octets))
    elif what < 110 and subject.welcomes:
        peer, tunnel_id, challenge = _pick(subject.welcomes, number)
        response = challenge_response(MessageType.SCCCN, SECRET if number % 7 else b"wrong", challenge)
        payload = encode(MessageType.SCCCN, {Avp.CHALLENGE_RESPONSE: response} if challenge else {})
        endpoint.receive(encode_control(tunnel_id, 0, 1, 1, payload), peer, _LOCAL, now)
    elif what < 190 and tunnel is not None:
        kind = _pick(list(MessageType), what)
        session_id = call.id if call is not None and kind not in (MessageType.ICRQ, MessageType.OCRQ) else 0
        owner = call.tunnel if session_id else tunnel
        subject.message(owner, owner.peer, session_id, _avps(kind, number, octets))
    elif what < 200:
        endpoint.connect(_LAC, _pick(list(_PEERS), number), _LOCAL, now)
    elif what < 215 and tunnel is not None:
        endpoint.place_call(tunnel, now, outgoing=bool(number & 1))
    elif what < 225 and call is not None:
        endpoint.hang_up(call, now)
    elif what < 230 and tunnel is not None:
        endpoint.close(tunnel, now)
    elif what < 250:
        subject.turn()
        subject.pass_time(number / 8)
    elif what < 252:
        subject.turn()
        subject.restart()
    elif what < 254 and tunnel is not None:
        endpoint.suspend(tunnel, now)
    elif tunnel is not None:
        endpoint.resume(tunnel, now)
        endpoint.move(tunnel, _pick(list(_PEERS), number), now)


def endpoint(data: bytes) -> None:
    """Events of two octets each, and of a third that says how many octets belong to it."""
    subject = _Subject(data[0] if data else 0)
    position = 1
    while position + 3 <= len(data):
        what, number, size = data[position : position + 3]
        position += 3
        octets = b""
        if size & 1:
            octets = data[position : position + size // 2]
            position += len(octets)
        _poke(subject, what, number, octets)
        subject.turn()
    _end(subject)


def _end(subject: _Subject) -> None:
    """Everything ends, and nothing is left of it."""
    for tunnel in list(subject.endpoint.tunnels.values()):
        subject.endpoint.resume(tunnel, subject.now)
    subject.endpoint.shutdown(subject.now)
    subject.turn()
    subject.pass_time(_QUIET_S)
    host = subject.endpoint._host
    assert subject.endpoint.deadline is None
    assert not host.tunnels
    assert not host.half_open
    assert not host.latest_of
    assert not host.dialing
    assert not host._past
    assert not subject.store


TARGETS: dict[str, Callable[[bytes], None]] = {"control.endpoint": endpoint}


def seeds() -> Iterator[bytes]:
    """A tunnel is opened and a call placed in it, by either side; each message once."""
    opening = bytes((50, 3, 0, 90, 0, 0))
    for kind in range(len(MessageType)):
        yield b"\0" + opening + bytes((154 + kind, 0, 0)) * 2 + bytes((154 + kind, 9, 0))
    yield b"\0" + opening + bytes((163, 0, 0, 166, 1, 0, 250, 0, 0, 240, 255, 0, 220, 0, 0))
    yield b"\0" + bytes((195, 0, 0, 205, 0, 0, 205, 1, 0)) + opening
    avp = join(MANDATORY, 99, b"")
    yield b"\0" + opening + bytes((163, 0, 2 * len(avp) + 1)) + avp + bytes((30, 4, 5)) + b"\0\0"
