"""Kernel events, as hints about which tunnel to look at.

A hint names a place, not a truth: whoever gets one reads the objects there again. So events may come twice, late, or
for a namespace that is not meant (l2tp multicasts reach every namespace), and nothing goes wrong. Events that our own
requests caused carry our port id and are dropped here; those that the kernel sends in its own name are not.
"""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from kl2tp.kernel import l2tp, netns, nft, rtnl, xfrm
from kl2tp.kernel.netlink import EventSocket, KernelError, Netlink, messages
from kl2tp.model.objects import Clamp, Guard, Key


@dataclass(frozen=True, slots=True)
class TunnelHint:
    """Something happened to a tunnel or a session in it, in some namespace."""

    id: int


@dataclass(frozen=True, slots=True)
class DeviceHint:
    """A device changed (`state`) or went (None)."""

    netns: str
    name: str
    alias: str
    state: rtnl.LinkState | None


@dataclass(frozen=True, slots=True)
class AddressHint:
    """An address was added (`added`) or removed; `index` is its device.

    On a point-to-point device `address` is the one of the other end: ours may be the same on thousands of them.
    """

    netns: str
    index: int
    address: bytes
    prefix_length: int
    added: bool


@dataclass(frozen=True, slots=True)
class RouteHint:
    """A route to this destination changed."""

    netns: str
    table: int
    destination: bytes
    prefix_length: int


@dataclass(frozen=True, slots=True)
class SaHint:
    """An SA with this reqid changed, or is gone."""

    netns: str
    reqid: int
    source: bytes = b""
    destination: bytes = b""
    spi: int = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class EndpointHint:
    """A policy or a guard for this pair of endpoints changed."""

    netns: str
    remote: bytes
    local_port: int
    remote_port: int


@dataclass(frozen=True, slots=True)
class ElementHint:
    """A guarded place or a binding changed in our table."""

    netns: str
    key: Key


@dataclass(frozen=True, slots=True)
class NamespaceHint:
    """Anything in this namespace may have changed: a flush, a damaged table, or lost events."""

    netns: str
    lost: bool = False


Hint: TypeAlias = (
    TunnelHint | DeviceHint | AddressHint | RouteHint | SaHint | EndpointHint | ElementHint | NamespaceHint
)


class Monitor:
    """The event sockets of one namespace. For an event loop: `descriptors` to watch, `drain` to read what came."""

    def __init__(self, name: str, *, with_l2tp: bool) -> None:
        """`with_l2tp`: also listen to l2tp, whose events reach every namespace: once is enough. Raises NoNamespace."""
        self.name = name
        self.identity = netns.identity(name)
        self._sockets: dict[int, EventSocket] = {}
        self._ignored = 0
        """How many ports the kernel drops the events of."""
        self.more = False
        """Whether the last `drain` may have left something."""
        try:
            with netns.entered(name):
                self._open(rtnl.NETLINK_ROUTE, rtnl.GROUPS)
                self._open(xfrm.NETLINK_XFRM, (xfrm.GROUP_EXPIRE, xfrm.GROUP_SA, xfrm.GROUP_POLICY))
                self._open(nft.NETLINK_NETFILTER, (nft.GROUP_NFTABLES,))
                if with_l2tp:
                    self._open_l2tp()
        except BaseException:
            self.close()
            raise

    def _open(self, protocol: int, groups: Iterable[int]) -> None:
        try:
            sock = EventSocket(protocol)
        except OSError as error:
            if error.errno == errno.EPROTONOSUPPORT:  # this kernel has no such thing, so nothing of it can change
                return
            raise
        self._sockets[protocol] = sock
        for group in groups:
            sock.join(group)

    def _open_l2tp(self) -> None:
        with Netlink(l2tp.NETLINK_GENERIC) as netlink:
            try:
                _, group = l2tp.resolve(netlink)
            except KernelError as error:
                if error.code == errno.ENOENT:  # no module yet: it is loaded with the first tunnel
                    return
                raise
        self._open(l2tp.NETLINK_GENERIC, (group,))

    @property
    def hears_l2tp(self) -> bool:
        return l2tp.NETLINK_GENERIC in self._sockets

    def descriptors(self) -> list[int]:
        return [sock.fileno() for sock in self._sockets.values()]

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    def drain(self, ours: set[int], limit: int = 64) -> Iterator[Hint]:
        """Hints from what waits in the sockets, some `limit` datagrams. `ours`: port ids of our requests."""
        if len(ours) != self._ignored:
            self._ignored = len(ours)
            for protocol, sock in self._sockets.items():
                sock.ignore(ours, *_NOT_OURS.get(protocol, ()))
        left = limit
        for protocol, sock in self._sockets.items():
            while left > 0:
                try:
                    datagrams = sock.receive_many()
                except OSError as error:
                    if error.errno not in (errno.ENOBUFS, errno.EMSGSIZE):
                        raise
                    yield NamespaceHint(self.name, lost=True)
                    left -= 1
                    continue
                if not datagrams:
                    break
                left -= len(datagrams)
                for data in datagrams:
                    yield from self._hints(protocol, data, ours)
        self.more = left <= 0

    def _hints(self, protocol: int, data: bytes, ours: set[int]) -> Iterator[Hint]:
        for kind, _, _, pid, payload in messages(data):
            if pid and pid in ours:  # from before the kernel was told to drop them
                continue
            try:
                yield from _DECODERS[protocol](self.name, kind, payload)
            except (struct.error, KeyError, IndexError, ValueError):
                # Nonsense from the kernel, or a layout newer than this code: look at everything.
                yield NamespaceHint(self.name)


