"""The control loop: events in, repairs out, for as long as the daemon runs.

One worker takes tunnels that are due, a chunk at a time, and has the engine reconcile them in a thread. Due are, in
this order: tunnels that an event pointed at, tunnels whose retry or key change has come, and the rest of a sweep over
all of them (at start, when events were lost, and on a slow timer). A sweep never delays a repair by more than a chunk.
"""

import asyncio
import heapq
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TypeVar

from kl2tp.kernel import netns
from kl2tp.kernel.events import AddressHint, DeviceHint, Hint, Monitor, NamespaceHint, SaHint, TunnelHint
from kl2tp.model.objects import Link
from kl2tp.model.plan import Operation, Unit
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.associations import Associations
from kl2tp.reconcile.compile import expected_link, session_name
from kl2tp.reconcile.engine import CALL_PREFIX, CHUNK, Engine, Result
from kl2tp.reconcile.index import Index

_T = TypeVar("_T")
_log = logging.getLogger("kl2tp.loop")

_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0
_HOUSEKEEPING_S = 1.0
_MANY = 20
"""Tunnels that come up together and are logged one by one."""
_MOST_DRAINS = 1000
"""Looks at what waits after a pass: events that never end must not stop the loop."""
_KICK_S = 1.0
"""Failed tunnels are tried again at once when an address or device appears, but not more often than this."""


@dataclass(slots=True)
class State:
    """What the loop knows about one tunnel."""

    state: str = "pending"
    """`pending`, `up`, `failed` or `removing`."""
    since: float = field(default_factory=time.time)
    """Unix time."""
    problem: str = ""
    tries: int = 0
    retry_at: float | None = None
    """Event loop time."""

    def enter(self, state: str, problem: str = "") -> bool:
        """Change state; whether it is another one or has another reason."""
        news = state != self.state or problem != self.problem
        if state != self.state:
            self.since = time.time()
        self.state, self.problem = state, problem
        return news


@dataclass(slots=True)
class Drift:
    """What happened behind our back."""

    seen: int = 0
    """Tunnels found different from what they had been made."""
    repaired: int = 0
    slowest_s: float = 0.0
    """Longest time from the event to the end of the repair."""


@dataclass(slots=True)
class _Waiter:
    """Somebody who wants to know when these tunnels have been through the engine."""

    left: set[str]
    flying: set[str]
    """Those of them that were being worked on when the question came: their next landing is no answer yet."""
    done: asyncio.Future[None]
    hear: Callable[[list[Result]], None]


