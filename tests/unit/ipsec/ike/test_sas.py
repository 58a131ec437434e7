"""The table of SAs: lists and events in the form in which strongSwan 5.9.8 sends them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.ipsec.ike.sas import REKEYS, REMEMBERED, Sas, ours, parsed
from kl2tp.model.addr import parse
from kl2tp.wire.vici import Section, ViciError

NOW = 1000.0
TUNNEL, LNS = "kl2tp:x", "kl2tp:lns:office"


def ike(number: int, *children: Section, host: str = "203.0.113.7", port: int = 4500, **more: Any) -> Section:
    """An IKE SA's section."""
    found: dict[str, Any] = {
        "uniqueid": str(number),
        "version": "2",
        "state": "ESTABLISHED",
        "local-host": "198.51.100.1",
        "local-port": "4500",
        "local-id": "198.51.100.1",
        "remote-host": host,
        "remote-port": str(port),
        "remote-id": "192.168.1.2",
        "initiator": "yes",
        "initiator-spi": "e3cb090903ae4644",
        "responder-spi": "d627ae8bb8118f2e",
        "encr-alg": "AES_GCM_16",
        "encr-keysize": "256",
        "prf-alg": "PRF_HMAC_SHA2_384",
        "dh-group": "ECP_384",
        "established": "10",
        "rekey-time": "13450",
    }
    inner = {f"l2tp-{child['uniqueid']}": child for child in children}
    return {**found, **more, **({"child-sas": inner} if inner else {})}  # type: ignore[dict-item]


def child(number: int, reqid: int = 1, **more: Any) -> Section:
    """A pair of IPsec SAs' section."""
    return {
        "name": "l2tp",
        "uniqueid": str(number),
        "reqid": str(reqid),
        "state": "INSTALLED",
        "mode": "TRANSPORT",
        "protocol": "ESP",
        "spi-in": f"c000{number:04x}",
        "spi-out": f"d000{number:04x}",
        "encr-alg": "AES_CBC",
        "encr-keysize": "256",
        "integ-alg": "HMAC_SHA2_256_128",
        "bytes-in": "1000",
        "packets-in": "10",
        "bytes-out": "2000",
        "packets-out": "20",
        "rekey-time": "3558",
        "life-time": "3960",
        "install-time": "5",
        "local-ts": ["198.51.100.1/32[udp/l2f]"],
        "remote-ts": ["192.168.1.2/32[udp/l2f]"],
        **more,
    }


def table(*listed: tuple[str, Section]) -> Sas:
    """A table after a first list."""
    sas = Sas()
    sas.many = frozenset((LNS,))
    sas.replace(parsed(*one, NOW) for one in listed)
    sas.changed.clear()
    return sas


def down(sas: Sas, name: str, number: int, *children: Section, **more: Any) -> None:
    """An IKE SA ends with its children."""
    sas.ike_updown(name, ike(number, state="DELETING", **more), False, NOW)
    for one in children:
        sas.child_updown(name, ike(number, one, state="DELETING", **more), False, NOW)


def rekeyed(old: Section, new: Section) -> Section:
    """A child-rekey event's section."""
    return {**ike(1), "child-sas": {"l2tp": {"old": old, "new": new}}}


def test_a_list_is_taken_over_with_dates_and_ciphers() -> None:
    sas = table((TUNNEL, ike(1, child(1))))
    (found,) = sas.children(TUNNEL)
    assert (found.reqid, found.spi_in, found.spi_out) == (1, 0xC0000001, 0xD0000001)
    assert (found.encryption, found.integrity, found.transport) == ("AES_CBC-256", "HMAC_SHA2_256_128", True)
    assert (found.since, found.rekey_at, found.expires_at) == (NOW - 5, NOW + 3558, NOW + 3960)
    assert (found.remote, found.remote_port, found.remote_id) == (parse("203.0.113.7"), 4500, "192.168.1.2")
    assert (found.counters.packets_in, found.counters.bytes_out) == (10, 2000)
    (above,) = sas.ike(TUNNEL)
    assert (above.algorithms, above.since) == ("AES_GCM_16-256/PRF_HMAC_SHA2_384/ECP_384", NOW - 10)
    assert sas.live(TUNNEL)


