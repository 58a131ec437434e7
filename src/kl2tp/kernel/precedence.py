"""Which of several outbound SAs with one reqid the kernel takes: by itself the one that was made last.

That is too early while IKEv2 changes keys: charon as responder makes its new outbound SA before it answers, and the
peer can read what is sent with it only some time after it has the answer. Whatever is sent meanwhile is lost. So an SA
that is known to work is given precedence over those that come later, for as long as it exists: when it goes, the kernel
takes the next one at once, whether we live or not.

The kernel compares the times at which SAs were made, which can be set (XFRM_MSG_NEWAE). They are moved by the SA's
lifetime, since its successor comes within that; so its own end moves as well. That is no loss: charon ends a pair when
the inbound SA ends.
"""

import socket
import struct
import time
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from kl2tp.kernel import xfrm
from kl2tp.kernel.netlink import Message, Netlink, Reply, attr
from kl2tp.model.addr import family

Outbound: TypeAlias = tuple[bytes, int]
"""Destination and SPI."""

_NEWAE = 0x1E
_REPLACE = 0x100
_LIFETIME_NOW = 9
_EVENT = struct.Struct("=16s4sHBx16sII")
_USED = struct.Struct("=4Q")
_USED_AT, _HARD_AT = 160, 136
"""Offsets into an SA: octets, packets, made and first used at; the age at which it ends."""
_YEAR_S = 31_536_000
"""In place of the lifetime of what lives for ever."""


def prefer(sock: Netlink, some: Iterable[Outbound]) -> int:
    """Give these precedence over all that come after them; how many were found without."""
    return _move(sock, some, 1)


def level(sock: Netlink, some: Iterable[Outbound]) -> int:
    """Take their precedence from these; how many had it."""
    return _move(sock, some, -1)


def preferred(sock: Netlink) -> Iterator[Outbound]:
    """All that have precedence: nobody but us makes an SA that was made in the future."""
    soon = int(time.time()) + 1
    for reply in sock.dump(xfrm.GETSA, b""):
        data = reply.payload
        if data[76] == socket.IPPROTO_ESP and _USED.unpack_from(data, _USED_AT)[2] > soon:
            yield _destination(data), int.from_bytes(data[72:76])


def _move(sock: Netlink, some: Iterable[Outbound], direction: int) -> int:
    soon = int(time.time()) + 1
    found = [reply.payload for reply in sock.get(list(map(_get, some))) if isinstance(reply, Reply)]
    chosen = [data for data in found if (_USED.unpack_from(data, _USED_AT)[2] > soon) == (direction < 0)]
    sock.batch([_set(data, direction) for data in chosen])
    return len(chosen)


def _destination(data: bytes) -> bytes:
    return data[56 : 56 + (4 if _family(data) == socket.AF_INET else 16)]


def _get(outbound: Outbound) -> Message:
    destination, spi = outbound
    name = struct.pack("=16s4sHBx", destination, spi.to_bytes(4), family(destination), socket.IPPROTO_ESP)
    return Message(xfrm.GETSA, 0, name)


def _set(data: bytes, direction: int) -> Message:
    """The SA with its time of birth moved into the future, or back."""
    octets, packets, made, used = _USED.unpack_from(data, _USED_AT)
    lifetime = struct.unpack_from("=Q", data, _HARD_AT)[0] or _YEAR_S
    head = _EVENT.pack(data[56:72], data[72:76], _family(data), socket.IPPROTO_ESP, data[80:96], 0, 0)
    moved = _USED.pack(octets, packets, made + direction * lifetime, used)
    return Message(_NEWAE, _REPLACE, head + attr(_LIFETIME_NOW, moved))


def _family(data: bytes) -> int:
    found: int = struct.unpack_from("=H", data, 212)[0]
    return found
