"""Clients behind one NAT, all from port 1701, at the same time: strongSwan, xl2tpd and pppd, as their users have them.

Run on 6.12, where the kernel finds sessions whatever socket a packet came in on, and on 6.1, where it does not.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from interop.ike.rig import debian, forged, kl2tp
from interop.ike.rig.charon import renewed
from interop.ike.rig.ends import DebianLac
from interop.ike.rig.flow import Pair, flowing, lossless
from interop.ike.rig.forged import Sender, Sink
from interop.ike.rig.nat import Nat
from interop.ike.rig.watch import Watch, watched
from interop.ike.rig.ways import IKEV1_PSK, IKEV2_PSK, Authority, Way
from interop.rig import points
from interop.rig.process import PATIENCE_S, kill_all
from interop.rig.terms import LNS_ADDRESS, Terms
from kernel.rig.net import Host, Late, Wire

SHAPES = [(2, IKEV1_PSK), (10, IKEV2_PSK)]
NAT_NUMBER, LNS_NUMBER, OUTSIDER = 100, 2, 3


class Client:
    """One of them."""

    def __init__(self, lac: DebianLac, way: Way, address: str) -> None:
        self.lac, self.way = lac, way
        self.outer = address
        """As it knows it itself."""
        self.inner = ""
        """In its call."""

    @property
    def host(self) -> Host:
        return self.lac.host

    def wait_up(self, within: float = PATIENCE_S) -> None:
        """Until it has an address. Raises Late."""
        (ends,) = points.wait_links(self.host, 1, within).values()
        self.inner = ends.local

    def pair(self, server: Host) -> Pair:
        return Pair(self.host, self.inner, server, LNS_ADDRESS)

    def rekey(self) -> None:
        """New keys, by its own charon."""
        self.lac.charon.rekey(debian.child(self.way))


class Crowd:
    """A server, a NAT, and its clients."""

    def __init__(
        self, directory: Path, authority: Authority, count: int, way: Way, stack: contextlib.ExitStack
    ) -> None:
        self.way = way
        self._directory, self._authority = directory, authority
        self.wire = Wire("wire")
        stack.callback(self.wire.host.delete)
        self.nat = Nat(self.wire, "nat", NAT_NUMBER)
        stack.callback(self.nat.delete)
        self.server = self._host("lns", LNS_NUMBER, stack)
        self.lns = kl2tp.IkeLns(self.server, directory, Terms(), way, authority)
        stack.callback(self.lns.close)
        self.clients = [self._client(number, stack) for number in range(1, count + 1)]
        self.outsider = self._outsider(stack)
        self.watch = stack.enter_context(watched(self.wire.host))
        self.inside = stack.enter_context(watched(self.nat.host))

    def _host(self, name: str, number: int, stack: contextlib.ExitStack) -> Host:
        host = Host(name)
        stack.callback(host.delete)
        stack.callback(kill_all, host)
        self.wire.plug(host, number)
        return host

    def _client(self, number: int, stack: contextlib.ExitStack) -> Client:
        host, address = self.nat.add(f"lac{number}", number), self.nat.address(number)
        lac = DebianLac(
            host,
            self._directory,
            Terms(),
            self.server,
            self.way,
            self._authority,
            number,
            address=address,
            auto="route",
        )
        stack.callback(lac.close)
        return Client(lac, self.way, address)

    def _outsider(self, stack: contextlib.ExitStack) -> Client:
        """One who has no NAT."""
        host = self._host("outsider", OUTSIDER, stack)
        lac = DebianLac(host, self._directory, Terms(), self.server, self.way, self._authority, 99, auto="route")
        stack.callback(lac.close)
        return Client(lac, self.way, lac.address)

    @property
    def watches(self) -> list[Watch]:
        return [self.watch, self.inside]

    def pairs(self, without: Sequence[Client] = ()) -> list[Pair]:
        """Of all but some."""
        return [client.pair(self.server) for client in self.clients if client not in without]

    def log(self) -> str:
        return "".join(client.lac.log() for client in [*self.clients[:2], self.outsider]) + self.lns.log()


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"{shape[0]}-{shape[1]}")
def crowd(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[Crowd]:
    """All up, at once."""
    count, way = request.param
    with contextlib.ExitStack() as stack:
        found = Crowd(tmp_path_factory.mktemp("same-nat"), authority, count, way, stack)
        try:
            found.lns.start()
            for client in found.clients:
                client.lac.start(ready=False)
            for client in found.clients:
                client.wait_up(2 * PATIENCE_S)
        except (AssertionError, Late):
            print(found.log())
            raise
        yield found


@pytest.fixture(autouse=True)
def told(crowd: Crowd) -> Iterator[None]:
    """Nothing was in clear; what everybody said, in case that it is wanted."""
    yield
    print(crowd.log())
    for watch in crowd.watches:
        watch.assert_never_clear()


def test_all_are_up_and_each_has_its_own_traffic_both_ways_across_new_keys(crowd: Crowd) -> None:
    assert len({client.inner for client in crowd.clients}) == len(crowd.clients)
    rows = crowd.lns.sessions()
    assert {row["peer"].split(":")[0] for row in rows} == {f"192.0.2.{NAT_NUMBER}"}
    with lossless(*crowd.pairs(), pace=0.05, gap_s=crowd.way.rekey_gap_s):
        for client in crowd.clients:
            with renewed(client.host):
                client.rekey()
        crowd.lns.charon.rekey(kl2tp.CHILD)
    points.ping_all([(client.host, LNS_ADDRESS, "") for client in crowd.clients])
    points.ping_all([(crowd.server, client.inner, "") for client in crowd.clients])


def test_one_leaves_and_returns_and_nobody_else_notices(crowd: Crowd) -> None:
    leaver = crowd.clients[0]
    with lossless(*crowd.pairs(without=[leaver]), pace=0.05):
        leaver.lac.stop()
        points.wait_no_devices(leaver.host)
        crowd.server.until(lambda: len(points.links(crowd.server)) == len(crowd.clients) - 1, PATIENCE_S)
        leaver.lac.charon.stop()
        leaver.lac.start()
        leaver.wait_up()
        points.ping(leaver.host, LNS_ADDRESS)


def test_one_breaks_down_and_returns_and_nobody_else_notices(crowd: Crowd) -> None:
    """It tells nobody: to the server it is there twice, until it notices."""
    leaver = crowd.clients[-1]
    with lossless(*crowd.pairs(without=[leaver]), pace=0.05):
        kill_all(leaver.host)
        leaver.host.flush_ipsec()
        leaver.lac.start()
        leaver.wait_up()
        points.ping(leaver.host, LNS_ADDRESS)
        crowd.server.until(lambda: len(points.links(crowd.server)) == len(crowd.clients), 2 * PATIENCE_S)


@pytest.fixture
def sink(crowd: Crowd) -> Iterator[Sink]:
    """Where forged packets would arrive."""
    with contextlib.closing(Sink(crowd.server, LNS_ADDRESS)) as found:
        yield found


def test_a_client_that_speaks_into_the_call_of_another_is_not_heard(crowd: Crowd, sink: Sink) -> None:
    victim, attacker = crowd.clients[0], crowd.clients[1]
    call = forged.call_of(victim.host, victim.inner)
    with contextlib.closing(Sender(victim.host, victim.outer, f"192.0.2.{LNS_NUMBER}")) as sender:
        forged.speak(sender, call, sink, b"its own")
    assert sink.got() == b"its own"  # so it is the sender that matters
    before = crowd.lns.dropped("of_another")
    with lossless(*crowd.pairs(), pace=0.05):
        with contextlib.closing(Sender(attacker.host, attacker.outer, f"192.0.2.{LNS_NUMBER}")) as sender:
            sent = forged.attack(sender, call, sink)
        assert not sink.got(1.0)
    assert crowd.lns.dropped("of_another") == before + sent


def test_nor_is_one_who_comes_from_elsewhere(crowd: Crowd, sink: Sink) -> None:
    victim = crowd.clients[0]
    crowd.outsider.lac.start()
    crowd.outsider.wait_up()
    call = forged.call_of(victim.host, victim.inner)
    before = crowd.lns.dropped("of_another")
    with lossless(*crowd.pairs(), crowd.outsider.pair(crowd.server), pace=0.05):
        with contextlib.closing(Sender(crowd.outsider.host, crowd.outsider.outer, f"192.0.2.{LNS_NUMBER}")) as sender:
            sent = forged.attack(sender, call, sink)
        assert not sink.got(1.0)
    assert crowd.lns.dropped("of_another") == before + sent
    crowd.outsider.lac.stop()


def test_the_router_restarts_and_all_go_on_from_other_ports(crowd: Crowd) -> None:
    before = crowd.nat.ports()
    with flowing(*crowd.pairs(), pace=0.05) as flow:
        flow.wait_for()
        crowd.nat.forget(random=True)
        flow.wait_for(within=2 * PATIENCE_S)
    assert not before & crowd.nat.ports()
