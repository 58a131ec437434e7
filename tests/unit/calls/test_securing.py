"""Tunnels and their IPsec SAs: bound, parted for a while, found again under another reqid, and cut off from a stranger.

The event loop's clock is the tests' own: grace times pass at once.
"""

import socket
from typing import Any

import pytest

from kl2tp.calls import securing as subject
from kl2tp.calls.clients import Clients
from kl2tp.calls.securing import Securing
from kl2tp.calls.session import Peer
from kl2tp.control.endpoint import Endpoint, TunnelDown, TunnelMoved
from kl2tp.control.profiles import Profiles, client_of
from kl2tp.ipsec.ike import ChildSa
from kl2tp.model.calls import LnsSpec
from kl2tp.model.ike import IkeSpec
from kl2tp.model.objects import Binding
from kl2tp.model.plan import Unit
from unit.calls.children import child
from unit.control.puppet import Puppet
from unit.control.world import octets

NAT, ELSEWHERE = bytes((203, 0, 113, 9)), bytes((192, 0, 2, 77))
GRACE_S = 30


class Units:
    """What is wanted of the kernel."""

    def __init__(self) -> None:
        self.wanted: dict[str, Unit] = {}

    def put_call(self, unit: Unit) -> None:
        self.wanted[unit.name] = unit

    def drop_call(self, name: str) -> None:
        del self.wanted[name]

    def clear_call(self, name: str) -> None:
        assert name not in self.wanted

    @property
    def bindings(self) -> dict[int, int]:
        """reqid by tunnel id."""
        found = [o for unit in self.wanted.values() for o in unit.objects]
        return {o.tunnel_id: o.reqid for o in found if isinstance(o, Binding)}


class Scene:
    """An LNS with clients of which charon tells."""

    def __init__(self) -> None:
        self.profile = LnsSpec("office", ike=IkeSpec(grace=GRACE_S))
        self.endpoint = Endpoint(Profiles([self.profile]), octets(3), lambda *_: None)
        self.clients = Clients()
        self.known: dict[int, ChildSa] = {}
        self.clients.known = self.known
        self.units = Units()
        self.securing = Securing(self.units, self.endpoint, self.clients)  # type: ignore[arg-type]
        self.heard: list[tuple[str, int]] = []
        self.securing.tell = lambda kind, peer: self.heard.append((kind, peer.tunnel.id))
        self.securing.synced()

    def open(self, reqid: int, remote: bytes = NAT, identity: str = "192.168.1.5", tunnel_id: int = 77) -> Peer:
        """A client with a tunnel."""
        self.known[reqid] = child(reqid, remote, identity=identity)
        puppet = Puppet(self.endpoint, place=(remote, 1701, reqid), tunnel_id=tunnel_id)
        puppet.open()
        tunnel = puppet.tunnel
        tunnel.owner = peer = Peer(tunnel)
        self.securing.begin(peer)
        return peer

    def lose(self, reqid: int) -> None:
        """The SA of a client is gone."""
        gone = self.known.pop(reqid)
        self.securing.gone(gone)

    def events(self) -> list[Any]:
        """Heard, and acted upon as the runtime does."""
        events = list(self.endpoint.take_events())
        for event in events:
            if isinstance(event, TunnelMoved):
                self.securing.moved(event.tunnel.owner)  # type: ignore[arg-type]
            if isinstance(event, TunnelDown):
                self.securing.end(event.tunnel.owner)  # type: ignore[arg-type]
        return events


def _reqid(peer: Peer) -> int:
    return client_of(peer.tunnel.peer)


async def test_a_tunnel_is_bound_to_the_sa_it_came_through() -> None:
    scene = Scene()
    peer = scene.open(7)
    assert scene.units.bindings == {peer.tunnel.id: 7}
    assert not peer.bound
    told: list[tuple[Peer, str]] = []
    scene.securing.bound = lambda *what: told.append(what)
    assert scene.securing.unit_done(f"call/bound.{peer.tunnel.id}", "")
    assert told == [(peer, "")]
    assert not scene.securing.unit_done("call/1.2", "")


async def test_a_tunnel_that_is_over_is_bound_no_more() -> None:
    scene = Scene()
    peer = scene.open(7)
    scene.endpoint.close(peer.tunnel, 100.0)
    scene.events()
    assert scene.units.wanted == {}
    assert scene.securing.bonds == {}


