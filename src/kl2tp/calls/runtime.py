"""All of L2TPv2: the parts wired together, begun, configured anew, and ended."""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import Any, ClassVar

from kl2tp.access.secretfile import SecretFileError
from kl2tp.access.secrets import TunnelSecrets
from kl2tp.access.users import ConfigError, Users
from kl2tp.calls.addressing import Addressing
from kl2tp.calls.bus import Bus
from kl2tp.calls.dialer import Dialer
from kl2tp.calls.gate import Gate
from kl2tp.calls.hooks import Hooks
from kl2tp.calls.links import Links
from kl2tp.calls.mending import Mender
from kl2tp.calls.places import Places, guarded, listening
from kl2tp.calls.securing import Securing
from kl2tp.calls.session import Peer, Phase, Session
from kl2tp.calls.sessions import Sessions
from kl2tp.calls.switch import Switch
from kl2tp.calls.words import record
from kl2tp.calls.worker import Worker
from kl2tp.control import endpoint as control
from kl2tp.control.endpoint import Endpoint
from kl2tp.control.profiles import Peer as Source
from kl2tp.control.profiles import Place, Profiles, client_of
from kl2tp.keeper.client import KeeperClient, KeeperError
from kl2tp.kernel.pppol2tp import Plane, SessionHold, TunnelHold
from kl2tp.model.addr import text
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.desired import Desired
from kl2tp.model.objects import Secret
from kl2tp.ppp import auth
from kl2tp.reconcile.engine import Result
from kl2tp.reconcile.loop import Loop

_log = logging.getLogger("kl2tp.calls")
_MATCHED = ("session", "user", "interface", "address", "prefix", "peer")
"""What patterns of sessions are compared with."""
_WORDS = {
    "tunnel-suspended": "its IPsec SA is gone: it waits for another",
    "tunnel-resumed": "its IPsec SA is there again: it goes on",
}
_KEEPER_S = 5.0
"""Time between looks for a keeper that is not there."""
_STOP_S = 15.0
"""How long the end of all sessions may take when the daemon stops."""


class CallsError(Exception):
    """Calls cannot be served as configured; says what and why. Nothing was changed."""


