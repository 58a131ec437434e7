"""What somebody else does to an accepted call on the LNS is made good, and the caller notices nothing of it."""

import contextlib
import subprocess
from collections.abc import Iterator

import pytest

from interop.conftest import Network
from interop.rig import call
from interop.rig.call import Call
from interop.rig.kl2tp import Kl2tp
from interop.rig.terms import Terms
from kernel.rig.net import Late

DAMAGE = {
    "addresses": "ip addr flush dev {device}",
    "mtu": "ip link set {device} mtu 1000",
    "down": "ip link set {device} down",
    "clamp": "nft delete table inet kl2tp",
    "session": "ip l2tp del session tunnel_id {tunnel} session_id {session}",
    "tunnel": "ip l2tp del tunnel tunnel_id {tunnel}",
    "device": "ip link del {device}",
    "name": "ip link set {device} name other || (ip link set {device} down; ip link set {device} name other)",
}


@pytest.fixture
def up(network: Network) -> Iterator[tuple[Call, Kl2tp]]:
    """A call from xl2tpd that is up."""
    hosts = network.add("lac"), network.add("lns")
    with call.between("xl2tpd", "kl2tp", hosts, network.directory, Terms()).told() as found:
        found.begin()
        found.wait_up()
        assert isinstance(found.lns, Kl2tp)
        yield found, found.lns


def _carries(it: Call) -> bool:
    """Packets pass both ways again."""
    with contextlib.suppress(Late, AssertionError):
        it.assert_carries()
        return True
    return False


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_repaired_and_the_call_goes_on(up: tuple[Call, Kl2tp], what: str) -> None:
    it, lns = up
    [before] = lns.sessions()
    tunnel, session = before["session"].split(".")
    command = DAMAGE[what].format(device=before["interface"], tunnel=tunnel, session=session)
    with lns.host.entered():
        subprocess.run(command, shell=True, check=True)
    it.until(lambda: _carries(it))
    [after] = lns.sessions()
    assert {key: after[key] for key in ("session", "address", "interface", "mtu", "since")} == {
        key: before[key] for key in ("session", "address", "interface", "mtu", "since")
    }
    assert not lns.sessions(ended=True)
