"""Wrong passwords cost time, whoever tries, and cost us nothing."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.access.throttle import LONGEST_DELAY, MEMORY, Throttle

PEER, OTHER = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


def test_the_delay_doubles_with_each_failure_in_a_row_and_has_an_end() -> None:
    throttle = Throttle(delay=0.5, refusals=0)
    now, delays = 0.0, []
    for _ in range(7):
        delays.append(throttle.failed(PEER, "alice", now))
        now += delays[-1]
    assert delays == [0.5, 1, 2, 4, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]


def test_who_never_failed_waits_for_nothing() -> None:
    throttle = Throttle()
    throttle.failed(PEER, "alice", 0.0)
    assert throttle.wait(PEER, "bob", 0.0) == 0
    assert throttle.wait(OTHER, "alice", 0.0) == 0


def test_a_success_ends_the_row() -> None:
    throttle = Throttle()
    throttle.failed(PEER, "alice", 0.0)
    throttle.failed(PEER, "alice", 1.0)
    throttle.succeeded(PEER, "alice")
    assert throttle.wait(PEER, "alice", 1.0) == 0
    assert throttle.failed(PEER, "alice", 3.0) == 1.0


def test_attempts_fail_unseen_while_a_refusal_is_on_its_way_and_are_looked_at_once_it_is_there() -> None:
    throttle = Throttle(delay=1.0)
    throttle.failed(PEER, "alice", 100.0)
    assert throttle.wait(PEER, "alice", 100.25) == 0.75
    assert throttle.wait(PEER, "alice", 101.0) == 0


def test_after_so_many_failures_in_a_row_a_peer_rests_whatever_users_it_names() -> None:
    throttle = Throttle(delay=0.1, refusals=3, refusal_time=60.0)
    for number in range(3):
        assert throttle.wait(PEER, f"user{number}", 10.0) == 0
        throttle.failed(PEER, f"user{number}", 10.0)
    assert throttle.wait(PEER, "user3", 10.0) == LONGEST_DELAY
    assert throttle.wait(PEER, "user3", 69.0) == 1.0
    assert throttle.wait(PEER, "user3", 70.0) == 0
    assert throttle.wait(OTHER, "user3", 10.0) == 0
    throttle.failed(PEER, "user3", 70.0)
    assert throttle.wait(PEER, "user4", 71.0) > 0, "the row goes on"


def test_many_users_behind_one_peer_do_not_suffer_from_a_few() -> None:
    throttle = Throttle(refusals=5)
    for number in range(100):
        throttle.failed(PEER, f"wrong{number % 4}", float(number * 10))
        if number % 4 == 3:
            throttle.succeeded(PEER, f"right{number}")
        assert throttle.wait(PEER, "somebody", number * 10 + 1.0) == 0


def test_a_success_with_another_account_does_not_speed_up_guessing() -> None:
    throttle = Throttle(delay=1.0, refusals=3)
    now, guesses = 0.0, 0
    while now < 100:
        if not throttle.wait(PEER, "victim", now):
            throttle.failed(PEER, "victim", now)
            guesses += 1
        throttle.succeeded(PEER, "attacker")
        now += 0.1
    assert guesses <= 4 + 100 / LONGEST_DELAY


def test_guessing_from_everywhere_is_slow_but_locks_nobody_out() -> None:
    throttle = Throttle(delay=1.0, refusals=3)
    for number in range(100):
        delay = throttle.failed(number.to_bytes(4), "victim", 0.0)
    assert delay == LONGEST_DELAY
    assert throttle.wait(PEER, "victim", 0.0) == 0


def test_an_ipv6_host_is_its_network() -> None:
    throttle = Throttle(refusals=3)
    prefix = bytes.fromhex("20010db800000001")
    for number in range(3):
        throttle.failed(prefix + number.to_bytes(8), f"u{number}", 0.0)
    assert throttle.wait(prefix + b"\xff" * 8, "x", 1.0) > 0
    assert throttle.wait(bytes.fromhex("20010db8000000020000000000000001"), "x", 1.0) == 0


def test_rows_are_forgotten_in_time() -> None:
    throttle = Throttle(delay=1.0)
    throttle.failed(PEER, "alice", 0.0)
    assert throttle.failed(PEER, "alice", MEMORY - 1) == 2.0
    assert throttle.failed(PEER, "alice", 3 * MEMORY) == 1.0


def test_memory_is_bounded_whatever_sources_and_users_are_made_up() -> None:
    throttle = Throttle(sources=100)
    tracemalloc.start()
    for number in range(5000):
        throttle.failed(number.to_bytes(4), "x" * 250 + str(number), 0.0)
        throttle.failed(PEER, f"user{number}", 0.0)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(throttle) <= 300
    assert used < 200_000
    assert throttle.wait(PEER, "somebody", 1.0) > 0, "its row was not pushed out"


@pytest.mark.parametrize("count", [1, 9, 500])
def test_delays_stay_finite(count: int) -> None:
    throttle = Throttle(delay=0.0, refusals=0)
    assert {throttle.failed(PEER, "a", 0.0) for _ in range(count)} == {0.0}
    throttle = Throttle(delay=1e-300, refusals=0)
    assert all(throttle.failed(PEER, "a", 0.0) <= LONGEST_DELAY for _ in range(count))


@given(st.lists(st.tuples(st.sampled_from([PEER, OTHER]), st.sampled_from("ab"), st.booleans(), st.floats(0, 100))))
def test_nobody_waits_longer_than_the_longest_delay_nor_for_ever(events: list[tuple[bytes, str, bool, float]]) -> None:
    throttle, now = Throttle(refusals=3, refusal_time=30.0), 0.0
    for peer, user, right, pause in events:
        now += pause
        wait = throttle.wait(peer, user, now)
        assert 0 <= wait <= LONGEST_DELAY
        if not wait:
            throttle.succeeded(peer, user) if right else throttle.failed(peer, user, now)
        assert throttle.wait(peer, user, now + 31) == 0
