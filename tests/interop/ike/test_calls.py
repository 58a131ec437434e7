"""Calls in IPsec with keys by IKE: each way to authenticate, between kl2tp and Debian as its users set it up."""

from collections.abc import Iterator

import pytest

from interop.conftest import Network
from interop.ike.rig import debian, kl2tp
from interop.ike.rig.charon import renewed
from interop.ike.rig.ends import DebianLac, DebianLns
from interop.ike.rig.flow import Pair, flowing, lossless
from interop.ike.rig.nat import Nat, behind
from interop.ike.rig.watch import never_clear, watched
from interop.ike.rig.ways import IKEV1_PSK, IKEV2_PSK, WAYS, Authority, Way
from interop.rig import xl2tpd
from interop.rig.call import Call
from interop.rig.terms import LNS_ADDRESS, Terms

SERVERS = {"debian": DebianLns, "kl2tp": kl2tp.IkeLns}
CLIENTS = {"debian": DebianLac, "kl2tp": kl2tp.IkeLac}
DEBIANS = ("debian", "debian")
PAIRS = [DEBIANS, ("debian", "kl2tp"), ("kl2tp", "debian"), ("kl2tp", "kl2tp")]
"""Who calls whom. The first is there to prove the bench: strongSwan, xl2tpd and pppd on both sides."""


def named(value: object) -> str:
    """A parameter as part of a test's name."""
    return "-to-".join(value) if isinstance(value, tuple) else str(value)


def child(pair: tuple[str, str], way: Way) -> str:
    """The name of the client's IPsec SAs."""
    return debian.child(way) if pair[0] == "debian" else kl2tp.CHILD


@pytest.fixture
def it(network: Network, authority: Authority, pair: tuple[str, str], way: Way) -> Iterator[Call]:
    """A call that is to be made."""
    client, server = network.add("lac"), network.add("lns")
    lns = SERVERS[pair[1]](server, network.directory, Terms(), way, authority)
    lac = CLIENTS[pair[0]](client, network.directory, Terms(), server, way, authority)
    with Call(lns, lac).told() as found:
        yield found


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_a_call_is_encrypted_and_loses_nothing_by_new_keys(
    network: Network, it: Call, pair: tuple[str, str], way: Way
) -> None:
    assert isinstance(it.lac, DebianLac | kl2tp.IkeLac)
    with never_clear(network.wire.host):
        it.begin()
        it.wait_up()
        it.assert_carries()
        for end in (it.lac, it.lns):
            if isinstance(end, kl2tp.Protected) and way.version == 2:
                end.wait_settled()
        with lossless(through(it), gap_s=way.rekey_gap_s), renewed(it.lac.host, it.lns.host):
            it.lac.charon.rekey(child(pair, way))


def through(it: Call) -> Pair:
    """Both ends of a call that is up."""
    return Pair(it.lac.host, it.address, it.lns.host, LNS_ADDRESS)


@pytest.mark.parametrize("way", [IKEV2_PSK, IKEV1_PSK], ids=str)
@pytest.mark.parametrize("server", ["debian", "kl2tp"])
def test_a_caller_behind_a_nat_that_restarts(network: Network, authority: Authority, server: str, way: Way) -> None:
    host = network.add("lns")
    with behind(Nat(network.wire, "nat", 100, random=True)) as nat:
        client = nat.add("lac", 5)
        lns = SERVERS[server](host, network.directory, Terms(), way, authority)
        lac = DebianLac(client, network.directory, Terms(), host, way, authority, address=nat.address(5))
        with never_clear(nat.host, network.wire.host), Call(lns, lac).told() as it:
            it.begin()
            it.wait_up()
            with lossless(through(it)):
                it.assert_carries()
            before = nat.ports()
            assert len(before) == 2  # of IKE, and of what comes after it has noticed the NAT
            assert not before & {500, 4500}
            with flowing(through(it)) as flow:
                flow.wait_for()
                nat.forget(random=True)
                flow.wait_for()
        assert not nat.ports() & before


def test_the_observer_sees_what_is_in_clear(network: Network) -> None:
    client, server = network.add("lac"), network.add("lns")
    lns = xl2tpd.Lns(server, network.directory, Terms())
    lac = xl2tpd.Lac(client, network.directory, Terms(), server)
    with watched(network.wire.host) as watch, Call(lns, lac).told() as it:
        it.begin()
        it.wait_up()
        assert watch.clear
