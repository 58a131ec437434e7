"""Router solicitations and advertisements, with scapy as another opinion."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers import inet6

from kl2tp.wire import icmpv6
from kl2tp.wire.errors import ProtocolError
from kl2tp.wire.icmpv6 import Prefix, RouterAdvertisement


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


ROUTER, HOST = packed("fe80::1"), packed("fe80::b2")
PREFIX, DNS = packed("2001:db8:5::"), packed("2001:db8::53")
WHOLE = RouterAdvertisement((Prefix(PREFIX, 64),), 1400, (DNS, packed("2001:db8::54")), managed=True)


def test_an_advertisement_octet_by_octet() -> None:
    expected = (
        "8600 0000 40 80 0708 00000000 00000000"
        "0304 40c0 00278d00 00093a80 00000000 20010db8000500000000000000000000"
        "0501 0000 00000578"
        "1905 0000 00000708 20010db8000000000000000000000053 20010db8000000000000000000000054"
    )
    assert icmpv6.encode_advertisement(WHOLE) == bytes.fromhex(expected)


def test_an_advertisement_of_nothing() -> None:
    message = icmpv6.encode_advertisement(RouterAdvertisement(lifetime=0))
    assert message == bytes.fromhex("86000000 40000000 00000000 00000000")


def test_scapy_reads_it() -> None:
    packet = inet6.IPv6(icmpv6.encode_packet(icmpv6.encode_advertisement(WHOLE), ROUTER, icmpv6.ALL_NODES))
    assert (packet.src, packet.dst, packet.hlim, packet.nh) == ("fe80::1", "ff02::1", 255, 58)
    advertisement = packet[inet6.ICMPv6ND_RA]
    assert (advertisement.chlim, advertisement.M, advertisement.O, advertisement.routerlifetime) == (64, 1, 0, 1800)
    prefix = packet[inet6.ICMPv6NDOptPrefixInfo]
    assert (prefix.prefix, prefix.prefixlen, prefix.L, prefix.A) == ("2001:db8:5::", 64, 1, 1)
    assert (prefix.validlifetime, prefix.preferredlifetime) == (2592000, 604800)
    assert packet[inet6.ICMPv6NDOptMTU].mtu == 1400
    servers = packet[inet6.ICMPv6NDOptRDNSS]
    assert (servers.lifetime, servers.dns) == (1800, ["2001:db8::53", "2001:db8::54"])


@given(st.binary(max_size=67), st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_the_checksum_is_that_of_scapy(data: bytes, source: bytes, destination: bytes) -> None:
    message = bytes((134, 0, 0, 0)) + data
    header = inet6.IPv6(src=socket.inet_ntop(10, source), dst=socket.inet_ntop(10, destination), nh=58)
    assert icmpv6.checksum(message, source, destination) == inet6.in6_chksum(58, header, message)


@given(st.binary(min_size=4, max_size=68))
def test_a_message_with_its_checksum_sums_up_to_nothing(data: bytes) -> None:
    message = icmpv6.with_checksum(data[:2] + b"\0\0" + data[4:], ROUTER, HOST)
    assert icmpv6.checksum(message, ROUTER, HOST) == 0


def solicitation(*options: bytes) -> bytes:
    return bytes.fromhex("8500000000000000") + b"".join(options)


LINK_ADDRESS = bytes.fromhex("0101112233445566")


@pytest.mark.parametrize(
    ("message", "source", "options"),
    [
        (solicitation(), HOST, []),
        (solicitation(), icmpv6.UNSPECIFIED, []),
        (solicitation(LINK_ADDRESS), HOST, [(1, LINK_ADDRESS[2:])]),
        (solicitation(b"\x63\x02" + bytes(14), LINK_ADDRESS), HOST, [(99, bytes(14)), (1, LINK_ADDRESS[2:])]),
        (bytes(inet6.ICMPv6ND_RS() / inet6.ICMPv6NDOptSrcLLAddr(lladdr="1:2:3:4:5:6")), HOST, [(1, b"\1\2\3\4\5\6")]),
    ],
)
def test_solicitations_are_read(message: bytes, source: bytes, options: list[tuple[int, bytes]]) -> None:
    assert icmpv6.decode_solicitation(message, source) == options


@pytest.mark.parametrize(
    ("message", "source"),
    [
        (b"", HOST),
        (solicitation()[:7], HOST),
        (b"\x86" + solicitation()[1:], HOST),
        (b"\x85\x01" + solicitation()[2:], HOST),
        (solicitation(b"\x01\x00" + bytes(6)), HOST),
        (solicitation(b"\x01\x02" + bytes(6)), HOST),
        (solicitation(b"\x01"), HOST),
        (solicitation(LINK_ADDRESS), icmpv6.UNSPECIFIED),
    ],
)
def test_what_is_no_valid_solicitation_is_refused(message: bytes, source: bytes) -> None:
    with pytest.raises(ProtocolError):
        icmpv6.decode_solicitation(message, source)
