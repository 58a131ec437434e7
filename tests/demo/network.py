"""Named network namespaces on one machine, and the wires between them."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from kl2tp.kernel import netns, rtnl
from kl2tp.kernel.netlink import Message, Netlink, attr, string, u32
from kl2tp.model.addr import parse, text
from kl2tp.model.objects import Address, Link, Route

ROUTER = "internet"
"""The namespace in the middle: it forwards between the hosts and sees every packet."""
SITES = {"hub": parse("192.0.2.1"), "madrid": parse("198.51.100.1"), "lisbon": parse("203.0.113.1")}
"""The hosts and their addresses; the router has .254 of each network."""
UPLINK = "eth0"
"""A host's device to the internet."""
MTU = 1500

_CLONE_NEWNET, _MS_BIND, _MNT_DETACH = 0x40000000, 0x1000, 2
_IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_GSO_MAX_SEGS, _IFLA_GSO_MAX_SIZE = 18, 28, 40, 41
_VETH_INFO_PEER = 1
_NLM_F_CREATE_EXCL = 0x600
_PROTOCOL_STATIC = 4
"""RTPROT_STATIC: the route is the administrator's, not kl2tp's."""
_IFINFO = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)
_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def create_namespace(name: str) -> None:
    """`ip netns add NAME`. Raises OSError, FileExistsError if it exists."""
    path = Path(netns.RUN_NETNS, name)
    path.parent.mkdir(exist_ok=True)
    path.touch(mode=0, exist_ok=False)
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(_CLONE_NEWNET), "a new network namespace")
        source = b"/proc/thread-self/ns/net"
        _checked(_libc.mount(source, os.fsencode(path), None, _MS_BIND, None), f"mount {path}")
    finally:
        _checked(_libc.setns(back, _CLONE_NEWNET), "setns")
        os.close(back)


def delete_namespace(name: str) -> None:
    """`ip netns delete NAME`; nothing if there is none."""
    path = Path(netns.RUN_NETNS, name)
    _libc.umount2(os.fsencode(path), _MNT_DETACH)
    path.unlink(missing_ok=True)


class Network:
    """The hosts, each on a wire of its own to the router."""

    def __init__(self) -> None:
        self._made: list[str] = []

    def build(self) -> None:
        """Make all. Raises OSError."""
        for name in (ROUTER, *SITES):
            create_namespace(name)
            self._made.append(name)
            with netns.entered(name):
                Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")  # nothing of its own on the wires
                _configure("lo")
        with netns.entered(ROUTER):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for name, address in SITES.items():
            self._connect(name, address)

    def remove(self) -> None:
        """Take all away, with everything in it."""
        for name in reversed(self._made):
            delete_namespace(name)
        self._made.clear()

    @staticmethod
    def _connect(site: str, address: bytes) -> None:
        router = address[:3] + b"\xfe"
        far = netns.open_namespace(site)
        try:
            with netns.entered(ROUTER):
                _make_veth(site, UPLINK, far)
                _configure(site, router)
        finally:
            os.close(far)
        with netns.entered(site):
            _configure(UPLINK, address)
            default = rtnl.route_add(Route("", 254, bytes(4), 0, 0, router), 0)
            head = bytearray(default.payload)
            head[5] = _PROTOCOL_STATIC
            with Netlink(rtnl.NETLINK_ROUTE) as route:
                route.request(default._replace(payload=bytes(head)))


def _make_veth(near: str, far: str, far_namespace: int) -> None:
    """A wire. Its packets are as long as those of Ethernet: the kernel hands over no bundles of segments."""
    no_bundles = u32(_IFLA_GSO_MAX_SEGS, 1) + u32(_IFLA_GSO_MAX_SIZE, MTU)
    peer = attr(_VETH_INFO_PEER, _IFINFO + string(3, far) + u32(_IFLA_NET_NS_FD, far_namespace) + no_bundles)
    info = attr(_IFLA_LINKINFO, string(1, "veth") + attr(2, peer))
    with Netlink(rtnl.NETLINK_ROUTE) as route:
        route.request(Message(rtnl.RTM_NEWLINK, _NLM_F_CREATE_EXCL, _IFINFO + string(3, near) + no_bundles + info))


def _configure(device: str, address: bytes = b"") -> None:
    """Bring a device of this namespace up."""
    with Netlink(rtnl.NETLINK_ROUTE) as route:
        mtu = 65536 if device == "lo" else MTU
        route.request(rtnl.link_set(Link("", device, mtu), 0, set_master=False))
        if address:
            index = socket.if_nametoindex(device)
            route.request(rtnl.address_add(Address("", device, address, 24), index))


def allow_ipv6() -> None:
    """Let devices that are made from now on have IPv6."""
    for name in SITES:
        with netns.entered(name):
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("0")


def carried(device: str) -> tuple[int, int]:
    """(packets, bytes) that came into the router from a host's wire."""
    with netns.entered(ROUTER):
        found = Path("/proc/net/dev").read_text().splitlines()
    for line in found:
        name, _, counters = line.partition(":")
        if name.strip() == device:
            octets, packets, *_ = map(int, counters.split())
            return packets, octets
    raise LookupError(device)


def picture(counters: Iterable[str] = ()) -> list[str]:
    """The hosts, the tunnels between them, and what is known about them."""
    hub, madrid, lisbon = (text(address) for address in SITES.values())
    return [
        "                          ┌───────────────────┐                       ┌──────────────┐",
        "  ┌──────────────┐        │                   ├───────────────────────┤ madrid       │",
        f"  │ hub          │        │     internet      │  L2TPv3 over IP       │ {madrid:12} │",
        f"  │ {hub:12} ├────────┤                   │  in ESP               │ 10.64.1.2    │",
        "  │              │        │   a router that   │                       └──────────────┘",
        "  │ 10.64.1.1    │        │   sees all that   │                       ┌──────────────┐",
        "  │ 10.64.2.1    │        │     goes by       ├───────────────────────┤ lisbon       │",
        f"  └──────────────┘        │                   │  L2TPv3 over UDP      │ {lisbon:12} │",
        "                          │                   │  in ESP               │ 10.64.2.2    │",
        "                          └───────────────────┘                       └──────────────┘",
        *counters,
    ]
