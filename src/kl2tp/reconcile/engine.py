"""The engine: compares tunnels with the kernel and makes the difference go away. Blocking; for one thread.

The daemon's loop and the command line use the same engine; it knows neither. Work is cut into chunks of tunnels, so
that a pass over ten thousand needs the memory of a few hundred.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeAlias

from kl2tp.ipsec.keys import KeyFileError, KeyRing
from kl2tp.kernel.door import Door
from kl2tp.kernel.netlink import KernelError
from kl2tp.model.objects import Direction, Key, KernelObject, Policy, Sa, Selector
from kl2tp.model.plan import Conflict, Operation, Plan, Unit, plan
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.compile import PRIORITY_PROTECT, compile_unit, keying
from kl2tp.reconcile.ledger import Ledger

_Endpoint: TypeAlias = tuple[str, bytes, int, int]
"""Namespace, remote address, local and remote UDP port."""

CHUNK = 250
"""Tunnels handled together: long enough for full batches, short enough for small memory and quick answers."""


@dataclass(slots=True)
class Result:
    """What became of one tunnel in a pass."""

    name: str
    done: list[Operation] = field(default_factory=list)
    problem: str = ""
    """Empty if the kernel now agrees."""
    failed: Operation | None = None
    conflict: Conflict | None = None
    gone: bool = False
    """The tunnel was removed and nothing of it is left."""


@dataclass(slots=True)
class _Chunk:
    """Planned, not yet carried out."""

    units: dict[str, Unit]
    owned: dict[str, frozenset[Key]]
    problems: dict[str, str]
    plan: Plan


class Engine:
    """Desired specs, the ledger of what was made, and the door to the kernel."""

    def __init__(self, door: Door, ledger: Ledger, ring: KeyRing, *, now: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)) -> None:
        self.door = door
        self.ledger = ledger
        self.ring = ring
        self.specs: Mapping[str, TunnelSpec] = {}
        self._peers: dict[_Endpoint, tuple[str, ...]] = {}
        self.deadlines: dict[str, float] = {}
        """When (by `now`) a tunnel whose key changes wants to be looked at again."""
        self._now = now

    def set_specs(self, specs: Mapping[str, TunnelSpec]) -> None:
        """Take these tunnels as desired from now on."""
        self.specs = specs
        peers: dict[_Endpoint, tuple[str, ...]] = {}
        for name, spec in specs.items():
            if spec.ipsec:
                endpoint = (spec.netns, spec.remote, spec.local_port, spec.remote_port)
                peers[endpoint] = (*peers.get(endpoint, ()), name)
        self._peers = peers

    def names(self) -> list[str]:
        """Every tunnel that is desired or of which something may exist: those to remove first, as they may hold ids."""
        return [n for n in self.ledger.names() if n not in self.specs] + list(self.specs)

    def plan(self, names: Iterable[str], *, adopt: bool = False, dump: bool = True) -> Iterator[tuple[Plan, dict[str, str]]]:
        """What a pass would do, chunk by chunk: (plan, problems by tunnel). Changes nothing."""
        self.door.forget_devices()
        for chunk in self._chunks(names, dump=dump):
            planned = self._plan(chunk, adopt=adopt, dump=dump, note=False)
            yield planned.plan, planned.problems

    def reconcile(self, names: Iterable[str], *, adopt: bool = False, dump: bool = False) -> Iterator[list[Result]]:
        """Make the kernel agree, chunk by chunk. `dump` reads whole tables: cheaper for many tunnels."""
        self.door.forget_devices()
        for chunk in self._chunks(names, dump=dump):
            yield self._carry_out(self._plan(chunk, adopt=adopt, dump=dump))

    @staticmethod
    def _chunks(names: Iterable[str], *, dump: bool) -> Iterator[list[str]]:
        iterator = iter(names)
        while chunk := list(islice(iterator, CHUNK)):
            yield chunk

    # -- planning --------------------------------------------------------------------------------------------------

    def _plan(self, names: Sequence[str], *, adopt: bool, dump: bool, note: bool = True) -> _Chunk:
        units: dict[str, Unit] = {}
        problems: dict[str, str] = {}
        for name in names:
            try:
                units[name] = self._compile(name)
            except (KeyFileError, ValueError) as error:
                problems[name] = str(error)
        owned = {name: self._owned(name, unit) for name, unit in units.items()}
        keys: set[Key] = set()
        for name, unit in units.items():
            keys.update(owned[name])
            keys.update(unit.keys())
        actual = self.door.snapshot(keys) if dump else self.door.read(keys)
        for name, unit in units.items():
            units[name] = self._roll_over(unit, owned[name], actual, note=note)
        planned = plan(units.values(), actual, owned, adopt=adopt, retained=self._retained)
        return _Chunk(units, owned, problems, planned)

    def _compile(self, name: str) -> Unit:
        spec = self.specs.get(name)
        return compile_unit(spec, self.ring, keying(spec, self.ring)) if spec else Unit(name)

    def _owned(self, name: str, unit: Unit) -> frozenset[Key]:
        """What was made for a tunnel, and what was made for another and protects this one too."""
        owned = self.ledger.owned(name)
        for key in unit.keys():
            for other in self._sharing(name, key):
                if key in self.ledger.owned(other):
                    owned |= {key}
        return owned

    def _sharing(self, unit: str, key: Key) -> tuple[str, ...]:
        """The other tunnels whose protection includes a block policy or guard."""
        endpoint = _shared_endpoint(key)
        return tuple(n for n in self._peers.get(endpoint, ()) if n != unit) if endpoint else ()

    def _retained(self, unit: str, key: Key) -> bool:
        """Whether what one tunnel no longer needs protects another one to the same peer."""
        return bool(self._sharing(unit, key))

    # -- changing keys ---------------------------------------------------------------------------------------------

    def _roll_over(
        self, unit: Unit, owned: frozenset[Key], actual: Mapping[Key, KernelObject], *, note: bool
    ) -> Unit:
        """Keep old SAs beside new ones while the peer changes its key too.

        For the first `overlap` seconds after a change both keys are accepted and the old one sends; then the new one
        sends; after as long again the old one goes. Whoever changes both ends within the overlap loses no packet.
        """
        spec = self.specs.get(unit.name)
        wanted = set(unit.keys())
        retiring = [actual[key] for key in owned if key[0] == "sa" and key not in wanted and key in actual]
        old = [sa for sa in retiring if isinstance(sa, Sa) and spec and spec.ipsec and _same_ends(sa, spec)]
        if not spec or not spec.ipsec or not old:
            if note:
                self.ledger.set_rollover(unit.name, None)
                self.deadlines.pop(unit.name, None)
            return unit
        now = self._now()
        began = self.ledger.rollover(unit.name)
        if began is None or began > now:
            began = now
            if note:
                self.ledger.set_rollover(unit.name, now)
        overlap = spec.ipsec.overlap
        if now >= began + 2 * overlap:
            self.deadlines.pop(unit.name, None)
            return unit
        self.deadlines[unit.name] = began + (overlap if now < began + overlap else 2 * overlap)
        objects = list(unit.objects)
        if now < began + overlap:
            objects = [_keep_sending(o, old, actual) for o in objects]
        return Unit(unit.name, (*old, *objects))

    # -- carrying out ----------------------------------------------------------------------------------------------

    def _carry_out(self, chunk: _Chunk) -> list[Result]:
        results = {name: Result(name) for name in (*chunk.units, *chunk.problems)}
        for name, problem in chunk.problems.items():
            results[name].problem = problem
        for conflict in chunk.plan.conflicts:
            result = results[conflict.unit]
            result.conflict = result.conflict or conflict
            result.problem = result.problem or str(conflict)
        clear = [name for name in chunk.units if not results[name].conflict]
        wanted = {name: frozenset(chunk.units[name].keys()) for name in clear}
        self.ledger.record({name: chunk.owned[name] | wanted[name] for name in clear})
        outcome = self.door.execute(chunk.plan.operations)
        for op in outcome.done:
            results[op.unit].done.append(op)
        for name, (op, error) in outcome.failed.items():
            results[name].failed = op
            results[name].problem = _explain(op, error)
        settled = [name for name in clear if name not in outcome.failed]
        self.ledger.record({name: wanted[name] for name in settled})
        for name in settled:
            results[name].gone = not chunk.units[name].objects
        return list(results.values())


def _shared_endpoint(key: Key) -> _Endpoint | None:
    """The endpoint of a guard or of a block policy: of what tunnels to the same peer have in common."""
    if key[0] == "guard":
        return key[1:]  # type: ignore[return-value]
    if key[0] != "policy":
        return None
    _, ns, direction, selector, _ = key
    assert isinstance(selector, Selector)
    if direction == Direction.OUT and selector.source_length == 0:
        return str(ns), selector.destination, selector.source_port, selector.destination_port
    if direction == Direction.IN and selector.destination_length == 0:
        return str(ns), selector.source, selector.destination_port, selector.source_port
    return None


def _same_ends(sa: Sa, spec: TunnelSpec) -> bool:
    """Whether an SA still fits the tunnel, but for its key."""
    assert spec.ipsec
    ends = {sa.source, sa.destination} == {spec.local, spec.remote}
    return ends and sa.netns == spec.netns and sa.reqid == spec.ipsec.reqid and sa.mode == spec.ipsec.mode


def _keep_sending(wanted: KernelObject, old: Sequence[Sa], actual: Mapping[Key, KernelObject]) -> KernelObject:
    """The outbound policy, still with the SA that it names in the kernel."""
    if not isinstance(wanted, Policy) or wanted.direction != Direction.OUT or wanted.priority != PRIORITY_PROTECT:
        return wanted
    found = actual.get(wanted.key)
    if not isinstance(found, Policy) or not found.template or not wanted.template:
        return wanted
    spi = found.template.spi
    if not any(sa.spi == spi and sa.destination == wanted.selector.destination for sa in old):
        return wanted
    return replace(wanted, template=replace(wanted.template, spi=spi))


_HINTS = {
    1: "kl2tp needs CAP_NET_ADMIN (run it as root or by its systemd unit)",
    2: "does the kernel have the cipher? see: kl2tp doctor",
    93: "this kernel lacks a part of L2TP; see: kl2tp doctor",
    98: "the local address and port are taken by another socket",
    99: "the local address is not configured on this host",
    101: "there is no route to the peer",
}


def _explain(op: Operation, error: Exception) -> str:
    """One sentence for the operator: what was tried, what the kernel said, what can be done."""
    hint = _HINTS.get(error.code, "") if isinstance(error, KernelError) else ""
    verb = {"+": "creating", "~": "changing", "-": "deleting"}[op.verb.value]
    return f"{verb} {op.target}: {error}" + (f" ({hint})" if hint else "")
