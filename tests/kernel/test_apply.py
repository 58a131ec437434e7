"""Apply, apply again, plan and down, for everything that a configuration can say."""

import copy
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig import conf
from kernel.rig.net import Host, assert_same, identities, state
from kernel.rig.run import Unit
from kernel.rig.traffic import exchanges, traffic
from kl2tp.kernel import l2tp
from kl2tp.model.ciphers import CIPHERS

Tree = dict[str, Any]
IPSEC: Tree = {"ipsec": {}}
"""Stands for an `ipsec` section with the key file of the test."""


def _protected(**more: Any) -> Tree:
    return {"ipsec": more}


VARIANTS: dict[str, Tree] = {
    "clear-ip": {},
    "clear-udp": {"encapsulation": "udp"},
    "clear-ip-v6": {"v6": True},
    "clear-udp-v6": {"encapsulation": "udp", "v6": True},
    **{
        f"{encap}-{'v6' if v6 else 'v4'}-{mode}": {"encapsulation": encap, "v6": v6, **_protected(mode=mode)}
        for encap, v6, mode in itertools.product(("ip", "udp"), (False, True), ("transport", "tunnel"))
    },
    **{name: _protected(proposal=name) for name in CIPHERS},
    "esn": _protected(esn=True, replay_window=128),
    "replay-window": _protected(replay_window=32),
    "no-udp-checksum": {"encapsulation": "udp", "checksum": False},
    "no-udp-checksum-v6": {"encapsulation": "udp", "checksum": False, "v6": True},
    "cookie-8": {**IPSEC, "session": {"cookie": "auto8"}},
    "cookie-4": {**IPSEC, "session": {"cookie": "auto4"}},
    "sequencing": {"session": {"sequencing": "both", "reorder": "20ms"}},
    "no-sublayer": {"session": {"l2_sublayer": "none"}},
    "mac": {"session": {"interface": {"mac": "02:00:5e:00:00:07"}}},
    "mtu": {"session": {"interface": {"mtu": 1200}}},
    "mss": {"session": {"interface": {"mss": 1100}}},
}


def configure(bench: Bench, number: int = 1, **wishes: Any) -> None:
    """Write both ends of a tunnel down."""
    if "ipsec" in wishes:
        key = bench.directory / "key"
        if not key.exists():
            conf.make_key(key)
        wishes["ipsec"] = {"key_file": str(key), **wishes["ipsec"]}
    for one, other in ((bench.near, bench.far), (bench.far, bench.near)):
        ours = wishes
        if one is bench.far and "mac" in str(wishes):
            ours = {**wishes, "session": {}}
        conf.write(one.config, {"peer": conf.tunnel(one.host, other.host, number, **ours)})


@pytest.mark.parametrize("wishes", VARIANTS.values(), ids=VARIANTS)
def test_applied_it_carries_packets_stays_and_goes_without_a_trace(bench: Bench, wishes: Tree) -> None:
    configure(bench, **wishes)
    before = [state(unit.host) for unit in (bench.near, bench.far)]
    with bench.wire.watched() as capture:
        assert bench.near.apply()["operations"]
        bench.far.apply()
        exchanges(bench.near.host, bench.far.host, 1)
        for unit in (bench.near, bench.far):
            _assert_nothing_to_do(unit)
            unit.down()
        if "ipsec" in wishes:
            capture.assert_never_clear(at_least=10)
        else:
            assert len(capture.collect().clear) >= 10
    for unit, lines in zip((bench.near, bench.far), before, strict=True):
        assert_same(state(unit.host), lines)


def _assert_nothing_to_do(unit: Unit) -> None:
    there = state(unit.host)
    assert unit.direct("plan") == {"operations": [], "problems": {}, "conflicts": []}
    answer = unit.apply()
    assert (answer["operations"], answer["sent"]) == ([], 0)
    assert_same(state(unit.host), there)


# -- where things are ------------------------------------------------------------------------------------------------


