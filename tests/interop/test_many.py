"""Many callers at once."""

from collections.abc import Iterator

import pytest

from interop.conftest import Network
from interop.rig import kl2tp, points, xl2tpd
from interop.rig.call import SERVERS
from interop.rig.process import PATIENCE_S
from interop.rig.terms import LNS_ADDRESS, Terms, user
from kernel.rig.net import Host

CALLERS = 50
SHARED = 10


@pytest.fixture
def lns(network: Network) -> Iterator[kl2tp.Lns]:
    """A kl2tp that waits for calls."""
    found = kl2tp.Lns(network.add("lns"), network.directory, Terms())
    found.start()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def lacs(network: Network, lns: kl2tp.Lns) -> Iterator[list[xl2tpd.Lac]]:
    """Fifty xl2tpds on as many hosts, not started yet."""
    hosts = [network.add(f"lac{number}") for number in range(1, CALLERS + 1)]
    found = [xl2tpd.Lac(host, network.directory, Terms(), lns.host, n) for n, host in enumerate(hosts, 1)]
    try:
        yield found
    finally:
        for lac in found:
            lac.close()


def test_fifty_callers_from_fifty_addresses_at_once(lns: kl2tp.Lns, lacs: list[xl2tpd.Lac]) -> None:
    for lac in lacs:
        lac.start(ready=False)
    points.wait_links(lns.host, CALLERS, 4 * PATIENCE_S)
    given = {lac.user: given_address(lac.host) for lac in lacs}
    assert len(set(given.values())) == CALLERS
    rows = lns.sessions()
    assert {row["user"]: row["address"].split("/")[0] for row in rows} == given
    assert {row["peer"].split(":")[0] for row in rows} == {f"192.0.2.{lac.host.number}" for lac in lacs}
    points.ping_all([(lac.host, LNS_ADDRESS, "") for lac in lacs])
    print(f"{points.iperf(lacs[0].host, lns.host, LNS_ADDRESS):.0f} Mbit/s")
    half = [user(n) for n in range(1, CALLERS // 2 + 1)]
    assert len(lns.daemon.call("disconnect", patterns=half)["sessions"]) == len(half)
    points.wait_links(lns.host, CALLERS - len(half))
    points.ping_all([(lac.host, LNS_ADDRESS, "") for lac in lacs[len(half) :]])
    lns.hang_up()
    points.wait_no_devices(lns.host)
    for lac in lacs:
        points.wait_no_devices(lac.host)
    assert lns.sessions() == []


def given_address(host: Host) -> str:
    """What a caller got."""
    (ends,) = points.wait_links(host).values()
    assert ends.peer == LNS_ADDRESS
    return ends.local


@pytest.mark.parametrize("server", ["xl2tpd", "kl2tp"])
def test_calls_to_one_server_share_a_tunnel(network: Network, server: str) -> None:
    hosts = network.add("lac"), network.add("lns")
    lns = SERVERS[server](hosts[1], network.directory, Terms())
    lac = kl2tp.Lac(hosts[0], network.directory, Terms(), hosts[1], calls=SHARED)
    try:
        lns.start()
        lac.start()
        found = points.wait_links(lac.host, SHARED, 2 * PATIENCE_S)
        assert found.keys() == {kl2tp.CALL.format(n) for n in range(1, SHARED + 1)}
        assert len({ends.local for ends in found.values()}) == SHARED
        points.ping_all([(lac.host, LNS_ADDRESS, device) for device in found])
        assert points.tunnels(lac.host) == 1
    except BaseException:
        print(lac.log(), lns.log())
        raise
    finally:
        lac.close()
        lns.close()