async def test_without_its_sa_a_tunnel_waits_and_goes_on_when_it_is_back() -> None:
    scene = Scene()
    peer = scene.open(7)
    scene.lose(7)
    assert peer.suspended
    assert scene.securing.suspended == 1
    scene.known[7] = child(7, NAT)
    scene.securing.changed()
    assert not peer.suspended
    assert [kind for kind, _ in scene.heard] == ["tunnel-suspended", "tunnel-resumed"]


async def test_after_the_grace_time_it_ends_with_that_reason() -> None:
    scene = Scene()
    peer = scene.open(7)
    scene.lose(7)
    bond = peer.bond
    assert bond is not None
    assert bond.handle is not None
    assert bond.handle.when() - scene.securing._aio.time() == pytest.approx(GRACE_S, abs=1)
    bond.handle.cancel()
    scene.securing._give_up(bond)
    [down] = [event for event in scene.events() if isinstance(event, TunnelDown)]
    assert down.reason == "there was no IPsec SA for 30 s"
    assert scene.units.wanted == {}
    assert scene.securing.bonds == {}
    assert not scene.endpoint.tunnels


async def test_a_client_that_comes_back_with_another_reqid_has_its_tunnels_again() -> None:
    scene = Scene()
    peer = scene.open(7)
    scene.lose(7)
    scene.known[9] = child(9, NAT, number=2)
    scene.securing.changed()
    scene.events()
    assert (_reqid(peer), peer.suspended) == (9, False)
    assert scene.units.bindings == {peer.tunnel.id: 9}
    assert set(scene.securing.bonds) == {9}


async def test_its_new_sa_may_be_there_before_the_old_one_goes() -> None:
    scene = Scene()
    old = scene.open(7)
    new = scene.open(9, tunnel_id=78)
    scene.lose(7)
    scene.events()
    assert (_reqid(old), _reqid(new)) == (9, 9)
    assert not old.suspended
    assert scene.units.bindings == {old.tunnel.id: 9, new.tunnel.id: 9}
    scene.lose(9)
    assert old.suspended
    assert new.suspended


@pytest.mark.parametrize(("identity", "remote"), [("192.168.1.6", NAT), ("192.168.1.5", ELSEWHERE)])
async def test_another_client_gets_no_tunnel_of_one_that_left(identity: str, remote: bytes) -> None:
    scene = Scene()
    peer = scene.open(7)
    scene.lose(7)
    scene.known[9] = child(9, remote, identity=identity)
    scene.securing.changed()
    scene.events()
    assert (_reqid(peer), peer.suspended) == (7, True)


async def test_who_proves_his_name_has_his_tunnels_again_from_anywhere() -> None:
    scene = Scene()
    scene.securing.proven = frozenset(["kl2tp:lns:office"])
    peer = scene.open(7, identity="CN=alice")
    scene.lose(7)
    scene.known[9] = child(9, ELSEWHERE, identity="CN=alice")
    scene.securing.changed()
    scene.events()
    assert peer.tunnel.peer == (ELSEWHERE, 1701, 9)
    assert not peer.suspended


async def test_a_reqid_that_is_given_to_another_client_ends_the_bond_at_once() -> None:
    scene = Scene()
    peer = scene.open(1)
    orphan = scene.known[1]
    scene.known[1] = child(1, NAT, identity="192.168.1.66", number=9)
    scene.securing.gone(orphan)
    scene.events()
    assert _reqid(peer) not in (0, 1)
    assert scene.units.bindings == {peer.tunnel.id: _reqid(peer)}
    assert peer.suspended
    # ...and the first one comes back under the number of yet another.
    scene.known[2] = child(2, NAT)
    scene.securing.changed()
    scene.events()
    assert (_reqid(peer), peer.suspended) == (2, False)


async def test_a_rekeyed_client_and_one_that_was_orphaned_keep_their_tunnels() -> None:
    scene = Scene()
    peer = scene.open(7)
    scene.known[7] = child(7, NAT, number=44, orphaned=True)
    scene.securing.changed()
    scene.events()
    assert (_reqid(peer), peer.suspended) == (7, False)


async def test_a_socket_follows_its_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene()
    peer = scene.open(7)
    did: list[Any] = []
    monkeypatch.setattr(subject.udp, "set_policy", lambda sock, way, reqid: did.append(reqid))
    monkeypatch.setattr(subject.udp, "reconnect", lambda sock, place: did.append(place))
    monkeypatch.setattr(subject.kernel, "BY_PORT", False)
    with socket.socket() as peer.socket:
        scene.endpoint.move(peer.tunnel, (ELSEWHERE, 4711, 7), 100.0)
        scene.events()
        assert did == [7, (ELSEWHERE, 4711)]
    peer.socket = None


