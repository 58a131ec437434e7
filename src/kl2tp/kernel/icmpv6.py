"""The socket for router solicitations and advertisements (RFC 4861), on any interface of one network namespace."""

import socket
import struct
from collections.abc import Iterator

_ICMPV6_FILTER, _SOL_ICMPV6 = 1, 58
_ROUTER_SOLICITATION = 133
_HOP_LIMIT = 255
"""What the hop limit of every packet of neighbour discovery must be (RFC 4861 6.1)."""
_PKTINFO = struct.Struct("=16sI")
_HOPS = struct.Struct("=i")
_LARGEST = 1500
_BUFFER = 1 << 20


class RouterSocket:
    """Hears solicitations, sends advertisements. Needs CAP_NET_RAW. Raises OSError where there is no IPv6."""

    def __init__(self) -> None:
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = sock = socket.socket(socket.AF_INET6, flags, socket.IPPROTO_ICMPV6)
        try:
            sock.setsockopt(_SOL_ICMPV6, _ICMPV6_FILTER, _only(_ROUTER_SOLICITATION))
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, _HOP_LIMIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        except BaseException:
            sock.close()
            raise

    def fileno(self) -> int:
        """For an event loop."""
        return self._socket.fileno()

    def drain(self, limit: int) -> Iterator[tuple[bytes, bytes, int]]:
        """(message, source, index of the interface) of what has come, at most `limit`; what came from off the link,
        which the hop limit tells, is left out."""
        for _ in range(limit):
            try:
                data, ancillary, _, source = self._socket.recvmsg(_LARGEST, 128)
            except BlockingIOError:
                return
            index, hops = _told(ancillary)
            if index and hops == _HOP_LIMIT:
                yield data, socket.inet_pton(socket.AF_INET6, source[0].partition("%")[0]), index

    def send(self, message: bytes, source: bytes, destination: bytes, index: int) -> None:
        """Send through an interface; the kernel fills in the checksum. Raises OSError."""
        told = [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, _PKTINFO.pack(source, index))]
        address = (socket.inet_ntop(socket.AF_INET6, destination), 0, 0, index)
        self._socket.sendmsg([message], told, 0, address)

    def close(self) -> None:
        """Close it."""
        self._socket.close()


def _only(kind: int) -> bytes:
    """A filter (RFC 3542 3.2) that blocks all kinds of messages but one: a set bit blocks."""
    bits = [0xFFFFFFFF] * 8
    bits[kind >> 5] &= ~(1 << (kind & 31))
    return struct.pack("=8I", *bits)


def _told(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    """(index of the interface, hop limit)."""
    index = hops = 0
    for level, kind, data in ancillary:
        if level != socket.IPPROTO_IPV6:
            continue
        if kind == socket.IPV6_PKTINFO:
            _, index = _PKTINFO.unpack_from(data)
        elif kind == socket.IPV6_HOPLIMIT:
            (hops,) = _HOPS.unpack_from(data)
    return index, hops
