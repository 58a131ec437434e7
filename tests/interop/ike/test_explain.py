"""`kl2tp explain` of tunnels and calls with IKE: each fault is provoked for real, and what is said is compared."""

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from interop.conftest import Network
from interop.ike.rig import kl2tp
from interop.ike.rig.charon import associations
from interop.ike.rig.ends import DebianLac, DebianLns
from interop.ike.rig.ways import IKEV2_CERT, IKEV2_PSK, Authority, Way
from interop.rig.call import Call
from interop.rig.kl2tp import CALL, PROFILE
from interop.rig.process import PATIENCE_S, kill_all
from interop.rig.terms import Terms
from kernel.rig import conf
from kernel.rig.net import Host, Wire
from kernel.rig.run import Answer, Daemon, until
from kl2tp.cli import explain as cli
from kl2tp.cli.terminal import Paint
from kl2tp.kernel import xfrm
from kl2tp.model.addr import parse
from kl2tp.model.objects import Direction, Policy

NAMES = ("near", "far")
OTHER_PSK = "another-correct-horse"


def explained(daemon: Daemon, name: str, *, probe: bool = False) -> Answer:
    """What is said of a tunnel or call; printed as people see it."""
    answer = daemon.call("explain", name=name, probe=probe)
    print("\n".join(cli.text(answer, Paint(False), None)))
    return answer


def layer(answer: Answer, name: str) -> Answer:
    """A layer of an answer."""
    return next(layer for layer in answer["layers"] if layer["layer"] == name)


def first(answer: Answer) -> tuple[str, str]:
    """The first broken layer, and all that is said about it."""
    found = layer(answer, answer["first_broken"])
    said = found["diagnosis"]
    words = [said["broken"], said["cause"], *said["evidence"], *said["cure"]]
    for sides in said["compare"]:
        ours, theirs = (" ".join(sides[side]) for side in ("ours", "theirs"))
        words += [sides["what"], f"ours {ours}", f"theirs {theirs}", sides["verdict"]]
    return found["layer"], "\n".join(words)


def until_broken(daemon: Daemon, name: str, where: str, words: list[str], within: float = 60.0) -> Answer:
    """Until it says so: a negotiation takes its time to fail."""
    last = ""

    def so() -> bool:
        nonlocal last
        answer = daemon.call("explain", name=name)
        if not answer["first_broken"]:
            return False
        found, last = first(answer)
        return found == where and all(word in last for word in words)

    try:
        until(so, daemon, within)
    finally:
        answer = explained(daemon, name)
    return answer


# -- declared tunnels: negotiation -------------------------------------------------------------------------------------


Edit = Callable[["Sites", list[conf.Tree]], None]
"""Changes what the near and the far end negotiate."""


def _ike(number: int, **more: Any) -> Edit:
    """Keys of the near end (0) or the far one (1)."""

    def edit(sites: "Sites", ikes: list[conf.Tree]) -> None:
        ikes[number] |= more

    return edit


def _both(*edits: Edit) -> Edit:
    def edit(sites: "Sites", ikes: list[conf.Tree]) -> None:
        for one in edits:
            one(sites, ikes)

    return edit


def _other_psk(sites: "Sites", ikes: list[conf.Tree]) -> None:
    ikes[1]["psk_file"] = sites.far.secret_file("other.psk", f"{OTHER_PSK}\n")


def _other_authority(sites: "Sites", ikes: list[conf.Tree]) -> None:
    """The near end trusts somebody else."""
    ikes[0]["ca_file"] = str(sites.stranger.credentials("nobody.example").ca)


