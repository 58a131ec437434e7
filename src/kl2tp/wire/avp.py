"""Attribute-value pairs, RFC 2661 4: their numbers, how they lie in a message, and how they are hidden (4.3)."""

import enum
import hashlib
import struct

from kl2tp.wire.errors import WRONG_LENGTH, MalformedMessage

MANDATORY, HIDDEN, RESERVED = 0x8000, 0x4000, 0x3C00
"""Bits of an AVP's first word; below them is its length."""
_LENGTH = 0x03FF
_HEADER = struct.Struct(">HHH")
_ATTRIBUTE = struct.Struct(">H")
HEADER = _HEADER.size
"""Octets: flags and length, vendor, attribute."""
MAX_VALUE = _LENGTH - HEADER
"""Octets."""
_LENGTH_FIELD = 2
"""Octets of the original length in a hidden value."""
_BLOCK = 16
"""Octets that MD5 gives."""


class Avp(enum.IntEnum):
    """Attributes of RFC 2661 4.4."""

    MESSAGE_TYPE = 0
    RESULT_CODE = 1
    PROTOCOL_VERSION = 2
    FRAMING_CAPABILITIES = 3
    BEARER_CAPABILITIES = 4
    TIE_BREAKER = 5
    FIRMWARE_REVISION = 6
    HOST_NAME = 7
    VENDOR_NAME = 8
    ASSIGNED_TUNNEL_ID = 9
    RECEIVE_WINDOW_SIZE = 10
    CHALLENGE = 11
    Q931_CAUSE_CODE = 12
    CHALLENGE_RESPONSE = 13
    ASSIGNED_SESSION_ID = 14
    CALL_SERIAL_NUMBER = 15
    MINIMUM_BPS = 16
    MAXIMUM_BPS = 17
    BEARER_TYPE = 18
    FRAMING_TYPE = 19
    CALLED_NUMBER = 21
    CALLING_NUMBER = 22
    SUB_ADDRESS = 23
    TX_CONNECT_SPEED = 24
    PHYSICAL_CHANNEL_ID = 25
    INITIAL_RECEIVED_LCP_CONFREQ = 26
    LAST_SENT_LCP_CONFREQ = 27
    LAST_RECEIVED_LCP_CONFREQ = 28
    PROXY_AUTHEN_TYPE = 29
    PROXY_AUTHEN_NAME = 30
    PROXY_AUTHEN_CHALLENGE = 31
    PROXY_AUTHEN_ID = 32
    PROXY_AUTHEN_RESPONSE = 33
    CALL_ERRORS = 34
    ACCM = 35
    RANDOM_VECTOR = 36
    PRIVATE_GROUP_ID = 37
    RX_CONNECT_SPEED = 38
    SEQUENCING_REQUIRED = 39


RawAvp = tuple[int, int, int, bytes]
"""Flags and length as they came, vendor, attribute, value (hidden if its H bit is set)."""


def split(payload: bytes) -> list[RawAvp]:
    """The AVPs of a message, in order. Raises MalformedMessage."""
    found: list[RawAvp] = []
    position, end = 0, len(payload)
    while position < end:
        if end - position < HEADER:
            raise MalformedMessage(f"{end - position} octets at the end are no AVP", WRONG_LENGTH)
        word, vendor, attribute = _HEADER.unpack_from(payload, position)
        after = position + (word & _LENGTH)
        if not position + HEADER <= after <= end:
            raise MalformedMessage(f"AVP {attribute} has a wrong length, {word & _LENGTH}", WRONG_LENGTH)
        found.append((word, vendor, attribute, payload[position + HEADER : after]))
        position = after
    return found


def join(flags: int, attribute: int, value: bytes) -> bytes:
    """One AVP of vendor 0, as it lies in a message."""
    size = len(value)
    if size > MAX_VALUE:
        raise ValueError(f"{size} octets are too many for AVP {attribute}")
    return _HEADER.pack(flags | HEADER + size, 0, attribute) + value


def hide(attribute: int, value: bytes, secret: bytes, vector: bytes, padding: bytes = b"") -> bytes:
    """A value as it is sent with the H bit: with its length, padding behind, enciphered."""
    plain = _ATTRIBUTE.pack(len(value)) + value + padding
    previous = _ATTRIBUTE.pack(attribute) + secret + vector
    blocks = []
    for position in range(0, len(plain), _BLOCK):
        block = _mix(plain[position : position + _BLOCK], previous)
        previous = secret + block
        blocks.append(block)
    return b"".join(blocks)


def reveal(attribute: int, hidden: bytes, secret: bytes, vector: bytes) -> bytes | None:
    """The value that was hidden; None if the length in front is none: another secret, or another message's vector."""
    previous = _ATTRIBUTE.pack(attribute) + secret + vector
    blocks = []
    for position in range(0, len(hidden), _BLOCK):
        block = hidden[position : position + _BLOCK]
        blocks.append(_mix(block, previous))
        previous = secret + block
    plain = b"".join(blocks)
    # The length is a cipher's output, so anything: it counts only if so many octets are there.
    end = _LENGTH_FIELD + int.from_bytes(plain[:_LENGTH_FIELD], "big")
    return plain[_LENGTH_FIELD:end] if _LENGTH_FIELD <= end <= len(plain) else None


def padding(size: int) -> int:
    """How many octets behind a value of `size` octets keep its length unknown: what fills the last block."""
    return min(-(_LENGTH_FIELD + size) % _BLOCK, MAX_VALUE - _LENGTH_FIELD - size)


def _mix(block: bytes, key: bytes) -> bytes:
    """Exclusive or with the digest of the key."""
    size = len(block)
    digest = hashlib.md5(key, usedforsecurity=False).digest()
    return (int.from_bytes(block, "big") ^ int.from_bytes(digest[:size], "big")).to_bytes(size, "big")
