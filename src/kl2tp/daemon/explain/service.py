"""Gathers, in the daemon, what an explanation needs: of the kernel, of calls, of charon; twice what is counted."""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from kl2tp.calls.dialer import Dial
from kl2tp.calls.network import largest_mtu
from kl2tp.calls.runtime import Calls
from kl2tp.calls.session import Peer, Session
from kl2tp.calls.words import peer_port, record
from kl2tp.control.profiles import client_of
from kl2tp.control.tunnel import Tunnel
from kl2tp.daemon.direct import no_such_tunnel
from kl2tp.daemon.errors import ServiceError
from kl2tp.daemon.explain import explain, seeing
from kl2tp.daemon.explain.facts import CALL, CLIENT, PROFILE, Control, Device, Facts, Ike, Ppp, Sample
from kl2tp.daemon.explain.seeing import Subject
from kl2tp.daemon.explain.words import told
from kl2tp.daemon.report import Json
from kl2tp.ipsec.ike import name_of
from kl2tp.ipsec.ike.charon import Charon
from kl2tp.kernel import pathmtu
from kl2tp.model.addr import parse, text
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.ike import IkeSpec, Initiate
from kl2tp.model.overhead import Stack, overhead, with_ike
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile.engine import Engine
from kl2tp.reconcile.loop import Loop
from kl2tp.reconcile.places import lac_name, place_name

_T = TypeVar("_T")
LOOK_S = 3.0
"""How long is looked at counters, unless all is answered before."""
_STEP_S = 0.1
_DETAILS_S = 3.0
"""How long charon may take to answer what it has."""
_VICI_S = 0.5


