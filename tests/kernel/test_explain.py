"""`kl2tp explain` of tunnels with static keys: each thing that breaks is broken for real, and what is said compared."""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig import conf, confined
from kernel.rig.net import Host
from kernel.rig.run import Answer, Unit
from kernel.rig.traffic import exchanges, traffic
from kernel.test_confined import Service
from kl2tp.cli import explain as cli
from kl2tp.cli.client import connect
from kl2tp.cli.terminal import Paint
from kl2tp.kernel import xfrm
from kl2tp.model.objects import Direction, Policy

N = 1
NAME = f"t{N}"


class Ends:
    """One tunnel with both its ends, either of which may be configured wrongly."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.near, self.far = bench.near, bench.far
        key = conf.make_key(bench.directory / "key")
        more: dict[str, Any] = {"encapsulation": "udp", "ipsec": {"key_file": key, "overlap": 0}}
        self.trees = [conf.tunnel(one.host, other.host, N, **more) for one, other in self._ways()]

    def _ways(self) -> list[tuple[Unit, Unit]]:
        return [(self.near, self.far), (self.far, self.near)]

    def apply(self) -> None:
        """Both ends, as far as they can be made."""
        for unit, tree in zip((self.near, self.far), self.trees, strict=True):
            conf.write(unit.config, {NAME: tree})
            unit.direct("apply")

    def explain(self, *, probe: bool = False) -> Answer:
        """What the near end says."""
        answer = self.near.direct("explain", name=NAME, probe=probe)
        print("\n".join(cli.text(answer, Paint(False), None)))
        return answer


@pytest.fixture
def ends(bench: Bench) -> Iterator[Ends]:
    found = Ends(bench)
    yield found
    for unit in (found.near, found.far):
        unit.direct("down")


def first(answer: Answer) -> tuple[str, str]:
    """The first broken layer, and all that is said about it."""
    layer = next(layer for layer in answer["layers"] if layer["layer"] == answer["first_broken"])
    found = layer["diagnosis"]
    return layer["layer"], "\n".join([found["broken"], found["cause"], *found["evidence"], *found["cure"]])


def layer(answer: Answer, name: str) -> Answer:
    """A layer of an answer."""
    return next(layer for layer in answer["layers"] if layer["layer"] == name)


def test_what_works_is_said_to_work_with_ids_counters_and_overhead(ends: Ends) -> None:
    ends.apply()
    with traffic(ends.near.host, ends.far.host, N):
        answer = ends.explain(probe=True)
    assert (answer["state"], answer["first_broken"]) == ("ok", None)
    assert {one["state"] for one in answer["layers"]} == {"ok"}
    assert "rfc4106(gcm(aes))" in layer(answer, "SAs in the kernel")["text"]
    assert "pass both ways" in layer(answer, "ESP packets")["text"]
    assert "packets of 1500 bytes pass" in layer(answer, "MTU")["text"]
    details = {d["name"]: d["value"] for d in layer(answer, "interface")["details"]}
    assert "ESP IV 8" in details["overhead"]


# -- what this host lacks --------------------------------------------------------------------------------------------


def _no_associations(ends: Ends) -> None:
    ends.near.host.flush_associations()


def _policy_deleted(direction: Direction) -> Callable[[Ends], None]:
    def delete(ends: Ends) -> None:
        host = ends.near.host
        replies = host.netlink(xfrm.NETLINK_XFRM).dump(xfrm.GETPOLICY, b"")
        found = [xfrm.decode_policy("", reply.payload, str) for reply in replies]
        (mine,) = [p for p in found if isinstance(p, Policy) and p.template and p.direction == direction]
        host.request(xfrm.NETLINK_XFRM, xfrm.policy_delete(mine))

    return delete


def _device_down(ends: Ends) -> None:
    ends.near.host.set_device("wire", up=False)


def _address_gone(ends: Ends) -> None:
    ends.near.host.delete_address("wire", "192.0.2.1", 24)


def _interface_down(ends: Ends) -> None:
    ends.near.host.set_device(conf.device(N), mtu=1400, up=False)


def _table_flushed(ends: Ends) -> None:
    ends.near.host.table.delete()


HERE = {
    "no-sa": (_no_associations, "SAs in the kernel", ["missing", "ip xfrm state flush", "kl2tp apply"]),
    "out-policy": (_policy_deleted(Direction.OUT), "policies", ["the out policy is missing", "ours are dropped"]),
    "in-policy": (_policy_deleted(Direction.IN), "policies", ["the in policy is missing", "after they are decrypted"]),
    "guard": (_table_flushed, "policies", ["what blocks packets in clear is not complete", "guard"]),
    "device": (_device_down, "way to the peer", ["wire, which has our address 192.0.2.1, is down", "set wire up"]),
    "address": (_address_gone, "way to the peer", ["192.0.2.1 is not configured", "ip address add"]),
    "interface": (_interface_down, "interface", ["pw1 is down", "ip link set pw1 up"]),
}


@pytest.mark.parametrize(("harm", "where", "words"), HERE.values(), ids=HERE)
def test_what_is_missing_here_is_named_with_the_command_that_mends_it(
    ends: Ends, harm: Callable[[Ends], None], where: str, words: list[str]
) -> None:
    ends.apply()
    exchanges(ends.near.host, ends.far.host, N)
    harm(ends)
    answer = ends.explain()
    name, said = first(answer)
    assert name == where
    assert all(word in said for word in words), said
    assert answer["state"] == "broken"


@pytest.mark.parametrize("direction", [Direction.OUT, Direction.IN], ids=["out", "in"])
def test_where_packets_stop_without_a_policy_is_told_by_counters(ends: Ends, direction: Direction) -> None:
    ends.apply()
    _policy_deleted(direction)(ends)
    with traffic(ends.near.host, ends.far.host, N):
        answer = ends.explain()
    name, counter = ("ESP packets", "XfrmOutPolBlock") if direction is Direction.OUT else ("delivery", "XfrmInPolBlock")
    found = layer(answer, name)
    assert found["state"] == "broken"
    assert any(counter in seen for seen in found["diagnosis"]["evidence"])


# -- the way ---------------------------------------------------------------------------------------------------------


def test_without_a_route_to_the_peer_that_is_what_is_said(ends: Ends) -> None:
    ends.trees[0]["remote"] = "198.51.100.7"
    ends.apply()
    name, said = first(ends.explain())
    assert name == "way to the peer"
    assert "there is no route to 198.51.100.7" in said
    assert "ip route get 198.51.100.7 from 192.0.2.1" in said


def test_a_next_hop_that_is_not_there_is_named(ends: Ends) -> None:
    ends.trees[0]["remote"] = "192.0.2.77"
    conf.write(ends.near.config, {NAME: ends.trees[0]})
    ends.near.apply()
    name, said = first(ends.explain())
    assert name == "way to the peer"
    assert "the next hop 192.0.2.77 on wire does not answer ARP" in said


def test_a_black_hole_on_the_path_is_found_by_a_probe_and_the_mtu_that_fits_is_said(ends: Ends) -> None:
    ends.apply()
    ends.bench.wire.host.set_device("port1", mtu=1300)
    exchanges(ends.near.host, ends.far.host, N)  # small packets pass
    answer = ends.explain(probe=True)
    name, said = first(answer)
    assert name == "MTU"
    assert "1304 bytes pass" in said  # an Ethernet device takes the four bytes of a VLAN tag more
    assert "black hole" in said
    assert "path_mtu: 1304" in said
    fits = int(said.partition("the MTU of pw1 then is ")[2].split()[0])
    ends.trees[0]["path_mtu"] = 1304
    ends.apply()
    device = ends.near.host.device(conf.device(N))
    assert device
    assert device.mtu == fits


# -- the peer --------------------------------------------------------------------------------------------------------


def _other_key(ends: Ends) -> list[str]:
    ends.trees[1]["ipsec"]["key_file"] = conf.make_key(ends.bench.directory / "other-key")
    return ["no SA here", "different keys", "sha256sum"]


def _other_cipher(ends: Ends) -> list[str]:
    ends.trees[1]["ipsec"]["proposal"] = "aes256-sha256"
    return ["fail their integrity check", "different proposals"]


def _other_session(ends: Ends) -> list[str]:
    ends.trees[1]["sessions"]["lan"]["ids"] = "7/8"
    return ["no session here has the id", "mirrored"]


def _other_cookie(ends: Ends) -> list[str]:
    for tree, (ours, theirs) in zip(ends.trees, [("01020304", "05060708"), ("05060708", "ffffffff")], strict=True):
        tree["sessions"]["lan"]["cookie"] = {"local": ours, "peer": theirs}
    return ["their cookie is not the one", "discarded for their cookie"]


PEERS = {
    "key": (_other_key, "ESP packets"),
    "cipher": (_other_cipher, "ESP packets"),
    "session": (_other_session, "delivery"),
    "cookie": (_other_cookie, "delivery"),
}


@pytest.mark.parametrize(("harm", "where"), PEERS.values(), ids=PEERS)
def test_what_the_peer_has_different_is_told_from_what_arrives(
    ends: Ends, harm: Callable[[Ends], list[str]], where: str
) -> None:
    words = harm(ends)
    ends.apply()
    with traffic(ends.near.host, ends.far.host, N):
        answer = ends.explain()
    name, said = first(answer)
    assert name == where
    assert all(word in said for word in words), said


def test_a_peer_from_which_nothing_comes_is_told_from_our_own_faults(ends: Ends) -> None:
    ends.apply()
    ends.far.direct("down")
    with traffic(ends.near.host, ends.far.host, N):
        answer = ends.explain()
    name, said = first(answer)
    assert name == "ESP packets"
    assert answer["state"] == "unknown"  # it might just have nothing to say
    assert "packets leave, and nothing comes back" in said
    assert "IP protocol 50" in said
    assert layer(answer, "policies")["state"] == layer(answer, "SAs in the kernel")["state"] == "ok"


# -- firewalls -------------------------------------------------------------------------------------------------------


def nft(host: Host, script: str) -> None:
    """Rules of an operator."""
    with host.entered():
        subprocess.run(["/usr/sbin/nft", "-f", "-"], input=script, text=True, check=True)


FIREWALLS = {
    "before": ("meta l4proto esp counter drop", "ESP packets", ["inet fw input handle", "dropped", "nft delete rule"]),
    "after": ("udp dport 20001 counter drop", "delivery", ["inet fw input handle", "decrypted by the SA, none taken"]),
    "mute": ("udp dport 20001 drop", "delivery", ["suspect: inet fw input handle", "which does not count"]),
}


@pytest.mark.parametrize(("rule", "where", "words"), FIREWALLS.values(), ids=FIREWALLS)
def test_a_firewall_of_this_host_is_found_by_its_rule(ends: Ends, rule: str, where: str, words: list[str]) -> None:
    nft(ends.near.host, f"table inet fw {{\nchain input {{\ntype filter hook input priority 0\n{rule}\n}}\n}}\n")
    ends.apply()
    with traffic(ends.near.host, ends.far.host, N):
        answer = ends.explain()
    name, said = first(answer)
    assert name == where
    assert all(word in said for word in words), said


def test_with_a_daemon_it_says_why_it_could_not_make_something(ends: Ends) -> None:
    ends.trees[0]["sessions"]["lan"]["interface"] = {"name": "pw1", "bridge": "br-late"}
    conf.write(ends.near.config, {NAME: ends.trees[0]})
    with ends.near.daemon(forked=True) as daemon:
        daemon.call("apply")
        answer = daemon.call("explain", name=NAME)
        print("\n".join(cli.text(answer, Paint(False), None)))
        name, said = first(answer)
        assert name == "interface"
        assert "the bridge br-late, to which pw1 belongs, does not exist" in said
        assert daemon.call("explain", name="pw1")["name"] == NAME  # by its interface
        assert daemon.call("explain", name="192.0.2.2")["name"] == NAME  # by its peer


@pytest.mark.skipif(not confined.available(), reason="libseccomp and systemd-analyze are not installed")
def test_the_rights_of_the_unit_are_enough(ends: Ends) -> None:
    ends.apply()
    unit = ends.near
    unit.state_dir.mkdir()
    service = Service("daemon", unit, 0, "--config", str(unit.config), "--state-dir", str(unit.state_dir))
    try:
        daemon = connect(str(unit.run_dir))
        assert daemon
        daemon.call("apply")
        answer = daemon.call("explain", name=NAME, probe=True)  # nobody sends anything but the daemon
        print("\n".join(cli.text(answer, Paint(False), None)))
        assert "packets of 1500 bytes pass" in layer(answer, "MTU")["text"]
        assert not layer(answer, "ESP packets")["text"].partition(": ")[2].startswith("0 out")
        assert "Traceback" not in service.log()
    finally:
        service.kill()
