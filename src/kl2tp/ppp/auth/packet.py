"""Packets of PAP (RFC 1334 2), CHAP (RFC 1994 4) and EAP (RFC 3748 4): code, identifier, length and data."""

import struct

from kl2tp.wire.errors import ProtocolError

HEADER = struct.Struct(">BBH")
_LONGEST_VALUE = 255


def encode(code: int, identifier: int, data: bytes = b"") -> bytes:
    """A packet."""
    return HEADER.pack(code, identifier, HEADER.size + len(data)) + data


def decode(information: bytes) -> tuple[int, int, bytes]:
    """Code, identifier and data; what is beyond the length is padding. Raises ProtocolError."""
    if len(information) < HEADER.size:
        raise ProtocolError("the packet is shorter than its header")
    code, identifier, length = HEADER.unpack_from(information)
    if not HEADER.size <= length <= len(information):
        raise ProtocolError("the packet's length is not its own")
    return code, identifier, information[HEADER.size : length]


def pack_value(value: bytes) -> bytes:
    """At most 255 bytes with their number in front: names and passwords of PAP, values of CHAP."""
    if len(value) > _LONGEST_VALUE:
        raise ValueError(f"a name or secret of {len(value)} bytes is longer than PPP can say ({_LONGEST_VALUE})")
    return bytes((len(value),)) + value


def unpack_value(data: bytes) -> tuple[bytes, bytes]:
    """The value at the front, and what follows it. Raises ProtocolError."""
    if not data or len(data) <= data[0]:
        raise ProtocolError("a value is cut short")
    end = 1 + data[0]
    return data[1:end], data[end:]
