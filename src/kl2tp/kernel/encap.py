"""Sockets that receive ESP in UDP (RFC 3948), for tunnels with static keys behind NAT.

The kernel decapsulates, but only where a process holds a UDP socket that is marked for it. So these sockets are the
one thing in the data path that ends with its holder: the daemon leaves them with systemd, which gives them back to the
next start. Whatever else arrives on them (keep-alives, IKE) is dropped by a filter: nobody reads it.
"""

import ctypes
import errno
import socket
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kl2tp.kernel import netns
from kl2tp.kernel.netlink import KernelError
from kl2tp.model.addr import family, text
from kl2tp.model.spec import TunnelSpec

_UDP_ENCAP, _ESP_IN_UDP = 100, 2
_SO_ATTACH_FILTER = 26
_BPF_RETURN = 0x06


@dataclass(frozen=True, slots=True, order=True)
class EncapPoint:
    """Where encapsulated ESP arrives."""

    netns: str
    address: bytes
    port: int

    @property
    def name(self) -> str:
        """A name that systemd takes for a descriptor: no colon, no control character."""
        return f"encap/{self.netns}/{self.address.hex()}/{self.port}"


def points(specs: Iterable[TunnelSpec]) -> set[EncapPoint]:
    """Where the tunnels expect encapsulated ESP."""
    return {
        EncapPoint(spec.netns, spec.local, spec.ipsec.nat_local_port)
        for spec in specs
        if spec.ipsec and spec.ipsec.nat_local_port
    }


def open_point(point: EncapPoint) -> socket.socket:
    """A socket at which the kernel takes ESP out of UDP. Raises KernelError, NoNamespace."""
    with netns.entered(point.netns):
        sock = socket.socket(family(point.address), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((text(point.address), point.port))
        sock.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, _ESP_IN_UDP)
        _drop_everything(sock)
    except OSError as error:
        sock.close()
        code = error.errno or errno.EIO
        raise KernelError(code, f"receiving ESP at {text(point.address)} port {point.port}") from None
    return sock


def _drop_everything(sock: socket.socket) -> None:
    """A filter that accepts nothing: it runs after decapsulation, so ESP never meets it."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", _BPF_RETURN, 0, 0, 0))
    header = struct.pack("@HP", 1, ctypes.addressof(program))
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


class EncapSockets:
    """The sockets of all points that are needed now."""

    def __init__(self, inherited: Mapping[str, list[int]]) -> None:
        """`inherited`: descriptors by name that an earlier holder left; those of other names are not touched."""
        self._left = {name: fds for name, fds in inherited.items() if name.startswith("encap/")}
        self._open: dict[EncapPoint, socket.socket] = {}

    def change(
        self, wanted: set[EncapPoint]
    ) -> tuple[dict[EncapPoint, int], set[EncapPoint], dict[EncapPoint, Exception]]:
        """Open and close as needed: (opened with their descriptors, closed, failed with the reason)."""
        closed = self._open.keys() - wanted
        for point in closed:
            self._open.pop(point).close()
        opened: dict[EncapPoint, int] = {}
        failed: dict[EncapPoint, Exception] = {}
        for point in sorted(wanted - self._open.keys()):
            fds = self._left.pop(point.name, [])
            if fds:
                self._open[point] = socket.socket(fileno=fds[0])
                continue
            try:
                self._open[point] = open_point(point)
                opened[point] = self._open[point].fileno()
            except (KernelError, netns.NoNamespace) as error:
                failed[point] = error
        return opened, set(closed), failed

    def close(self) -> None:
        for sock in self._open.values():
            sock.close()
        self._open.clear()
