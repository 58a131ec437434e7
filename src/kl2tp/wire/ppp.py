"""PPP frames, control packets and their options, RFC 1661 2, 5 and 6, with the numbers of all protocols we speak.

A frame here is two octets of protocol and the information; address, control and FCS are L2TP's or the kernel's affair.
"""

import enum
import struct
from collections.abc import Iterable
from typing import TypeAlias

from kl2tp.wire.errors import ProtocolError

DEFAULT_MRU = 1500
"""Octets of information that every PPP implementation takes, RFC 1661 6.1."""
PACKET_HEADER = 4
"""Octets: code, identifier, length."""

Option: TypeAlias = tuple[int, bytes]
"""Type and value of a configuration option."""

_FRAME = struct.Struct(">HBBH")
_PACKET = struct.Struct(">BBH")


class Protocol(enum.IntEnum):
    """PPP protocol numbers."""

    IP = 0x0021
    IPV6 = 0x0057
    IPCP = 0x8021
    ECP = 0x8053
    IPV6CP = 0x8057
    CCP = 0x80FD
    LCP = 0xC021
    PAP = 0xC023
    QUALITY = 0xC025
    CHAP = 0xC223
    EAP = 0xC227


class Code(enum.IntEnum):
    """What a control packet is, RFC 1661 5; the last two RFC 1570. NCPs know the first seven."""

    CONFIGURE_REQUEST = 1
    CONFIGURE_ACK = 2
    CONFIGURE_NAK = 3
    CONFIGURE_REJECT = 4
    TERMINATE_REQUEST = 5
    TERMINATE_ACK = 6
    CODE_REJECT = 7
    PROTOCOL_REJECT = 8
    ECHO_REQUEST = 9
    ECHO_REPLY = 10
    DISCARD_REQUEST = 11
    IDENTIFICATION = 12
    TIME_REMAINING = 13


class LcpOption(enum.IntEnum):
    """RFC 1661 6 and 1662 7.1."""

    MRU = 1
    ACCM = 2
    AUTHENTICATION = 3
    QUALITY = 4
    MAGIC = 5
    PFC = 7
    ACFC = 8
    CALLBACK = 13


class IpcpOption(enum.IntEnum):
    """RFC 1332 3 and 1877."""

    ADDRESSES = 1
    COMPRESSION = 2
    ADDRESS = 3
    DNS1 = 129
    NBNS1 = 130
    DNS2 = 131
    NBNS2 = 132


class Ipv6cpOption(enum.IntEnum):
    """RFC 5072 4."""

    INTERFACE_IDENTIFIER = 1
    COMPRESSION = 2


class CcpOption(enum.IntEnum):
    """RFC 1962; what we say of it is that we have none."""

    MPPE = 18


def encode_packet(protocol: int, code: int, identifier: int, data: bytes = b"") -> bytes:
    """A frame with a control packet."""
    return _FRAME.pack(protocol, code, identifier, PACKET_HEADER + len(data)) + data


def decode_packet(information: bytes) -> tuple[int, int, bytes]:
    """Code, identifier and data of a control packet; what follows after its length is padding (5)."""
    size = len(information)
    if size < PACKET_HEADER:
        raise ProtocolError(f"{size} octets are no PPP control packet")
    code, identifier, length = _PACKET.unpack_from(information)
    if not PACKET_HEADER <= length <= size:
        raise ProtocolError(f"the length of a PPP packet says {length} octets, {size} came")
    return code, identifier, information[PACKET_HEADER:length]


def encode_option(kind: int, value: bytes = b"") -> bytes:
    """Type, length, value."""
    return bytes((kind, 2 + len(value))) + value


def decode_options(data: bytes) -> list[Option]:
    """The configuration options of a packet, in order, RFC 1661 6."""
    options: list[Option] = []
    position, end = 0, len(data)
    while position < end:
        if end - position < 2:
            raise ProtocolError("a PPP option ends within its header")
        length = data[position + 1]
        if length < 2 or position + length > end:
            raise ProtocolError(f"a PPP option of {length} octets where {end - position} are left")
        options.append((data[position], data[position + 2 : position + length]))
        position += length
    return options


def is_part(options: Iterable[Option], request: bytes) -> bool:
    """Whether these options stand in a request of ours, unchanged and in this order (RFC 1661 5.4)."""
    asked = iter(decode_options(request))
    return all(option in asked for option in options)
