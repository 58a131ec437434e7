"""A flood of SCCRQs from invented addresses: bounded memory, little time, and who is genuine gets through."""

import itertools
import tracemalloc
from collections.abc import Iterator

from kl2tp.control.endpoint import Endpoint, TunnelUp
from kl2tp.control.flood import Flood
from kl2tp.control.profiles import Peer
from kl2tp.model.calls import ControlSpec, LimitsSpec, LnsSpec
from kl2tp.wire.avp import Avp
from kl2tp.wire.l2tp import decode_control, encode_control
from kl2tp.wire.messages import MessageType, encode, peek_type
from unit.control.puppet import HELLO, OURS, Puppet, endpoint

LIMIT = 200
PROFILE = LnsSpec("all", limits=LimitsSpec(half_open=LIMIT), control=ControlSpec(empty_timeout=0.0))


_sources = itertools.count(0x20000000)


def _requests(count: int) -> Iterator[tuple[bytes, Peer]]:
    """SCCRQs of peers that are not there, each from another address."""
    payload = encode(MessageType.SCCRQ, {**HELLO, Avp.ASSIGNED_TUNNEL_ID: 1})
    data = encode_control(0, 0, 0, 0, payload)
    for number in itertools.islice(_sources, count):
        yield data, (number.to_bytes(4, "big"), 1701)


class Client:
    """Somebody genuine, a tenth of a second away, with the RFC's timers."""

    def __init__(self, subject: Endpoint, number: int, now: float) -> None:
        self.puppet = Puppet(subject, place=(bytes((172, 16, 0, number)), 1701), tunnel_id=number + 1)
        self.next_try, self.pause = now, 1.0
        self.answered = False

    def turn(self, now: float) -> None:
        """Ask, or ask again."""
        puppet = self.puppet
        puppet.now = now
        if now < self.next_try or puppet.took(TunnelUp):
            return
        if puppet.peer_id:
            puppet.ns = 1
            puppet.say(MessageType.SCCCN)
        else:
            puppet.ns = 0
            puppet.ask()
        self.next_try, self.pause = now + self.pause, self.pause * 2
        if not puppet.peer_id and any(message is not None for _, message in puppet.answers):
            puppet.peer_id = puppet.hear(MessageType.SCCRP)[Avp.ASSIGNED_TUNNEL_ID]
            self.next_try, self.pause = now + 0.1, 1.0


def _flood(subject: Endpoint, count: int, clients: list[Client], now: float, gap_s: float = 0.0001) -> float:
    """Requests from nowhere, and whoever is genuine in between."""
    for number, (data, peer) in enumerate(_requests(count)):
        now += gap_s
        subject.receive(data, peer, OURS, now)
        if number % 50 == 0:
            subject.take_events()
            subject.take_datagrams()
            subject.handle_timer(now)
            for client in clients:
                client.turn(now)
    return now


def test_a_hundred_thousand_requests_from_nowhere() -> None:
    subject = endpoint(PROFILE)
    live = [Puppet(subject, place=(bytes((10, 0, 0, number)), 1701)) for number in range(20)]
    for puppet in live:
        puppet.open()
        puppet.call()
    clients = [Client(subject, number, 101.0 + number / 10) for number in range(20)]
    now = _flood(subject, 5_000, [], 100.0)
    tracemalloc.start()
    now = _flood(subject, 5_000, [], now)
    before, _ = tracemalloc.get_traced_memory()
    now = _flood(subject, 5_000, [], now)
    after, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - before < 100_000
    assert after - before < 20_000
    now = _flood(subject, 85_000, clients, now)
    assert subject.half_open <= LIMIT
    assert all(client.puppet.took(TunnelUp) for client in clients)
    for puppet in live:
        puppet.now = now
        assert puppet.tunnel.established
        assert len(puppet.tunnel.calls) == 1
        puppet.call(6)
    # Some of them came again, word for word, as if somebody genuine had sent them: of these only so many count.
    assert subject.delayed > 94_000
    assert subject.counters.requests < 6_000


def test_peers_that_are_sent_an_sccrp_and_vanish_make_room_for_others() -> None:
    subject = endpoint(PROFILE)
    for data, peer in _requests(LIMIT):
        subject.receive(data, peer, OURS, 100.0)
    puppet = Puppet(subject)
    puppet.now = 110.0
    puppet.open()
    assert subject.half_open == LIMIT - 1
    assert subject.counters.evicted == 1
    assert subject.delayed == 0


def test_a_flood_sends_nobody_more_than_he_has_sent() -> None:
    subject = endpoint(PROFILE)
    sent: dict[Peer, int] = {}
    received: dict[Peer, int] = {}
    for data, peer in _requests(3_000):
        subject.receive(data, peer, OURS, 100.0)
        received[peer] = received.get(peer, 0) + 1
    while (deadline := subject.deadline) is not None:
        subject.handle_timer(deadline)
        for datagram in subject.take_datagrams():
            sent[datagram.peer] = sent.get(datagram.peer, 0) + 1
            assert peek_type(decode_control(datagram.data)[1]) == MessageType.SCCRP
    assert sent
    assert all(count <= received[peer] for peer, count in sent.items())
    assert subject.half_open == 0


def test_all_is_as_before_when_the_flood_is_over() -> None:
    subject = endpoint(PROFILE)
    now = _flood(subject, 2_000, [], 100.0)
    early = Puppet(subject, tunnel_id=1)
    early.now = now
    early.ask()
    early.silence()
    late = Puppet(subject, tunnel_id=2)
    late.now = now + 60.0
    late.wait(0.0)
    late.open()
    assert subject._host.flood._slots is None


def test_a_request_has_to_come_again_after_a_while() -> None:
    flood, peer = Flood(), (b"\1\2\3\4", 1701)
    assert flood.lets_pass(b"a", peer, 0.0)
    flood.evicted(10.0, 0.0)
    assert not flood.lasts
    flood.evicted(1.0, 0.0)
    assert flood.lasts
    for moment, passes in ((1.0, False), (1.2, False), (2.0, True), (4.0, True), (25.0, False)):
        assert flood.lets_pass(b"a", peer, moment) is passes
    assert not flood.lets_pass(b"b", peer, 25.0)
    assert not flood.lets_pass(b"a", (b"\1\2\3\4", 1702), 26.0)
    assert flood.lets_pass(b"a", peer, 26.0)
    assert flood.delayed == 5


def test_those_who_repeat_themselves_get_so_many_answers_per_second_and_no_more() -> None:
    flood = Flood()
    flood.evicted(1.0, 0.0)
    peers = [(number.to_bytes(4, "big"), 1701) for number in range(20_000)]
    for peer in peers:
        flood.lets_pass(b"a", peer, 0.0)
    passed = sum(flood.lets_pass(b"a", peer, 1.0 + number / len(peers)) for number, peer in enumerate(peers))
    assert 3_000 < passed < 4_100
