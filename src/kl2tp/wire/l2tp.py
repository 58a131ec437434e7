"""The L2TPv2 header, RFC 2661 3.1: one for control messages, one with many options for data messages."""

import struct
from typing import NamedTuple

from kl2tp.wire.errors import HeaderError

CONTROL_HEADER = 12
"""Octets."""
VERSION = 2
_TYPE, _LENGTH, _SEQUENCE, _OFFSET = 0x8000, 0x4000, 0x0800, 0x0200
_VERSION_MASK = 0x000F
_CONTROL = _TYPE | _LENGTH | _SEQUENCE | VERSION
_CONTROL_MASK = _TYPE | _LENGTH | _SEQUENCE | _OFFSET | _VERSION_MASK
"""What is fixed in a control message. The other bits are reserved, to be ignored, and P, which means nothing there."""
_ADDRESS_AND_CONTROL = 0xFF03

_CONTROL_STRUCT = struct.Struct(">HHHHHH")
_WORD = struct.Struct(">H")
_PAIR = struct.Struct(">HH")
_DATA = struct.Struct(">HHHH")
_SEQUENCED_DATA = struct.Struct(">HHHHHH")


class ControlHeader(NamedTuple):
    """Where a control message belongs, and where it stands in the sequence."""

    tunnel_id: int
    session_id: int
    ns: int
    nr: int


class DataPacket(NamedTuple):
    """A data message; `payload` begins with the PPP protocol."""

    tunnel_id: int
    session_id: int
    ns: int | None
    nr: int | None
    payload: bytes


def is_control(data: bytes) -> bool:
    """Whether the T bit is set."""
    return bool(data) and data[0] > 0x7F


def peek_version(data: bytes) -> int:
    """The Ver field; 0 if there is none."""
    return data[1] & _VERSION_MASK if len(data) > 1 else 0


def decode_control(data: bytes) -> tuple[ControlHeader, bytes]:
    """Header and AVPs of a control message; no AVPs: a ZLB. What follows after its length is ignored."""
    if len(data) < CONTROL_HEADER:
        raise HeaderError(f"{len(data)} octets are no control message")
    flags, length, tunnel_id, session_id, ns, nr = _CONTROL_STRUCT.unpack_from(data)
    if flags & _CONTROL_MASK != _CONTROL:
        raise HeaderError(f"flags {flags:#06x} are not those of a control message")
    if not CONTROL_HEADER <= length <= len(data):
        raise HeaderError(f"the length says {length} octets, {len(data)} came")
    return ControlHeader(tunnel_id, session_id, ns, nr), data[CONTROL_HEADER:length]


def encode_control(tunnel_id: int, session_id: int, ns: int, nr: int, payload: bytes = b"") -> bytes:
    """A control message; without payload a ZLB."""
    length = CONTROL_HEADER + len(payload)
    return _CONTROL_STRUCT.pack(_CONTROL, length, tunnel_id, session_id, ns, nr) + payload


def decode_data(data: bytes) -> DataPacket:
    """A data message, with any of the optional fields; the offset and PPP's address and control field are skipped."""
    try:
        return _decode_data(data)
    except struct.error:
        raise HeaderError(f"a data message ends within its header, after {len(data)} octets") from None


def _decode_data(data: bytes) -> DataPacket:
    (flags,) = _WORD.unpack_from(data)
    if flags & (_TYPE | _VERSION_MASK) != VERSION:
        raise HeaderError(f"flags {flags:#06x} are not those of a data message")
    position, end = 2, len(data)
    if flags & _LENGTH:
        (end,) = _WORD.unpack_from(data, position)
        position += 2
    tunnel_id, session_id = _PAIR.unpack_from(data, position)
    position += 4
    ns: int | None = None
    nr: int | None = None
    if flags & _SEQUENCE:
        ns, nr = _PAIR.unpack_from(data, position)
        position += 4
    if flags & _OFFSET:
        (offset,) = _WORD.unpack_from(data, position)
        position += 2 + offset
    if not position <= end <= len(data):
        raise HeaderError(f"a data message of {end} octets with a header of {position}, {len(data)} came")
    if data.startswith(b"\xff\x03", position, end):
        position += 2
    return DataPacket(tunnel_id, session_id, ns, nr, data[position:end])


def encode_data(tunnel_id: int, session_id: int, payload: bytes, ns: int | None = None, *, nr: int = 0) -> bytes:
    """A data message as the kernel makes it: without length, with PPP's address and control field."""
    if ns is None:
        return _DATA.pack(VERSION, tunnel_id, session_id, _ADDRESS_AND_CONTROL) + payload
    return _SEQUENCED_DATA.pack(_SEQUENCE | VERSION, tunnel_id, session_id, ns, nr, _ADDRESS_AND_CONTROL) + payload
