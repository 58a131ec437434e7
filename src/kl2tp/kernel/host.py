"""One network namespace: its sockets, and what can be read there.

Everything here blocks (see `kl2tp.kernel.netlink`) and belongs to one thread.
"""

import errno
import socket
from collections.abc import Collection, Iterable

from kl2tp.kernel import l2tp, netns, nft, rtnl, xfrm
from kl2tp.kernel.netlink import KernelError, Message, Netlink, Reply
from kl2tp.model.objects import (
    NO_MARK,
    Address,
    Binding,
    Clamp,
    Direction,
    Element,
    Guard,
    GuardedPlace,
    KernelObject,
    Key,
    Policy,
    Sa,
    Secret,
    Selector,
)
from kl2tp.model.spec import Mode

_DUMP_TRIES = 5
_MANY, _CROWD = 16, 16
"""Addresses are read all together for this many devices, if not this many times more are there: a dump of its own for
each device costs as much as some ten addresses."""


class Host:
    """Netlink sockets in one namespace, opened when first needed."""

    def __init__(self, name: str, ports: set[int]) -> None:
        """`ports` collects the port ids of the sockets. Raises NoNamespace."""
        self.name = name
        self._ports = ports
        self.identity = netns.identity(name)
        self._sockets: dict[int, Netlink] = {}
        self._codec: l2tp.Codec | None = None
        self._names: dict[int, str] = {}
        self._indexes: dict[str, int] = {}
        self._address_count = 0
        """Addresses in the namespace when they were last read all together."""
        self._vrf_tables: dict[str, int] = {}

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def socket(self, protocol: int) -> Netlink:
        if protocol not in self._sockets:
            with netns.entered(self.name):
                self._sockets[protocol] = Netlink(protocol)
            self._ports.add(self._sockets[protocol].port_id)
        return self._sockets[protocol]

    @property
    def genl(self) -> Netlink:
        return self.socket(l2tp.NETLINK_GENERIC)

    @property
    def route(self) -> Netlink:
        return self.socket(rtnl.NETLINK_ROUTE)

    @property
    def xfrm(self) -> Netlink:
        return self.socket(xfrm.NETLINK_XFRM)

    @property
    def table(self) -> nft.Table:
        return nft.Table(self.socket(nft.NETLINK_NETFILTER))

    @property
    def l2tp(self) -> l2tp.Codec:
        if self._codec is None:
            self._codec = l2tp.Codec(l2tp.resolve(self.genl)[0])
        return self._codec

    def sent(self) -> int:
        """Changes sent to the kernel so far."""
        return sum(sock.sent for sock in self._sockets.values())

    # -- devices by number and name --------------------------------------------------------------------------------

    def forget_devices(self) -> None:
        """Drop what is remembered of device numbers: at the start of each pass, as they change behind our back."""
        self._names.clear()
        self._indexes.clear()
        self._vrf_tables.clear()

    def device_name(self, index: int) -> str:
        """The name of a device; `#N` for one that is not there."""
        if not index:
            return ""
        if index not in self._names:
            reply = self.route.get([Message(rtnl.RTM_GETLINK, 0, rtnl.link_by_index(index))])[0]
            self._names[index] = f"#{index}" if isinstance(reply, KernelError) else rtnl.LinkState(reply.payload).name
        return self._names[index]

    def device_index(self, name: str) -> int:
        """The number of a device. Raises KernelError ENODEV."""
        if name not in self._indexes:
            reply = self.route.get([rtnl.link_get(name)])[0]
            if isinstance(reply, KernelError):
                raise KernelError(errno.ENODEV, f"there is no device {name}")
            self._indexes[name] = rtnl.LinkState(reply.payload).index
        return self._indexes[name]

    def vrf_table(self, name: str) -> int:
        """The routing table of a VRF. Raises KernelError ENODEV."""
        if name not in self._vrf_tables:
            reply = self.route.get([rtnl.link_get(name)])[0]
            table = None if isinstance(reply, KernelError) else rtnl.vrf_table(reply.payload)
            if table is None:
                raise KernelError(errno.ENODEV, f"there is no VRF {name}")
            self._vrf_tables[name] = table
        return self._vrf_tables[name]

    def device_indexes(self, names: Iterable[str]) -> dict[str, int]:
        """The numbers of many devices in one go; those that are not there are left out."""
        missing = [name for name in dict.fromkeys(names) if name not in self._indexes]
        for name, reply in zip(missing, self.route.get([rtnl.link_get(name) for name in missing]), strict=True):
            if isinstance(reply, Reply):
                self._indexes[name] = index = rtnl.link_index(reply.payload)
                self._names[index] = name
        return self._indexes

    def _remember(self, state: rtnl.LinkState) -> None:
        self._indexes[state.name] = state.index
        self._names[state.index] = state.name

    # -- reading single objects ------------------------------------------------------------------------------------

    def read(self, keys: Collection[Key]) -> dict[Key, KernelObject]:
        """The objects with these keys that exist, each asked for by itself: the work is independent of all others."""
        by_kind: dict[object, list[Key]] = {}
        for key in keys:
            by_kind.setdefault(key[0], []).append(key)
        found: dict[Key, KernelObject] = {}
        self._read_l2tp(by_kind.get("tunnel", []), by_kind.get("session", []), found)
        self._read_links(by_kind.get("link", []), by_kind.get("address", []), found)
        if routes := by_kind.get("route"):
            self._read_routes(routes, found)
        self._read_xfrm(by_kind.get("sa", []), by_kind.get("policy", []), found)
        if elements := [key for kind in _ELEMENTS for key in by_kind.get(kind, ())]:
            self._read_table(elements, found)
        return found

    def _read_l2tp(self, tunnels: list[Key], sessions: list[Key], found: dict[Key, KernelObject]) -> None:
        if not tunnels and not sessions:
            return
        codec = self.l2tp
        requests = [codec.tunnel_get(int(key[2])) for key in tunnels]
        for reply in self.genl.get(requests):
            if isinstance(reply, Reply) and (tunnel := l2tp.decode_tunnel(self.name, reply.payload)):
                found[tunnel.key] = tunnel
        requests = [codec.session_get(int(key[2]), int(key[3])) for key in sessions]
        for reply in self.genl.get(requests):
            if isinstance(reply, Reply) and (session := l2tp.decode_session(self.name, reply.payload)):
                found[session.key] = session

    def _read_links(self, links: list[Key], addresses: list[Key], found: dict[Key, KernelObject]) -> None:
        names = dict.fromkeys([str(key[2]) for key in links] + [str(key[2]) for key in addresses])
        with_addresses = {str(key[2]) for key in addresses}
        indexes: set[int] = set()
        for name, reply in zip(names, self.route.get([rtnl.link_get(name) for name in names]), strict=True):
            if isinstance(reply, KernelError):
                continue
            state = rtnl.LinkState(reply.payload)
            self._remember(state)
            link = state.link(self.name, self.device_name(state.master_index))
            found[link.key] = link
            if name in with_addresses:
                indexes.add(state.index)
        for index, raw, plen, peer in self._addresses(indexes):
            address = Address(self.name, self._names.get(index, ""), raw, plen, peer)
            found[address.key] = address

    def _addresses(self, indexes: Collection[int]) -> Iterable[tuple[int, bytes, int, bytes]]:
        """(device, address, prefix length, peer) of these devices. Of many: by one dump of all addresses."""
        if len(indexes) < _MANY or self._address_count > _CROWD * len(indexes):
            for index in indexes:
                yield from self._addresses_of(index)
            return
        replies = self._dump(self.route, *rtnl.address_dump())
        self._address_count = len(replies)
        for reply in replies:
            if rtnl.address_index(reply.payload) in indexes:
                yield rtnl.decode_address(reply.payload)

    def _addresses_of(self, index: int) -> Iterable[tuple[int, bytes, int, bytes]]:
        try:
            return [rtnl.decode_address(r.payload) for r in self._dump(self.route, *rtnl.address_dump(index))]
        except KernelError as error:
            if error.code != errno.ENODEV:  # gone since we asked for it
                raise
            return []

    def _read_routes(self, keys: Collection[Key], found: dict[Key, KernelObject]) -> None:
        tables = {(socket.AF_INET if len(str(key[3])) == 8 else socket.AF_INET6, int(key[2])) for key in keys}
        for fam, table in tables:
            for reply in self._dump(self.route, *rtnl.route_dump(fam, table)):
                if route := rtnl.decode_route(self.name, reply.payload, self.device_name):
                    found[route.key] = route

    def _read_xfrm(self, sas: list[Key], policies: list[Key], found: dict[Key, KernelObject]) -> None:
        if not sas and not policies:
            return
        for reply in self.xfrm.get([xfrm.sa_get(_sa_of(key)) for key in sas]):
            if isinstance(reply, Reply) and (sa := xfrm.decode_sa(self.name, reply.payload, self.device_name)):
                found[sa.key] = sa
        for reply in self.xfrm.get([xfrm.policy_get(_policy_of(key)) for key in policies]):
            if isinstance(reply, Reply) and (policy := xfrm.decode_policy(self.name, reply.payload, self.device_name)):
                found[policy.key] = policy

    def _read_table(self, keys: Collection[Key], found: dict[Key, KernelObject]) -> None:
        elements = [_element_of(key) for key in keys]
        for element in self.table.get(elements):
            found[element.key] = element

    @staticmethod
    def _dump(sock: Netlink, kind: int, payload: bytes) -> list[Reply]:
        """A dump, begun again when the kernel says that the table changed under it."""
        for attempt in range(_DUMP_TRIES):
            try:
                return list(sock.dump(kind, payload))
            except KernelError as error:
                if error.code != errno.EAGAIN or attempt == _DUMP_TRIES - 1:
                    raise
        raise AssertionError("unreachable")


