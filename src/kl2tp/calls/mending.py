"""Repair of what others do to the kernel's half of sessions: PPP and the control connection stay, all else is remade.

A foreign deletion of a tunnel, a session or a device is noticed by its event, by a descriptor that hangs up, or by the
look at all sessions that comes with every full comparison. Only for what cannot be made anew the session ends.
"""

import asyncio
import logging
from collections.abc import Iterable

from kl2tp.calls.session import Peer, Phase, Session
from kl2tp.calls.sessions import Sessions
from kl2tp.calls.switch import Switch
from kl2tp.calls.worker import Worker
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.pppol2tp import Loss, SessionHold, SessionWish, TunnelHold, TunnelWish

_log = logging.getLogger("kl2tp.calls")
_AT_ONCE = 200
_PATIENCE_S = 2.0
"""For a tunnel id that the kernel is still taking away."""


class Mender:
    """Looks at sessions that may have lost something, and makes that anew."""

    def __init__(self, sessions: Sessions, switch: Switch, worker: Worker) -> None:
        self._sessions, self._switch, self._worker = sessions, switch, worker
        self._suspects: dict[str, None] = {}
        self._task: asyncio.Task[None] | None = None
        self.mended = 0

    def suspect(self, names: Iterable[str]) -> None:
        """Have these sessions looked at."""
        self._suspects.update(dict.fromkeys(names))
        if self._suspects and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("looking after sessions failed: %s", error, exc_info=error)
        elif self._suspects:
            self.suspect(())

    async def idle(self) -> None:
        """Wait until nothing is being mended."""
        while self._task is not None:
            await asyncio.wait((self._task,))

    async def _work(self) -> None:
        while self._suspects:
            names = list(self._suspects)[:_AT_ONCE]
            for name in names:
                del self._suspects[name]
            found = [s for n in names if (s := self._sessions.by_name.get(n)) is not None and _whole(s)]
            if found:
                await self._look_at(found)

    async def _look_at(self, sessions: list[Session]) -> None:
        plane = self._worker.plane
        wishes = [self._sessions.wish(s) for s in sessions]
        holds = [_held(s) for s in sessions]
        losses = await self._worker.in_thread(lambda: plane.losses(wishes, holds))
        hurt = [(s, loss) for s, loss in zip(sessions, losses, strict=True) if loss and _whole(s)]
        if hurt:
            await self._mend(hurt)

    async def _mend(self, hurt: list[tuple[Session, Loss]]) -> None:
        for session, loss in hurt:
            _log.warning(
                "%s: somebody took away %s: made anew", session.name, _words(loss), extra={"session": session.name}
            )
            self._sessions.deaf(session)
        peers = {id(s.peer): s.peer for s, loss in hurt if Loss.SESSION in loss}
        ids = [p.tunnel.id for p in peers.values()]
        lost = await self._worker.in_thread(lambda: self._worker.plane.lost_tunnels(ids))
        if problems := await self._reopen([p for p in peers.values() if p.tunnel.id in lost and p.hold is not None]):
            now = asyncio.get_running_loop().time()
            for session, _ in hurt:
                if reason := problems.get(id(session.peer)):
                    self._sessions.end(session, reason, now)
            hurt = [(s, loss) for s, loss in hurt if id(s.peer) not in problems]
        await self._rebuild([(s, loss) for s, loss in hurt if s.phase is not Phase.CLOSING])
        self._switch.turn()

    async def _reopen(self, peers: list[Peer]) -> dict[int, str]:
        """Make tunnels anew, each with a new socket; why not, by the identity of peers."""
        if not peers:
            return {}
        for peer in peers:
            self._switch.release(peer)
        wishes = [peer.wish() for peer in peers]
        old = [p.hold for p in peers if p.hold is not None]
        results = await self._worker.in_thread(lambda: self._open_anew(wishes, old))
        problems = {}
        for peer, result in zip(peers, results, strict=True):
            if isinstance(result, TunnelHold):
                peer.hold = result
                self._switch.adopt(peer, result.sock, result.strays)
            else:
                peer.hold = None
                problems[id(peer)] = f"its tunnel could not be made anew: {result}"
        return problems

    def _open_anew(self, wishes: list[TunnelWish], old: list[TunnelHold]) -> list[TunnelHold | KernelError]:
        """In the thread. A socket that was a tunnel can never be one again."""
        worker = self._worker
        worker.drop([name for hold in old for name in hold.names()])
        for hold in old:
            hold.sock.close()
        results = worker.plane.open_tunnels(wishes, _PATIENCE_S)
        made = [hold for hold in results if isinstance(hold, TunnelHold)]
        worker.keep([name for hold in made for name in hold.names()], [fd for hold in made for fd in hold.fds()])
        return results

    async def _rebuild(self, hurt: list[tuple[Session, Loss]]) -> None:
        if not hurt:
            return
        wishes = [self._sessions.wish(s) for s, _ in hurt]
        holds = [_held(s) for s, _ in hurt]
        losses = [loss for _, loss in hurt]
        results = await self._worker.in_thread(lambda: self._rebuild_in_thread(wishes, holds, losses))
        now = asyncio.get_running_loop().time()
        for (session, _), result in zip(hurt, results, strict=True):
            if session.phase is Phase.CLOSING:
                continue  # it ended meanwhile, and is taken away next
            if isinstance(result, KernelError):
                session.hold = None  # taken away already
                self._sessions.end(session, f"it could not be made anew: {result}", now)
            else:
                self.mended += 1
                self._sessions.hears(session)

    def _rebuild_in_thread(
        self, wishes: list[SessionWish], holds: list[SessionHold], losses: list[Loss]
    ) -> list[SessionHold | KernelError]:
        worker = self._worker
        worker.drop([name for hold in holds for name in hold.names()])
        results = worker.plane.rebuild(wishes, holds, losses)
        made = [hold for hold in results if isinstance(hold, SessionHold)]
        worker.keep([name for hold in made for name in hold.names()], [fd for hold in made for fd in hold.fds()])
        return results


def _whole(session: Session) -> bool:
    return session.hold is not None and session.phase in (Phase.NETWORK, Phase.UP)


def _held(session: Session) -> SessionHold:
    assert session.hold is not None
    return session.hold


def _words(loss: Loss) -> str:
    return " and ".join(
        word for flag, word in ((Loss.SESSION, "the kernel's session"), (Loss.DEVICE, "the device")) if flag in loss
    )