class Explaining:
    """Everything about one name. Lives for one request."""

    def __init__(
        self,
        specs: Mapping[str, TunnelSpec],
        loop: Loop,
        engine: Engine,
        calls: Calls | None,
        charon: Charon | None,
        in_thread: Callable[[Callable[[], Any]], Awaitable[Any]],
        address: str = "",
    ) -> None:
        """`address` is where charon should be."""
        self._address = address
        self._specs, self._loop, self._engine = specs, loop, engine
        self._calls, self._charon, self._in_thread = calls, charon, in_thread
        self._aio = asyncio.get_running_loop()

    async def explain(self, name: str, *, probe: bool) -> Json:
        """The whole. Raises ServiceError for a name that is none."""
        facts = await self._facts(name)
        if probe and any(facts.remote):
            facts = await self._probed(facts)
        facts = seeing.with_stacks(facts)
        return told(explain(facts))

    async def _facts(self, name: str) -> Facts:
        if (spec := self._tunnel_of(name)) is not None:
            return await self._tunnel(spec)
        calls = self._calls
        if calls is None:
            raise no_such_tunnel(name, list(self._specs))
        if (dial := calls.dialer.dials.get(name)) is not None:
            return await self._call(calls, dial)
        if profile := next((lns for lns in calls.desired.lns if lns.name == name), None):
            return await self._profile(calls, profile)
        found = calls.matching([name])
        if len(found) > 1:
            some = ", ".join(session.short for session in found[:5])
            raise ServiceError(f"{name!r} is of {len(found)} sessions: {some}", "name one of them")
        if found:
            return await self._session(calls, found[0])
        return self._gone(calls, name)

    def _tunnel_of(self, name: str) -> TunnelSpec | None:
        """By name, interface or peer; None if that is not of exactly one."""
        if (spec := self._specs.get(name)) is not None:
            return spec
        found = [
            spec
            for spec in self._specs.values()
            if name == text(spec.remote) or any(session.interface.name == name for session in spec.sessions)
        ]
        return found[0] if len(found) == 1 else None

    # -- declared tunnels ------------------------------------------------------------------------------------------

    async def _tunnel(self, spec: TunnelSpec) -> Facts:
        facts, subject = await self._in_thread(lambda: seeing.of_tunnel(self._engine, spec))
        state = self._loop.states.get(spec.name)
        retry = None if state is None or state.retry_at is None else state.retry_at - self._aio.time()
        problem = facts.problem or (state.problem if state is not None else "")
        facts = replace(facts, problem=problem, state=state.state if state else "pending", next_try_s=retry)
        if spec.ike is not None:
            ike = await self._ike(spec.ike, name_of("", spec.name), seeing.selectors(spec))
            waits = spec.ike.initiate is Initiate.NO
            facts = replace(facts, ike=replace(ike, waits_for_peer=waits))
        return await self._counted(facts, subject)

    async def _ike(self, spec: IkeSpec, connection: str, selectors: str) -> Ike:
        charon = self._charon
        if charon is None:
            return Ike(spec, selectors=selectors)
        negotiation = charon.negotiation(connection)
        if charon.alive:
            try:
                negotiation = await asyncio.wait_for(charon.details(connection), _DETAILS_S)
            except TimeoutError:
                negotiation = charon.negotiation(connection)
        hangs = not charon.alive and await self._in_thread(lambda: _listens(self._address))
        return Ike(spec, negotiation, charon.alive, charon.away, hangs, selectors)

    # -- calls -----------------------------------------------------------------------------------------------------

    async def _call(self, calls: Calls, dial: Dial) -> Facts:
        if dial.session is not None:
            return await self._session(calls, dial.session, dial)
        spec = dial.spec
        address, port = spec.remotes[dial.server]
        retry = dial.handle.when() - self._aio.time() if dial.handle is not None else None
        facts = self._base(spec.name, CALL, spec, spec.local[0], address)
        problem = dial.problem if dial.call is None else ""  # what was before the call that is under way
        facts = replace(facts, state=dial.state, problem=problem, next_try_s=retry)
        facts = await self._with_ike(facts, spec, name_of("lac", spec.name), f"[udp/{spec.local[1]}] === [udp/{port}]")
        facts = await self._with_kernel(facts, lac_name(spec.name) if spec.ike is not None else "")
        tunnel = dial.call.tunnel if dial.call is not None else None
        return await self._watched(calls, facts, self._subject(facts, spec.ike.reqid if spec.ike else 0), tunnel)

    async def _session(self, calls: Calls, session: Session, dial: Dial | None = None) -> Facts:
        tunnel, spec = session.call.tunnel, session.profile
        kind = CLIENT if isinstance(spec, LnsSpec) else CALL
        reqid = client_of(tunnel.peer)
        name = session.short if dial is None else dial.spec.name
        facts = self._base(name, kind, spec, tunnel.local[0], tunnel.peer[0])
        state = self._loop.states.get(session.name)
        problem = state.problem if state is not None else ""
        facts = replace(facts, state=session.phase.value, problem=problem, ppp=_ppp(session))
        if spec.ike is not None and kind == CALL:
            facts = await self._with_ike(facts, spec, name_of("lac", spec.name), "")
        elif spec.ike is not None:
            facts = await self._client_ike(facts, spec.ike, reqid)
        facts = await self._with_kernel(facts, session.name, *self._protecting(spec, tunnel))
        stack = Stack(version=2, ipv6=len(tunnel.peer[0]) == 16, sequencing=session.call.sequencing_required)
        device = _device(session, stack, spec)
        netns = spec.interface.netns or ""
        device = await self._in_thread(lambda: seeing.device(self._engine.door, netns, device))
        facts = replace(facts, devices=(device,) if device.name else ())
        return await self._watched(calls, facts, self._subject(facts, reqid), tunnel, session)

    def _protecting(self, spec: LnsSpec | LacSpec, tunnel: Tunnel) -> list[str]:
        """The units that protect a call."""
        if spec.ike is None:
            return []
        if isinstance(spec, LacSpec):
            return [lac_name(spec.name)]
        return [place_name(*place) for place in self._places(spec)]

    @staticmethod
    def _places(spec: LnsSpec) -> list[tuple[bytes, int]]:
        return list(spec.listen or ((bytes(4), 1701), (bytes(16), 1701)))

    async def _client_ike(self, facts: Facts, spec: IkeSpec, reqid: int) -> Facts:
        child = self._charon.clients.get(reqid) if self._charon is not None else None
        ike = await self._ike(spec, child.name if child is not None else "", "")
        problem = ike.negotiation.problem if ike.negotiation else None
        if ike.negotiation is not None and problem is not None:  # it is of the connection, not of this client
            ike = replace(ike, negotiation=replace(ike.negotiation, problem=None))
        return replace(facts, ike=replace(ike, child=child))

    async def _profile(self, calls: Calls, spec: LnsSpec) -> Facts:
        facts = self._base(spec.name, PROFILE, spec, b"", b"")
        place = calls.switch.places
        ours = self._places(spec)
        listening = tuple(f"{text(a)} udp port {p}" for a, p in ours if (a, p) in place)
        deaf = tuple(calls.problems)
        sessions = sum(1 for s in calls.sessions.by_name.values() if s.profile.name == spec.name)
        facts = replace(facts, listening=listening, deaf=deaf, clients=sessions)
        if spec.ike is not None:
            facts = await self._with_ike(facts, spec, name_of("lns", spec.name), f"[udp/{ours[0][1]}] === [udp]")
            strangers = self._charon.strangers if self._charon is not None else ()
            facts = replace(facts, strangers=tuple(strangers))
            facts = await self._with_kernel(facts, *(place_name(*one) for one in ours))
        return facts

    def _gone(self, calls: Calls, name: str) -> Facts:
        """A session that is no more, or a peer that has failed; raises ServiceError for anything else."""
        strangers = self._charon.strangers if self._charon is not None else ()
        mine = tuple(stranger for stranger in strangers if stranger.address == name)
        marks = ("session", "user", "address", "peer")
        over = [row for row in calls.sessions.ended if name in [row.get(mark) for mark in marks]]
        if not mine and not over:
            names = [*self._specs, *calls.dialer.dials, *(lns.name for lns in calls.desired.lns)]
            raise no_such_tunnel(name, names)
        ended = ""
        if over:
            last = over[-1]
            ended = str(last.get("reason") or "no reason given")
        remote = _address(name) or _address(str(over[-1]["peer"]) if over else "")
        return Facts(name, CLIENT, "ended", remote=remote, strangers=mine, ended=ended, now=time.time())

    # -- parts -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _base(name: str, kind: str, spec: LnsSpec | LacSpec, local: bytes, remote: bytes) -> Facts:
        return Facts(
            name,
            kind,
            where=str(spec.where),
            local=local if any(local) else b"",
            remote=remote,
            path_mtu=spec.ppp.path_mtu,
            protection="IKE" if spec.ike is not None else "",
        )

    async def _with_ike(self, facts: Facts, spec: LnsSpec | LacSpec, connection: str, selectors: str) -> Facts:
        if spec.ike is None:
            return facts
        return replace(facts, ike=await self._ike(spec.ike, connection, selectors), now=time.time())

    async def _with_kernel(self, facts: Facts, *units: str) -> Facts:
        """With the way, and with what of these units is there."""
        door, engine = self._engine.door, self._engine
        way = await self._in_thread(lambda: seeing.look(door, facts.netns, facts.local, facts.remote))
        things = []
        for unit in filter(None, units):
            things += await self._in_thread(lambda: seeing.things_of(engine, unit))  # noqa: B023
        local = facts.local or (way.source if way is not None else b"")
        return replace(facts, way=way, local=local, things=tuple(things), now=time.time())

    @staticmethod
    def _subject(facts: Facts, reqid: int) -> Subject:
        return Subject(facts.netns, facts.local, facts.remote, frozenset({reqid}) if reqid else frozenset())

    # -- counting twice --------------------------------------------------------------------------------------------

    async def _sample(self, subject: Subject) -> Sample:
        now = self._aio.time()
        found: Sample = await self._in_thread(lambda: seeing.sample(self._engine.door, subject, now))
        return found

    async def _counted(self, facts: Facts, subject: Subject) -> Facts:
        """A declared tunnel: have it send something, and see what grows."""
        before = await self._sample(subject)
        if facts.protection and not before.sas:
            return replace(facts, before=before, after=before, now=time.time())
        stirred = await self._in_thread(lambda: seeing.stir(subject))
        after = before
        until = self._aio.time() + LOOK_S
        while self._aio.time() < until:
            await asyncio.sleep(_STEP_S * 5)
            after = await self._sample(subject)
            if seeing.came(before, after):
                break
        facts = replace(facts, before=before, after=after, stirred=stirred, now=time.time())
        found: Facts = await self._in_thread(lambda: seeing.look_again(self._engine.door, facts))
        return found

    async def _watched(
        self, calls: Calls, facts: Facts, subject: Subject, tunnel: Tunnel | None, session: Session | None = None
    ) -> Facts:
        """A call: ask the peer for a sign of life, or watch the messages that are repeated anyway."""
        before = await self._control_sample(calls, subject, tunnel, session)
        if tunnel is None:
            return replace(facts, before=before, after=before, now=time.time())
        now = self._aio.time()
        asked = tunnel.established and not tunnel.channel.unacked and tunnel.suspended_at is None
        if asked:
            tunnel.probe(now)
            calls.switch.turn()
        for _ in range(round(LOOK_S / _STEP_S)):
            await asyncio.sleep(_STEP_S)
            if tunnel.channel.heard > now:
                break
        after = await self._control_sample(calls, subject, tunnel, session)
        return replace(facts, before=before, after=after, stirred=asked, now=time.time())

    async def _control_sample(
        self, calls: Calls, subject: Subject, tunnel: Tunnel | None, session: Session | None
    ) -> Sample:
        found = await self._sample(subject)
        control = _control(tunnel, self._aio.time()) if tunnel is not None else None
        hold = session.hold if session is not None else None
        counters: dict[str, dict[str, int]] = {}
        if session is not None and hold is not None:
            (one,) = await self._in_thread(lambda: calls.worker.plane.counters([(hold.tunnel_id, hold.id)]))
            counters = {session.device: one} if one else {}
        return replace(found, control=control, sessions=counters)

    async def _probed(self, facts: Facts) -> Facts:
        """With what the path lets through."""
        wanted = max(facts.path_mtu, 100)
        probe = await self._aio.run_in_executor(
            None, lambda: pathmtu.probe(facts.local, facts.remote, wanted, facts.netns)
        )
        return replace(facts, probe=probe)


