"""Route netlink messages: every object there and back, and pyroute2's reading of ours and ours of its."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from kl2tp.kernel import rtnl
from kl2tp.kernel.netlink import HEADER, Message, attributes
from kl2tp.model import addr
from kl2tp.model.objects import Address, Link, Route
from unit.kernel import objects


def oracle(kind: type[Any], message: Message) -> dict[str, Any]:
    """A message as pyroute2 reads it: fields, and attributes by their short names."""
    decoded = kind(HEADER.pack(16 + len(message.payload), message.type, 0, 1, 0) + message.payload)
    decoded.decode()
    fields = {name: decoded[name] for name, _ in kind.fields}
    return fields | {name.partition("_")[2]: value for name, value in decoded["attrs"]}


def encoded(kind: type[Any], fields: dict[str, Any], attributes: list[tuple[str, Any]]) -> bytes:
    """The payload of a message as pyroute2 writes it."""
    message = kind()
    message.update(fields)
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data[16:])


# -- devices ---------------------------------------------------------------------------------------------------------


@given(objects.links, st.integers(0, 1000))
def test_settings_of_a_device_are_read_as_they_were_set(link: Link, master: int) -> None:
    state = rtnl.LinkState(rtnl.link_set(link, master, set_master=True).payload)
    assert state.link("", "").name == link.name
    assert (state.mtu, state.up, state.mac, state.alias) == (link.mtu, link.up, link.mac, link.alias)
    assert (state.group, state.master_index) == (rtnl.DEVICE_GROUP, master)


@given(objects.links)
def test_pyroute2_reads_our_device_settings(link: Link) -> None:
    found = oracle(ifinfmsg, rtnl.link_set(link, 7, set_master=True))
    assert (found["IFNAME"], found["MTU"], found["GROUP"], found["MASTER"]) == (link.name, link.mtu, 1701, 7)
    assert (found["flags"], found["change"]) == (int(link.up), 1)
    assert found["IFALIAS"] == link.alias
    assert found.get("ADDRESS", "").replace(":", "") == link.mac.hex()


@given(objects.links)
def test_a_master_that_is_right_is_left_alone(link: Link) -> None:
    assert "MASTER" not in oracle(ifinfmsg, rtnl.link_set(link, 0, set_master=False))


@given(objects.names, st.integers(68, 65535), st.booleans())
def test_we_read_devices_as_pyroute2_writes_them(name: str, mtu: int, up: bool) -> None:
    attributes = [("IFLA_IFNAME", name), ("IFLA_MTU", mtu), ("IFLA_ADDRESS", "02:00:00:00:00:01"), ("IFLA_MASTER", 4)]
    state = rtnl.LinkState(encoded(ifinfmsg, {"index": 9, "flags": 0x1002 | up}, attributes))
    assert (state.name, state.mtu, state.index, state.master_index, state.up) == (name, mtu, 9, 4, up)
    assert state.mac == bytes((2, 0, 0, 0, 0, 1))


def test_a_device_without_anything_is_nameless() -> None:
    state = rtnl.LinkState(bytes(16))
    assert (state.name, state.mtu, state.mac, state.alias, state.group) == ("", 0, b"", "", 0)


def test_questions_about_devices() -> None:
    assert oracle(ifinfmsg, rtnl.link_get("l0"))["IFNAME"] == "l0"
    assert oracle(ifinfmsg, Message(18, 0, rtnl.link_by_index(7)))["index"] == 7
    assert oracle(ifinfmsg, Message(*rtnl.link_dump()[:1], 0, rtnl.link_dump()[1]))["EXT_MASK"] == 8


def test_a_device_is_moved_by_number_and_descriptor_and_gets_a_name() -> None:
    found = oracle(ifinfmsg, rtnl.link_move(7, "l0", 5))
    assert (found["index"], found["IFNAME"], found["NET_NS_FD"]) == (7, "l0", 5)


@given(objects.names, st.integers(0, 1000), st.integers(68, 65535), st.sampled_from((-1, 9)))
def test_pyroute2_reads_our_ppp_devices(name: str, unit: int, mtu: int, namespace: int) -> None:
    message = rtnl.ppp_create(name, unit, mtu, namespace)
    assert (message.type, message.flags) == (rtnl.RTM_NEWLINK, 0x600)
    found = oracle(ifinfmsg, message)
    assert (found["IFNAME"], found["MTU"], found["GROUP"], found["flags"]) == (name, mtu, 1701, 0)
    assert found.get("NET_NS_FD", -1) == namespace
    info = attributes(attributes(message.payload, 16)[18])
    assert (info[1], attributes(info[2])) == (b"ppp\0", {1: unit.to_bytes(4, "little")})


def test_devices_are_switched_on_grouped_and_deleted_by_number() -> None:
    assert [oracle(ifinfmsg, rtnl.link_up(7))[name] for name in ("index", "flags", "change")] == [7, 1, 1]
    assert [oracle(ifinfmsg, rtnl.link_group(7, 5))[name] for name in ("index", "GROUP")] == [7, 5]
    assert (rtnl.link_delete(7).type, oracle(ifinfmsg, rtnl.link_delete(7))["index"]) == (rtnl.RTM_DELLINK, 7)
    together = oracle(ifinfmsg, rtnl.group_delete(5))
    assert (rtnl.group_delete(5).type, together["index"], together["GROUP"]) == (rtnl.RTM_DELLINK, 0, 5)


# -- addresses -------------------------------------------------------------------------------------------------------


@given(objects.interface_addresses(), st.integers(1, 1000))
def test_an_address_is_read_as_it_was_added(address: Address, number: int) -> None:
    for message in (rtnl.address_add(address, number), rtnl.address_delete(address, number)):
        found = (number, address.address, address.prefix_length, address.peer)
        assert rtnl.decode_address(message.payload) == found


@given(objects.interface_addresses())
def test_pyroute2_reads_our_addresses(address: Address) -> None:
    found = oracle(ifaddrmsg, rtnl.address_add(address, 7))
    assert (addr.parse(found["LOCAL"]), found["prefixlen"], found["index"]) == (
        address.address,
        address.prefix_length,
        7,
    )
    assert addr.parse(found["ADDRESS"]) == (address.peer or address.address)
    assert found["family"] == addr.family(address.address)


def test_of_a_point_to_point_address_both_ends_are_read() -> None:
    attributes = [("IFA_ADDRESS", "192.0.2.2"), ("IFA_LOCAL", "192.0.2.1")]
    payload = encoded(ifaddrmsg, {"family": 2, "prefixlen": 32, "index": 3}, attributes)
    assert rtnl.decode_address(payload) == (3, addr.parse("192.0.2.1"), 32, addr.parse("192.0.2.2"))


def test_an_ipv6_address_has_no_local_end() -> None:
    payload = encoded(ifaddrmsg, {"family": 10, "prefixlen": 64, "index": 3}, [("IFA_ADDRESS", "2001:db8::1")])
    assert rtnl.decode_address(payload) == (3, addr.parse("2001:db8::1"), 64, b"")


# -- routes ----------------------------------------------------------------------------------------------------------


@given(objects.routes())
def test_a_route_is_read_as_it_was_added(route: Route) -> None:
    number = objects.index(route.device) if route.device else 0
    for make in (rtnl.route_add, rtnl.route_replace, rtnl.route_delete):
        message = make(route, number)
        assert rtnl.decode_route("", message.payload, objects.name) == route
        assert rtnl.route_identity(message.payload) == (route.table, route.destination, route.prefix_length)


@given(objects.routes())
def test_pyroute2_reads_our_routes(route: Route) -> None:
    found = oracle(rtmsg, rtnl.route_add(route, 7 if route.device else 0))
    assert addr.parse(found["DST"]) == route.destination
    assert (found["dst_len"], found["TABLE"], found["proto"]) == (route.prefix_length, route.table, 117)
    assert addr.parse(found["GATEWAY"]) if route.via else "GATEWAY" not in found
    assert found.get("OIF") == (7 if route.device else None)
    assert found.get("PRIORITY", 0) == route.metric


def test_a_direct_ipv4_route_has_the_scope_of_the_link() -> None:
    direct, far = Route("", 254, bytes(4), 0, 0, device="l0"), Route("", 254, bytes(4), 0, 0, bytes((1, 2, 3, 4)))
    assert oracle(rtmsg, rtnl.route_add(direct, 7))["scope"] == 253
    assert oracle(rtmsg, rtnl.route_add(far, 0))["scope"] == 0


def test_anybody_else_s_route_is_none_of_ours() -> None:
    fields = {"family": 2, "dst_len": 24, "table": 254, "proto": 4, "type": 1}
    payload = encoded(rtmsg, fields, [("RTA_DST", "198.51.100.0"), ("RTA_OIF", 3)])
    assert rtnl.decode_route("", payload, objects.name) is None
    assert rtnl.route_identity(payload) == (254, addr.parse("198.51.100.0"), 24)


def test_a_default_route_has_an_empty_destination() -> None:
    payload = encoded(rtmsg, {"family": 10, "dst_len": 0, "table": 254, "proto": 117, "type": 1}, [("RTA_OIF", 3)])
    found = rtnl.decode_route("", payload, objects.name)
    assert found == Route("", 254, bytes(16), 0, 0, device="dev3")


def test_only_our_routes_are_asked_for() -> None:
    kind, payload = rtnl.route_dump(2, 1000)
    found = oracle(rtmsg, Message(kind, 0, payload))
    assert (found["family"], found["proto"], found["TABLE"]) == (2, 117, 1000)
