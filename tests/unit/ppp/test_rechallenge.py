"""A peer that is in proves again, and again, who it is: by CHAP and by EAP, and after a restart too."""

import pytest

from kl2tp.model.calls import CHAP, EAP_MD5, EAP_MSCHAPV2, MSCHAPV2, PAP
from kl2tp.ppp.events import AuthNeeded
from unit.ppp.pair import Pair, settings

AGAIN_S = 100.0
ASKING = (CHAP, MSCHAPV2, EAP_MD5, EAP_MSCHAPV2)


def _attempts(pair: Pair) -> int:
    return sum(isinstance(event, AuthNeeded) for event in pair.server.events)


def _up(method: str, **more: object) -> Pair:
    pair = Pair(*settings(method, **more)).open()
    pair.run(30.0, until=lambda: pair.is_up)
    pair.run(5.0)
    assert pair.is_up
    return pair


@pytest.mark.parametrize("method", ASKING)
def test_it_is_asked_again_and_again_and_nothing_else_happens(method: str) -> None:
    pair = _up(method, rechallenge=AGAIN_S)
    before = (pair.server.four, pair.client.four)
    pair.run(10.5 * AGAIN_S)
    assert 9 <= _attempts(pair) - 1 <= 11
    assert pair.is_up
    assert (pair.server.four, pair.client.four) == before


@pytest.mark.parametrize("method", ASKING)
def test_without_an_interval_once_is_enough(method: str) -> None:
    pair = _up(method)
    pair.run(20 * AGAIN_S)
    assert _attempts(pair) == 1


def test_pap_has_no_way_to_ask() -> None:
    pair = _up(PAP, rechallenge=AGAIN_S)
    pair.run(20 * AGAIN_S)
    assert _attempts(pair) == 1
    assert pair.is_up


@pytest.mark.parametrize("method", ASKING)
def test_who_can_no_longer_prove_it_is_sent_away(method: str) -> None:
    pair = _up(method, rechallenge=AGAIN_S)
    pair.server.password = b"another"
    pair.run(3 * AGAIN_S)
    assert pair.is_down


@pytest.mark.parametrize("method", ASKING)
def test_a_verdict_may_take_its_time(method: str) -> None:
    pair = _up(method, rechallenge=AGAIN_S)
    heard = pair.server._heard
    pair.server._heard = lambda event, now: (  # type: ignore[method-assign]
        pair.server.events.append(event) if isinstance(event, AuthNeeded) else heard(event, now)
    )
    pair.run(1.5 * AGAIN_S)
    attempt = pair.server.events[-1]
    assert isinstance(attempt, AuthNeeded)
    assert pair.is_up
    pair.server._heard = heard  # type: ignore[method-assign]
    assert attempt.attempt.verify(pair.server.password)
    pair.server.link.grant(attempt.attempt, pair.now)
    pair.run(2 * AGAIN_S)
    assert pair.is_up
    assert _attempts(pair) >= 3


@pytest.mark.parametrize("method", ASKING)
def test_it_is_asked_again_after_a_restart(method: str) -> None:
    pair = _up(method, rechallenge=AGAIN_S)
    pair.restart(0)
    pair.run(2.5 * AGAIN_S)
    assert _attempts(pair) >= 3
    assert pair.is_up
    pair.server.password = b"another"
    pair.run(2 * AGAIN_S)
    assert pair.is_down
