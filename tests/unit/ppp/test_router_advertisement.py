"""When router advertisements are sent, RFC 4861 6.2."""

import random
from itertools import pairwise

import pytest

from kl2tp.ppp.router_advertisement import INTERVAL, Advertiser
from kl2tp.wire.icmpv6 import ALL_NODES, UNSPECIFIED

HOST = bytes.fromhex("fe8000000000000000000000000000b2")
RS = bytes.fromhex("8500000000000000")


def advertiser(seed: int = 1) -> Advertiser:
    return Advertiser(b"advertisement", random.Random(seed).randbytes)


def passing(machine: Advertiser, seconds: float, now: float = 0.0) -> list[tuple[float, bytes]]:
    """Times and destinations of what is sent."""
    sent = [(now, destination) for _, destination in machine.take_messages()]
    end = now + seconds
    while machine.deadline is not None and machine.deadline <= end:
        at = machine.deadline
        machine.handle_timer(at)
        assert machine.deadline > at
        sent += [(at, destination) for _, destination in machine.take_messages()]
    return sent


@pytest.mark.parametrize("seed", range(10))
def test_three_come_soon_then_one_rarely(seed: int) -> None:
    machine = advertiser(seed)
    machine.start(0.0)
    times = [at for at, destination in passing(machine, 5000) if destination == ALL_NODES]
    assert times[:3] == [0.0, 16.0, 32.0]
    gaps = [later - earlier for earlier, later in pairwise(times[2:])]
    assert len(gaps) >= 8
    assert all(INTERVAL / 3 <= gap <= INTERVAL for gap in gaps)
    assert len(set(gaps)) == len(gaps), "routers that began together part"


def test_a_question_is_answered_soon_and_to_who_asked() -> None:
    machine = advertiser()
    machine.start(0.0, initial=False)
    assert machine.take_messages() == ()
    machine.receive(RS, HOST, 50.0)
    ((at, destination),) = passing(machine, 10, 50.0)
    assert 50.0 <= at <= 50.5
    assert destination == HOST


def test_many_questions_get_one_answer() -> None:
    machine = advertiser()
    machine.start(0.0, initial=False)
    for _ in range(50):
        machine.receive(RS, HOST, 50.0)
    assert len(passing(machine, 10, 50.0)) == 1


def test_a_question_from_nowhere_is_answered_to_all_but_not_too_often() -> None:
    machine = advertiser()
    machine.start(0.0)
    machine.take_messages()
    machine.receive(RS, UNSPECIFIED, 1.0)
    assert passing(machine, 10, 1.0) == [(3.0, ALL_NODES)]


def test_what_is_no_question_is_dropped() -> None:
    machine = advertiser()
    machine.start(0.0, initial=False)
    machine.receive(b"\x87" + RS[1:], HOST, 50.0)
    assert passing(machine, 10, 50.0) == []


def test_news_are_told_at_once_and_no_news_not() -> None:
    machine = advertiser()
    machine.start(0.0)
    passing(machine, 100)
    machine.change(b"advertisement", 100.0)
    assert machine.take_messages() == ()
    machine.change(b"other", 100.0)
    assert machine.take_messages() == [(b"other", ALL_NODES)]
    assert len(passing(machine, 40, 100.0)) == 2


def test_a_call_that_comes_too_early_does_nothing() -> None:
    machine = advertiser()
    machine.start(0.0)
    machine.take_messages()
    machine.handle_timer(10.0)
    assert machine.take_messages() == ()


def test_a_link_that_is_gone_is_told_nothing() -> None:
    machine = advertiser()
    machine.receive(RS, HOST, 0.0)
    assert machine.deadline is None
    machine.start(0.0)
    machine.take_messages()
    machine.receive(RS, HOST, 0.0)
    machine.stop()
    machine.receive(RS, HOST, 0.0)
    machine.handle_timer(10000.0)
    assert machine.deadline is None
    assert machine.take_messages() == ()
