"""From an authenticated call to the network objects that it wants: a unit like that of a declared tunnel."""

import heapq
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from kl2tp.model.calls import CallInterfaceSpec, LacSpec, LnsSpec
from kl2tp.model.objects import Address, Clamp, KernelObject, Link, Route
from kl2tp.model.overhead import Stack, mss4, mss6, overhead, with_ike
from kl2tp.model.plan import Unit
from kl2tp.model.spec import Encap, RouteSpec
from kl2tp.reconcile.engine import CALL_PREFIX

ALIAS = "kl2tp:"
LINK_LOCAL = bytes.fromhex("fe80000000000000")
_MAIN_TABLE = 254
_IPV6_METRIC = 1024
_LINK_LOCAL_LENGTH = 64
LARGEST_MRU = 1500


@dataclass(slots=True)
class Grant:
    """What a session was given, or has learnt from its peer. Addresses are packed, empty where there is none."""

    local: bytes = b""
    peer: bytes = b""
    held: bool = False
    """Whether `peer` was given by us, and comes back."""
    local_iid: bytes = b""
    peer_iid: bytes = b""
    """IPv6 interface identifiers, 8 bytes."""
    prefix: bytes = b""
    prefix_length: int = 64
    prefix_held: bool = False
    routes: tuple[RouteSpec, ...] = ()
    dns: tuple[bytes, ...] = ()


def unit_name(tunnel_id: int, call_id: int) -> str:
    """The unit of a call: our two ids name it for as long as it lives."""
    return f"{CALL_PREFIX}{tunnel_id}.{call_id}"


def largest_mtu(profile: LnsSpec | LacSpec, *, ipv6: bool, sequencing: bool) -> int:
    """The largest packet that a session carries without fragments outside, bytes."""
    path_mtu = profile.ppp.path_mtu
    stack = Stack(version=2, encap=Encap.UDP, ipv6=ipv6, sequencing=sequencing)
    return overhead(with_ike(stack, profile.ike, path_mtu), path_mtu).mtu


def mru(profile: LnsSpec | LacSpec, *, ipv6: bool, sequencing: bool) -> int:
    """The MRU that we ask for: what fits the path unless the operator knows better."""
    return profile.ppp.mru or min(LARGEST_MRU, largest_mtu(profile, ipv6=ipv6, sequencing=sequencing))


def unit(name: str, device: str, interface: CallInterfaceSpec, table: int, mtu: int, grant: Grant) -> Unit:
    """The objects of a call; its device is there. `table` is the routing table of its VRF, or main."""
    netns = interface.netns or ""
    link = Link(netns, device, mtu, interface.vrf, True, b"", netns, f"{ALIAS}{name}")
    parts = (
        _addresses(netns, device, grant),
        _routes(netns, device, table, grant),
        _clamp(netns, device, interface, mtu),
    )
    return Unit(name, (link, *chain.from_iterable(parts)))


def _addresses(netns: str, device: str, grant: Grant) -> Iterator[KernelObject]:
    if grant.local and grant.peer:
        yield Address(netns, device, grant.local, 32, grant.peer)
    if grant.local_iid:
        yield Address(netns, device, LINK_LOCAL + grant.local_iid, _LINK_LOCAL_LENGTH)


def _routes(netns: str, device: str, table: int, grant: Grant) -> Iterator[KernelObject]:
    if grant.prefix:
        yield Route(netns, table, grant.prefix, grant.prefix_length, _IPV6_METRIC, b"", device, tunnel_device=True)
    for route in grant.routes:
        ipv6 = len(route.destination) == 16
        if not (grant.local_iid if ipv6 else grant.peer):
            continue  # the family did not come up
        where = table if route.table == _MAIN_TABLE else route.table
        metric = route.metric or (_IPV6_METRIC if ipv6 else 0)
        yield Route(netns, where, route.destination, route.prefix_length, metric, route.via, device, tunnel_device=True)


def _clamp(netns: str, device: str, interface: CallInterfaceSpec, mtu: int) -> Iterator[KernelObject]:
    if interface.mss is not None:
        yield Clamp(netns, device, interface.mss or mss4(mtu), interface.mss or mss6(mtu))


def random_iid() -> bytes:
    """An interface identifier that nobody on the link is likely to have, RFC 5072 4.1: neither zero nor universal."""
    return bytes((secrets.randbits(6) << 2, *secrets.token_bytes(6), 1 + secrets.randbelow(255)))


class Numbers:
    """The numbers in the names of devices: always the smallest that is free."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._free: list[int] = []
        self._next = 0

    def take(self) -> int:
        """A number that nobody has."""
        while self._free:
            number = heapq.heappop(self._free)
            if number not in self._taken:
                self._taken.add(number)
                return number
        while self._next in self._taken:
            self._next += 1
        self._taken.add(self._next)
        self._next += 1
        return self._next - 1

    def claim(self, number: int) -> None:
        """Take this one, which a restored session has."""
        self._taken.add(number)

    def give(self, number: int) -> None:
        """Back."""
        if number in self._taken:
            self._taken.discard(number)
            heapq.heappush(self._free, number)
