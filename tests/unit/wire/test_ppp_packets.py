"""PPP packets and options: hex tables, what is refused, and scapy as another opinion."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import ppp as scapy_ppp

from kl2tp.wire.errors import ProtocolError
from kl2tp.wire.ppp import (
    Code,
    Protocol,
    decode_options,
    decode_packet,
    encode_option,
    encode_packet,
    is_part,
)

PACKETS = [
    # (frame, protocol, code, identifier, data); options in the order in which pppd and Windows have them.
    ("c0210101001402060000000005 06a5b1c6d207020802", Protocol.LCP, 1, 1, "02060000000005 06a5b1c6d207020802"),
    ("80210101001603060000000081060000000083 0600000000", Protocol.IPCP, 1, 1, "030600000000810600000000830600000000"),
    ("c0210100001501040578 05061e7c5f1b070208020d0306", Protocol.LCP, 1, 0, "0104057805061e7c5f1b070208020d0306"),
    ("c021 0902000811223344", Protocol.LCP, 9, 2, "11223344"),
    ("c021 0503001075736572207265717565 7374", Protocol.LCP, 5, 3, "757365722072657175657374"),
    ("8057 0101000e010a0000000000000001", Protocol.IPV6CP, 1, 1, "010a0000000000000001"),
]
OPTIONS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=20)), max_size=12)


@pytest.mark.parametrize(("text", "protocol", "code", "identifier", "data"), PACKETS)
def test_packets_are_what_peers_send(text: str, protocol: int, code: int, identifier: int, data: str) -> None:
    frame = bytes.fromhex(text)
    assert encode_packet(protocol, code, identifier, bytes.fromhex(data)) == frame
    assert decode_packet(frame[2:]) == (code, identifier, bytes.fromhex(data))


@pytest.mark.parametrize(
    "information",
    ["", "01", "010100", "01010000", "01010003", "01010005", "01010006aa", "0101ffff"],
)
def test_packets_of_impossible_length_are_refused(information: str) -> None:
    with pytest.raises(ProtocolError):
        decode_packet(bytes.fromhex(information))


def test_what_follows_after_the_length_is_padding() -> None:
    assert decode_packet(b"\x09\x05\x00\x06abcdef") == (9, 5, b"ab")


@pytest.mark.parametrize("data", ["01", "0100", "0101", "010405", "0104057805", "010405780506112233"])
def test_options_of_impossible_length_are_refused(data: str) -> None:
    with pytest.raises(ProtocolError):
        decode_options(bytes.fromhex(data))


@given(OPTIONS)
def test_options_survive_the_way_there_and_back(options: list[tuple[int, bytes]]) -> None:
    assert decode_options(b"".join(encode_option(kind, value) for kind, value in options)) == options


@given(st.binary(max_size=60))
def test_options_that_are_taken_apart_can_be_put_together(data: bytes) -> None:
    try:
        options = decode_options(data)
    except ProtocolError:
        return
    assert b"".join(encode_option(kind, value) for kind, value in options) == data


@given(OPTIONS, st.data())
def test_a_part_in_order_is_a_part(options: list[tuple[int, bytes]], data: st.DataObject) -> None:
    request = b"".join(encode_option(kind, value) for kind, value in options)
    chosen = data.draw(st.lists(st.booleans(), min_size=len(options), max_size=len(options)))
    part = [option for option, taken in zip(options, chosen, strict=True) if taken]
    assert is_part(part, request)
    assert not is_part([*part, (256, b"")], request)


def test_what_is_turned_or_changed_is_no_part() -> None:
    request = encode_option(1, b"a") + encode_option(2, b"b")
    assert not is_part([(2, b"b"), (1, b"a")], request)
    assert not is_part([(1, b"b")], request)
    assert not is_part([(1, b"a"), (1, b"a")], request)


# -- scapy's view -----------------------------------------------------------------------------------------------------


def test_scapy_reads_our_lcp_requests() -> None:
    options = encode_option(1, b"\x05\x78") + encode_option(3, b"\xc2\x23\x81") + encode_option(5, b"\x11\x22\x33\x44")
    packet = scapy_ppp.PPP(encode_packet(Protocol.LCP, Code.CONFIGURE_REQUEST, 7, options))
    request = packet[scapy_ppp.PPP_LCP_Configure]
    assert (packet.proto, request.code, request.id) == (0xC021, 1, 7)
    mru, authentication, magic = request.options
    assert mru.max_recv_unit == 1400
    assert (authentication.auth_protocol, authentication.algorithm) == (0xC223, 0x81)
    assert magic.magic_number == 0x11223344


def test_scapy_reads_our_ipcp_requests() -> None:
    options = encode_option(3, b"\x0a\x09\0\5") + encode_option(129, b"\x0a\0\0\x35")
    packet = scapy_ppp.PPP(encode_packet(Protocol.IPCP, Code.CONFIGURE_NAK, 9, options))
    address, dns = packet[scapy_ppp.PPP_IPCP].options
    assert (packet[scapy_ppp.PPP_IPCP].code, address.data, dns.data) == (3, "10.9.0.5", "10.0.0.53")


@given(
    st.sampled_from([scapy_ppp.PPP_LCP_Terminate, scapy_ppp.PPP_LCP_Echo, scapy_ppp.PPP_LCP_Discard_Request]),
    st.integers(0, 255),
    st.binary(max_size=40),
)
def test_we_read_what_scapy_writes(kind: type, identifier: int, data: bytes) -> None:
    packet = kind(id=identifier, data=data)
    code, number, rest = decode_packet(bytes(packet))
    assert (code, number) == (packet.code, identifier)
    assert rest.endswith(data)


def test_we_read_options_that_scapy_writes() -> None:
    packet = scapy_ppp.PPP_LCP_Configure(
        id=3,
        options=[
            scapy_ppp.PPP_LCP_MRU_Option(max_recv_unit=1492),
            scapy_ppp.PPP_LCP_ACCM_Option(accm=0xA0000),
            scapy_ppp.PPP_LCP_Auth_Protocol_Option(auth_protocol=0xC023),
            scapy_ppp.PPP_LCP_Magic_Number_Option(magic_number=5),
        ],
    )
    code, identifier, data = decode_packet(bytes(packet))
    assert (code, identifier) == (Code.CONFIGURE_REQUEST, 3)
    assert decode_options(data) == [(1, b"\x05\xd4"), (2, b"\0\x0a\0\0"), (3, b"\xc0\x23"), (5, b"\0\0\0\5")]
