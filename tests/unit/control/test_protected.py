"""Peers that speak through IPsec: each client is a peer of its own, it may move, and its SA may be gone for a while."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.control.channel import Channel
from kl2tp.control.endpoint import TunnelDown, TunnelMoved, TunnelUp
from kl2tp.control.profiles import Peer, client_of, restored_peer, saved_peer
from kl2tp.model.calls import ControlSpec, LnsSpec
from kl2tp.wire.avp import Avp
from kl2tp.wire.l2tp import ControlHeader, decode_control
from kl2tp.wire.messages import MessageType
from kl2tp.wire.values import ResultCode
from unit.control.puppet import THEIRS, Puppet, endpoint, kinds
from unit.control.world import Site, World, up

NAT = THEIRS[0]
ALICE: Peer = (NAT, 1701, 1)
BOB: Peer = (NAT, 1701, 2)
ELSEWHERE: Peer = (bytes((198, 51, 100, 7)), 4711, 1)


def _two() -> tuple[Puppet, Puppet]:
    """Two clients behind one NAT, from one port, that use the same tunnel id."""
    subject = endpoint()
    alice, bob = Puppet(subject, place=ALICE), Puppet(subject, place=BOB)
    alice.open()
    bob.open()
    return alice, bob


# -- who is who ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", [THEIRS, ALICE, (bytes(16), 9, 0x6B6C0001)])
def test_a_peer_survives_being_written_down(peer: Peer) -> None:
    assert restored_peer(json.loads(json.dumps(saved_peer(peer)))) == peer


def test_what_was_written_down_before_there_were_clients_is_still_read() -> None:
    assert restored_peer([NAT.hex(), 1701]) == THEIRS
    assert client_of(THEIRS) == 0


def test_clients_behind_one_nat_with_the_same_tunnel_id_are_different_peers() -> None:
    alice, bob = _two()
    assert alice.tunnel is not bob.tunnel
    assert len(alice.subject.tunnels) == 2
    assert alice.subject.counters.replaced == 0


def test_a_packet_through_another_clients_sa_is_dropped_and_counted() -> None:
    alice, bob = _two()
    mine, bob.peer_id = bob.peer_id, alice.peer_id
    bob.say(MessageType.STOPCCN, {Avp.ASSIGNED_TUNNEL_ID: 77, Avp.RESULT_CODE: ResultCode(1)})
    assert alice.tunnel.established
    assert alice.tunnel.peer == ALICE
    assert alice.subject.counters.other_clients == 1
    bob.peer_id = mine
    assert bob.tunnel.established


def test_a_packet_in_clear_for_a_protected_tunnel_is_dropped_and_counted() -> None:
    alice, _ = _two()
    alice.place = THEIRS
    alice.acknowledge()
    assert alice.subject.counters.other_clients == 1


def test_a_protected_packet_for_a_tunnel_in_clear_is_dropped() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    puppet.place = ALICE
    puppet.say(MessageType.HELLO)
    assert puppet.subject.counters.other_clients == 1
    assert puppet.tunnel.peer == THEIRS


# -- moving --------------------------------------------------------------------------------------------------------


def test_a_client_may_move_and_is_answered_there() -> None:
    alice, bob = _two()
    tunnel = alice.tunnel
    alice.place = ELSEWHERE
    alice.say(MessageType.HELLO)
    assert tunnel.peer == ELSEWHERE
    assert alice.took(TunnelMoved) == [TunnelMoved(tunnel)]
    assert alice.answers[-1][0].nr == alice.ns
    assert bob.tunnel.peer == BOB
    usage = alice.subject.usages["all"]
    assert usage.tunnels_of == {NAT: 1, ELSEWHERE[0]: 1}


def test_a_moved_client_is_found_where_it_is() -> None:
    alice, _ = _two()
    old = alice.tunnel
    alice.place = ELSEWHERE
    alice.say(MessageType.HELLO)
    alice.wait(10.0)
    again = Puppet(alice.subject, place=ELSEWHERE)
    again.now = alice.now
    again.open()
    assert again.took(TunnelDown) == [TunnelDown(old, "the peer began anew", 0, 0)]
    assert len(alice.subject.tunnels) == 2


def test_a_peer_in_clear_may_not_move() -> None:
    puppet = Puppet(endpoint())
    puppet.open()
    puppet.place = (THEIRS[0], 4711)
    puppet.say(MessageType.HELLO)
    assert puppet.tunnel.peer == THEIRS
    assert puppet.subject.counters.strangers == 1
    assert puppet.took(TunnelMoved) == []


def test_the_owner_moves_a_tunnel_to_another_sa() -> None:
    alice, _ = _two()
    tunnel = alice.tunnel
    later: Peer = (NAT, 1701, 9)
    alice.do(lambda now: alice.subject.move(tunnel, later, now))
    alice.place = later
    alice.say(MessageType.HELLO)
    assert alice.subject.counters.other_clients == 0
    assert alice.took(TunnelMoved) == [TunnelMoved(tunnel)]


def test_a_moved_tunnel_ends_without_a_trace() -> None:
    alice, bob = _two()
    for puppet in (alice, bob):
        puppet.place = (*ELSEWHERE[:2], client_of(puppet.place))
        puppet.say(MessageType.HELLO)
    alice.do(alice.subject.shutdown)
    alice.wait(200.0)
    host = alice.subject._host
    assert not host.tunnels
    assert not host.tunnel_of
    assert not host.latest_of
    assert alice.subject.usages["all"].tunnels_of == {}


# -- without an SA for a while -------------------------------------------------------------------------------------


def _suspended() -> tuple[Site, Site, World]:
    lac, lns = Site(1), Site(2)
    world = up(lac, lns)
    for site in (lac, lns):
        world.turn(site, lambda endpoint, site=site: endpoint.suspend(site.tunnel, world.now))
    world.carried.clear()
    return lac, lns, world


def test_a_suspended_tunnel_is_silent_for_ever() -> None:
    lac, lns, world = _suspended()
    world.run(100_000.0)
    assert world.carried == []
    assert lac.endpoint.deadline is None
    assert lac.tunnel.established
    assert lns.call.established


def test_a_suspended_tunnel_sends_at_once_when_it_is_resumed() -> None:
    lac, lns, world = _suspended()
    call = world.place(lac, lac.tunnel)
    world.run(1000.0)
    assert world.carried == []
    assert not call.established
    for site in (lac, lns):
        world.turn(site, lambda endpoint, site=site: endpoint.resume(site.tunnel, world.now))
    assert len(world.carried) == 1
    world.run(2.0)
    assert call.established
    assert len(lns.calls) == 2
    assert lac.tunnel.channel.retransmissions == 0


def test_what_was_under_way_is_sent_again_and_counts_anew() -> None:
    alice = Puppet(endpoint(), place=ALICE)
    alice.open()
    alice.call()
    tunnel = alice.tunnel
    alice.wait(60.0)  # a HELLO, and most of its repetitions
    while tunnel.channel._tried < 4:
        alice.wait(1.0)
    alice.do(lambda now: alice.subject.suspend(tunnel, now))
    alice.packets.clear()
    alice.wait(500.0)
    assert alice.packets == []
    alice.do(lambda now: alice.subject.resume(tunnel, now))
    assert kinds(alice.packets) == [MessageType.HELLO]
    alice.wait(20.0)
    assert tunnel.established
    alice.acknowledge()
    alice.wait(50.0)
    assert tunnel.established


def test_a_suspended_tunnel_is_kept_across_a_restart() -> None:
    lac, lns, world = _suspended()
    call = world.place(lac, lac.tunnel)
    world.turn(lac, lambda endpoint: None)
    world.restart(lac)
    world.run(1000.0)
    assert world.carried == []
    for site in (lac, lns):
        world.turn(site, lambda endpoint, site=site: endpoint.resume(site.tunnel, world.now))
    world.run(2.0)
    assert call.id not in lac.tunnel.calls or lac.tunnel.calls[call.id].established
    assert lac.tunnel.established


def test_the_end_of_a_suspended_tunnel_is_told_to_nobody_and_leaves_nothing() -> None:
    lac, _, world = _suspended()
    world.close(lac, lac.tunnel, message="no IPsec for 30 s")
    assert world.carried == []
    assert [event.reason for event in lac.took(TunnelDown)] == ["no IPsec for 30 s"]
    world.run(100.0)
    lac.assert_clean()


def test_a_tunnel_that_is_ending_does_not_wait() -> None:
    site, other = Site(1), Site(2)
    world = up(site, other)
    tunnel = site.tunnel
    del world.sites[other.place[0]]
    world.close(site, tunnel)
    world.turn(site, lambda endpoint: endpoint.suspend(tunnel, world.now))
    world.run(100.0)
    site.assert_clean()


def test_time_that_stood_still_does_not_count_for_set_up_and_for_empty_tunnels() -> None:
    profile = LnsSpec("all", control=ControlSpec(empty_timeout=20.0, setup_timeout=15.0))
    puppet = Puppet(endpoint(profile), place=ALICE)
    puppet.open()
    tunnel = puppet.tunnel
    puppet.wait(10.0)
    puppet.do(lambda now: puppet.subject.suspend(tunnel, now))
    puppet.wait(1000.0)
    puppet.do(lambda now: puppet.subject.resume(tunnel, now))
    puppet.wait(9.0)
    assert tunnel.established
    puppet.wait(2.0)
    assert not tunnel.established


@given(st.lists(st.sampled_from("srstxw"), max_size=30))
def test_a_channel_that_is_suspended_and_resumed_at_will_loses_and_repeats_nothing(deeds: list[str]) -> None:
    now, channel, sent, arrived = 10.0, Channel(10.0, hello_interval=0.0), 0, []
    other = Channel(10.0, hello_interval=0.0)
    for deed in [*deeds, "r", "t", "t", "t", "t", "t", "t", "t", "t", "t", "t", "t", "t", *"t" * len(deeds)]:
        if deed == "s":
            channel.suspend()
            assert channel.deadline is None
        elif deed == "r":
            channel.resume(now)
        elif deed == "x":
            channel.send(b"%d" % sent, 0, now)
            sent += 1
        elif deed == "w":
            now += 1000.0
            channel.handle_timer(now) if channel.suspended else None
        else:
            for data in channel.take_datagrams():
                header, payload = decode_control(data)
                arrived += [message for _, message in other.receive(header, payload, now)]
            other.flush(now)
            for data in other.take_datagrams():
                channel.receive(ControlHeader(*decode_control(data)[0]), b"", now)
    assert not channel.dead
    assert arrived == [b"%d" % number for number in range(sent)]


def test_the_peer_of_a_suspended_tunnel_is_heard_and_acknowledged() -> None:
    alice, _ = _two()
    tunnel = alice.tunnel
    alice.do(lambda now: alice.subject.suspend(tunnel, now))
    alice.say(MessageType.HELLO)
    assert alice.answers[-1][0].nr == alice.ns
    assert alice.took(TunnelUp) == [TunnelUp(tunnel)]
