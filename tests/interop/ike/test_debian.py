"""Debian's strongSwan, xl2tpd and pppd on both sides, as their users set them up: proves the bench, not kl2tp."""

from collections.abc import Iterator

import pytest

from interop.conftest import Network
from interop.ike.rig import debian
from interop.ike.rig.charon import renewed
from interop.ike.rig.ends import DebianLac, DebianLns
from interop.ike.rig.flow import Pair, lossless
from interop.ike.rig.nat import Nat, behind
from interop.ike.rig.watch import never_clear, watched
from interop.ike.rig.ways import IKEV1_PSK, IKEV2_PSK, WAYS, Authority, Way
from interop.rig import xl2tpd
from interop.rig.call import Call
from interop.rig.terms import LNS_ADDRESS, Terms


@pytest.fixture
def it(network: Network, authority: Authority, way: Way) -> Iterator[Call]:
    """A call that is to be made."""
    client, server = network.add("lac"), network.add("lns")
    lns = DebianLns(server, network.directory, Terms(), way, authority)
    lac = DebianLac(client, network.directory, Terms(), server, way, authority)
    with Call(lns, lac).told() as found:
        yield found


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_call_between_debians_is_encrypted_and_survives_new_keys(network: Network, it: Call, way: Way) -> None:
    assert isinstance(it.lac, DebianLac)
    with never_clear(network.wire.host):
        it.begin()
        it.wait_up()
        it.assert_carries()
        pair = Pair(it.lac.host, it.address, it.lns.host, LNS_ADDRESS)
        with lossless(pair), renewed(it.lac.host, it.lns.host):
            it.lac.charon.rekey(debian.child(way))


def test_the_observer_sees_what_is_in_clear(network: Network) -> None:
    client, server = network.add("lac"), network.add("lns")
    lns = xl2tpd.Lns(server, network.directory, Terms())
    lac = xl2tpd.Lac(client, network.directory, Terms(), server)
    with watched(network.wire.host) as watch, Call(lns, lac).told() as it:
        it.begin()
        it.wait_up()
        assert watch.clear


@pytest.mark.parametrize("way", [IKEV2_PSK, IKEV1_PSK], ids=str)
def test_a_caller_behind_a_nat(network: Network, authority: Authority, way: Way) -> None:
    server = network.add("lns")
    with behind(Nat(network.wire, "nat", 100, random=True)) as nat:
        client = nat.add("lac", 5)
        lns = DebianLns(server, network.directory, Terms(), way, authority)
        lac = DebianLac(client, network.directory, Terms(), server, way, authority, address=nat.address(5))
        with never_clear(nat.host, network.wire.host), Call(lns, lac).told() as it:
            it.begin()
            it.wait_up()
            with lossless(Pair(client, it.address, server, LNS_ADDRESS)):
                it.assert_carries()
        ports = nat.ports()
        assert len(ports) == 2  # of IKE, and of what comes after it has noticed the NAT
        assert not ports & {500, 4500}
