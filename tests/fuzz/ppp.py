"""PPP under fuzzing: packets, options, solicitations, saved states, and links that get any frames at any time."""

import contextlib
import json
import random
from collections.abc import Callable, Iterator

from kl2tp.model.calls import AUTH_METHODS, CHAP, MSCHAPV2, PAP
from kl2tp.model.objects import Secret
from kl2tp.ppp.events import AuthNeeded, Down, NetworkPhase
from kl2tp.ppp.ipcp import Ipv4Settings
from kl2tp.ppp.ipv6cp import Ipv6Settings
from kl2tp.ppp.lcp import LinkSettings
from kl2tp.ppp.link import Link
from kl2tp.ppp.router_advertisement import Advertiser
from kl2tp.wire import icmpv6, ppp
from kl2tp.wire.errors import ProtocolError

HERE, THERE, HOST = b"\x0a\0\0\1", b"\x0a\x09\0\5", b"\xfe\x80" + bytes(13) + b"\1"
PROTOCOLS = (*ppp.Protocol, 0x1234)
WAYS = ((), (PAP,), (CHAP,), (MSCHAPV2, CHAP, PAP), AUTH_METHODS)
LONGEST_HELD = 2048


def _packet(data: bytes) -> None:
    """What is read is written as it was, but for the padding."""
    with contextlib.suppress(ProtocolError):
        code, identifier, rest = ppp.decode_packet(data)
        assert data.startswith(ppp.encode_packet(0, code, identifier, rest)[2:])


def _options(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        options = ppp.decode_options(data)
        assert b"".join(ppp.encode_option(*option) for option in options) == data
        assert ppp.is_part(options[1:], data)


def _solicitation(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        icmpv6.decode_solicitation(data, HOST)
    icmpv6.checksum(data, HOST, HOST)
    advertiser = Advertiser(b"advertisement", random.Random(1).randbytes)
    advertiser.start(0.0)
    advertiser.receive(data, HOST if data[-1:] > b"\x7f" else icmpv6.UNSPECIFIED, 1.0)
    advertiser.handle_timer(advertiser.deadline or 0.0)
    assert len(advertiser.take_messages()) <= 2


class _Fuzzed:
    """A link whose peer says anything. Each step is a protocol, a delay, a length, and as many octets."""

    def __init__(self, way: int) -> None:
        demand = WAYS[way % len(WAYS)]
        secret = Secret(b"hush") if way & 16 else None
        self.settings = LinkSettings("lns", secret, demand, mru=1400)
        self.random = random.Random(way).randbytes
        self.link = Link(self.settings, self.random)
        self.now = 0.0
        self.over = False

    def run(self, data: bytes) -> None:
        self.link.open(self.now)
        self.look()
        while len(data) >= 3:
            protocol, delay, length = data[:3]
            frame, data = data[3 : 3 + length], data[3 + length :]
            self.now += delay / 16
            self.time()
            known = PROTOCOLS[protocol % len(PROTOCOLS)].to_bytes(2, "big")
            self.link.receive(frame if protocol > 0xF0 else known + frame, self.now)
            self.look()
            if protocol == 0xEE and not self.over:
                self.link = Link.restore(self.settings, self.random, json.loads(json.dumps(self.link.save())), self.now)
        self.link.lower_down(self.now)
        self.look()
        assert self.over or self.link.deadline is None

    def time(self) -> None:
        for _ in range(4):
            deadline = self.link.deadline
            if deadline is None or deadline > self.now:
                return
            self.link.handle_timer(self.now)
            self.look()
            later = self.link.deadline
            assert later is None or later > self.now, "a timer that does not go off"

    def look(self) -> None:
        for event in self.link.take_events():
            assert not self.over
            if isinstance(event, AuthNeeded):
                (self.link.grant if event.attempt.verify(b"hush") else self.link.refuse)(event.attempt, self.now)
            elif isinstance(event, NetworkPhase):
                self.link.start_network(Ipv4Settings(HERE, THERE, (HERE,)), Ipv6Settings(), self.now)
            elif isinstance(event, Down):
                self.over = True
        for frame in self.link.take_frames():
            assert len(frame) <= 2 + max(self.link.peer_mru, 1500)
            ppp.decode_packet(frame[2:])
        assert sum(map(len, self.link._held)) <= LONGEST_HELD


def _link(data: bytes) -> None:
    if data:
        _Fuzzed(data[0]).run(data[1:])


def _state(data: bytes) -> None:
    """A state that was damaged on the disk."""
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(state, dict):
        return
    with contextlib.suppress(ValueError, TypeError, KeyError):
        link = Link.restore(LinkSettings(), random.Random(1).randbytes, state, 0.0)
        link.handle_timer(1000.0)
        link.receive(bytes.fromhex("c0210901000811223344"), 1000.0)
        json.dumps(link.save())


TARGETS: dict[str, Callable[[bytes], None]] = {
    "ppp.packet": _packet,
    "ppp.options": _options,
    "ppp.link": _link,
    "ppp.state": _state,
    "icmpv6.solicitation": _solicitation,
}


def _step(protocol: int, information: bytes, delay: int = 0) -> bytes:
    number = next(i for i, known in enumerate(PROTOCOLS) if known == protocol)
    return bytes((number, delay, len(information))) + information


def seeds() -> Iterator[bytes]:
    """A peer that comes up, and a saved state."""
    lcp, ipcp = ppp.Protocol.LCP, ppp.Protocol.IPCP
    ours = Link(LinkSettings("lns", None, (), mru=1400), random.Random(0).randbytes)
    ours.open(0.0)
    request = ours.take_frames()[0][2:]
    come_up = _step(lcp, b"\2" + request[1:]) + _step(lcp, bytes.fromhex("0101000a050611223344"))
    yield b"\0" + come_up + _step(ipcp, bytes.fromhex("0101000a030600000000")) + _step(lcp, bytes.fromhex("05020004"))
    yield b"\1" + come_up + _step(ppp.Protocol.PAP, b"\1\1\0\x0d\3bob\4hush")
    yield b"\2" + come_up + _step(ppp.Protocol.CHAP, bytes.fromhex("02070018 10") + bytes(16) + b"bob")
    ours.receive(b"\xc0\x21\2" + request[1:], 0.0)
    ours.receive(bytes.fromhex("c0210101000a050611223344"), 0.0)
    ours.start_network(Ipv4Settings(HERE, THERE, (HERE,)), Ipv6Settings(), 0.0)
    yield json.dumps(ours.save()).encode()
    yield bytes.fromhex("8500000000000000" "0101112233445566")
