"""Sessions as desired objects: the planner makes and repairs the network of a PPP device as of any other."""

import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig.conf import device
from kernel.rig.net import Host
from kernel.rig.ppp import MTU, End, connected, ends
from kernel.rig.traffic import exchanges
from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel import netns, rtnl
from kl2tp.kernel.door import Door
from kl2tp.kernel.netlink import Message, string, u32
from kl2tp.model.addr import parse
from kl2tp.model.objects import Address, Clamp, KernelObject, Link, Route
from kl2tp.model.plan import Unit, satisfied
from kl2tp.reconcile.engine import Engine, Result
from kl2tp.reconcile.ledger import Ledger


class Network:
    """An engine that keeps calls."""

    def __init__(self, ledger: Path) -> None:
        self.door = Door()
        self.engine = Engine(self.door, Ledger(ledger, netns.identity), KeyRing())
        self.engine.calls = {}

    def put(self, *units: Unit) -> list[Result]:
        """Want these too."""
        assert self.engine.calls is not None
        self.engine.calls |= {unit.name: unit for unit in units}
        return self.look(*(unit.name for unit in units))

    def drop(self, *names: str) -> list[Result]:
        """Want these no more."""
        assert self.engine.calls is not None
        for name in names:
            del self.engine.calls[name]
        return self.look(*names)

    def look(self, *names: str) -> list[Result]:
        """Make it so."""
        return [result for chunk in self.engine.reconcile(names) for result in chunk]

    def wrong(self, *units: Unit) -> list[str]:
        """What is not as it should be."""
        self.door.forget_devices()
        found = self.door.read([o.key for unit in units for o in unit.objects])
        return [
            str(wanted)
            for unit in units
            for wanted in unit.objects
            if wanted.key not in found or not satisfied(wanted, found[wanted.key])
        ]

    def close(self) -> None:
        self.door.close()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    made = Network(tmp_path / "ledger")
    yield made
    made.close()


def done(results: list[Result]) -> list[str]:
    """What was done; nothing may have gone wrong."""
    assert [result.problem for result in results if result.problem] == []
    return [f"{op.verb.value} {op.target.kind}" for result in results for op in result.done]


def with_route(end: End, number: int, **settings: Any) -> Unit:
    """A unit with a route into its device."""
    wish = end.wishes[number]
    namespace = end.host.name if wish.netns is None else wish.netns
    table = settings.pop("table", 254)
    destination = bytes((10, 200 + end.far, number, 0))
    route = Route(namespace, table, destination, 24, 0, device=wish.ifname, tunnel_device=True)
    return end.unit(number, route, **settings)


def kinds(unit: Unit) -> dict[str, Any]:
    """The objects of a unit, one of each kind."""
    return {thing.kind: thing for thing in unit.objects}


def test_the_network_of_a_call_is_made_at_once_and_then_left_alone(bench: Bench, network: Network) -> None:
    near, far = bench.near.host, bench.far.host
    with ends(near, far) as pair:
        units = []
        for end in pair:
            end.open([1])
            end.attach([1], up=False)
            units.append(replace(with_route(end, 1), name=f"call/{end.host.name}"))
        assert done(network.put(*units)) == [f"+ {kind}" for kind in ("link", "address", "route", "clamp")] * 2
        assert network.wrong(*units) == []
        exchanges(near, far, 1)
        assert done(network.look(*(unit.name for unit in units))) == []
        link = near.device(device(1))
        assert link is not None
        assert (link.mtu, link.up, link.alias) == (MTU, True, "kl2tp:call/1")


def _set(host: Host, flags: int, change: int, *attributes: bytes) -> None:
    body = struct.pack("=BBHiII", 0, 0, 0, host.index(device(1)), flags, change)
    host.request(rtnl.NETLINK_ROUTE, Message(rtnl.RTM_NEWLINK, 0, body + b"".join(attributes)))


def _other_peer(host: Host, unit: Unit) -> None:
    address: Address = kinds(unit)["address"]
    index = host.index(device(1))
    other = replace(address, peer=parse("10.99.99.99"))
    host.request(rtnl.NETLINK_ROUTE, rtnl.address_delete(address, index), rtnl.address_add(other, index))


def _delete_address(host: Host, unit: Unit) -> None:
    host.request(rtnl.NETLINK_ROUTE, rtnl.address_delete(kinds(unit)["address"], host.index(device(1))))


def _delete_route(host: Host, unit: Unit) -> None:
    host.request(rtnl.NETLINK_ROUTE, rtnl.route_delete(kinds(unit)["route"], host.index(device(1))))


def _redirect(host: Host, unit: Unit) -> None:
    host.request(rtnl.NETLINK_ROUTE, rtnl.route_replace(kinds(unit)["route"], host.index("wire")))


def _change_clamp(host: Host, unit: Unit) -> None:
    clamp: Clamp = kinds(unit)["clamp"]
    host.table.replace([clamp], [replace(clamp, mss4=500)])