@pytest.fixture
def customer(bench: Bench) -> Iterator[Host]:
    """One more namespace."""
    host = Host("customer")
    yield host
    host.delete()


def apply_both(bench: Bench, near: Tree) -> None:
    """Apply a tunnel of which the near end is as given; a second time does nothing."""
    conf.write(bench.near.config, {"peer": near})
    conf.write(bench.far.config, {"peer": conf.tunnel(bench.far.host, bench.near.host, 1)})
    for unit in (bench.near, bench.far):
        unit.apply()
        _assert_nothing_to_do(unit)


def test_an_interface_joins_its_bridge(bench: Bench) -> None:
    host = bench.near.host
    host.add_bridge("br-lan")
    host.add_address("br-lan", conf.inner(1, 1), 24)
    tunnel = conf.tunnel(host, bench.far.host, 1, session={"interface": {"bridge": "br-lan"}})
    del tunnel["sessions"]["lan"]["interface"]["address"]
    apply_both(bench, tunnel)
    exchanges(host, bench.far.host, 1)
    bench.near.down()
    assert host.device("br-lan")


def test_an_interface_joins_its_vrf_and_its_routes_the_table_of_it(bench: Bench) -> None:
    host = bench.near.host
    host.add_vrf("blue", 77)
    wish = {"interface": {"vrf": "blue", "routes": ["10.99.0.0/16", {"to": "10.98.0.0/16", "via": conf.inner(1, 2)}]}}
    apply_both(bench, conf.tunnel(host, bench.far.host, 1, session=wish))
    assert sum(name.startswith("route") and "table 77 " in name for name in state(host)) == 2


def test_an_interface_moves_to_its_namespace(bench: Bench, customer: Host) -> None:
    apply_both(bench, conf.tunnel(bench.near.host, bench.far.host, 1, session={"interface": {"netns": "customer"}}))
    assert bench.near.host.device(conf.device(1)) is None
    exchanges(customer, bench.far.host, 1)
    before_down = customer.device(conf.device(1))
    assert before_down
    assert before_down.alias == "kl2tp:peer/lan"
    bench.near.down()
    assert customer.device(conf.device(1)) is None
    assert "nftables table" not in state(customer)


def test_interfaces_of_one_name_move_to_their_namespaces(bench: Bench, customer: Host) -> None:
    """Each customer calls its interface the same, and so is called one of the host's own."""
    near = bench.near
    other = Host("other")
    try:
        near.host.add_device("lan0", "dummy")
        before = state(near.host)
        trees = {}
        for number, place in ((1, "customer"), (2, "other")):
            wish = {"interface": {"name": "lan0", "netns": place}}
            trees[f"peer{number}"] = conf.tunnel(near.host, bench.far.host, number, encapsulation="udp", session=wish)
        conf.write(near.config, trees)
        near.apply()
        _assert_nothing_to_do(near)
        assert [_alias(host) for host in (near.host, customer, other)] == ["", "kl2tp:peer1/lan", "kl2tp:peer2/lan"]
        near.host.request(l2tp.NETLINK_GENERIC, near.host.l2tp.tunnel_delete(1001))
        assert near.apply()["operations"]
        _assert_nothing_to_do(near)
        near.down()
        assert (customer.device("lan0"), other.device("lan0")) == (None, None)
        assert_same(state(near.host), before)
    finally:
        other.delete()


def _alias(host: Host) -> str | None:
    device = host.device("lan0")
    return device.alias if device else None


def test_a_tunnel_lives_in_its_namespace_and_its_interface_comes_out_of_it(bench: Bench, customer: Host) -> None:
    before = state(bench.near.host)
    tunnel = conf.tunnel(bench.near.host, bench.far.host, 1, netns="near", session={"interface": {"netns": "default"}})
    outside = Unit(customer, bench.directory)
    conf.write(outside.config, {"peer": tunnel})
    conf.write(bench.far.config, {"peer": conf.tunnel(bench.far.host, bench.near.host, 1)})
    for unit in (outside, bench.far):
        unit.apply()
        _assert_nothing_to_do(unit)
    exchanges(customer, bench.far.host, 1)
    outside.down()
    assert_same(state(bench.near.host), before)
    assert customer.device(conf.device(1)) is None


