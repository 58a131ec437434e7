"""Fleets made by stencils: neither the kernel nor whoever is in the way can tell them from tunnels made one by one."""

from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig import conf, foreign
from kernel.rig.net import Host, assert_same, identities, state
from kernel.rig.run import Unit
from kl2tp.config import load
from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel import l2tp, xfrm
from kl2tp.kernel.door import Door
from kl2tp.model.objects import Sa, Session, Tunnel
from kl2tp.model.spec import Encap
from kl2tp.reconcile import alike
from kl2tp.reconcile.compile import compile_unit, keying

MANY = 20
NEVER = 1_000_000
IPSEC: conf.Tree = {"ipsec": {}}

FLEETS: dict[str, conf.Tree] = {
    "clear": {"encapsulation": "udp"},
    "udp": {"encapsulation": "udp", **IPSEC},
    "udp-v6": {"encapsulation": "udp", "v6": True, **IPSEC},
    "tunnel-mode": {"encapsulation": "udp", "ipsec": {"mode": "tunnel", "esn": True, "replay_window": 64}},
    "cbc": {"encapsulation": "udp", "ipsec": {"proposal": "aes256-sha512"}},
    "nat": {"encapsulation": "udp", "ipsec": {"nat_traversal": "4500/4500"}},
    "cookies": {"encapsulation": "udp", **IPSEC, "session": {"cookie": "auto8", "sequencing": "both"}},
    "bridge": {"encapsulation": "udp", **IPSEC, "session": {"interface": {"bridge": "br-lan"}}},
    "down": {"encapsulation": "udp", "session": {"l2_sublayer": "none", "interface": {"up": False}}},
}


@pytest.fixture
def stamped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tunnels that were made by a stencil."""
    names: list[str] = []
    stamp = Door.stamp

    def noting(door: Door, stencil: Any, rows: Any, unit: Any) -> Any:
        names.extend(row.name for row in rows)
        return stamp(door, stencil, rows, unit)

    monkeypatch.setattr(Door, "stamp", noting)
    return names


def configure(bench: Bench, wishes: conf.Tree) -> None:
    """A fleet on the near host."""
    if "ipsec" in wishes:
        key = bench.directory / "key"
        wishes = {**wishes, "ipsec": {"key_file": str(key) if key.exists() else conf.make_key(key), **wishes["ipsec"]}}
    trees = {}
    for number in range(1, MANY + 1):
        tree = conf.tunnel(bench.near.host, bench.far.host, number, **wishes)
        interface = tree["sessions"]["lan"]["interface"]
        interface["name"] = f"fleet{number:03}"
        if "bridge" in interface:
            del interface["address"]
        trees[f"fleet{number:03}"] = tree
    conf.write(bench.near.config, trees)


def shown(host: Host) -> dict[str, str]:
    """All but the bridge, whose address changes with its ports."""
    return {name: line for name, line in state(host).items() if name != "device br-lan"}


def test_the_kernel_shows_the_same(bench: Bench, stamped: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    near = bench.near
    near.host.add_device("br-lan", "bridge")
    for name, wishes in FLEETS.items():
        configure(bench, wishes)
        before = shown(near.host)
        with monkeypatch.context() as patch:
            patch.setattr(alike, "FEWEST", NEVER)
            near.apply()
        assert stamped == [], name
        wanted = identities(shown(near.host))
        near.down()
        assert_same(shown(near.host), before, name)
        answer = near.apply()
        assert len(stamped) == MANY, name
        assert_same(identities(shown(near.host)), wanted, name)
        assert {op["verb"] for op in answer["operations"]} == {"+"}
        assert len(answer["operations"]) == sum(counts["+"] for counts in answer["operation_counts"].values())
        again = near.apply()
        assert (again["operations"], again["sent"]) == ([], 0), name
        near.down()
        assert_same(shown(near.host), before, name)
        stamped.clear()


def _objects(unit: Unit, kind: type[Any]) -> list[Any]:
    ring = KeyRing()
    units = [compile_unit(spec, ring, keying(spec, ring)) for spec in load(unit.config).tunnels]
    return [thing for unit in units for thing in unit.objects if isinstance(thing, kind)]


def test_who_is_in_the_way_stays_and_stops_no_other(bench: Bench, stamped: list[str]) -> None:
    near, host = bench.near, bench.near.host
    configure(bench, FLEETS["udp"])
    tunnel, sa, session = (_objects(near, kind)[n] for kind, n in ((Tunnel, 3), (Sa, 2 * 7), (Session, 11)))
    other = Tunnel("", tunnel.id, 5, Encap.UDP, tunnel.local, b"\xc0\0\2\x63", 9999, 9998)
    host.request(l2tp.NETLINK_GENERIC, host.l2tp.tunnel_create(other))
    host.request(xfrm.NETLINK_XFRM, xfrm.sa_add(foreign.association(sa.source, sa.destination, sa.spi, sa.reqid), int))
    host.add_device(session.ifname, "dummy")
    before = state(host)
    for _ in range(2):
        answer = near.direct("apply")
        assert set(answer["problems"]) == {"fleet004", "fleet008", "fleet012"}
        assert all("was not made by kl2tp" in problem for problem in answer["problems"].values())
        assert len(stamped) == MANY  # the second time those in conflict are planned with open eyes
    assert sum("tunnel" in name for name in state(host)) == MANY - 3 + 1
    near.down()
    assert_same(state(host), before)


def test_where_the_local_address_is_missing_every_tunnel_says_so(bench: Bench, stamped: list[str]) -> None:
    near = bench.near
    configure(bench, FLEETS["udp"])
    near.config.write_text(near.config.read_text().replace("local: 192.0.2.1\n", "local: 192.0.2.77\n"))
    before = state(near.host)
    answer = near.direct("apply")
    assert len(stamped) == len(answer["problems"]) == MANY
    assert all("EADDRNOTAVAIL" in problem for problem in answer["problems"].values())
    near.down()
    assert_same(state(near.host), before)
