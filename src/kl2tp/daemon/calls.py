"""The daemon's side of calls: begins and ends them, and answers the control socket's questions about them."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from kl2tp.calls.bus import TooManyListeners
from kl2tp.calls.keeping import Keeping
from kl2tp.calls.runtime import Calls, CallsError
from kl2tp.calls.session import Phase, Session
from kl2tp.calls.words import ppp_in_words, record, tunnel_in_words
from kl2tp.daemon.errors import ServiceError
from kl2tp.daemon.report import Json, objects
from kl2tp.keeper.client import KeeperClient
from kl2tp.kernel.pppol2tp import Plane
from kl2tp.kernel.probe import cannot_guard_places
from kl2tp.model.addr import text
from kl2tp.model.desired import Desired
from kl2tp.reconcile.engine import Engine
from kl2tp.reconcile.loop import Loop

_T = TypeVar("_T")
_log = logging.getLogger("kl2tp.calls")
_SLICE = 200
"""Sessions told of before the event loop gets its turn."""
_IDLE_S = 60.0
"""A sign of life for those who follow events."""
KEEPER_SOCKET = "keeper"


class CallService:
    """Calls, as the daemon's service sees them. Nothing runs before the configuration first wants a call."""

    def __init__(
        self,
        loop: Loop,
        engine: Engine,
        run_dir: Path,
        state_dir: Path,
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
    ) -> None:
        self._loop, self._engine = loop, engine
        self._run_dir, self._state_dir = run_dir, state_dir
        self._in_thread = in_thread
        self.calls: Calls | None = None
        self._before: Calls | None = None
        """Those that `down` has ended."""
        self._keeping: Keeping | None = None

    # -- configuration ---------------------------------------------------------------------------------------------

    async def prepare(self, desired: Desired) -> Callable[[], Awaitable[None]]:
        """Read what the configuration names; what takes it into use. Raises ServiceError, and nothing has changed."""
        if self.calls is None and not (desired.lns or desired.lac) and not Keeping.left_something(self._run_dir):
            return _nothing
        calls = self.calls or await self._begin()
        try:
            take = await calls.read_files(desired)
        except CallsError as error:
            raise ServiceError(str(error), "nothing was changed") from None
        tables = await self._tables(desired)
        filtered = await self._filtered(desired)

        async def go() -> None:
            take()
            if self._keeping is None:
                await self._restore(calls, desired, tables)
            calls.configure(desired, tables, filtered=filtered)
            for problem in calls.problems:
                _log.error("%s", problem)

        return go

    async def _begin(self) -> Calls:
        socket = self._run_dir / KEEPER_SOCKET
        plane = Plane(ports=self._engine.door.ports)
        self.calls = Calls(self._loop, plane, lambda: KeeperClient(socket), self._before)
        self._before = None
        await self.calls.find_keeper()
        return self.calls

    async def _restore(self, calls: Calls, desired: Desired, tables: dict[tuple[str, str], int]) -> None:
        self._keeping = Keeping(calls, self._run_dir, self._state_dir)
        await self._keeping.restore(desired, tables)

    async def _tables(self, desired: Desired) -> dict[tuple[str, str], int]:
        """The routing tables of the VRFs that sessions are put into."""
        interfaces = [p.interface for p in desired.lns] + [p.interface for p in desired.lac]
        wanted = {(i.netns or "", i.vrf) for i in interfaces if i.vrf}
        door = self._engine.door
        tables: dict[tuple[str, str], int] = await self._in_thread(lambda: {w: door.vrf_table(*w) for w in wanted})
        return tables

    async def _filtered(self, desired: Desired) -> bool:
        """Whether nftables can tell the clients of an LNS with IPsec apart; asked only where there is one."""
        if not any(lns.ike for lns in desired.lns):
            return True
        problem = await self._in_thread(cannot_guard_places)
        if problem is not None:
            _log.warning("clients with IPsec are told apart by their addresses only: nftables: %s", problem)
        return problem is None

    async def stop(self, *, keep: bool) -> None:
        """End all sessions, or with `keep` leave them to the next daemon."""
        calls = self.calls
        if calls is None:
            return
        if keep:
            await calls.let_go()
        else:
            await calls.shut_down()
        if self._keeping is not None:
            await self._keeping.close()
        calls.close()

    async def down(self) -> None:
        """End all sessions, and serve none until a configuration is prepared again."""
        calls = self.calls
        if calls is None:
            return
        await self.stop(keep=False)
        calls.securing.let_go(calls.places.let_go())
        await self._in_thread(calls.worker.plane.close)
        if calls.worker.keeper is not None:
            calls.worker.keeper.close()
        self.calls, self._before, self._keeping = None, calls, None

    @property
    def guarded(self) -> bool:
        """Whether there are places where only IPsec gets in."""
        return self.calls is not None and self.calls.places.any

    # -- answers ---------------------------------------------------------------------------------------------------

    def status(self) -> Json | None:
        """How calls are, in short; None if there are none to serve."""
        calls = self.calls
        if calls is None:
            return None
        switch, endpoint = calls.switch, calls.endpoint
        return {
            "listening": sorted(f"{text(a)} port {p}" for a, p in switch.places),
            "problems": calls.problems,
            "keeper": "connected" if calls.kept else None,
            "mended": calls.mender.mended,
            "tunnels": len(endpoint.tunnels),
            "suspended": calls.securing.suspended,
            "sessions": calls.counts(),
            "pools": {name: {"used": used, "size": size} for name, (used, size) in calls.addressing.usage().items()},
            "counters": {
                **endpoint.counters.values(),
                "delayed": endpoint.delayed,
                "half_open": endpoint.half_open,
                "malformed_data": switch.malformed,
                "stray_data": switch.strays,
                "unknown_clients": switch.clients.unknown,
                "send_errors": switch.send_errors,
            },
            "lac": [
                {
                    "name": name,
                    "state": dial.state,
                    "server": text(dial.spec.remotes[dial.server][0]),
                    "problem": "" if dial.session is not None else dial.problem,
                }
                for name, dial in calls.dialer.dials.items()
            ],
        }

    async def sessions(self, *, ended: bool, counters: bool) -> Json:
        """All sessions, or those that ended lately."""
        calls = self.calls
        if calls is None:
            over = list(reversed(self._before.sessions.ended)) if self._before and ended else []
            return {"sessions": over, "counts": {}}
        if ended:
            return {"sessions": list(reversed(calls.sessions.ended)), "counts": calls.counts()}
        found = list(calls.sessions.by_name.values())
        rows = []
        for number, session in enumerate(found, 1):
            rows.append(record(session))
            if number % _SLICE == 0:
                await asyncio.sleep(0)
        if counters:
            await self._count(calls, found, rows)
        return {"sessions": rows, "counts": calls.counts()}

    async def _count(self, calls: Calls, sessions: list[Session], rows: list[Json]) -> None:
        held = [(row, s.hold) for s, row in zip(sessions, rows, strict=True) if s.hold and s.phase is not Phase.CLOSING]
        for start in range(0, len(held), _SLICE):
            part = held[start : start + _SLICE]
            counted = await self._in_thread(lambda: calls.worker.plane.counters([(h.tunnel_id, h.id) for _, h in part]))  # noqa: B023
            for (row, _), found in zip(part, counted, strict=True):
                row |= found or {}

    async def disconnect(self, patterns: list[str], reason: str) -> Json:
        """End the sessions that match."""
        return {"sessions": self.calls.disconnect(patterns, reason) if self.calls else []}

    async def show(self, name: str) -> Json | None:
        """All about the one session of this name, user, interface or address; None: there is none."""
        calls = self.calls
        found = calls.matching([name]) if calls else []
        if calls is None or len(found) != 1:
            return None
        session = found[0]
        row = record(session)
        await self._count(calls, [session], [row])
        inspection = await self._in_thread(lambda: self._engine.inspect(session.name))
        state = self._loop.states.get(session.name)
        return {
            "name": session.short,
            "state": session.phase.value,
            "problem": state.problem if state is not None else "",
            **{k: v for k, v in row.items() if k not in ("session", "state")},
            "ppp": ppp_in_words(session),
            "control": tunnel_in_words(session),
            "objects": objects(inspection),
        }

    async def events(self, limit: int) -> AsyncGenerator[Json, None]:
        """What happens, from now on; ends after `limit` events, if that is not 0."""
        calls = self.calls or await self._begin()
        try:
            listener = calls.bus.join()
        except TooManyListeners:
            raise ServiceError("too many follow events already", "end one of them") from None
        count = 0
        try:
            while not limit or count < limit:
                try:
                    async with asyncio.timeout(_IDLE_S):
                        event = await listener.next()
                except TimeoutError:
                    yield {"event": "idle"}
                    continue
                count += 1
                yield event
        finally:
            calls.bus.leave(listener)


async def _nothing() -> None:
    """Nobody wants calls."""
