"""Router solicitations and advertisements: RFC 4861 4.1, 4.2 and 4.6, with name servers as in RFC 8106."""

import struct

from kl2tp.model.value import dataclass
from kl2tp.wire.errors import ProtocolError

ROUTER_SOLICITATION, ROUTER_ADVERTISEMENT = 133, 134
ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
UNSPECIFIED = bytes(16)
NEXT_HEADER = 58
"""ICMPv6 in the header of IPv6."""
HOP_LIMIT = 255
"""Of every packet of neighbour discovery: it shows that no router has forwarded it (6.1)."""
INFINITE = 0xFFFFFFFF
"""A lifetime."""

_SOURCE_LINK_ADDRESS, _PREFIX, _MTU, _RDNSS = 1, 3, 5, 25
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_MANAGED, _OTHER = 0x80, 0x40
_UNIT = 8
"""Octets in which the length of an option is counted."""
_HEADER = struct.Struct(">BBHI")
_ADVERTISEMENT = struct.Struct(">BBHBBHII")
_PREFIX_OPTION = struct.Struct(">BBBBIII16s")
_MTU_OPTION = struct.Struct(">BBHI")
_RDNSS_OPTION = struct.Struct(">BBHI")
_IPV6 = struct.Struct(">IHBB16s16s")
_PSEUDO_HEADER = struct.Struct(">16s16sII")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix of which the peer may make itself addresses, 4.6.2."""

    prefix: bytes
    """16 octets."""
    length: int
    """Bits; to make addresses of it, it must be 64."""
    valid: int = 2592000
    """Seconds."""
    preferred: int = 604800
    on_link: bool = True
    autonomous: bool = True


@dataclass(frozen=True, slots=True)
class RouterAdvertisement:
    """What we tell the peer of its network, 4.2."""

    prefixes: tuple[Prefix, ...] = ()
    mtu: int = 0
    """Of the link; 0: not told."""
    dns: tuple[bytes, ...] = ()
    """Addresses of name servers, 16 octets each."""
    dns_lifetime: int = 1800
    """Seconds; RFC 8106 5.1 wants three times the interval of the advertisements."""
    lifetime: int = 1800
    """For how many seconds we are a default router; 0: we are none."""
    hop_limit: int = 64
    managed: bool = False
    """There are addresses by DHCPv6..."""
    other: bool = False
    """...and other configuration."""


def encode_advertisement(advertisement: RouterAdvertisement) -> bytes:
    """The ICMPv6 message, with a checksum of 0: raw sockets fill it in, and `with_checksum` does."""
    flags = _MANAGED * advertisement.managed | _OTHER * advertisement.other
    head = (ROUTER_ADVERTISEMENT, 0, 0, advertisement.hop_limit, flags, advertisement.lifetime, 0, 0)
    options = b"".join(_encode_prefix(prefix) for prefix in advertisement.prefixes)
    if advertisement.mtu:
        options += _MTU_OPTION.pack(_MTU, 1, 0, advertisement.mtu)
    if dns := advertisement.dns:
        options += _RDNSS_OPTION.pack(_RDNSS, 1 + 2 * len(dns), 0, advertisement.dns_lifetime) + b"".join(dns)
    return _ADVERTISEMENT.pack(*head) + options


def _encode_prefix(prefix: Prefix) -> bytes:
    flags = _ON_LINK * prefix.on_link | _AUTONOMOUS * prefix.autonomous
    return _PREFIX_OPTION.pack(_PREFIX, 4, prefix.length, flags, prefix.valid, prefix.preferred, 0, prefix.prefix)


def decode_solicitation(message: bytes, source: bytes) -> list[tuple[int, bytes]]:
    """The options of a router solicitation that is valid by 6.1.1. Hop limit and checksum are looked at by whoever
    has the packet around it."""
    if len(message) < _HEADER.size:
        raise ProtocolError(f"{len(message)} octets are no router solicitation")
    kind, code, _, _ = _HEADER.unpack_from(message)
    if kind != ROUTER_SOLICITATION or code != 0:
        raise ProtocolError(f"ICMPv6 type {kind}, code {code} is no router solicitation")
    options = _decode_options(message, _HEADER.size)
    if source == UNSPECIFIED and any(kind == _SOURCE_LINK_ADDRESS for kind, _ in options):
        raise ProtocolError("a router solicitation from nowhere has a link-layer address")
    return options


def _decode_options(message: bytes, position: int) -> list[tuple[int, bytes]]:
    options: list[tuple[int, bytes]] = []
    while position < len(message):
        length = message[position + 1] * _UNIT if position + 1 < len(message) else 0
        if not length or position + length > len(message):
            raise ProtocolError("an option of neighbour discovery has an impossible length")
        options.append((message[position], message[position + 2 : position + length]))
        position += length
    return options


def checksum(message: bytes, source: bytes, destination: bytes) -> int:
    """The checksum of RFC 4443 2.3; over a message that has a right one already, 0."""
    data = _PSEUDO_HEADER.pack(source, destination, len(message), NEXT_HEADER) + message
    if len(data) % 2:
        data += b"\0"
    # The sum of 16-bit words, carries folded back, is the remainder by 65,535 of the whole as one number.
    rest = int.from_bytes(data, "big") % 0xFFFF
    return ~rest & 0xFFFF if rest else 0


def with_checksum(message: bytes, source: bytes, destination: bytes) -> bytes:
    """A message whose checksum is 0, with the right one."""
    return message[:2] + checksum(message, source, destination).to_bytes(2, "big") + message[4:]


def encode_packet(message: bytes, source: bytes, destination: bytes) -> bytes:
    """An IPv6 packet of neighbour discovery, with the checksum."""
    header = _IPV6.pack(6 << 28, len(message), NEXT_HEADER, HOP_LIMIT, source, destination)
    return header + with_checksum(message, source, destination)
