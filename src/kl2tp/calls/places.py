"""Protection that stands before anything is heard or sent: of places where only IPsec gets in, and of our own calls.

A place is listened at only once its protection is settled in the kernel, and a call is placed only once its own is. It
is taken away only when nobody listens or calls any more.
"""

from collections.abc import Iterable

from kl2tp.control.profiles import Place
from kl2tp.model.calls import LacSpec
from kl2tp.model.desired import Desired
from kl2tp.model.objects import Marks
from kl2tp.model.plan import Unit
from kl2tp.reconcile.loop import Loop
from kl2tp.reconcile.places import lac_name, lac_unit, place_name, place_unit

PORT = 1701
ANY4, ANY6 = bytes(4), bytes(16)


def listening(desired: Desired) -> set[Place]:
    """Where to listen: for calls to us, and for the answers to calls of ours. Those with IPsec have sockets of their
    own from the start."""
    places: set[Place] = set()
    for lns in desired.lns:
        places.update(lns.listen or {(ANY4, PORT), (ANY6, PORT)})
    for lac in desired.lac:
        address, port = lac.local
        wildcard = bytes(len(lac.remotes[0][0]))
        if port and lac.ike is None and (wildcard, port) not in places:
            places.add((address or wildcard, port))
    return places


def guarded(desired: Desired) -> set[Place]:
    """Where only IPsec gets in."""
    places: set[Place] = set()
    for lns in desired.lns:
        if lns.ike is not None:
            places.update(lns.listen or {(ANY4, PORT), (ANY6, PORT)})
    return places


class Places:
    """The units of all places and calls with IPsec."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._units: dict[str, Unit] = {}
        self._problems: dict[str, str] = {}
        """Of units that are not settled; "" while nothing is known."""
        self._left: set[str] = set()

    def configure(self, desired: Desired, marks: Marks, *, filtered: bool = True) -> None:
        """Want these from now on; `release` lets go of those that are wanted no longer."""
        places = guarded(desired)
        units = [place_unit(*place, marks, filtered=filtered) for place in sorted(places)]
        units += [
            lac_unit(lac, lac.ike.reqid, beside_lns=_beside(lac, places)) for lac in desired.lac if lac.ike is not None
        ]
        wanted = {unit.name: unit for unit in units}
        self._left = {name for name in self._units if name not in wanted}
        for name, unit in wanted.items():
            if self._units.get(name) != unit:
                self._problems[name] = ""
                self._loop.put_call(unit)
        self._units = wanted

    def release(self) -> None:
        """Nobody listens or calls any more where that is not wanted."""
        left, self._left = self._left, set()
        for name in left:
            self._problems.pop(name, None)
            self._loop.drop_call(name)
            self._loop.clear_call(name)

    def unit_done(self, name: str, problem: str) -> bool:
        """What became of a unit; whether one of ours is settled, or is so no longer, that was not before."""
        if name not in self._units:
            return False
        before = self._problems.get(name)
        if problem:
            self._problems[name] = problem
        else:
            self._problems.pop(name, None)
        return (before is None) != (not problem) or before != self._problems.get(name)

    def ready(self, places: Iterable[Place], protected: Iterable[Place]) -> set[Place]:
        """Those of the places at which we may listen already."""
        closed = {place for place in protected if place_name(*place) in self._problems}
        return set(places) - closed

    @property
    def any(self) -> bool:
        """Whether there is anything to protect."""
        return bool(self._units)

    def problem_of(self, spec: LacSpec) -> str | None:
        """Why a call must not be placed yet; None: it may."""
        return self._problems.get(lac_name(spec.name))

    def problems(self) -> list[str]:
        """What is in the way of protection, in words."""
        return [f"{name.partition('/')[2]}: {problem}" for name, problem in self._problems.items() if problem]

    def let_go(self) -> list[str]:
        """Want nothing any more; the names of the units."""
        names = [*self._units]
        self._units, self._problems = {}, {}
        return names


def _beside(lac: LacSpec, places: Iterable[Place]) -> bool:
    """Whether a call is placed from where an LNS with IPsec listens."""
    family = len(lac.remotes[0][0])
    return any(len(address) == family and lac.local[1] in (0, port) for address, port in places)
