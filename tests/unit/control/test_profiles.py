"""Which profile a peer gets: the most specific one, else the first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.control.profiles import Peer, Profiles
from kl2tp.model.addr import parse
from kl2tp.model.calls import LnsSpec


def at(text: str, port: int = 1701) -> Peer:
    return parse(text), port


def net(text: str) -> tuple[bytes, int]:
    address, _, length = text.partition("/")
    return parse(address), int(length)


HERE, THERE = at("198.51.100.1"), at("10.1.2.3", 40000)
LISTENS = LnsSpec("listens", listen=(HERE,))
ANY = LnsSpec("any")
TEN = LnsSpec("ten", peers=(net("10.0.0.0/8"),))
TEN_ONE = LnsSpec("ten-one", peers=(net("192.0.2.0/24"), net("10.1.0.0/16")))
HOST = LnsSpec("host", peers=(net("10.1.2.3/32"),))
SIX = LnsSpec("six", peers=(net("2001:db8::/32"),))
NAMED = LnsSpec("named", host_names=("bras1",))
PATTERN = LnsSpec("pattern", host_names=("br*", "other"))
LONGER = LnsSpec("longer", host_names=("bras?",))


@pytest.mark.parametrize(
    ("specs", "local", "peer", "name", "chosen"),
    [
        ((), HERE, THERE, "x", None),
        ((ANY,), HERE, THERE, "x", "any"),
        ((ANY,), at("198.51.100.1", 1702), THERE, "x", None),
        ((ANY, LISTENS), HERE, THERE, "x", "listens"),
        ((ANY, LISTENS), at("198.51.100.2"), THERE, "x", "any"),
        ((LISTENS,), at("198.51.100.1", 1702), THERE, "x", None),
        ((LISTENS, HOST), HERE, THERE, "x", "listens"),
        ((ANY, TEN, HOST, TEN_ONE), HERE, THERE, "x", "host"),
        ((ANY, TEN, TEN_ONE), HERE, THERE, "x", "ten-one"),
        ((ANY, TEN, TEN_ONE), HERE, at("10.2.0.0"), "x", "ten"),
        ((ANY, TEN, TEN_ONE), HERE, at("192.0.2.255"), "x", "ten-one"),
        ((TEN, TEN_ONE), HERE, at("11.0.0.1"), "x", None),
        ((SIX, ANY), HERE, THERE, "x", "any"),
        ((SIX,), HERE, at("32.1.13.184"), "x", None),
        ((ANY, SIX), at("2001:db8::1"), at("2001:db8:1::1"), "x", "six"),
        ((ANY, PATTERN, LONGER, NAMED), HERE, THERE, "BRAS1", "named"),
        ((ANY, PATTERN, LONGER), HERE, THERE, "bras1", "longer"),
        ((ANY, PATTERN, LONGER), HERE, THERE, "bras11", "pattern"),
        ((ANY, PATTERN), HERE, THERE, "other", "pattern"),
        ((PATTERN, NAMED), HERE, THERE, "xbr", None),
        ((LnsSpec("odd", host_names=("a[bc]",)),), HERE, THERE, "ab", None),
        ((LnsSpec("odd", host_names=("a[bc]",)),), HERE, THERE, "a[bc]", "odd"),
        ((TEN, NAMED), HERE, THERE, "bras1", "ten"),
        ((NAMED, TEN), HERE, THERE, "bras1", "ten"),
        ((LnsSpec("first"), LnsSpec("second")), HERE, THERE, "x", "first"),
        ((LnsSpec("all4", listen=(at("0.0.0.0", 1702),)),), at("198.51.100.9", 1702), THERE, "x", "all4"),
        ((LnsSpec("all4", listen=(at("0.0.0.0"),)), LISTENS), HERE, THERE, "x", "listens"),
    ],
)
def test_the_most_specific_profile_is_chosen(
    specs: tuple[LnsSpec, ...], local: Peer, peer: Peer, name: str, chosen: str | None
) -> None:
    profile = Profiles(specs).choose(local, peer, name)
    assert (profile.name if profile is not None else None) == chosen


def test_profiles_by_name() -> None:
    profiles = Profiles((ANY, TEN))
    assert profiles.named("ten") is TEN
    assert profiles.named("nine") is None


addresses = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)


@given(addresses, addresses, st.data())
def test_a_prefix_holds_exactly_its_addresses(network: bytes, address: bytes, data: st.DataObject) -> None:
    length = data.draw(st.integers(0, 8 * len(network)))
    profiles = Profiles((LnsSpec("in", peers=((network, length),)), LnsSpec("out")))
    inside = len(network) == len(address) and (
        format(int.from_bytes(network, "big"), f"0{8 * len(network)}b")[:length]
        == format(int.from_bytes(address, "big"), f"0{8 * len(network)}b")[:length]
    )
    chosen = profiles.choose(HERE, (address, 1701), "x")
    assert chosen is not None
    assert chosen.name == ("in" if inside else "out")


def test_what_is_remembered_of_our_addresses_is_bounded() -> None:
    profiles = Profiles((ANY,))
    for number in range(5000):
        profiles.choose((number.to_bytes(4, "big"), 1701), THERE, "x")
    assert len(profiles._by_place) <= 1024
