"""The engine: compares tunnels with the kernel and makes the difference go away. Blocking; for one thread.

The daemon's loop and the command line use the same engine; it knows neither. Work is cut into chunks of tunnels, so
that a pass over ten thousand needs the memory of a few hundred.
"""

import errno
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TypeAlias

from kl2tp.ipsec.keys import KeyFileError, KeyRing
from kl2tp.kernel.door import Door, Outcome
from kl2tp.kernel.netlink import KernelError
from kl2tp.model.objects import NO_MARK, Direction, Guard, KernelObject, Key, Link, Policy, Sa, Session
from kl2tp.model.plan import Conflict, Created, Operation, Plan, Stage, Unit, Verb, plan, satisfied
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.alike import Batch, batches
from kl2tp.reconcile.compile import PRIORITY_PROTECT, compile_unit, keying, protection_of
from kl2tp.reconcile.ledger import Ledger

_Endpoint: TypeAlias = tuple[str | int, ...]
"""Namespace, remote address in hex, local and remote UDP port."""

_EXCLUSIVE = ("tunnel", "session", "sa", "policy")
"""Kinds of which one that somebody else made is never ours, be it equal or not."""
_UNKNOWN = frozenset({errno.ETIMEDOUT, errno.ENOBUFS, errno.EIO, errno.EPROTO})
"""Errors that leave open what became of a request."""
_WENT_AWAY = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENETDOWN})

CALL_PREFIX = "call/"
"""What the units of calls begin with; no tunnel's name holds a slash."""
CHUNK = 250
"""Tunnels handled together: long enough for full batches, short enough for small memory and quick answers."""


@dataclass(slots=True)
class Result:
    """What became of one tunnel in a pass."""

    name: str
    done: Sequence[Operation] = ()
    problem: str = ""
    """Empty if the kernel now agrees."""
    failed: Operation | None = None
    conflict: Conflict | None = None
    gone: bool = False
    """The tunnel was removed and nothing of it is left."""
    met_foreign: bool = False
    """Its creation met something that kl2tp did not make."""
    lost_ground: bool = False
    """Something went away while it was worked on: another tool is at it."""


@dataclass(slots=True)
class Inspection:
    """One tunnel, looked at closely."""

    unit: Unit
    actual: dict[Key, KernelObject]
    counters: dict[Key, dict[str, int]]
    """Of sessions and SAs, by name."""


@dataclass(slots=True)
class _Chunk:
    """Planned, not yet carried out."""

    units: dict[str, Unit]
    owned: dict[str, frozenset[Key]]
    problems: dict[str, str]
    plan: Plan
    fresh: set[str]
    """Tunnels of which nothing was read, as nothing of them was ever made."""


