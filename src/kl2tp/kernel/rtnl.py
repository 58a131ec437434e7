"""Codec of rtnetlink, as far as pseudowires need it: device settings, addresses, routes."""

import errno
import socket
import struct
from collections.abc import Callable

from kl2tp.kernel.netlink import NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, Message, attr, attributes, string, u32
from kl2tp.model.objects import Address, Link, Route

NETLINK_ROUTE = 0
RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
GROUPS = (1, 5, 7, 9, 11)
"""Multicast groups: links, IPv4 addresses and routes, IPv6 addresses and routes."""

DEVICE_GROUP = 1701
"""Device group of every interface that kl2tp makes."""
ROUTE_PROTOCOL = 117
"""Routing protocol number of every route that kl2tp makes (`ip route show proto 117`)."""

_IFF_UP = 1
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_IFALIAS, _IFLA_GROUP, _IFLA_NET_NS_FD, _IFLA_EXT_MASK = (
    1,
    3,
    4,
    10,
    20,
    27,
    28,
    29,
)
_SKIP_STATS = 1 << 3
_IFLA_LINKINFO, _INFO_KIND, _INFO_DATA, _IFLA_VRF_TABLE, _IFLA_PPP_DEV_FD = 18, 1, 2, 1, 1
_PPP = "ppp"
MAIN_TABLE = 254
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_SCOPE_UNIVERSE, _SCOPE_LINK = 0, 253
_RTN_UNICAST = 1

_IFINFO = struct.Struct("=BBHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_u32 = struct.Struct("=I")


_RTPROT_KERNEL = 2
KERNEL_ROUTES = ((RTM_NEWROUTE, 5, _RTPROT_KERNEL), (RTM_DELROUTE, 5, _RTPROT_KERNEL))
"""Events of routes that the kernel itself made, as tests for `EventSocket.ignore`."""


def link_get(name: str) -> Message:
    return Message(
        RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _SKIP_STATS) + string(_IFLA_IFNAME, name)
    )


def link_index(payload: bytes) -> int:
    """The number of a device that the kernel reports."""
    return int(_u32.unpack_from(payload, 4)[0])


def link_by_index(index: int) -> bytes:
    """Payload of RTM_GETLINK for a device number."""
    return _IFINFO.pack(0, 0, 0, index, 0, 0) + u32(_IFLA_EXT_MASK, _SKIP_STATS)


def link_dump() -> tuple[int, bytes]:
    return RTM_GETLINK, _IFINFO.pack(0, 0, 0, 0, 0, 0) + u32(_IFLA_EXT_MASK, _SKIP_STATS)


def link_move(index: int, name: str, namespace_fd: int) -> Message:
    """Move a device into the namespace of a descriptor, where it is called by this name."""
    body = _IFINFO.pack(0, 0, 0, index, 0, 0) + string(_IFLA_IFNAME, name) + u32(_IFLA_NET_NS_FD, namespace_fd)
    return Message(RTM_NEWLINK, 0, body)


def ppp_create(name: str, unit: int, mtu: int, namespace_fd: int = -1) -> Message:
    """Make the network device of a PPP unit, whose descriptor is given; at once in another namespace, if one is given.

    It is not switched on: only once a channel is connected does the kernel know that it needs no queue.
    """
    info = string(_INFO_KIND, _PPP) + attr(_INFO_DATA, u32(_IFLA_PPP_DEV_FD, unit))
    body = [
        _IFINFO.pack(0, 0, 0, 0, 0, 0),
        string(_IFLA_IFNAME, name),
        u32(_IFLA_MTU, mtu),
        u32(_IFLA_GROUP, DEVICE_GROUP),
        attr(_IFLA_LINKINFO, info),
    ]
    if namespace_fd >= 0:
        body.append(u32(_IFLA_NET_NS_FD, namespace_fd))
    return Message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, b"".join(body))


def link_up(index: int) -> Message:
    """Switch a device on."""
    return Message(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, 0, index, _IFF_UP, _IFF_UP))


def link_delete(index: int) -> Message:
    return Message(RTM_DELLINK, 0, _IFINFO.pack(0, 0, 0, index, 0, 0))


def link_group(index: int, group: int) -> Message:
    """Put a device into a group."""
    return Message(RTM_NEWLINK, 0, _IFINFO.pack(0, 0, 0, index, 0, 0) + u32(_IFLA_GROUP, group))


def group_delete(group: int) -> Message:
    """Delete all devices of a group, which then wait together for what deletion waits for."""
    return Message(RTM_DELLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0, 0) + u32(_IFLA_GROUP, group))


def link_set(link: Link, master_index: int, *, set_master: bool) -> Message:
    """All settings of a device in one message, addressed by name."""
    flags = _IFF_UP if link.up else 0
    body = [
        _IFINFO.pack(0, 0, 0, 0, flags, _IFF_UP),
        string(_IFLA_IFNAME, link.name),
        u32(_IFLA_MTU, link.mtu),
        u32(_IFLA_GROUP, DEVICE_GROUP),
        string(_IFLA_IFALIAS, link.alias),
    ]
    if link.mac:
        body.append(attr(_IFLA_ADDRESS, link.mac))
    if set_master:
        body.append(u32(_IFLA_MASTER, master_index))
    return Message(RTM_NEWLINK, 0, b"".join(body))


def vrf_table(payload: bytes) -> int | None:
    """The routing table of the VRF that a reply describes; None if it is another kind of device."""
    info = attributes(attributes(payload, 16).get(_IFLA_LINKINFO, b""))
    table = attributes(info.get(_INFO_DATA, b"")).get(_IFLA_VRF_TABLE)
    return _u32.unpack(table)[0] if table and info.get(_INFO_KIND) == b"vrf\0" else None