@pytest.mark.parametrize("by_port", [True, False])
async def test_a_tunnel_that_its_peer_has_forgotten_takes_nothing_from_the_new_one(
    monkeypatch: pytest.MonkeyPatch, by_port: bool
) -> None:
    monkeypatch.setattr(subject.kernel, "BY_PORT", by_port)
    scene = Scene()
    old = scene.open(7)
    new = scene.open(9, tunnel_id=78)
    new.ends = (new.tunnel.local, new.tunnel.peer)
    did: list[Any] = []
    monkeypatch.setattr(subject.udp, "set_policy", lambda sock, way, reqid: None)
    monkeypatch.setattr(subject.udp, "reconnect", lambda sock, place: did.append(sock))
    with socket.socket() as old.socket, socket.socket() as new.socket:
        scene.lose(7)
        scene.events()
        assert (_reqid(old), old.tunnel.peer) == (9, new.tunnel.peer)
        assert did == ([] if by_port else [old.socket])
    old.socket = new.socket = None


async def test_on_older_kernels_the_port_goes_with_the_reqid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject.kernel, "BY_PORT", True)
    port = subject.kernel.port_of
    assert subject._moved((NAT, port(7), 7), 7, 9, child(9, ELSEWHERE)) == (ELSEWHERE, port(9), 9)
    assert subject._moved((NAT, 5000, 7), 7, 9, child(9, ELSEWHERE)) == (ELSEWHERE, 5000, 9)


async def test_before_charon_has_told_of_everybody_nobody_is_missed() -> None:
    scene = Scene()
    scene.securing._synced = False
    peer = scene.open(7)
    scene.lose(7)
    assert not peer.suspended
    scene.securing.synced()
    assert peer.suspended


async def test_a_tunnel_of_an_earlier_daemon_is_bound_and_known() -> None:
    before = Scene()
    peer = before.open(7)
    before.endpoint.take_dirty()
    state = peer.tunnel.save()
    assert state is not None
    after = Scene()
    after.securing._synced = False
    tunnel = after.endpoint.restore_tunnel(state, after.profile, 100.0)
    tunnel.owner = again = Peer(tunnel)
    after.securing.take_up(again)
    assert again.bound
    assert after.units.bindings == {tunnel.id: 7}
    after.known[9] = child(9, NAT)
    after.securing.synced()
    assert (_reqid(again), again.suspended) == (9, False)


async def test_a_suspended_tunnel_of_an_earlier_daemon_waits_on() -> None:
    before = Scene()
    peer = before.open(7)
    before.lose(7)
    state = peer.tunnel.save()
    assert state is not None
    after = Scene()
    tunnel = after.endpoint.restore_tunnel(state, after.profile, 100.0)
    tunnel.owner = again = Peer(tunnel)
    after.securing.take_up(again)
    assert again.suspended
    assert after.securing.suspended == 1
    after.known[7] = child(7, NAT)
    after.securing.synced()
    assert not again.suspended


async def test_a_call_of_ours_waits_for_its_sa_too() -> None:
    scene = Scene()
    peer = scene.open(0x6B6D0001)
    assert peer.bond is not None
    peer.bond.identity = None
    scene.securing.call_changed(0x6B6D0001, up=False)
    assert peer.suspended
    scene.securing.call_changed(0x6B6D0001, up=True)
    assert not peer.suspended


async def test_sas_of_which_no_charon_knows_any_more_are_good_while_the_kernel_has_them() -> None:
    scene = Scene()
    peer = scene.open(7)
    there = {7}
    scene.securing.in_kernel = there.__contains__
    scene.lose(7)
    assert not peer.suspended
    there.clear()
    scene.securing.lost(7)
    assert peer.suspended
    there.add(7)
    scene.securing.lost(7)
    assert not peer.suspended


async def test_nor_are_they_when_another_has_their_reqid() -> None:
    scene = Scene()
    peer = scene.open(7)
    scene.securing.in_kernel = lambda reqid: reqid == 7
    orphan = scene.known[7]
    scene.known[7] = child(7, NAT, identity="192.168.1.66", number=9)
    scene.securing.gone(orphan)
    scene.events()
    assert peer.suspended
    assert _reqid(peer) != 7
