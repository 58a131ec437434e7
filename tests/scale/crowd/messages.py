"""The messages that callers send, packed once where possible; and what they look for in those they get."""

import hashlib
import struct
from collections.abc import Iterator

CONTROL = 0xC802
"""T, L and S bits, version 2."""
CONTROL_HEADER = struct.Struct("!HHHHHH")
SCCRQ, SCCRP, SCCCN, STOPCCN, HELLO, ICRQ, ICRP, ICCN, CDN = 1, 2, 3, 4, 6, 10, 11, 12, 14
_MESSAGE_TYPE, _RESULT, _VERSION, _FRAMING, _BEARER, _HOST_NAME = 0, 1, 2, 3, 4, 7
ASSIGNED_TUNNEL, WINDOW, CHALLENGE, _RESPONSE = 9, 10, 11, 13
ASSIGNED_SESSION, _SERIAL, _FRAMING_TYPE, _SPEED = 14, 15, 19, 24
_OUR_WINDOW = 32

LCP, PAP, CHAP, IPCP, IPV6CP, IPV4 = 0xC021, 0xC023, 0xC223, 0x8021, 0x8057, 0x0021
CONF_REQ, CONF_ACK, CONF_NAK, CONF_REJ, TERM_REQ, TERM_ACK = 1, 2, 3, 4, 5, 6
PROTOCOL_REJ, ECHO_REQ, ECHO_REP = 8, 9, 10
DATA = struct.Struct("!HHHHH")
"""Flags, tunnel, session, FF03, PPP protocol."""
PACKET = struct.Struct("!BBH")
"""Code, identifier, length."""


def avp(kind: int, value: bytes) -> bytes:
    """A mandatory AVP."""
    return struct.pack("!HHH", 0x8000 | (6 + len(value)), 0, kind) + value


def _message(kind: int, *avps: bytes) -> bytes:
    return b"".join((avp(_MESSAGE_TYPE, kind.to_bytes(2)), *avps))


def sccrq(tunnel: int, name: str) -> bytes:
    """Start-Control-Connection-Request."""
    return _message(
        SCCRQ,
        avp(_VERSION, b"\x01\x00"),
        avp(_FRAMING, b"\0\0\0\x03"),
        avp(_BEARER, b"\0\0\0\0"),
        avp(_HOST_NAME, name.encode()),
        avp(ASSIGNED_TUNNEL, tunnel.to_bytes(2)),
        avp(WINDOW, _OUR_WINDOW.to_bytes(2)),
    )


_SCCCN = _message(SCCCN)


def scccn(secret: bytes, challenge: bytes) -> bytes:
    """Start-Control-Connection-Connected; with the answer to a challenge."""
    if not challenge:
        return _SCCCN
    return _SCCCN + avp(_RESPONSE, hashlib.md5(bytes((SCCCN,)) + secret + challenge).digest())


def icrq(session: int, serial: int) -> bytes:
    """Incoming-Call-Request."""
    return _message(ICRQ, avp(ASSIGNED_SESSION, session.to_bytes(2)), avp(_SERIAL, serial.to_bytes(4)))


ICCN_MESSAGE = _message(ICCN, avp(_SPEED, (10**8).to_bytes(4)), avp(_FRAMING_TYPE, b"\0\0\0\x01"))


def cdn(session: int) -> bytes:
    """Call-Disconnect-Notify: administrative reasons."""
    return _message(CDN, avp(_RESULT, b"\0\x03"), avp(ASSIGNED_SESSION, session.to_bytes(2)))


def stopccn(tunnel: int) -> bytes:
    """Stop-Control-Connection-Notification: general request to clear."""
    return _message(STOPCCN, avp(ASSIGNED_TUNNEL, tunnel.to_bytes(2)), avp(_RESULT, b"\0\x01"))


def avps(data: bytes, at: int, end: int) -> dict[int, bytes]:
    """The AVPs of the IETF's between two places."""
    found = {}
    while at + 6 <= end:
        size, vendor, kind = struct.unpack_from("!HHH", data, at)
        if not vendor:
            found[kind] = data[at + 6 : at + (size & 0x3FF)]
        at += max(6, size & 0x3FF)
    return found


def result(found: dict[int, bytes]) -> str:
    """The Result Code AVP of a CDN or StopCCN for a person."""
    value = found.get(_RESULT, b"\0\0")
    error = int.from_bytes(value[2:4])
    return f"result {int.from_bytes(value[:2])}, error {error} {value[4:].decode(errors='replace')}".rstrip()


# -- PPP -------------------------------------------------------------------------------------------------------------


def packet(code: int, identifier: int, body: bytes = b"") -> bytes:
    """A PPP control packet without its protocol."""
    return PACKET.pack(code, identifier, 4 + len(body)) + body


def options(data: bytes, at: int, end: int) -> Iterator[tuple[int, bytes]]:
    """(type, value) of each configuration option between two places."""
    while at + 2 <= end:
        size = max(2, data[at + 1])
        yield data[at], data[at + 2 : at + size]
        at += size


def option(kind: int, value: bytes) -> bytes:
    """One configuration option."""
    return bytes((kind, 2 + len(value))) + value


def pap(name: bytes, secret: bytes) -> bytes:
    """PAP Authenticate-Request, identifier 1."""
    return packet(1, 1, bytes((len(name),)) + name + bytes((len(secret),)) + secret)


def chap(identifier: int, name: bytes, secret: bytes, challenge: bytes) -> bytes:
    """CHAP Response with MD5."""
    value = hashlib.md5(bytes((identifier,)) + secret + challenge).digest()
    return packet(2, identifier, b"\x10" + value + name)


def echo(source: bytes, destination: bytes, number: int, size: int) -> bytes:
    """An IPv4 packet with an ICMP echo request."""
    body = struct.pack("!HH", number & 0xFFFF, number >> 16) + bytes(size)
    icmp = struct.pack("!BBH", 8, 0, checksum(b"\x08\0" + body)) + body
    head = struct.pack("!HHIH", 0x4500, 20 + len(icmp), 0x4000, 64 << 8 | 1)
    return head + checksum(head + source + destination).to_bytes(2) + source + destination + icmp


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
