"""Routing policy rules (`ip rule`), as far as they look at marks."""

import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from kl2tp.kernel import netns, rtnl
from kl2tp.kernel.netlink import Netlink, attributes

_GETRULE = 34
_PRIORITY, _MARK, _MASK = 6, 10, 16
_HEAD = 12
_ALL = 0xFFFFFFFF


class MarkRule(NamedTuple):
    """A rule for packets with some mark."""

    priority: int
    mark: int
    mask: int


def by_mark(name: str = "") -> list[MarkRule]:
    """The rules of a namespace that look at marks. Raises KernelError, NoNamespace."""
    with netns.entered(name):
        sock = Netlink(rtnl.NETLINK_ROUTE)
    with sock:
        return [rule for fam in (socket.AF_INET, socket.AF_INET6) for rule in _dump(sock, fam)]


def _dump(sock: Netlink, fam: int) -> Iterator[MarkRule]:
    for reply in sock.dump(_GETRULE, struct.pack("=B11x", fam)):
        fields = attributes(reply.payload, _HEAD)
        mark, mask = _number(fields.get(_MARK), 0), _number(fields.get(_MASK), _ALL)
        if _MARK in fields and mask:
            yield MarkRule(_number(fields.get(_PRIORITY), 0), mark, mask)


def _number(data: bytes | None, otherwise: int) -> int:
    return struct.unpack("=I", data)[0] if data is not None and len(data) == 4 else otherwise
