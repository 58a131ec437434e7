"""vici, the protocol of strongSwan's charon: packets and the messages in them. Strict: what is cut off is an error.

A packet is its type, a name for some types, and a message: sections of keys with values, of lists, and of sections.
On the wire each packet has its length in front, 32 bits. Values are text to us; what charon says is ASCII mostly, and
an identity that is not gets escapes. Our own codec, because a truncated value must not pass for a whole one, and
nothing but one error may come out of a malformed reply.
"""

import enum
import struct
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeAlias

from kl2tp.wire.errors import ProtocolError

Section: TypeAlias = "dict[str, str | list[str] | Section]"
"""A message as received."""
Message: TypeAlias = "Mapping[str, str | bytes | Sequence[str | bytes] | Message]"
"""A message to send."""
NOTHING: Message = MappingProxyType({})
"""A message without content."""

LENGTH = struct.Struct(">I")
LONGEST_PACKET = 512 * 1024
"""Bytes; charon takes and sends no longer ones."""
LONGEST_NAME, LONGEST_VALUE = 255, 65535
DEEPEST = 16
"""Sections in sections that we take; charon sends four at most."""
_SIZE = struct.Struct(">H")


class ViciError(ProtocolError):
    """Bytes that are no vici, or a message that does not fit into it."""


class Kind(enum.IntEnum):
    """Packet types."""

    REQUEST = 0
    RESPONSE = 1
    UNKNOWN_COMMAND = 2
    REGISTER = 3
    UNREGISTER = 4
    CONFIRM = 5
    UNKNOWN_EVENT = 6
    EVENT = 7


_NAMED = frozenset((Kind.REQUEST, Kind.REGISTER, Kind.UNREGISTER, Kind.EVENT))
_SECTION, _SECTION_END, _KEY, _LIST, _ITEM, _LIST_END = range(1, 7)


def encode_packet(kind: Kind, name: str = "", message: Message = NOTHING) -> bytes:
    """A packet, with its length in front. Raises ViciError for what does not fit."""
    parts = [bytes((kind,))]
    if kind in _NAMED:
        parts.append(_name(name))
    if message:
        _encode(message, parts)
    packet = b"".join(parts)
    if len(packet) > LONGEST_PACKET:
        raise ViciError(f"a message of {len(packet)} bytes, more than vici carries")
    return LENGTH.pack(len(packet)) + packet


def encode_message(message: Message) -> bytes:
    """The message alone: the same bytes for the same content in the same order."""
    parts: list[bytes] = []
    _encode(message, parts)
    return b"".join(parts)


def _encode(message: Message, parts: list[bytes]) -> None:
    for name, value in message.items():
        if isinstance(value, Mapping):
            parts += (b"\x01", _name(name))
            _encode(value, parts)
            parts.append(b"\x02")
        elif isinstance(value, str | bytes):
            parts += (b"\x03", _name(name), _value(value))
        else:
            parts += (b"\x04", _name(name))
            for item in value:
                parts += (b"\x05", _value(item))
            parts.append(b"\x06")


def _name(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= LONGEST_NAME:
        raise ViciError(f"a name of {len(encoded)} bytes: vici carries 1 to {LONGEST_NAME}")
    return bytes((len(encoded),)) + encoded


def _value(value: str | bytes) -> bytes:
    encoded = value.encode() if isinstance(value, str) else value
    if len(encoded) > LONGEST_VALUE:
        raise ViciError(f"a value of {len(encoded)} bytes: vici carries {LONGEST_VALUE} at most")
    return _SIZE.pack(len(encoded)) + encoded


def decode_packet(packet: bytes) -> tuple[Kind, str, bytes]:
    """Type, name ("" for a type without) and the message of a packet without its length. Raises ViciError."""
    if not packet or packet[0] > Kind.EVENT:
        raise ViciError("a packet of no known type")
    kind = Kind(packet[0])
    if kind not in _NAMED:
        return kind, "", packet[1:]
    reader = _Reader(packet, 1)
    return kind, reader.name(), packet[reader.at :]


def decode_message(data: bytes) -> Section:
    """The content of a message. Raises ViciError."""
    reader = _Reader(data, 0)
    section: Section = {}
    above: list[Section] = []
    end = len(data)
    while reader.at < end:
        element = reader.byte()
        if element == _KEY:
            name = reader.name()
            section[name] = reader.value()
        elif element == _LIST:
            name = reader.name()
            section[name] = reader.items()
        elif element == _SECTION:
            if len(above) == DEEPEST:
                raise ViciError("sections nested too deep")
            above.append(section)
            outer, section = section, {}
            outer[reader.name()] = section
        elif element == _SECTION_END and above:
            section = above.pop()
        else:
            raise ViciError(f"element {element} where none may be")
    if above:
        raise ViciError("a section without end")
    return section


class _Reader:
    """Reads elements off bytes; every length is checked."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise ViciError("a message is cut off")
        self.at += 1
        return self.data[self.at - 1]

    def name(self) -> str:
        return self._text(self.byte())

    def value(self) -> str:
        if self.at + 2 > len(self.data):
            raise ViciError("a message is cut off")
        (length,) = _SIZE.unpack_from(self.data, self.at)
        self.at += 2
        return self._text(length)

    def items(self) -> list[str]:
        """The items of a list, and past its end."""
        found = []
        while (element := self.byte()) == _ITEM:
            found.append(self.value())
        if element != _LIST_END:
            raise ViciError(f"element {element} in a list")
        return found

    def _text(self, length: int) -> str:
        start = self.at
        self.at = end = start + length
        if end > len(self.data):
            raise ViciError("a message is cut off")
        return self.data[start:end].decode("utf-8", "backslashreplace")


# --- reading a received section without trust


def text(section: Section, name: str) -> str:
    """A key's value; "" where there is none, or something else."""
    value = section.get(name, "")
    return value if isinstance(value, str) else ""


def number(section: Section, name: str, base: int = 10) -> int:
    """A key's value as a number; 0 where there is none. Raises ViciError for a value that is no number."""
    value = text(section, name)
    try:
        return int(value, base) if value else 0
    except ValueError:
        raise ViciError(f"{name} is {value!r:.40}, no number") from None


def items(section: Section, name: str) -> tuple[str, ...]:
    """A list's items; () where there is none."""
    value = section.get(name, ())
    return tuple(value) if isinstance(value, list) else ()


def sections(section: Section, name: str = "") -> dict[str, Section]:
    """The sections in a section, or in the section called `name` there."""
    if name:
        inner = section.get(name)
        return sections(inner) if isinstance(inner, dict) else {}
    return {key: value for key, value in section.items() if isinstance(value, dict)}
