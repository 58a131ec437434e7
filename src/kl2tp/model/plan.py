"""The planner: what must be done so that the kernel is as desired. Pure: no clock, no kernel, no order of arrival.

Objects come in *units*: all that one tunnel needs, from its policies to its addresses. Operations come in *stages* that
hold across units, so that a stage is one batch to the kernel, and so that protection goes up before a tunnel and comes
down after it, for every unit, whatever else changes:

    PROTECT     block policies, guards, SAs, policies that demand them
    DISMANTLE   what must go, from the clamp down to the tunnel and its route
    BUILD       route, tunnel, session, device, addresses, routes, clamp
    UNPROTECT   policies, SAs, guards and, at the very last, block policies that no tunnel needs any more
"""

import enum
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from typing import overload

from kl2tp.model.objects import NO_SUBLAYER, Address, KernelObject, Key, Link, Policy, Route, Sa, Session, Tunnel
from kl2tp.model.value import dataclass


@dataclass(frozen=True, slots=True)
class Unit:
    """The desired objects of one tunnel or call, protection first. `objects` is empty for what is to go."""

    name: str
    objects: tuple[KernelObject, ...] = ()
    _keys: tuple[Key, ...] | None = field(default=None, init=False, repr=False, compare=False)

    def keys(self) -> tuple[Key, ...]:
        """The keys of `objects`, in their order."""
        if self._keys is None:
            object.__setattr__(self, "_keys", tuple(o.key for o in self.objects))
            assert self._keys is not None
        return self._keys


class Stage(enum.IntEnum):
    """The order of operations; see the module's text."""

    PROTECT_BLOCK = 10
    PROTECT_GUARD = 11
    PROTECT_SA = 12
    PROTECT_POLICY = 13
    DISMANTLE_CLAMP = 20
    DISMANTLE_ROUTE = 21
    DISMANTLE_ADDRESS = 22
    DISMANTLE_SESSION = 23
    DISMANTLE_TUNNEL = 24
    DISMANTLE_PEER_ROUTE = 25
    BUILD_PEER_ROUTE = 30
    BUILD_TUNNEL = 31
    BUILD_SESSION = 32
    BUILD_LINK = 33
    BUILD_ADDRESS = 34
    BUILD_ROUTE = 35
    BUILD_CLAMP = 36
    UNPROTECT_POLICY = 40
    UNPROTECT_SA = 41
    UNPROTECT_GUARD = 42
    UNPROTECT_BLOCK = 43


class Verb(enum.Enum):
    """What an operation does to its object."""

    CREATE = "+"
    UPDATE = "~"
    DELETE = "-"


@dataclass(frozen=True, slots=True)
class Operation:
    """One change to one kernel object."""

    stage: Stage
    verb: Verb
    unit: str
    target: KernelObject
    """The object as it shall be; for a deletion, as it is."""
    before: KernelObject | None = None
    """For an update: the object as it is."""
    differences: tuple[str, ...] = ()
    """For an update or a replacement: `field: old -> new`, never with key material."""
    takes: tuple[KernelObject, ...] = ()
    """For the deletion of a tunnel: its sessions, which go with it."""

    def __str__(self) -> str:
        changes = f"  ({', '.join(self.differences)})" if self.differences else ""
        return f"{self.verb.value} {self.target}{changes}"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A desired object's place is taken by one that kl2tp did not make."""

    unit: str
    wanted: KernelObject
    found: KernelObject

    def __str__(self) -> str:
        return (
            f"{self.found} exists and was not made by kl2tp; "
            "remove it, give this tunnel other ids, or take it over with: kl2tp apply --adopt"
        )


@dataclass(slots=True)
class Plan:
    """Operations in the order of execution, and what stands in the way."""

    operations: list[Operation] = field(default_factory=list)
    conflicts: list[Conflict] = field(default_factory=list)
    handed: dict[str, set[Key]] = field(default_factory=dict)
    """Per unit the keys of what it gives up and another takes over as it stands."""

    def __bool__(self) -> bool:
        return bool(self.operations or self.conflicts)


_DISMANTLE = {
    "clamp": Stage.DISMANTLE_CLAMP,
    "route": Stage.DISMANTLE_ROUTE,
    "address": Stage.DISMANTLE_ADDRESS,
    "session": Stage.DISMANTLE_SESSION,
    "tunnel": Stage.DISMANTLE_TUNNEL,
    "sa": Stage.UNPROTECT_SA,
    "guard": Stage.UNPROTECT_GUARD,
    "place": Stage.UNPROTECT_GUARD,
    "binding": Stage.UNPROTECT_GUARD,
}
_BUILD = {
    "clamp": Stage.BUILD_CLAMP,
    "route": Stage.BUILD_ROUTE,
    "address": Stage.BUILD_ADDRESS,
    "link": Stage.BUILD_LINK,
    "session": Stage.BUILD_SESSION,
    "tunnel": Stage.BUILD_TUNNEL,
    "sa": Stage.PROTECT_SA,
    "guard": Stage.PROTECT_GUARD,
    "place": Stage.PROTECT_GUARD,
    "binding": Stage.PROTECT_GUARD,
}
_EXCLUSIVE = ("tunnel", "session", "link", "sa", "policy")
"""Kinds of which an equal one made by somebody else is a conflict: to share it would be to lose it with them."""
_DIFFER_IN_PLACE = {"send_sequence", "require_sequence", "reorder_ms"}


