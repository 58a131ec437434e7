"""How calls end: hung up, stopped or killed, on either side; and that the next one comes up as if nothing had been."""

from collections.abc import Iterator

import pytest

from interop.conftest import Network
from interop.rig import call, kl2tp, points
from interop.rig.call import PAIRS, Call
from interop.rig.terms import Terms

pytestmark = [pytest.mark.parametrize("pair", PAIRS[:-1], ids="-to-".join)]
sides = pytest.mark.parametrize("side", ["lac", "lns"])


@pytest.fixture
def it(network: Network, pair: tuple[str, str]) -> Iterator[Call]:
    """A call that is up."""
    hosts = network.add("lac"), network.add("lns")
    with call.between(*pair, hosts, network.directory, Terms()).told() as found:
        found.begin()
        found.wait_up()
        yield found


@sides
def test_hung_up(it: Call, side: str) -> None:
    before = devices(it)
    getattr(it, side).hang_up()
    it.until(lambda: not before & devices(it))
    if isinstance(it.lns, kl2tp.Lns):
        ended = it.lns.sessions(ended=True)[0]
        assert ended["user"] == it.lac.user
        print(ended["reason"])
        assert "disconnected by the operator" in ended["reason"] or "peer" in ended["reason"]
    if isinstance(it.lac, kl2tp.Lac):
        it.wait_up()  # the call is to persist
        it.assert_carries()
    elif isinstance(it.lns, kl2tp.Lns):
        assert it.lns.sessions() == []


@sides
def test_stopped(it: Call, side: str) -> None:
    end, other = (it.lac, it.lns) if side == "lac" else (it.lns, it.lac)
    end.stop()
    for host in (end.host, other.host):
        points.wait_no_devices(host)
    points.wait_no_tunnels(end.host)


@sides
def test_killed(it: Call, side: str) -> None:
    end, other = (it.lac, it.lns) if side == "lac" else (it.lns, it.lac)
    end.kill()
    print(f"noticed after {points.wait_no_devices(other.host):.1f} s")
    points.wait_no_devices(end.host)


@sides
def test_killed_and_back_at_once(it: Call, side: str) -> None:
    end = getattr(it, side)
    end.kill()
    end.close()
    end.start()
    if side == "lns" and not isinstance(it.lac, kl2tp.Lac):
        points.wait_no_devices(it.lac.host)
        it.lac.close()
        it.lac.start()
    it.wait_up()
    it.assert_carries()


def devices(it: Call) -> set[tuple[str, int]]:
    """The PPP devices of both hosts."""
    return {(end.host.name, number) for end in (it.lac, it.lns) for number in points.ppp_devices(end.host).values()}
