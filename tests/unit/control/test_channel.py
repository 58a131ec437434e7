"""Reliable delivery, one channel against written packets: each rule of RFC 2661 5.8 and appendix A by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.control.channel import Channel
from kl2tp.wire.l2tp import ControlHeader, decode_control

HELLO = b"\x80\x08\0\0\0\0\0\x06"


class Bench:
    """A channel, the clock, and packets as tuples."""

    def __init__(self, *, ns: int = 0, nr: int = 0, **options: float) -> None:
        self.now = 100.0
        self.channel = Channel(self.now, **options)  # type: ignore[arg-type]
        self.channel.peer_tunnel_id = 7
        if ns or nr:
            state = {**self.channel.save(), "ns": ns, "nr": nr}
            self.channel.restore(state, self.now)

    def send(self, *payloads: bytes, session_id: int = 0) -> list[tuple[int, int, bytes]]:
        """What leaves in a turn that sends: (Ns, Nr, payload)."""
        for payload in payloads:
            self.channel.send(payload, session_id, self.now)
        return self.end()

    def receive(self, ns: int, nr: int, payload: bytes = b"", session_id: int = 0) -> list[bytes]:
        """What is delivered; the turn goes on."""
        header = ControlHeader(1, session_id, ns, nr)
        return [message for _, message in self.channel.receive(header, payload, self.now)]

    def end(self) -> list[tuple[int, int, bytes]]:
        """End the turn: what leaves."""
        self.channel.flush(self.now)
        packets = [decode_control(datagram) for datagram in self.channel.take_datagrams()]
        return [(header.ns, header.nr, payload) for header, payload in packets]

    def acknowledge(self, nr: int) -> list[tuple[int, int, bytes]]:
        """A ZLB comes: what leaves."""
        self.receive(0, nr)
        return self.end()

    def expire(self) -> list[tuple[int, int, bytes]]:
        """The timer runs out: what leaves."""
        assert self.channel.deadline is not None
        self.now = self.channel.deadline
        self.channel.handle_timer(self.now)
        return self.end()


def _numbers(packets: list[tuple[int, int, bytes]]) -> list[int]:
    return [ns for ns, _, _ in packets]


# Numbers


def test_messages_are_numbered_from_zero() -> None:
    bench = Bench()
    assert bench.send(b"a") == [(0, 0, b"a")]
    assert bench.acknowledge(1) == []
    assert bench.send(b"b") == [(1, 0, b"b")]


def test_headers_carry_the_ids_that_the_peer_assigned() -> None:
    bench = Bench()
    bench.channel.send(b"a", 9, bench.now)
    (datagram,) = bench.channel.take_datagrams()
    assert decode_control(datagram)[0] == (7, 9, 0, 0)


def test_until_the_peer_has_assigned_an_id_the_header_has_zero() -> None:
    channel = Channel(0.0)
    channel.send(b"a", 0, 0.0)
    assert decode_control(channel.take_datagrams()[0])[0].tunnel_id == 0


def test_the_id_that_a_message_came_with_is_delivered_with_it() -> None:
    channel = Channel(0.0)
    assert list(channel.receive(ControlHeader(1, 5, 0, 0), b"a", 0.0)) == [(5, b"a")]


def test_a_zlb_takes_no_number() -> None:
    bench = Bench()
    bench.receive(0, 0, b"a")
    assert bench.end() == [(0, 1, b"")]
    bench.receive(1, 0, b"b")
    assert bench.end() == [(0, 2, b"")]
    assert bench.send(b"c") == [(0, 2, b"c")]


def test_a_zlb_received_is_not_counted() -> None:
    bench = Bench()
    assert bench.receive(0, 0) == []
    assert bench.receive(0, 0, b"a") == [b"a"]


def test_numbers_wrap() -> None:
    bench = Bench(ns=0xFFFF, nr=0xFFFF, peer_window=8)
    assert bench.send(b"a") == [(0xFFFF, 0xFFFF, b"a")]
    assert bench.receive(0xFFFF, 0, b"x") == [b"x"]
    assert bench.send(b"b") == [(0, 0, b"b")]
    assert bench.receive(0, 1, b"y") == [b"y"]
    assert bench.channel.unacked == 0


# Receiving


def test_what_comes_in_order_is_delivered() -> None:
    bench = Bench()
    assert [bench.receive(ns, 0, bytes((ns,))) for ns in range(3)] == [[b"\0"], [b"\1"], [b"\2"]]


def test_a_duplicate_is_not_delivered_but_acknowledged() -> None:
    bench = Bench()
    bench.receive(0, 0, b"a")
    assert bench.end() == [(0, 1, b"")]
    assert bench.receive(0, 0, b"a") == []
    assert bench.end() == [(0, 1, b"")]


@pytest.mark.parametrize("behind", [1, 2, 1000, 32767, 32768])
def test_half_of_the_numbers_are_duplicates(behind: int) -> None:
    bench = Bench(nr=5)
    assert bench.receive((5 - behind) & 0xFFFF, 0, b"old") == []
    assert bench.end() == [(0, 5, b"")]


@pytest.mark.parametrize("ahead", [32, 1000, 32767])
def test_the_other_half_is_ahead_and_beyond_the_window_dropped_in_silence(ahead: int) -> None:
    bench = Bench(nr=0xFFF0, receive_window=32)
    assert bench.receive((0xFFF0 + ahead) & 0xFFFF, 0, b"far") == []
    assert bench.end() == []
    assert bench.receive(0xFFF0, 0, b"a") == [b"a"]


def test_what_comes_early_is_delivered_in_its_turn() -> None:
    bench = Bench(nr=0xFFFE)
    assert bench.receive(0, 0, b"c") == []
    assert bench.receive(0xFFFF, 0, b"b") == []
    assert bench.receive(0xFFFE, 0, b"a") == [b"a", b"b", b"c"]
    assert bench.end() == [(0, 1, b"")]


def test_what_comes_early_is_not_acknowledged() -> None:
    bench = Bench()
    bench.receive(1, 0, b"b")
    assert bench.end() == []


def test_what_comes_early_twice_is_delivered_once() -> None:
    bench = Bench()
    bench.receive(1, 0, b"b")
    bench.receive(1, 0, b"forged")
    assert bench.receive(0, 0, b"a") == [b"a", b"b"]
    assert bench.receive(1, 0, b"b") == []


def test_no_more_is_kept_than_the_window_has_room_for() -> None:
    bench = Bench(receive_window=4)
    for ns in range(1, 100):
        bench.receive(ns, 0, bytes((ns,)))
    assert bench.receive(0, 0, b"\0") == [b"\0", b"\1", b"\2", b"\3"]


def test_a_huge_message_is_taken_only_in_its_turn() -> None:
    bench = Bench()
    large, huge = bytes(2048), bytes(2049)
    bench.receive(1, 0, large)
    bench.receive(2, 0, huge)
    assert bench.receive(0, 0, b"a") == [b"a", large]
    assert bench.receive(2, 0, huge) == [huge]


def test_with_a_window_of_one_nothing_is_kept() -> None:
    bench = Bench(receive_window=1)
    bench.receive(1, 0, b"b")
    assert bench.receive(0, 0, b"a") == [b"a"]


# Acknowledging


def test_an_answer_carries_the_acknowledgement() -> None:
    bench = Bench()
    bench.receive(0, 0, b"a")
    assert bench.send(b"answer") == [(0, 1, b"answer")]


def test_without_an_answer_a_zlb_does() -> None:
    bench = Bench()
    bench.receive(0, 0, b"a")
    bench.receive(1, 0, b"b")
    assert bench.end() == [(0, 2, b"")]
    assert bench.end() == []


def test_an_answer_before_the_last_message_does_not_acknowledge_it() -> None:
    bench = Bench()
    bench.receive(0, 0, b"a")
    bench.channel.send(b"answer", 0, bench.now)
    bench.receive(1, 0, b"b")
    assert bench.end() == [(0, 1, b"answer"), (1, 2, b"")]


def test_an_answer_that_must_wait_does_not_hold_back_the_acknowledgement() -> None:
    bench = Bench()
    bench.send(b"under way")
    bench.receive(0, 0, b"a")
    assert bench.send(b"answer") == [(1, 1, b"")]


def test_a_zlb_is_about_no_session() -> None:
    channel = Channel(0.0)
    channel.peer_tunnel_id = 7
    channel.receive(ControlHeader(1, 5, 0, 0), b"a", 0.0)
    channel.flush(0.0)
    assert decode_control(channel.take_datagrams()[0])[0] == (7, 0, 0, 1)


def test_a_zlb_is_not_acknowledged() -> None:
    bench = Bench()
    bench.send(b"a")
    assert bench.acknowledge(1) == []


def test_an_acknowledgement_comes_with_a_message_too() -> None:
    bench = Bench()
    bench.send(b"a")
    bench.receive(0, 1, b"x")
    assert bench.channel.unacked == 0


def test_an_acknowledgement_is_for_all_up_to_it() -> None:
    bench = _opened(3)
    bench.send(b"a", b"b", b"c")
    bench.acknowledge(2 + 2)
    assert bench.channel.unacked == 1
    assert _numbers(bench.expire()) == [4]


def test_an_old_acknowledgement_changes_nothing() -> None:
    bench = _opened(3)
    bench.send(b"a", b"b")
    bench.acknowledge(1)
    assert bench.channel.unacked == 2
    assert bench.receive(0, 0, b"x") == [b"x"]


@pytest.mark.parametrize("nr", [0, 0xFFFF, 0x8001, 0x8000])
def test_an_acknowledgement_from_the_past_is_no_offence(nr: int) -> None:
    bench = Bench()
    bench.send(b"a")
    assert bench.receive(0, nr, b"x") == [b"x"]
    assert bench.channel.unacked == 1


@pytest.mark.parametrize("nr", [2, 3, 100, 32767])
def test_what_acknowledges_messages_never_sent_is_dropped_whole(nr: int) -> None:
    bench = Bench()
    bench.send(b"a", b"waits")
    assert bench.receive(0, nr, b"forged") == []
    assert bench.end() == []
    assert bench.channel.unacked == 2
    assert bench.receive(0, 1, b"x") == [b"x"]


# Retransmission


def test_an_unanswered_message_is_sent_again_with_its_number_and_the_newest_nr() -> None:
    bench = Bench()
    assert bench.send(b"a") == [(0, 0, b"a")]
    bench.receive(0, 0, b"x")
    bench.end()
    assert bench.expire() == [(0, 1, b"a")]


def test_intervals_double_up_to_the_cap_and_then_the_peer_is_dead() -> None:
    bench = Bench()
    bench.send(b"a")
    moments = []
    while not bench.channel.dead:
        moments.append((bench.now, len(bench.expire())))
    start = moments[0][0]
    assert [moment - start for moment, _ in moments] == [0, 1, 3, 7, 15, 23]
    assert bench.now - start == 31 == bench.channel.full_interval
    assert [count for _, count in moments] == [1, 1, 1, 1, 1, 0]
    assert bench.channel.deadline is None


def test_intervals_cap_and_tries_are_the_owners() -> None:
    bench = Bench(first_timeout=0.5, cap=2.0, tries=3)
    bench.send(b"a")
    start = bench.now
    while not bench.channel.dead:
        bench.expire()
    assert bench.now - start == 0.5 + 1 + 2 + 2 == bench.channel.full_interval


def test_a_cap_below_the_first_interval_does_not_shorten_it() -> None:
    assert Bench(first_timeout=10.0, cap=8.0, tries=1).channel.full_interval == 20


def test_a_dead_channel_does_nothing_any_more() -> None:
    bench = Bench(tries=0)
    bench.send(b"a")
    bench.expire()
    assert bench.channel.dead
    assert bench.send(b"b") == []
    assert bench.receive(0, 1, b"x") == []
    assert bench.channel.unacked == 0


def test_the_timer_does_nothing_before_its_time() -> None:
    bench = Bench()
    bench.send(b"a")
    bench.channel.handle_timer(bench.now + 0.999)
    assert bench.end() == []
    assert not bench.channel.retransmissions


def test_progress_starts_the_timer_anew_and_the_count_of_tries() -> None:
    bench = _opened(2)
    bench.send(b"a", b"b")
    for _ in range(4):
        bench.expire()
    bench.acknowledge(2)
    assert bench.channel.deadline == bench.now + 1
    for _ in range(5):
        assert _numbers(bench.expire()) == [2]
    assert not bench.channel.dead


def test_an_acknowledgement_of_nothing_new_is_no_progress() -> None:
    bench = Bench()
    bench.send(b"a")
    for _ in range(5):
        bench.expire()
        bench.receive(0, 0)
    bench.expire()
    assert bench.channel.dead


def test_after_the_timer_all_that_was_under_way_is_sent_again_from_the_oldest_as_acknowledgements_come() -> None:
    bench = _opened(4)
    assert _numbers(bench.send(b"a", b"b", b"c", b"d")) == [3, 4, 5, 6]
    assert _numbers(bench.expire()) == [3]
    assert _numbers(bench.acknowledge(4)) == [4, 5]
    assert _numbers(bench.acknowledge(6)) == [6]
    assert bench.acknowledge(7) == []
    assert bench.channel.retransmissions == 4


def test_what_the_peer_kept_is_not_sent_again() -> None:
    bench = _opened(4)
    bench.send(b"a", b"b", b"c", b"d")
    bench.expire()
    assert bench.acknowledge(7) == []
    assert _numbers(bench.send(b"e")) == [7]


# Windows


def _opened(window: int, **options: float) -> Bench:
    """A bench whose congestion window has grown to so many messages, and whose Ns is one less."""
    bench = Bench(**{"peer_window": 64, **options})
    for ns in range(window - 1):
        bench.send(b"x")
        bench.acknowledge(ns + 1)
    return bench


def _burst(bench: Bench) -> list[int]:
    """The numbers that leave when a lot is to be sent."""
    return _numbers(bench.send(*[b"x"] * 100))


def test_at_first_one_message_may_be_under_way() -> None:
    assert _burst(Bench(peer_window=64)) == [0]


def test_slow_start_opens_the_window_by_one_per_acknowledgement() -> None:
    bench = Bench(peer_window=64)
    _burst(bench)
    assert _numbers(bench.acknowledge(1)) == [1, 2]
    assert _numbers(bench.acknowledge(2)) == [3, 4]
    assert _numbers(bench.acknowledge(3)) == [5, 6]
    assert _numbers(bench.acknowledge(7)) == [7, 8, 9, 10, 11]


def test_the_congestion_window_never_exceeds_the_peers() -> None:
    bench = Bench(peer_window=3)
    _burst(bench)
    for nr in range(1, 20):
        bench.acknowledge(nr)
    # Everything under way is lost; had the window grown further, half of it would be more than one.
    assert len(_outstanding(bench)) == 3
    bench.expire()
    assert _numbers(bench.acknowledge(20)) == [20, 21]


def _outstanding(bench: Bench) -> list[int]:
    """The numbers under way."""
    saved = bench.channel.save()
    return [(saved["ns"] + offset) & 0xFFFF for offset in range(saved["used"])]


@pytest.mark.parametrize("size", [1, 2, 4, 10])
def test_no_more_is_under_way_than_the_peer_takes(size: int) -> None:
    bench = Bench(peer_window=size)
    _burst(bench)
    for nr in range(1, 50):
        bench.acknowledge(nr)
        assert len(_outstanding(bench)) <= size
    assert len(_outstanding(bench)) == size


def test_a_peer_that_does_not_say_takes_four() -> None:
    bench = Bench()
    _burst(bench)
    for nr in range(1, 50):
        bench.acknowledge(nr)
    assert len(_outstanding(bench)) == 4


@pytest.mark.parametrize(("size", "taken"), [(0, 1), (-1, 1), (0xFFFF, 0x7FFF)])
def test_a_window_that_makes_no_sense_is_made_one_that_does(size: int, taken: int) -> None:
    channel = Channel(0.0)
    channel.peer_window = size
    assert channel.peer_window == taken


def test_the_peers_window_may_become_known_later() -> None:
    bench = Bench()
    bench.send(b"SCCRQ")
    bench.expire()
    bench.receive(0, 1, b"SCCRP")
    bench.channel.peer_window = 10
    # The threshold is the peer's window (appendix A), whatever happened before: still slow start.
    assert _burst(bench) == [1, 2]
    assert _numbers(bench.acknowledge(3)) == [3, 4, 5]


def test_congestion_halves_the_threshold_and_starts_again_with_one() -> None:
    bench = _opened(8)
    assert len(_burst(bench)) == 8
    assert _numbers(bench.expire()) == [7]
    # Slow start up to 4, half of 8; from there one acknowledgement per message in the window.
    sizes = []
    for nr in range(8, 8 + 12):
        bench.receive(0, nr)
        bench.end()
        sizes.append(bench.channel._congestion_window)
    assert sizes == [2, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 6]


def test_congestion_avoidance_begins_at_the_peers_window() -> None:
    bench = _opened(100, peer_window=5)
    assert bench.channel._congestion_window == 5


def test_repeated_congestion_leaves_a_threshold_of_one() -> None:
    bench = _opened(8)
    _burst(bench)
    for _ in range(5):
        assert len(bench.expire()) == 1
    sizes = []
    for nr in range(8, 8 + 6):
        bench.acknowledge(nr)
        sizes.append(bench.channel._congestion_window)
    assert sizes == [2, 2, 3, 3, 3, 4]


# HELLO


def test_a_hello_is_due_when_nothing_was_received_for_the_interval() -> None:
    bench = Bench(hello_interval=60.0)
    assert bench.channel.deadline == 160
    bench.expire()
    assert bench.channel.hello_due
    assert bench.channel.deadline is None
    assert bench.send(HELLO) == [(0, 0, HELLO)]
    assert not bench.channel.hello_due
    bench.now += 0.5
    bench.acknowledge(1)
    assert bench.channel.deadline == 160.5 + 60


@pytest.mark.parametrize("packet", [(0, 0, b""), (0, 0, b"a"), (0xFFFF, 0, b"old"), (9, 0, b"early")])
def test_whatever_the_peer_sends_shows_that_it_lives(packet: tuple[int, int, bytes]) -> None:
    bench = Bench(hello_interval=60.0)
    bench.now += 59
    bench.receive(*packet)
    assert bench.channel.deadline == bench.now + 60


def test_what_is_forged_does_not_show_it() -> None:
    bench = Bench(hello_interval=60.0)
    bench.now += 59
    bench.receive(0, 5, b"forged")
    assert bench.channel.deadline == 160


def test_data_that_came_shows_it_too() -> None:
    bench = Bench(hello_interval=60.0)
    bench.channel.heard = 130.0
    assert bench.channel.deadline == 190
    bench.channel.handle_timer(160.0)
    assert not bench.channel.hello_due


def test_no_hello_is_due_while_a_message_waits_for_its_acknowledgement() -> None:
    bench = Bench(hello_interval=0.5)
    bench.send(b"a")
    assert bench.channel.deadline == 101
    bench.expire()
    assert not bench.channel.hello_due


def test_a_hello_that_is_due_is_not_when_the_peer_speaks_first() -> None:
    bench = Bench(hello_interval=60.0)
    bench.expire()
    bench.receive(0, 0, b"a")
    assert not bench.channel.hello_due


def test_without_an_interval_no_hello_is_ever_due() -> None:
    assert Bench(hello_interval=0.0).channel.deadline is None


# Saving


def test_a_restored_channel_goes_on_with_the_numbers_and_sends_the_oldest_again() -> None:
    bench = _opened(3)
    bench.receive(0, 2, b"x")
    bench.send(b"a", b"b", b"c", b"d", session_id=5)
    state = bench.channel.save()
    after = Channel(500.0)
    after.restore(state, 500.0)
    (datagram,) = after.take_datagrams()
    assert decode_control(datagram) == ((7, 5, 2, 1), b"a")
    assert after.peer_window == 64
    assert after.deadline == 501
    assert after.unacked == 4
    # All three that were sent may be acknowledged now, and no more.
    assert list(after.receive(ControlHeader(1, 0, 1, 6), b"forged", 500.0)) == []
    after.receive(ControlHeader(1, 0, 1, 5), b"", 500.0)
    assert after.unacked == 1


def test_saving_and_restoring_changes_nothing_that_is_saved() -> None:
    bench = _opened(3)
    bench.send(b"a", b"b")
    state = bench.channel.save()
    again = Channel(0.0)
    again.restore(state, 0.0)
    assert again.save() == state


def test_a_channel_tells_when_what_is_saved_has_changed() -> None:
    bench = Bench()

    def changed() -> bool:
        was = bench.channel.changed
        bench.channel.changed = False
        return was

    assert changed()
    bench.send(b"a")
    assert changed()
    bench.acknowledge(0)
    assert not changed()
    bench.acknowledge(1)
    assert changed()
    bench.receive(0, 1, b"x")
    assert changed()
    bench.receive(0, 1, b"x")
    bench.receive(5, 1, b"early")
    assert not changed()


packet = st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF), st.binary(max_size=3))


@given(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.lists(st.one_of(packet, st.binary(min_size=1, max_size=2), st.floats(0, 20)), max_size=60),
)
def test_whatever_happens_limits_hold(ns: int, nr: int, events: list[object]) -> None:
    bench = Bench(ns=ns, nr=nr, peer_window=6, receive_window=8, hello_interval=10.0)
    for event in events:
        if isinstance(event, float):
            bench.now += event
            bench.channel.handle_timer(bench.now)
        elif isinstance(event, bytes):
            bench.channel.send(event, 0, bench.now)
        elif isinstance(event, tuple):
            bench.receive(*event)
        packets = bench.end()
        assert all((number - bench.channel._first) & 0xFFFF <= 6 for number in _numbers(packets))
        assert len(_outstanding(bench)) <= min(6, bench.channel.unacked)
        assert len(bench.channel._held or ()) < 8
        deadline = bench.channel.deadline
        if deadline is not None:
            bench.channel.handle_timer(max(deadline, bench.now))
            bench.channel.take_datagrams()
            following = bench.channel.deadline
            assert following is None or following > max(deadline, bench.now), "it would spin"