DRIFTS: dict[str, Callable[[Host, Unit], None]] = {
    "mtu": lambda host, unit: _set(host, 0, 0, u32(4, 1000)),
    "down": lambda host, unit: _set(host, 0, 1),
    "alias": lambda host, unit: _set(host, 0, 0, string(20, "mine")),
    "address deleted": _delete_address,
    "another peer": _other_peer,
    "route deleted": _delete_route,
    "route redirected": _redirect,
    "clamp deleted": lambda host, unit: host.table.remove([kinds(unit)["clamp"]]),
    "clamp changed": _change_clamp,
}


@pytest.mark.parametrize("what", DRIFTS)
def test_drift_is_repaired(bench: Bench, network: Network, what: str) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (end, _):
        unit = with_route(end, 1)
        done(network.put(unit))
        DRIFTS[what](near, unit)
        assert network.wrong(unit) != []
        assert done(network.look(unit.name)) != []
        assert network.wrong(unit) == []
        exchanges(near, far, 1)


def test_a_device_that_is_gone_is_a_problem_and_is_named(bench: Bench, network: Network) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (end, _):
        unit = with_route(end, 1)
        done(network.put(unit))
        near.delete_device(device(1))
        (result,) = network.look(unit.name)
        assert result.problem == f"creating link {device(1)} mtu {MTU} up: No such device (ENODEV)"
        assert result.failed is not None
        assert isinstance(result.failed.target, Link)
        end.rebuild([1])
        assert done(network.look(unit.name)) == ["~ link", "+ address", "+ route"]
        exchanges(near, far, 1)


def test_another_address_takes_the_place_of_the_old_one_and_routes_stay(bench: Bench, network: Network) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (end, other):
        unit = with_route(end, 1)
        done(network.put(unit))
        old: Address = kinds(unit)["address"]
        for new in (replace(old, peer=parse("10.77.0.2")), replace(old, address=parse("10.77.0.1"))):
            changed = replace(unit, objects=tuple(new if isinstance(o, Address) else o for o in unit.objects))
            done(network.put(changed))
            assert network.wrong(changed) == []
            found = network.door.host(near.name)._addresses_of(near.index(device(1)))
            assert [item[1:] for item in found] == [(new.address, 32, new.peer)]
        done(network.put(unit))
        exchanges(near, far, 1)
        assert other.sessions[1].unit >= 0


def test_when_a_call_is_over_nothing_of_its_network_is_left(bench: Bench, network: Network) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1, 2]) as (end, _):
        units = [with_route(end, number) for number in (1, 2)]
        done(network.put(*units))
        end.plane.detach([end.sessions[1]])
        assert [result.gone for result in network.drop("call/1", "call/2")] == [True, True]
        assert near.table.read(near.name) == []
        assert near.device(device(2)) is not None  # it is its session's
        assert list(network.door.host(near.name)._addresses_of(near.index(device(2)))) == []
        assert list(network.engine.ledger.names()) == []


def test_a_call_can_be_in_a_vrf(bench: Bench, network: Network) -> None:
    near, far = bench.near.host, bench.far.host
    near.add_vrf("blue", 77)
    with connected(near, far, [1]) as (end, _):
        unit = with_route(end, 1, master="blue", table=77)
        done(network.put(unit))
        link = near.device(device(1))
        assert link is not None
        assert link.master_index == near.index("blue")
        assert network.wrong(unit) == []
        _set(near, 0, 0, u32(10, 0))
        done(network.look(unit.name))
        assert network.wrong(unit) == []


@pytest.mark.parametrize("born_there", [True, False], ids=["born there", "moved"])
def test_a_call_can_be_in_another_namespace(bench: Bench, network: Network, born_there: bool) -> None:
    near, far, customer = bench.near.host, bench.far.host, Host("customer")
    try:
        with ends(near, far) as (end, other):
            for each in (end, other):
                each.open([1])
            other.attach([1])
            other.address(1)
            if born_there:
                end.attach([1], netns="customer", up=False)
                unit = with_route(end, 1)
            else:
                end.attach([1], up=False)
                unit = with_route(end, 1)
                moved: list[KernelObject] = [replace(o, netns="customer") for o in unit.objects]
                unit = replace(unit, objects=tuple(moved))
            done(network.put(unit))
            assert network.wrong(unit) == []
            exchanges(customer, far, 1)
            end.plane.detach([end.sessions[1]])
            assert customer.device(device(1)) is None
            network.drop(unit.name)
    finally:
        customer.delete()


def test_many_calls_are_made_together(bench: Bench, network: Network) -> None:
    near, far, count = bench.near.host, bench.far.host, 200
    with ends(near, far) as (end, _):
        end.open(range(1, count + 1))
        end.attach(range(1, count + 1), up=False)
        units = [with_route(end, number) for number in range(1, count + 1)]
        began = time.monotonic()
        assert len(done(network.put(*units))) == 4 * count
        print(f"\nthe network of {count} calls took {(time.monotonic() - began) / count * 1e6:.0f} us each")
        assert network.wrong(*units) == []