def _stage(target: KernelObject, *, delete: bool) -> Stage:
    if isinstance(target, Policy):
        if target.template is None:
            return Stage.UNPROTECT_BLOCK if delete else Stage.PROTECT_BLOCK
        return Stage.UNPROTECT_POLICY if delete else Stage.PROTECT_POLICY
    if isinstance(target, Route) and not target.tunnel_device:
        return Stage.DISMANTLE_PEER_ROUTE if delete else Stage.BUILD_PEER_ROUTE
    return (_DISMANTLE if delete else _BUILD)[target.kind]


def creations(unit: Unit) -> list[Operation]:
    """How a unit of which nothing is there is made, in the order of execution."""
    staged = ((_stage(wanted, delete=False), wanted) for wanted in unit.objects)
    operations = [Operation(stage, Verb.CREATE, unit.name, wanted) for stage, wanted in staged]
    operations.sort(key=lambda op: op.stage)
    return operations


class Created(Sequence[Operation]):
    """The creation of a whole unit, spelled out only if somebody reads it: of thousands nobody does."""

    __slots__ = ("_count", "_unit")

    def __init__(self, count: int, unit: Callable[[], Unit]) -> None:
        self._count, self._unit = count, unit

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Operation: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Operation]: ...
    def __getitem__(self, index: int | slice) -> Operation | Sequence[Operation]:
        return creations(self._unit())[index]

    def __iter__(self) -> Iterator[Operation]:
        return iter(creations(self._unit()))


def verbs(operations: Sequence[Operation]) -> dict[str, int]:
    """How many operations there are of each sort."""
    if isinstance(operations, Created):
        return {Verb.CREATE.value: len(operations)}
    return Counter(op.verb.value for op in operations)


def satisfied(wanted: KernelObject, found: KernelObject) -> bool:
    """Whether the kernel's object is as desired, where the wish leaves something open too."""
    return wanted == found or not differences(wanted, found)


def differences(wanted: KernelObject, found: KernelObject) -> tuple[str, ...]:
    """`field: found -> wanted` for every field that matters and differs."""
    if type(wanted) is not type(found):
        return ("kind",)
    result = []
    for name in wanted.__slots__:
        new, old = getattr(wanted, name), getattr(found, name)
        if new == old or name in _IGNORED or (not new and (wanted.kind, name) in _OPEN):
            continue
        result.append("key changed" if "key" in name else f"{name}: {_show(old)} -> {_show(new)}")
    return tuple(result)


_IGNORED = {"l2spec", "outbound", "tunnel_netns", "name_at_birth", "tunnel_device"}
_OPEN = {("link", "mac"), ("route", "device")}
"""Fields whose empty value in the wish means: whatever the kernel chose."""


