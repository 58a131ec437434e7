"""AVPs: how they lie in a message, and hiding, against the words of the RFC and against xl2tpd."""

import hashlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kl2tp.wire import avp
from kl2tp.wire.avp import Avp
from kl2tp.wire.errors import WRONG_LENGTH, MalformedMessage
from unit.wire import captures

attribute = st.integers(0, 0xFFFF)
some = st.binary(min_size=1, max_size=40)

BROKEN = {
    "less than a header": "8008 0000 00",
    "length 5": "8005 0000 0000",
    "length 0": "8000 0000 0000",
    "beyond the end": "8009 0000 0000 0001",
    "a second one too long": "8008 0000 0000 0001 800a 0000 0003 0000",
    "octets left over": "8008 0000 0000 0001 00",
}


def _hide_as_written(number: int, value: bytes, secret: bytes, vector: bytes) -> bytes:
    """RFC 2661 4.3, step by step."""
    plain = len(value).to_bytes(2, "big") + value
    segments = [plain[start : start + 16] for start in range(0, len(plain), 16)]
    b = hashlib.md5(number.to_bytes(2, "big") + secret + vector).digest()
    hidden = b""
    for segment in segments:
        c = bytes(p ^ k for p, k in zip(segment, b, strict=False))
        hidden += c
        b = hashlib.md5(secret + c).digest()
    return hidden


def test_avps_are_cut_in_order() -> None:
    payload = bytes.fromhex("8008 0000 0000 0001  0006 0009 0007  4007 0000 0008 ff")
    assert avp.split(payload) == [
        (0x8008, 0, 0, b"\0\1"),
        (0x0006, 9, 7, b""),
        (0x4007, 0, 8, b"\xff"),
    ]


@pytest.mark.parametrize("payload", BROKEN.values(), ids=BROKEN.keys())
def test_avps_that_cannot_be_told_apart_are_refused(payload: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        avp.split(bytes.fromhex(payload))
    assert caught.value.fatal
    assert caught.value.error == WRONG_LENGTH


def test_an_avp_has_up_to_1017_octets() -> None:
    data = avp.join(avp.MANDATORY, 7, bytes(1017))
    assert len(data) == 1023
    assert avp.split(data) == [(0x83FF, 0, 7, bytes(1017))]
    with pytest.raises(ValueError, match="1018 octets"):
        avp.join(avp.MANDATORY, 7, bytes(1018))


@given(st.lists(st.tuples(st.sampled_from((0, 0x8000, 0x4000, 0xC000)), attribute, st.binary(max_size=60))))
def test_avps_come_back(avps: list[tuple[int, int, bytes]]) -> None:
    payload = b"".join(avp.join(*one) for one in avps)
    assert [(word & ~0x3FF, number, value) for word, _, number, value in avp.split(payload)] == avps


@given(attribute, st.binary(max_size=100), some, some)
def test_hiding_is_what_the_rfc_says(number: int, value: bytes, secret: bytes, vector: bytes) -> None:
    assert avp.hide(number, value, secret, vector) == _hide_as_written(number, value, secret, vector)


@given(attribute, st.binary(max_size=900), some, some, st.binary(max_size=40))
def test_what_was_hidden_is_revealed(number: int, value: bytes, secret: bytes, vector: bytes, padding: bytes) -> None:
    assert avp.reveal(number, avp.hide(number, value, secret, vector, padding), secret, vector) == value


def test_what_xl2tpd_reveals_is_revealed() -> None:
    hidden = {number: value for word, _, number, value in avp.split(captures.HIDDEN_ICRQ) if word & avp.HIDDEN}
    revealed = {
        Avp(number): avp.reveal(number, value, captures.SECRET, captures.VECTOR) for number, value in hidden.items()
    }
    assert revealed == {
        Avp.ASSIGNED_SESSION_ID: b"\0\x58",
        Avp.CALL_SERIAL_NUMBER: b"\0\0\0\5",
        Avp.CALLING_NUMBER: b"12345678901234567890",
    }


@pytest.mark.parametrize("claimed", [3, 14, 255, 0xFFFF])
def test_a_revealed_length_beyond_the_octets_is_no_value(claimed: int) -> None:
    plain = claimed.to_bytes(2, "big") + b"ab"
    key = hashlib.md5(b"\0\7" + b"secret" + b"vector").digest()
    hidden = bytes(p ^ k for p, k in zip(plain, key, strict=False))
    assert avp.reveal(7, hidden, b"secret", b"vector") is None


@pytest.mark.parametrize("hidden", [b"", b"x"])
def test_a_hidden_value_without_a_length_is_none(hidden: bytes) -> None:
    assert avp.reveal(7, hidden, b"secret", b"vector") is None


@given(st.binary(max_size=100), some, some)
def test_nonsense_is_revealed_to_no_more_than_there_is(hidden: bytes, secret: bytes, vector: bytes) -> None:
    plain = avp.reveal(7, hidden, secret, vector)
    assert plain is None or len(plain) + 2 <= len(hidden)


@given(st.integers(0, avp.MAX_VALUE - 2))
@example(1006)
@example(1007)
@example(1015)
def test_padding_fills_the_block_and_no_more_than_fits(size: int) -> None:
    hidden = 2 + size + avp.padding(size)
    assert hidden <= avp.MAX_VALUE
    assert hidden % 16 == 0 or hidden == avp.MAX_VALUE


def test_equal_lengths_look_alike_when_hidden() -> None:
    assert {2 + size + avp.padding(size) for size in range(15)} == {16}
