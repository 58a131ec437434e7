"""Stencils: whatever is made by one is, byte for byte, what the long way makes; and who goes the long way."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel.l2tp import Codec
from kl2tp.kernel.stencil import Elements, Requests, Specimen, Stencil
from kl2tp.model.plan import Created, Unit, Verb, creations, verbs
from kl2tp.model.spec import (
    CookieSpec,
    Encap,
    InterfaceSpec,
    IpsecSpec,
    L2Spec,
    Mode,
    RouteSpec,
    SessionSpec,
    TunnelSpec,
)
from kl2tp.reconcile import alike
from kl2tp.reconcile.alike import Batch, batches
from kl2tp.reconcile.compile import compile_unit, keying
from kl2tp.reconcile.ledger import decode_keys
from unit.reconcile.specs import key_file, protected

MANY = 20


def cut(specimen: Specimen) -> Stencil:
    return Stencil(specimen, Codec(30), len)


def made(specs: Iterable[TunnelSpec], ring: KeyRing) -> list[Batch]:
    return list(batches(specs, ring, cut))


def fleet(key: str, *, udp: bool = False, count: int = MANY) -> list[TunnelSpec]:
    """Tunnels of one shape."""
    specs = [protected(key, number, udp=udp) for number in range(1, count + 1)]
    return [_named(spec, f"peer{number:03}") for number, spec in enumerate(specs)]


def _named(spec: TunnelSpec, name: str) -> TunnelSpec:
    (session,) = spec.sessions
    interface = dataclasses.replace(session.interface, name=f"d{name}")
    return dataclasses.replace(spec, name=name, sessions=(dataclasses.replace(session, interface=interface),))


def assert_same(batch: Batch, specs: Sequence[TunnelSpec], ring: KeyRing) -> None:
    """Every row is what the long way gives."""
    by_name = {spec.name: spec for spec in specs}
    for row in batch.rows:
        spec = by_name[row.name]
        unit = compile_unit(spec, ring, keying(spec, ring))
        numbers = {device: 0x7A7B7C7D + number for number, device in enumerate(row.devices)}
        plain = cut(Specimen(unit, "", devices=numbers))
        without_holes = plain.row(row.name, (), row.devices)
        for stencil, filled in ((batch.stencil, row), (plain, without_holes)):
            stencil.number_devices(filled, numbers)
        assert batch.stencil.filled(row) == plain.filled(without_holes)
        assert decode_keys(batch.stencil.text(row)) == set(unit.keys())


# -- any tunnel ------------------------------------------------------------------------------------------------------

_ids = st.integers(1, 2**32 - 1)
_ports = st.integers(1, 65535)
_letters = "abcdefghijklmnopqrstuvwxyz0123456789._-"
_names = st.text(_letters, min_size=11, max_size=11)
_both = st.booleans()
_SEQUENCING = [(False, False), (True, False), (False, True), (True, True)]


@st.composite
def shapes(draw: st.DrawFn) -> TunnelSpec:
    """What tunnels of one shape have in common, of every sort that is made by stencils."""
    v6 = draw(_both)
    udp = draw(_both)
    ipsec = IpsecSpec(
        draw(st.sampled_from(["aes256gcm16", "aes128-sha256", "chacha20poly1305"])),
        "key",
        draw(st.sampled_from(Mode)),
        1,
        *draw(st.sampled_from([(False, 0), (False, 32), (True, 64)])),
        *draw(st.sampled_from([(0, 0), (4500, 4500)])),
        draw(st.sampled_from([None, (5, 255)])),
    )
    sessions = tuple(_session(draw, number) for number in range(draw(st.integers(0, 2))))
    address = bytes(16 if v6 else 4)
    return TunnelSpec(
        "name",
        address,
        address,
        1,
        1,
        Encap.UDP if udp else Encap.IP,
        checksum=draw(_both) if udp else True,
        ipsec=draw(st.sampled_from([ipsec, None])),
        secret_file="key",
        sessions=sessions,
    )


def _session(draw: st.DrawFn, number: int) -> SessionSpec:
    lengths = draw(st.lists(st.sampled_from([4, 16]), max_size=2))
    interface = InterfaceSpec(
        "device",
        draw(st.sampled_from([None, 1400])),
        tuple((bytes(length), length * 8 - 4) for length in lengths),
        bridge=draw(st.sampled_from(["", "br-lan"])),
        mss=draw(st.sampled_from([None, 0, 1200])),
        up=draw(_both),
    )
    length = draw(st.sampled_from([0, 4, 8]))
    cookie = draw(st.sampled_from([CookieSpec(length), CookieSpec(length, bytes(length), bytes(length))]))
    sequencing = draw(st.sampled_from([(L2Spec.NONE, False, False), *((L2Spec.DEFAULT, *s) for s in _SEQUENCING)]))
    return SessionSpec(f"s{number}", 1, 1, interface, cookie, *sequencing, 10 * number)


@st.composite
def likes(draw: st.DrawFn, shape: TunnelSpec, key: str) -> TunnelSpec:
    """A tunnel of a shape."""

    def octets(like: bytes) -> bytes:
        return draw(st.binary(min_size=len(like), max_size=len(like)).filter(any)) if like else b""

    sessions = []
    for session in shape.sessions:
        interface = dataclasses.replace(
            session.interface,
            name=f"{session.name}{draw(_names)}",
            addresses=tuple((octets(address), plen) for address, plen in session.interface.addresses),
        )
        wish = session.cookie
        cookie = wish if wish.local is None else CookieSpec(wish.length, octets(wish.local), octets(wish.peer or b""))
        sessions.append(
            dataclasses.replace(session, id=draw(_ids), peer_id=draw(_ids), interface=interface, cookie=cookie)
        )
    udp = shape.encap == Encap.UDP
    return dataclasses.replace(
        shape,
        name=draw(_names),
        local=octets(shape.local),
        remote=octets(shape.remote),
        id=draw(_ids),
        peer_id=draw(_ids),
        local_port=draw(_ports) if udp else 0,
        remote_port=draw(_ports) if udp else 0,
        ipsec=shape.ipsec and dataclasses.replace(shape.ipsec, key_file=key, reqid=draw(_ids), side="left"),
        secret_file=key,
        sessions=tuple(sessions),
    )


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> str:
    return key_file(tmp_path_factory.mktemp("keys"), 0, 1)


@given(st.data())
def test_every_tunnel_comes_out_as_it_does_the_long_way(key: str, data: st.DataObject) -> None:
    shape = data.draw(shapes())
    specs = data.draw(st.lists(likes(shape, key), min_size=2, max_size=3, unique_by=lambda spec: spec.name))
    ring = KeyRing()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(alike, "FEWEST", 1)
        (batch,) = made(specs, ring)
    assert_same(batch, specs, ring)


# -- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("udp", [False, True])
def test_a_fleet_is_one_batch(key: str, udp: bool) -> None:
    ring, specs = KeyRing(), fleet(key, udp=udp)
    (batch,) = made(specs, ring)
    assert [row.name for row in batch.rows] == [spec.name for spec in specs]
    assert batch.stencil.size == len(creations(compile_unit(specs[0], ring, keying(specs[0], ring))))
    assert_same(batch, specs, ring)


def test_protection_goes_up_before_all_else(key: str) -> None:
    (batch,) = made(fleet(key), KeyRing())
    stages = [len(s.offsets) if isinstance(s, Requests) else [name for name, _ in s.entries] for s in _stages(batch)]
    assert stages == [2, ["guard4_ip"], 3, 2, 1, 1, 1, ["mss4", "mss6"]]


def _stages(batch: Batch) -> Sequence[Requests | Elements]:
    return batch.stencil.stages


def test_what_differs_in_more_than_values_is_of_another_shape(key: str) -> None:
    specs = fleet(key, count=2 * MANY)
    specs[MANY:] = [dataclasses.replace(spec, path_mtu=1400) for spec in specs[MANY:]]
    assert [len(batch.rows) for batch in made(specs, KeyRing())] == [MANY, MANY]


def test_names_of_another_length_are_of_another_shape(key: str) -> None:
    specs = fleet(key, count=2 * MANY)
    specs[MANY:] = [_named(spec, f"longer{spec.name}") for spec in specs[MANY:]]
    assert [len(batch.rows) for batch in made(specs, KeyRing())] == [MANY, MANY]


def test_too_few_go_the_long_way(key: str) -> None:
    assert made(fleet(key, count=alike.FEWEST - 1), KeyRing()) == []


ROUTE = RouteSpec(bytes((10, 9, 0, 0)), 16)
LONG_WAY = {
    "a route to the peer": lambda spec: dataclasses.replace(spec, route=RouteSpec(spec.remote, 32)),
    "routes": lambda spec: _with_interface(spec, routes=(ROUTE,)),
    "a namespace of its own": lambda spec: _with_interface(spec, netns="inside"),
    "a MAC address": lambda spec: _with_interface(spec, mac=bytes(6)),
    "a name too short for a mark": lambda spec: _with_interface(spec, name=spec.name[-3:]),
    "offload": lambda spec: dataclasses.replace(spec, ipsec=dataclasses.replace(spec.ipsec, offload_device="eth0")),
    "no key": lambda spec: dataclasses.replace(spec, ipsec=dataclasses.replace(spec.ipsec, key_file="/none")),
    "no room for a packet": lambda spec: dataclasses.replace(spec, path_mtu=60),
}


def _with_interface(spec: TunnelSpec, **change: Any) -> TunnelSpec:
    (session,) = spec.sessions
    interface = dataclasses.replace(session.interface, **change)
    return dataclasses.replace(spec, sessions=(dataclasses.replace(session, interface=interface),))


@pytest.mark.parametrize("change", LONG_WAY.values(), ids=LONG_WAY)
def test_tunnels_with_more_to_them_go_the_long_way(key: str, change: object) -> None:
    assert callable(change)
    plain = fleet(key)
    others = [change(_named(spec, f"z{spec.name[1:]}")) for spec in plain]
    (batch,) = made([*plain, *others], KeyRing())
    assert {row.name for row in batch.rows} == {spec.name for spec in plain}


def test_every_field_of_a_spec_is_a_value_or_part_of_the_shape_or_of_no_concern() -> None:
    """A field that is added and forgotten would give tunnels of different kinds one stencil."""
    known = {
        TunnelSpec: {
            *{"name", "local", "remote", "id", "peer_id", "local_port", "remote_port"},
            *{"encap", "checksum", "netns", "path_mtu"},
            *{"ipsec", "sessions"},
            *{"route", "route_device", "ike"},  # with a route or with IKE: the long way
            *{"secret_file", "where"},  # in no object, but for what is derived
        },
        IpsecSpec: {
            *{"reqid"},
            *{"cipher", "mode", "esn", "replay_window", "nat_local_port", "nat_remote_port", "mark"},
            *{"offload_device", "offload_packet"},  # with a device: the long way
            *{"key_file", "side", "overlap"},
        },
        SessionSpec: {
            *{"id", "peer_id", "interface", "cookie"},
            *{"name", "l2spec", "send_sequence", "require_sequence", "reorder_ms"},
        },
        InterfaceSpec: {
            *{"name", "addresses"},
            *{"mtu", "bridge", "vrf", "mss", "up"},
            *{"routes", "netns", "mac"},  # with any: the long way
        },
        CookieSpec: {"length", "local", "peer"},
    }
    for kind, names in known.items():
        assert {field.name for field in dataclasses.fields(kind)} == names, kind.__name__


def test_a_stencil_that_proves_false_is_not_used(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alike._Marks, "number", lambda self, like: 0x80000001)  # no mark is like another
    assert made(fleet(key), KeyRing()) == []


# -- what is told of it ----------------------------------------------------------------------------------------------


def test_a_creation_is_spelled_out_for_whoever_reads_it(tmp_path: Path) -> None:
    ring = KeyRing()
    spec = protected(key_file(tmp_path, 0))
    unit = compile_unit(spec, ring, keying(spec, ring))
    asked: list[int] = []

    def ask() -> Unit:
        asked.append(1)
        return unit

    done = Created(len(unit.objects), ask)
    assert (len(done), bool(done), verbs(done), asked) == (len(unit.objects), True, {"+": len(unit.objects)}, [])
    assert list(done) == creations(unit)
    assert (done[0], done[-1], done[:2]) == (creations(unit)[0], creations(unit)[-1], creations(unit)[:2])
    assert {op.verb for op in done} == {Verb.CREATE}