def test_a_peer_behind_a_gateway_is_reached_by_a_route_of_its_own(bench: Bench) -> None:
    bench.far.host.add_device("inside", "dummy")
    bench.far.host.add_address("inside", "198.51.100.9", 32)
    near = conf.tunnel(bench.near.host, bench.far.host, 1, route={"via": "192.0.2.2"})
    far = conf.tunnel(bench.far.host, bench.near.host, 1)
    near["remote"] = far["local"] = "198.51.100.9"
    conf.write(bench.near.config, {"peer": near})
    conf.write(bench.far.config, {"peer": far})
    before = state(bench.near.host)
    for unit in (bench.near, bench.far):
        unit.apply()
        _assert_nothing_to_do(unit)
    exchanges(bench.near.host, bench.far.host, 1)
    bench.near.down()
    assert_same(state(bench.near.host), before)


def test_routes_of_a_session_lead_into_it(bench: Bench) -> None:
    routes = ["10.90.0.0/16", {"to": "10.91.0.0/16", "via": conf.inner(1, 2), "metric": 50}]
    before = state(bench.near.host)
    apply_both(bench, conf.tunnel(bench.near.host, bench.far.host, 1, session={"interface": {"routes": routes}}))
    assert sum(name.startswith("route") for name in state(bench.near.host)) == 2
    bench.near.down()
    assert_same(state(bench.near.host), before)


def test_what_carries_no_mark_is_not_let_out_by_a_marked_tunnel(bench: Bench) -> None:
    configure(bench, ipsec={"mark": "0x10/0xff"})
    with bench.wire.watched() as capture, traffic(bench.near.host, bench.far.host, 1):
        for unit in (bench.near, bench.far):
            unit.apply()
            _assert_nothing_to_do(unit)
        lines = state(bench.near.host)
        assert sum(name.startswith("policy") and name.endswith("(16, 255)") for name in lines) == 4
    capture.assert_never_clear(at_least=0)


def test_two_sessions_share_a_tunnel(bench: Bench) -> None:
    for one, other in ((bench.near, bench.far), (bench.far, bench.near)):
        tunnel = conf.tunnel(one.host, other.host, 1)
        second = conf.tunnel(one.host, other.host, 2)["sessions"]["lan"]
        tunnel["sessions"]["dmz"] = {"ids": "5/5", **second}
        conf.write(one.config, {"peer": tunnel})
        one.apply()
    exchanges(bench.near.host, bench.far.host, 1)
    exchanges(bench.near.host, bench.far.host, 2)
    _assert_nothing_to_do(bench.near)


# -- changes ---------------------------------------------------------------------------------------------------------


def _interface(**wishes: Any) -> Callable[[Tree], None]:
    return lambda tunnel: tunnel["sessions"]["lan"]["interface"].update(wishes)


def _session(**wishes: Any) -> Callable[[Tree], None]:
    return lambda tunnel: tunnel["sessions"]["lan"].update(wishes)


def _tunnel(**wishes: Any) -> Callable[[Tree], None]:
    return lambda tunnel: tunnel.update(wishes)


def _ipsec(**wishes: Any) -> Callable[[Tree], None]:
    return lambda tunnel: tunnel["ipsec"].update(wishes)


