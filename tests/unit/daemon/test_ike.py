"""What the configuration wants of charon, and what is said of tunnels that wait for it."""

import pytest

from kl2tp.daemon import ike, ikewords
from kl2tp.daemon.report import unserved
from kl2tp.ipsec.ike import Cause, CauseKind, Negotiation, State, Traffic
from kl2tp.model.calls import LacSpec, LnsSpec
from kl2tp.model.desired import Desired
from kl2tp.model.ike import IkeSpec, Initiate
from kl2tp.model.objects import Sa
from kl2tp.model.spec import Encap, TunnelSpec
from unit.calls.children import child

US, THEM, LATER = bytes((198, 51, 100, 1)), bytes((203, 0, 113, 9)), bytes((203, 0, 113, 10))
IKE = IkeSpec(psk_file="/etc/kl2tp/psk", reqid=0x6B6C0001)


def _tunnel(**more: object) -> TunnelSpec:
    options = {"encap": Encap.UDP, "local_port": 1701, "remote_port": 1702, "ike": IKE} | more
    return TunnelSpec("madrid", US, THEM, 1, 2, **options)  # type: ignore[arg-type]


def test_a_tunnel_in_udp_is_exactly_its_ports() -> None:
    found = ike.of_tunnel(_tunnel())
    assert (found.name, found.local, found.remotes) == ("kl2tp:madrid", US, ((THEM, 32),))
    assert found.traffic == Traffic(17, 1701, 1702)


def test_a_tunnel_in_ip_is_protocol_115() -> None:
    assert ike.of_tunnel(_tunnel(encap=Encap.IP, local_port=0, remote_port=0)).traffic == Traffic(115, 0, 0)


@pytest.mark.parametrize(
    ("initiate", "turned", "expected"),
    [
        (Initiate.AUTO, False, (True, True)),
        (Initiate.AUTO, True, (True, False)),
        (Initiate.YES, True, (True, True)),
        (Initiate.NO, False, (False, True)),
    ],
)
def test_of_two_ends_that_both_may_the_lower_address_begins(
    initiate: Initiate, turned: bool, expected: tuple[bool, bool]
) -> None:
    ends = (THEM, US) if turned else (US, THEM)
    spec = TunnelSpec("madrid", *ends, 1, 2, ike=IkeSpec(initiate=initiate))
    found = ike.of_tunnel(spec)
    assert (found.initiates, found.first) == expected


def test_an_lns_takes_any_port_of_its_peers_and_many_of_them() -> None:
    [found] = ike.of_lns([LnsSpec("office", listen=((US, 1701),), ike=IKE)])
    assert (found.name, found.local, found.remotes, found.many) == ("kl2tp:lns:office", US, (), True)
    assert found.traffic == Traffic(17, 1701, 0)
    assert not found.initiates


def test_profiles_that_are_the_same_to_ike_share_a_connection() -> None:
    one, two = LnsSpec("one", listen=((US, 1701),), ike=IKE), LnsSpec("two", listen=((US, 1701),), ike=IKE)
    assert [found.name for found in ike.of_lns([one, two])] == ["kl2tp:lns:one"]


def test_a_profile_that_listens_everywhere_has_one_connection_for_both_families() -> None:
    [found] = ike.of_lns([LnsSpec("all", ike=IKE)])
    assert (found.local, found.traffic) == (b"", Traffic(17, 1701, 0))


def test_each_address_of_a_profile_has_a_connection() -> None:
    found = ike.of_lns([LnsSpec("two", listen=((US, 1701), (THEM, 1701)), peers=((US, 24),), ike=IKE)])
    assert [(f.name, f.local, f.remotes) for f in found] == [
        ("kl2tp:lns:two", US, ((US, 24),)),
        ("kl2tp:lns:two/1", THEM, ((US, 24),)),
    ]


def test_a_call_is_to_the_server_of_the_moment() -> None:
    lac = LacSpec("hq", ((THEM, 1701), (LATER, 1701)), ike=IKE)
    desired = Desired(lac=(lac,))
    assert ike.wanted(desired, {})["kl2tp:lac:hq"].remotes == ((THEM, 32),)
    assert ike.wanted(desired, {"hq": (LATER, 1701)})["kl2tp:lac:hq"].remotes == ((LATER, 32),)
    assert ike.wanted(desired, {}, calls=False) == {}


def test_what_has_no_ike_wants_nothing() -> None:
    desired = Desired((_tunnel(ike=None),), lns=(LnsSpec("a"),), lac=(LacSpec("b", ((THEM, 1701),)),))
    assert ike.wanted(desired, {}) == {}


def test_both_sas_of_an_orphan_are_deleted() -> None:
    operations = ike.deletions(child(7, THEM))
    keys = [(op.target.destination, op.target.spi) for op in operations if isinstance(op.target, Sa)]
    assert keys == [(US, 0x107), (THEM, 0x207)]


def test_a_negotiation_that_failed_says_why_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ikewords.time, "time", lambda: 100.0)
    cause = Cause(CauseKind.NO_ANSWER, "203.0.113.9 does not answer", "is UDP 500 open?")
    failed = Negotiation(State.DOWN, 0.0, problem=cause, next_try=112.0)
    assert ikewords.state(failed) == "203.0.113.9 does not answer (is UDP 500 open?); next try in 12 s"
    assert ikewords.state(Negotiation(State.UP, 0.0)) == ""
    assert "does not answer" in ikewords.state(Negotiation(State.NO_CHARON, 0.0))


def test_without_a_daemon_it_is_said_that_nobody_negotiates() -> None:
    assert unserved(Desired((_tunnel(),))) == {"unnegotiated": ["madrid"]}
    assert unserved(Desired((_tunnel(ike=None),))) == {}
    both = Desired((_tunnel(),), lns=(LnsSpec("office", ike=IKE),))
    assert unserved(both) == {"unnegotiated": ["madrid"], "unserved": {"lns": ["office"], "lac": []}}
