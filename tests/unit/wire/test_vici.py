"""vici packets: as strongSwan's own Python codec has them, and nothing but one error for what is malformed."""

import contextlib
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vici.protocol import FiniteStream
from vici.protocol import Message as Theirs
from vici.protocol import Packet as TheirPacket

from kl2tp.wire.vici import (
    DEEPEST,
    LENGTH,
    Kind,
    ViciError,
    decode_message,
    decode_packet,
    encode_message,
    encode_packet,
    items,
    number,
    sections,
    text,
)

NAMES = st.text(min_size=1, max_size=40).filter(lambda name: len(name.encode()) <= 255)
VALUES = st.text(max_size=60)
MESSAGES: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=4), max_size=5),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)
EXAMPLE = {"version": "2", "local_addrs": ["10.0.0.1", "10.0.0.2"], "local-1": {"auth": "psk", "empty": {}}, "none": []}


@given(MESSAGES)
def test_messages_come_back_as_they_were(message: Any) -> None:
    assert decode_message(encode_message(message)) == message


@given(MESSAGES)
def test_strongswans_own_codec_agrees(message: Any) -> None:
    assert encode_message(message) == Theirs.serialize(message)
    theirs = Theirs.deserialize(FiniteStream(encode_message(message)))
    assert decode_message(Theirs.serialize(message)) == _as_text(theirs)


def _as_text(value: Any) -> Any:
    if isinstance(value, OrderedDict):
        return {key: _as_text(inner) for key, inner in value.items()}
    return [item.decode() for item in value] if isinstance(value, list) else value.decode()


def test_packets_are_what_strongswans_own_codec_makes() -> None:
    message = encode_message(EXAMPLE)
    assert encode_packet(Kind.REQUEST, "load-conn", EXAMPLE)[4:] == TheirPacket.request("load-conn", message)
    assert encode_packet(Kind.REGISTER, "log")[4:] == TheirPacket.register_event("log")
    assert encode_packet(Kind.UNREGISTER, "log")[4:] == TheirPacket.unregister_event("log")


def test_a_packet_has_its_length_in_front() -> None:
    packet = encode_packet(Kind.REQUEST, "version")
    assert LENGTH.unpack(packet[:4]) == (len(packet) - 4,)


def test_events_have_names_and_responses_have_none() -> None:
    message = encode_message(EXAMPLE)
    assert decode_packet(b"\x07\x03log" + message) == (Kind.EVENT, "log", message)
    assert decode_packet(b"\x01" + message) == (Kind.RESPONSE, "", message)


def test_every_truncation_is_an_error_or_ends_between_elements() -> None:
    message = encode_message(EXAMPLE)
    whole = [cut for cut in range(len(message)) if _decodes(message[:cut])]
    assert whole == [len(encode_message(dict(list(EXAMPLE.items())[:count]))) for count in range(len(EXAMPLE))]


def _decodes(data: bytes) -> bool:
    try:
        decode_message(data)
    except ViciError:
        return False
    return True


@given(st.binary(max_size=80))
def test_nothing_but_one_error_comes_out_of_nonsense(data: bytes) -> None:
    for decode in (decode_message, decode_packet):
        with contextlib.suppress(ViciError):
            decode(data)  # type: ignore[operator]


@pytest.mark.parametrize(
    "data",
    [
        b"\x09",  # no such element
        b"\x02",  # an end without a beginning
        b"\x05\x00\x01x",  # an item outside of a list
        b"\x01\x01s",  # a section without end
        b"\x04\x01l\x03\x01k\x00\x01v",  # a key in a list
        b"\x01\x01s" * (DEEPEST + 1) + b"\x02" * (DEEPEST + 1),
    ],
)
def test_malformed_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ViciError):
        decode_message(data)


@pytest.mark.parametrize("packet", [b"", b"\x08", b"\xff", b"\x07", b"\x07\x05log"])
def test_malformed_packets_are_refused(packet: bytes) -> None:
    with pytest.raises(ViciError):
        decode_packet(packet)


def test_what_is_not_text_gets_escapes() -> None:
    assert decode_message(b"\x03\x02id\x00\x03a\xffb") == {"id": "a\\xffb"}


@pytest.mark.parametrize("message", [{"k" * 256: ""}, {"": ""}, {"k": "v" * 65536}, {"l": ["v" * 65536]}])
def test_what_does_not_fit_is_refused(message: Any) -> None:
    with pytest.raises(ViciError):
        encode_message(message)


def test_a_packet_that_is_too_long_is_refused() -> None:
    with pytest.raises(ViciError, match="more than vici carries"):
        encode_packet(Kind.REQUEST, "load-conn", {f"k{n}": b"v" * 65535 for n in range(9)})


def test_received_sections_are_read_without_trust() -> None:
    section = decode_message(encode_message({"n": "17", "x": "ff", "l": ["a"], "s": {"in": {"k": "v"}, "n": "1"}}))
    assert (text(section, "n"), text(section, "l"), text(section, "no")) == ("17", "", "")
    assert (number(section, "n"), number(section, "x", 16), number(section, "no")) == (17, 255, 0)
    assert (items(section, "l"), items(section, "n")) == (("a",), ())
    assert (sections(section), sections(section, "s")) == ({"s": section["s"]}, {"in": {"k": "v"}})
    assert sections(section, "n") == {}
    with pytest.raises(ViciError, match="no number"):
        number(section, "x")