CHANGES: dict[str, Callable[[Tree], None]] = {
    "peer-id": _tunnel(ids="1001/2999"),
    "id": _tunnel(ids="1999/2001"),
    "remote": _tunnel(remote="192.0.2.77"),
    "local": _tunnel(local="192.0.2.101"),
    "ports": _tunnel(ports="20001/30002"),
    "own-port": _tunnel(ports="20002/30001"),
    "encapsulation": lambda tunnel: (tunnel.pop("ports"), tunnel.update(encapsulation="ip"))[0],
    "checksum": _tunnel(checksum=False),
    "path-mtu": _tunnel(path_mtu=1400),
    "session-ids": _session(ids="7/8"),
    "cookie": _session(cookie="auto4"),
    "given-cookie": _session(cookie={"local": "00112233", "peer": "44556677"}),
    "sequencing": _session(sequencing="both"),
    "reorder": _session(sequencing="both", reorder="30ms"),
    "name": _interface(name="other"),
    "mtu": _interface(mtu=1300),
    "mss": _interface(mss=1000),
    "no-mss": _interface(mss="none"),
    "address": _interface(addresses=["10.9.9.1/30"]),
    "second-address": _interface(addresses=["10.0.1.1/24", "10.9.9.1/30"]),
    "no-address": _interface(addresses=[]),
    "down": _interface(up=False, routes=[]),
    "mac": _interface(mac="02:00:5e:00:00:09"),
    "bridge": _interface(bridge="br-lan", addresses=[], routes=[]),
    "vrf": _interface(vrf="blue"),
    "netns": _interface(netns="customer"),
    "route": _interface(routes=["10.77.0.0/16"]),
    "peer-route": _tunnel(route={"via": "192.0.2.9"}),
    "proposal": _ipsec(proposal="aes256-sha256"),
    "mode": _ipsec(mode="tunnel"),
    "reqid": _ipsec(reqid=77),
    "esn": _ipsec(esn=True),
    "replay-window": _ipsec(replay_window=64),
    "mark": _ipsec(mark="0x1/0xf"),
    "nat": _ipsec(nat_traversal="4500/4500", side="left"),
    "no-ipsec": lambda tunnel: (tunnel.update(secret_file=tunnel.pop("ipsec")["key_file"])),
    "second-session": lambda tunnel: tunnel["sessions"].update(
        dmz={"ids": "55/56", "interface": {"name": "dmz0", "address": "10.9.8.1/24"}}
    ),
    "other-session": lambda tunnel: tunnel.update(
        sessions={"dmz": {"ids": "55/56", "interface": {"name": "dmz0", "address": "10.9.8.1/24"}}}
    ),
}  # fmt: skip


INTERFACE = {
    "addresses": ["10.0.1.1/24", "2001:db8:1::1/64"],
    "routes": ["10.78.0.0/16", "2001:db8:78::/48"],
    "mss": 1200,
}


@pytest.fixture
def surroundings(bench: Bench, customer: Host) -> None:
    """What the changes refer to."""
    bench.near.host.add_address("wire", "192.0.2.101", 24)
    bench.near.host.add_bridge("br-lan")
    bench.near.host.set_device("br-lan", mac=b"\x02\0\x5e\0\0\1")
    bench.near.host.add_vrf("blue", 77)


@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_one_apply_brings_a_change_about_and_one_takes_it_back(
    bench: Bench, customer: Host, change: Callable[[Tree], None]
) -> None:
    old = conf.tunnel(
        bench.near.host,
        bench.far.host,
        1,
        encapsulation="udp",
        session={"cookie": "auto", "interface": INTERFACE},
        ipsec={"key_file": conf.make_key(bench.directory / "key"), "overlap": 0},
    )
    new = copy.deepcopy(old)
    change(new)

    def become(tunnel: Tree) -> dict[str, str]:
        conf.write(bench.near.config, {"peer": tunnel})
        bench.near.apply()
        return _everything(bench, customer)

    nothing = _everything(bench, customer)
    made_new = become(new)
    bench.near.down()
    assert_same(_everything(bench, customer), nothing, "after down")
    made_old = become(old)
    assert_same(become(new), made_new, "there")
    _assert_nothing_to_do(bench.near)
    assert_same(become(old), made_old, "back")


def _everything(bench: Bench, customer: Host) -> dict[str, str]:
    """All that is in both namespaces, whenever it was made."""
    return {
        f"{host.name} {name}": line
        for host in (bench.near.host, customer)
        for name, line in identities(state(host)).items()
    }
