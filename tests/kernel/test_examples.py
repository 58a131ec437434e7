"""Every file in config/ that has tunnels is applied for real, with what it takes for granted made from what it says.

But for those whose keys IKE negotiates: they need a peer, and are tried in tests/interop/ike/test_examples.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.rig import conf
from kernel.rig.net import Host, assert_same, state
from kernel.rig.run import Unit
from kl2tp.config import load
from kl2tp.kernel import rtnl
from kl2tp.model.addr import text
from kl2tp.model.desired import Desired
from kl2tp.model.objects import Route
from kl2tp.model.spec import TunnelSpec

EXAMPLES = [
    path
    for path in sorted((Path(__file__).parents[2] / "config").glob("*.yaml"))
    if (tunnels := load(path).tunnels) and not any(tunnel.ike for tunnel in tunnels)
]
KEYS = "/etc/kl2tp/keys"


class Surroundings:
    """The hosts, addresses, bridges, VRFs and key files that an example needs."""

    def __init__(self, example: Path, directory: Path) -> None:
        (directory / "keys").mkdir()
        self.hosts = {"": Host("home")}
        self.unit = Unit(self.hosts[""], directory)
        self.unit.config.write_text(example.read_text().replace(KEYS, str(directory / "keys")))
        self.desired: Desired = load(self.unit.config)
        for tunnel in self.desired.tunnels:
            self._prepare(tunnel)

    def host(self, name: str) -> Host:
        """A namespace with a device that leads outside."""
        if name not in self.hosts:
            self.hosts[name] = Host(name)
        host = self.hosts[name]
        if not host.device("outside"):
            host.add_device("outside", "dummy")
            for everywhere in (bytes(4), bytes(16)):
                route = Route("", 254, everywhere, 0, 9, device="outside")
                host.request(rtnl.NETLINK_ROUTE, rtnl.route_add(route, host.index("outside")))
        return host

    def _prepare(self, tunnel: TunnelSpec) -> None:
        host = self.host(tunnel.netns)
        length = 64 if len(tunnel.local) == 16 else 24
        if f"address outside {tunnel.local.hex()}/{length}" not in state(host):
            host.add_address("outside", text(tunnel.local), length)
        files = [tunnel.secret_file, tunnel.ipsec.key_file if tunnel.ipsec else ""]
        for file in filter(None, files):
            if not Path(file).exists():
                conf.make_key(Path(file))
        for session in tunnel.sessions:
            interface = session.interface
            place = self.host(tunnel.netns if interface.netns is None else interface.netns)
            if interface.bridge and not place.device(interface.bridge):
                place.add_bridge(interface.bridge)
                place.set_device(interface.bridge, mac=b"\x02\0\0\0\0\x01")
            if interface.vrf and not place.device(interface.vrf):
                place.add_vrf(interface.vrf, 100)

    def states(self) -> dict[str, str]:
        """All that is in all namespaces."""
        return {f"{host.name} {n}": line for host in self.hosts.values() for n, line in state(host).items()}

    def delete(self) -> None:
        for host in self.hosts.values():
            host.delete()


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.name)
def surroundings(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Surroundings]:
    made = Surroundings(request.param, tmp_path)
    yield made
    made.delete()


def test_an_example_is_applied_stays_and_goes_without_a_trace(surroundings: Surroundings) -> None:
    unit = surroundings.unit
    before = surroundings.states()
    answer = unit.apply()
    assert answer["changed"] == len(surroundings.desired.tunnels)
    there = surroundings.states()
    assert sum(" session " in name for name in there) == sum(len(t.sessions) for t in surroundings.desired.tunnels)
    assert unit.direct("plan") == {"operations": [], "problems": {}, "conflicts": []}
    second = unit.apply()
    assert (second["operations"], second["sent"]) == ([], 0)
    assert_same(surroundings.states(), there)
    assert {line["state"] for line in unit.direct("status")["tunnels"]} == {"up"}
    unit.down()
    assert_same(surroundings.states(), before)