NEAR_PROPOSAL, FAR_PROPOSAL = "aes256-sha256-modp2048", "aes256-sha256-ecp384"
NEAR_BEGINS = _both(_ike(0, initiate="yes"), _ike(1, initiate="no"))
FAR_BEGINS = _both(_ike(0, initiate="no"), _ike(1, initiate="yes"))
PROPOSALS = _both(_ike(0, proposals=[NEAR_PROPOSAL]), _ike(1, proposals=[FAR_PROPOSAL]))
FAULTS: dict[str, tuple[Way, Edit, str, list[str]]] = {
    "fine": (IKEV2_PSK, _both(), "", []),
    "proposals-ours": (IKEV2_PSK, _both(PROPOSALS, NEAR_BEGINS), "IKE SA", [
        "accepts none of our IKE proposals", "NO_PROPOSAL_CHOSEN", f"ours {NEAR_PROPOSAL}", "does not say what",
    ]),
    "proposals-theirs": (IKEV2_PSK, _both(PROPOSALS, FAR_BEGINS), "IKE SA", [
        "have nothing in common", "ours aes256-sha256", "theirs aes256-sha256", "Diffie-Hellman group", "modp2048 here",
        "ecp384 there", f"here: add '{FAR_PROPOSAL}' to ipsec.ike.proposals", f"or at the peer: {NEAR_PROPOSAL}",
    ]),
    "esp": (IKEV2_PSK, _both(
        _ike(0, esp_proposals=["aes256gcm16"]), _ike(1, esp_proposals=["aes128-sha256"]), NEAR_BEGINS
    ), "IPsec SA", ["ESP proposals", "ours aes256gcm16", "ipsec.ike.esp_proposals"]),
    "psk-refused": (IKEV2_PSK, _both(_other_psk, NEAR_BEGINS), "IKE SA", [
        "AUTHENTICATION_FAILED", "pre-shared key", "the peer refuses '192.0.2.", "ike.psk",
    ]),
    "psk-refusing": (IKEV2_PSK, _both(_other_psk, FAR_BEGINS), "IKE SA", [
        "AUTHENTICATION_FAILED", "another pre-shared key", "we refuse '192.0.2.",
    ]),
    "identity": (IKEV2_CERT, _both(_ike(0, remote_id="somebody.example"), NEAR_BEGINS), "IKE SA", [
        "AUTHENTICATION_FAILED", "certificate", "a peer that is not 'somebody.example' says the same",
    ]),
    "authority": (IKEV2_CERT, _both(_other_authority, NEAR_BEGINS), "IKE SA", [
        "is not accepted", "not from the CA 'C=CH, O=Lab, CN=Lab CA'", "authority.far.example", "certificate",
    ]),
    "selectors": (IKEV2_PSK, NEAR_BEGINS, "IPsec SA", ["TS_UNACCEPTABLE", "ours", "20009", "theirs"]),
    "storm": (IKEV2_PSK, _ike(0, rekey="3s"), "IPsec SA", ["in a storm", "ipsec.ike.rekey is 3 s", "every "]),
    "silence": (IKEV2_PSK, NEAR_BEGINS, "IKE SA", ["does not answer", "udp/500", "tcpdump", "ping 192.0.2.3"]),
}  # fmt: skip
"""How both authenticate, what is wrong, in which layer it shows, and what is said of it, at the near end."""


class Sites:
    """Two ends of tunnels, each wrong in a way of its own; and a host where nobody speaks IKE."""

    def __init__(self, wire: Wire, near: kl2tp.Site, far: kl2tp.Site, stranger: Authority) -> None:
        self.wire, self.near, self.far, self.stranger = wire, near, far, stranger
        for number in range(1, len(FAULTS) + 1):
            for site in (near, far):
                site.host.add_address("wire", self.address(site, number), 24)
        pairs = [self._pair(number, fault) for number, fault in enumerate(FAULTS, 1)]
        for site, trees in zip((near, far), zip(*pairs, strict=True), strict=True):
            site.tunnels = dict(zip(FAULTS, trees, strict=True))

    @staticmethod
    def address(site: kl2tp.Site, number: int) -> str:
        return f"192.0.2.{10 * number + site.host.number}"

    def _pair(self, number: int, fault: str) -> list[conf.Tree]:
        """Both ends of a tunnel."""
        way, edit, _, _ = FAULTS[fault]
        trees, ikes = [], []
        for one, other in ((self.near, self.far), (self.far, self.near)):
            tree = conf.tunnel(one.host, other.host, number, encapsulation="udp")
            tree |= {"local": self.address(one, number), "remote": self.address(other, number)}
            own, peer = (f"{fault}.{NAMES[site.host.number - 1]}.example" for site in (one, other))
            trees.append(tree)
            ikes.append(one.ike(way, own, peer))
        edit(self, ikes)
        for tree, ike in zip(trees, ikes, strict=True):
            tree["ipsec"] = {"ike": ike}
        if fault == "selectors":
            trees[1]["ports"] = "5555/6666"
        if fault == "silence":
            trees[0]["remote"] = "192.0.2.3"
        return trees


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Sites]:
    directory: Path = tmp_path_factory.mktemp("explain")
    with contextlib.ExitStack() as stack:
        wire = Wire("ether")
        stack.callback(wire.host.delete)
        ends = []
        for number, name in enumerate((*NAMES, "mute"), 1):
            host = Host(name)
            stack.callback(host.delete)
            stack.callback(kill_all, host)
            wire.plug(host, number)
            ends.append(host)
        near, far = (kl2tp.Site(host, directory, authority) for host in ends[:2])
        found = Sites(wire, near, far, Authority(tmp_path_factory.mktemp("stranger")))
        for site in (near, far):
            stack.callback(site.close)
            stack.callback(_tell, site)
            site.start()
        yield found


