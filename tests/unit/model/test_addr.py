"""Addresses as packed bytes: text and back, networks, what is refused."""

import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.model import addr

packed = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))


@given(packed)
def test_text_is_parsed_back(address: bytes) -> None:
    assert addr.parse(addr.text(address)) == address


@given(packed)
def test_text_is_canonical(address: bytes) -> None:
    if address[:12] != bytes(10) + b"\xff\xff":  # ipaddress writes IPv4-mapped ones otherwise
        assert ipaddress.ip_address(addr.text(address)) == ipaddress.ip_address(address)


def test_the_empty_address_has_no_text() -> None:
    assert addr.text(b"") == ""


@given(packed, st.data())
def test_a_network_has_no_host_bits(address: bytes, data: st.DataObject) -> None:
    plen = data.draw(st.integers(0, len(address) * 8))
    network = addr.network(address, plen)
    expected = ipaddress.ip_network((address, plen), strict=False).network_address.packed
    assert network == expected
    assert addr.prefix(network, plen) == f"{addr.text(expected)}/{plen}"


def test_the_length_tells_the_family() -> None:
    assert addr.family(bytes(4)) == socket.AF_INET
    assert addr.family(bytes(16)) == socket.AF_INET6


@pytest.mark.parametrize(
    "text",
    ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "010.1.1.1", "fe80::1%eth0", "1.2.3.4:53", "[::1]", "::1/64", "x", "1\0"],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not an IPv4 or IPv6 address"):
        addr.parse(text)
