"""Decoders given nonsense: they say so with the errors that the event monitor takes, and always come to an end."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.corpus import messages
from fuzz.targets import DECODERS, NONSENSE, TARGETS
from kl2tp.kernel import netlink

PAYLOADS = [message.payload for message in messages()]
attribute = st.tuples(st.integers(0, 40), st.binary(max_size=24)).map(lambda pair: netlink.attr(*pair))
plausible = st.builds(
    lambda head, parts: head + b"".join(parts), st.binary(min_size=4, max_size=224), st.lists(attribute, max_size=8)
)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@given(data=st.one_of(st.binary(max_size=300), plausible))
@settings(max_examples=30)
def test_no_decoder_fails_on_anything(target: Callable[[bytes], None], data: bytes) -> None:
    target(data)


@pytest.mark.parametrize("name", TARGETS)
def test_no_decoder_fails_on_a_message_cut_short(name: str) -> None:
    # The messages are netlink's; for other decoders they are noise, and their own tests cut what they read.
    step = 1 if name in DECODERS or name.startswith("netlink.") else 13
    for payload in PAYLOADS:
        for length in range(0, len(payload), step):
            TARGETS[name](payload[:length])


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_decoder_fails_on_a_damaged_message(target: Callable[[bytes], None]) -> None:
    chance = random.Random(1701)
    for payload in PAYLOADS:
        for _ in range(40):
            damaged = bytearray(payload)
            for _ in range(chance.randint(1, 4)):
                damaged[chance.randrange(len(damaged))] = chance.choice((0, 1, 3, 4, 127, 255, chance.randrange(256)))
            target(bytes(damaged))


def test_what_decoders_raise_is_what_the_event_monitor_catches() -> None:
    raised = set()
    for decode in DECODERS.values():
        for payload in (b"", b"\1", bytes(30), b"\xff" * 300):
            try:
                decode(payload)
            except NONSENSE as error:
                raised.add(type(error))
    assert raised <= set(NONSENSE)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40)), max_size=10))
def test_attributes_are_read_as_written(pairs: list[tuple[int, bytes]]) -> None:
    buffer = b"".join(netlink.attr(kind, data) for kind, data in pairs)
    assert list(netlink.attribute_list(buffer)) == pairs
    assert netlink.attributes(buffer) == dict(pairs)
    assert netlink.attributes(b"head" + buffer, 4) == dict(pairs)


@pytest.mark.parametrize("size", range(4))
def test_an_attribute_shorter_than_its_header_ends_the_list(size: int) -> None:
    assert netlink.attributes(netlink.u8(1, 7) + bytes((size, 0, 1, 0)) + netlink.u8(2, 7)) == {1: b"\7"}


@pytest.mark.parametrize("size", range(16))
def test_a_message_shorter_than_its_header_ends_the_datagram(size: int) -> None:
    assert list(netlink.messages(bytes((size, 0, 0, 0)) + bytes(40))) == []
