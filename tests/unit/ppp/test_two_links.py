"""Whatever the line does and whoever is restarted: in the end both say the same."""

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from kl2tp.model.calls import AUTH_METHODS, CHAP, MSCHAPV2, PAP
from kl2tp.ppp.events import Ipv4Down, Ipv6Down, LcpUp
from unit.ppp.pair import Pair, settings

LOST: tuple[float, ...] = ()
IN_ORDER = (0.01,)
FATES = st.one_of(
    st.just(IN_ORDER),
    st.just(LOST),
    st.lists(st.sampled_from((0.01, 0.02, 0.5, 2.9, 3.5, 7.0)), min_size=1, max_size=3).map(tuple),
)
DEEDS = st.sampled_from(("restart 0", "restart 1", "forget 0", "forget 1", "negotiate 0", "negotiate 1", "close 0",
                         "close 1", "password"))  # fmt: skip
STORIES = st.lists(st.tuples(st.sampled_from((0.0, 0.015, 0.1, 1.0, 4.0, 45.0)), DEEDS), max_size=6)
ENOUGH = 400.0
"""Seconds after which the last echo was missed, and the last Terminate-Request given up."""


def do(pair: Pair, deed: str) -> None:
    """Something happens to one end, given by its number."""
    what, _, which = deed.partition(" ")
    end = pair.ends[int(which or 0)]
    if what == "close":
        end.link.close(pair.now, "enough")
    elif what == "negotiate" and end.link.phase:
        # A Terminate-Ack that nobody asked for makes that end begin anew.
        end.link.receive(b"\xc0\x21\x06\x99\x00\x04", pair.now)
    elif what == "password":
        pair.server.password = b"another"
    elif what in ("restart", "forget"):
        if what == "forget":
            end.forget()
        pair.restart(int(which))


@given(
    st.lists(FATES, max_size=60),
    STORIES,
    st.sampled_from(((), *((method,) for method in AUTH_METHODS), (MSCHAPV2, CHAP, PAP))),
    st.integers(0, 1000),
)
@example([IN_ORDER] * 3 + [LOST], [(1.0, "forget 0")], (CHAP,), 1)
@example([], [(1.0, "restart 0"), (0.0, "restart 1"), (1.0, "negotiate 1")], (CHAP,), 1)
def test_both_agree_in_the_end(
    fates: list[tuple[float, ...]], story: list[tuple[float, str]], demand: tuple[str, ...], seed: int
) -> None:
    pair = Pair(*settings(*demand), seed=seed)
    left = iter(fates)
    pair.fate = lambda: next(left, IN_ORDER)
    pair.open()
    for seconds, deed in story:
        pair.run(seconds)
        do(pair, deed)
    pair.run(ENOUGH)
    if any(end.down is not None for end in pair.ends):
        pair.run(ENOUGH)
        assert pair.is_down
        assert [end.link.deadline for end in pair.ends] == [None, None]
        assert not pair.flying
    else:
        assert pair.is_up
        pair.agree()
        assert pair.server.identity == ("bob" if demand else None)


@given(st.integers(0, 10**6), st.sampled_from(AUTH_METHODS))
def test_with_five_percent_loss_links_come_up_and_stay_up(seed: int, method: str) -> None:
    pair = Pair(*settings(method), seed=seed)
    chance = pair.chance

    def fate() -> tuple[float, ...]:
        if chance.random() < 0.05:
            return LOST
        delay = 0.02 + (0.05 if chance.random() < 0.05 else 0.0)
        return (delay, delay + 0.01) if chance.random() < 0.05 else (delay,)

    pair.fate = fate
    pair.open().run(60, until=lambda: pair.is_up)
    pair.agree()
    ups = [len([e for e in end.events if isinstance(e, LcpUp)]) for end in pair.ends]
    downs = [len([e for e in end.events if isinstance(e, Ipv4Down | Ipv6Down)]) for end in pair.ends]
    pair.run(600)
    pair.agree()
    assert [len([e for e in end.events if isinstance(e, LcpUp)]) for end in pair.ends] == ups
    assert [len([e for e in end.events if isinstance(e, Ipv4Down | Ipv6Down)]) for end in pair.ends] == downs


def test_doubled_frames_never_bring_a_link_down() -> None:
    for seed in range(30):
        pair = Pair(*settings(CHAP), seed=seed)
        pair.fate = lambda pair=pair: (0.01, 0.01 + pair.chance.random() * 0.4)  # type: ignore[misc]
        pair.open().run(60)
        pair.agree()
        for end in pair.ends:
            assert not [e for e in end.events if isinstance(e, Ipv4Down | Ipv6Down)]
            assert len([e for e in end.events if isinstance(e, LcpUp)]) == 1


@given(st.binary(max_size=80), st.sampled_from(("c021", "c023", "c223", "c227", "8021", "8057", "80fd", "0021", "")))
def test_no_frame_does_any_harm(data: bytes, protocol: str) -> None:
    for demand in ((), (PAP,), (CHAP,)):
        server, client = settings(*demand)
        pair = Pair(server, replace(client, echo_interval=0)).open()
        for seconds in (0.0, 0.015, 1.0):
            pair.run(seconds)
            for end in pair.ends:
                end.link.receive(bytes.fromhex(protocol) + data, pair.now)
        pair.run(ENOUGH)
        assert pair.is_down or pair.is_up
