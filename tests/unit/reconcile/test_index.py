"""The index: from a hint to the tunnels that it may be about, and to no others."""

import dataclasses

import pytest

from kl2tp.kernel.events import (
    AddressHint,
    DeviceHint,
    ElementHint,
    EndpointHint,
    Hint,
    NamespaceHint,
    RouteHint,
    SaHint,
    TunnelHint,
)
from kl2tp.model.calls import LacSpec
from kl2tp.model.ike import IkeSpec
from kl2tp.model.objects import Address, Binding, GuardedPlace
from kl2tp.model.plan import Unit
from kl2tp.model.spec import RouteSpec, TunnelSpec
from kl2tp.reconcile.index import Index
from kl2tp.reconcile.places import binding_unit, lac_unit, place_unit
from unit.reconcile.specs import HERE, clear, peer, protected

NET = bytes((10, 9, 0, 0))


def filled(*specs: TunnelSpec) -> Index:
    index = Index()
    index.change({spec.name: spec for spec in specs}, [spec.name for spec in specs])
    return index


RICH = dataclasses.replace(
    protected("k", 3, udp=True),
    netns="out",
    route=RouteSpec(peer(3), 32),
    sessions=clear(3, netns="in", addresses=((HERE, 24),), routes=(RouteSpec(NET, 16, table=7),)).sessions,
)

PLACES: list[Hint] = [
    TunnelHint(3),
    DeviceHint("in", "l3", "", None),
    AddressHint("in", 9, HERE, 24, False),
    RouteHint("in", 7, NET, 16),
    RouteHint("out", 254, peer(3), 32),
    SaHint("out", 3),
    EndpointHint("out", peer(3), 2003, 1701),
    NamespaceHint("in"),
    NamespaceHint("out"),
]
ELSEWHERE: list[Hint] = [
    TunnelHint(4),
    DeviceHint("out", "l3", "", None),
    DeviceHint("in", "l4", "kl2tp:other/s", None),
    AddressHint("in", 9, HERE, 25, False),
    AddressHint("out", 9, HERE, 24, False),
    RouteHint("in", 8, NET, 16),
    RouteHint("out", 254, peer(3), 31),
    SaHint("in", 3),
    EndpointHint("out", peer(3), 0, 0),
    NamespaceHint(""),
]


@pytest.mark.parametrize("hint", PLACES, ids=repr)
def test_a_tunnel_is_found_by_each_of_its_places(hint: Hint) -> None:
    assert filled(clear(1), RICH).find(hint) == ("t3",)


@pytest.mark.parametrize("hint", ELSEWHERE, ids=repr)
def test_what_happens_elsewhere_is_not_its_business(hint: Hint) -> None:
    assert filled(RICH).find(hint) == ()


@pytest.mark.parametrize("hint", PLACES, ids=repr)
def test_a_tunnel_that_went_is_not_found(hint: Hint) -> None:
    index = filled(RICH)
    index.change({}, ["t3"])
    assert index.find(hint) == ()
    assert index._names == {}


def test_a_changed_tunnel_is_found_by_its_new_places_only() -> None:
    index = filled(clear(1), clear(2))
    moved = dataclasses.replace(clear(5), name="t1")
    index.change({"t1": moved, "t2": clear(2)}, ["t1"])
    assert (index.find(TunnelHint(1)), index.find(TunnelHint(5))) == ((), ("t1",))
    assert index.find(TunnelHint(2)) == ("t2",)


def test_a_shared_place_has_all_its_tunnels() -> None:
    one, two = (dataclasses.replace(protected("k", n), remote=peer(1)) for n in (1, 2))
    index = filled(one, two)
    endpoint = EndpointHint("", peer(1), 0, 0)
    assert index.find(endpoint) == ("t1", "t2")
    index.change({"t2": two}, ["t1"])
    assert index.find(endpoint) == ("t2",)


def test_three_tunnels_may_share_a_place_and_go_one_by_one() -> None:
    specs = {f"t{n}": dataclasses.replace(protected("k", n), remote=peer(1)) for n in (1, 2, 3)}
    index = filled(*specs.values())
    for gone, left in (("t2", ("t1", "t3")), ("t1", ("t3",)), ("t3", ())):
        del specs[gone]
        index.change(dict(specs), [gone])
        assert index.find(EndpointHint("", peer(1), 0, 0)) == left


def test_a_renamed_device_is_found_by_its_alias() -> None:
    index = filled(clear(1))
    assert index.find(DeviceHint("", "strange", "kl2tp:t1/s", None)) == ("t1",)
    assert index.find(DeviceHint("", "l1", "kl2tp:t1/s", None)) == ("t1",)


def test_routes_of_a_vrf_are_found_in_any_table() -> None:
    index = filled(clear(1, vrf="blue", routes=(RouteSpec(NET, 16),)))
    assert index.find(RouteHint("", 1234, NET, 16)) == ("t1",)


def test_chunks_of_a_change_add_up() -> None:
    specs = {f"t{n}": clear(n) for n in range(1, 6)}
    index = Index()
    for start in (0, 2, 4):
        index.change(specs, list(specs)[start : start + 2])
    assert [index.find(TunnelHint(n)) for n in range(1, 6)] == [(f"t{n}",) for n in range(1, 6)]


def test_calls_that_share_our_address_are_told_apart_by_the_peers() -> None:
    index = Index()
    for number in (1, 2):
        address = Address("", f"l2tp{number}", bytes((10, 0, 0, 1)), 32, bytes((10, 0, 1, number)))
        index.put(Unit(f"call/7.{number}", (address,)))
    assert index.find(AddressHint("", 5, bytes((10, 0, 1, 2)), 32, False)) == ("call/7.2",)
    assert index.find(TunnelHint(7)) == ("call/7.1", "call/7.2")
    index.drop("call/7.1")
    assert index.find(TunnelHint(7)) == ("call/7.2",)


def test_what_protects_calls_is_found_by_its_policies_and_elements() -> None:
    index = Index()
    place = place_unit(bytes(4), 1701, (0, 0))
    lac = lac_unit(LacSpec("home", ((peer(1), 1702),), (b"", 0)), 9)
    for unit in (place, lac, binding_unit(7, 5)):
        index.put(unit)
    assert index.find(EndpointHint("", bytes(4), 1701, 0)) == (place.name,)
    assert index.find(EndpointHint("", peer(1), 0, 1702)) == (lac.name,)
    assert index.find(ElementHint("", GuardedPlace("", bytes(4), 1701, (1, 2)).key)) == (place.name,)
    assert index.find(ElementHint("", Binding("", 7, 0).key)) == ("call/bound.7",)
    assert index.find(ElementHint("", Binding("", 8, 0).key)) == ()
    index.drop("call/bound.7")
    assert index.find(ElementHint("", Binding("", 7, 0).key)) == ()


def test_sas_of_ike_are_no_business_of_the_tunnel_that_they_protect() -> None:
    spec = dataclasses.replace(clear(3), ike=IkeSpec(reqid=3))
    assert filled(spec).find(SaHint("", 3)) == ()
    assert filled(spec).find(EndpointHint("", peer(3), 0, 0)) == ("t3",)
