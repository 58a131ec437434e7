"""All control connections of a host, LNS and LAC in one: control packets in; control packets, events and a timer out.

A turn: any number of `receive`, `handle_timer` and wishes like `place_call`; then `take_events`; then `take_dirty`, and
what it names is written down; and only then `take_datagrams`, and they are sent. So a peer never knows more than what
another process would find if this one died.

A packet for a tunnel that is not there is answered with nothing: only a repeated StopCCN gets its acknowledgement
again, and an SCCRP that comes too late a StopCCN (7.2.1). There is no telling the peer anything else, for the packet
does not say by which id it knows the tunnel; and it may come from anybody.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from kl2tp.control import dispatch
from kl2tp.control.admission import Admission
from kl2tp.control.call import Call
from kl2tp.control.events import CallDown as CallDown
from kl2tp.control.events import CallOffered as CallOffered
from kl2tp.control.events import CallUp as CallUp
from kl2tp.control.events import Event as Event
from kl2tp.control.events import LineErrors as LineErrors
from kl2tp.control.events import LinkInfo as LinkInfo
from kl2tp.control.events import Refusal as Refusal
from kl2tp.control.events import TunnelDown as TunnelDown
from kl2tp.control.events import TunnelMoved as TunnelMoved
from kl2tp.control.events import TunnelUp as TunnelUp
from kl2tp.control.host import Counters, Datagram, Host, Profile, SecretOf
from kl2tp.control.limits import Usage
from kl2tp.control.profiles import Peer, Place, Profiles, client_of
from kl2tp.control.tables import CallEvent, CallRole, TunnelEvent, TunnelState
from kl2tp.control.tunnel import Tunnel as Tunnel
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.wire.avp import Avp
from kl2tp.wire.errors import HeaderError, MessageError
from kl2tp.wire.l2tp import ControlHeader, decode_control
from kl2tp.wire.messages import Cdn, MessageType, StopCcn, decode, peek_type
from kl2tp.wire.values import Accm, CallErrors, Q931Cause, ResultCode

_TIE_BREAKER = 8
"""Octets."""


class Endpoint:
    """Control connections, by our tunnel id, and everything that can be done with them."""

    def __init__(
        self, profiles: Profiles, random: Callable[[int], bytes], secret_of: SecretOf, *, host_name: str = "kl2tp"
    ) -> None:
        """`host_name` is what we are called where a profile says nothing else."""
        self._host = host = Host(profiles, random, secret_of)
        host.name = host_name
        self._admission = Admission(host)
        self.tunnels: Mapping[int, Tunnel] = host.tunnels
        """Those that we opened, and those whose peer has answered our SCCRP. While its StopCCN is under way a tunnel is
        still there, `closing`."""
        self.counters: Counters = host.counters

    # -- settings ----------------------------------------------------------------------------------------------------

    @property
    def profiles(self) -> Profiles:
        """Whom we serve; new ones count for tunnels that are opened from now on."""
        return self._host.profiles

    @profiles.setter
    def profiles(self, profiles: Profiles) -> None:
        self._host.profiles = profiles
        for tunnel in self._host.tunnels.values():
            if isinstance(tunnel.profile, LnsSpec):
                tunnel.profile = profiles.named(tunnel.profile.name) or tunnel.profile

    @property
    def manual_accept(self) -> bool:
        """Whether a call that is offered waits for `accept`."""
        return self._host.manual_accept

    @manual_accept.setter
    def manual_accept(self, manual: bool) -> None:
        self._host.manual_accept = manual

    def accept_outgoing(self, accept: Callable[[Call], bool] | None) -> None:
        """Place the calls that peers ask for (OCRQ) and `accept` allows. By default there are none."""
        self._host.accept_outgoing = accept

    def reserve(self, reserved: Callable[[int], bool]) -> None:
        """Which tunnel ids are somebody else's on this host, and not to be used."""
        self._host.reserved = reserved

    # -- input -------------------------------------------------------------------------------------------------------

    def receive(self, data: bytes, peer: Peer, local: Place, now: float) -> None:
        """A control packet, on whatever socket it came."""
        host = self._host
        host.now = now
        try:
            header, payload = decode_control(data)
        except HeaderError:
            host.counters.malformed += 1
            return
        tunnel_id = header.tunnel_id
        if not tunnel_id:
            self._unassigned(header, payload, data, peer, local, now)
            return
        tunnel = host.tunnels.get(tunnel_id)
        if tunnel is None and (tunnel := self._proved(header, peer, now)) is None:
            self._unknown(header, payload, peer, local)
            return
        if peer != tunnel.peer and not self._moved(tunnel, payload, peer):
            return
        tunnel.receive(header, payload, now)
        if tunnel.state is not TunnelState.IDLE:
            host.touch(tunnel)

    def _proved(self, header: ControlHeader, peer: Peer, now: float) -> Tunnel | None:
        """The half-open tunnel whose peer has received our SCCRP: our id and its number stand in the packet."""
        tunnel = self._host.half_open.get(header.tunnel_id)
        if tunnel is None or tunnel.peer != peer or header.nr != 1:
            return None
        tunnel.prove_address(now)
        return tunnel

    def _moved(self, tunnel: Tunnel, payload: bytes, peer: Peer) -> bool:
        """Whether the peer may speak from elsewhere than before: through its own SA from anywhere; without one only in
        answer to our SCCRQ, from the port that it has chosen for the tunnel (8.1)."""
        client, counters = client_of(peer), self._host.counters
        if client != client_of(tunnel.peer):
            counters.other_clients += 1
            return False
        if client:
            tunnel.move(peer, self._host.now)
            return True
        if tunnel.state is not TunnelState.WAIT_CTL_REPLY or peer[0] != tunnel.peer[0]:
            counters.strangers += 1
            return False
        if peek_type(payload) == MessageType.SCCRP:
            tunnel.move(peer, self._host.now)
        return True

    def _unknown(self, header: ControlHeader, payload: bytes, peer: Peer, local: Place) -> None:
        """A packet for a tunnel that is not there."""
        host = self._host
        if host.late(header.tunnel_id, peer, payload):
            return
        host.counters.unknown_tunnel += 1
        if peek_type(payload) == MessageType.SCCRP and header.ns == 0:
            self._late_reply(header, payload, peer, local)

    def _late_reply(self, header: ControlHeader, payload: bytes, peer: Peer, local: Place) -> None:
        """An SCCRP whose SCCRQ we don't remember: the peer need not wait any longer (7.2.1)."""
        try:
            avps: Mapping[Avp, Any] = decode(payload).avps
        except MessageError as error:
            avps = error.avps
        if Avp.ASSIGNED_TUNNEL_ID in avps:
            tunnel = Tunnel(self._host, LnsSpec(""), peer, local, self._host.now, incoming=False)
            tunnel.id, tunnel.peer_id = header.tunnel_id, avps[Avp.ASSIGNED_TUNNEL_ID]
            tunnel.handle(TunnelEvent.SCCRP, None, self._host.now)

    def _unassigned(
        self, header: ControlHeader, payload: bytes, data: bytes, peer: Peer, local: Place, now: float
    ) -> None:
        """A packet whose sender knows no id of ours: an SCCRQ, or the end of what began with one."""
        kind = peek_type(payload)
        if kind == MessageType.SCCRQ and header.ns == 0:
            self._admission.request(payload, data, peer, local, now)
        elif kind == MessageType.STOPCCN:
            self._early_end(header, payload, peer, local, now)
        elif payload:
            self._host.counters.malformed += 1

    def _early_end(self, header: ControlHeader, payload: bytes, peer: Peer, local: Place, now: float) -> None:
        """A peer has thought better of it, before our SCCRP came (5.3)."""
        try:
            peer_id = decode(payload).avps[Avp.ASSIGNED_TUNNEL_ID]
        except MessageError:
            self._host.counters.malformed += 1
            return
        half_open = self._host.half_open_of.get((peer, peer_id))
        if half_open is not None:
            half_open.handle(TunnelEvent.DEAD, None, now)
            self._host.answer(b"", peer_id, (1, header.ns + 1 & 0xFFFF), peer, local)

    @property
    def deadline(self) -> float | None:
        """When `handle_timer` has something to do."""
        return self._host.deadline

    def handle_timer(self, now: float) -> None:
        """Do what is due."""
        host = self._host
        host.now = now
        for tunnel in host.due(now):
            tunnel.handle_timer(now)
            if tunnel.state is not TunnelState.IDLE:
                host.touch(tunnel)
        for tunnel in host.sweep(now):
            host.counters.expired += 1
            tunnel.handle(TunnelEvent.DEAD, None, now)

    # -- output ------------------------------------------------------------------------------------------------------

    def take_events(self) -> Sequence[Event]:
        """What happened, in order."""
        events = self._host.events
        if not events:
            return ()
        self._host.events = []
        return events

    def take_refusals(self) -> Sequence[Refusal]:
        """Who was not let in; of many at once only the first."""
        refusals = self._host.refusals
        if not refusals:
            return ()
        self._host.refusals = []
        return refusals

    def take_dirty(self) -> Iterable[Tunnel | Call]:
        """Whose `save` gives something else than before."""
        dirty = self._host.dirty
        if not dirty:
            return ()
        self._host.dirty = {}
        return dirty.keys()

    def take_datagrams(self) -> Sequence[Datagram]:
        """What is to be sent."""
        host = self._host
        datagrams, touched = host.datagrams, host.touched
        if touched:
            host.touched = {}
            for tunnel in touched:
                tunnel.channel.flush(host.now)
                for data in tunnel.channel.take_datagrams():
                    datagrams.append(Datagram(data, tunnel.peer, tunnel.local, tunnel))
        if not datagrams:
            return ()
        host.datagrams = []
        return datagrams

    @property
    def half_open(self) -> int:
        """Tunnels whose peers have not answered our SCCRP."""
        return len(self._host.half_open)

    @property
    def delayed(self) -> int:
        """SCCRQs that a flood has cost one more try."""
        return self._host.flood.delayed

    @property
    def usages(self) -> dict[str, Usage]:
        """What the peers of each profile use."""
        return dict(self._host.usages)

    # -- wishes: tunnels ---------------------------------------------------------------------------------------------

    def connect(self, spec: LacSpec, peer: Peer, local: Place, now: float) -> Tunnel:
        """Open a tunnel. A TunnelUp or a TunnelDown follows."""
        host = self._host
        host.now = now
        tunnel = Tunnel(host, spec, peer, local, now, incoming=False)
        tunnel.secret = host.secret_of(spec, peer, "")
        tunnel.id = 0 if host.closing else host.free_id()
        if not tunnel.id:
            reason = "kl2tp stops" if host.closing else "all tunnel ids are in use"
            host.events.append(TunnelDown(tunnel, reason, 0, 0))
            return tunnel
        if not spec.own_tunnel:
            tunnel.tie_breaker = host.entropy.take(_TIE_BREAKER)
        tunnel.handle(TunnelEvent.OPEN, None, now)
        return tunnel

    def close(
        self, tunnel: Tunnel, now: float, result: int = StopCcn.CLEAR, error: int = 0, message: str = "closed"
    ) -> None:
        """End a tunnel and its calls."""
        self._host.now = now
        tunnel.handle(TunnelEvent.CLOSE, ResultCode(result, error, message), now)

    def shutdown(self, now: float) -> None:
        """End everything, and begin nothing any more; when `tunnels` is empty all peers know."""
        host = self._host
        host.closing = True
        for half_open in list(host.half_open.values()):
            half_open.handle(TunnelEvent.DEAD, None, now)
        for tunnel in list(host.tunnels.values()):
            self.close(tunnel, now, StopCcn.SHUTTING_DOWN, message="kl2tp stops")

    def suspend(self, tunnel: Tunnel, now: float) -> None:
        """The way to the peer is closed: the tunnel waits as if time stood still. Its owner sees to it that this does
        not last for ever."""
        self._host.now = now
        tunnel.suspend(now)

    def resume(self, tunnel: Tunnel, now: float) -> None:
        """The way is open again."""
        self._host.now = now
        tunnel.resume(now)

    def move(self, tunnel: Tunnel, peer: Peer, now: float) -> None:
        """The peer is somewhere else, or has another SA, as its owner knows for certain."""
        self._host.now = now
        if peer != tunnel.peer:
            tunnel.move(peer, now)

    # -- wishes: calls -----------------------------------------------------------------------------------------------

    def place_call(
        self,
        tunnel: Tunnel,
        now: float,
        *,
        outgoing: bool = False,
        called_number: str = "",
        calling_number: str = "",
        sub_address: str = "",
        sequencing: bool = False,
        more: Mapping[Avp, Any] | None = None,
    ) -> Call:
        """Ask for a call as LAC (ICRQ), or with `outgoing` as LNS (OCRQ). A CallUp or a CallDown follows.

        `sequencing` is whether we as LAC insist on sequence numbers in data messages. In `more` can stand whatever
        else ICRQ, ICCN and OCRQ can carry, like speeds, and what a caller has negotiated with us (4.4.5). A tunnel that
        is not established yet will do: the call waits.
        """
        self._host.now = now
        call = Call(tunnel, CallRole.LNS_OUTGOING if outgoing else CallRole.LAC_INCOMING)
        numbers = {
            Avp.CALLED_NUMBER: called_number,
            Avp.CALLING_NUMBER: calling_number,
            Avp.SUB_ADDRESS: sub_address,
        }
        call.info.update((avp, number) for avp, number in numbers.items() if number)
        call.info.update(more or {})
        call.sequencing_required = sequencing
        dispatch.place(tunnel, call, now)
        return call

    def accept(self, call: Call, now: float) -> None:
        """Take a call that was offered, where that is not done by itself."""
        self._host.now = now
        call.accept(now)

    def hang_up(
        self,
        call: Call,
        now: float,
        result: int = Cdn.ADMINISTRATIVE,
        error: int = 0,
        message: str = "closed",
        cause: Q931Cause | None = None,
    ) -> None:
        """End a call, or refuse one that was offered."""
        self._host.now = now
        if cause is not None:
            call.info[Avp.Q931_CAUSE_CODE] = cause
        call.handle(CallEvent.CLOSE, ResultCode(result, error, message), now)

    def send_link_info(self, call: Call, accm: Accm, now: float) -> None:
        """As LNS: tell the LAC which control characters PPP escapes (SLI, 6.14)."""
        self._host.now = now
        if call.established and call.lns:
            call.tunnel.send(MessageType.SLI, {Avp.ACCM: accm}, now, call.peer_id)

    def send_line_errors(self, call: Call, errors: CallErrors, now: float) -> None:
        """As LAC: tell the LNS of errors on the line (WEN, 6.13)."""
        self._host.now = now
        if call.established and not call.lns:
            call.tunnel.send(MessageType.WEN, {Avp.CALL_ERRORS: errors}, now, call.peer_id)

    # -- across a restart --------------------------------------------------------------------------------------------

    def save(self) -> dict[str, list[dict[str, Any]]]:
        """Everything that a new process needs, in JSON's types; piecemeal it is `save` of what `take_dirty` names."""
        tunnels = [state for tunnel in self.tunnels.values() if (state := tunnel.save()) is not None]
        calls = [
            state
            for tunnel in self.tunnels.values()
            for call in tunnel.calls.values()
            if (state := call.save()) is not None
        ]
        return {"tunnels": tunnels, "calls": calls}

    def restore_tunnel(self, state: Mapping[str, Any], profile: Profile, now: float) -> Tunnel:
        """Go on with a tunnel; `state["profile"]` and `state["lns"]` say whose it was. Its calls follow."""
        self._host.now = now
        return Tunnel.restore(self._host, profile, state, now)

    def restore_call(self, state: Mapping[str, Any], now: float) -> Call | None:
        """Go on with a call; None if its tunnel is not there."""
        tunnel = self.tunnels.get(int(state["tunnel"]))
        return Call.restore(tunnel, state, now) if tunnel is not None else None

    def restore(
        self,
        saved: Mapping[str, Sequence[Mapping[str, Any]]],
        profile_of: Callable[[Mapping[str, Any]], Profile | None],
        now: float,
    ) -> None:
        """Go on with everything that `save` gave and that still has a profile."""
        for state in saved["tunnels"]:
            if (profile := profile_of(state)) is not None:
                self.restore_tunnel(state, profile, now)
        for state in saved["calls"]:
            self.restore_call(state, now)