def test_the_same_list_again_changes_nothing() -> None:
    sas = table((TUNNEL, ike(1, child(1))))
    later = child(1) | {"bytes-in": "5000", "rekey-time": "3548", "life-time": "3950", "install-time": "15"}
    sas.replace([parsed(TUNNEL, ike(1, later), NOW + 10)])
    assert not sas.changed
    assert not sas.gone
    assert sas.children(TUNNEL)[0].counters.bytes_in == 5000


def test_what_a_list_has_no_more_is_gone() -> None:
    sas = table((TUNNEL, ike(1, child(1))), (LNS, ike(2, child(2))))
    sas.replace([])
    assert sas.changed == {TUNNEL, LNS}
    assert {found.spi_in for found in sas.gone} == {0xC0000001, 0xC0000002}
    assert not sas.clients
    assert not sas.names()


def test_the_old_ones_of_a_rekeying_linger_in_lists_and_carry_no_traffic() -> None:
    sas = table((TUNNEL, ike(1, child(1, state="DELETED"), child(2), child(3, state="REKEYED"))))
    assert [found.unique_id for found in sas.children(TUNNEL)] == [2]


def test_events_make_and_end_children() -> None:
    sas = table()
    sas.child_updown(TUNNEL, ike(1, child(1)), True, NOW)
    assert sas.live(TUNNEL)
    assert sas.changed == {TUNNEL}
    sas.child_updown(TUNNEL, ike(1, child(1, state="DELETED")), False, NOW)
    assert not sas.live(TUNNEL)
    assert [found.spi_in for found in sas.gone] == [0xC0000001]


def test_an_ike_sa_that_ends_has_each_of_its_children_told_of() -> None:
    """As strongSwan tells it: the IKE SA first, then each child."""
    sas = table((TUNNEL, ike(1, child(1))), (TUNNEL, ike(2, child(2))))
    down(sas, TUNNEL, 1, child(1))
    assert [found.unique_id for found in sas.children(TUNNEL)] == [2]
    assert [found.unique_id for found in sas.ike(TUNNEL)] == [2]
    assert len(sas.gone) == 1


def test_children_that_nobody_tells_of_may_have_another_ike_sa() -> None:
    """IKEv1 when both ends authenticate anew: the new IKE SA adopts them, and no event says so."""
    sas = table((TUNNEL, ike(1, child(1))))
    sas.ike_updown(TUNNEL, ike(2), True, NOW)
    sas.ike_updown(TUNNEL, ike(1, state="DELETING"), False, NOW)
    assert sas.live(TUNNEL)
    assert sas.has_child(TUNNEL, 1)
    sas.replace_one(TUNNEL, [parsed(TUNNEL, ike(2, child(1)), NOW)])
    assert sas.has_child(TUNNEL, 2)
    assert not sas.has_child(TUNNEL, 1)
    assert not sas.gone


def test_a_rekeying_is_no_end_and_its_date_is_kept() -> None:
    sas = table((LNS, ike(1, child(1))))
    sas.child_rekey(LNS, rekeyed(child(1, state="REKEYED"), child(2)), NOW + 5)
    assert [(found.unique_id, found.rekeyed) for found in sas.children(LNS)] == [(2, 1)]
    assert sas.clients[1].spi_in == 0xC0000002
    assert sas.rekeys(LNS) == (NOW + 5,)
    assert not sas.gone