class Calls:
    """Everything about calls. Lives in the event loop."""

    def __init__(
        self, loop: Loop, plane: Plane, find_keeper: Callable[[], KeeperClient], before: "Calls | None" = None
    ) -> None:
        """`find_keeper` connects to the keeper, or raises KeeperError. `before` has been shut down: who listens to it
        goes on to listen, and what has ended is still known."""
        self.bus: Bus = before.bus if before is not None else Bus()
        self._find_keeper = find_keeper
        self._watch: asyncio.Task[None] | None = None
        self._aio = asyncio.get_running_loop()
        self._loop = loop
        self._files = ThreadPoolExecutor(1, thread_name_prefix="files")
        self.desired = Desired()
        self._secrets: dict[str, TunnelSecrets] = {}
        self._passwords: dict[str, Secret] = {}
        self.addressing = Addressing()
        self.hooks = Hooks()
        self.links = Links()
        self._gate = Gate(self.desired.users)
        self.endpoint = Endpoint(Profiles(()), os.urandom, self._secret_of, host_name=socket.gethostname())
        self.sessions = Sessions(loop, self._gate, self.addressing, self.bus, self.hooks)
        if before is not None:
            self.sessions.ended = before.sessions.ended
        self.save: Callable[[], None] = lambda: None
        """Writes down what changed; given by whoever keeps the state."""
        self.switch = Switch(self.endpoint, heard=self._heard, pump=self.sessions.pump, save=lambda: self.save())
        self.worker = Worker(
            plane,
            opened=self.sessions.tunnel_opened,
            attached=self.sessions.attached,
            detached=self.sessions.detached,
            done=self.switch.turn,
        )
        self.sessions.connect(self.switch, self.worker)
        self.places = Places(loop)
        self.securing = securing = Securing(loop, self.endpoint, self.switch.clients)
        securing.bound, securing.resumed = self.sessions.bound, self.sessions.resumed
        securing.turn, securing.tell = self.switch.turn, self._tell_of_tunnel
        self.sessions.emptied = securing.end
        self.switch.refused = self._refused
        loop.on_call = self._unit_done
        self._deaf_at: dict[Place, OSError] = {}
        """Where we could not listen."""
        self.dialer = Dialer(self.endpoint, self.switch.turn, self.switch.adopt, self.places.problem_of)
        self.sessions.over = self.dialer.session_over
        self.mender = Mender(self.sessions, self.switch, self.worker)
        self.sessions.hurt = loop.on_call_hint = self.mender.suspect

    # -- the keeper ------------------------------------------------------------------------------------------------

    @property
    def kept(self) -> bool:
        """Whether sessions outlive this daemon."""
        keeper = self.worker.keeper
        return keeper is not None and keeper.connected

    async def find_keeper(self) -> None:
        """Look for a keeper; from then on, watch it."""
        try:
            self.worker.keeper = await self.worker.in_thread(self._find_keeper)
        except KeeperError as error:
            _log.warning("%s: sessions will not outlive this daemon", error)
        self._watch = self._aio.create_task(self._watch_keeper())

    async def _watch_keeper(self) -> None:
        """Find the keeper again when it went, or was not there; leave with it what there is."""
        while True:
            await asyncio.sleep(_KEEPER_S)
            if self.kept:
                continue
            holds = self._holds()
            try:
                await self.worker.in_thread(lambda: self._hand_over(holds))  # noqa: B023
            except KeeperError as error:
                _log.debug("%s", error)
            else:
                _log.info("the keeper is there: it holds %d tunnels and sessions", len(holds))

    def _holds(self) -> list[TunnelHold | SessionHold]:
        """What holds the tunnels and sessions that live."""
        sessions = [s.hold for s in self.sessions.by_name.values() if s.hold and s.phase is not Phase.CLOSING]
        peers = [t.owner for t in self.endpoint.tunnels.values() if isinstance(t.owner, Peer)]
        return [*(peer.hold for peer in peers if peer.hold is not None), *sessions]

    def _hand_over(self, holds: Sequence[TunnelHold | SessionHold]) -> None:
        """In the thread. Raises KeeperError."""
        keeper = self._find_keeper()
        keeper.drop(keeper.names())
        keeper.keep([name for hold in holds for name in hold.names()], [fd for hold in holds for fd in hold.fds()])
        self.worker.keeper = keeper

    # -- configuration ---------------------------------------------------------------------------------------------

    async def read_files(self, desired: Desired) -> Callable[[], None]:
        """Read users and secrets, off the event loop; what takes them into use. Raises CallsError."""
        try:
            return await self._aio.run_in_executor(self._files, lambda: self._read_files(desired))
        except (ConfigError, SecretFileError) as error:
            raise CallsError(str(error)) from None

    def _read_files(self, desired: Desired) -> Callable[[], None]:
        users = self._gate.users
        users = users.reload() if desired.users.files == self.desired.users.files else Users(desired.users.files)
        profiles: list[LnsSpec | LacSpec] = [*desired.lns, *desired.lac]
        auth.load({method for p in profiles for method in p.ppp.auth})
        paths = {p.control.secret_file for p in profiles if p.control.secret_file}
        secrets = {path: TunnelSecrets(path) for path in paths}
        passwords = {p.password_file: read_password(p.password_file) for p in desired.lac if p.password_file}

        def take() -> None:
            self._gate.users = users
            self._secrets, self._passwords = secrets, passwords

        return take

    def begin_with(self, desired: Desired, tables: dict[tuple[str, str], int]) -> None:
        """Know the configuration, before anything is served by it: sessions are to be taken up first."""
        self.desired = desired
        self.sessions.tables = tables
        self._gate.configure(desired.users)
        self.addressing.configure(desired.pools, self._ours(desired), ())
        self.endpoint.profiles = Profiles(desired.lns)

    def configure(
        self, desired: Desired, tables: dict[tuple[str, str], int], *, filtered: bool = True
    ) -> None:
        """Serve by this configuration from now on; `filtered`: there is nftables."""
        now = self._aio.time()
        self.desired = desired
        self.links.forget()
        self.sessions.tables = tables
        self._gate.configure(desired.users)
        self.addressing.configure(desired.pools, self._ours(desired), self._held())
        self.endpoint.profiles = Profiles(desired.lns)
        # The kernel has one space of ids for all tunnels of a namespace, declared ones too.
        declared = {tunnel.id for tunnel in desired.tunnels if not tunnel.netns}
        self.endpoint.reserve(declared.__contains__)
        self._new_profiles(desired.lns, now)
        self.switch.clients.marks, self.switch.clients.filtered = desired.daemon.marks, filtered
        self.places.configure(desired, desired.daemon.marks, filtered=filtered)
        self._listen()
        adopted = {s.profile.name: s for s in self.sessions.by_name.values() if isinstance(s.profile, LacSpec)}
        for session in self.dialer.configure(desired.lac, adopted):
            self.sessions.close(session, "the configuration wants this call no longer", now)
        self.places.release()
        self.switch.turn()

    def _listen(self) -> None:
        """Listen where that is wanted, as far as its protection is there."""
        protected = guarded(self.desired)
        self.switch.clients.guard(protected)
        self._deaf_at = self.switch.listen(self.places.ready(listening(self.desired), protected))

    @property
    def problems(self) -> list[str]:
        """What of the configuration does not work, in words."""
        deaf = [f"cannot listen on {text(a)} port {p}: {e.strerror}" for (a, p), e in self._deaf_at.items()]
        return deaf + self.places.problems()

    def _unit_done(self, result: Result) -> None:
        """What became of a unit of ours."""
        if self.securing.unit_done(result.name, result.problem):
            self.switch.turn()
        elif self.places.unit_done(result.name, result.problem):
            self._listen()
            self.dialer.look()
        else:
            self.sessions.unit_done(result)

    def _new_profiles(self, profiles: Iterable[LnsSpec], now: float) -> None:
        """Sessions of profiles that stay know their new values; those of profiles that went end."""
        by_name = {p.name: p for p in profiles}
        for session in list(self.sessions.by_name.values()):
            if isinstance(session.profile, LnsSpec):
                if (profile := by_name.get(session.profile.name)) is None:
                    self.sessions.close(session, "its profile was removed", now)
                else:
                    session.profile = profile
        for tunnel in list(self.endpoint.tunnels.values()):
            spec = tunnel.profile
            if isinstance(spec, LnsSpec) and bool(client_of(tunnel.peer)) != (spec.ike is not None):
                self.endpoint.close(tunnel, now, message="the configuration protects it in another way")

    def _ours(self, desired: Desired) -> list[bytes]:
        """Addresses that no pool gives to just anybody."""
        users = self.users
        ours = [p.ppp.local_address for p in desired.lns if p.ppp.local_address]
        return [*ours, *users.fixed_addresses(), *users.fixed_prefixes()]

    @property
    def users(self) -> Users:
        """Who may log in."""
        return self._gate.users

    def _held(self) -> list[tuple[bytes, str]]:
        return [
            (address, s.identity or s.name)
            for s in self.sessions.by_name.values()
            for address in (s.grant.peer if s.grant.held else b"", s.grant.prefix if s.grant.prefix_held else b"")
            if address
        ]

    def _secret_of(self, profile: LnsSpec | LacSpec, peer: Source, host_name: str) -> bytes | None:
        """The secret that we share with a peer, RFC 2661 5.1.1."""
        secrets = self._secrets.get(profile.control.secret_file)
        if secrets is None:
            return None
        found = secrets.lookup(profile.control.host_name or socket.gethostname(), host_name)
        return found.reveal() if found is not None else None

    # -- what the control connections say --------------------------------------------------------------------------

    def _heard(self, event: control.Event, now: float) -> None:
        self._hear[type(event)](self, event, now)

    def _tunnel_up(self, event: control.TunnelUp, now: float) -> None:
        tunnel = event.tunnel
        self.securing.begin(self._peer(tunnel))
        _log.info("tunnel %d to %s (%s) is up", tunnel.id, text(tunnel.peer[0]), tunnel.host_name or "no name")
        self.bus.tell("tunnel-up", tunnel=tunnel.id, peer=text(tunnel.peer[0]), host=tunnel.host_name)

    def _tunnel_down(self, event: control.TunnelDown, now: float) -> None:
        tunnel = event.tunnel
        _log.info("tunnel %d to %s ended: %s", tunnel.id, text(tunnel.peer[0]), event.reason)
        self.bus.tell("tunnel-down", tunnel=tunnel.id, peer=text(tunnel.peer[0]), reason=event.reason)
        peer = self._peer(tunnel)
        peer.over = True
        if peer.hold is None and peer.socket is not None:
            own = peer.socket
            self.switch.release(peer)
            own.close()
        for session in list(peer.sessions.values()):
            self.sessions.call_down(session, event.reason, now)
        self.sessions.tunnel_empty(peer)

    def _tunnel_moved(self, event: control.TunnelMoved, now: float) -> None:
        tunnel = event.tunnel
        if isinstance(tunnel.owner, Peer):
            self.securing.moved(tunnel.owner)
        _log.info("tunnel %d: its peer is at %s port %d now", tunnel.id, text(tunnel.peer[0]), tunnel.peer[1])

    def _tell_of_tunnel(self, kind: str, peer: Peer) -> None:
        tunnel = peer.tunnel
        _log.info("tunnel %d to %s: %s", tunnel.id, text(tunnel.peer[0]), _WORDS[kind])
        self.bus.tell(kind, tunnel=tunnel.id, peer=text(tunnel.peer[0]), host=tunnel.host_name)

    def _refused(self, refusal: control.Refusal) -> None:
        """Somebody asked for a tunnel, and was not let in."""
        peer, name = text(refusal.peer[0]), refusal.host_name or "no name"
        _log.warning("%s (%s) was not let in: %s", peer, name, refusal.reason)
        self.bus.tell("tunnel-refused", peer=peer, host=refusal.host_name, why=refusal.reason)

    def _call_up(self, event: control.CallUp, now: float) -> None:
        call = event.call
        peer = self._peer(call.tunnel)
        dial = self.dialer.dial_of(call)
        profile = dial.spec if dial is not None else call.tunnel.profile
        link = self.links.new(profile, call, self.password(profile))
        session = Session(peer, call, profile, link)
        if dial is not None:
            dial.session = session
        self.sessions.begin(session, now)

    def _call_down(self, event: control.CallDown, now: float) -> None:
        peer = self._peer(event.call.tunnel)
        session = peer.sessions.get(event.call.id)
        if session is not None and session.call is event.call:
            self.sessions.call_down(session, event.reason, now)
        else:
            self.dialer.call_down(event.call, event.reason)

    def _ignored(self, event: control.Event, now: float) -> None:
        _log.debug("%s", event)

    _hear: ClassVar[dict[type, Callable[["Calls", Any, float], None]]] = {
        control.TunnelUp: _tunnel_up,
        control.TunnelDown: _tunnel_down,
        control.TunnelMoved: _tunnel_moved,
        control.CallOffered: _ignored,
        control.CallUp: _call_up,
        control.CallDown: _call_down,
        control.LinkInfo: _ignored,
        control.LineErrors: _ignored,
    }

    @staticmethod
    def _peer(tunnel: control.Tunnel) -> Peer:
        if not isinstance(tunnel.owner, Peer):
            tunnel.owner = Peer(tunnel)
        return tunnel.owner

    def password(self, profile: LnsSpec | LacSpec) -> Secret | None:
        """The secret of the user that we log in as."""
        if not isinstance(profile, LacSpec):
            return None
        if profile.password_file:
            return self._passwords.get(profile.password_file)
        user = self._gate.users.lookup(profile.user)
        return user.secret if user is not None else None

    # -- for the control socket ------------------------------------------------------------------------------------

    def matching(self, patterns: Sequence[str]) -> list[Session]:
        """The sessions of which something matches one of the patterns."""
        found = []
        for session in self.sessions.by_name.values():
            entry = record(session)
            values = [
                str(entry[key]) for key in ("session", "user", "interface", "address", "prefix", "peer") if entry[key]
            ]
            if any(fnmatchcase(value, pattern) for value in values for pattern in patterns):
                found.append(session)
        return found

    def disconnect(self, patterns: Sequence[str], reason: str) -> list[str]:
        """End sessions; their names."""
        now = self._aio.time()
        chosen = [s for s in self.matching(patterns) if s.phase is not Phase.CLOSING]
        for session in chosen:
            self.sessions.close(session, reason or "disconnected by the operator", now)
        self.switch.turn()
        return [session.short for session in chosen]

    def counts(self) -> dict[str, int]:
        """Sessions by state, and tunnels."""
        counts = {phase.value: 0 for phase in Phase}
        for session in self.sessions.by_name.values():
            counts[session.phase.value] += 1
        counts["dialing"] = sum(d.session is None and not d.stopped for d in self.dialer.dials.values())
        return counts

    # -- the end ---------------------------------------------------------------------------------------------------

    async def shut_down(self) -> None:
        """End all sessions and tunnels, properly and soon."""
        now = self._aio.time()
        self.dialer.stop()
        self.endpoint.profiles = Profiles(())
        for session in list(self.sessions.by_name.values()):
            self.sessions.call_down(session, "kl2tp stops", now)
        self.endpoint.shutdown(now)
        self.switch.turn()
        try:
            async with asyncio.timeout(_STOP_S):
                while self.sessions.by_name or self.endpoint.tunnels:
                    await self.worker.idle()
                    await asyncio.sleep(0.01)
                await self.worker.idle()
        except TimeoutError:
            _log.warning("%d tunnels did not answer to their end", len(self.endpoint.tunnels))
        await self.hooks.finish(5.0)

    async def let_go(self) -> None:
        """Leave all as it is: another daemon takes over."""
        self.dialer.stop()
        await self.worker.idle()
        self.switch.turn()

    def close(self) -> None:
        """Close what this process holds."""
        if self._watch is not None:
            self._watch.cancel()
        self.securing.close()
        self.sessions.advertising.close()
        self.switch.close()
        self.worker.close()
        self._files.shutdown()


def read_password(path: str) -> Secret:
    """The password of a call that we place: the first line of a file."""
    from kl2tp.access import secretfile

    lines = secretfile.read(path, 4096).split(b"\n")
    return Secret(lines[0].rstrip(b"\r"))