class LinkState:
    """A device as the kernel reports it."""

    __slots__ = ("alias", "group", "index", "mac", "master_index", "mtu", "name", "up")

    def __init__(self, payload: bytes) -> None:
        found = attributes(payload, 16)
        _, _, _, self.index, flags, _ = _IFINFO.unpack_from(payload)
        self.up = bool(flags & _IFF_UP)
        self.name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        self.mtu: int = _u32.unpack(found[_IFLA_MTU])[0] if _IFLA_MTU in found else 0
        self.master_index: int = _u32.unpack(found[_IFLA_MASTER])[0] if _IFLA_MASTER in found else 0
        self.group: int = _u32.unpack(found[_IFLA_GROUP])[0] if _IFLA_GROUP in found else 0
        self.mac = found.get(_IFLA_ADDRESS, b"")
        self.alias = found.get(_IFLA_IFALIAS, b"").rstrip(b"\0").decode(errors="replace")

    def link(self, netns: str, master: str) -> Link:
        return Link(netns, self.name, self.mtu, master, self.up, self.mac, netns, self.alias)


def _address_body(address: Address, index: int) -> bytes:
    family = socket.AF_INET if len(address.address) == 4 else socket.AF_INET6
    head = _IFADDR.pack(family, address.prefix_length, 0, 0, index)
    return head + attr(_IFA_LOCAL, address.address) + attr(_IFA_ADDRESS, address.peer or address.address)


def address_add(address: Address, index: int) -> Message:
    return Message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, _address_body(address, index))


def address_delete(address: Address, index: int) -> Message:
    return Message(RTM_DELADDR, 0, _address_body(address, index))


def address_dump(index: int = 0) -> tuple[int, bytes]:
    """Dump request; with an index only that device's (kernel 4.20 and newer filters)."""
    return RTM_GETADDR, _IFADDR.pack(0, 0, 0, 0, index)


def address_index(payload: bytes) -> int:
    """The device that an address is on."""
    return int(_u32.unpack_from(payload, 4)[0])


def decode_address(payload: bytes) -> tuple[int, bytes, int, bytes]:
    """(device index, address, prefix length, address of the other end of a point-to-point device or b"")."""
    _, plen, _, _, index = _IFADDR.unpack_from(payload)
    found = attributes(payload, 8)
    peer = found.get(_IFA_ADDRESS, b"")
    local = found.get(_IFA_LOCAL) or peer
    return index, local, plen, peer if peer != local else b""


def _route(route: Route, index: int) -> bytes:
    v4 = len(route.destination) == 4
    scope = _SCOPE_LINK if v4 and not route.via else _SCOPE_UNIVERSE
    table = route.table if route.table < 256 else 252
    family = socket.AF_INET if v4 else socket.AF_INET6
    body = [
        _RTMSG.pack(family, route.prefix_length, 0, 0, table, ROUTE_PROTOCOL, scope, _RTN_UNICAST, 0),
        attr(_RTA_DST, route.destination),
        u32(_RTA_TABLE, route.table),
    ]
    if route.via:
        body.append(attr(_RTA_GATEWAY, route.via))
    if index:
        body.append(u32(_RTA_OIF, index))
    if route.metric:
        body.append(u32(_RTA_PRIORITY, route.metric))
    return b"".join(body)


def route_add(route: Route, index: int) -> Message:
    """Add a route; EEXIST if there is one with its destination, table and metric."""
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, _route(route, index))


def route_replace(route: Route, index: int) -> Message:
    """Put a route in the place of the one with its destination, table and metric."""
    return Message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, _route(route, index))


def route_delete(route: Route, index: int) -> Message:
    return Message(RTM_DELROUTE, 0, _route(route, index))


def route_dump(family: int, table: int) -> tuple[int, bytes]:
    """Dump request for our own routes of a family in a table (the kernel filters)."""
    return RTM_GETROUTE, _RTMSG.pack(family, 0, 0, 0, 0, ROUTE_PROTOCOL, 0, 0, 0) + u32(_RTA_TABLE, table)


def route_identity(payload: bytes) -> tuple[int, bytes, int]:
    """(table, destination, prefix length) of anybody's route."""
    family, plen, _, _, table, *_ = _RTMSG.unpack_from(payload)
    found = attributes(payload, 12)
    if _RTA_TABLE in found:
        table = _u32.unpack(found[_RTA_TABLE])[0]
    return table, found.get(_RTA_DST, bytes(4 if family == socket.AF_INET else 16)), plen


def decode_route(netns: str, payload: bytes, device: Callable[[int], str]) -> Route | None:
    """One of our routes; None for anybody else's."""
    family, plen, _, _, table, protocol, _, kind, _ = _RTMSG.unpack_from(payload)
    if protocol != ROUTE_PROTOCOL or kind != _RTN_UNICAST:
        return None
    found = attributes(payload, 12)
    size = 4 if family == socket.AF_INET else 16
    return Route(
        netns,
        _u32.unpack(found[_RTA_TABLE])[0] if _RTA_TABLE in found else table,
        found.get(_RTA_DST, bytes(size)),
        plen,
        _u32.unpack(found[_RTA_PRIORITY])[0] if _RTA_PRIORITY in found else 0,
        found.get(_RTA_GATEWAY, b""),
        device(_u32.unpack(found[_RTA_OIF])[0]) if _RTA_OIF in found else "",
    )


GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
"""Errors of a deletion or a get that mean: it is not there."""