def test_a_storm_of_rekeyings_leaves_so_many_dates_and_no_more() -> None:
    sas = table((TUNNEL, ike(1, child(1))))
    for number in range(1, 200):
        sas.child_rekey(TUNNEL, rekeyed(child(number), child(number + 1)), NOW + number)
    assert len(sas.rekeys(TUNNEL)) == REKEYS
    assert sas.rekeys(TUNNEL)[-1] == NOW + 199
    assert len(sas.children(TUNNEL)) == 1


def test_children_move_to_the_successor_of_their_ike_sa() -> None:
    sas = table((TUNNEL, ike(1, child(1))))
    sas.ike_rekey(TUNNEL, {"old": ike(1), "new": ike(2)}, NOW)
    assert sas.children(TUNNEL)[0].ike_id == 2
    assert sas.has_child(TUNNEL, 2)
    down(sas, TUNNEL, 1)
    assert sas.live(TUNNEL)
    down(sas, TUNNEL, 2, child(1))
    assert not sas.live(TUNNEL)


def test_a_peer_that_moves_keeps_its_children() -> None:
    sas = table((LNS, ike(1, child(1))))
    where: Section = {"local-host": "198.51.100.1", "local-port": "4500", "remote-host": "192.0.2.9",
                      "remote-port": "1027"}  # fmt: skip
    sas.ike_update(LNS, ike(1), where)
    assert (sas.clients[1].remote, sas.clients[1].remote_port) == (parse("192.0.2.9"), 1027)
    assert not sas.gone


def test_clients_of_an_lns_are_known_by_reqid() -> None:
    clients = (LNS, ike(1, child(1, 1), port=4500)), (LNS, ike(2, child(2, 2), port=1027))
    sas = table(*clients, (TUNNEL, ike(3, child(3, 77))))
    assert {reqid: found.remote_port for reqid, found in sas.clients.items()} == {1: 4500, 2: 1027}
    down(sas, LNS, 1, child(1, 1))
    assert list(sas.clients) == [2]


def test_a_client_that_authenticates_anew_is_known_again_under_another_reqid() -> None:
    """New first, or after a gap; and another client behind the same NAT is another."""
    sas = table((LNS, ike(1, child(1, 1))))
    sas.child_updown(LNS, ike(2, child(2, 2)), True, NOW)
    assert sas.clients[2].follows == 1
    down(sas, LNS, 1, child(1, 1))
    down(sas, LNS, 2, child(2, 2))
    assert not sas.clients
    sas.child_updown(LNS, ike(3, child(3, 3)), True, NOW)
    sas.child_updown(LNS, ike(4, child(4, 4), port=1027), True, NOW)
    assert (sas.clients[3].follows, sas.clients[4].follows) == (2, 0)


def test_clients_that_left_are_not_remembered_for_ever() -> None:
    sas = table()
    for number in range(1, 2 * REMEMBERED):
        host = f"10.0.{number // 250}.{number % 250 + 1}"
        sas.child_updown(LNS, ike(number, child(number, 1), host=host), True, NOW)
        down(sas, LNS, number, child(number, 1), host=host)
    assert not sas.clients
    assert len(sas._seats) <= REMEMBERED + 1
    assert not sas.names()


# --- another charon


def test_another_charon_leaves_orphans_that_are_there_and_not_live() -> None:
    sas = table((TUNNEL, ike(1, child(1))), (LNS, ike(2, child(2, 9))))
    sas.orphan_all()
    sas.replace([])
    assert [found.orphaned for found in sas.children(TUNNEL)] == [True]
    assert not sas.live(TUNNEL)
    assert sas.clients[9].orphaned
    assert not sas.gone


def test_an_orphan_is_gone_when_its_tunnel_has_new_sas() -> None:
    sas = table((TUNNEL, ike(1, child(1))))
    sas.orphan_all()
    sas.child_updown(TUNNEL, ike(1, child(1, **{"spi-in": "cafe0000"})), True, NOW)
    assert [(found.spi_in, found.orphaned) for found in sas.gone] == [(0xC0000001, True)]
    assert [(found.spi_in, found.orphaned) for found in sas.children(TUNNEL)] == [(0xCAFE0000, False)]


