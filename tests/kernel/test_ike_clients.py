"""Clients with IPsec behind one NAT, all from port 1701: told apart, apart in the kernel, and alone in their tunnels.

SAs are placed by hand, in the role of charon's; see `kernel.rig.ike`.
"""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from interop.ike.rig.nat import Nat
from kernel.conftest import Bench
from kernel.rig.ike import MARKS, PORT, Client, Lns, Pair, control, data, flow, heard
from kernel.rig.net import Host
from kl2tp.kernel import clients
from kl2tp.model.addr import parse
from kl2tp.reconcile.places import binding_unit, place_unit

_FIREWALL = """\
table inet firewall {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state invalid counter drop
        meta nfproto ipv4 meta mark != 0 counter drop
        iifname "lns*" accept
        meta l4proto { icmp, esp } accept
        udp dport { 4500 } accept
        udp dport 1701 meta ipsec exists accept
    }
    chain output {
        type filter hook output priority 0; policy accept;
        ct state invalid counter drop
        meta nfproto ipv4 meta mark != 0 counter drop
    }
}
"""


def nft(host: Host, *arguments: str, text: str = "") -> str:
    """What the operator does with nftables."""
    with host.entered():
        return subprocess.run(["nft", *arguments], input=text, text=True, check=True, capture_output=True).stdout


class World:
    """An LNS behind a firewall, and two clients behind one NAT."""

    def __init__(self, bench: Bench, stack: contextlib.ExitStack, *, exact: bool) -> None:
        nft(bench.near.host, "-f", "-", text=_FIREWALL)
        nat = Nat(bench.wire, "nat", 9)
        stack.callback(nat.delete)
        self.lns = Lns(bench.near.host, parse("192.0.2.1"), bench.directory / "lns", exact=exact)
        stack.enter_context(contextlib.closing(self.lns))
        self.clients: list[Client] = []
        self.pairs: list[Pair] = []
        for number, reqid in ((1, 3), (2, 4)):
            host = nat.add(f"client{number}", number)
            client = Client(host, parse(nat.address(number)), self.lns, number, reqid, nat=True)
            stack.enter_context(contextlib.closing(client))
            self.clients.append(client)
            self.pairs.append(Pair(self.lns, client, reqid).install())

    def up(self, *, bound: bool = True) -> list[Client]:
        """Both clients have a session."""
        for client in self.clients:
            self.lns.accept(client, bound=bound)
        return self.clients


@pytest.fixture(params=[False, True], ids=["any", "exact"])
def world(bench: Bench, request: pytest.FixtureRequest) -> Iterator[World]:
    with contextlib.ExitStack() as stack:
        yield World(bench, stack, exact=request.param)


def test_both_have_a_session_at_once_and_data_pass_both_ways(world: World) -> None:
    one, two = world.up()
    assert one.seen[0] == two.seen[0]
    assert one.seen[1] != two.seen[1]
    with flow(world.lns, one, two) as stream:
        stream.send(20)


def test_to_the_listener_they_are_two_by_mark_and_on_older_kernels_by_port(world: World) -> None:
    peers = []
    for client in world.clients:
        client.sock.send(control(0))
        ((_, peer, _, mark),) = world.lns.hear()
        assert mark == clients.mark_of(client.reqid, MARKS)
        peers.append(peer)
    ports = [clients.port_of(client.reqid) if clients.BY_PORT else PORT for client in world.clients]
    assert peers == [(parse("192.0.2.9"), port) for port in ports]


def test_answers_of_one_listener_go_to_each_by_its_own_sa(world: World) -> None:
    peers = []
    for client in world.clients:
        client.sock.send(control(0))
        peers.append(world.lns.hear()[0][1])
    local = (world.lns.address, PORT)
    for _ in range(3):
        for client, peer in zip(world.clients, peers, strict=True):
            some = [(control(client.number, n), peer, local) for n in range(5)]
            assert world.lns.listener.send_many(some, client.reqid) == 0
            assert [client.hear() for _ in some] == [d for d, _, _ in some]


def test_control_messages_name_their_sender_whatever_socket_they_come_to(world: World) -> None:
    world.up()
    holds = list(world.lns.tunnels.values())
    for client in world.clients:
        client.sock.send(control(world.lns.tunnel_id(client), 1))
        number, message, reqid = heard(holds)
        assert (message, reqid) == (control(world.lns.tunnel_id(client), 1), client.reqid)
        if clients.BY_PORT:
            assert number == client.number - 1
        holds[client.number - 1].sock.send(control(client.number, 2))
        assert client.hear() == control(client.number, 2)


def test_a_new_sa_with_the_same_reqid_takes_over_without_a_loss(world: World) -> None:
    world.up()
    with flow(world.lns, *world.clients) as stream:
        stream.send()
        for client, old in zip(world.clients, world.pairs, strict=True):
            # As charon does it: both inbound, then outbound, then the old one goes.
            new = Pair(world.lns, client, client.reqid).install(0)
            stream.send()
            new.install(1)
            stream.send()
            old.remove()
            stream.send()
            client.sock.send(control(world.lns.tunnel_id(client), 7))
            assert heard(list(world.lns.tunnels.values()))[2] == client.reqid


