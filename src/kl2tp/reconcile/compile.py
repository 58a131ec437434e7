"""From a tunnel's spec and keys to the kernel objects that it stands for.

Protection of a tunnel is four policies, two SAs and a guard. In each direction one policy demands the tunnel's SA for
exactly its packets, and a wider one of lower priority blocks them from whatever source: if the first is taken away,
nothing passes. The outbound policy names its SA by SPI, so that a new key is taken into use by one atomic update.

With IKE the SAs are charon's, and the policies name them by reqid alone: the kernel takes the newest.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from kl2tp.ipsec.keys import Associations, KeyRing, SaKeys, cookie, derive
from kl2tp.model.addr import ANY4, ANY6
from kl2tp.model.ciphers import find
from kl2tp.model.objects import (
    ALIAS_PREFIX,
    NO_SUBLAYER,
    Address,
    Clamp,
    Direction,
    Guard,
    KernelObject,
    Link,
    Policy,
    Route,
    Sa,
    Secret,
    Selector,
    Session,
    Template,
    Tunnel,
)
from kl2tp.model.overhead import for_session, mss4, mss6
from kl2tp.model.plan import Unit
from kl2tp.model.spec import Encap, IpsecSpec, L2Spec, Mode, RouteSpec, SessionSpec, TunnelSpec

PRIORITY_PROTECT = 1000
PRIORITY_BLOCK = 2000
_UDP, _L2TP = 17, 115
_IPV6_DEFAULT_METRIC = 1024
_LONGEST_NAME = 15
"""Of a device, in bytes."""
_NO_SECRET = Secret(b"")


@dataclass(frozen=True, slots=True)
class Keying:
    """The associations that a tunnel uses at a moment."""

    sending: SaKeys
    """The one that outbound packets are protected with."""
    outbound: tuple[SaKeys, ...]
    inbound: tuple[SaKeys, ...]

    @classmethod
    def steady(cls, associations: Associations) -> "Keying":
        """Send with the first key, accept all."""
        first = associations.outbound[0]
        return cls(first, (first,), associations.inbound)


def keying(spec: TunnelSpec, ring: KeyRing) -> Keying | None:
    """The keys that the tunnel's file asks for; None without IPsec. Raises KeyFileError."""
    return Keying.steady(derive(ring.get(spec.ipsec.key_file), spec)) if spec.ipsec else None


VrfTable: TypeAlias = Callable[[str, str], int]
"""The routing table of a VRF, by its namespace and name."""
MAIN_TABLE = 254


def compile_unit(
    spec: TunnelSpec,
    ring: KeyRing,
    keys: Keying | None,
    vrf_table: VrfTable = lambda netns, name: MAIN_TABLE,
    *,
    secured: bool = True,
) -> Unit:
    """All kernel objects of a tunnel, protection first. Raises KeyFileError for cookies that cannot be derived.

    `secured`: whether IKE has brought the SAs about. Without them its devices are down.
    """
    objects: list[KernelObject] = []
    if protection := protection_of(spec):
        objects += _protection(spec, protection, keys)
    if spec.route:
        objects.append(_peer_route(spec, spec.route))
    objects.append(
        Tunnel(
            spec.netns,
            spec.id,
            spec.peer_id,
            spec.encap,
            spec.local,
            spec.remote,
            spec.local_port,
            spec.remote_port,
            spec.checksum or spec.encap == Encap.IP,
        )
    )
    for session in spec.sessions:
        objects += _session(spec, session, ring, vrf_table, secured=secured or not spec.ike)
    return Unit(spec.name, tuple(objects))


@dataclass(frozen=True, slots=True)
class Protection:
    """What policies need to know of a tunnel's IPsec, wherever its SAs come from."""

    reqid: int
    mode: Mode
    mark: tuple[int, int] | None = None
    offload_device: str = ""
    """That does all of ESP."""


def protection_of(spec: TunnelSpec) -> Protection | None:
    """The protection of a tunnel; None for one in clear."""
    if spec.ike:
        return Protection(spec.ike.reqid, spec.ike.mode)
    if ipsec := spec.ipsec:
        device = ipsec.offload_device if ipsec.offload_packet else ""
        return Protection(ipsec.reqid, ipsec.mode, ipsec.mark, device)
    return None


def _protection(spec: TunnelSpec, ipsec: Protection, keys: Keying | None) -> Iterator[KernelObject]:
    ns, mark = spec.netns, ipsec.mark
    bits = len(spec.local) * 8
    anywhere = ANY4 if bits == 32 else ANY6
    proto = _UDP if spec.encap == Encap.UDP else _L2TP
    lport, rport = spec.local_port, spec.remote_port
    # The blocks hold for packets of every mark, unless marks keep apart tunnels between the same endpoints.
    yield Policy(
        ns, Direction.OUT, Selector(anywhere, 0, spec.remote, bits, proto, lport, rport), PRIORITY_BLOCK, None, mark
    )
    yield Policy(
        ns, Direction.IN, Selector(spec.remote, bits, anywhere, 0, proto, rport, lport), PRIORITY_BLOCK, None, mark
    )
    yield Guard(ns, spec.remote, lport, rport)
    if spec.ipsec:
        assert keys is not None
        yield from (_sa(spec, spec.ipsec, sa, outbound=False) for sa in keys.inbound)
        yield from (_sa(spec, spec.ipsec, sa, outbound=True) for sa in keys.outbound)
    yield Policy(
        ns,
        Direction.IN,
        Selector(spec.remote, bits, spec.local, bits, proto, rport, lport),
        PRIORITY_PROTECT,
        _template(ipsec, spec.remote, spec.local),
        mark,
        ipsec.offload_device,
    )
    yield Policy(
        ns,
        Direction.OUT,
        Selector(spec.local, bits, spec.remote, bits, proto, lport, rport),
        PRIORITY_PROTECT,
        _template(ipsec, spec.local, spec.remote, keys.sending.spi if spec.ipsec and keys else 0),
        mark,
        ipsec.offload_device,
    )


