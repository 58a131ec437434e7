"""Two channels back to back over a bad network: everything arrives, in order and once."""

import json
from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from kl2tp.control.channel import Channel
from kl2tp.wire.l2tp import decode_control
from unit.control.network import ARRIVES, LOST, Fate, Network

PATIENT = 1000
"""Retransmissions: so many that no run of losses kills a channel."""

fates = st.lists(
    st.one_of(
        st.just(ARRIVES),
        st.just(LOST),
        st.lists(st.floats(0, 5), min_size=1, max_size=3).map(tuple),
    ),
    max_size=80,
)
start = st.integers(0, 0xFFFF) | st.integers(0xFFF0, 0xFFFF)
window = st.sampled_from((1, 2, 4, 32))
plan = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), max_size=40)
"""Who sends, and how many steps follow."""


def _begin(network: Network, starts: tuple[int, int]) -> None:
    """Number from somewhere else than zero."""
    for end, ns, nr in zip(network.ends, starts, reversed(starts), strict=True):
        state = {**end.channel.save(), "ns": ns, "nr": nr}
        network.turn(end, lambda channel, state=state: channel.restore(state, network.now))


def _message(number: int) -> bytes:
    return number.to_bytes(4, "big")


@given(fates, plan, st.tuples(start, start), st.tuples(window, window))
def test_everything_arrives_in_order_and_once(
    fates: list[Fate], plan: list[tuple[int, int]], starts: tuple[int, int], windows: tuple[int, int]
) -> None:
    network = Network(fates, tries=PATIENT)
    _begin(network, starts)
    for end, mine, theirs in zip(network.ends, windows, reversed(windows), strict=True):
        end.channel.receive_window, end.channel.peer_window = mine, theirs
    sent: tuple[list[bytes], list[bytes]] = ([], [])
    for number, (who, steps) in enumerate(plan):
        network.send(network.ends[who], _message(number))
        sent[who].append(_message(number))
        for _ in range(steps):
            network.step()
    network.run()
    assert network.ends[0].received == sent[1]
    assert network.ends[1].received == sent[0]
    assert [end.channel.unacked for end in network.ends] == [0, 0]


@given(
    fates,
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6), st.sampled_from(("", "restart", "silent"))), max_size=40),
    st.tuples(start, start),
)
def test_restarts_in_the_middle_lose_nothing(
    fates: list[Fate], plan: list[tuple[int, int, str]], starts: tuple[int, int]
) -> None:
    network = Network(fates, tries=PATIENT)
    _begin(network, starts)
    sent: tuple[list[bytes], list[bytes]] = ([], [])
    for number, (who, steps, accident) in enumerate(plan):
        network.send(network.ends[who], _message(number))
        sent[who].append(_message(number))
        for _ in range(steps):
            network.step()
        if accident:
            network.restart(network.ends[(number + steps) % 2], silent=accident == "silent")
    network.run()
    assert network.ends[0].received == sent[1]
    assert network.ends[1].received == sent[0]


def test_a_restart_after_the_state_was_kept_but_before_the_answer_left_is_made_good() -> None:
    network = Network()
    left, right = network.ends
    network.send(left, b"question")
    network.step()
    right.channel.send(b"answer", 0, network.now)
    right.kept = json.dumps(right.channel.save())
    network.restart(right, silent=True)
    network.run()
    assert (left.received, right.received) == ([b"answer"], [b"question"])


def test_numbers_wrap_after_65536_messages() -> None:
    total = 66_000
    lossy = (ARRIVES if number % 97 else LOST for number in count(1))
    network = Network(lossy, keep=False, peer_window=32)
    left, right = network.ends
    for number in range(total):
        left.channel.send(_message(number), 0, network.now)
    network.turn(left, lambda channel: None)
    network.run(10**7)
    assert right.received == [_message(number) for number in range(total)]
    assert left.channel.save()["ns"] == total & 0xFFFF
    assert left.channel.unacked == 0


def test_a_peer_that_is_gone_is_noticed_by_the_side_that_asked() -> None:
    network = Network(iter(lambda: LOST, None))
    left, right = network.ends
    network.send(left, b"a")
    network.run()
    assert left.channel.dead
    assert not right.channel.dead
    assert left.sent == 6


def test_answers_carry_acknowledgements_and_only_what_has_none_is_acknowledged_by_a_zlb() -> None:
    network = Network()
    left, right = network.ends

    def answer(channel: Channel) -> None:
        """As an owner does: in the turn in which the question came."""
        (_, question), *_ = channel.receive(*decode_control(datagram), network.now)
        channel.send(b"answer to " + question, 0, network.now)

    for number in range(3):
        left.channel.send(_message(number), 0, network.now)
        (datagram,) = left.channel.take_datagrams()
        network.turn(right, answer)
        network.step()
        network.run()
    assert len(left.received) == 3
    # One packet per answer; and a ZLB for each, as no question follows at once.
    assert (left.sent, right.sent) == (3, 3)