def _chunks(names: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(names)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


class Engine:
    """Desired specs, the ledger of what was made, and the door to the kernel."""

    def __init__(
        self,
        door: Door,
        ledger: Ledger,
        ring: KeyRing,
        *,
        now: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self.door = door
        self.ledger = ledger
        self.ring = ring
        self.specs: Mapping[str, TunnelSpec] = {}
        self.calls: dict[str, Unit] | None = None
        """What accepted and placed calls want, by unit (CALL_PREFIX...). None: calls are not ours to judge, and what
        the ledger says of them stays as it is."""
        self.secured: set[str] = set()
        """Of the tunnels with IKE those that have IPsec now: the others' devices are down. Another thread may change
        it."""
        self.sharing: dict[Key, set[str]] = {}
        """The units of calls by the policies and guards that they want."""
        self.namespaces: frozenset[str] = frozenset()
        """The namespaces in which tunnels or their devices are."""
        self._former: dict[str, TunnelSpec] = {}
        """Tunnels that are no longer desired and not yet gone: what they were tells what is theirs."""
        self._peers: dict[_Endpoint, tuple[str, ...]] = {}
        self.deadlines: dict[str, float] = {}
        """When (by `now`) a tunnel whose key changes wants to be looked at again."""
        self._wary: set[str] = set()
        """Tunnels that met somebody else's object: what is there is read before they are tried again."""
        self._now = now

    def set_specs(self, specs: Mapping[str, TunnelSpec]) -> None:
        """Take these tunnels as desired from now on."""
        former = {**self._former, **self.specs}
        self._former = {n: spec for n, spec in former.items() if n not in specs and not self.ledger.untouched(n)}
        self.specs = specs
        peers: dict[_Endpoint, tuple[str, ...]] = {}
        namespaces: set[str] = set()
        for name, spec in specs.items():
            namespaces.add(spec.netns)
            namespaces.update(s.interface.netns for s in spec.sessions if s.interface.netns is not None)
            if protection_of(spec):
                endpoint = _endpoint(spec)
                peers[endpoint] = (*peers.get(endpoint, ()), name)
        self._peers = peers
        self.namespaces = frozenset(namespaces)

    def recall(self, specs: Iterable[TunnelSpec]) -> None:
        """Learn what tunnels that are no longer desired may have been: what a crash left of them is told by that."""
        self._former |= {spec.name: spec for spec in specs if spec.name not in self.specs}

    def put_call(self, unit: Unit) -> None:
        """Take what a call wants, or what protects calls, as desired."""
        calls = self.calls
        assert calls is not None
        self._share(calls.get(unit.name), unit)
        calls[unit.name] = unit

    def drop_call(self, name: str) -> Unit | None:
        """Nobody wants this any more; what it was."""
        calls = self.calls
        assert calls is not None
        before = calls.pop(name, None)
        self._share(before, None)
        return before

    def _share(self, before: Unit | None, now: Unit | None) -> None:
        for unit, wanted in ((before, False), (now, True)):
            if unit is None:
                continue
            for key in (thing.key for thing in unit.objects if isinstance(thing, Policy | Guard)):
                names = self.sharing.setdefault(key, set())
                (names.add if wanted else names.discard)(unit.name)
                if not names:
                    del self.sharing[key]

    def names(self) -> list[str]:
        """Every tunnel that is desired or of which something may exist: those to remove first, as they may hold ids."""
        calls = self.calls
        left = [n for n in self.ledger.names() if n not in self.specs]
        if calls is None:
            return [n for n in left if not n.startswith(CALL_PREFIX)] + list(self.specs)
        return [n for n in left if n not in calls] + list(self.specs) + list(calls)

    def plan(self, names: Iterable[str], *, adopt: bool = False) -> Iterator[tuple[Plan, dict[str, str]]]:
        """What a pass would do, chunk by chunk: (plan, problems by tunnel). Changes nothing."""
        self.door.forget_devices()
        for chunk in _chunks(names):
            planned = self._plan_together(chunk, adopt=adopt, note=False)
            yield planned.plan, planned.problems

    def reconcile(self, names: Iterable[str], *, adopt: bool = False) -> Iterator[list[Result]]:
        """Make the kernel agree, chunk by chunk."""
        self.door.forget_devices()
        for chunk in _chunks(names):
            results, left = ([], chunk) if adopt else self._make_alike(chunk)
            if left:
                results += self._carry_out(self._plan_together(left, adopt=adopt, careless=not adopt))
            if met := [r.name for r in results if r.met_foreign]:
                results = [r for r in results if not r.met_foreign]
                results += self._carry_out(self._plan_together(met, adopt=adopt))
            if lost := {r.name: r for r in results if r.lost_ground}:
                self.door.forget_devices()
                results = [r for r in results if r.name not in lost]
                for result in self._carry_out(self._plan_together(list(lost), adopt=adopt)):
                    result.done = [*lost[result.name].done, *result.done]
                    results.append(result)
            yield results

    def owned_namespaces(self) -> set[str]:
        """The namespaces in which something of ours may exist, be it an empty table that a crash left."""
        return {"", *self.ledger.namespaces()}

    def mend_tables(self) -> list[str]:
        """Put back damaged nftables rules; the namespaces where that was needed."""
        return [name for name in sorted(self.namespaces | self.owned_namespaces()) if self.door.mend_table(name)]

    def drop_tables(self, namespaces: Iterable[str]) -> None:
        """Remove our nftables tables where nothing is left in them."""
        for name in namespaces:
            if not self.ledger.holds(*((kind, name) for kind in ("guard", "clamp", "place", "binding"))):
                self.door.drop_table(name)

    def inspect(self, name: str) -> "Inspection":
        """Everything about one tunnel: what it should be, what it is, what it counts."""
        self.door.forget_devices()
        unit = self._compile(name)
        owned = self._owned(name, unit)
        actual = self.door.read({*unit.keys(), *owned})
        unit = self._roll_over(unit, owned, actual, note=False)
        counters = self.door.counters(o for o in unit.objects if o.key in actual)
        return Inspection(unit, actual, counters)

    # -- planning --------------------------------------------------------------------------------------------------

    def _plan_together(
        self, names: Sequence[str], *, adopt: bool, note: bool = True, careless: bool = False
    ) -> _Chunk:
        """Plan tunnels, and with them those that hold an id, a name or a device which these want and they give up."""
        while True:
            planned = self._plan(names, adopt=False, note=note, careless=careless)
            holders = self.ledger.owners({c.found.key for c in planned.plan.conflicts}).difference(names)
            if not holders:
                break
            names, careless = [*sorted(holders), *names], False
        if adopt or (planned.plan.handed and planned.fresh):
            planned = self._plan(names, adopt=adopt, note=note)
        return planned

    def _plan(self, names: Sequence[str], *, adopt: bool, note: bool = True, careless: bool = False) -> _Chunk:
        units: dict[str, Unit] = {}
        problems: dict[str, str] = {}
        for name in names:
            try:
                units[name] = self._compile(name)
            except (KeyFileError, ValueError) as error:
                problems[name] = str(error)
        owned = {name: self._owned(name, unit) for name, unit in units.items()}
        if note:
            for name in units:
                if self.ledger.dismantling(name):
                    self.door.finish_dismantling(key for key in owned[name] if key[0] == "tunnel")
        # Of what was never begun nothing needs to be read: whatever stands in its place makes its creation fail.
        fresh = {name for name in units if careless and not owned[name] and name not in self._wary}
        keys: set[Key] = set()
        for name, unit in units.items():
            if name not in fresh:
                keys.update(owned[name], unit.keys())
        actual = self.door.read(keys)
        for name, unit in units.items():
            if self.ledger.tentative(name):
                owned[name] = _proved(self._witness(unit), owned[name], actual)
            units[name] = self._roll_over(unit, owned[name], actual, note=note)
        planned = plan(units.values(), actual, owned, adopt=adopt, retained=self._retained)
        return _Chunk(units, owned, problems, planned, fresh)

    def _compile(self, name: str) -> Unit:
        if name.startswith(CALL_PREFIX):
            return (self.calls or {}).get(name) or Unit(name)
        spec = self.specs.get(name)
        if spec is None:
            return Unit(name)
        keys, secured = keying(spec, self.ring), name in self.secured
        return compile_unit(spec, self.ring, keys, self.door.vrf_table, secured=secured)

    def _witness(self, unit: Unit) -> Unit:
        """The unit as it was begun, as far as that is known."""
        if unit.objects or (spec := self._former.get(unit.name)) is None:
            return unit
        try:
            return compile_unit(spec, self.ring, keying(spec, self.ring), self.door.vrf_table)
        except (KeyFileError, ValueError):
            return unit

    def _owned(self, name: str, unit: Unit) -> frozenset[Key]:
        """What was made for a tunnel, and what was made for another and protects this one too."""
        owned = self.ledger.owned(name)
        if not self._has_neighbours(name):
            return owned
        for key in unit.keys():  # noqa: SIM118 a unit is no mapping
            for other in self._sharing(name, key):
                if key in self.ledger.owned(other):
                    owned |= {key}
        return owned

    def _has_neighbours(self, name: str) -> bool:
        """Whether others go between the same endpoints, and can share protection with this one."""
        if name.startswith(CALL_PREFIX):
            unit = (self.calls or {}).get(name)
            return unit is not None and any(len(self.sharing.get(key, ())) > 1 for key in unit.keys())  # noqa: SIM118
        spec = self.specs.get(name)
        return bool(spec and protection_of(spec) and len(self._peers[_endpoint(spec)]) > 1)

    def _sharing(self, unit: str, key: Key) -> tuple[str, ...]:
        """The others whose protection includes a policy or guard: tunnels share with tunnels, calls with calls."""
        if unit.startswith(CALL_PREFIX):
            return tuple(name for name in self.sharing.get(key, ()) if name != unit)
        endpoint = _shared_endpoint(key)
        names = self._peers.get(endpoint, ()) if endpoint else ()
        return tuple(n for n in names if n != unit and (key[0] == "guard" or key[-2:] == self._mark(n)))

    def _mark(self, name: str) -> tuple[int, int]:
        """The mark of a tunnel's policies, as in their keys."""
        ipsec = self.specs[name].ipsec
        return (ipsec.mark if ipsec else None) or NO_MARK

    def _retained(self, unit: str, key: Key) -> bool:
        """Whether what one tunnel no longer needs protects another one to the same peer."""
        return bool(self._sharing(unit, key))

    # -- changing keys ---------------------------------------------------------------------------------------------

    def _roll_over(self, unit: Unit, owned: frozenset[Key], actual: Mapping[Key, KernelObject], *, note: bool) -> Unit:
        """Keep old SAs beside new ones while the peer changes its key too.

        For the first `overlap` seconds after a change both keys are accepted and the old one sends; then the new one
        sends; after as long again the old one goes. Whoever changes both ends within the overlap loses no packet.
        """
        spec = self.specs.get(unit.name)
        retiring = [actual[key] for key in owned.difference(unit.keys()) if key[0] == "sa" and key in actual]
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
        self.ledger.record({n: chunk.owned[n] | wanted[n] for n in clear if n not in chunk.fresh})
        self.ledger.record({n: wanted[n] for n in clear if n in chunk.fresh}, tentative=True)
        # Only now that the heirs own it too: what is handed over is never nobody's.
        left = {n: (chunk.owned[n] | wanted.get(n, frozenset())) - keys for n, keys in chunk.plan.handed.items()}
        self.ledger.record(left)
        self.ledger.note_dismantling({op.unit for op in chunk.plan.operations if op.stage == Stage.DISMANTLE_TUNNEL})
        outcome = self.door.execute(chunk.plan.operations)
        self._note(outcome, results, chunk.fresh)
        settled = [name for name in clear if name not in outcome.failed]
        self.ledger.record({name: wanted[name] for name in settled})
        self._record_half_made(outcome, results)
        for name in settled:
            results[name].gone = not chunk.units[name].objects
            self._wary.discard(name)
            self._former.pop(name, None)
        return list(results.values())

    def _note(self, outcome: Outcome, results: Mapping[str, Result], fresh: Collection[str]) -> None:
        """Enter what was done and what failed; take back what was begun in a foreign place."""
        done: dict[str, list[Operation]] = {}
        for op in outcome.done:
            done.setdefault(op.unit, []).append(op)
        for name, operations in done.items():
            results[name].done = operations
        for name, (op, error) in outcome.failed.items():
            results[name].failed = op
            results[name].problem = _explain(op, error)
            code = error.code if isinstance(error, KernelError) else 0
            results[name].lost_ground = code in _WENT_AWAY
            if name in fresh and code == errno.EEXIST:
                self._undo(results[name])

    def _record_half_made(self, outcome: Outcome, results: Mapping[str, Result]) -> None:
        """Write down what of units that failed was made, and that nothing else was, where this is known."""
        missing: dict[str, list[Operation]] = {}
        for name, (op, error) in outcome.failed.items():
            if not results[name].met_foreign and not (isinstance(error, KernelError) and error.code in _UNKNOWN):
                missing[name] = [op]
        for op in outcome.skipped:
            if op.unit in missing:
                missing[op.unit].append(op)
        self.ledger.record({name: self.ledger.owned(name) - _not_made(ops) for name, ops in missing.items()})

    # -- many at once ----------------------------------------------------------------------------------------------

    def _make_alike(self, names: Sequence[str]) -> tuple[list[Result], Sequence[str]]:
        """Make those that differ in some values only, if nothing of any was ever begun; the results, and who is left.

        What some give up others may want: where there is anything to give up, all are planned together.
        """
        specs = [self.specs[name] for name in names if name in self.specs and self._clear_field(name)]
        if len(specs) < len(names):
            return [], names
        results: list[Result] = []
        for batch in batches(specs, self.ring, self.door.cut):
            results += self._stamp(batch)
        made = {result.name for result in results}
        return results, [name for name in names if name not in made]

    def _clear_field(self, name: str) -> bool:
        """Whether a tunnel neither owns nor shares anything, and did not meet anybody."""
        return self.ledger.untouched(name) and name not in self._wary and not self._has_neighbours(name)

    def _stamp(self, batch: Batch) -> list[Result]:
        stencil, rows = batch
        self.ledger.begin({row.name: stencil.text(row) for row in rows}, stencil.netns)
        outcome = self.door.stamp(stencil, rows, self._compile)
        results = {row.name: Result(row.name) for row in rows}
        self._note(outcome, results, results)
        made = [name for name in results if name not in outcome.failed]
        self.ledger.settle(made)
        self._record_half_made(outcome, results)
        for name in made:
            results[name].done = Created(stencil.size, partial(self._compile, name))
        return list(results.values())

    def _undo(self, result: Result) -> None:
        """Take back the beginnings of a tunnel that met somebody else's object, to look at it with open eyes."""
        made = {op.target.key: op.target for op in result.done}
        undo = plan([Unit(result.name)], made, {result.name: made.keys()}, retained=self._retained)
        outcome = self.door.execute(undo.operations)
        left = set(made) if outcome.failed else set()
        self.ledger.record({result.name: left})
        result.done = ()
        result.met_foreign = True
        self._wary.add(result.name)


def _not_made(operations: Iterable[Operation]) -> set[Key]:
    """What is not there as these were not carried out, and what of it would be somebody else's if it were there."""
    creations = [op.target for op in operations if op.verb is Verb.CREATE]
    devices = {(thing.netns, thing.ifname) for thing in creations if isinstance(thing, Session)}
    return {
        thing.key
        for thing in creations
        if thing.kind in _EXCLUSIVE or (isinstance(thing, Link) and (thing.tunnel_netns, thing.birth_name) in devices)
    }


def _proved(unit: Unit, owned: frozenset[Key], actual: Mapping[Key, KernelObject]) -> frozenset[Key]:
    """What of a tunnel is certainly ours, when a crash left open whether its creation began.

    An SA, policy, tunnel or session that is just as we would have made it is ours; what differs is not.
    """
    wanted = {o.key: o for o in unit.objects}
    foreign = {
        key
        for key in owned
        if key[0] in _EXCLUSIVE
        and key in actual
        and not (key in wanted and satisfied(wanted[key], actual[key]))
    }
    return owned - foreign


def _endpoint(spec: TunnelSpec) -> _Endpoint:
    return (spec.netns, spec.remote.hex(), spec.local_port, spec.remote_port)


def _shared_endpoint(key: Key) -> _Endpoint | None:
    """The endpoint of a guard or of a block policy: of what tunnels to the same peer have in common."""
    if key[0] == "guard":
        return key[1:]
    if key[0] == "policy":
        _, ns, direction, source, slen, destination, dlen, _, sport, dport, *_ = key
        if direction == Direction.OUT and slen == 0:
            return (ns, destination, sport, dport)
        if direction == Direction.IN and dlen == 0:
            return (ns, source, dport, sport)
    return None


def _same_ends(sa: Sa, spec: TunnelSpec) -> bool:
    """Whether an SA still fits the tunnel, but for its key."""
    assert spec.ipsec
    ends = {sa.source, sa.destination} == {spec.local, spec.remote}
    ours = (spec.netns, spec.ipsec.reqid, spec.ipsec.mode, spec.ipsec.mark)
    return ends and (sa.netns, sa.reqid, sa.mode, sa.mark) == ours


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
