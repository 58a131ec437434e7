"""Many tunnels that get new keys every few seconds, under constant traffic: no packet is lost, none is in clear.

A hundred tunnels for two minutes: KL2TP_SOAK=120 (seconds) in the environment, which `make soak-ike` sets.
"""

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.ike.rig import kl2tp
from interop.ike.rig.charon import associations
from interop.ike.rig.flow import Pair, lossless
from interop.ike.rig.watch import never_clear
from interop.ike.rig.ways import IKEV2_PSK, Authority
from interop.rig.process import kill_all
from kernel.rig import conf
from kernel.rig.net import Host, Wire

SOAK_S = float(os.environ.get("KL2TP_SOAK", "20"))
TUNNELS = 100 if SOAK_S >= 60 else 20
REKEY_S, FAR_REKEY_S = 5, 3600
"""Of either end. If both had so short a time, they would often begin at the same moment, which lasts seconds here."""
PATIENT = ""
"""strongSwan repeats what is not answered within four seconds, as it does unless told otherwise."""
PACE_S = 0.2
"""Between two packets of one direction of one tunnel."""
_WITHIN_S = 120.0
_LOG = 50_000
"""Characters of each end's log, should anybody want them."""


def outer(number: int, end: int) -> str:
    """The address of an end, 1 or 2, of the tunnel with that number."""
    return f"198.18.{end}.{number}"


def tunnel(site: kl2tp.Site, other: Host, number: int) -> conf.Tree:
    """One of the tunnels."""
    ends = (1, 2) if site.host.number < other.number else (2, 1)
    near = ends[0] == 1
    ike = site.ike(IKEV2_PSK, "", rekey=f"{REKEY_S if near else FAR_REKEY_S}s", initiate="yes" if near else "no")
    found = conf.tunnel(site.host, other, number, encapsulation="udp", ipsec={"ike": ike})
    return found | {"local": outer(number, ends[0]), "remote": outer(number, ends[1])}


class Fleet:
    """Two ends of many tunnels."""

    def __init__(self, wire: Wire, near: kl2tp.Site, far: kl2tp.Site) -> None:
        self.wire, self.near, self.far = wire, near, far
        for site, other, end in ((near, far, 1), (far, near, 2)):
            for number in range(1, TUNNELS + 1):
                site.host.add_address("wire", outer(number, end), 15)
            site.tunnels = {f"t{number}": tunnel(site, other.host, number) for number in range(1, TUNNELS + 1)}

    @property
    def pairs(self) -> list[Pair]:
        """The addresses in the tunnels."""
        return [
            Pair(self.near.host, conf.inner(number, 1), self.far.host, conf.inner(number, 2))
            for number in range(1, TUNNELS + 1)
        ]


def _tell(site: kl2tp.Site) -> None:
    print(site.log()[-_LOG:])


@pytest.fixture
def fleet(tmp_path: Path, authority: Authority) -> Iterator[Fleet]:
    with contextlib.ExitStack() as stack:
        wire = Wire("wire")
        stack.callback(wire.host.delete)
        sites = []
        for number, name in enumerate(("near", "far"), 1):
            host = Host(name)
            stack.callback(host.delete)
            stack.callback(kill_all, host)
            wire.plug(host, number)
            sites.append(kl2tp.Site(host, tmp_path, authority, more=PATIENT))
            stack.callback(sites[-1].close)
        found = Fleet(wire, *sites)
        for site in sites:
            stack.callback(_tell, site)
        with never_clear(wire.host):
            for site in reversed(sites):  # who is called first, so that nobody calls in vain
                site.start()
            yield found


def test_new_keys_every_few_seconds_lose_no_packet(fleet: Fleet) -> None:
    for site in (fleet.near, fleet.far):
        site.daemon.wait_up(_WITHIN_S)
    seen: dict[int, int] = {}
    with lossless(*fleet.pairs, pace=PACE_S) as flow:
        end = time.monotonic() + SOAK_S
        while time.monotonic() < end:
            flow.wait_for(10)
            seen |= associations(fleet.near.host)
    counts = Counter(seen.values())
    print(f"{len(counts)} tunnels with {len(seen) // 2} pairs of SAs in {SOAK_S:.0f} s")
    assert len(counts) == TUNNELS
    assert min(counts.values()) >= 2 * SOAK_S / REKEY_S / 2
    for site in (fleet.near, fleet.far):
        counted = site.daemon.call("status")["counts"]
        assert counted["up"] == TUNNELS
