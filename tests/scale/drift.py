"""Changes behind kl2tp's back, by sockets of our own, and how long until they are undone."""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from kl2tp.kernel import rtnl, xfrm
from kl2tp.kernel.door import Door
from kl2tp.model.objects import Address, Clamp, Guard, KernelObject, Link, Policy, Sa, Session, Tunnel
from kl2tp.model.plan import Unit, satisfied

PATIENCE_S = 10.0
_PAUSE_S = 0.02
_POLL_S = 0.004


@dataclass(slots=True)
class Outcome:
    """How a run of injections ended."""

    injected: int
    repaired: int
    slowest_s: float
    """From the change to the look that found everything as it was; a look is taken every few milliseconds."""
    slowest: str
    """What that was."""


def of(unit: Unit, kind: type[KernelObject]) -> KernelObject:
    """The first object of a kind in a unit."""
    return next(o for o in unit.objects if isinstance(o, kind))


class Saboteur:
    """Deletes and changes objects, with the kernel's own messages."""

    def __init__(self, door: Door) -> None:
        self._host = door.host("")

    def sa_deleted(self, unit: Unit) -> None:
        sa = of(unit, Sa)
        assert isinstance(sa, Sa)
        self._host.xfrm.request(xfrm.sa_delete(sa))

    def block_deleted(self, unit: Unit) -> None:
        policy = of(unit, Policy)
        assert isinstance(policy, Policy)
        self._host.xfrm.request(xfrm.policy_delete(policy))

    def policy_deleted(self, unit: Unit) -> None:
        policy = [o for o in unit.objects if isinstance(o, Policy) and o.template][-1]
        self._host.xfrm.request(xfrm.policy_delete(policy))

    def policy_changed(self, unit: Unit) -> None:
        policy = next(o for o in unit.objects if isinstance(o, Policy) and o.template)
        self._host.xfrm.request(xfrm.policy_set(replace(policy, priority=500), self._host.device_index))

    def guard_removed(self, unit: Unit) -> None:
        guard = of(unit, Guard)
        assert isinstance(guard, Guard)
        self._host.table.remove([guard])

    def clamp_removed(self, unit: Unit) -> None:
        clamp = of(unit, Clamp)
        assert isinstance(clamp, Clamp)
        self._host.table.remove([clamp])

    def tunnel_deleted(self, unit: Unit) -> None:
        tunnel = of(unit, Tunnel)
        assert isinstance(tunnel, Tunnel)
        self._host.genl.request(self._host.l2tp.tunnel_delete(tunnel.id))

    def session_deleted(self, unit: Unit) -> None:
        session = of(unit, Session)
        assert isinstance(session, Session)
        self._host.genl.request(self._host.l2tp.session_delete(session))

    def link_down(self, unit: Unit) -> None:
        self._set(unit, up=False)

    def mtu_changed(self, unit: Unit) -> None:
        self._set(unit, mtu=1280)

    def _set(self, unit: Unit, **change: object) -> None:
        link = of(unit, Link)
        assert isinstance(link, Link)
        self._host.route.request(rtnl.link_set(replace(link, **change), 0, set_master=False))  # type: ignore[arg-type]

    def address_deleted(self, unit: Unit) -> None:
        address = of(unit, Address)
        assert isinstance(address, Address)
        index = self._host.device_index(address.ifname)
        self._host.route.request(rtnl.address_delete(address, index))

    def deeds(self) -> list[Callable[[Unit], None]]:
        return [
            self.sa_deleted,
            self.block_deleted,
            self.policy_deleted,
            self.policy_changed,
            self.guard_removed,
            self.clamp_removed,
            self.tunnel_deleted,
            self.session_deleted,
            self.link_down,
            self.mtu_changed,
            self.address_deleted,
        ]


def intact(door: Door, unit: Unit) -> bool:
    """Whether every object of a unit is there and as desired."""
    door.forget_devices()
    actual = door.read(unit.keys())
    return all(o.key in actual and satisfied(o, actual[o.key]) for o in unit.objects)


def inject(units: Mapping[str, Unit], count: int, seed: int = 1) -> Outcome:
    """`count` changes to random tunnels, one every few milliseconds; wait until all are undone."""
    rng = random.Random(seed)
    names = rng.sample(sorted(units), min(count, len(units)))
    door = Door()
    deeds = Saboteur(door).deeds()
    waiting: dict[str, tuple[float, str]] = {}
    outcome = Outcome(len(names), 0, 0.0, "")
    for name in names:
        deed = rng.choice(deeds)
        deed(units[name])
        waiting[name] = (time.monotonic(), deed.__name__)
        _watch(door, units, waiting, outcome, time.monotonic() + _PAUSE_S)
    _watch(door, units, waiting, outcome, time.monotonic() + PATIENCE_S)
    door.close()
    return outcome


def _watch(
    door: Door, units: Mapping[str, Unit], waiting: dict[str, tuple[float, str]], outcome: Outcome, until: float
) -> None:
    """Look at what is not undone yet, until nothing is or the time is over."""
    while waiting and time.monotonic() < until:
        time.sleep(_POLL_S)
        for name, (began, what) in list(waiting.items()):
            if intact(door, units[name]):
                del waiting[name]
                outcome.repaired += 1
                took = time.monotonic() - began
                if took > outcome.slowest_s:
                    outcome.slowest_s, outcome.slowest = took, what
    if (pause := until - time.monotonic()) > 0 and not waiting and until - time.monotonic() <= _PAUSE_S:
        time.sleep(pause)
