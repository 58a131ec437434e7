"""The kernel without kl2tp: what others do to it behind kl2tp's back, and what is in it."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kl2tp.kernel import l2tp, netns, nft, rtnl, xfrm
from kl2tp.kernel.netlink import Message, Netlink, attribute_list, attributes, u32


@dataclass(frozen=True, slots=True)
class Inventory:
    """How much of everything a namespace holds."""

    tunnels: int
    sessions: int
    associations: int
    policies: int
    devices: int
    routes: int
    tables: int

    COLUMNS = ("tunnels", "sessions", "SAs", "policies", "devices", "routes", "nft tables")

    def __iter__(self) -> Iterator[int]:
        yield from (self.tunnels, self.sessions, self.associations, self.policies)
        yield from (self.devices, self.routes, self.tables)


@contextmanager
def _open(namespace: str, protocol: int) -> Iterator[Netlink]:
    with netns.entered(namespace):
        sock = Netlink(protocol)
    try:
        yield sock
    finally:
        sock.close()


def inventory(namespace: str) -> Inventory:
    """Count, by dumps: all there is, but of routes those with kl2tp's number."""
    with _open(namespace, l2tp.NETLINK_GENERIC) as genl:
        codec = l2tp.Codec(l2tp.resolve(genl)[0])
        tunnels, sessions = (
            sum(1 for _ in genl.dump(*codec.dump_request(command))) for command in (l2tp.TUNNEL_GET, l2tp.SESSION_GET)
        )
    with _open(namespace, xfrm.NETLINK_XFRM) as sock:
        associations = sum(1 for _ in sock.dump(xfrm.GETSA, b""))
        policies = sum(1 for _ in sock.dump(xfrm.GETPOLICY, b""))
    with _open(namespace, rtnl.NETLINK_ROUTE) as route:
        devices = sum(1 for _ in route.dump(*rtnl.link_dump()))
        routes = sum(1 for reply in route.dump(*rtnl.route_dump(2, 254)) if reply.payload[5] == rtnl.ROUTE_PROTOCOL)
    with _open(namespace, nft.NETLINK_NETFILTER) as sock:
        tables = sum(1 for _ in sock.dump(_nft(1), b"\0\0\0\0"))
    return Inventory(tunnels, sessions, associations, policies, devices, routes, tables)


def _nft(command: int) -> int:
    return 10 << 8 | command


def delete_session(namespace: str, tunnel: int, session: int) -> None:
    """`ip l2tp del session tunnel_id TUNNEL session_id SESSION`."""
    with _open(namespace, l2tp.NETLINK_GENERIC) as genl:
        family = l2tp.resolve(genl)[0]
        head = struct.pack("=BBH", l2tp.SESSION_DELETE, 1, 0)
        genl.request(Message(family, 0, head + u32(9, tunnel) + u32(11, session)))


def flush_policies(namespace: str) -> None:
    """`ip xfrm policy flush`."""
    with _open(namespace, xfrm.NETLINK_XFRM) as sock:
        sock.request(Message(xfrm.FLUSHPOLICY, 0, b""))


def policies(namespace: str) -> int:
    """How many policies there are."""
    with _open(namespace, xfrm.NETLINK_XFRM) as sock:
        return sum(1 for _ in sock.dump(xfrm.GETPOLICY, b""))


def spis(namespace: str, *ends: bytes) -> set[int]:
    """SPIs of the associations between two addresses."""
    with _open(namespace, xfrm.NETLINK_XFRM) as sock:
        found = [xfrm.decode_sa("", reply.payload, lambda index: "") for reply in sock.dump(xfrm.GETSA, b"")]
    return {sa.spi for sa in found if sa and {sa.source, sa.destination} == set(ends)}


def dropped(namespace: str, chain: str) -> int:
    """Packets that the rules of a chain of kl2tp's nftables table counted."""
    total = 0
    with _open(namespace, nft.NETLINK_NETFILTER) as sock:
        for reply in sock.dump(_nft(7), b"\1\0\0\0"):  # NFT_MSG_GETRULE, NFPROTO_INET
            rule = attributes(reply.payload, 4)
            if rule.get(2) == chain.encode() + b"\0":
                total += sum(_counted(expression) for _, expression in attribute_list(rule.get(4, b"")))
    return total


def _counted(expression: bytes) -> int:
    found = attributes(expression)
    if found.get(1) != b"counter\0":
        return 0
    return int.from_bytes(attributes(found[2])[2])  # NFTA_COUNTER_PACKETS
