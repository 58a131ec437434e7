"""One network namespace: its sockets, and what can be read there.

Everything here blocks (see `kl2tp.kernel.netlink`) and belongs to one thread.
"""

import errno
import socket
from collections.abc import Collection, Iterable

from kl2tp.kernel import l2tp, netns, nft, rtnl, xfrm
from kl2tp.kernel.netlink import KernelError, Message, Netlink, Reply
from kl2tp.model.objects import Address, Clamp, Direction, Guard, Key, KernelObject, Policy, Sa, Secret, Selector
from kl2tp.model.spec import Mode

_DUMP_TRIES = 5


class Host:
    """Netlink sockets in one namespace, opened when first needed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.identity = netns.identity(name)
        self._sockets: dict[int, Netlink] = {}
        self._codec: l2tp.Codec | None = None
        self._names: dict[int, str] = {}
        self._indexes: dict[str, int] = {}

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def socket(self, protocol: int) -> Netlink:
        if protocol not in self._sockets:
            with netns.entered(self.name):
                self._sockets[protocol] = Netlink(protocol)
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

    def port_ids(self) -> set[int]:
        """Port ids of our sockets: what tells our own events from others'."""
        return {sock.port_id for sock in self._sockets.values()}

    def sent(self) -> int:
        """Changes sent to the kernel so far."""
        return sum(sock.sent for sock in self._sockets.values())

    # -- devices by number and name --------------------------------------------------------------------------------

    def forget_devices(self) -> None:
        """Drop what is remembered of device numbers: at the start of each pass, as they change behind our back."""
        self._names.clear()
        self._indexes.clear()

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

    def device_indexes(self, names: Iterable[str]) -> dict[str, int]:
        """The numbers of many devices in one go; those that are not there are left out."""
        missing = [name for name in dict.fromkeys(names) if name not in self._indexes]
        for name, reply in zip(missing, self.route.get([rtnl.link_get(name) for name in missing]), strict=True):
            if isinstance(reply, Reply):
                self._remember(rtnl.LinkState(reply.payload))
        return self._indexes

    def _remember(self, state: rtnl.LinkState) -> None:
        self._indexes[state.name] = state.index
        self._names[state.index] = state.name

    # -- reading single objects ------------------------------------------------------------------------------------

    def read(self, keys: Collection[Key]) -> dict[Key, KernelObject]:
        """The objects with these keys that exist, each asked for by itself: exact, and independent of how many there are."""
        by_kind: dict[object, list[Key]] = {}
        for key in keys:
            by_kind.setdefault(key[0], []).append(key)
        found: dict[Key, KernelObject] = {}
        self._read_l2tp(by_kind.get("tunnel", []), by_kind.get("session", []), found)
        self._read_links(by_kind.get("link", []), by_kind.get("address", []), found)
        if routes := by_kind.get("route"):
            self._read_routes(routes, found)
        self._read_xfrm(by_kind.get("sa", []), by_kind.get("policy", []), found)
        if elements := by_kind.get("guard", []) + by_kind.get("clamp", []):
            self._read_table(elements, found)
        return found

    def _read_l2tp(self, tunnels: list[Key], sessions: list[Key], found: dict[Key, KernelObject]) -> None:
        if not tunnels and not sessions:
            return
        codec = self.l2tp
        requests = [codec.tunnel_get(int(key[2])) for key in tunnels]  # type: ignore[call-overload]
        for reply in self.genl.get(requests):
            if isinstance(reply, Reply) and (tunnel := l2tp.decode_tunnel(self.name, reply.payload)):
                found[tunnel.key] = tunnel
        requests = [codec.session_get(int(key[2]), int(key[3])) for key in sessions]  # type: ignore[call-overload]
        for reply in self.genl.get(requests):
            if isinstance(reply, Reply) and (session := l2tp.decode_session(self.name, reply.payload)):
                found[session.key] = session

    def _read_links(self, links: list[Key], addresses: list[Key], found: dict[Key, KernelObject]) -> None:
        names = dict.fromkeys([str(key[2]) for key in links] + [str(key[2]) for key in addresses])
        with_addresses = {str(key[2]) for key in addresses}
        for name, reply in zip(names, self.route.get([rtnl.link_get(name) for name in names]), strict=True):
            if isinstance(reply, KernelError):
                continue
            state = rtnl.LinkState(reply.payload)
            self._remember(state)
            link = state.link(self.name, self.device_name(state.master_index))
            found[link.key] = link
            if name in with_addresses:
                for dumped in self._dump(self.route, *rtnl.address_dump(state.index)):
                    self._add_address(dumped.payload, found)

    def _add_address(self, payload: bytes, found: dict[Key, KernelObject]) -> None:
        index, raw, plen = rtnl.decode_address(payload)
        address = Address(self.name, self._names.get(index, ""), raw, plen)
        found[address.key] = address

    def _read_routes(self, keys: Collection[Key], found: dict[Key, KernelObject]) -> None:
        families = {socket.AF_INET if len(key[3]) == 4 else socket.AF_INET6 for key in keys}  # type: ignore[arg-type]
        for fam in sorted(families):
            for reply in self._dump(self.route, *rtnl.route_dump(fam)):
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

    # -- reading everything ----------------------------------------------------------------------------------------

    def snapshot(self, wanted: Collection[Key]) -> dict[Key, KernelObject]:
        """The objects with these keys that exist, found by dumping every table: cheaper than `read` when most are asked for.

        A dump of l2tp objects on kernels before 6.12 may skip live entries while others vanish: what it misses is asked
        for again by itself.
        """
        kinds = {key[0] for key in wanted}
        found: dict[Key, KernelObject] = {}
        if "tunnel" in kinds:
            for reply in self._dump(self.genl, *self.l2tp.dump_request(l2tp.TUNNEL_GET)):
                if (tunnel := l2tp.decode_tunnel(self.name, reply.payload)) and tunnel.key in wanted:
                    found[tunnel.key] = tunnel
            for reply in self._dump(self.genl, *self.l2tp.dump_request(l2tp.SESSION_GET)):
                if (session := l2tp.decode_session(self.name, reply.payload)) and session.key in wanted:
                    found[session.key] = session
            self._read_l2tp(
                [key for key in wanted if key[0] == "tunnel" and key not in found],
                [key for key in wanted if key[0] == "session" and key not in found],
                found,
            )
        if "link" in kinds or "address" in kinds:
            self._snapshot_links(wanted, found)
        if routes := [key for key in wanted if key[0] == "route"]:
            self._read_routes(routes, found)
        if "sa" in kinds or "policy" in kinds:
            self._snapshot_xfrm(wanted, found)
        if "guard" in kinds or "clamp" in kinds:
            for element in self.table.read(self.name):
                if element.key in wanted:
                    found[element.key] = element
        return found

    def _snapshot_links(self, wanted: Collection[Key], found: dict[Key, KernelObject]) -> None:
        states = [rtnl.LinkState(reply.payload) for reply in self._dump(self.route, *rtnl.link_dump())]
        for state in states:
            self._remember(state)
        for state in states:
            link = state.link(self.name, self._names.get(state.master_index, ""))
            if link.key in wanted:
                found[link.key] = link
        addresses: dict[Key, KernelObject] = {}
        for reply in self._dump(self.route, *rtnl.address_dump()):
            self._add_address(reply.payload, addresses)
        found.update((key, value) for key, value in addresses.items() if key in wanted)

    def _snapshot_xfrm(self, wanted: Collection[Key], found: dict[Key, KernelObject]) -> None:
        for reply in self._dump(self.xfrm, xfrm.GETSA, b""):
            if (sa := xfrm.decode_sa(self.name, reply.payload, self.device_name)) and sa.key in wanted:
                found[sa.key] = sa
        for reply in self._dump(self.xfrm, xfrm.GETPOLICY, b""):
            policy = xfrm.decode_policy(self.name, reply.payload, self.device_name)
            if policy and policy.key in wanted:
                found[policy.key] = policy

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
    _, ns, destination, spi, mark = key
    return Sa(ns, b"", destination, spi, Mode.TRANSPORT, 0, "", _NO_SECRET, mark=mark)  # type: ignore[arg-type]


def _policy_of(key: Key) -> Policy:
    _, ns, direction, selector, mark = key
    assert isinstance(selector, Selector) and isinstance(direction, Direction)
    return Policy(ns, direction, selector, 0, None, mark)  # type: ignore[arg-type]


def _element_of(key: Key) -> Guard | Clamp:
    if key[0] == "guard":
        return Guard(*key[1:])  # type: ignore[arg-type]
    return Clamp(*key[1:], 0, 0)  # type: ignore[arg-type]


def names_of(keys: Iterable[Key]) -> set[str]:
    """The namespaces that keys name."""
    return {str(key[1]) for key in keys}

