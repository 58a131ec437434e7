"""The kernel's objects: keys, equality, what they say and what they never say."""

import json
import pickle

import pytest

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
    Secret,
    Selector,
    Session,
    Template,
    Tunnel,
)
from kl2tp.model.spec import Encap, L2Spec, Mode

HERE, THERE = bytes((192, 0, 2, 1)), bytes((203, 0, 113, 7))
HERE6, THERE6 = b"\x20\x01" + bytes(13) + b"\1", b"\x20\x01" + bytes(13) + b"\2"
KEY = Secret(b"a very secret key, never to show")
OUT = Selector(HERE, 32, THERE, 32, 17, 1701, 1702)

OBJECTS: list[tuple[KernelObject, str]] = [
    (
        Tunnel("", 1, 2, Encap.UDP, HERE, THERE, 1701, 1702),
        "tunnel 1 peer 2 udp 192.0.2.1 port 1701 -> 203.0.113.7 port 1702",
    ),
    (Tunnel("", 1, 2, Encap.IP, HERE6, THERE6), "tunnel 1 peer 2 ip 2001::1 -> 2001::2"),
    (Session("", 1, 3, 4, "l0"), "session 1/3 peer 4 dev l0"),
    (
        Session("", 1, 3, 4, "l0", b"12345678", b"1234", send_sequence=True),
        "session 1/3 peer 4 dev l0 cookie 8/4 bytes seq",
    ),
    (Link("", "l0", 1400), "link l0 mtu 1400 up"),
    (
        Link("", "l0", 1400, "br0", up=False, mac=b"\2\0\0\0\0\1"),
        "link l0 mtu 1400 master br0 address 02:00:00:00:00:01 down",
    ),
    (Address("", "l0", HERE, 30), "address 192.0.2.1/30 dev l0"),
    (Address("", "l0", HERE, 32, THERE), "address 192.0.2.1 peer 203.0.113.7/32 dev l0"),
    (Route("", 254, THERE, 32, 0, device="l0"), "route 203.0.113.7/32 dev l0"),
    (Route("", 7, THERE, 24, 5, via=HERE), "route 203.0.113.7/24 via 192.0.2.1 table 7 metric 5"),
    (
        Sa("", HERE, THERE, 0x1001, Mode.TRANSPORT, 16, "cbc(aes)", KEY, False, 16, "hmac(sha256)", KEY, esn=True),
        "sa 192.0.2.1 -> 203.0.113.7 spi 0x00001001 reqid 0x10 transport cbc(aes)+hmac(sha256) esn",
    ),
    (
        Sa("", HERE, THERE, 1, Mode.TUNNEL, 1, "x", KEY, encap_source_port=4500, encap_destination_port=4501),
        "sa 192.0.2.1 -> 203.0.113.7 spi 0x00000001 reqid 0x1 tunnel x udp 4500->4501",
    ),
    (
        Policy("", Direction.OUT, OUT, 1000, Template(16, Mode.TUNNEL, spi=0x1001)),
        "policy out udp 192.0.2.1 port 1701 -> 203.0.113.7 port 1702 esp reqid 0x10 spi 0x00001001 tunnel",
    ),
    (
        Policy("", Direction.IN, Selector(THERE, 32, bytes(4), 0, 115), 2000, None),
        "policy in l2tp 203.0.113.7 -> any block",
    ),
    (Guard("", THERE), "guard 203.0.113.7 l2tp: drop what IPsec does not protect"),
    (Guard("", THERE, 1701, 1702), "guard 203.0.113.7 udp 1701<->1702: drop what IPsec does not protect"),
    (Clamp("", "l0", 1360, 1340), "mss clamp l0 ipv4 1360 ipv6 1340"),
]


@pytest.mark.parametrize(("thing", "expected"), OBJECTS, ids=lambda value: getattr(value, "kind", None))
def test_an_object_says_what_an_operator_would_write(thing: KernelObject, expected: str) -> None:
    assert str(thing) == expected


@pytest.mark.parametrize("thing", [thing for thing, _ in OBJECTS], ids=lambda thing: str(thing.kind))
def test_a_key_begins_with_kind_and_namespace_and_json_can_hold_it(thing: KernelObject) -> None:
    assert thing.key[:2] == (thing.kind, thing.netns)
    assert tuple(json.loads(json.dumps(thing.key))) == thing.key


def test_settings_are_no_part_of_a_key() -> None:
    tunnels, sessions, links = ({o.key for o, _ in OBJECTS if o.kind == kind} for kind in ("tunnel", "session", "link"))
    assert (len(tunnels), len(sessions), len(links)) == (1, 1, 1)


def test_marks_tell_policies_and_associations_apart() -> None:
    marks = (None, (1, 1), (1, 3))
    policies: list[KernelObject] = [Policy("", Direction.OUT, OUT, 1, None, mark) for mark in marks]
    sas: list[KernelObject] = [
        Sa("", HERE, THERE, 1, Mode.TUNNEL, 1, "x", KEY, mark=mark) for mark in (None, (1, 1), (1, 3))
    ]
    assert len({o.key for o in policies} | {o.key for o in sas}) == 6


def test_the_sublayer_is_not_compared_as_the_kernel_never_reports_it() -> None:
    assert Session("", 1, 1, 1, "l0", l2spec=L2Spec.NONE) == Session("", 1, 1, 1, "l0", l2spec=L2Spec.DEFAULT)


# -- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_shows_its_length_only() -> None:
    assert repr(KEY) == str(KEY) == f"{KEY}" == "<secret, 32 bytes>"


def test_no_object_shows_a_secret() -> None:
    sa = next(thing for thing, _ in OBJECTS if isinstance(thing, Sa))
    shown = f"{sa} {sa!r}"
    assert "very" not in shown
    assert KEY.reveal().hex() not in shown


def test_secrets_compare_by_content() -> None:
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"


@pytest.mark.parametrize("thing", [KEY, next(thing for thing, _ in OBJECTS if isinstance(thing, Sa))])
def test_a_secret_does_not_leave_the_process_and_is_no_key_of_a_dictionary(thing: object) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(thing)
    with pytest.raises(TypeError):
        hash(thing)