def test_without_an_sa_nothing_passes_and_with_a_new_one_all_does(world: World) -> None:
    one, two = world.up()
    with flow(world.lns, one, two) as stream:
        stream.send()
        world.pairs[0].remove()
        assert stream.lost(one)
        assert not stream.lost(two)
    Pair(world.lns, one, one.reqid).install()
    with flow(world.lns, one, two) as stream:
        stream.send()


@pytest.mark.parametrize("length", [False, True], ids=["plain", "with length"])
def test_nobody_speaks_into_the_tunnel_of_another(world: World, *, length: bool) -> None:
    one, two = world.up()
    before, dropped = world.lns.received(two), world.lns.door.dropped(world.lns.host.name)
    assert dropped.of_another == 0
    one.sock.send(data(world.lns.tunnel_id(two), two.number, length=length))
    one.sock.send(control(world.lns.tunnel_id(two), 1))
    with flow(world.lns, one, two) as stream:
        stream.send(1)
    assert world.lns.silent()
    assert world.lns.received(two) == before + 1
    assert world.lns.door.dropped(world.lns.host.name).of_another == 2
    two.sock.send(data(world.lns.tunnel_id(two), two.number, length=length))
    with flow(world.lns, two) as stream:
        stream.send(1)
    assert world.lns.received(two) == before + 3


@pytest.mark.skipif(clients.BY_PORT, reason="such kernels look in the tunnel of the socket only")
def test_it_is_the_binding_that_keeps_them_apart(world: World) -> None:
    one, two = world.up(bound=False)
    before = world.lns.received(two)
    one.sock.send(data(world.lns.tunnel_id(two), two.number, length=False))
    with flow(world.lns, one, two) as stream:
        stream.send(1)
    assert world.lns.received(two) == before + 2


def test_a_tunnel_can_be_bound_to_the_client_s_next_reqid(world: World) -> None:
    one, two = world.up()
    world.lns.settle(binding_unit(world.lns.tunnel_id(one), two.reqid))
    two.sock.send(control(world.lns.tunnel_id(one), 1))
    assert heard(list(world.lns.tunnels.values()))[2] == two.reqid
    one.sock.send(control(world.lns.tunnel_id(one), 1))
    assert world.lns.silent()


def test_one_leaves_and_returns_and_the_other_does_not_notice(world: World) -> None:
    one, two = world.up()
    with flow(world.lns, two) as stream:
        stream.send()
        world.lns.plane.detach([world.lns.sessions.pop(one.number)])
        world.lns.plane.close_tunnels([world.lns.tunnels.pop(one.number)])
        world.pairs[0].remove()
        stream.send()
        one.reqid = 5
        Pair(world.lns, one, 5).install()
        stream.send()
    one.sock.send(control(0))
    ((_, peer, _, mark),) = world.lns.hear()
    assert mark == clients.mark_of(5, MARKS)
    world.lns.host.until(lambda: world.lns.plane.lost_tunnels([world.lns.tunnel_id(one)]))
    world.lns.open(one, peer)
    with flow(world.lns, one, two) as stream:
        stream.send()


def test_a_firewall_sees_no_mark_and_nothing_out_of_order(world: World) -> None:
    world.up()
    with flow(world.lns, *world.clients) as stream:
        stream.send(5)
    listed = nft(world.lns.host, "list", "table", "inet", "firewall")
    assert listed.count("counter packets 0 bytes 0 drop") == 4, listed


def test_other_tables_stay_as_they_are(world: World) -> None:
    host = world.lns.host
    before = nft(host, "-s", "list", "table", "inet", "firewall")
    world.up()
    nft(host, "flush", "chain", "inet", "kl2tp", "place_in")
    assert world.lns.door.mend_table(host.name)
    world.lns.settle(place_unit(world.lns.place, PORT, (0x6000000, 0xFFF)))
    assert nft(host, "-s", "list", "table", "inet", "firewall") == before


def test_marks_can_be_others_and_what_was_counted_stays(world: World) -> None:
    one, _ = world.clients
    other = (0x40000, 0x3FFFF)
    world.lns.settle(place_unit(world.lns.place, PORT, other))
    one.sock.send(control(0))
    ((_, _, _, mark),) = world.lns.hear()
    assert mark == clients.mark_of(one.reqid, other) != clients.mark_of(one.reqid, MARKS)
    assert clients.reqid_of(mark, other) == one.reqid
    assert clients.reqid_of(mark, MARKS) == 0


def test_a_client_with_a_port_of_its_own_keeps_it(bench: Bench) -> None:
    with contextlib.ExitStack() as stack:
        world = World(bench, stack, exact=False)
        world.up()
        host = bench.more(stack, "third", 3).host
        third = Client(host, parse("192.0.2.3"), world.lns, 3, 6, port=49152)
        stack.enter_context(contextlib.closing(third))
        Pair(world.lns, third, 6).install()
        assert world.lns.accept(third) == (parse("192.0.2.3"), 49152)
        with flow(world.lns, third, *world.clients) as numbered:
            numbered.send(5)