def test_a_reqid_that_goes_to_another_client_takes_the_orphan_away() -> None:
    sas = table((LNS, ike(1, child(1, 1), port=4500)), (LNS, ike(2, child(2, 2), port=1027)))
    sas.orphan_all()
    sas.child_updown(LNS, ike(1, child(1, 1, **{"spi-in": "cafe0000"}), port=1027), True, NOW)
    assert all(found.orphaned for found in sas.gone)
    assert {(found.reqid, found.remote_port) for found in sas.gone} == {(1, 4500), (2, 1027)}
    assert {reqid: found.spi_in for reqid, found in sas.clients.items()} == {1: 0xCAFE0000}
    assert sas.clients[1].follows == 2


def test_an_orphan_is_gone_when_the_kernel_says_so_or_its_time_is_over() -> None:
    sas = table((TUNNEL, ike(1, child(1))), (LNS, ike(2, child(2, 2))))
    sas.orphan_all()
    sas.kernel_gone([0xC0000001, 0x12345678])
    assert [found.name for found in sas.gone] == [TUNNEL]
    sas.expire(NOW + 3959)
    assert LNS in sas.names()
    sas.expire(NOW + 3960)
    assert not sas.names()
    assert not sas.clients


def test_what_charon_has_is_not_gone_because_the_kernel_says_so() -> None:
    sas = table((TUNNEL, ike(1, child(1))))
    sas.kernel_gone([0xC0000001])
    assert sas.live(TUNNEL)


def test_orphans_of_what_is_wanted_no_longer_are_gone() -> None:
    sas = table((TUNNEL, ike(1, child(1))))
    assert sas.forget(TUNNEL)
    sas.orphan_all()
    assert not sas.forget(TUNNEL)
    assert len(sas.gone) == 1


# --- robustness


def test_connections_of_others_are_not_ours() -> None:
    assert list(ours({"home": ike(1), TUNNEL: ike(2), "up": "yes"})) == [(TUNNEL, ike(2))]


@pytest.mark.parametrize("wrong", [{"uniqueid": "one"}, {"remote-host": "nowhere"}, {"established": "x"}])
def test_an_sa_that_makes_no_sense_is_an_error(wrong: dict[str, str]) -> None:
    with pytest.raises(ViciError):
        parsed(LNS, ike(2, **wrong), NOW)


SECTIONS: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(
        st.sampled_from(["uniqueid", "spi-in", "old", "new", "remote-host", "child-sas", "reqid", "state", "l2tp-1"]),
        st.sampled_from(["1", "2", "x", "", "10.0.0.1", "INSTALLED"]) | st.lists(st.text(max_size=3), max_size=2),
    ),
    lambda inner: st.dictionaries(st.sampled_from(["old", "new", "child-sas", "l2tp-1", "l2tp-2"]), inner, max_size=3),
    max_leaves=6,
)


KINDS = st.sampled_from(["up", "down", "cup", "cdown", "rekey", "crekey", "move"])


@given(st.lists(st.tuples(KINDS, SECTIONS), max_size=8))
def test_whatever_charon_sends_only_one_error_comes_out(events: list[tuple[str, Any]]) -> None:
    sas = table((LNS, ike(1, child(1))))
    for kind, section in events:
        try:
            if kind in ("up", "down"):
                sas.ike_updown(LNS, section, kind == "up", NOW)
            elif kind in ("cup", "cdown"):
                sas.child_updown(LNS, section, kind == "cup", NOW)
            elif kind == "rekey":
                sas.ike_rekey(LNS, section, NOW)
            elif kind == "crekey":
                sas.child_rekey(LNS, section, NOW)
            else:
                sas.ike_update(LNS, section, section)
        except ViciError:
            continue
    for found in sas.children(LNS):
        assert sas.clients.get(found.reqid) is not None
