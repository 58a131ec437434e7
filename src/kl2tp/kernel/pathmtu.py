"""What passes to a peer in one piece: found by echo requests that must not be fragmented (RFC 4821's idea)."""

import contextlib
import errno
import os
import select
import socket
import struct
import time
from collections.abc import Callable

from kl2tp.kernel import netns
from kl2tp.model.addr import family, text
from kl2tp.model.value import dataclass

_ECHO = {socket.AF_INET: (8, 0), socket.AF_INET6: (128, 129)}
"""Types of request and reply."""
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _IPV6_DONTFRAG = 10, 23, 62
_PROBE = 3
"""IP_PMTUDISC_PROBE: never fragment, and never mind what the kernel believes of the path."""
_HEAD = struct.Struct("!BBHHH")
LEAST = {4: 68, 16: 1280}
"""The MTU that every path has, by the length of an address (RFC 791 3.2, RFC 8200 5)."""
_SMALL = 100
WAIT_S, TRIES, WHOLE_S = 0.6, 3, 20.0


@dataclass(frozen=True, slots=True)
class Probed:
    """What was found. Sizes are of whole IP packets, bytes."""

    answers: bool
    """Whether the peer answers a small one at all."""
    wanted: int
    passes: int = 0
    """The largest size that passes, of those up to `wanted`; 0: not known."""
    problem: str = ""
    """Why nothing could be found."""
    seconds: float = 0.0
    told: bool = False
    """Whether the path says that a packet is too big for it; otherwise it swallows it."""


def largest(passes: Callable[[int], bool], low: int, high: int) -> int:
    """The largest size that passes, where `low` does and `high` does not."""
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            low = middle
        else:
            high = middle
    return low


def probe(local: bytes, remote: bytes, wanted: int, netns_name: str = "") -> Probed:
    """See which packets up to `wanted` bytes get to a peer and back. Takes up to WHOLE_S."""
    began = time.monotonic()
    try:
        with contextlib.closing(_Echo(local, remote, netns_name, began + WHOLE_S)) as echo:
            return _search(echo, wanted, len(remote), began)
    except netns.NoNamespace as missing:
        return Probed(False, wanted, problem=str(missing))
    except OSError as error:
        return Probed(False, wanted, problem=os.strerror(error.errno or errno.EIO))


def _search(echo: "_Echo", wanted: int, family_bytes: int, began: float) -> Probed:
    if not echo.passes(_SMALL):
        return Probed(False, wanted, seconds=time.monotonic() - began)
    if echo.passes(wanted):
        return Probed(True, wanted, wanted, seconds=time.monotonic() - began)
    low = LEAST[family_bytes] if LEAST[family_bytes] > _SMALL else _SMALL
    found = largest(echo.passes, low, wanted) if wanted > low else 0
    problem = "there was not enough time to find the size" if echo.late else ""
    return Probed(True, wanted, 0 if echo.late else found, problem, time.monotonic() - began, echo.told)


class _Echo:
    """Sends echo requests of given sizes, and waits for the replies."""

    def __init__(self, local: bytes, remote: bytes, netns_name: str, until: float) -> None:
        self._family = socket.AddressFamily(family(remote))
        v6 = self._family == socket.AF_INET6
        self._overhead = (40 if v6 else 20) + _HEAD.size
        self._target = text(remote)
        self._until = until
        self._id, self._number = int.from_bytes(os.urandom(2)), 0
        self.late = False
        self.told = False
        with netns.entered(netns_name):
            protocol = socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP
            self._socket = socket.socket(self._family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        if v6:
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PROBE)
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
        else:
            self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PROBE)
        if any(local):
            self._socket.bind((text(local), 0))

    def close(self) -> None:
        self._socket.close()

    def passes(self, size: int) -> bool:
        """Whether a packet of this size gets there and back."""
        for _ in range(TRIES):
            if time.monotonic() > self._until:
                self.late = True
                return False
            self._number += 1
            try:
                self._socket.sendto(self._request(size), (self._target, 0))
            except OSError as error:
                if error.errno == errno.EMSGSIZE:
                    self.told = True
                    return False
                raise
            if self._answered():
                return True
        return False

    def _request(self, size: int) -> bytes:
        body = b"kl2tp".ljust(max(0, size - self._overhead), b".")
        kind = _ECHO[self._family][0]
        checksum = _checksum(_HEAD.pack(kind, 0, 0, self._id, self._number) + body)
        return _HEAD.pack(kind, 0, checksum, self._id, self._number) + body

    def _answered(self) -> bool:
        deadline = time.monotonic() + WAIT_S
        while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
            data, sender = self._socket.recvfrom(65536)
            if self._family == socket.AF_INET:
                data = data[(data[0] & 15) * 4 :]
            if len(data) < _HEAD.size or sender[0] != self._target:
                continue
            kind, _, _, number, sequence = _HEAD.unpack_from(data)
            if kind == _ECHO[self._family][1] and (number, sequence) == (self._id, self._number):
                return True
        return False


def _checksum(data: bytes) -> int:
    """RFC 1071; of ICMPv6 the kernel makes it anew."""
    even = data + bytes(len(data) & 1)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
