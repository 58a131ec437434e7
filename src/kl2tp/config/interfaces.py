"""Fields of a session's interface to its spec, checked against itself and against all other interfaces."""

from typing import Any, TypeVar

from kl2tp.config.conflicts import Claims
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.problem import Bad, Mark, Problems, where
from kl2tp.config.scalar import MAX_DEVICE, device
from kl2tp.config.schema import INTERFACE
from kl2tp.model import addr
from kl2tp.model.spec import InterfaceSpec, RouteSpec

T = TypeVar("T")
Given = tuple[Any, Mark]


class InterfaceBuilder:
    """Builds interfaces one after the other."""

    def __init__(self, problems: Problems, claims: Claims, defaults: Fields | None) -> None:
        self.problems = problems
        self.claims = claims
        self.defaults = defaults
        self._shared: dict[Any, Any] = {}

    def build(self, names: tuple[str, str], session: tuple[Mark, Fields], born: str, way_out: str) -> InterfaceSpec:
        """The interface of session `names` = (tunnel, session), made in the namespace `born`. Raises `Broken`.

        `way_out` is the device of the tunnel's own route, which can't be this interface.
        """
        owner = "/".join(names)
        fields: Fields | None = session[1].get("interface")
        if fields is None:
            fields = Fields(INTERFACE, session[0])
        fields.inherited = self.defaults
        name, place = self._name(names, session[0], fields)
        netns: str | None = fields.get("netns")
        home = born if netns is None else netns
        for where_to in {born, home}:
            self.claims.device(where_to, name, (place, owner))
        if name == way_out:
            message = f"{owner}: the route to the peer leads into the tunnel itself, through {name}"
            self.problems.add(place, message, "route.device is the device towards the peer", "loop")
        bridge, vrf = self._masters(owner, home, fields)
        addresses = self._addresses(owner, (home, vrf), fields)
        self._bridged(owner, bridge, fields)
        spec = InterfaceSpec(
            name,
            self._mtu(owner, fields, addresses),
            addresses,
            self._routes(owner, (home, vrf), name, fields, addresses),
            bridge,
            vrf,
            None if netns is None else self.share(netns),
            fields.get("mss", 0),
            fields.get("mac", b""),
            fields.get("up", True),
        )
        self._mss(owner, fields, spec)
        return spec

    def share(self, value: T) -> T:
        """An equal value that is there already."""
        shared: T = self._shared.setdefault(value, value)
        return shared

    def _name(self, names: tuple[str, str], session_place: Mark, fields: Fields) -> tuple[str, Mark]:
        given: str | None = fields.get("name")
        if given is not None:
            return given, fields.place("name")
        derived = "-".join(names)
        try:
            return device(derived), session_place
        except Bad as bad:
            message = f"{'/'.join(names)}: the interface needs a name: {bad.message}"
            hint = f"interface: {{name: ...}} with at most {MAX_DEVICE} characters"
            self.problems.add(session_place, message, hint, "name")
            raise Broken from None

    def _masters(self, owner: str, home: str, fields: Fields) -> tuple[str, str]:
        """Bridge and VRF: one of them, and the interface's own choice wins over that in `defaults`."""
        bridge: str = fields.get("bridge", "")
        vrf: str = fields.get("vrf", "")
        if bridge and vrf:
            own = [key for key in ("bridge", "vrf") if key in fields.given]
            if len(own) == 1:
                bridge, vrf = (bridge, "") if own == ["bridge"] else ("", vrf)
            else:
                message = f"{owner}: an interface joins a bridge or a VRF; bridge is at {where(fields.place('bridge'))}"
                self.problems.add(fields.place("vrf"), message, "put the bridge itself into the VRF", "masters")
        for key, master in (("bridge", bridge), ("vrf", vrf)):
            if master:
                self.claims.master(home, master, (fields.place(key), owner))
        return self.share(bridge), self.share(vrf)

    def _bridged(self, owner: str, bridge: str, fields: Fields) -> None:
        """A port of a bridge has no addresses and routes: the bridge has them."""
        for key in ("addresses", "routes") if bridge else ():
            if fields.get(key):
                message = f"{owner}: an interface in a bridge ({bridge}, at {where(fields.place('bridge'))}) has no {key}"
                self.problems.add(fields.place(key), message, f"give the {key} to the bridge, or remove bridge", key)

    def _addresses(self, owner: str, domain: tuple[str, str], fields: Fields) -> tuple[tuple[bytes, int], ...]:
        given: list[Given] = fields.get("addresses", ())
        for (address, _), mark in given:
            self.claims.address(domain, address, (mark, owner))
        return tuple([value for value, _ in given])

    def _mtu(self, owner: str, fields: Fields, addresses: tuple[tuple[bytes, int], ...]) -> int | None:
        mtu: int | None = fields.get("mtu")
        if mtu is not None and mtu < 1280 and any(len(address) == 16 for address, _ in addresses):
            message = f"{owner}: an mtu of {mtu} is impossible with IPv6 addresses (at {where(fields.place('addresses'))})"
            self.problems.add(fields.place("mtu"), message, "IPv6 needs 1280 bytes", "mtu")
        return mtu

    def _mss(self, owner: str, fields: Fields, spec: InterfaceSpec) -> None:
        """An MSS that can't work is worse than none."""
        if not spec.mss or spec.mtu is None:
            return
        headers = 60 if any(len(address) == 16 for address, _ in spec.addresses) else 40
        if spec.mss > spec.mtu - headers:
            message = f"{owner}: an mss of {spec.mss} is more than the mtu of {spec.mtu} less {headers} bytes of headers"
            hint = f"mss: {max(spec.mtu - headers, 0)}, or auto"
            self.problems.add(fields.place("mss"), f"{message} (mtu at {where(fields.place('mtu'))})", hint, "mss")

    def _routes(
        self,
        owner: str,
        domain: tuple[str, str],
        name: str,
        fields: Fields,
        addresses: tuple[tuple[bytes, int], ...],
    ) -> tuple[RouteSpec, ...]:
        given: list[Given] = fields.get("routes", ())
        if given and not fields.get("up", True):
            message = f"{owner}: an interface that is down (at {where(fields.place('up'))}) carries no routes"
            self.problems.add(fields.place("routes"), message, "up: true", "down")
        routes = []
        for route, mark in given:
            spec = self._route(owner, route, addresses)
            self.claims.route(domain, spec, name, (mark, owner))
            routes.append(spec)
        return tuple(routes)

    def _route(self, owner: str, route: Fields, addresses: tuple[tuple[bytes, int], ...]) -> RouteSpec:
        to: tuple[bytes, int] | None = route.get("to")
        if to is None:
            self.problems.add(route.mark, f"{owner}: the route says not where to", "e.g. to: 10.2.0.0/16", "to")
            raise Broken
        via: bytes = route.get("via", b"")
        if via:
            self._via(owner, route, to, via, addresses)
        return RouteSpec(to[0], to[1], via, route.get("metric", 0), route.get("table", 254))

    def _via(
        self, owner: str, route: Fields, to: tuple[bytes, int], via: bytes, addresses: tuple[tuple[bytes, int], ...]
    ) -> None:
        """The kernel takes a gateway only if one of the interface's own addresses reaches it."""
        place = route.place("via")
        if len(via) != len(to[0]):
            message = f"{owner}: the gateway {addr.text(via)} and {addr.prefix(*to)} are of different IP versions"
            self.problems.add(place, message, "write a gateway of the same version", "via")
        elif any(via == address for address, _ in addresses):
            self.problems.add(place, f"{owner}: the gateway {addr.text(via)} is our own address", "write the peer's", "via")
        elif not (len(via) == 16 and via[0] == 0xFE and via[1] & 0xC0 == 0x80) and not _on_link(via, addresses):
            message = f"{owner}: the gateway {addr.text(via)} is in no prefix of the interface's addresses"
            self.problems.add(place, message, "leave via out, or give the interface an address beside the gateway", "via")


def _on_link(via: bytes, addresses: tuple[tuple[bytes, int], ...]) -> bool:
    return any(
        len(address) == len(via) and addr.network(address, length) == addr.network(via, length)
        for address, length in addresses
    )
