"""From a place in the kernel to the tunnel that owns it: what makes the work per event independent of their number."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeAlias

from kl2tp.kernel.events import (
    AddressHint,
    DeviceHint,
    ElementHint,
    EndpointHint,
    Hint,
    NamespaceHint,
    RouteHint,
    SaHint,
    TunnelHint,
)
from kl2tp.model.objects import (
    ALIAS_PREFIX,
    Address,
    Binding,
    Guard,
    GuardedPlace,
    Link,
    Policy,
    Route,
    endpoint_of,
)
from kl2tp.model.plan import Unit
from kl2tp.model.spec import TunnelSpec

_Place: TypeAlias = tuple[object, ...]
_ANY_TABLE = 0


def _places(spec: TunnelSpec) -> Iterator[_Place]:
    """Every place by which an event can name the tunnel."""
    yield (spec.id,)
    if spec.ipsec:  # the SAs of IKE are not ours to make
        yield ("reqid", spec.netns, spec.ipsec.reqid)
    if spec.ipsec or spec.ike:
        yield ("endpoint", spec.netns, spec.remote, spec.local_port, spec.remote_port)
    if spec.route:
        yield ("route", spec.netns, spec.route.table, spec.route.destination, spec.route.prefix_length)
    for session in spec.sessions:
        interface = session.interface
        netns = spec.netns if interface.netns is None else interface.netns
        yield ("device", netns, interface.name)
        for address, plen in interface.addresses:
            yield ("address", netns, address, plen)
        for route in interface.routes:
            # The table of a VRF is known to the kernel only: an event about any table will do.
            table = _ANY_TABLE if interface.vrf else route.table
            yield ("route", netns, table, route.destination, route.prefix_length)


def _unit_places(unit: Unit) -> Iterator[_Place]:
    """The places of a call's objects; its name begins with our tunnel id."""
    tunnel = unit.name.partition("/")[2].partition(".")[0]
    if tunnel.isdecimal():
        yield (int(tunnel),)
    for thing in unit.objects:
        if isinstance(thing, Link):
            yield ("device", thing.netns, thing.name)
        elif isinstance(thing, Address):
            yield ("address", thing.netns, thing.peer or thing.address, thing.prefix_length)
        elif isinstance(thing, Route):
            yield ("route", thing.netns, thing.table, thing.destination, thing.prefix_length)
        elif isinstance(thing, Policy):
            yield ("endpoint", thing.netns, *endpoint_of(thing.direction, thing.selector))
        elif isinstance(thing, Guard):
            yield ("endpoint", thing.netns, thing.remote, thing.local_port, thing.remote_port)
        elif isinstance(thing, GuardedPlace | Binding):
            yield ("element", thing.key)


class Index:
    """Tunnels by place."""

    def __init__(self) -> None:
        self._names: dict[_Place, str | dict[str, None]] = {}
        self._specs: Mapping[str, TunnelSpec] = {}
        self._calls: dict[str, Unit] = {}

    def change(self, specs: Mapping[str, TunnelSpec], touched: Iterable[str]) -> None:
        """Take new specs, of which the tunnels `touched` were added, changed or removed."""
        for name in touched:
            if name in self._specs:
                self._forget(name, _places(self._specs[name]))
            if name in specs:
                self._note(name, _places(specs[name]))
        self._specs = specs

    def put(self, unit: Unit) -> None:
        """Take in the unit of a call, or what it has become."""
        self.drop(unit.name)
        self._calls[unit.name] = unit
        self._note(unit.name, _unit_places(unit))

    def drop(self, name: str) -> None:
        """Forget the unit of a call."""
        if (unit := self._calls.pop(name, None)) is not None:
            self._forget(name, _unit_places(unit))

    def _note(self, name: str, places: Iterable[_Place]) -> None:
        for place in places:
            there = self._names.setdefault(place, name)
            if isinstance(there, dict):
                there[name] = None
            elif there != name:
                self._names[place] = {there: None, name: None}

    def _forget(self, name: str, places: Iterable[_Place]) -> None:
        for place in places:
            there = self._names.get(place)
            if isinstance(there, dict):
                there.pop(name, None)
                if len(there) == 1:
                    (self._names[place],) = there
            elif there == name:
                del self._names[place]

    def _at(self, *place: object) -> tuple[str, ...]:
        there = self._names.get(place, ())
        return (there,) if isinstance(there, str) else tuple(there)

    def find(self, hint: Hint) -> tuple[str, ...]:
        """The tunnels that a hint may be about; () for what is not ours."""
        if isinstance(hint, DeviceHint):
            names = self._at("device", hint.netns, hint.name)
            if hint.alias.startswith(ALIAS_PREFIX):
                alias = hint.alias[len(ALIAS_PREFIX) :]
                renamed = alias if alias in self._calls else alias.partition("/")[0]
                if (renamed in self._specs or renamed in self._calls) and renamed not in names:
                    names += (renamed,)
            return names
        if isinstance(hint, AddressHint):
            return self._at("address", hint.netns, hint.address, hint.prefix_length)
        if isinstance(hint, TunnelHint):
            return self._at(hint.id)
        if isinstance(hint, SaHint):
            return self._at("reqid", hint.netns, hint.reqid)
        if isinstance(hint, ElementHint):
            return self._at("element", hint.key)
        if isinstance(hint, EndpointHint):
            return self._at("endpoint", hint.netns, hint.remote, hint.local_port, hint.remote_port)
        if isinstance(hint, RouteHint):
            prefix = (hint.destination, hint.prefix_length)
            names = self._at("route", hint.netns, hint.table, *prefix)
            return names + self._at("route", hint.netns, _ANY_TABLE, *prefix)
        assert isinstance(hint, NamespaceHint)
        tunnels = tuple(name for name, spec in self._specs.items() if hint.netns in _namespaces(spec))
        return tunnels + tuple(n for n, unit in self._calls.items() if any(o.netns == hint.netns for o in unit.objects))


def _namespaces(spec: TunnelSpec) -> set[str]:
    return {spec.netns} | {s.interface.netns for s in spec.sessions if s.interface.netns is not None}

