"""What the next daemon needs to go on where this one ends, by whatever end: written down turn by turn, and taken up.

Three things make a session, and each survives in its own place: the kernel's half by descriptors that the keeper holds;
the control connection and PPP by the state log; addresses and routes by the ledger. Only what all three agree on is
taken up again. What is left over is cleared: a call of which the peer still thinks that it is up is disconnected.
"""

import asyncio
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kl2tp.calls.runtime import Calls
from kl2tp.calls.session import Peer, Session
from kl2tp.calls.snapshot import Snapshot, snapshot
from kl2tp.calls.store import Store, Value
from kl2tp.control.call import Call
from kl2tp.keeper.client import KeeperError
from kl2tp.kernel.pppol2tp import SessionHold, TunnelHold, sort_kept
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.desired import Desired
from kl2tp.wire.messages import Cdn

if TYPE_CHECKING:
    from kl2tp.control.tunnel import Tunnel

_log = logging.getLogger("kl2tp.calls")
_DIRECTORY = "calls"
_POOLS = "pools.json"
_POOLS_S = 300.0
"""Time between looks at who has which address, for after a reboot."""


class Keeping:
    """Keeps the state of all calls."""

    def __init__(self, calls: Calls, run_dir: Path, state_dir: Path) -> None:
        self._calls = calls
        self._store = Store(run_dir / _DIRECTORY, self._value_of)
        self._pools_file = state_dir / _POOLS
        self._pools_text = ""
        self._aio = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    @staticmethod
    def left_something(run_dir: Path) -> bool:
        """Whether an earlier daemon may have left calls."""
        return any((run_dir / _DIRECTORY).glob("calls.*"))

    @staticmethod
    def forget(run_dir: Path) -> None:
        """Forget what an earlier daemon left. No daemon may be running."""
        for path in (run_dir / _DIRECTORY).glob("calls.*"):
            path.unlink(missing_ok=True)

    # -- writing down ----------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Write down what changed in this turn, before anything of it leaves."""
        calls, store = self._calls, self._store
        for item in calls.endpoint.take_dirty():
            store.put(_key(item), item.save())
        if changed := calls.sessions.changed:
            for session in changed:
                store.put(f"s/{session.short}", snapshot(session))
            changed.clear()
        store.flush()

    def _value_of(self, key: str) -> Value | None:
        kind, _, name = key.partition("/")
        tunnel_id, _, call_id = name.partition(".")
        tunnel = self._calls.endpoint.tunnels.get(int(tunnel_id))
        if tunnel is None:
            return None
        if kind == "t":
            return tunnel.save()
        call = tunnel.calls.get(int(call_id))
        if call is None:
            return None
        if kind == "c":
            return call.save()
        session = tunnel.owner.sessions.get(call.id) if isinstance(tunnel.owner, Peer) else None
        return snapshot(session) if session is not None else None

    # -- taking up -------------------------------------------------------------------------------------------------

    async def restore(self, desired: Desired, tables: dict[tuple[str, str], int]) -> None:
        """Take up what an earlier daemon left; from then on, write down what happens."""
        calls = self._calls
        found = self._store.load()
        calls.addressing.remember(self._read_pools())
        calls.begin_with(desired, tables)
        kept = await calls.worker.in_thread(self._fetch)
        tunnels = self._restore_control(found)
        await self._restore_kernel(found, tunnels, kept)
        calls.save = self.save
        self._store.begin()
        calls.switch.turn()
        self._task = self._aio.create_task(self._keep_pools())

    def _fetch(self) -> dict[str, int]:
        keeper = self._calls.worker.keeper
        if keeper is None:
            return {}
        try:
            return dict(keeper.fetch())
        except KeeperError as error:
            _log.error("the keeper gives nothing back: %s", error)
            return {}

    def _restore_control(self, found: Mapping[str, Value]) -> "dict[int, Tunnel]":
        now = self._aio.time()
        endpoint = self._calls.endpoint
        desired = self._calls.desired
        profiles: dict[bool, dict[str, LnsSpec | LacSpec]] = {
            True: {p.name: p for p in desired.lns},
            False: {p.name: p for p in desired.lac},
        }
        tunnels: dict[int, Tunnel] = {}
        for key in sorted(found):
            kind, _, _ = key.partition("/")
            if kind != "t":
                continue
            state = found[key]
            if (profile := profiles[state["lns"]].get(state["profile"])) is not None:
                tunnel = endpoint.restore_tunnel(state, profile, now)
                tunnels[tunnel.id] = tunnel
                tunnel.owner = peer = Peer(tunnel)
                self._calls.securing.take_up(peer)
        for key, value in found.items():
            if key.startswith("c/"):
                endpoint.restore_call(value, now)
        return tunnels

    async def _restore_kernel(
        self, found: Mapping[str, Value], tunnels: "dict[int, Tunnel]", descriptors: dict[str, int]
    ) -> None:
        calls = self._calls
        worker = calls.worker
        kept = sort_kept(descriptors)
        wishes = [peer.wish() for peer in _peers(tunnels) if peer.tunnel.id in kept.tunnels]
        fds = [kept.tunnels.pop(wish.id) for wish in wishes]
        holds = await worker.in_thread(lambda: worker.plane.adopt_tunnels(wishes, fds))
        useless = [*kept.tunnels.values(), *kept.rest.values()]
        for wish, fd, hold in zip(wishes, fds, holds, strict=True):
            if isinstance(hold, TunnelHold):
                peer = tunnels[wish.id].owner
                assert isinstance(peer, Peer)
                peer.hold = hold
                calls.switch.adopt(peer, hold.sock)
            else:
                _log.warning("%s", hold)
                useless.append(fd)
        over = await self._restore_sessions(found, tunnels, kept.sessions)
        in_use = {name for peer in _peers(tunnels) for name in _names(peer)}
        await worker.in_thread(lambda: worker.discard(over, useless, [n for n in descriptors if n not in in_use]))
        self._clear(tunnels)
        if found:
            _log.info("%d sessions in %d tunnels go on", len(calls.sessions.by_name), len(tunnels))

    async def _restore_sessions(
        self,
        found: Mapping[str, Value],
        tunnels: "dict[int, Tunnel]",
        pairs: dict[tuple[int, int], tuple[int, int]],
    ) -> list[SessionHold]:
        """Take up what is whole; what of the rest is to be taken away."""
        worker, desired = self._calls.worker, self._calls.desired
        over: list[SessionHold] = []
        wanted: list[tuple[Call, Snapshot]] = []
        fds: list[tuple[int, int]] = []
        for ids, pair in pairs.items():
            call = _call(tunnels, ids)
            state = _snapshot(found.get(f"s/{ids[0]}.{ids[1]}"))
            if call is None or state is None or state.profile(desired) is None:
                over.append(SessionHold(*ids, "", *pair))
            else:
                wanted.append((call, state))
                fds.append(pair)
        wishes = [state.wish(call, state.profile(desired)) for call, state in wanted]
        now = self._aio.time()
        for (call, state), hold in zip(
            wanted, await worker.in_thread(lambda: worker.plane.adopt(wishes, fds)), strict=True
        ):
            if isinstance(hold, SessionHold):
                self._take_up(call, state, hold, now)
            else:
                _log.warning("%s", hold.error)
                over.append(hold.hold)
        return over

    def _take_up(self, call: Call, state: Snapshot, hold: SessionHold, now: float) -> None:
        calls = self._calls
        profile, peer = state.profile(calls.desired), call.tunnel.owner
        assert profile is not None
        assert isinstance(peer, Peer)
        link = calls.links.restored(profile, call, calls.password(profile), state.link, now)
        session = Session(peer, call, profile, link)
        state.fill(session, calls.users)
        session.hold = hold
        calls.sessions.take_up(session)

    def _clear(self, tunnels: "dict[int, Tunnel]") -> None:
        """Disconnect calls that have no session: their peers may try again."""
        now = self._aio.time()
        for peer in _peers(tunnels):
            for call in list(peer.tunnel.calls.values()):
                if call.id not in peer.sessions:
                    self._calls.endpoint.hang_up(
                        call, now, result=Cdn.NO_FACILITIES_NOW, message="set-up was cut short by a restart"
                    )

    # -- for after a reboot ----------------------------------------------------------------------------------------

    def _read_pools(self) -> dict[str, Any]:
        try:
            self._pools_text = self._pools_file.read_text(encoding="utf-8")
            found = json.loads(self._pools_text)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _log.warning("%s: %s; users may get other addresses than they had", self._pools_file, error)
            return {}
        return found if isinstance(found, dict) else {}

    async def _keep_pools(self) -> None:
        while True:
            await asyncio.sleep(_POOLS_S)
            await self._write_pools()

    async def _write_pools(self) -> None:
        memory = self._calls.addressing.save()
        await self._calls.worker.in_thread(lambda: self._write_pools_now(memory))

    def _write_pools_now(self, memory: dict[str, Any]) -> None:
        text = json.dumps(memory, separators=(",", ":"))
        if text == self._pools_text:
            return
        new = self._pools_file.with_suffix(".new")
        try:
            self._pools_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            new.write_text(text, encoding="utf-8")
            new.replace(self._pools_file)
            self._pools_text = text
        except OSError as error:
            _log.warning("%s: %s; after a reboot users may get other addresses", self._pools_file, error.strerror)

    async def close(self) -> None:
        """Write the last of it."""
        if self._task is not None:
            self._task.cancel()
        await self._write_pools()
        self.save()
        self._store.close()


