"""Ownership: what kl2tp did not make it never touches, and what it made it knows again."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from kernel.conftest import Bench
from kernel.rig import conf, foreign
from kernel.rig.net import Host, assert_same, identities, state
from kernel.rig.run import Unit
from kernel.rig.traffic import traffic
from kl2tp.config import load
from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel import l2tp, rtnl, xfrm
from kl2tp.model.objects import KernelObject, Policy, Route, Sa, Tunnel
from kl2tp.model.spec import Encap
from kl2tp.reconcile.compile import compile_unit, keying


def configure(bench: Bench) -> conf.Tree:
    """The near end of a protected tunnel with everything."""
    key = bench.directory / "key"
    if not key.exists():
        conf.make_key(key)
    tree = conf.tunnel(
        bench.near.host,
        bench.far.host,
        1,
        encapsulation="udp",
        ipsec={"key_file": str(key), "overlap": 0},
        session={"cookie": "auto", "interface": {"routes": ["10.78.0.0/16"]}},
    )
    conf.write(bench.near.config, {"peer": tree})
    return tree


# -- what is foreign stays -------------------------------------------------------------------------------------------


def test_what_others_made_stays_through_apply_reload_and_down(bench: Bench) -> None:
    host, unit = bench.near.host, bench.near
    lines = foreign.settle(host)
    before = state(host)
    tree = configure(bench)
    unit.apply()
    foreign.assert_untouched(host, lines)
    with unit.daemon(forked=True) as daemon:
        daemon.wait_up()
        conf.write(unit.config, {"peer": tree | {"ids": "1001/2009"}, "more": conf.tunnel(host, bench.far.host, 2)})
        daemon.call("reload")
        daemon.settled()
        foreign.assert_untouched(host, lines)
        daemon.call("down")
    foreign.assert_untouched(host, lines)
    assert_same(state(host), before)


def test_what_others_add_to_our_device_stays_until_the_device_goes(bench: Bench) -> None:
    host = bench.near.host
    configure(bench)
    bench.near.apply()
    host.add_address(conf.device(1), "10.55.0.1", 24)
    theirs = Route("", 254, b"\x0a\x38\0\0", 16, 0, device=conf.device(1))
    route = rtnl.route_add(theirs, host.index(conf.device(1)))
    host.request(rtnl.NETLINK_ROUTE, route._replace(payload=route.payload[:5] + b"\x04" + route.payload[6:]))
    there = state(host)
    assert bench.near.apply()["operations"] == []
    assert_same(state(host), there)


def test_an_equal_route_of_somebody_else_is_no_part_of_ours(bench: Bench) -> None:
    host = bench.near.host
    theirs = rtnl.route_add(Route("", 254, b"\x0a\x4e\0\0", 16, 50, device="wire"), host.index("wire"))
    host.request(rtnl.NETLINK_ROUTE, theirs._replace(payload=theirs.payload[:5] + b"\x04" + theirs.payload[6:]))
    before = state(host)
    configure(bench)
    bench.near.apply()
    bench.near.down()
    assert_same(state(host), before)


# -- conflicts -------------------------------------------------------------------------------------------------------


def objects(unit: Unit) -> list[KernelObject]:
    """What the configuration of a host wants."""
    ring = KeyRing()
    return [o for spec in load(unit.config).tunnels for o in compile_unit(spec, ring, keying(spec, ring)).objects]


def _place_tunnel(bench: Bench) -> None:
    """A tunnel with our id, to another peer."""
    (tunnel,) = (thing for thing in objects(bench.near) if isinstance(thing, Tunnel))
    other = replace(tunnel, peer_id=5, remote=b"\xc0\0\2\x63", local_port=9999, encap=Encap.UDP)
    bench.near.host.request(l2tp.NETLINK_GENERIC, bench.near.host.l2tp.tunnel_create(other))


def _place_association(bench: Bench) -> None:
    """An SA with our SPI and another key."""
    sa = next(thing for thing in objects(bench.near) if isinstance(thing, Sa))
    other = foreign.association(sa.source, sa.destination, sa.spi, sa.reqid)
    bench.near.host.request(xfrm.NETLINK_XFRM, xfrm.sa_add(other, int))


def _place_policy(bench: Bench) -> None:
    """A policy for our packets that blocks them."""
    policy = next(thing for thing in objects(bench.near) if isinstance(thing, Policy) and thing.template)
    bench.near.host.request(xfrm.NETLINK_XFRM, xfrm.policy_set(replace(policy, priority=3, template=None), int))


def _place_device(bench: Bench) -> None:
    """A device with the name of ours."""
    bench.near.host.add_device(conf.device(1), "dummy")


CONFLICTS: dict[str, tuple[Callable[[Bench], None], str]] = {
    "tunnel": (_place_tunnel, "tunnel 1001 peer 5 udp 192.0.2.1 port 9999 -> 192.0.2.99"),
    "association": (_place_association, "sa 192.0.2.2 -> 192.0.2.1 spi 0x"),
    "policy": (_place_policy, "policy in udp 192.0.2.2 port 30001 -> 192.0.2.1 port 20001 block"),
    "device": (_place_device, "link pw1 mtu 1500"),
}
ADOPTED = ("tunnel", "association", "policy")
all_conflicts = pytest.mark.parametrize(("place", "named"), CONFLICTS.values(), ids=CONFLICTS)


@all_conflicts
def test_a_conflict_is_named_leaves_nothing_half_made_and_stops_nobody_else(
    bench: Bench, place: Callable[[Bench], None], named: str
) -> None:
    host = bench.near.host
    tree = configure(bench)
    place(bench)
    before = state(host)
    conf.write(bench.near.config, {"peer": tree, "more": conf.tunnel(host, bench.far.host, 2)})
    for method in ("apply", "plan", "apply"):
        answer = bench.near.direct(method)
        problems = answer["problems"] | {c["unit"]: c["text"] for c in answer.get("conflicts", ())}
        assert problems.keys() == {"peer"}
        assert named in problems["peer"]
        assert "was not made by kl2tp" in problems["peer"]
    assert host.device(conf.device(2))
    bench.near.down()
    assert_same(state(host), before)


@pytest.mark.parametrize("place", [CONFLICTS[kind][0] for kind in ADOPTED], ids=ADOPTED)
def test_adopt_takes_over_what_stands_in_the_way(bench: Bench, place: Callable[[Bench], None]) -> None:
    host = bench.near.host
    nothing = state(host)
    configure(bench)
    bench.near.apply()
    wanted = identities(state(host))
    bench.near.down()
    place(bench)
    bench.near.apply(adopt=True)
    assert_same(identities(state(host)), wanted)
    assert bench.near.apply()["operations"] == []
    bench.near.down()
    assert_same(state(host), nothing)


def test_the_conflict_is_over_when_the_foreign_object_goes(bench: Bench) -> None:
    configure(bench)
    _place_device(bench)
    assert bench.near.direct("apply")["problems"]
    bench.near.host.delete_device(conf.device(1))
    bench.near.apply()


# -- what is ours is known again -------------------------------------------------------------------------------------


def test_with_its_ledger_lost_kl2tp_touches_nothing_and_adopts_all_in_place(bench: Bench) -> None:
    host, unit = bench.near.host, bench.near
    nothing = state(host)
    more = {"encapsulation": "udp", "ipsec": {"key_file": conf.make_key(bench.directory / "key")}}
    for one, other in ((unit, bench.far), (bench.far, unit)):
        conf.write(one.config, {"peer": conf.tunnel(one.host, other.host, 1, **more)})  # type: ignore[arg-type]
        one.apply()
    there = state(host)
    with traffic(host, bench.far.host, 1) as stream:
        stream.wait_for(3)
        unit.ledger.unlink()
        answer = unit.direct("apply")
        assert "was not made by kl2tp" in answer["problems"]["peer"]
        assert answer["operations"] == []
        assert unit.direct("down")["operations"] == []
        assert_same(state(host), there)
        assert unit.apply(adopt=True)["operations"] == []
        assert_same(state(host), there)
        stream.wait_for(3)
    assert stream.lost == 0
    unit.down()
    assert_same(state(host), nothing)


def test_the_daemon_knows_its_own_after_a_restart_and_after_a_direct_apply(bench: Bench) -> None:
    host, unit = bench.near.host, bench.near
    configure(bench)
    with unit.daemon(forked=True) as daemon:
        daemon.wait_up()
        there = state(host)
        daemon.terminate()
    assert_same(state(host), there)
    assert unit.apply()["operations"] == []
    with unit.daemon(forked=True) as daemon:
        assert daemon.settled()["operations"] == []
    assert_same(state(host), there)


@pytest.fixture
def customer(bench: Bench) -> Host:
    """One more namespace."""
    return Host("customer")


def test_in_a_namespace_made_anew_everything_is_made_anew(bench: Bench, customer: Host) -> None:
    unit = bench.near
    tree = conf.tunnel(unit.host, bench.far.host, 1, session={"interface": {"netns": "customer"}})
    conf.write(unit.config, {"peer": tree})
    try:
        unit.apply()
        wanted = identities(state(customer))
        customer.delete()
        customer.create()
        unit.apply()
        assert_same(identities(state(customer)), wanted)
        assert unit.apply()["operations"] == []
        customer.delete()
        answer = unit.direct("apply")
        assert "there is no network namespace 'customer'" in answer["problems"]["peer"]
        unit.down()
    finally:
        customer.create_if_missing()
        customer.delete()


def test_the_daemon_notices_a_namespace_made_anew(bench: Bench, customer: Host) -> None:
    unit = bench.near
    tree = conf.tunnel(unit.host, bench.far.host, 1, session={"interface": {"netns": "customer"}})
    conf.write(unit.config, {"peer": tree})
    with unit.daemon(forked=True) as daemon:
        daemon.wait_up()
        customer.delete()
        customer.create()
        customer.until(lambda: customer.device(conf.device(1)), 10.0)
        daemon.wait_up()
    unit.down()
    customer.delete()
