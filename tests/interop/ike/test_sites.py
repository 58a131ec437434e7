"""Declared tunnels between two kl2tp, each with a charon: all ways to authenticate, new keys, SAs that end."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.ike.rig import kl2tp
from interop.ike.rig.charon import renewed
from interop.ike.rig.flow import Pair, lossless
from interop.ike.rig.watch import never_clear
from interop.ike.rig.ways import WAYS, Authority, Way
from interop.rig.process import kill_all
from kernel.rig import conf
from kernel.rig.net import Host, Wire

NAMES = ("near", "far")
GRACE_S = 2


class Sites:
    """Two ends of tunnels, one tunnel for each way and encapsulation, each between addresses of its own."""

    def __init__(self, wire: Wire, near: kl2tp.Site, far: kl2tp.Site) -> None:
        self.wire, self.near, self.far = wire, near, far
        self.kinds: list[tuple[Way, str]] = [(way, encapsulation) for way in WAYS for encapsulation in ("ip", "udp")]
        for number in range(1, len(self.kinds) + 1):
            for site in (near, far):
                site.host.add_address("wire", self.address(site, number), 24)

    def address(self, site: kl2tp.Site, number: int) -> str:
        """Of an end, for the tunnel with that number."""
        return f"192.0.2.{10 * number + site.host.number}"

    def tunnel(self, number: int, end: int) -> conf.Tree:
        """One of the tunnels, as one end sees it."""
        way, encapsulation = self.kinds[number - 1]
        one, other = (self.near, self.far) if end == 0 else (self.far, self.near)
        found = conf.tunnel(one.host, other.host, number, encapsulation=encapsulation)
        found |= {"local": self.address(one, number), "remote": self.address(other, number)}
        own, peer = (f"t{number}.{name}.example" for name in (NAMES[end], NAMES[1 - end]))
        ike = one.ike(way, own, peer, grace=f"{GRACE_S}s")
        return found | {"ipsec": {"ike": ike}}

    def number(self, way: Way, encapsulation: str) -> int:
        """Of a tunnel."""
        return self.kinds.index((way, encapsulation)) + 1

    def pair(self, number: int) -> Pair:
        """The addresses in a tunnel."""
        return Pair(self.near.host, conf.inner(number, 1), self.far.host, conf.inner(number, 2))

    def wait_up(self, number: int, within: float = 30.0) -> None:
        """Until the kernel has both ends switched on."""
        for site in (self.near, self.far):
            site.host.until(functools.partial(is_up, site.host, number), within)


def is_up(host: Host, number: int) -> bool:
    """Whether a tunnel's interface is there and switched on."""
    device = host.device(conf.device(number))
    return bool(device and device.up)


def _tell(site: kl2tp.Site) -> None:
    print(site.log())


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Sites]:
    directory: Path = tmp_path_factory.mktemp("sites")
    with contextlib.ExitStack() as stack:
        wire = Wire("wire")
        stack.callback(wire.host.delete)
        ends = []
        for number, name in enumerate(NAMES, 1):
            host = Host(name)
            stack.callback(host.delete)
            stack.callback(kill_all, host)
            wire.plug(host, number)
            ends.append(kl2tp.Site(host, directory, authority))
        found = Sites(wire, *ends)
        for end, site in enumerate(ends):
            site.tunnels = {f"t{n}": found.tunnel(n, end) for n in range(1, len(found.kinds) + 1)}
            stack.callback(site.close)
            stack.callback(_tell, site)
        with never_clear(wire.host):
            for site in ends:
                site.start()
            yield found


@pytest.mark.parametrize("encapsulation", ["ip", "udp"])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_tunnel_comes_up_and_loses_nothing_by_new_keys(sites: Sites, way: Way, encapsulation: str) -> None:
    number = sites.number(way, encapsulation)
    sites.wait_up(number)
    both = (sites.near, sites.far)
    with never_clear(sites.wire.host), lossless(sites.pair(number), gap_s=way.rekey_gap_s):
        for site in both:
            for end in both:
                end.wait_settled(sum(way.version == 2 for way, _ in sites.kinds))
            with renewed(sites.near.host, sites.far.host):
                site.charon.swanctl("--rekey", "--ike", f"kl2tp:t{number}", "--child", kl2tp.CHILD)
