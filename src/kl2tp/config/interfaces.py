"""Fields of a session's interface to its spec, checked against itself and against all other interfaces."""

from typing import Any, TypeVar

from kl2tp.config.conflicts import Claims
from kl2tp.config.draft import Draft
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.problem import Bad, Mark, Problems, where
from kl2tp.config.scalar import MAX_DEVICE, Net, device, link_local, version
from kl2tp.config.schema import INTERFACE
from kl2tp.model import addr
from kl2tp.model.spec import InterfaceSpec, RouteSpec

T = TypeVar("T")
Nets = tuple[Net, ...]
Domain = tuple[str, str]
"""Where addresses and routes are unique: (namespace, VRF)."""


class InterfaceBuilder:
    """Builds interfaces one after the other."""

    def __init__(self, problems: Problems, claims: Claims, defaults: Fields | None) -> None:
        self.problems = problems
        self.claims = claims
        self.defaults = defaults
        self._shared: dict[Any, Any] = {}

    def build(self, draft: Draft, owner: str, session_place: Mark, session_fields: Fields) -> InterfaceSpec:
        """The interface of the session `owner` (TUNNEL/SESSION). Raises `Broken`."""
        fields: Fields | None = session_fields.get("interface")
        if fields is None:
            fields = Fields(INTERFACE, session_place)
            fields.inherit(self.defaults)
        netns: str | None = fields.get("netns")
        born = draft.netns
        home = born if netns is None else netns
        name, place = self._name(owner, session_place, fields)
        self._claim(draft, owner, name, place, home)
        bridge, vrf = self._masters(owner, home, fields)
        addresses = self._addresses(owner, (home, vrf), fields, draft)
        spec = InterfaceSpec(
            name,
            fields.get("mtu"),
            addresses,
            self._routes(owner, (home, vrf), name, fields, addresses) if "routes" in fields.all else (),
            bridge,
            vrf,
            netns,
            fields.get("mss", 0),
            fields.get("mac", b""),
            fields.get("up", True),
        )
        if spec.mtu is not None:
            self._mtu(owner, fields, spec, spec.mtu)
        if bridge:
            self._bridged(owner, fields, spec)
            if spec.mac:
                self.claims.mac(home, bridge, spec.mac, (fields.place("mac"), owner))
        return spec

    def _share(self, value: T) -> T:
        """An equal value that is there already."""
        shared: T = self._shared.setdefault(value, value)
        return shared

    def _name(self, owner: str, session_place: Mark, fields: Fields) -> tuple[str, Mark]:
        """The name and its place: given, or TUNNEL-SESSION."""
        given: str | None = fields.get("name")
        if given is not None:
            return given, fields.place("name")
        try:
            return device(owner.replace("/", "-")), session_place
        except Bad as bad:
            message = f"{owner}: the interface needs a name: {bad.message}"
            hint = f"interface: {{name: ...}} with at most {MAX_DEVICE} characters"
            self.problems.add(session_place, message, hint, "name")
            raise Broken from None

    def _claim(self, draft: Draft, owner: str, name: str, place: Mark, home: str) -> None:
        """The name is unique where the device lives: where it is born to be moved it has another."""
        self.claims.device(home, name, (place, owner))
        if name == draft.route_device:
            message = f"{owner}: the route to the peer leads into the tunnel itself, through {name}"
            self.problems.add(place, message, "route.device is the device towards the peer", "loop")

    def _masters(self, owner: str, home: str, fields: Fields) -> tuple[str, str]:
        """Bridge and VRF: one of them, and the interface's own choice wins over that in `defaults`."""
        bridge: str = fields.get("bridge", "")
        vrf: str = fields.get("vrf", "")
        if not bridge and not vrf:
            return "", ""
        if bridge and vrf:
            own = [key for key in ("bridge", "vrf") if key in fields.own]
            if len(own) == 1:
                bridge, vrf = (bridge, "") if own == ["bridge"] else ("", vrf)
            else:
                place = where(fields.place("bridge"))
                message = f"{owner}: an interface joins a bridge or a VRF, not both; bridge is at {place}"
                self.problems.add(fields.place("vrf"), message, "put the bridge itself into the VRF", "masters")
        for key, master in (("bridge", bridge), ("vrf", vrf)):
            if master:
                self.claims.master(home, master, (fields.place(key), owner))
        return self._share(bridge), self._share(vrf)

    def _bridged(self, owner: str, fields: Fields, spec: InterfaceSpec) -> None:
        """A port of a bridge has no addresses and routes: the bridge has them."""
        for key, values in (("addresses", spec.addresses), ("routes", spec.routes)):
            if values:
                place = where(fields.place("bridge"))
                message = f"{owner}: an interface in a bridge ({spec.bridge}, at {place}) has no {key}"
                hint = f"give the {key} to the bridge, or set bridge: none"
                self.problems.add(fields.place(key), message, hint, key)

    def _addresses(self, owner: str, domain: Domain, fields: Fields, draft: Draft) -> Nets:
        given: list[tuple[Net, Mark]] = fields.get("addresses", ())
        peer = _peer(draft) if domain == (draft.netns, "") else b""
        for (address, _), mark in given:
            self.claims.address(domain, address, (mark, owner))
            if address == peer:
                message = f"{owner}: {addr.text(address)} is the address of the tunnel's peer"
                self.problems.add(mark, message, "give the interface an address of its own", "peer")
        return tuple([value for value, _ in given])

    def _mtu(self, owner: str, fields: Fields, spec: InterfaceSpec, mtu: int) -> None:
        """A given MTU, and an MSS beside it: one that can't work is worse than none."""
        six = any(len(address) == 16 for address, _ in spec.addresses)
        if six and mtu < 1280:
            at = where(fields.place("addresses"))
            message = f"{owner}: an mtu of {mtu} is impossible with IPv6 addresses (at {at})"
            self.problems.add(fields.place("mtu"), message, "IPv6 needs 1280 bytes", "mtu")
        most = mtu - (60 if six else 40)
        if spec.mss and spec.mss > most:
            at = where(fields.place("mtu"))
            message = f"{owner}: an mss of {spec.mss} is over {most}, the mtu (at {at}) less IP and TCP headers"
            self.problems.add(fields.place("mss"), message, "mss: auto", "mss")

    def _routes(self, owner: str, domain: Domain, name: str, fields: Fields, addresses: Nets) -> tuple[RouteSpec, ...]:
        given: list[tuple[Fields, Mark]] = fields.get("routes", ())
        if given and not fields.get("up", True):
            message = f"{owner}: an interface that is down (at {where(fields.place('up'))}) carries no routes"
            self.problems.add(fields.place("routes"), message, "up: true", "down")
        routes = []
        for route, mark in given:
            spec = self._route(owner, route, addresses)
            self.claims.route(domain, spec, name, (mark, owner))
            routes.append(spec)
        return tuple(routes)

    def _route(self, owner: str, route: Fields, addresses: Nets) -> RouteSpec:
        to: Net | None = route.get("to")
        if to is None:
            self.problems.add(route.mark, f"{owner}: a route without destination", "e.g. to: 10.2.0.0/16", "to")
            raise Broken
        via: bytes = route.get("via", b"")
        if via:
            self._via(owner, route, to, via, addresses)
        return RouteSpec(to[0], to[1], self._share(via), route.get("metric", 0), route.get("table", 254))

    def _via(self, owner: str, route: Fields, to: Net, via: bytes, addresses: Nets) -> None:
        """The kernel takes a gateway only if one of the interface's own addresses reaches it."""
        text = addr.text(via)
        if len(via) != len(to[0]):
            message = f"the gateway {text} and {addr.prefix(*to)} are of different IP versions"
            hint = f"write an {version(to[0])} gateway"
        elif any(via == address for address, _ in addresses):
            message = f"the gateway {text} is the interface's own address"
            hint = "write the peer's"
        elif not link_local(via) and not _on_link(via, addresses):
            message = f"the gateway {text} is in no prefix of the interface's addresses"
            hint = "leave via out, or give the interface an address beside the gateway"
        else:
            return
        self.problems.add(route.place("via"), f"{owner}: {message}", hint, "via")


def _peer(draft: Draft) -> bytes:
    """The address of the tunnel's peer, if it is known."""
    try:
        return draft.remote
    except Broken:
        return b""


def _on_link(via: bytes, addresses: Nets) -> bool:
    return any(
        len(address) == len(via) and addr.network(address, length) == addr.network(via, length)
        for address, length in addresses
    )
