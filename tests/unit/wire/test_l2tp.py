"""The L2TP header: byte for byte, every option, and whatever else may come."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.l2tp import L2TP

from kl2tp.wire import l2tp
from kl2tp.wire.errors import HeaderError
from unit.wire import captures

word = st.integers(0, 0xFFFF)
CONTROL = bytes.fromhex("c802 0010 0001 0002 0003 0004 deadbeef")

BROKEN_CONTROL = {
    "nothing": b"",
    "one octet short": CONTROL[:11],
    "no T bit": b"\x48" + CONTROL[1:],
    "no L bit": b"\x88" + CONTROL[1:],
    "no S bit": b"\xc0" + CONTROL[1:],
    "an offset": b"\xca" + CONTROL[1:],
    "version 1, L2F": b"\xc8\x01" + CONTROL[2:],
    "version 3": b"\xc8\x03" + CONTROL[2:],
    "shorter than its header": CONTROL[:2] + b"\0\x0b" + CONTROL[4:],
    "longer than the packet": CONTROL[:2] + b"\0\x11" + CONTROL[4:],
}

DATA = {
    "plain": ("0002 0001 0002 ff03 c021", (1, 2, None, None), "c021"),
    "without address and control field": ("0002 0001 0002 c021", (1, 2, None, None), "c021"),
    "length": ("4002 000a 0001 0002 c021", (1, 2, None, None), "c021"),
    "length, and a trailer": ("4002 000a 0001 0002 c021 ffff", (1, 2, None, None), "c021"),
    "sequenced": ("0802 0001 0002 0007 0008 ff03 c021", (1, 2, 7, 8), "c021"),
    "priority": ("0102 0001 0002 c021", (1, 2, None, None), "c021"),
    "offset 0": ("0202 0001 0002 0000 c021", (1, 2, None, None), "c021"),
    "offset 3": ("0202 0001 0002 0003 abcdef ff03 c021", (1, 2, None, None), "c021"),
    "all": ("4b02 0014 0001 0002 0007 0008 0002 abcd ff03 c021", (1, 2, 7, 8), "c021"),
    "reserved bits": ("34f2 0001 0002 c021", (1, 2, None, None), "c021"),
    "empty": ("0002 0001 0002", (1, 2, None, None), ""),
    "empty, and a trailer like a field": ("4002 0008 0001 0002 ff03", (1, 2, None, None), ""),
}

BROKEN_DATA = {
    "nothing": "",
    "one octet": "00",
    "control": "c802 000c 0001 0002 0003 0004",
    "version 3": "0003 0001 0002",
    "no session": "0002 0001",
    "no sequence": "0802 0001 0002 0007",
    "no offset": "0202 0001 0002",
    "offset beyond the end": "0202 0001 0002 0003 abcd",
    "length beyond the end": "4002 0009 0001 0002",
    "length within the header": "4002 0007 0001 0002 c021",
}


def test_a_control_header_is_read() -> None:
    assert l2tp.decode_control(CONTROL) == ((1, 2, 3, 4), b"\xde\xad\xbe\xef")


def test_a_control_header_is_written_with_reserved_bits_zero() -> None:
    assert l2tp.encode_control(1, 2, 3, 4, b"\xde\xad\xbe\xef") == CONTROL


@pytest.mark.parametrize("data", BROKEN_CONTROL.values(), ids=BROKEN_CONTROL.keys())
def test_a_broken_control_header_is_refused(data: bytes) -> None:
    with pytest.raises(HeaderError):
        l2tp.decode_control(data)


@pytest.mark.parametrize("bit", [0x2000, 0x1000, 0x0400, 0x0100, 0x80, 0x40, 0x20, 0x10])
def test_reserved_bits_of_a_control_header_are_ignored(bit: int) -> None:
    flags = (0xC802 | bit).to_bytes(2, "big")
    assert l2tp.decode_control(flags + CONTROL[2:]) == l2tp.decode_control(CONTROL)


def test_what_follows_a_control_message_is_ignored() -> None:
    assert l2tp.decode_control(CONTROL + b"trailer") == l2tp.decode_control(CONTROL)


def test_a_header_alone_is_a_zlb() -> None:
    header, payload = l2tp.decode_control(l2tp.encode_control(9, 0, 5, 6))
    assert header == (9, 0, 5, 6)
    assert payload == b""


@given(word, word, word, word, st.binary(max_size=100), st.binary(max_size=9))
def test_control_messages_come_back(tunnel: int, session: int, ns: int, nr: int, payload: bytes, rest: bytes) -> None:
    data = l2tp.encode_control(tunnel, session, ns, nr, payload)
    assert l2tp.decode_control(data + rest) == ((tunnel, session, ns, nr), payload)
    assert l2tp.is_control(data)
    assert l2tp.peek_version(data) == 2


@given(word, word, word, word)
def test_scapy_reads_the_same_control_header(tunnel: int, session: int, ns: int, nr: int) -> None:
    packet = L2TP(l2tp.encode_control(tunnel, session, ns, nr))
    assert (packet.tunnel_id, packet.session_id, packet.ns, packet.nr) == (tunnel, session, ns, nr)
    assert (packet.version, packet.len) == (2, 12)
    assert set(str(packet.hdr).split("+")) == {"control", "length", "sequence"}


def test_headers_of_xl2tpd_are_read() -> None:
    assert l2tp.decode_control(captures.SCCRQ)[0] == (0, 0, 0, 0)
    assert l2tp.decode_control(captures.ICCN)[0] == (0x411B, 0x4A07, 3, 2)


@pytest.mark.parametrize(("data", "header", "payload"), DATA.values(), ids=DATA.keys())
def test_a_data_header_is_read(data: str, header: tuple[int | None, ...], payload: str) -> None:
    assert l2tp.decode_data(bytes.fromhex(data)) == (*header, bytes.fromhex(payload))


@pytest.mark.parametrize("data", BROKEN_DATA.values(), ids=BROKEN_DATA.keys())
def test_a_broken_data_header_is_refused(data: str) -> None:
    with pytest.raises(HeaderError):
        l2tp.decode_data(bytes.fromhex(data))


def test_a_data_message_is_written_as_the_kernel_does() -> None:
    assert l2tp.encode_data(1, 2, b"\xc0\x21") == bytes.fromhex("0002 0001 0002 ff03 c021")
    assert l2tp.encode_data(1, 2, b"\xc0\x21", 7) == bytes.fromhex("0802 0001 0002 0007 0000 ff03 c021")


@given(word, word, st.none() | word, st.binary(max_size=100))
def test_data_messages_come_back(tunnel: int, session: int, ns: int | None, payload: bytes) -> None:
    data = l2tp.encode_data(tunnel, session, payload, ns, nr=5)
    assert l2tp.decode_data(data) == (tunnel, session, ns, None if ns is None else 5, payload)
    assert not l2tp.is_control(data)


def test_nothing_is_no_control_message_of_any_version() -> None:
    assert not l2tp.is_control(b"")
    assert l2tp.peek_version(b"\xc8") == 0


def test_the_first_octets_tell_kind_and_version() -> None:
    assert l2tp.is_control(b"\x80")
    assert not l2tp.is_control(b"\x7f")
    assert l2tp.peek_version(b"\xc8\xf3") == 3


@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda rest: b"\xc8\x02\0\x10" + rest))
def test_nonsense_raises_nothing_else(data: bytes) -> None:
    for decode in (l2tp.decode_control, l2tp.decode_data):
        with contextlib.suppress(HeaderError):
            decode(data)