def _tell(site: kl2tp.Site) -> None:
    print(site.log())


@pytest.mark.parametrize("fault", [name for name in FAULTS if name != "fine"])
def test_a_negotiation_that_fails_is_explained(sites: Sites, fault: str) -> None:
    _, _, where, words = FAULTS[fault]
    try:
        answer = until_broken(sites.near.daemon, fault, where, words)
    finally:
        explained(sites.far.daemon, fault)
    assert answer["first_broken"] == where
    assert layer(answer, "way to the peer")["state"] == layer(answer, "strongSwan")["state"] == "ok"


def test_a_tunnel_that_works_is_told_layer_by_layer(sites: Sites) -> None:
    until(lambda: sites.near.daemon.status("fine")["state"] == "up", sites.near.daemon, PATIENCE_S)
    answer = explained(sites.near.daemon, "fine", probe=True)
    assert not answer["first_broken"], first(answer)
    states = {one["layer"]: one["state"] for one in answer["layers"]}
    assert [states[name] for name in ("IKE SA", "IPsec SA", "policies", "SAs in the kernel", "MTU")] == ["ok"] * 5
    details = {d["name"]: d["value"] for one in answer["layers"] for d in one["details"]}
    assert details["ciphers"].startswith("AES_GCM_16")
    assert {"next re-key", "SPIs", "reqid", "overhead"} <= details.keys()


def _to(policy: Policy) -> bytes:
    return policy.selector.destination


def test_without_a_daemon_the_kernel_tells_which_policy_is_missing(sites: Sites) -> None:
    near = sites.near
    until(lambda: near.daemon.status("fine")["state"] == "up", near.daemon, PATIENCE_S)
    near.kill_daemon()
    sock = near.host.netlink(xfrm.NETLINK_XFRM)
    address = parse(sites.address(near, 1))
    found = [xfrm.decode_policy("", reply.payload, str) for reply in sock.dump(xfrm.GETPOLICY, b"")]
    mine = next(p for p in found if p and p.template and p.direction == Direction.IN and _to(p) == address)
    near.host.request(xfrm.NETLINK_XFRM, xfrm.policy_delete(mine))
    answer = near.unit.direct("explain", name="fine")
    print("\n".join(cli.text(answer, Paint(False), None)))
    where, said = first(answer)
    assert where == "policies"
    assert "the in policy is missing" in said
    assert layer(answer, "SAs in the kernel")["state"] == "ok"
    near.start()
    until(lambda: near.daemon.status("fine")["state"] == "up", near.daemon, PATIENCE_S)


def test_strongswan_that_hangs_and_strongswan_that_is_gone_are_told_apart(sites: Sites) -> None:
    """The last one here: afterwards it is gone."""
    near = sites.near
    until(lambda: near.daemon.status("fine")["state"] == "up", near.daemon, PATIENCE_S)
    near.charon.freeze()
    try:
        answer = until_broken(near.daemon, "fine", "strongSwan", ["hangs", "systemctl restart strongswan"], 90.0)
    finally:
        near.charon.thaw()
    assert "live on in the kernel" in first(answer)[1]
    near.charon.kill()
    answer = until_broken(near.daemon, "fine", "strongSwan", ["is not running", "systemctl start strongswan"])
    assert layer(answer, "SAs in the kernel")["state"] == "ok"


# -- calls -----------------------------------------------------------------------------------------------------------


def nft(host: Host, hook: str, rule: str) -> None:
    """A rule of an operator."""
    script = f"table inet fw {{\nchain {hook} {{\ntype filter hook {hook} priority 0\n{rule}\n}}\n}}\n"
    with host.entered():
        subprocess.run(["/usr/sbin/nft", "-f", "-"], input=script, text=True, check=True)


class Placed:
    """A call of kl2tp's to Debian's strongSwan, xl2tpd and pppd."""

    def __init__(self, network: Network, authority: Authority) -> None:
        client, server = network.add("lac"), network.add("lns")
        terms = Terms(echo_failures=30)
        self.lns = DebianLns(server, network.directory, terms, IKEV2_PSK, authority)
        self.lac = kl2tp.IkeLac(client, network.directory, terms, server, IKEV2_PSK, authority)
        self.call = Call(self.lns, self.lac)
        self.name = CALL.format(1)

    def until_broken(self, where: str, words: list[str]) -> Answer:
        """Until it is explained so."""
        return until_broken(self.lac.daemon, self.name, where, words)


@pytest.fixture
def placed(network: Network, authority: Authority) -> Iterator[Placed]:
    found = Placed(network, authority)
    with found.call.told():
        yield found