def _listens(address: str) -> bool:
    """Whether somebody takes connections at charon's socket."""
    kind, _, path = address.partition("://")
    try:
        if kind == "unix":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.settimeout(_VICI_S)
                sock.connect(path)
            return True
        host, _, port = path.rpartition(":")
        socket.create_connection((host, int(port)), _VICI_S).close()
    except TimeoutError:
        return True  # its queue is full
    except (OSError, ValueError):
        return False
    return True


def _address(words: str) -> bytes:
    try:
        return parse(words)
    except ValueError:
        return b""


def _control(tunnel: Tunnel, now: float) -> Control:
    channel = getattr(tunnel, "channel", None)  # a half-open one has none
    owner = tunnel.owner
    return Control(
        tunnel.state.name.lower(),
        tunnel.established,
        tunnel.id,
        tunnel.peer_id,
        f"{text(tunnel.local[0])} port {tunnel.local[1]}",
        f"{text(tunnel.peer[0])} port {peer_port(tunnel)}",
        tunnel.host_name,
        channel.retransmissions if channel is not None else 0,
        channel.unacked if channel is not None else 0,
        now - channel.heard if channel is not None else 0.0,
        tunnel.suspended_at is not None,
        isinstance(owner, Peer) and owner.socket is not None,
    )


def _ppp(session: Session) -> Ppp:
    row, link = record(session), session.link
    return Ppp(
        link.phase.name.lower(),
        session.phase.value,
        session.identity,
        str(row["local_address"] or ""),
        str(row["address"] or ""),
        link.mru,
        link.peer_mru,
    )


def _device(session: Session, stack: Stack, spec: LnsSpec | LacSpec) -> Device:
    path = spec.ppp.path_mtu
    try:
        worst = overhead(with_ike(stack, spec.ike, path), path)
    except ValueError:
        worst = None
    expected = largest_mtu(spec, ipv6=stack.ipv6, sequencing=stack.sequencing) if worst is not None else 0
    return Device(session.device, expected, spec.interface.mtu is not None, worst, worst.stack if worst else None)


