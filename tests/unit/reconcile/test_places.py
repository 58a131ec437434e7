"""Units of guarded places, calls of ours and bindings: what they consist of, and what of it comes before what."""

import pytest

from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel import clients
from kl2tp.model.addr import parse
from kl2tp.model.calls import LacSpec
from kl2tp.model.ike import IkeSpec
from kl2tp.model.objects import Binding, Direction, Guard, GuardedPlace, Policy
from kl2tp.model.plan import Stage, creations
from kl2tp.model.spec import Encap, InterfaceSpec, Mode, SessionSpec, TunnelSpec
from kl2tp.reconcile.compile import PRIORITY_BLOCK, PRIORITY_PROTECT, compile_unit
from kl2tp.reconcile.engine import Engine
from kl2tp.reconcile.places import PRIORITY_PLACE, binding_unit, lac_unit, place_name, place_unit

MARKS = (0x6B000000, 0xFFFF)
OURS = clients.OWN_REQIDS + 1
HERE, THERE = parse("192.0.2.1"), parse("203.0.113.7")
HERE6, THERE6 = parse("2001:db8::1"), parse("2001:db8::7")


def policies(objects: tuple[object, ...]) -> list[Policy]:
    return [o for o in objects if isinstance(o, Policy)]


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("address", "length"), [(bytes(4), 0), (HERE, 32), (bytes(16), 0), (HERE6, 128)])
def test_a_place_lets_in_what_any_sa_protects_and_lets_nothing_out(address: bytes, length: int) -> None:
    unit = place_unit(address, 1701, MARKS)
    out, place, inward = unit.objects
    assert isinstance(out, Policy)
    assert isinstance(inward, Policy)
    assert place == GuardedPlace("", address, 1701, MARKS)
    assert (out.direction, out.template, out.priority) == (Direction.OUT, None, PRIORITY_BLOCK)
    assert (out.selector.source, out.selector.source_length, out.selector.source_port) == (address, length, 1701)
    assert inward.template is not None
    assert (inward.template.reqid, inward.template.mode, inward.priority) == (0, Mode.TRANSPORT, PRIORITY_PLACE)
    assert inward.selector.destination_port == 1701
    assert inward.selector.destination_length == length
    assert {p.selector.protocol for p in (out, inward)} == {17}


def test_without_nftables_the_policies_are_left() -> None:
    assert [o.kind for o in place_unit(HERE, 1701, MARKS, filtered=False).objects] == ["policy", "policy"]


def test_blocks_and_guards_come_before_what_lets_in() -> None:
    stages = [op.stage for op in creations(place_unit(HERE, 1701, MARKS))]
    assert stages == [Stage.PROTECT_BLOCK, Stage.PROTECT_GUARD, Stage.PROTECT_POLICY]
    assert [op.stage for op in creations(binding_unit(7, 5))] == [Stage.PROTECT_GUARD]


def test_units_are_told_apart_by_name() -> None:
    assert place_name(bytes(4), 1701) == "call/place.0.0.0.0.1701"
    assert place_name(HERE6, 1702) == "call/place.2001:db8::1.1702"
    assert binding_unit(7, 5).name == "call/bound.7"
    assert binding_unit(7, 5).objects == (Binding("", 7, 5),)


# -- our calls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("local", [(b"", 0), (b"", 1701), (HERE, 1701), (HERE, 0)])
def test_a_call_goes_by_its_sa_and_a_block_is_left_if_that_goes(local: tuple[bytes, int]) -> None:
    unit = lac_unit(LacSpec("home", ((THERE, 1701),), local), OURS)
    some = policies(unit.objects)
    assert len({p.key for p in some}) == len(some)
    demands = [p for p in some if p.template]
    assert {(p.direction, p.priority, p.template.reqid) for p in demands if p.template} == {
        (direction, PRIORITY_PROTECT, OURS) for direction in (Direction.IN, Direction.OUT)
    }
    for demand in demands:
        blocks = [p for p in some if p.direction == demand.direction and p.template is None]
        assert sum(2.0 ** -_ours(p) for p in blocks) >= 2.0 ** -_ours(demand)
        assert {p.priority for p in blocks} == {PRIORITY_BLOCK}
    assert [o for o in unit.objects if isinstance(o, Guard)] == [Guard("", THERE, local[1], 1701)]


