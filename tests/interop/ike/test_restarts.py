"""strongSwan or kl2tp is killed, or both; strongSwan hangs: what has SAs goes on, all converges, never in clear.

It hangs for a minute with KL2TP_SOAK in the environment, which `make soak-ike` sets.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.ike.rig import kl2tp
from interop.ike.rig.charon import associations
from interop.ike.rig.ends import DebianLac
from interop.ike.rig.flow import Flow, Pair, flowing, lossless
from interop.ike.rig.watch import Watch, watched
from interop.ike.rig.ways import IKEV2_PSK, Authority
from interop.rig import points
from interop.rig.process import PATIENCE_S, kill_all
from interop.rig.terms import LNS_ADDRESS, Terms
from kernel.rig import conf
from kernel.rig.net import Host, Wire

FROZEN_S = 60.0 if "KL2TP_SOAK" in os.environ else 15.0
"""For so long strongSwan hangs."""
_FIRST_REQID = 0x10000
"""Lower ones are those of clients: charon has given them."""
PATIENT = ""
"""strongSwan's own patience: a peer is given up after 165 seconds."""


class Hub(kl2tp.IkeLns):
    """A kl2tp that takes calls, and has a tunnel."""

    tunnel: conf.Tree

    def tree(self) -> conf.Tree:
        return super().tree() | {"tunnels": {"branch": self.tunnel}}


class World:
    """A hub, a branch with a tunnel to it, and a caller: strongSwan, xl2tpd, pppd."""

    def __init__(self, wire: Wire, hosts: list[Host], directory: Path, authority: Authority) -> None:
        self.wire = wire
        hub, branch, caller = hosts
        self.hub = Hub(hub, directory, Terms(echo_failures=30), IKEV2_PSK, authority, more=PATIENT, keeper=True)
        self.branch = kl2tp.Site(branch, directory, authority, more=PATIENT)
        self.caller = DebianLac(caller, directory, Terms(echo_failures=30), hub, IKEV2_PSK, authority, more=PATIENT)
        self.hub.tunnel = self._tunnel(self.hub, branch)
        self.branch.tunnels = {"hub": self._tunnel(self.branch, hub)}
        self.address = ""

    @staticmethod
    def _tunnel(one: kl2tp.Protected, other: Host) -> conf.Tree:
        ike = one.ike(IKEV2_PSK, "", grace="20s")
        return conf.tunnel(one.host, other, 1, encapsulation="udp", ipsec={"ike": ike})

    def start(self) -> None:
        """All."""
        for one in (self.hub, self.branch, self.caller):
            one.start()
        self.branch.daemon.wait_up()
        (ends,) = points.wait_links(self.caller.host).values()
        self.address = ends.local

    @property
    def tunnel_pair(self) -> Pair:
        return Pair(self.hub.host, conf.inner(1, 1), self.branch.host, conf.inner(1, 2))

    @property
    def call_pair(self) -> Pair:
        return Pair(self.caller.host, self.address, self.hub.host, LNS_ADDRESS)

    @property
    def pairs(self) -> list[Pair]:
        return [self.tunnel_pair, self.call_pair]

    def wait_converged(self, within: float = 2 * PATIENCE_S) -> None:
        """Until both ends of the tunnel have one pair of SAs, the same, which their charons know. Raises Late.

        Not so the caller: its charon asks nobody whether he lives, so it goes on with what the kernels have.
        """
        self.hub.host.until(self._agree, within)

    def _agree(self) -> bool:
        """Whether the tunnel has the same pair everywhere."""
        ends = [tunnel_spis(one.host) for one in (self.hub, self.branch)]
        return len(ends[0]) == 2 and ends[0] == ends[1] and ends[0] <= known(self.hub) & known(self.branch)

    def log(self) -> str:
        return "".join(one.log() for one in (self.hub, self.branch, self.caller))


def known(one: kl2tp.Protected | DebianLac) -> set[int]:
    """The SPIs that a charon knows."""
    words = one.charon.swanctl("--list-sas", "--raw")
    return {int(spi, 16) for spi in re.findall(r"\bspi-(?:in|out)=([0-9a-f]+)", words)}


def tunnel_spis(host: Host) -> set[int]:
    """The SPIs of the declared tunnel's SAs."""
    return {spi for spi, reqid in associations(host).items() if reqid >= _FIRST_REQID}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("restarts")
    with contextlib.ExitStack() as stack:
        wire = Wire("wire")
        stack.callback(wire.host.delete)
        hosts = []
        for number, name in enumerate(("hub", "branch", "caller"), 1):
            hosts.append(Host(name))
            stack.callback(hosts[-1].delete)
            stack.callback(kill_all, hosts[-1])
            wire.plug(hosts[-1], number)
        found = World(wire, hosts, directory, authority)
        for one in (found.hub, found.branch, found.caller):
            stack.callback(one.close)
        try:
            found.start()
        except BaseException:
            print(found.log())
            raise
        yield found


@pytest.fixture(autouse=True)
def watch(world: World) -> Iterator[Watch]:
    """Nothing is in clear, whatever happens."""
    with watched(world.wire.host) as found:
        yield found
    print(world.log())
    found.assert_never_clear()


@pytest.fixture
def up(world: World) -> Iterator[Flow]:
    """All is well before, and again after; between it is counted what is lost."""
    with flowing(*world.pairs) as flow:
        flow.wait_for()
        yield flow
        flow.wait_for(within=2 * PATIENCE_S)
        world.wait_converged()
        flow.wait_for()
    print(*map(str, flow.losses), f"of {flow.total}", sep="\n")


def test_strongswan_is_killed(world: World, up: Flow) -> None:
    with lossless(*world.pairs):
        world.hub.charon.kill()
    world.hub.charon.start()
    world.hub.host.until(lambda: known(world.hub))


def test_kl2tp_is_killed(world: World) -> None:
    with lossless(*world.pairs) as flow:
        world.hub.kill_daemon()
        flow.wait_for(20)
        world.hub.start()
        flow.wait_for(20)
    world.wait_converged()


def test_both_are_killed(world: World, up: Flow) -> None:
    with lossless(*world.pairs) as flow:
        world.hub.charon.kill()
        world.hub.kill_daemon()
        flow.wait_for(20)
    world.hub.start()
    world.hub.host.until(lambda: known(world.hub))


def test_strongswan_hangs_for_a_while(world: World) -> None:
    """A kl2tp that is started in the midst of it does its work all the same."""
    packets = int(FROZEN_S / 3 / 0.02)
    with lossless(*world.pairs) as flow:
        world.hub.charon.freeze()
        flow.wait_for(packets, FROZEN_S)
        assert world.hub.daemon.call("status")["counts"]["up"] == 1
        world.hub.kill_daemon()
        world.hub.start()
        flow.wait_for(packets, FROZEN_S)
        assert world.hub.daemon.call("status")["counts"]["up"] == 1
        flow.wait_for(packets, FROZEN_S)
        world.hub.charon.thaw()
        flow.wait_for(20)
    world.wait_converged()
    assert [row["state"] for row in world.hub.sessions()] == ["up"]
