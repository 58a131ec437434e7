"""The daemon's service: what the control socket offers, on top of the loop."""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kl2tp import __version__
from kl2tp.daemon import ikewords, loader, notify
from kl2tp.daemon.calls import CallService
from kl2tp.daemon.direct import Progress, inspect, no_such_tunnel
from kl2tp.daemon.errors import ServiceError, lacking_error
from kl2tp.daemon.explain.service import Explaining
from kl2tp.daemon.ike import IkeService, deletions
from kl2tp.daemon.report import Json, Tally, moment, planned, tunnel
from kl2tp.daemon.stalls import StallMeter
from kl2tp.ipsec.ike import ChildSa
from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel.door import Door
from kl2tp.kernel.encap import EncapSockets, points
from kl2tp.kernel.probe import missing
from kl2tp.model.desired import DaemonSpec
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.engine import Engine, Result
from kl2tp.reconcile.loop import Loop

_T = TypeVar("_T")
_log = logging.getLogger("kl2tp")
_ANSWER_S = 0.05
"""Time for the answer to leave before the daemon does."""
_SLICE = 100
"""Tunnels looked at before the event loop gets its turn: a millisecond."""


class Service:
    """Methods of the control socket; all run in the event loop and block nothing."""

    def __init__(
        self,
        config_path: Path,
        engine: Engine,
        executor: ThreadPoolExecutor,
        stalls: StallMeter,
        *,
        run_dir: Path,
        state_dir: Path,
        log_level: str = "",
    ) -> None:
        """`log_level`: given on the command line, where it outweighs the configuration's."""
        self._log_level = log_level
        self._config_path = config_path
        self._engine = engine
        self._executor = executor
        self._stalls = stalls
        self._since = time.time()
        self._suspended = False
        self._specs: dict[str, TunnelSpec] = {}
        self._changing = asyncio.Lock()
        self._encap = EncapSockets(notify.inherited())
        self.settings = DaemonSpec()
        self.loop = Loop(engine, executor, resync_s=self.settings.resync_interval)
        self.stop_requested = asyncio.Event()
        """Somebody asked over the control socket that the daemon ends, leaving its calls to the next one."""
        engine.calls = {}
        self._calls = CallService(self.loop, engine, run_dir, state_dir, self._in_thread)
        self._ike = IkeService(run_dir, self.loop, self._delete, self._in_door)

    async def start(self) -> None:
        """Read the configuration and begin. Raises ServiceError."""
        async with self._changing:
            await self._load()
            self.loop.begin()

    # -- methods of the control socket -----------------------------------------------------------------------------

    async def plan(self, progress: Progress, *, adopt: bool = False) -> Json:
        """What apply would do, by the configuration file as it is now. Changes nothing."""
        desired = await loader.read(self._config_path)
        preview = Engine(self._engine.door, self._engine.ledger, KeyRing())
        await self._in_thread(lambda: preview.set_specs({t.name: t for t in desired.tunnels}))
        chunks = preview.plan(await self._in_thread(preview.names), adopt=adopt)
        parts = []
        # Chunk by chunk, so that repairs are not kept waiting.
        while part := await self._in_thread(lambda: next(chunks, None)):
            parts.append(part)
        return planned(parts)

    async def apply(
        self, progress: Progress, *, adopt: bool = False, wait: bool = True, detail: bool = True
    ) -> Json:
        """Read the configuration again, look at every tunnel, and say what was done."""
        began, sent = time.monotonic(), self._engine.door.sent()
        async with self._changing:
            self._suspended = False
            await self._load()
            if adopt:
                await self._adopt()
            tally = await self._settle(self._engine.names(), progress, detail=detail)
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        waiting = {name: at - now for name, at in self._engine.deadlines.items()}
        return tally.answer(seconds=time.monotonic() - began, sent=self._engine.door.sent() - sent, waiting=waiting)

    async def reload(self, progress: Progress) -> Json:
        """Read the configuration again and apply what is different in it. A broken file changes nothing."""
        async with self._changing:
            self._suspended = False
            counts, touched = await self._load()
            self.loop.look_at(touched)
        _log.info("configuration reloaded: %s", ", ".join(f"{n} {what}" for what, n in counts.items()))
        return counts

    async def down(self, progress: Progress, *, detail: bool = True) -> Json:
        """Take everything away, and keep it away until the next apply or reload."""
        began, sent = time.monotonic(), self._engine.door.sent()
        async with self._changing:
            self._suspended = True
            await self._calls.down()
            await self._ike.down()
            namespaces = await self._in_thread(self._engine.owned_namespaces)
            names = await self._in_thread(self._engine.names)
            await self._take({})
            tally = await self._settle(names, progress, detail=detail)
            await self._in_thread(lambda: self._engine.drop_tables(namespaces))
        return tally.answer(seconds=time.monotonic() - began, sent=self._engine.door.sent() - sent, waiting={})

    async def status(self, progress: Progress) -> Json:
        """The state of the daemon and of every tunnel."""
        now = asyncio.get_running_loop().time()
        tunnels = []
        counts = {"tunnels": len(self._specs), "up": 0, "failed": 0, "pending": 0, "rekeying": 0}
        for number, (name, spec) in enumerate(self._specs.items(), 1):
            entry = self._state(spec, now)
            counts[entry["state"]] = counts.get(entry["state"], 0) + 1
            counts["rekeying"] += name in self._engine.deadlines
            tunnels.append(entry)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        drift = self.loop.drift
        calls = self._calls.status()
        if calls is not None and self._calls.guarded:
            calls["counters"] |= (await self._in_thread(self._engine.door.dropped))._asdict()
        return {
            "daemon": {
                "pid": os.getpid(),
                "version": __version__,
                "since": moment(self._since),
                "config": str(self._config_path),
                "uptime_s": round(time.time() - self._since),
                "resync_in_s": round(self.loop.resync_in_s),
                "longest_stall_ms": round(self._stalls.longest_s * 1000, 1),
                "suspended": self._suspended,
            },
            "counts": counts,
            "drift": {"seen": drift.seen, "repaired": drift.repaired, "slowest_s": round(drift.slowest_s, 3)},
            "tunnels": tunnels,
            "calls": calls,
            "ike": self._ike.status(),
        }

    async def show(self, progress: Progress, *, name: str) -> Json:
        """Everything about one tunnel, or session of a call."""
        spec = self._specs.get(name)
        if spec is None:
            if (session := await self._calls.show(name)) is not None:
                return self._with_ipsec(session)
            raise no_such_tunnel(name, list(self._specs))
        state = self._state(spec, asyncio.get_running_loop().time())
        for known in tunnel(spec):
            state.pop(known)
        shown = await self._in_thread(lambda: inspect(self._engine, spec, **state))
        return shown | (self._ike.describe(name) or {}) if spec.ike is not None else shown

    def _with_ipsec(self, session: Json) -> Json:
        """What is shown of a session, with what IKE knows of its peer."""
        known = session.get("ipsec")
        child = self._ike.client(known["reqid"]) if known else None
        return session | {"ipsec": known | ikewords.child(child)} if known and child is not None else session

    async def explain(self, progress: Progress, *, name: str, probe: bool = False) -> Json:
        """Follow one tunnel, call, profile or client through all layers: which is the first that is broken, and why."""
        where, charon = (self._specs, self.loop, self._engine, self._calls.calls), self._ike.charon
        return await Explaining(*where, charon, self._in_thread, self.settings.charon).explain(name, probe=probe)

    async def sessions(self, progress: Progress, *, ended: bool = False, counters: bool = True) -> Json:
        """The sessions of calls."""
        return await self._calls.sessions(ended=ended, counters=counters)

    async def disconnect(self, progress: Progress, *, patterns: list[str], reason: str = "") -> Json:
        """End sessions."""
        if not all(isinstance(pattern, str) for pattern in patterns):
            raise ServiceError("disconnect: patterns are text")
        return await self._calls.disconnect(patterns, reason)

    async def events(self, progress: Progress, *, limit: int = 0) -> AsyncGenerator[Json, None]:
        """What happens to sessions."""
        async with contextlib.aclosing(self._calls.events(limit)) as events:
            async for event in events:
                yield event

    async def restart(self, progress: Progress) -> Json:
        """End the daemon and leave all as it is: the service manager starts it anew, and it takes over."""
        asyncio.get_running_loop().call_later(_ANSWER_S, self.stop_requested.set)
        return {"pid": os.getpid()}

    async def stop(self, *, keep: bool) -> None:
        """The daemon ends: so do calls, or with `keep` they wait for the next one."""
        async with self._changing:
            await self._calls.stop(keep=keep)
            await self._ike.stop(keep=keep)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _state(self, spec: TunnelSpec, now: float) -> Json:
        state = self.loop.states.get(spec.name)
        if state is None:
            return tunnel(spec, state="pending", problem="")
        retry = None if state.retry_at is None else round(max(0.0, state.retry_at - now), 1)
        word, problem = self._ike.tunnel_state(spec) if state.state == "up" else (state.state, state.problem)
        return tunnel(
            spec,
            state=word,
            problem=problem,
            since=moment(state.since),
            tries=state.tries,
            next_retry_s=retry,
        )

    async def _load(self) -> tuple[dict[str, int], list[str]]:
        """Take the configuration; how many tunnels are new, changed and so on, and which must be looked at."""
        desired = await loader.read(self._config_path)
        if lack := lacking_error(await self._in_thread(lambda: missing(desired))):
            raise lack
        take_calls = await self._calls.prepare(desired)
        changed_files = await self._in_thread(self._engine.ring.refresh)
        self.settings = desired.daemon
        self.loop.resync_s = desired.daemon.resync_interval
        if not self._log_level:
            logging.getLogger("kl2tp").setLevel(desired.daemon.log_level.upper())
        taken = await self._take({t.name: t for t in desired.tunnels}, changed_files)
        await self._ike.configure(desired, self._calls.calls)
        await take_calls()
        return taken

    async def _take(
        self, specs: dict[str, TunnelSpec], changed_files: frozenset[str] = frozenset()
    ) -> tuple[dict[str, int], list[str]]:
        old = self._specs
        removed = [name for name in old if name not in specs]
        added = [name for name in specs if name not in old]
        changed = []
        for number, (name, spec) in enumerate(specs.items(), 1):
            if name in old and (spec != old[name] or _key_files(spec) & changed_files):
                changed.append(name)
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        self._specs = specs
        self._listen_for_esp(specs)
        touched = [*removed, *changed, *added]
        await self.loop.set_specs(specs, touched)
        counts = {"added": len(added), "changed": len(changed), "removed": len(removed)}
        counts["unchanged"] = len(specs) - len(added) - len(changed)
        return counts, touched

    def _listen_for_esp(self, specs: dict[str, TunnelSpec]) -> None:
        """Hold the sockets that ESP in UDP needs, and leave a copy of each with systemd."""
        opened, closed, failed = self._encap.change(points(specs.values()))
        for point, fd in opened.items():
            notify.store(point.name, [fd])
        for point in closed:
            notify.forget(point.name)
        for error in failed.values():
            _log.error("%s: tunnels behind NAT receive nothing there until the next reload", error)

    async def _settle(self, names: list[str], progress: Progress, *, detail: bool) -> Tally:
        """Look at tunnels, and gather what became of them."""
        tally = Tally(detail=detail)

        def hear(results: list[Result]) -> None:
            tally.add(results)
            progress({"done": tally.tunnels, "total": len(names), "text": "tunnels"})

        await self.loop.settled(names, hear)
        return tally

    async def _adopt(self) -> None:
        """Take over what stands in the place of desired objects."""
        engine = self._engine
        await self._in_thread(lambda: [r for rs in engine.reconcile(engine.names(), adopt=True) for r in rs])

    def _delete(self, child: ChildSa) -> None:
        """Take SAs out of the kernel that nobody looks after any more."""
        self._executor.submit(self._engine.door.execute, deletions(child))

    def _in_door(self, work: Callable[[Door], object]) -> None:
        """Have something done to the kernel, by and by."""
        self._executor.submit(self._try, work)

    def _try(self, work: Callable[[Door], object]) -> None:
        try:
            work(self._engine.door)
        except OSError as error:
            _log.warning("the order of SAs: %s", error)

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _key_files(spec: TunnelSpec) -> set[str]:
    return {spec.secret_file} | ({spec.ipsec.key_file} if spec.ipsec else set())


METHODS = (
    *("plan", "apply", "reload", "down", "status", "show", "explain"),
    *("sessions", "disconnect", "events", "restart"),
)
"""What the control socket may call."""