def _ours(policy: Policy) -> int:
    """How much of our address a policy looks at."""
    return policy.selector.source_length if policy.direction == Direction.OUT else policy.selector.destination_length


def test_beside_an_lns_what_comes_from_a_server_may_be_a_client_s() -> None:
    unit = lac_unit(LacSpec("home", ((THERE6, 1701),)), OURS, beside_lns=True)
    assert {p.direction: p.template.reqid for p in policies(unit.objects) if p.template} == {
        Direction.IN: 0,
        Direction.OUT: OURS,
    }


def test_each_server_is_protected_once() -> None:
    unit = lac_unit(LacSpec("home", ((THERE, 1701), (HERE, 1702), (THERE, 1701))), OURS)
    assert len(unit.keys()) == len(set(unit.keys()))
    assert {o.remote for o in unit.objects if isinstance(o, Guard)} == {THERE, HERE}


def test_units_that_want_the_same_are_known_to_each_other() -> None:
    engine = Engine.__new__(Engine)
    engine.calls, engine.sharing = {}, {}
    one, two = (lac_unit(LacSpec(name, ((THERE, 1701),)), OURS) for name in ("one", "two"))
    for unit in (one, two):
        engine.put_call(unit)
    key = one.keys()[0]
    assert engine._sharing(one.name, key) == (two.name,)
    assert engine._retained(two.name, key)
    assert engine.drop_call(two.name) == two
    assert not engine._retained(one.name, key)
    engine.put_call(lac_unit(LacSpec("one", ((HERE, 1701),)), OURS))
    assert key not in engine.sharing
    engine.drop_call(one.name)
    assert not engine.sharing


# -- declared tunnels -------------------------------------------------------------------------------------------------


def site(mode: Mode = Mode.TRANSPORT) -> TunnelSpec:
    addresses = ((bytes((10, 0, 0, 1)), 24), (parse("2001:db8:1::1"), 64))
    session = SessionSpec("lan", 1, 1, InterfaceSpec("s0", addresses=addresses))
    ike = IkeSpec(reqid=OURS, mode=mode)
    return TunnelSpec("site", HERE, THERE, 1, 2, Encap.UDP, 5000, 5001, ike=ike, sessions=(session,))


def kinds(spec: TunnelSpec, *, secured: bool) -> list[str]:
    return [o.kind for o in compile_unit(spec, KeyRing(), None, secured=secured).objects]


def test_a_tunnel_with_ike_has_policies_but_no_sas() -> None:
    unit = compile_unit(site(), KeyRing(), None)
    assert not [o for o in unit.objects if o.kind == "sa"]
    demands = [p for p in policies(unit.objects) if p.template]
    assert [(p.template.reqid, p.template.spi) for p in demands if p.template] == [(OURS, 0)] * 2


def test_in_tunnel_mode_the_outer_ends_are_told() -> None:
    demands = [p.template for p in policies(compile_unit(site(Mode.TUNNEL), KeyRing(), None).objects) if p.template]
    assert {(t.source, t.destination) for t in demands} == {(HERE, THERE), (THERE, HERE)}


def test_without_an_sa_the_device_is_down_and_has_no_ipv6_address() -> None:
    assert kinds(site(), secured=True).count("address") == 2
    assert kinds(site(), secured=False).count("address") == 1
    for secured in (True, False):
        (link,) = (o for o in compile_unit(site(), KeyRing(), None, secured=secured).objects if o.kind == "link")
        assert getattr(link, "up") is secured  # noqa: B009 of one kind only