def _decode_l2tp(name: str, kind: int, payload: bytes) -> Iterator[Hint]:
    if number := l2tp.tunnel_id(payload):
        yield TunnelHint(number)


def _decode_route(name: str, kind: int, payload: bytes) -> Iterator[Hint]:
    if kind in (rtnl.RTM_NEWLINK, rtnl.RTM_DELLINK):
        if payload[0] == socket.AF_BRIDGE:  # port settings, of which none are ours
            return
        state = rtnl.LinkState(payload)
        yield DeviceHint(name, state.name, state.alias, state if kind == rtnl.RTM_NEWLINK else None)
    elif kind in (rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR):
        index, address, plen, peer = rtnl.decode_address(payload)
        yield AddressHint(name, index, peer or address, plen, kind == rtnl.RTM_NEWADDR)
    elif kind in (rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE):
        yield RouteHint(name, *rtnl.route_identity(payload))


def _decode_xfrm(name: str, kind: int, payload: bytes) -> Iterator[Hint]:
    if kind in (xfrm.FLUSHSA, xfrm.FLUSHPOLICY):
        yield NamespaceHint(name)
    elif (sa := xfrm.sa_event(kind, payload)) is not None:
        yield SaHint(name, *sa)
    elif (endpoint := xfrm.event_endpoint(kind, payload)) is not None:
        yield EndpointHint(name, *endpoint)


def _decode_nft(name: str, kind: int, payload: bytes) -> Iterator[Hint]:
    elements = nft.event(kind, name, payload)
    if elements is None:
        yield NamespaceHint(name)
        return
    for element in elements:
        if isinstance(element, Guard):
            yield EndpointHint(name, element.remote, element.local_port, element.remote_port)
        elif isinstance(element, Clamp):
            yield DeviceHint(name, element.ifname, "", None)
        else:
            yield ElementHint(name, element.key)


_NOT_OURS = {rtnl.NETLINK_ROUTE: rtnl.KERNEL_ROUTES}
"""What the kernel need not tell: each address brings a handful of routes with it."""
_DECODERS = {
    l2tp.NETLINK_GENERIC: _decode_l2tp,
    rtnl.NETLINK_ROUTE: _decode_route,
    xfrm.NETLINK_XFRM: _decode_xfrm,
    nft.NETLINK_NETFILTER: _decode_nft,
}
