"""The thread in which the kernel's half of sessions is made and taken away, many at a time.

What comes while a batch is on its way is the next batch. Descriptors go to the keeper before a session counts as made,
and are dropped there before they are closed here: the last reference to a session is never the keeper's.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from kl2tp.calls.session import Peer, Session
from kl2tp.keeper.client import KeeperClient, KeeperError
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.pppol2tp import Plane, SessionHold, SessionWish, TunnelHold, TunnelWish

_log = logging.getLogger("kl2tp.calls")
_T = TypeVar("_T")
_MOST_AT_ONCE = 64
"""Sessions in one batch: those at its end wait for all the others."""


@dataclass(slots=True)
class _Batch:
    """Work for the thread, and what came of it."""

    detach: list[tuple[Session, SessionHold]] = field(default_factory=list)
    close: list[tuple[Peer, TunnelHold]] = field(default_factory=list)
    attach: list[tuple[Session, SessionWish, TunnelWish | None]] = field(default_factory=list)
    opened: list[tuple[Peer, TunnelHold]] = field(default_factory=list)
    attached: list[tuple[Session, SessionHold | str]] = field(default_factory=list)
    failure: str = ""


class Worker:
    """Makes and takes away, in the order in which it is asked."""

    def __init__(
        self,
        plane: Plane,
        *,
        opened: Callable[[Peer, TunnelHold], None],
        attached: Callable[[Session, SessionHold | str], None],
        detached: Callable[[Session], None],
        done: Callable[[], None],
    ) -> None:
        """`attached` is given the descriptors or, in words, why there are none; `done` ends a batch."""
        self.plane = plane
        self.keeper: KeeperClient | None = None
        self._opened, self._attached, self._detached, self._done = opened, attached, detached, done
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="ppp")
        self._next = _Batch()
        self._running: asyncio.Future[None] | None = None
        self._scheduled = False

    def attach(self, session: Session, wish: SessionWish, tunnel: TunnelWish | None) -> None:
        """Make the kernel's half of a session; `tunnel` is what its tunnel needs if it has none yet."""
        self._next.attach.append((session, wish, tunnel))
        self._kick()

    def detach(self, session: Session, hold: SessionHold) -> None:
        """Take it away."""
        self._next.detach.append((session, hold))
        self._kick()

    def close_tunnel(self, peer: Peer, hold: TunnelHold) -> None:
        """Take a tunnel away, after the sessions in it."""
        self._next.close.append((peer, hold))
        self._kick()

    async def idle(self) -> None:
        """Wait until all work is done."""
        while self._running is not None or self._scheduled:
            await asyncio.sleep(0) if self._running is None else await asyncio.wait((self._running,))

    async def in_thread(self, call: Callable[[], _T]) -> _T:
        """Have something else done in the thread."""
        return await self._loop.run_in_executor(self._executor, call)

    def discard(self, holds: Sequence[SessionHold], fds: Sequence[int], names: Sequence[str]) -> None:
        """In the thread: take away what nobody can take up; `names` is what the keeper is to drop of it."""
        self.drop(list(names))
        self.plane.detach(holds)
        for fd in fds:
            os.close(fd)

    def close(self) -> None:
        """Stop; nothing may be under way."""
        self._executor.shutdown(wait=True)

    def _kick(self) -> None:
        if self._running is None and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._begin)  # what else comes in this turn goes with it

    def _begin(self) -> None:
        self._scheduled = False
        batch, self._next = self._next, _Batch()
        if len(batch.attach) > _MOST_AT_ONCE:
            self._next.attach = batch.attach[_MOST_AT_ONCE:]
            del batch.attach[_MOST_AT_ONCE:]
        self._running = self._loop.run_in_executor(self._executor, self._work, batch)
        self._running.add_done_callback(lambda done: self._end(batch, done))

    def _end(self, batch: _Batch, done: "asyncio.Future[None]") -> None:
        self._running = None
        if (error := done.exception()) is not None:
            _log.error("the kernel's half of calls: %s", error, exc_info=error)
            known = {id(session) for session, _ in batch.attached}
            batch.attached += [(s, str(error)) for s, _, _ in batch.attach if id(s) not in known]
        for peer, tunnel in batch.opened:
            self._opened(peer, tunnel)
        for session, _ in batch.detach:
            self._detached(session)
        for session, result in batch.attached:
            self._attached(session, result)
        self._done()
        if self._next.attach or self._next.detach or self._next.close:
            self._kick()

    # -- in the thread ---------------------------------------------------------------------------------------------

    def _work(self, batch: _Batch) -> None:
        if batch.detach or batch.close:
            self._take_away(batch)
        if batch.attach:
            self._make(batch)

    def _take_away(self, batch: _Batch) -> None:
        self.drop([name for _, hold in batch.detach for name in hold.names()])
        self.plane.detach([hold for _, hold in batch.detach])
        self.drop([name for _, hold in batch.close for name in hold.names()])
        self.plane.close_tunnels([hold for _, hold in batch.close])

    def _make(self, batch: _Batch) -> None:
        refused = self._open_tunnels(batch)
        sessions = [(s, wish) for s, wish, _ in batch.attach if id(s.peer) not in refused]
        batch.attached += [(s, refused[id(s.peer)]) for s, _, _ in batch.attach if id(s.peer) in refused]
        if not sessions:
            return
        holds = self.plane.attach([wish for _, wish in sessions])
        names = [name for hold in holds if isinstance(hold, SessionHold) for name in hold.names()]
        fds = [fd for hold in holds if isinstance(hold, SessionHold) for fd in hold.fds()]
        self.keep(names, fds)
        for (session, _), hold in zip(sessions, holds, strict=True):
            batch.attached.append((session, hold if isinstance(hold, SessionHold) else _words(hold)))

    def _open_tunnels(self, batch: _Batch) -> dict[int, str]:
        """Open the tunnels that the batch needs; by the identity of peers, why not."""
        wishes = {id(s.peer): (s.peer, wish) for s, _, wish in batch.attach if wish is not None}
        if not wishes:
            return {}
        holds = self.plane.open_tunnels([wish for _, wish in wishes.values()])
        refused: dict[int, str] = {}
        opened: list[TunnelHold] = []
        for (key, (peer, _)), hold in zip(wishes.items(), holds, strict=True):
            if isinstance(hold, TunnelHold):
                batch.opened.append((peer, hold))
                opened.append(hold)
            else:
                refused[key] = _words(hold)
        self.keep([name for hold in opened for name in hold.names()], [fd for hold in opened for fd in hold.fds()])
        return refused

    def keep(self, names: list[str], fds: list[int]) -> None:
        """In the thread: leave descriptors with the keeper."""
        if self.keeper is not None and names:
            try:
                self.keeper.keep(names, fds)
            except KeeperError as error:
                _log.error("the keeper did not take %d descriptors: %s", len(fds), error)

    def drop(self, names: list[str]) -> None:
        """In the thread: have the keeper close them."""
        if self.keeper is not None and names:
            try:
                self.keeper.drop(names)
            except KeeperError as error:
                _log.error("the keeper did not drop %d descriptors: %s", len(names), error)


def _words(error: KernelError) -> str:
    return f"the kernel refused: {error}"