def _template(ipsec: Protection, source: bytes, destination: bytes, spi: int = 0) -> Template:
    outer = (source, destination) if ipsec.mode == Mode.TUNNEL else (b"", b"")
    return Template(ipsec.reqid, ipsec.mode, *outer, spi=spi)


def _sa(spec: TunnelSpec, ipsec: IpsecSpec, keys: SaKeys, *, outbound: bool) -> Sa:
    cipher = find(ipsec.cipher)
    ends = (spec.local, spec.remote) if outbound else (spec.remote, spec.local)
    ports = (ipsec.nat_local_port, ipsec.nat_remote_port)
    return Sa(
        spec.netns,
        *ends,
        keys.spi,
        ipsec.mode,
        ipsec.reqid,
        cipher.kernel_encryption,
        keys.encryption,
        cipher.aead,
        cipher.icv,
        cipher.kernel_integrity,
        keys.integrity,
        ipsec.replay_window,
        ipsec.esn,
        *(ports if outbound else ports[::-1]),
        ipsec.mark,
        ipsec.offload_device,
        ipsec.offload_packet,
        outbound=outbound,
    )


def _peer_route(spec: TunnelSpec, route: RouteSpec) -> Route:
    return _route(spec.netns, route, spec.route_device, of_session=False)


def _route(netns: str, route: RouteSpec, device: str, *, of_session: bool) -> Route:
    metric = route.metric or (_IPV6_DEFAULT_METRIC if len(route.destination) == 16 else 0)
    return Route(
        netns, route.table, route.destination, route.prefix_length, metric, route.via, device, tunnel_device=of_session
    )


def _session(
    spec: TunnelSpec, session: SessionSpec, ring: KeyRing, vrf_table: VrfTable, *, secured: bool
) -> Iterator[KernelObject]:
    interface = session.interface
    expected, sent = cookies(spec, session, ring)
    link = expected_link(spec, session, secured=secured)
    yield Session(
        spec.netns,
        spec.id,
        session.id,
        session.peer_id,
        link.birth_name,
        # The kernel's own "cookie" is the one it sends, its "peer cookie" the one it expects.
        sent,
        expected,
        session.l2spec,
        session.send_sequence,
        session.require_sequence,
        session.reorder_ms,
    )
    netns, mtu = link.netns, link.mtu
    yield link
    for address, plen in interface.addresses:
        if secured or len(address) == 4:  # the kernel takes IPv6 addresses from a device that goes down
            yield Address(netns, interface.name, address, plen)
    for route in interface.routes if link.up else ():  # the kernel takes no route into a device that is down
        if interface.vrf and route.table == MAIN_TABLE:
            route = replace(route, table=vrf_table(netns, interface.vrf))
        yield _route(netns, route, interface.name, of_session=True)
    if interface.mss is not None and not interface.bridge:
        yield Clamp(netns, interface.name, interface.mss or mss4(mtu), interface.mss or mss6(mtu))


def expected_link(spec: TunnelSpec, session: SessionSpec, *, secured: bool = True) -> Link:
    """The settings of a session's device; `secured` as above."""
    interface = session.interface
    netns = spec.netns if interface.netns is None else interface.netns
    return Link(
        netns,
        interface.name,
        interface.mtu or for_session(spec, session).mtu,
        interface.bridge or interface.vrf,
        interface.up and secured,
        interface.mac,
        spec.netns,
        f"{ALIAS_PREFIX}{spec.name}/{session.name}{NO_SUBLAYER if session.l2spec == L2Spec.NONE else ''}",
        "" if netns == spec.netns else _birth_name(spec.id, session.id),
    )


def _birth_name(tunnel: int, session: int) -> str:
    """A name that a device has until it is moved: where it is born, its own may be taken by another to be moved too."""
    name = f"kl2tp-{tunnel:x}-{session:x}"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"kl-{hashlib.sha256(name.encode()).hexdigest()[: _LONGEST_NAME - 3]}"


def session_name(spec: TunnelSpec, thing: KernelObject) -> str:
    """The session that an object belongs to; "" for what belongs to the tunnel as a whole."""
    if isinstance(thing, Session):
        return next((s.name for s in spec.sessions if s.id == thing.id), "")
    if isinstance(thing, Link):
        device = thing.name
    elif isinstance(thing, Address | Clamp):
        device = thing.ifname
    elif isinstance(thing, Route) and thing.tunnel_device:
        device = thing.device
    else:
        return ""
    return next((s.name for s in spec.sessions if s.interface.name == device), "")


def cookies(spec: TunnelSpec, session: SessionSpec, ring: KeyRing) -> tuple[bytes, bytes]:
    """Of a session: (the one that we expect, the one that we send). Raises KeyFileError if none can be derived."""
    wish = session.cookie
    if wish.local is not None and wish.peer is not None:
        return wish.local, wish.peer
    path = spec.secret_file or (spec.ipsec.key_file if spec.ipsec else "")
    return cookie(ring.get(path), spec, session, wish.length)
