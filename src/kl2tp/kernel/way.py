"""The way from here to a peer, as this host knows it: address, route, device, next hop."""

import errno
import os
import socket
import struct
from collections.abc import Iterator

from kl2tp.kernel import rtnl
from kl2tp.kernel.host import Host
from kl2tp.kernel.netlink import KernelError, Message, Reply, attr, attributes
from kl2tp.model.addr import family, text
from kl2tp.model.value import dataclass

_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_RTM_GETNEIGH = 30
_DST, _SRC, _OIF, _GATEWAY, _PREFSRC, _METRICS = 1, 2, 4, 5, 7, 8
_RTAX_MTU, _NDA_DST = 2, 1
_IFLA_CARRIER = 33
_LOCAL = 2
_STATES = ((0xC2, "reachable"), (0x1C, "known"), (0x01, "asked"), (0x20, "does not answer"))
"""Of a neighbour, by the kernel's bits."""


@dataclass(frozen=True, slots=True)
class Way:
    """How packets from here get to a peer."""

    has_local: bool = True
    """Whether our address is configured on this host."""
    holder: str = ""
    """The device that has it."""
    holder_up: bool = True
    problem: str = ""
    """Why there is no route."""
    device: str = ""
    """Through which packets leave."""
    device_up: bool = True
    carrier: bool = True
    device_mtu: int = 0
    gateway: bytes = b""
    source: bytes = b""
    mtu: int = 0
    """What the kernel believes to pass; less than the device's where it has learned of something narrower."""
    neighbour: str = ""
    """`reachable`, `known`, `asked`, `does not answer`; "" where that is not known."""
    here: bool = False
    """The peer is this host itself."""


def look(host: Host, local: bytes, remote: bytes) -> Way:
    """The way to a peer; an empty local address is any."""
    holder = _holder(host, local) if any(local) else None
    if any(local) and holder is None:
        return Way(has_local=False, problem="the local address is not configured on this host")
    name, up = (holder.name, holder.up) if holder else ("", True)
    request = _RTMSG.pack(family(remote), len(remote) * 8, len(local) * 8 if any(local) else 0, 0, 0, 0, 0, 0, 0)
    request += attr(_DST, remote) + (attr(_SRC, local) if any(local) else b"")
    reply = host.route.get([Message(rtnl.RTM_GETROUTE, 0, request)])[0]
    if isinstance(reply, KernelError):
        return Way(holder=name, holder_up=up, problem=_words(reply, remote))
    return _along(host, reply, remote, name, holder_up=up)


def _along(host: Host, reply: Reply, remote: bytes, holder: str, *, holder_up: bool) -> Way:
    kind = _RTMSG.unpack_from(reply.payload)[7]
    found = attributes(reply.payload, _RTMSG.size)
    index = int.from_bytes(found.get(_OIF, bytes(4)), "little")
    state, carrier = _device(host, index)
    if state is None:
        return Way(holder=holder, holder_up=holder_up, problem="its route leads nowhere")
    metrics = attributes(found.get(_METRICS, b""))
    learned = int.from_bytes(metrics.get(_RTAX_MTU, b""), "little")
    gateway = found.get(_GATEWAY, b"")
    return Way(
        holder=holder,
        holder_up=holder_up,
        device=state.name,
        device_up=state.up,
        carrier=carrier,
        device_mtu=state.mtu,
        gateway=gateway,
        source=found.get(_PREFSRC, b""),
        mtu=min(learned, state.mtu) if learned else state.mtu,
        neighbour="" if kind == _LOCAL else _neighbour(host, index, gateway or remote),
        here=kind == _LOCAL,
    )


def _words(error: KernelError, remote: bytes) -> str:
    if error.code in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        return f"there is no route to {text(remote)}"
    if error.code in (errno.EACCES, errno.EINVAL):
        return f"the route to {text(remote)} forbids it ({os.strerror(error.code)})"
    return str(error)


def _device(host: Host, index: int) -> tuple[rtnl.LinkState | None, bool]:
    """A device, and whether it has a carrier."""
    reply = host.route.get([Message(rtnl.RTM_GETLINK, 0, rtnl.link_by_index(index))])[0]
    if isinstance(reply, KernelError):
        return None, False
    return rtnl.LinkState(reply.payload), attributes(reply.payload, 16).get(_IFLA_CARRIER, b"\1") != b"\0"


def _addresses(host: Host) -> Iterator[tuple[int, bytes]]:
    for reply in host.route.dump(*rtnl.address_dump()):
        index, address, _, _ = rtnl.decode_address(reply.payload)
        yield index, address


def _holder(host: Host, local: bytes) -> rtnl.LinkState | None:
    """The device that has an address."""
    for index, address in _addresses(host):
        if address == local:
            return _device(host, index)[0]
    return None


def _neighbour(host: Host, index: int, address: bytes) -> str:
    """How the next hop is, as far as this host has asked."""
    request = _NDMSG.pack(family(address), index, 0, 0, 0) + attr(_NDA_DST, address)
    reply = host.route.get([Message(_RTM_GETNEIGH, 0, request)])[0]
    if isinstance(reply, KernelError):
        return ""
    state = _NDMSG.unpack_from(reply.payload)[2]
    return next((word for bits, word in _STATES if state & bits), "")


def device(host: Host, name: str) -> tuple[rtnl.LinkState | None, bool, tuple[tuple[bytes, int], ...]]:
    """A device by its name, whether it has a carrier, and its addresses but those of the link."""
    reply = host.route.get([rtnl.link_get(name)])[0]
    if isinstance(reply, KernelError):
        return None, False, ()
    state = rtnl.LinkState(reply.payload)
    found = [rtnl.decode_address(r.payload) for r in host.route.dump(*rtnl.address_dump(state.index))]
    own = tuple((raw, plen) for index, raw, plen, _ in found if index == state.index and not _of_link(raw))
    return state, attributes(reply.payload, 16).get(_IFLA_CARRIER, b"\1") != b"\0", own


def _of_link(address: bytes) -> bool:
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


_REGISTERED, _BRIDGES_KEEP = 0x88B5, bytes.fromhex("0180c200000e")
"""An Ethernet type for local experiments (IEEE 802 9.2.3); a group address that no bridge passes on (802.1Q 8.6.3)."""


def stir(name: str) -> bool:
    """Have an Ethernet device send something that means nothing to anybody; whether it left."""
    return _frame(name) or _datagram(name)


def _frame(name: str) -> bool:
    """One that no bridge passes on. A confined daemon may not do it."""
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.bind((name, 0))
            own = bytes(sock.getsockname()[4])[:6].ljust(6, b"\0")
            sock.send(_BRIDGES_KEEP + own + _REGISTERED.to_bytes(2) + b"kl2tp explain".ljust(46, b"\0"))
    except OSError:
        return False
    return True


_EXPERIMENT = ("224.0.0.254", 9)
"""A group for experiments, which no router passes on (RFC 4727 2.2), and the port of the discard service."""


def _datagram(name: str) -> bool:
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
            sock.sendto(b"kl2tp explain", _EXPERIMENT)
    except OSError:
        return False
    return True