def _key(item: "Tunnel | Call") -> str:
    return f"c/{item.tunnel.id}.{item.id}" if isinstance(item, Call) else f"t/{item.id}"


def _peers(tunnels: "dict[int, Tunnel]") -> Iterator[Peer]:
    for tunnel in tunnels.values():
        assert isinstance(tunnel.owner, Peer)
        yield tunnel.owner


def _names(peer: Peer) -> Iterator[str]:
    """What the keeper calls the descriptors of a tunnel and its sessions."""
    if peer.hold is not None:
        yield from peer.hold.names()
    for session in peer.sessions.values():
        if session.hold is not None:
            yield from session.hold.names()


def _call(tunnels: "dict[int, Tunnel]", ids: tuple[int, int]) -> Call | None:
    """The call with these ids, if it and its tunnel are whole."""
    tunnel = tunnels.get(ids[0])
    call = tunnel.calls.get(ids[1]) if tunnel is not None else None
    if tunnel is None or call is None or not call.established:
        return None
    return call if isinstance(tunnel.owner, Peer) and tunnel.owner.hold is not None else None


def _snapshot(value: Value | None) -> Snapshot | None:
    if value is None:
        return None
    try:
        return Snapshot(value)
    except (KeyError, ValueError, TypeError) as error:
        _log.error("a session's saved state is of no use: %r", error)
        return None