def _show(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() or "none"
    if isinstance(value, enum.Enum):
        return value.name.lower()
    return str(value) if value not in (None, "") else "none"


def plan(
    units: Iterable[Unit],
    actual: Mapping[Key, KernelObject],
    owned: Mapping[str, Collection[Key]],
    *,
    adopt: bool = False,
    retained: Callable[[str, Key], bool] = lambda unit, key: False,
) -> Plan:
    """The operations that make `actual` as the units desire.

    `owned` names, per unit, the keys of what kl2tp made for it: only these are ever changed or deleted. `adopt` takes
    over what stands in the place of a desired object. `retained` tells that another unit needs an object too. What one
    unit gives up and another desires is handed over: so tunnels can be renamed, and can exchange their ids.
    """
    units = list(units)
    given = _given_up(units, owned)
    conflicts: dict[str, list[Conflict]] = {}
    while True:
        heirs = _heirs((u for u in units if u.name not in conflicts), given)
        planners = [_UnitPlanner(u, actual, owned.get(u.name, ()), heirs, adopt=adopt) for u in units]
        for planner in planners:
            planner.run(retained)
        news = {p.unit.name: p.conflicts for p in planners if p.conflicts and p.unit.name not in conflicts}
        conflicts |= news
        if not news or not given:  # else once more: a unit in conflict inherits nothing
            break
    # Half a tunnel helps nobody: with a part of it in foreign hands nothing is built, and what is ours stays as it is.
    operations = [op for p in planners if p.unit.name not in conflicts for op in p.operations]
    operations.sort(key=lambda op: op.stage)
    handed = {p.unit.name: p.handed for p in planners if p.handed}
    return Plan(operations, [conflict for found in conflicts.values() for conflict in found], handed)


def _given_up(units: Iterable[Unit], owned: Mapping[str, Collection[Key]]) -> set[Key]:
    """Keys of what some unit owns and no longer desires."""
    given: set[Key] = set()
    for unit in units:
        if keys := owned.get(unit.name):
            given.update(set(keys).difference(unit.keys()))
    return given


def _heirs(units: Iterable[Unit], given: Collection[Key]) -> dict[Key, set[str]]:
    """The units that desire what others give up."""
    heirs: dict[Key, set[str]] = {}
    if given:
        for unit in units:
            for key in unit.keys():  # noqa: SIM118 a unit is no mapping
                if key in given:
                    heirs.setdefault(key, set()).add(unit.name)
    return heirs


class _UnitPlanner:
    """The planning of one unit: which of its objects vanish with others decides what must be made anew."""

    __slots__ = (
        *("actual", "adopt", "conflicts", "devices", "disturbed_devices", "handed", "lost_devices", "lost_sessions"),
        *("operations", "owned", "removed_sas", "unit"),
    )

    def __init__(
        self,
        unit: Unit,
        actual: Mapping[Key, KernelObject],
        owned: Collection[Key],
        heirs: Mapping[Key, Collection[str]],
        *,
        adopt: bool,
    ) -> None:
        self.unit, self.actual, self.adopt = unit, actual, adopt
        self.owned = {*owned, *(key for key in unit.keys() if key in heirs)} if heirs else owned  # noqa: SIM118
        self.handed = {key for key in owned if key in heirs and unit.name not in heirs[key]}
        """What other units take over."""
        self.operations: list[Operation] = []
        self.conflicts: list[Conflict] = []
        self.lost_sessions: set[Key] = set()
        self.devices = {o.birth_name: o.name for o in unit.objects if isinstance(o, Link)}
        """What devices are called in the end, by the names that their sessions know."""
        self.lost_devices: set[str] = set()
        self.disturbed_devices: set[str] = set()
        """Devices that lose routes or addresses by what is done to them: by a new master, by going down, by losing an
        address (with the last one the kernel takes the routes away)."""
        self.removed_sas: dict[Key, Sa] = {}
        """SAs to go, by their key without the mark: the kernel takes marks for wildcards when it looks one up."""

    def emit(
        self, verb: Verb, target: KernelObject, before: KernelObject | None = None, why: tuple[str, ...] = ()
    ) -> None:
        stage = _stage(target, delete=verb is Verb.DELETE)
        takes = tuple(self.sessions_of(target)) if verb is Verb.DELETE and isinstance(target, Tunnel) else ()
        self.operations.append(Operation(stage, verb, self.unit.name, target, before, why, takes))

    def run(self, retained: Callable[[str, Key], bool]) -> None:
        """Plan the unit."""
        if not self.owned and not self.actual:  # the first time, of thousands perhaps: all is missing
            self.operations = creations(self.unit)
            return
        keys = self.unit.keys()
        for key in sorted(set(self.owned).difference(keys), key=_rank):
            found = self.actual.get(key)
            if found is None or isinstance(found, Link) or self.vanishes(found):
                continue
            if key not in self.handed and not retained(self.unit.name, key):
                self.remove(found)
        for key, wanted in sorted(zip(keys, self.unit.objects, strict=True), key=lambda pair: _rank(pair[0])):
            self.want(key, wanted)
        self.remove_sas()

    def sessions_of(self, tunnel: Tunnel) -> Iterator[Session]:
        """The unit's sessions in a tunnel that are there."""
        keys = [key for key in {*self.owned, *self.unit.keys()} if key[:3] == ("session", tunnel.netns, tunnel.id)]
        for key in sorted(keys):
            if isinstance(found := self.actual.get(key), Session):
                yield found

    def tunnel_lost(self, tunnel: Tunnel) -> None:
        """A tunnel takes its sessions with it, and these their devices with all that is on them."""
        for key in {*self.owned, *self.unit.keys()}:
            if key[0] == "session" and key[1:3] == (tunnel.netns, tunnel.id):
                self.session_lost(self.actual.get(key))
                self.lost_sessions.add(key)

    def session_lost(self, session: KernelObject | None) -> None:
        if isinstance(session, Session):
            self.lost_devices.add(self.device_of(session))

    def device_of(self, session: Session) -> str:
        return self.devices.get(session.ifname, session.ifname)

    def vanishes(self, found: KernelObject) -> bool:
        """Whether the object goes by itself with something that is taken away."""
        if isinstance(found, Session):
            return found.key in self.lost_sessions
        if isinstance(found, Link):
            return found.name in self.lost_devices
        if isinstance(found, Address):
            return found.ifname in self.lost_devices
        return isinstance(found, Route) and bool(found.device) and found.device in self.lost_devices

    def remove(self, found: KernelObject) -> None:
        """Take away what is no longer desired."""
        if isinstance(found, Tunnel):
            self.tunnel_lost(found)
        elif isinstance(found, Session):
            self.session_lost(found)
        elif isinstance(found, Sa):
            self.removed_sas[found.key[:4]] = found
            return
        elif isinstance(found, Address):
            self.disturbed_devices.add(found.ifname)
        self.emit(Verb.DELETE, found)

    def remove_sas(self) -> None:
        """Take away the SAs whose place no other one takes."""
        for sa in self.removed_sas.values():
            self.emit(Verb.DELETE, sa)

    def want(self, key: Key, wanted: KernelObject) -> None:
        """Make one object as desired."""
        found = self.actual.get(key)
        foreign = found is not None and key not in self.owned and not self.adopt
        if found is not None and self.vanishes(found) and not (foreign and isinstance(found, Link)):
            found = None
        if found is None:
            self.missing(wanted)
        elif foreign:
            if wanted.kind in _EXCLUSIVE or not satisfied(wanted, found):
                self.conflicts.append(Conflict(self.unit.name, wanted, found))
        elif wanted != found and (why := differences(wanted, found)):
            self.change(wanted, found, why)
        elif _device(wanted) in self.disturbed_devices:
            self.emit(Verb.UPDATE, wanted, found)

    def missing(self, wanted: KernelObject) -> None:
        """Make what is not there; a device that left its session comes back only with a new session."""
        if isinstance(wanted, Session):
            self.lost_devices.add(self.device_of(wanted))
        elif isinstance(wanted, Link) and wanted.name not in self.lost_devices:
            self.renew_session(wanted.name, f"device {wanted.name} is gone")
        elif isinstance(wanted, Sa) and (old := self.removed_sas.pop(wanted.key[:4], None)):
            self.emit(Verb.UPDATE, wanted, old, differences(wanted, old))
            return
        self.emit(Verb.CREATE, wanted)

    def renew_session(self, device: str, why: str) -> None:
        """Make the session of a device anew, and with it the device."""
        for session in self.unit.objects:
            if isinstance(session, Session) and self.device_of(session) == device and session.key in self.actual:
                self.operations = [op for op in self.operations if op.target.key != session.key]
                self.replace(session, self.actual[session.key], (why,))

    def change(self, wanted: KernelObject, found: KernelObject, why: tuple[str, ...]) -> None:
        """Change in place what can be; replace what cannot."""
        if isinstance(found, Tunnel):
            self.tunnel_lost(found)
            self.replace(wanted, found, why)
        elif isinstance(found, Session) and not {w.partition(":")[0] for w in why} <= _DIFFER_IN_PLACE:
            self.replace(wanted, found, why)
        elif isinstance(wanted, Link) and isinstance(found, Link) and self.needs_new_device(wanted, found, why):
            self.emit(Verb.CREATE, wanted)
        else:
            self.emit(Verb.UPDATE, wanted, found, why)

    def needs_new_device(self, wanted: Link, found: Link, why: tuple[str, ...]) -> bool:
        """Whether a device cannot become as desired: another sublayer, or another MAC while it is up."""
        changed = {w.partition(":")[0] for w in why}
        if changed & {"master", "up"}:
            self.disturbed_devices.add(wanted.name)
        if found.alias and wanted.alias.endswith(NO_SUBLAYER) != found.alias.endswith(NO_SUBLAYER):
            self.renew_session(wanted.name, "l2_sublayer changed")
            return True
        if "mac" not in changed or not found.up:
            return False
        self.renew_session(wanted.name, f"device {wanted.name} needs another address")
        return True

    def replace(self, wanted: KernelObject, found: KernelObject, why: tuple[str, ...]) -> None:
        """Delete and create: for objects that the kernel cannot change."""
        self.session_lost(found)
        self.session_lost(wanted)
        self.emit(Verb.DELETE, found, why=why)
        self.emit(Verb.CREATE, wanted)


def _device(thing: KernelObject) -> str:
    """The device that an address or route stands on."""
    return thing.ifname if isinstance(thing, Address) else thing.device if isinstance(thing, Route) else ""


_ORDER: dict[str | int, int] = {"tunnel": 0, "session": 1, "link": 2}
"""What takes others with it is planned first."""


def _rank(key: Key) -> int:
    return _ORDER.get(key[0], 3)