def test_a_call_that_works_is_told_layer_by_layer_up_to_ppp(placed: Placed) -> None:
    placed.call.begin()
    placed.call.wait_up()
    answer = explained(placed.lac.daemon, placed.name, probe=True)
    assert answer["state"] == "ok", first(answer)
    states = {one["layer"]: one["state"] for one in answer["layers"]}
    assert list(states) == [
        *("way to the peer", "strongSwan", "IKE SA", "IPsec SA", "policies", "SAs in the kernel", "ESP packets"),
        *("delivery", "control connection", "PPP", "addresses", "interface", "MTU"),
    ]
    assert set(states.values()) == {"ok"}
    assert placed.call.address in layer(answer, "addresses")["text"]
    placed.lac.daemon.call("explain", name=placed.lac.sessions()[0]["session"])


BLOCKS: dict[str, tuple[int, str, str, str, list[str]]] = {
    "here-decrypted": (0, "input", "udp sport 1701 counter drop", "delivery", [
        "decrypted by the SA, none taken by L2TP", "inet fw input handle", "nft delete rule inet fw input",
    ]),
    "here-esp": (0, "input", "meta l4proto esp counter drop", "ESP packets", [
        "dropped by a firewall on this host", "inet fw input handle",
    ]),
    "peer-l2tp": (1, "input", "udp dport 1701 drop", "ESP packets", [
        "packets leave, and nothing comes back", "the peer decrypts our packets and nothing there answers L2TP",
        "sport = 1701",
    ]),
    "peer-esp": (1, "input", "meta l4proto esp drop", "ESP packets", ["ESP is lost on the way", "IP protocol 50"]),
}  # fmt: skip
"""On which host a rule stands, where, what it drops; and where packets are said to stop."""


@pytest.mark.parametrize("block", BLOCKS)
def test_l2tp_that_gets_no_answer_though_there_is_an_sa_is_told_where_its_packets_stop(
    placed: Placed, block: str
) -> None:
    end, hook, rule, where, words = BLOCKS[block]
    nft((placed.lac, placed.lns)[end].host, hook, rule)
    placed.call.begin()
    placed.lac.host.until(lambda: len(associations(placed.lac.host)) >= 2, PATIENCE_S)
    answer = placed.until_broken(where, words)
    assert layer(answer, "IPsec SA")["state"] == "ok"
    assert layer(answer, "control connection")["state"] == "broken"


def test_a_call_that_was_up_until_its_packets_stop(placed: Placed) -> None:
    placed.call.begin()
    placed.call.wait_up()
    nft(placed.lac.host, "input", "udp sport 1701 counter drop")
    placed.until_broken("delivery", ["inet fw input handle"])


def test_a_server_whose_l2tp_is_not_there(placed: Placed) -> None:
    placed.lns.charon.start()
    placed.lac.start()
    placed.lac.host.until(lambda: len(associations(placed.lac.host)) >= 2, PATIENCE_S)
    placed.until_broken("ESP packets", ["nothing there answers L2TP", "does L2TP listen"])


def test_clients_that_do_not_get_in_are_told_at_the_profile_and_by_their_address(
    network: Network, authority: Authority
) -> None:
    client, server = network.add("lac"), network.add("lns")
    odd = ["aes256-sha256-ecp224"]  # which no strongSwan proposes unless told to
    lns = kl2tp.IkeLns(server, network.directory, Terms(), IKEV2_PSK, authority, proposals=odd)
    lac = DebianLac(client, network.directory, Terms(), server, IKEV2_PSK, authority)
    with Call(lns, lac).told() as it:
        it.begin()
        words = ["nothing in common", "ours aes256-sha256", "ecp224", "ipsec.ike.proposals"]
        until_broken(lns.daemon, PROFILE, "peers", words)
        answer = explained(lns.daemon, f"192.0.2.{client.number}")
        assert "nothing in common" in first(answer)[1]


def test_a_client_that_is_in_is_explained_by_its_user_and_address(network: Network, authority: Authority) -> None:
    client, server = network.add("lac"), network.add("lns")
    lns = kl2tp.IkeLns(server, network.directory, Terms(), IKEV2_PSK, authority)
    lac = DebianLac(client, network.directory, Terms(), server, IKEV2_PSK, authority)
    with Call(lns, lac).told() as it:
        it.begin()
        it.wait_up()
        for name in (lac.user, it.address):
            answer = explained(lns.daemon, name)
            assert answer["state"] == "ok", first(answer)
        assert explained(lns.daemon, PROFILE)["state"] == "ok"
        lac.hang_up()
        until(lambda: not lns.sessions(), lns.daemon, PATIENCE_S)
        answer = explained(lns.daemon, lac.user)
        assert "there is no such session any more" in first(answer)[1]
