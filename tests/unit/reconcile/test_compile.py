"""From a spec to kernel objects: the protection exactly as promised, both ends fitting together, nothing shown."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.ipsec.keys import KeyFileError, KeyRing
from kl2tp.model.addr import parse
from kl2tp.model.ciphers import CIPHERS
from kl2tp.model.objects import (
    Address,
    Clamp,
    Direction,
    Guard,
    KernelObject,
    Link,
    Policy,
    Route,
    Sa,
    Selector,
    Session,
    Template,
    Tunnel,
)
from kl2tp.model.plan import Unit
from kl2tp.model.spec import (
    CookieSpec,
    Encap,
    InterfaceSpec,
    L2Spec,
    Mode,
    RouteSpec,
    SessionSpec,
    TunnelSpec,
)
from kl2tp.reconcile.compile import (
    PRIORITY_BLOCK,
    PRIORITY_PROTECT,
    Keying,
    compile_unit,
    expected_link,
    keying,
    session_name,
)
from unit.reconcile.specs import HERE, clear, key_file, peer, protected

THERE = peer(1)


@pytest.fixture
def key(tmp_path: Path) -> str:
    return key_file(tmp_path, 0)


def compiled(spec: TunnelSpec, ring: KeyRing | None = None) -> Unit:
    ring = ring or KeyRing()
    return compile_unit(spec, ring, keying(spec, ring), lambda netns, name: 77)


def only(unit: Unit, kind: type[KernelObject]) -> KernelObject:
    (found,) = (o for o in unit.objects if isinstance(o, kind))
    return found


def policies(unit: Unit) -> list[Policy]:
    return [o for o in unit.objects if isinstance(o, Policy)]


def sas(unit: Unit) -> dict[bool, Sa]:
    """By whether they are outbound."""
    return {o.outbound: o for o in unit.objects if isinstance(o, Sa)}


def change(spec: TunnelSpec, **ipsec: object) -> TunnelSpec:
    assert spec.ipsec
    return dataclasses.replace(spec, ipsec=dataclasses.replace(spec.ipsec, **ipsec))  # type: ignore[arg-type]


def mirror(spec: TunnelSpec) -> TunnelSpec:
    """The tunnel as its other end declares it."""
    sessions = tuple(dataclasses.replace(s, id=s.peer_id, peer_id=s.id) for s in spec.sessions)
    return dataclasses.replace(
        spec,
        local=spec.remote,
        remote=spec.local,
        id=spec.peer_id,
        peer_id=spec.id,
        local_port=spec.remote_port,
        remote_port=spec.local_port,
        sessions=sessions,
    )


# -- protection ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("udp", "protocol", "ports"), [(True, 17, (2001, 1701)), (False, 115, (0, 0))])
def test_protection_is_four_policies_two_associations_and_a_guard(
    key: str, udp: bool, protocol: int, ports: tuple[int, int]
) -> None:
    unit = compiled(protected(key, udp=udp))
    local, remote = ports
    spi = sas(unit)[True].spi
    any4 = bytes(4)
    assert policies(unit) == [
        Policy("", Direction.OUT, Selector(any4, 0, THERE, 32, protocol, local, remote), PRIORITY_BLOCK, None),
        Policy("", Direction.IN, Selector(THERE, 32, any4, 0, protocol, remote, local), PRIORITY_BLOCK, None),
        Policy(
            "",
            Direction.IN,
            Selector(THERE, 32, HERE, 32, protocol, remote, local),
            PRIORITY_PROTECT,
            Template(1, Mode.TRANSPORT),
        ),
        Policy(
            "",
            Direction.OUT,
            Selector(HERE, 32, THERE, 32, protocol, local, remote),
            PRIORITY_PROTECT,
            Template(1, Mode.TRANSPORT, spi=spi),
        ),
    ]
    assert only(unit, Guard) == Guard("", THERE, local, remote)
    assert len(sas(unit)) == 2


def test_the_policy_that_demands_wins_over_the_one_that_blocks() -> None:
    assert PRIORITY_PROTECT < PRIORITY_BLOCK


def test_protection_comes_first(key: str) -> None:
    kinds = [o.kind for o in compiled(protected(key)).objects]
    assert kinds[: kinds.index("tunnel")] == ["policy", "policy", "guard", "sa", "sa", "policy", "policy"]


def test_in_tunnel_mode_templates_name_the_outer_ends(key: str) -> None:
    found = {
        p.direction: p.template for p in policies(compiled(change(protected(key), mode=Mode.TUNNEL))) if p.template
    }
    assert (found[Direction.OUT].source, found[Direction.OUT].destination) == (HERE, THERE)
    assert (found[Direction.IN].source, found[Direction.IN].destination) == (THERE, HERE)
    assert {t.mode for t in found.values()} == {Mode.TUNNEL}


def test_marks_are_on_policies_and_associations_but_not_on_the_guard(key: str) -> None:
    unit = compiled(change(protected(key), mark=(5, 255)))
    assert {p.mark for p in policies(unit)} == {sa.mark for sa in sas(unit).values()} == {(5, 255)}


def test_nat_traversal_turns_the_ports_round_for_inbound(key: str) -> None:
    found = sas(compiled(change(protected(key), nat_local_port=4500, nat_remote_port=4501)))
    assert (found[True].encap_source_port, found[True].encap_destination_port) == (4500, 4501)
    assert (found[False].encap_source_port, found[False].encap_destination_port) == (4501, 4500)


@pytest.mark.parametrize(("whole", "device"), [(False, ""), (True, "eth0")])
def test_only_full_offload_is_asked_of_policies(key: str, whole: bool, device: str) -> None:
    unit = compiled(change(protected(key), offload_device="eth0", offload_packet=whole))
    assert {p.offload_device for p in policies(unit) if p.template} == {device}
    assert {(sa.offload_device, sa.offload_packet) for sa in sas(unit).values()} == {("eth0", whole)}


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("change_of", [lambda s: s, lambda s: change(s, nat_local_port=4500, nat_remote_port=4501)])
def test_both_ends_fit_together(key: str, cipher: str, change_of: Callable[[TunnelSpec], TunnelSpec]) -> None:
    spec = change_of(change(protected(key, udp=True), cipher=cipher, esn=True, replay_window=64))
    theirs = change(mirror(spec), nat_local_port=spec.ipsec.nat_remote_port, nat_remote_port=spec.ipsec.nat_local_port)  # type: ignore[union-attr]
    here, there = sas(compiled(spec)), sas(compiled(theirs))
    assert here[True] == there[False]
    assert here[False] == there[True]
    assert here[True].key_material != here[False].key_material


def test_tunnels_that_share_a_file_have_keys_of_their_own(key: str) -> None:
    one, two = compiled(protected(key, 1)), compiled(protected(key, 2))
    assert sas(one)[True].key_material != sas(two)[True].key_material
    assert sas(one)[True].spi != sas(two)[True].spi


@pytest.mark.parametrize("cipher", CIPHERS)
def test_no_secret_is_in_any_text(key: str, cipher: str) -> None:
    ring = KeyRing()
    spec = change(protected(key, udp=True), cipher=cipher)
    keys = keying(spec, ring)
    unit = compile_unit(spec, ring, keys)
    shown = "".join(f"{o} {o!r}" for o in unit.objects) + repr(unit) + repr(keys) + repr(spec) + repr(ring)
    for sa in sas(unit).values():
        for secret in (sa.key_material, sa.integrity_key):
            if secret:
                assert secret.reveal().hex() not in shown
                assert repr(secret.reveal()) not in shown


def test_with_several_keys_the_first_sends_and_all_are_accepted(tmp_path: Path) -> None:
    ring = KeyRing()
    spec = protected(key_file(tmp_path, 0, 1, 2))
    keys = keying(spec, ring)
    assert keys
    assert (len(keys.inbound), len(keys.outbound)) == (3, 1)
    unit = compile_unit(spec, ring, keys)
    inbound = {o.spi for o in unit.objects if isinstance(o, Sa) and not o.outbound}
    assert len(inbound) == 3
    assert policies(unit)[-1].template == Template(1, Mode.TRANSPORT, spi=keys.sending.spi)


def test_without_ipsec_there_is_neither_key_nor_protection() -> None:
    assert keying(clear(), KeyRing()) is None
    assert [o.kind for o in compiled(clear()).objects] == ["tunnel", "session", "link", "clamp"]


def test_a_missing_key_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match=r"nothing\.key"):
        keying(protected(str(tmp_path / "nothing.key")), KeyRing())


def test_steady_keying_sends_with_the_first(key: str) -> None:
    keys = keying(protected(key), KeyRing())
    assert isinstance(keys, Keying)
    assert keys.outbound == (keys.sending,)


# -- tunnel, session, device -----------------------------------------------------------------------------------------


def with_session(**values: object) -> TunnelSpec:
    session = dataclasses.replace(clear().sessions[0], **values)  # type: ignore[arg-type]
    return dataclasses.replace(clear(), sessions=(session,))


def with_interface(**values: object) -> TunnelSpec:
    return with_session(interface=dataclasses.replace(clear().sessions[0].interface, **values))  # type: ignore[arg-type]


def test_a_tunnel_is_as_its_spec_says() -> None:
    spec = dataclasses.replace(clear(), encap=Encap.UDP, local_port=1701, remote_port=1702, checksum=False, netns="x")
    assert only(compiled(spec), Tunnel) == Tunnel("x", 1, 1001, Encap.UDP, HERE, THERE, 1701, 1702, False)


def test_over_ip_there_is_no_checksum_to_turn_off() -> None:
    found = only(compiled(dataclasses.replace(clear(), checksum=False)), Tunnel)
    assert isinstance(found, Tunnel)
    assert found.checksum


def test_cookies_are_ours_to_expect_and_the_peer_s_to_send() -> None:
    spec = with_session(cookie=CookieSpec(4, local=b"mine", peer=b"hers"), l2spec=L2Spec.NONE, reorder_ms=5)
    found = only(compiled(spec), Session)
    assert found == Session("", 1, 1, 1, "l1", b"hers", b"mine", L2Spec.NONE, reorder_ms=5)


@pytest.mark.parametrize("length", [4, 8])
def test_derived_cookies_fit_together(key: str, length: int) -> None:
    spec = dataclasses.replace(protected(key), sessions=with_session(cookie=CookieSpec(length)).sessions)
    here, there = only(compiled(spec), Session), only(compiled(mirror(spec)), Session)
    assert isinstance(here, Session)
    assert isinstance(there, Session)
    assert (here.cookie, here.peer_cookie) == (there.peer_cookie, there.cookie)
    assert len(here.cookie) == len(here.peer_cookie) == length
    assert here.cookie != here.peer_cookie


def test_cookies_come_from_a_secret_file_where_there_is_no_ipsec(key: str) -> None:
    spec = dataclasses.replace(with_session(cookie=CookieSpec(8)), secret_file=key)
    found = only(compiled(spec), Session)
    assert isinstance(found, Session)
    assert len(found.cookie) == 8


def test_a_device_knows_its_tunnel_by_its_alias() -> None:
    link = only(compiled(with_interface(mtu=1300, bridge="br0", mac=b"123456", up=False)), Link)
    assert link == Link("", "l1", 1300, "br0", False, b"123456", "", "kl2tp:t1/s")


def test_the_mtu_follows_from_the_path_and_the_layers() -> None:
    plain = expected_link(clear(), clear().sessions[0])
    wide = expected_link(dataclasses.replace(clear(), path_mtu=9000), clear().sessions[0])
    assert wide.mtu - plain.mtu == 7500


def test_a_device_may_live_elsewhere_than_its_tunnel() -> None:
    spec = dataclasses.replace(with_interface(netns="in", addresses=((HERE, 30),)), netns="out")
    unit = compiled(spec)
    link = only(unit, Link)
    assert isinstance(link, Link)
    assert (link.netns, link.tunnel_netns) == ("in", "out")
    session = only(unit, Session)
    assert isinstance(session, Session)
    assert link.name == "l1"
    assert link.birth_name == session.ifname == "kl2tp-1-1"
    assert {o.kind: o.netns for o in unit.objects} == {
        "tunnel": "out",
        "session": "out",
        "link": "in",
        "address": "in",
        "clamp": "in",
    }


def test_where_a_device_stays_it_is_born_with_its_name() -> None:
    for spec in (clear(), with_interface(netns="")):
        unit = compiled(spec)
        link, session = only(unit, Link), only(unit, Session)
        assert isinstance(link, Link)
        assert isinstance(session, Session)
        assert (link.birth_name, session.ifname) == ("l1", "l1")


@given(st.lists(st.tuples(st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1)), min_size=2, max_size=2, unique=True))
def test_birth_names_are_unique_and_names(ids: list[tuple[int, int]]) -> None:
    names = []
    for tunnel, number in ids:
        spec = dataclasses.replace(with_interface(netns="in"), id=tunnel)
        session = dataclasses.replace(spec.sessions[0], id=number)
        names.append(expected_link(spec, session).birth_name)
    assert len(set(names)) == 2
    assert all(0 < len(name) <= 15 and name.isascii() for name in names)


def test_addresses_and_routes_stand_on_the_device() -> None:
    routes = (RouteSpec(bytes((10, 0, 0, 0)), 8), RouteSpec(parse("2001:db8::"), 32, via=parse("fe80::1")))
    unit = compiled(with_interface(addresses=((HERE, 30),), routes=routes))
    assert only(unit, Address) == Address("", "l1", HERE, 30)
    assert [o for o in unit.objects if isinstance(o, Route)] == [
        Route("", 254, bytes((10, 0, 0, 0)), 8, 0, b"", "l1"),
        Route("", 254, parse("2001:db8::"), 32, 1024, parse("fe80::1"), "l1"),
    ]
    assert all(o.tunnel_device for o in unit.objects if isinstance(o, Route))


@pytest.mark.parametrize(("table", "expected"), [(254, 77), (9, 9)])
def test_routes_of_a_device_in_a_vrf_are_in_the_table_of_the_vrf(table: int, expected: int) -> None:
    spec = with_interface(vrf="blue", routes=(RouteSpec(bytes((10, 0, 0, 0)), 8, table=table),))
    route = only(compiled(spec), Route)
    assert isinstance(route, Route)
    assert route.table == expected
    link = only(compiled(spec), Link)
    assert isinstance(link, Link)
    assert link.master == "blue"


def test_the_route_to_the_peer_is_no_route_of_a_session() -> None:
    spec = dataclasses.replace(clear(), route=RouteSpec(THERE, 32, via=peer(9)), route_device="eth0")
    route = only(compiled(spec), Route)
    assert route == Route("", 254, THERE, 32, 0, peer(9), "eth0")
    assert isinstance(route, Route)
    assert not route.tunnel_device


@pytest.mark.parametrize(
    ("interface", "clamp"),
    [
        ({"mtu": 1400}, (1360, 1340)),
        ({"mtu": 1400, "mss": 1000}, (1000, 1000)),
        ({"mtu": 1400, "mss": None}, None),
        ({"mtu": 1400, "bridge": "br0"}, None),
    ],
    ids=["computed", "given", "none", "bridged"],
)
def test_the_segment_size_is_clamped_where_packets_are_routed(
    interface: dict[str, object], clamp: tuple[int, int] | None
) -> None:
    found = [o for o in compiled(with_interface(**interface)).objects if isinstance(o, Clamp)]
    assert [(c.mss4, c.mss6) for c in found] == ([clamp] if clamp else [])


def test_ipv6_tunnels_are_protected_by_ipv6_policies(key: str) -> None:
    local, remote = parse("2001:db8::1"), parse("2001:db8::2")
    unit = compiled(dataclasses.replace(protected(key), local=local, remote=remote))
    assert policies(unit)[0].selector == Selector(bytes(16), 0, remote, 128, 115)
    assert policies(unit)[3].selector == Selector(local, 128, remote, 128, 115)


def test_every_object_knows_its_session_or_that_it_is_the_tunnel_s(key: str) -> None:
    spec = dataclasses.replace(protected(key), route=RouteSpec(peer(1), 32))
    (session,) = spec.sessions
    interface = InterfaceSpec("l9", addresses=((HERE, 24),), routes=(RouteSpec(bytes((10, 9, 0, 0)), 16),))
    spec = dataclasses.replace(spec, sessions=(session, SessionSpec("other", 9, 9, interface)))
    found: dict[str, list[str]] = {}
    for thing in compile_unit(spec, KeyRing(), keying(spec, KeyRing())).objects:
        found.setdefault(session_name(spec, thing), []).append(thing.kind)
    assert found["s"] == ["session", "link", "clamp"]
    assert found["other"] == ["session", "link", "address", "route", "clamp"]
    assert set(found[""]) == {"policy", "guard", "sa", "route", "tunnel"}


def test_two_sessions_are_two_devices_in_one_tunnel() -> None:
    second = SessionSpec("s2", 2, 2, InterfaceSpec("l9"))
    unit = compiled(dataclasses.replace(clear(), sessions=(*clear().sessions, second)))
    assert [o.kind for o in unit.objects].count("tunnel") == 1
    assert [o.name for o in unit.objects if isinstance(o, Link)] == ["l1", "l9"]
