"""IPsec with IKE: what the configuration wants of strongSwan's charon, and to whom what it says is passed on.

Whether a declared tunnel or a call of ours has IPsec the kernel says: charon may be away, or be another than the one
that made the SAs. A declared tunnel counts as secured while it has them, and for its grace time after.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from kl2tp.calls.dialer import Secured
from kl2tp.calls.runtime import Calls
from kl2tp.control.profiles import Place
from kl2tp.daemon import ikewords
from kl2tp.daemon.precedence import SETTLED_S, InDoor, Precedence
from kl2tp.daemon.report import Json
from kl2tp.ipsec.ike import ChildSa, Traffic, Wanted, name_of
from kl2tp.ipsec.ike.charon import Charon
from kl2tp.ipsec.ike.wanted import L2TP, UDP
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.desired import Desired
from kl2tp.model.ike import PSK, IkeSpec, Initiate
from kl2tp.model.objects import Sa, Secret
from kl2tp.model.plan import Operation, Stage, Verb
from kl2tp.model.spec import Encap, Mode, TunnelSpec
from kl2tp.reconcile.loop import Loop

_log = logging.getLogger("kl2tp.ike")
_STATE, _ADDRESS = "ike.json", "charon"
_LNS = name_of("lns", "")
WAITING = "waiting for IKE"
_PORT = 1701
_UNLOAD_S = 5.0
"""How long charon may take to forget our connections when kl2tp takes everything away."""


def wanted(desired: Desired, servers: Mapping[str, Place], *, calls: bool = True) -> dict[str, Wanted]:
    """The connections that a configuration wants; `servers` are those that calls are placed to at the moment."""
    found = [of_tunnel(t) for t in desired.tunnels if t.ike is not None]
    if calls:
        found += [
            of_lac(lac, servers.get(lac.name, lac.remotes[0])) for lac in desired.lac if lac.ike is not None
        ]
        found += of_lns(desired.lns)
    return {one.name: one for one in found}


def of_tunnel(spec: TunnelSpec) -> Wanted:
    """The connection of a declared tunnel."""
    ike = spec.ike
    assert ike is not None
    udp = spec.encap == Encap.UDP
    return Wanted(
        name_of("", spec.name),
        ike,
        spec.local,
        (_host(spec.remote),),
        Traffic(UDP, spec.local_port, spec.remote_port) if udp else Traffic(L2TP, 0, 0),
        initiates=ike.initiate is not Initiate.NO,
        first=ike.initiate is Initiate.YES or spec.local < spec.remote,
    )


def of_lac(spec: LacSpec, server: Place) -> Wanted:
    """The connection of a call that we place."""
    assert spec.ike is not None
    address, port = server
    return Wanted(
        name_of("lac", spec.name),
        spec.ike,
        spec.local[0],
        (_host(address),),
        Traffic(UDP, spec.local[1], port),
        initiates=True,
    )


def of_lns(profiles: Iterable[LnsSpec]) -> list[Wanted]:
    """The connections for those who call us: one for all profiles that are the same to IKE."""
    found: dict[tuple[bytes, int, tuple[tuple[bytes, int], ...], IkeSpec], Wanted] = {}
    for spec in profiles:
        if spec.ike is None:
            continue
        for number, (local, port) in enumerate(_ends(spec)):
            name = name_of("lns", f"{spec.name}/{number}" if number else spec.name)
            key = (local, port, spec.peers, spec.ike)
            found.setdefault(key, Wanted(name, spec.ike, local, spec.peers, Traffic(UDP, port, 0), many=True))
    return list(found.values())


def _ends(spec: LnsSpec) -> Iterator[Place]:
    """Where a profile listens; b"" is any address, of both families."""
    places = dict.fromkeys(spec.listen or ((b"", _PORT),))
    yield from dict.fromkeys((address if any(address) else b"", port) for address, port in places)


def _host(address: bytes) -> tuple[bytes, int]:
    return address, len(address) * 8


def _owners(desired: Desired) -> dict[int, TunnelSpec | LacSpec]:
    """Declared tunnels and calls of ours with IKE, by reqid."""
    specs: tuple[TunnelSpec | LacSpec, ...] = (*desired.tunnels, *desired.lac)
    return {spec.ike.reqid: spec for spec in specs if spec.ike is not None}


class IkeService:
    """Charon, as the daemon's service sees it. Nothing runs before the configuration first wants IKE."""

    def __init__(
        self,
        run_dir: Path,
        loop: Loop | None,
        delete: Callable[[ChildSa], None],
        in_door: InDoor = lambda _: None,
    ) -> None:
        """`delete` takes away SAs of which charon knows nothing any more."""
        self._run_dir, self._loop, self._delete = run_dir, loop, delete
        self._in_door = in_door
        self._precedence = Precedence(in_door)
        self._aio = asyncio.get_running_loop()
        self._charon: Charon | None = None
        self._address = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._calls: Calls | None = None
        self._desired = Desired()
        self._serving = True
        """Whether connections of calls are wanted."""
        self._of: dict[int, TunnelSpec | LacSpec] = {}
        """Declared tunnels and calls of ours, by reqid."""
        self._servers: dict[str, Place] = {}
        self._graces: dict[str, asyncio.TimerHandle] = {}
        """Of declared tunnels whose SAs are gone."""
        self._secured: set[str] = set()
        """Declared tunnels that have IPsec, or had it until a moment ago."""
        self._synced = self._scheduled = False

    # -- configuration ---------------------------------------------------------------------------------------------

    async def configure(self, desired: Desired, calls: Calls | None) -> None:
        """Have charon serve this configuration from now on."""
        self._desired, self._serving = desired, True
        before, self._of = self._of, _owners(desired)
        lacs = {lac.name for lac in desired.lac}
        self._servers = {name: server for name, server in self._servers.items() if name in lacs}
        some = bool(self._of or any(lns.ike is not None for lns in desired.lns))
        if self._charon is not None and desired.daemon.charon != self._address:
            await self.close()
        if self._charon is None and (some or self._left_something()):
            self.begin(desired.daemon.charon)
        self._attach(calls)
        self._forget_tunnels(before)
        self._look_at(reqid for reqid in self._of if reqid not in before)
        self._want()

    def _forget_tunnels(self, before: Mapping[int, TunnelSpec | LacSpec]) -> None:
        """Those that are declared no longer, or have another reqid."""
        for reqid, spec in before.items():
            now = self._of.get(reqid)
            if isinstance(spec, TunnelSpec) and (now is None or now.name != spec.name):
                self._stop_grace(spec.name)
                self._note(spec.name, False)

    def _left_something(self) -> bool:
        """Whether an earlier daemon may have left connections in charon."""
        return (self._run_dir / _ADDRESS).exists()

    def begin(self, address: str) -> None:
        """Speak to charon from now on."""
        with suppress(OSError):
            (self._run_dir / _ADDRESS).write_text(address, encoding="utf-8")
        self._address, self._synced = address, False
        self._charon = charon = Charon(
            address,
            self._run_dir / _STATE,
            changed=self._changed,
            gone=self._gone,
            fresh=self._fresh,
            orphaned=self._precedence.orphaned,
        )
        self._tasks = [self._aio.create_task(charon.run()), self._aio.create_task(self._sync(charon))]
        if self._loop is not None:
            self._loop.follow_associations(self._association)

    async def _sync(self, charon: Charon) -> None:
        """Wait for charon's first word about everything."""
        await charon.settled()
        self._synced = True
        names = wanted(self._desired, self._servers)
        self._precedence.only(child for name in names for child in charon.negotiation(name).children)
        if self._calls is not None:
            self._calls.dialer.look()
            self._calls.securing.synced()

    def _attach(self, calls: Calls | None) -> None:
        """Have calls know their clients."""
        self._calls, charon = calls, self._charon
        if calls is None or charon is None:
            return
        calls.switch.clients.known = charon.clients
        calls.dialer.secured = self._of_server
        calls.securing.in_kernel = self._protects
        specs = wanted(self._desired, self._servers)
        calls.securing.proven = frozenset(w.name for w in specs.values() if w.many and w.spec.remote_auth != PSK)
        if self._synced:
            calls.securing.synced()

    def _want(self) -> None:
        if self._charon is not None:
            self._charon.want(wanted(self._desired, self._servers, calls=self._serving))

    # -- what the kernel says --------------------------------------------------------------------------------------

    def _association(self, netns: str, reqid: int) -> None:
        """SAs came or went. Those of charon are where it is, in our own namespace."""
        if netns:
            return
        if not reqid:
            self._look_at(self._of)
        elif reqid in self._of:
            self._look_at((reqid,))
        else:
            self._client_association(reqid)

    def _client_association(self, reqid: int) -> None:
        """SAs of a client came or went; charon need not know of them."""
        charon = self._charon
        child = charon.clients.get(reqid) if charon is not None else None
        if charon is not None and child is not None and not self._protects(reqid):
            if child.orphaned or not charon.alive:
                charon.sas_gone((child.spi_in,))
        elif child is None and self._calls is not None:
            self._calls.securing.lost(reqid)

    def _protects(self, reqid: int) -> bool:
        return self._loop is not None and self._loop.associations.protects("", reqid)

    def _look_at(self, reqids: Iterable[int]) -> None:
        """See whether tunnels and calls have IPsec, as far as that is known."""
        if self._loop is None or "" not in self._loop.associations.known:
            return
        for reqid in list(reqids):
            spec, up = self._of[reqid], self._protects(reqid)
            if isinstance(spec, TunnelSpec):
                self._tunnel(spec, up=up)
            elif self._calls is not None:
                self._calls.securing.call_changed(reqid, up=up)
                self._calls.dialer.look(spec.name)

    def _tunnel(self, spec: TunnelSpec, *, up: bool) -> None:
        """A declared tunnel that was secured stays so for its grace time."""
        name = spec.name
        if up:
            self._stop_grace(name)
            self._note(name, True)
        elif name in self._secured and name not in self._graces and spec.ike is not None:
            _log.warning("%s: its IPsec SA is gone", name, extra={"tunnel": name})
            self._graces[name] = self._aio.call_later(spec.ike.grace, self._late, name)

    def _late(self, name: str) -> None:
        """The SA did not come back in time."""
        del self._graces[name]
        _log.error("%s: no IPsec SA came back: its devices go down", name, extra={"tunnel": name})
        self._note(name, False)

    def _stop_grace(self, name: str) -> None:
        if (handle := self._graces.pop(name, None)) is not None:
            handle.cancel()

    def _note(self, name: str, secured: bool) -> None:
        if secured == (name in self._secured):
            return
        (self._secured.add if secured else self._secured.discard)(name)
        if self._loop is not None:
            self._loop.set_secured(name, secured)

    # -- what charon says ------------------------------------------------------------------------------------------

    def _changed(self, names: set[str]) -> None:
        calls = self._calls
        if calls is None or not self._synced:
            return
        for spec in self._desired.lac if names else ():
            if name_of("lac", spec.name) in names:
                calls.dialer.look(spec.name)
        if any(name.startswith(_LNS) for name in names):
            calls.securing.changed()
            calls.switch.replay()

    def _fresh(self, child: ChildSa) -> None:
        """There is a pair of SAs that was not there before."""
        self._precedence.fresh(child)
        if child.reqid in self._of and not child.rekeyed:
            self._aio.call_later(SETTLED_S, self._sweep, child)

    def _sweep(self, child: ChildSa) -> None:
        """Take away what an earlier charon has left, of which we knew nothing either: both were killed."""
        charon = self._charon
        if charon is None or not charon.alive:
            return
        children = charon.negotiation(child.name).children
        known = {spi for one in children for spi in (one.spi_in, one.spi_out)}
        if child.spi_in in known:
            self._in_door(lambda door: door.sweep(child.reqid, (child.local, child.remote), known, child.spi_in))

    def _gone(self, child: ChildSa) -> None:
        if child.orphaned:
            self._delete(child)
        if self._calls is not None:
            self._calls.securing.gone(child)

    def _of_server(self, spec: LacSpec, server: Place) -> Secured:
        """How far IKE is with the server of a call; it is begun with if it is another one than before."""
        if self._charon is None:
            return Secured(False, "strongSwan is not spoken to yet", 0)
        if self._servers.setdefault(spec.name, server) != server:
            self._servers[spec.name] = server
            self._want_soon()
        negotiation = self._charon.negotiation(name_of("lac", spec.name))
        there = any(child.remote == server[0] for child in negotiation.children)
        ready = there and spec.ike is not None and self._protects(spec.ike.reqid)
        return Secured(ready, "" if ready else ikewords.state(negotiation), negotiation.tries)

    def _want_soon(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._aio.call_soon(self._want_now)

    def _want_now(self) -> None:
        self._scheduled = False
        self._want()

    # -- answers ---------------------------------------------------------------------------------------------------

    def tunnel_state(self, spec: TunnelSpec) -> tuple[str, str]:
        """How a declared tunnel is that is as it should be in the kernel, in a word or three, and what is wrong."""
        if spec.ike is None or self._charon is None:
            return "up", ""
        negotiation = self._charon.negotiation(name_of("", spec.name))
        if self._protects(spec.ike.reqid):
            return "up", ""
        return WAITING, ikewords.state(negotiation) or "the kernel has no SAs yet"

    def status(self) -> Json | None:
        """How charon is; None: nobody wants IKE."""
        charon = self._charon
        if charon is None:
            return None
        return {
            "alive": charon.alive,
            "version": charon.version or None,
            "clients": len(charon.clients),
            "strangers": [
                {"address": s.address, "problem": s.cause.text, "cure": s.cause.cure, "times": s.times}
                for s in charon.strangers
            ],
        }

    def describe(self, name: str) -> Json | None:
        """All about the connection of a declared tunnel."""
        return ikewords.described(self._charon.negotiation(name_of("", name))) if self._charon is not None else None

    @property
    def charon(self) -> Charon | None:
        """Whom we speak to; None: nobody wants IKE."""
        return self._charon

    def client(self, reqid: int) -> ChildSa | None:
        """The SA of a client, or of a call of ours."""
        charon = self._charon
        if charon is None:
            return None
        if (child := charon.clients.get(reqid)) is not None:
            return child
        spec = self._of.get(reqid)
        if not isinstance(spec, LacSpec):
            return None
        return next(iter(charon.negotiation(name_of("lac", spec.name)).children), None)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def down(self) -> None:
        """End all SAs, and take our connections out of charon."""
        before, self._of = self._of, {}
        self._desired, self._servers, self._calls = Desired(), {}, None
        self._forget_tunnels(before)
        if self._charon is not None:
            self._want()
            await _within(self._charon.settled(), "charon did not forget our connections in time")
            await self.close()
        for name in (_STATE, _ADDRESS):
            (self._run_dir / name).unlink(missing_ok=True)

    async def stop(self, *, keep: bool) -> None:
        """The daemon ends: declared tunnels keep their SAs; so do calls, with `keep`."""
        if self._charon is None:
            return
        if not keep and any(profile.ike is not None for profile in self._desired.calls):
            self._serving = False
            self._want()
            await _within(self._charon.settled(), "charon did not forget the connections of calls in time")
        if tunnels := sum(tunnel.ike is not None for tunnel in self._desired.tunnels):
            _log.info("strongSwan goes on with the SAs of %d tunnels%s", tunnels, ", and of calls" if keep else "")
        await self.close()

    async def close(self) -> None:
        """Speak to charon no more."""
        charon, self._charon = self._charon, None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        for name in list(self._graces):
            self._stop_grace(name)
        self._precedence.close()
        if charon is not None:
            await charon.close()


async def _within(work: Awaitable[None], complaint: str) -> None:
    try:
        await asyncio.wait_for(work, _UNLOAD_S)
    except TimeoutError:
        _log.warning("%s", complaint)


def deletions(child: ChildSa) -> list[Operation]:
    """What takes a pair of SAs out of the kernel."""
    none = Secret(b"")
    pair = ((child.remote, child.local, child.spi_in), (child.local, child.remote, child.spi_out))
    sas = [Sa("", source, target, spi, Mode.TRANSPORT, child.reqid, "", none) for source, target, spi in pair]
    return [Operation(Stage.UNPROTECT_SA, Verb.DELETE, child.name, sa) for sa in sas]


def forget(run_dir: Path) -> None:
    """Without a daemon: have charon end our SAs and forget our connections, if a daemon left any. Blocks."""
    path = run_dir / _ADDRESS
    with suppress(OSError):
        asyncio.run(_forget(run_dir, path.read_text(encoding="utf-8").strip()))


async def _forget(run_dir: Path, address: str) -> None:
    service = IkeService(run_dir, None, lambda child: None)
    service.begin(address)
    await service.down()
