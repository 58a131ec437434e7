"""`kl2tp doctor` and IPsec with IKE, on machines that are directories."""

import errno
from pathlib import Path

import pytest

from kl2tp.doctor import ike, neighbours
from kl2tp.kernel import clients, rules
from kl2tp.kernel.finding import Finding, Level
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.rules import MarkRule
from kl2tp.model.calls import LnsSpec
from kl2tp.model.desired import Desired
from kl2tp.model.ike import LAC_REQIDS, TUNNEL_REQIDS, IkeSpec
from unit.doctor.machines import UDP, Box, bad, udp_line

LNS = Desired(lns=(LnsSpec("office", ike=IkeSpec()),))
CLEAR = Desired(lns=(LnsSpec("office"),))


@pytest.fixture(autouse=True)
def kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ike, "cannot_guard_places", lambda: None)
    monkeypatch.setattr(rules, "by_mark", list)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A machine on which all is well."""
    box = Box(tmp_path)
    box.put("/run/charon.vici", "")
    box.process(7, "charon-systemd", 500, 4500)
    box.put("/proc/net/udp", UDP + udp_line("0.0.0.0", 500, 500) + udp_line("0.0.0.0", 4500, 4500))
    return box


def found(box: Box, desired: Desired = LNS) -> list[Finding]:
    return bad(ike.ike(box, desired))


def test_where_all_is_well_nothing_is_found(box: Box) -> None:
    assert found(box) == []


def test_without_ike_nobody_asks_for_charon(tmp_path: Path) -> None:
    assert list(ike.ike(Box(tmp_path), CLEAR)) == []
    assert list(ike.ike(Box(tmp_path), None)) == []


def test_charon_is_named_where_it_is_missing_and_how_it_gets_here(tmp_path: Path) -> None:
    (finding,) = found(Box(tmp_path))
    assert (finding.level, finding.what) == (Level.FAIL, "charon does not run")
    assert "/run/charon.vici" in finding.why
    assert "apt install" in finding.mend


def test_charon_without_a_socket_is_told_from_none(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.process(7, "charon")
    (finding,) = found(box)
    assert "vici" in finding.mend


def test_a_socket_that_a_dead_charon_left_is_no_charon(tmp_path: Path) -> None:
    box = Box(tmp_path)
    box.put("/run/charon.vici", "")
    assert [f.what for f in found(box)] == ["charon does not run"]


def test_whoever_else_has_the_ports_of_ike_is_named(box: Box) -> None:
    box.process(8, "pluto", 501)
    box.put("/proc/net/udp", UDP + udp_line("0.0.0.0", 500, 501))
    (finding,) = found(box)
    assert (finding.level, finding.what) == (Level.FAIL, "pluto (process 8) holds UDP port 500")


def test_a_second_daemon_for_ike_is_named_even_without_ports(box: Box) -> None:
    box.process(8, "iked")
    assert [f.what for f in found(box)] == ["iked (process 8) runs too"]


def test_charon_is_no_stranger_where_ike_is_wanted(box: Box) -> None:
    assert len(list(neighbours.daemons(box))) == 1
    assert list(neighbours.daemons(box, ike=True)) == []


@pytest.mark.parametrize(("line", "known"), [("load = yes", 1), ("load = no", 0), ("# load = yes", 0), ("", 0)])
def test_esp_in_user_space_is_in_the_way(box: Box, line: str, known: int) -> None:
    box.put(f"{ike.SETTINGS}/kernel-libipsec.conf", f"kernel-libipsec {{\n    {line}\n}}\n")
    assert len(found(box)) == known


@pytest.mark.parametrize(
    ("line", "known"), [("port = 501", 1), ("port_nat_t = 4501", 1), ("# port = 7", 0), ("port = 0", 0)]
)
def test_ike_on_other_ports_is_noticed(box: Box, line: str, known: int) -> None:
    box.put("/etc/strongswan.d/charon.conf", f"charon {{\n    {line}\n}}\n")
    assert len(found(box)) == known


def test_nftables_that_sees_no_ipsec_is_explained(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ike, "cannot_guard_places", lambda: KernelError(errno.ENOENT))
    (finding,) = found(box)
    assert finding.level == Level.WARN
    assert "IPsec only all the same" in finding.why
    assert finding.mend == "modprobe nft_xfrm"


def test_what_could_not_be_tried_is_no_lack(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ike, "cannot_guard_places", lambda: KernelError(errno.EPERM))
    assert [f.mend for f in found(box)] == ["sudo kl2tp doctor"]


@pytest.mark.parametrize(
    ("release", "says"), [("5.15.0", "tell no marks"), ("6.1.0-56-amd64", "16384 to 32767"), ("6.12.1", "by their SAs")]
)
def test_how_clients_are_told_apart_depends_on_the_kernel(box: Box, release: str, says: str) -> None:
    machine = Box(box.root, release)
    assert any(says in finding.what for finding in ike.ike(machine, LNS))


@pytest.mark.parametrize(
    ("rule", "known"),
    [
        (MarkRule(100, 0x6B000001, 0xFFFFFFFF), 1),
        (MarkRule(100, 0x6B000000, 0xFF000000), 1),
        (MarkRule(100, 1, 1), 1),
        (MarkRule(100, 1, 0xFF), 1),
        (MarkRule(100, 0x10000, 0xFF0000), 0),
        (MarkRule(100, 1, 0xFFFFFFFF), 0),
        (MarkRule(100, 0xCA6C, 0xFFFFFFFF), 0),
    ],
)
def test_routing_by_our_marks_is_noticed(
    box: Box, monkeypatch: pytest.MonkeyPatch, rule: MarkRule, known: int
) -> None:
    monkeypatch.setattr(rules, "by_mark", lambda: [rule])
    assert len(found(box)) == known


@pytest.mark.parametrize(
    ("release", "by_port"), [("6.10.9", True), ("6.11.0-rc1", False), ("6.1.0", True), ("7.0", False)]
)
def test_which_kernels_need_ports(release: str, by_port: bool) -> None:
    assert clients.by_port(release) is by_port


def test_marks_and_reqids() -> None:
    marks = (0x6B000000, 0xFFFF)
    assert clients.mark_of(3, marks) == 0x6B000003
    assert clients.reqid_of(0x6B000003, marks) == 3
    assert clients.mark_of(TUNNEL_REQIDS + 3, marks) == 0
    assert clients.mark_of(LAC_REQIDS + 3, marks) == 0
    assert clients.reqid_of(0x6C000003, marks) == 0
    assert clients.reqid_of(0, marks) == 0
    assert [clients.port_of(reqid) for reqid in (0, 1, 0x3FFF, 0x4001)] == [16384, 16385, 32767, 16385]
