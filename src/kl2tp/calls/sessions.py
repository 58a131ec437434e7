"""The life of sessions: from a call that is up to a device with addresses, and back.

A session's LCP and authentication run in user space, over the tunnel's socket: a login that fails costs no kernel
object. Once the peer is who it says, the kernel's half is made, then addresses and routes through the planner, and only
then do the network protocols begin: whatever the peer sends after they are up finds its device.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from kl2tp.calls import links, network
from kl2tp.calls.addressing import Addressing, NoAddress
from kl2tp.calls.advertising import Advertising
from kl2tp.calls.bus import Bus
from kl2tp.calls.gate import Gate
from kl2tp.calls.hooks import Hooks
from kl2tp.calls.network import Numbers
from kl2tp.calls.session import Peer, Phase, Session
from kl2tp.calls.switch import Switch
from kl2tp.calls.words import environment, record
from kl2tp.calls.worker import Worker
from kl2tp.kernel.pppol2tp import SessionHold, SessionWish, TunnelHold, TunnelWish
from kl2tp.model.addr import text
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.objects import Link
from kl2tp.ppp import events as ppp
from kl2tp.ppp.auth.protocol import Attempt
from kl2tp.reconcile.engine import Result
from kl2tp.reconcile.loop import Loop
from kl2tp.wire.messages import Cdn

_log = logging.getLogger("kl2tp.calls")
_ENDED = 2000
"""Ended sessions that are remembered."""
_MAIN_TABLE = 254


class Sessions:
    """All sessions of this daemon."""

    def __init__(self, loop: Loop, gate: Gate, addressing: Addressing, bus: Bus, hooks: Hooks) -> None:
        self.by_name: dict[str, Session] = {}
        self.ended: deque[dict[str, Any]] = deque(maxlen=_ENDED)
        self.numbers = Numbers()
        self.advertising = Advertising()
        self.tables: dict[tuple[str, str], int] = {}
        """Routing tables of VRFs, by namespace and name."""
        self.over: Callable[[Session], None] = lambda session: None
        """Told of the end of sessions: the dialer wants to know."""
        self.hurt: Callable[[Iterable[str]], None] = lambda names: None
        """Told of sessions, by unit, that may have lost their kernel's half."""
        self.changed: dict[Session, None] = {}
        """Sessions whose state is to be written down."""
        self._loop, self._gate, self._addressing = loop, gate, addressing
        self._bus, self._hooks = bus, hooks
        self._aio = asyncio.get_running_loop()
        self._switch: Switch
        self._worker: Worker
        self.emptied: Callable[[Peer], None] = lambda peer: None
        """Told of tunnels that are over, once nothing is in them any more."""

    def connect(self, switch: Switch, worker: Worker) -> None:
        """Know those who know us."""
        self._switch, self._worker = switch, worker

    # -- beginning -------------------------------------------------------------------------------------------------

    def begin(self, session: Session, now: float) -> None:
        """A call is up: PPP begins."""
        self.by_name[session.name] = session
        session.peer.sessions[session.call.id] = session
        if links.sequenced(session.profile, session.call):
            self._attach(session)  # the kernel counts the packets, so it must see all of them
        else:
            self._open(session, now)

    def _open(self, session: Session, now: float) -> None:
        session.opened = True
        session.link.open(now)
        self._switch.moved(session)

    def take_up(self, session: Session) -> None:
        """Go on with a session of an earlier daemon."""
        assert session.hold is not None
        self.by_name[session.name] = session
        session.peer.sessions[session.call.id] = session
        self.numbers.claim(session.number)
        self._addressing.retake(session.grant, session.identity or session.name)
        if session.counted:
            self._gate.entered(session.counted)
        self._put_unit(session)
        self.hears(session)
        if session.grant.local_iid and session.up_since and links.demands(session.profile):
            self.advertising.start(session, initial=False)
        self._switch.moved(session)
        self.changed[session] = None

    def pump(self, session: Session, now: float) -> None:
        """See to what a session's PPP machines have to say."""
        for event in session.link.take_events():
            self._on[type(event)](self, session, event, now)
        if session.phase is not Phase.CLOSING or session.link.deadline is not None:
            self._switch.timers.arm(session)
        for frame in session.link.take_frames():
            self._switch.frame(session, frame)

    # -- who is it? ------------------------------------------------------------------------------------------------

    def _auth_needed(self, session: Session, event: ppp.AuthNeeded, now: float) -> None:
        verdict = self._gate.judge(session, event.attempt, now)
        identity = event.attempt.identity
        if verdict.user is None:
            _log.warning(
                "%s: %r from %s refused: %s",
                session.name,
                identity,
                text(session.peer.tunnel.peer[0]),
                verdict.why,
                extra={"session": session.name},
            )
            self._bus.tell(
                "refused", session=session.short, user=identity, peer=text(session.peer.tunnel.peer[0]), why=verdict.why
            )
            if verdict.delay > 0:
                self._aio.call_later(verdict.delay, self._refuse_late, session, event.attempt)
            else:
                session.link.refuse(event.attempt, now)
                self._switch.moved(session)
            return
        if session.user is None:
            self._gate.entered(identity)
            session.counted = identity
        session.user = verdict.user
        session.link.grant(event.attempt, now)
        self._switch.moved(session)

    def _refuse_late(self, session: Session, attempt: Attempt) -> None:
        if session.phase is Phase.CLOSING:
            return
        now = self._aio.time()
        session.link.refuse(attempt, now)
        self._switch.moved(session)
        self._switch.turn()

    # -- the kernel's half -----------------------------------------------------------------------------------------

    def _network_phase(self, session: Session, event: ppp.NetworkPhase, now: float) -> None:
        identity = event.identity or (session.profile.user if isinstance(session.profile, LacSpec) else "")
        if session.ready_for_network and identity != session.identity:
            # What it was given is somebody else's.
            self.close(session, "the peer has logged in anew, as another user", now)
            return
        session.identity = identity
        if session.unit_ready:  # LCP was negotiated anew: everything else stands
            self._start_network(session, now)
            return
        if isinstance(session.profile, LnsSpec):
            try:
                if session.number < 0:
                    session.number = self.numbers.take()
                local = session.peer.tunnel.local[0]
                session.grant = self._addressing.grant(
                    session.profile,
                    session.user,
                    session.identity or session.name,
                    session.number,
                    local if len(local) == 4 else b"",
                )
            except NoAddress as problem:
                _log.error("%s: %s", session.name, problem, extra={"session": session.name})
                self.end(session, str(problem), now)
                return
        session.ready_for_network = True
        if session.hold is None and session.phase is Phase.SETUP:
            self._attach(session)
        elif session.hold is not None:
            self._put_unit(session)

    def _attach(self, session: Session) -> None:
        if not session.peer.bound:
            session.peer.waiting[session] = None
            return
        session.phase = Phase.ATTACHING
        profile = session.profile
        if session.number < 0:
            session.number = self.numbers.take()
        session.device = profile.interface.name.replace("{n}", str(session.number))
        sequenced = links.sequenced(profile, session.call)
        ipv6 = len(session.call.tunnel.peer[0]) == 16
        fits = network.largest_mtu(profile, ipv6=ipv6, sequencing=sequenced)
        session.mtu = profile.interface.mtu or min(fits, session.link.peer_mru, network.LARGEST_MRU)
        self._worker.attach(session, self.wish(session), self._tunnel_wish(session.peer))

    def bound(self, peer: Peer, problem: str = "") -> None:
        """The kernel takes a tunnel's packets from its peer's SA alone now, or will not, and why."""
        peer.bound = not problem
        waiting, peer.waiting = peer.waiting, {}
        now = self._aio.time()
        for session in waiting:
            if session.phase is Phase.SETUP and problem:
                self.end(session, problem, now)
            elif session.phase is Phase.SETUP:
                self._attach(session)

    def resumed(self, peer: Peer) -> None:
        """The way to a peer is open again: PPP goes on, and asks anew whether the peer is there."""
        now = self._aio.time()
        for session in peer.sessions.values():
            session.link.resume(now)
            self._switch.moved(session)

    @staticmethod
    def wish(session: Session) -> SessionWish:
        """The kernel's half of a session, as it shall be."""
        call, profile = session.call, session.profile
        ipv6 = len(call.tunnel.peer[0]) == 16
        return SessionWish(
            tunnel_id=call.tunnel.id,
            id=call.id,
            peer_tunnel_id=call.tunnel.peer_id,
            peer_id=call.peer_id,
            lns=call.lns,
            send_sequence=profile.send_sequence or call.sequencing_required,
            require_sequence=profile.require_sequence,
            reorder_ms=profile.reorder_ms,
            ifname=session.device,
            mtu=session.mtu,
            mru=network.mru(profile, ipv6=ipv6, sequencing=links.sequenced(profile, call)),
            netns=profile.interface.netns or None,
        )

    @staticmethod
    def _tunnel_wish(peer: Peer) -> TunnelWish | None:
        if peer.hold is not None or peer.opening:
            return None
        peer.opening = True
        return peer.wish(peer.socket)

    def tunnel_opened(self, peer: Peer, hold: TunnelHold) -> None:
        """The kernel has a tunnel now, with a socket of its own."""
        peer.hold, peer.opening = hold, False
        if peer.socket is None:
            self._switch.adopt(peer, hold.sock, hold.strays)

    def attached(self, session: Session, result: SessionHold | str) -> None:
        """The kernel's half of a session has been made, or could not be."""
        now = self._aio.time()
        if isinstance(result, str):
            session.peer.opening = False
            _log.error("%s: %s", session.name, result, extra={"session": session.name})
            self._give_number(session)
            if session.phase is Phase.CLOSING:
                self._forget(session)
            else:
                self.end(session, result, now)
            return
        session.hold = result
        if session.phase is Phase.CLOSING:
            self._worker.detach(session, result)
            return
        session.phase = Phase.NETWORK
        self.hears(session)
        if not session.opened:
            self._open(session, now)
        if session.ready_for_network:
            self._put_unit(session)

    def hears(self, session: Session) -> None:
        """Listen to what comes through the kernel; its device may be new."""
        if session.hold is not None:
            for fd in (session.hold.channel_fd, session.hold.unit_fd):
                self._aio.add_reader(fd, self.readable, session, fd)
        if session.unit is not None:
            self._loop.look_at((session.name,))

    def deaf(self, session: Session) -> None:
        """Listen no longer to what comes through the kernel."""
        if session.hold is not None:
            for fd in (session.hold.channel_fd, session.hold.unit_fd):
                self._aio.remove_reader(fd)

    def readable(self, session: Session, fd: int) -> None:
        """PPP frames have come through the kernel."""
        hold = session.hold
        if hold is None:
            return
        now = self._aio.time()
        frames, alive = hold.read(fd, 1)
        for frame in frames:
            self._switch.feed(session, frame, now)
        if not alive and session.phase is not Phase.CLOSING:
            self.deaf(session)  # a descriptor that hangs up is readable for ever
            self.hurt((session.name,))
        self._switch.turn()

    # -- addresses and routes --------------------------------------------------------------------------------------

    def _put_unit(self, session: Session) -> None:
        interface = session.profile.interface
        table = self.tables.get((interface.netns or "", interface.vrf), _MAIN_TABLE) if interface.vrf else _MAIN_TABLE
        session.unit = network.unit(session.name, session.device, interface, table, session.mtu, session.grant)
        self._loop.put_call(session.unit)

    def unit_done(self, result: Result) -> None:
        """What became of a session's addresses and routes."""
        session = self.by_name.get(result.name)
        if session is None or session.phase is Phase.CLOSING:
            return
        now = self._aio.time()
        if result.problem:
            if not session.unit_ready:
                self.end(session, result.problem, now)
            elif result.failed is not None and isinstance(result.failed.target, Link):
                self.hurt((session.name,))
            self._switch.turn()
            return
        if not session.unit_ready:
            session.unit_ready = True
            self._start_network(session, now)
            self._switch.moved(session)
            self._switch.turn()

    def _start_network(self, session: Session, now: float) -> None:
        profile, grant = session.profile, session.grant
        session.link.start_network(links.ipv4_settings(profile, grant), links.ipv6_settings(profile, grant), now)
        self.changed[session] = None

    # -- network protocols come and go -----------------------------------------------------------------------------

    def _ipv4_up(self, session: Session, event: ppp.Ipv4Up, now: float) -> None:
        grant = session.grant
        if (grant.local, grant.peer) != (event.local, event.peer):
            grant.local, grant.peer = event.local, event.peer
            self._put_unit(session)
        if event.dns:
            grant.dns = event.dns
        self._is_up(session)

    def _ipv6_up(self, session: Session, event: ppp.Ipv6Up, now: float) -> None:
        grant = session.grant
        if (grant.local_iid, grant.peer_iid) != (event.local_iid, event.peer_iid):
            again = grant.local_iid != event.local_iid
            grant.local_iid, grant.peer_iid = event.local_iid, event.peer_iid
            if again:
                self._put_unit(session)
        self._is_up(session)
        if links.demands(session.profile):
            self.advertising.start(session)

    def _is_up(self, session: Session) -> None:
        self.changed[session] = None
        if session.phase is Phase.UP:
            return
        session.phase = Phase.UP
        session.up_since = time.time()
        _log.info(
            "%s: %s is up on %s, address %s, from %s",
            session.name,
            session.identity or "somebody",
            session.device,
            text(session.grant.peer) or "none",
            text(session.peer.tunnel.peer[0]),
            extra={"session": session.name},
        )
        self._bus.tell("session-up", **record(session))
        hooks = session.profile.hooks
        self._hooks.run(hooks.up, session.name, environment(session), hooks.timeout)

    def _network_down(self, session: Session, event: object, now: float) -> None:
        self.changed[session] = None
        if isinstance(event, ppp.Ipv6Down):
            self.advertising.stop(session)

    # -- the end ---------------------------------------------------------------------------------------------------

    def _down(self, session: Session, event: ppp.Down, now: float) -> None:
        self.end(session, session.reason or event.reason, now)

    def close(self, session: Session, reason: str, now: float) -> None:
        """End a session properly: PPP first, then the call."""
        if session.phase is Phase.CLOSING:
            return
        session.reason = reason
        session.link.close(now, reason)
        self._switch.moved(session)

    def end(self, session: Session, reason: str, now: float) -> None:
        """PPP is over: clear the call."""
        if session.phase is Phase.CLOSING:
            return
        self._switch.endpoint.hang_up(session.call, now, result=Cdn.ADMINISTRATIVE, message=reason[:80])
        self.call_down(session, reason, now)

    def call_down(self, session: Session, reason: str, now: float) -> None:
        """The call is over: take away what was made for it."""
        if session.phase is Phase.CLOSING:
            return
        attaching = session.phase is Phase.ATTACHING
        was_up = session.phase is Phase.UP
        session.phase = Phase.CLOSING
        session.reason = session.reason or reason
        session.link.lower_down(now)
        self.deaf(session)
        self.advertising.stop(session)
        if session.unit is not None:
            self._loop.drop_call(session.name)
        self._note_end(session, was_up=was_up)
        if session.hold is not None:
            self._worker.detach(session, session.hold)
        elif not attaching:
            self._give_number(session)
            self._forget(session)

    def _note_end(self, session: Session, *, was_up: bool) -> None:
        entry = record(session) | {
            "reason": session.reason,
            "ended": round(time.time(), 3),
            "lasted_s": round(time.time() - (session.up_since or session.since), 1),
        }
        self.ended.append(entry)
        self._bus.tell("session-down", **entry)
        level = logging.INFO if was_up else logging.WARNING
        _log.log(level, "%s: ended: %s", session.name, session.reason, extra={"session": session.name})
        if was_up:
            hooks = session.profile.hooks
            self._hooks.run(hooks.down, session.name, environment(session), hooks.timeout)

    def detached(self, session: Session) -> None:
        """The kernel's half is gone, and the device with all that was on it."""
        session.hold = None
        if session.unit is not None:
            self._loop.clear_call(session.name)
        self._give_number(session)
        self._forget(session)

    def _give_number(self, session: Session) -> None:
        if session.number >= 0:
            self.numbers.give(session.number)
            session.number = -1

    def _forget(self, session: Session) -> None:
        if self.by_name.get(session.name) is session:
            del self.by_name[session.name]
        self.changed[session] = None
        self._addressing.give_back(session.grant)
        if session.counted:
            self._gate.left(session.counted)
            session.counted = ""
        peer = session.peer
        if peer.sessions.get(session.call.id) is session:
            del peer.sessions[session.call.id]
        self.tunnel_empty(peer)
        self.over(session)

    def tunnel_empty(self, peer: Peer) -> None:
        """Take a tunnel's kernel half away once it is over and nothing is left in it."""
        if not peer.over or peer.sessions:
            return
        if peer.hold is not None:
            hold, peer.hold = peer.hold, None
            self._switch.release(peer)
            self._worker.close_tunnel(peer, hold)
        self.emptied(peer)

    _on: ClassVar[dict[type, Callable[["Sessions", Session, Any, float], None]]] = {
        ppp.LcpUp: lambda self, session, event, now: None,
        ppp.AuthNeeded: _auth_needed,
        ppp.NetworkPhase: _network_phase,
        ppp.Ipv4Up: _ipv4_up,
        ppp.Ipv6Up: _ipv6_up,
        ppp.Ipv4Down: _network_down,
        ppp.Ipv6Down: _network_down,
        ppp.Down: _down,
    }
