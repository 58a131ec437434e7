"""Ids, limits and rates: random, bounded, and exact."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.control.ids import Entropy, Quarantine
from kl2tp.control.limits import TokenBucket, Usage
from kl2tp.model.calls import LimitsSpec
from unit.control.world import octets


def test_octets_are_given_once() -> None:
    calls: list[int] = []

    def source(size: int) -> bytes:
        calls.append(size)
        return bytes(number % 251 for number in range(size))

    entropy = Entropy(source)
    taken = b"".join(entropy.take(size) for size in (2, 3, 1000, 3000))
    assert taken == source(4096)[:4005]
    assert len(entropy.take(10_000)) == 10_000
    assert calls == [4096, 4096, 10_000]


@given(st.sets(st.integers(1, 0xFFFF), max_size=50), st.integers(0, 99))
def test_a_free_id_is_found_as_long_as_there_is_one(free: set[int], seed: int) -> None:
    number = Entropy(octets(seed)).free_id(lambda candidate: candidate not in free)
    assert number in free if free else number == 0


def test_ids_rest_for_their_time() -> None:
    quarantine = Quarantine(5.0, 3)
    for number in (1, 2, 3):
        quarantine.put(number, float(number))
    quarantine.expire(6.5)
    assert [number in quarantine for number in (1, 2, 3)] == [False, True, True]
    for number in (4, 5, 6):
        quarantine.put(number, 6.6)
    assert len(quarantine) == 3
    assert [number in quarantine for number in (3, 4, 5, 6)] == [False, True, True, True]


@given(st.floats(0.1, 1000), st.lists(st.floats(0, 10), min_size=1, max_size=200))
def test_a_bucket_lets_through_its_rate_and_one_burst(rate: float, pauses: list[float]) -> None:
    bucket, now, passed = TokenBucket(), 0.0, 0
    for pause in pauses:
        now += pause
        passed += bucket.take(rate, now)
    assert 1 <= passed <= max(rate, 1.0) + now * rate + 1e-6


def test_a_bucket_fills_again() -> None:
    bucket = TokenBucket()
    assert [bucket.take(2.0, 0.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(2.0, 0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(2.0, 100.0) for _ in range(3)] == [True, True, False]


def test_usage_counts_by_address() -> None:
    usage, limits = Usage(), LimitsSpec(tunnels=3, tunnels_per_peer=2)
    usage.add_tunnel(b"a")
    usage.add_tunnel(b"a")
    refusal = usage.tunnel_refusal(limits, b"a")
    assert refusal is not None
    assert (refusal.result, refusal.error) == (2, 4)
    assert usage.tunnel_refusal(limits, b"b") is None
    usage.add_tunnel(b"b")
    refusal = usage.tunnel_refusal(limits, b"c")
    assert refusal is not None
    assert (refusal.result, refusal.error) == (2, 7)
    for address in (b"a", b"b", b"a"):
        usage.remove_tunnel(address)
    assert (usage.tunnels, usage.tunnels_of) == (0, {})


@pytest.mark.parametrize(
    ("limits", "in_tunnel", "error"),
    [
        (LimitsSpec(sessions=1), 0, 7),
        (LimitsSpec(sessions_per_tunnel=4), 4, 4),
        (LimitsSpec(), 100, 0),
    ],
)
def test_calls_are_counted_in_all_and_in_their_tunnel(limits: LimitsSpec, in_tunnel: int, error: int) -> None:
    usage = Usage()
    usage.sessions = 1
    refusal = usage.call_refusal(limits, in_tunnel, 0.0)
    assert (refusal.error if refusal is not None else 0) == error