_NO_SECRET = Secret(b"")


def _sa_of(key: Key) -> Sa:
    """An SA with just the identity that the key holds."""
    _, ns, destination, spi, *mark = key
    return Sa(
        str(ns), b"", bytes.fromhex(str(destination)), int(spi), Mode.TRANSPORT, 0, "", _NO_SECRET, mark=_mark_of(mark)
    )


def _policy_of(key: Key) -> Policy:
    """A policy with just the identity that the key holds."""
    _, ns, direction, source, slen, destination, dlen, proto, sport, dport, *mark = key
    selector = Selector(
        bytes.fromhex(str(source)),
        int(slen),
        bytes.fromhex(str(destination)),
        int(dlen),
        int(proto),
        int(sport),
        int(dport),
    )
    return Policy(str(ns), Direction(int(direction)), selector, 0, None, _mark_of(mark))


def _mark_of(mark: list[str | int]) -> tuple[int, int] | None:
    value, mask = mark
    return (int(value), int(mask)) if mask else None


_ELEMENTS = ("guard", "clamp", "place", "binding")


def _element_of(key: Key) -> Element:
    """An element with just the identity that the key holds."""
    kind, ns, *rest = key
    netns = str(ns)
    if kind == "clamp":
        return Clamp(netns, str(rest[0]), 0, 0)
    if kind == "place":
        return GuardedPlace(netns, bytes.fromhex(str(rest[0])), int(rest[1]), NO_MARK)
    if kind == "binding":
        return Binding(netns, int(rest[0]), 0)
    remote, lport, rport = rest
    return Guard(netns, bytes.fromhex(str(remote)), int(lport), int(rport))
