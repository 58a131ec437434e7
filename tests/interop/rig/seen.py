"""What could be seen of L2TPv2 on the wire: whether the ends really did what they were asked to."""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from kernel.rig.net import Host

_UDP = 17
_TYPE_BIT, _LENGTH_BIT, _SEQUENCE_BIT = 0x8000, 0x4000, 0x0800
_HIDDEN_BIT = 0x4000
CHALLENGE, RANDOM_VECTOR = 11, 36


class Avp(NamedTuple):
    """An AVP as it was sent."""

    attribute: int
    hidden: bool
    value: bytes


class Seen(NamedTuple):
    """One L2TP packet."""

    source: int
    """Number of the host that sent it."""
    control: bool
    sequenced: bool
    avps: tuple[Avp, ...]

    @property
    def message_type(self) -> int:
        """Of a control message; 0 of a ZLB."""
        return int.from_bytes(self.avps[0].value) if self.avps else 0


def packets(clear: Iterable[bytes]) -> Iterator[Seen]:
    """The L2TP packets among IPv4 packets."""
    for packet in clear:
        if packet[0] == 0x45 and packet[9] == _UDP:
            flags = int.from_bytes(packet[28:30])
            control = bool(flags & _TYPE_BIT)
            size = int.from_bytes(packet[30:32])
            avps = tuple(_avps(packet[40 : 28 + size])) if control else ()
            yield Seen(packet[15], control, bool(flags & _SEQUENCE_BIT), avps)


def _avps(data: bytes) -> Iterator[Avp]:
    while len(data) >= 6:
        flags, vendor, attribute = struct.unpack_from("!HHH", data)
        size = max(6, flags & 0x3FF)
        if not vendor:
            yield Avp(attribute, bool(flags & _HIDDEN_BIT), data[6:size])
        data = data[size:]


def attributes(seen: Iterable[Seen], host: Host, *, hidden: bool = False) -> set[int]:
    """What a host told; with `hidden` only what it hid."""
    return {
        avp.attribute
        for packet in seen
        if packet.source == host.number
        for avp in packet.avps
        if avp.hidden or not hidden
    }


def sequenced(seen: Iterable[Seen], host: Host) -> set[bool]:
    """Whether a host's data packets had sequence numbers: {True}, {False} or both."""
    return {packet.sequenced for packet in seen if packet.source == host.number and not packet.control}