class Loop:
    """Keeps the kernel as desired. Lives in an event loop; the engine lives in `executor`, which has one thread."""

    def __init__(self, engine: Engine, executor: ThreadPoolExecutor, *, resync_s: float) -> None:
        self.engine = engine
        self.states: dict[str, State] = {}
        self.drift = Drift()
        self.resync_s = resync_s
        self._executor = executor
        self._loop = asyncio.get_running_loop()
        self._index = Index()
        self._monitors: dict[str, Monitor] = {}
        self._dirty: dict[str, float] = {}
        """Tunnels that an event pointed at, with its time."""
        self._asked: dict[str, None] = {}
        """Tunnels to look at that are no suspects of drift: new, changed, removed, retried."""
        self._sweep: list[str] = []
        self._resync_at = self._loop.time() + resync_s
        self._timers: list[tuple[float, str]] = []
        self._flying: frozenset[str] = frozenset()
        self._held: dict[tuple[str, str], DeviceHint] = {}
        self._again: set[str] = set()
        self._damaged: set[str] = set()
        self._removed = False
        """Whether tables may have become empty: tunnels were removed, or the last call."""
        self._settling: set[str] = set()
        """Tunnels that are being made or changed: what differs in them is no drift."""
        self._rekeying: set[str] = set()
        """Tunnels that change keys: old ones stand beside the new."""
        self._failed: set[str] = set()
        self._kicked_at = 0.0
        self._waiters: list[_Waiter] = []
        self._call_namespaces: Counter[str] = Counter()
        """Namespaces of the devices of calls, other than the daemon's own, with their number."""
        self.on_call: Callable[[Result], None] | None = None
        """Told what became of the unit of a call."""
        self.on_call_hint: Callable[[Iterable[str]], None] = lambda names: None
        """Told of calls, by unit, whose tunnel or session somebody may have touched."""
        self.associations = Associations()
        """SAs by reqid, once somebody follows them."""
        self._on_association: Callable[[str, int], None] | None = None
        self._unread: set[str] = set()
        """Namespaces whose SAs are to be read anew."""
        self._wake = asyncio.Event()

    # -- for the daemon --------------------------------------------------------------------------------------------

    async def set_specs(self, specs: Mapping[str, TunnelSpec], touched: Iterable[str]) -> None:
        """Take new specs; `touched` were added, changed or removed. Looking at them is for the caller to ask."""
        names = list(touched)
        await self._in_thread(lambda: self.engine.set_specs(specs))
        for start in range(0, len(names), CHUNK):
            self._index.change(specs, names[start : start + CHUNK])
            await asyncio.sleep(0)
        self._index.change(specs, ())
        now = time.time()
        for number, name in enumerate(names, 1):
            self._settling.add(name)
            state = self.states.get(name) or State(since=now)
            self.states[name] = state
            state.enter("pending" if name in specs else "removing")
            if number % CHUNK == 0:
                await asyncio.sleep(0)
        self._watch_namespaces()

    def put_call(self, unit: Unit) -> None:
        """Take what a call wants as desired, from now on."""
        calls = self.engine.calls
        assert calls is not None
        self._count_namespaces(calls.get(unit.name), -1)
        self.engine.put_call(unit)
        self._count_namespaces(unit, 1)
        self._index.put(unit)
        self._settling.add(unit.name)
        if unit.name not in self.states:
            self.states[unit.name] = State()
        self.look_at((unit.name,))

    def drop_call(self, name: str) -> None:
        """Take what a call wanted as no longer desired. Its device is about to go, with all that is on it: what is
        left then, `clear_call` takes away."""
        self._count_namespaces(self.engine.drop_call(name), -1)
        self._index.drop(name)
        self._settling.add(name)
        self._dirty.pop(name, None)
        self._asked.pop(name, None)

    def clear_call(self, name: str) -> None:
        """The device of a call that was dropped is gone: take away what it leaves behind."""
        if name in self.states:
            self._settling.add(name)
            self.look_at((name,))

    def set_secured(self, name: str, secured: bool) -> None:
        """A tunnel with IKE has IPsec now, or none any more: its devices go up, or down, at once."""
        if secured == (name in self.engine.secured):
            return
        (self.engine.secured.add if secured else self.engine.secured.discard)(name)
        if name in self.engine.specs:
            self._settling.add(name)
            self.look_at((name,))

    def follow_associations(self, hear: Callable[[str, int], None]) -> None:
        """From now on know in `associations` which SAs there are.

        `hear` is told the namespace and reqid whose protection came or went; and reqid 0 when all were read, at first
        and after each time that events were lost or SAs flushed.
        """
        self._on_association = hear
        self._unread |= self._monitors.keys()
        self._wake.set()

    def _count_namespaces(self, unit: Unit | None, change: int) -> None:
        for place in {o.netns for o in unit.objects if o.netns} if unit else ():
            self._call_namespaces[place] += change
            if not self._call_namespaces[place]:
                del self._call_namespaces[place]
            if place not in self._monitors:
                self._watch_namespaces()

    def look_at(self, names: Iterable[str]) -> None:
        """Have these tunnels looked at soon."""
        self._asked.update(dict.fromkeys(names))
        self._wake.set()

    def begin(self) -> None:
        """Have every tunnel looked at for the first time, leftovers of an earlier life first."""
        self.look_at(self.engine.names())
        self._damaged |= self.engine.namespaces | self.engine.owned_namespaces()

    def sweep(self) -> None:
        """Have every tunnel looked at."""
        self._sweep = self.engine.names()
        self.on_call_hint(self.engine.calls or ())
        self._damaged |= self.engine.namespaces | self.engine.owned_namespaces()
        self._unread |= self._monitors.keys()
        self._resync_at = self._loop.time() + self.resync_s
        self._wake.set()

    async def settled(self, names: Iterable[str], hear: Callable[[list[Result]], None]) -> None:
        """Look at these tunnels and wait for all of them; `hear` is told what became of each."""
        left = set(names)
        if not left:
            return
        waiter = _Waiter(left, left & self._flying, self._loop.create_future(), hear)
        self._waiters.append(waiter)
        self.look_at(left)
        await waiter.done

    @property
    def resync_in_s(self) -> float:
        return max(0.0, self._resync_at - self._loop.time())

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                self._wake.clear()
                self._timers_due()
                if self._damaged:
                    await self._mend_tables()
                if self._unread and self._on_association is not None:
                    await self._read_associations()
                if names := self._take():
                    await self._reconcile(names)
                elif self._removed:
                    await self._drop_tables()
                else:
                    await self._sleep()
        finally:
            self._unwatch()

    # -- choosing what to do ---------------------------------------------------------------------------------------

    def _take(self) -> list[str]:
        names: dict[str, None] = {}
        for source in (self._dirty, self._asked):
            names |= dict.fromkeys(islice(source, CHUNK - len(names)))
        while self._sweep and len(names) < CHUNK:
            names[self._sweep.pop()] = None
        return list(names)

    def _timers_due(self) -> None:
        now = self._loop.time()
        while self._timers and self._timers[0][0] <= now:
            _, name = heapq.heappop(self._timers)
            if name not in self.states:
                continue  # removed since
            self._asked[name] = None
            if name in self._rekeying:  # the next step of a change of keys, no drift
                self._settling.add(name)
        if self._resync_at <= now:
            self.sweep()

    async def _sleep(self) -> None:
        until = min(self._resync_at, self._timers[0][0] if self._timers else self._resync_at)
        timeout = min(max(0.0, until - self._loop.time()), _HOUSEKEEPING_S)
        try:
            await asyncio.wait_for(self._wake.wait(), timeout)
        except TimeoutError:
            self._watch_namespaces()

    async def _mend_tables(self) -> None:
        """Put back our nftables rules where something happened to them."""
        damaged, self._damaged = self._damaged, set()
        for name in sorted(damaged):
            try:
                if not await self._in_thread(partial(self.engine.door.mend_table, name)):
                    continue
            except OSError as error:
                _log.error("the nftables table in namespace %r cannot be looked at: %s", name, error)
                continue
            self.drift.seen += 1
            self.drift.repaired += 1
            _log.warning("the nftables table in namespace %r was damaged: made anew", name)

    async def _read_associations(self) -> None:
        """Find out which SAs there are, where that is unknown."""
        names, self._unread = self._unread, set()
        for name in sorted(names):
            self.associations.begin(name)
            try:
                found = await self._in_thread(partial(self.engine.door.identities, name))
            except OSError as error:  # the next sweep reads again
                _log.error("the SAs in namespace %r cannot be read: %s", name, error)
                continue
            for owner in self.associations.complete(name, found):
                self._tell_association(*owner)
            self._tell_association(name, 0)

    def _tell_association(self, netns_name: str, reqid: int) -> None:
        if self._on_association is not None:
            self._on_association(netns_name, reqid)

    async def _drop_tables(self) -> None:
        """Take away our nftables tables where what was removed was the last in them."""
        self._removed = False
        await self._in_thread(lambda: self.engine.drop_tables(self.engine.owned_namespaces()))

    async def _reconcile(self, names: list[str]) -> None:
        began = {name: self._dirty.pop(name) for name in names if name in self._dirty}
        for name in names:
            self._asked.pop(name, None)
        self._flying = frozenset(names)
        try:
            results = await self._in_thread(lambda: [r for rs in self.engine.reconcile(names) for r in rs])
        except Exception as error:
            # The engine answers for single objects; what arrives here concerns it as a whole (the ledger, say).
            _log.exception("a pass over %d tunnels failed", len(names))
            results = [Result(name, problem=str(error) or type(error).__name__) for name in names]
        await self._drain_all()
        self._flying = frozenset()
        self._land()
        risen = [r.name for r in results if self._absorb(r, began.get(r.name))]
        risen = [name for name in risen if not name.startswith(CALL_PREFIX)]
        if self.on_call is not None:
            for result in results:
                if result.name.startswith(CALL_PREFIX):
                    self.on_call(result)
        # Thousands of tunnels come up together: one line for each would be the slowest thing here.
        if len(risen) > _MANY:
            _log.info("%d tunnels are up, %s to %s", len(risen), risen[0], risen[-1])
        else:
            for name in risen:
                _log.info("%s: up", name, extra={"tunnel": name})
        self._answer_waiters(results)

    def _land(self) -> None:
        """Judge what came in while tunnels were being worked on."""
        for (_, name), hint in self._held.items():
            if not self._as_desired(name, hint):
                self._again.add(name)
        self._held.clear()
        now = self._loop.time()
        for name in self._again:
            self._dirty.setdefault(name, now)
        self._again.clear()

    def _absorb(self, result: Result, began: float | None) -> bool:
        """Take note of what became of a tunnel; whether it came up."""
        name = result.name
        state = self.states.get(name)
        known = state is not None or bool(result.done)
        if state is None:
            state = self.states[name] = State()
        fresh = name in self._settling or (name.startswith(CALL_PREFIX) and name not in (self.engine.calls or ()))
        if result.done and not fresh:
            self.drift.seen += 1
            self.drift.repaired += not result.problem
            if began is not None:
                self.drift.slowest_s = max(self.drift.slowest_s, self._loop.time() - began)
        level = logging.DEBUG if fresh else logging.WARNING
        for op in result.done if _log.isEnabledFor(level) else ():
            _log.log(level, "%s: %s%s", name, "" if fresh else "repaired: ", op, extra=self._fields(name, op))
        if result.problem:
            self._retry(result, state)
            return False
        if name not in self._asked:  # or it was changed again while it was worked on
            self._settling.discard(name)
        self._failed.discard(name)
        state.tries, state.retry_at = 0, None
        if result.gone:
            del self.states[name]
            self._removed |= not name.startswith(CALL_PREFIX) or not self.engine.calls
            self._rekeying.discard(name)
            if known and not name.startswith(CALL_PREFIX):
                _log.info("%s: removed", name, extra={"tunnel": name})
            return False
        self._await_keys(name)
        return state.enter("up")

    def _await_keys(self, name: str) -> None:
        """Come back for the next step of a change of keys, if one goes on."""
        if (deadline := self.engine.deadlines.get(name)) is not None:
            wait = max(0.01, deadline - time.clock_gettime(time.CLOCK_BOOTTIME))
            heapq.heappush(self._timers, (self._loop.time() + wait, name))
            if name not in self._rekeying:
                self._rekeying.add(name)
                _log.info("%s: changing keys, next step in %.0f s", name, wait, extra={"tunnel": name})
        elif name in self._rekeying:
            self._rekeying.discard(name)
            _log.info("%s: keys changed", name, extra={"tunnel": name})

    def _fields(self, name: str, op: Operation | None) -> dict[str, str]:
        """What a record about a tunnel, or about one of its objects, says for the journal."""
        spec = self.engine.specs.get(name)
        session = session_name(spec, op.target) if spec and op else ""
        return {"tunnel": name, "session": session} if session else {"tunnel": name}

    def _retry(self, result: Result, state: State) -> None:
        """Note a failure; try again later, ever later, and not all at the same moment."""
        name, problem = result.name, result.problem
        state.tries += 1
        wait = min(_FIRST_RETRY_S * 2 ** min(state.tries - 1, 10), _LAST_RETRY_S) * random.uniform(0.75, 1.25)
        state.retry_at = self._loop.time() + wait
        heapq.heappush(self._timers, (state.retry_at, name))
        self._failed.add(name)
        if state.enter("failed", problem):
            fields = self._fields(name, result.failed)
            _log.error("%s: %s (next try in %.0f s)", name, problem, wait, extra=fields)

    def _answer_waiters(self, results: list[Result]) -> None:
        for waiter in list(self._waiters):
            mine = [r for r in results if r.name in waiter.left and r.name not in waiter.flying]
            waiter.flying.difference_update(r.name for r in results)
            if not mine:
                continue
            waiter.left.difference_update(r.name for r in mine)
            waiter.hear(mine)
            if not waiter.left:
                self._waiters.remove(waiter)
                if not waiter.done.done():
                    waiter.done.set_result(None)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await self._loop.run_in_executor(self._executor, call)

    # -- events ----------------------------------------------------------------------------------------------------

    def _watch_namespaces(self) -> None:
        """Listen in every namespace that has tunnels; notice those that went or came back."""
        wanted = {"", *self._call_namespaces} | self.engine.namespaces
        for name in list(self._monitors):
            if name not in wanted or not self._still_there(name):
                self._stop_watching(name)
        for name in wanted - self._monitors.keys():
            self._start_watching(name)
        if "" in self._monitors and not self._monitors[""].hears_l2tp and self.states:
            self._stop_watching("")
            self._start_watching("")

    def _still_there(self, name: str) -> bool:
        try:
            return netns.identity(name) == self._monitors[name].identity
        except netns.NoNamespace:
            return False

    def _start_watching(self, name: str) -> None:
        try:
            monitor = Monitor(name, with_l2tp=not name)
        except netns.NoNamespace:
            return  # its tunnels say so
        self._monitors[name] = monitor
        for fd in monitor.descriptors():
            self._loop.add_reader(fd, self._drain, monitor)
        # What happened before we listened is unknown.
        self._unread.add(name)
        self.look_at(self._index.find(NamespaceHint(name)))

    def _stop_watching(self, name: str) -> None:
        monitor = self._monitors.pop(name)
        for fd in monitor.descriptors():
            self._loop.remove_reader(fd)
        monitor.close()
        self.associations.forget(name)

    def _unwatch(self) -> None:
        for name in list(self._monitors):
            self._stop_watching(name)

    async def _drain_all(self) -> None:
        """Take in what has happened so far, a little at a time."""
        for monitor in list(self._monitors.values()):
            for _ in range(_MOST_DRAINS):
                self._drain(monitor)
                if not monitor.more:
                    break
                await asyncio.sleep(0)

    def _drain(self, monitor: Monitor) -> None:
        now = self._loop.time()
        for hint in monitor.drain(self.engine.door.ports):
            self._notice(hint, now)

    def _notice(self, hint: Hint, now: float) -> None:
        if isinstance(hint, SaHint) and self._on_association is not None and self.associations.note(hint):
            self._on_association(hint.netns, hint.reqid)
        names = self._index.find(hint)
        if isinstance(hint, AddressHint) and hint.added:
            names = ()  # our own coming back, or nobody's business
        if not names:
            if isinstance(hint, AddressHint | DeviceHint):
                self._kick(now)
            if not isinstance(hint, NamespaceHint):
                return
        if isinstance(hint, NamespaceHint):
            self._damaged.add(hint.netns)
            self._unread.add(hint.netns)
            if hint.lost:
                self.sweep()
                _log.warning("kernel events were lost in namespace %r: looking at everything", hint.netns)
        if isinstance(hint, TunnelHint) and (calls := [n for n in names if n.startswith(CALL_PREFIX)]):
            self.on_call_hint(calls)
        for name in names:
            if isinstance(hint, DeviceHint) and hint.state:
                if name in self._flying:
                    self._held[hint.name, name] = hint
                    continue
                if self._as_desired(name, hint):
                    continue
            if name in self._flying:
                self._again.add(name)
            else:
                self._dirty.setdefault(name, now)
        self._wake.set()

    def _as_desired(self, name: str, hint: DeviceHint) -> bool:
        """Whether a device is as its spec wants it: what an event shows when our own change caused it."""
        state = hint.state
        if state is None:
            return name not in self.engine.specs and name not in (self.engine.calls or ())
        for link in self._expected(name):
            if link.name == hint.name:
                return (
                    link.netns == hint.netns
                    and (link.mtu, link.up, link.alias) == (state.mtu, state.up, state.alias)
                    and not link.master
                    and not state.master_index
                    and link.mac in (b"", state.mac)
                )
        return False

    def _expected(self, name: str) -> Iterator[Link]:
        """The devices of a tunnel or call, as they should be."""
        if (spec := self.engine.specs.get(name)) is not None:
            secured = name in self.engine.secured or not spec.ike
            yield from (expected_link(spec, session, secured=secured) for session in spec.sessions)
        elif (unit := (self.engine.calls or {}).get(name)) is not None:
            yield from (o for o in unit.objects if isinstance(o, Link))

    def _kick(self, now: float) -> None:
        """Something appeared that failed tunnels may be waiting for."""
        if self._failed and now >= self._kicked_at + _KICK_S:
            self._kicked_at = now
            self.look_at(self._failed)
