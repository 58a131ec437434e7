"""The files in config/ whose keys IKE negotiates, as an operator copies them: with addresses and paths of the bench."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from interop.conftest import Network
from interop.ike.rig import debian, kl2tp
from interop.ike.rig.charon import QUICK
from interop.ike.rig.ends import DebianLac
from interop.ike.rig.watch import never_clear
from interop.ike.rig.ways import IKEV1_PSK, PSK, Authority
from interop.rig import points
from interop.rig.call import Call, End
from interop.rig.process import PATIENCE_S
from interop.rig.terms import USERS, Terms, password, user
from kernel.rig.conf import Tree
from kernel.rig.net import Host, Late
from kl2tp.config import load

CONFIG = Path(__file__).parents[3] / "config"


def _negotiates(path: Path) -> bool:
    desired = load(path)
    return any(spec.ike for spec in (*desired.tunnels, *desired.calls))


NEGOTIATED = sorted(path.name for path in CONFIG.glob("*.yaml") if _negotiates(path))
OURS, THEIRS = {"192.0.2.1": "192.0.2.1", "198.51.100.2": "192.0.2.2"}, {"198.51.100.1": "192.0.2.2"}
"""Addresses of the documentation, and of the bench: of sites, and of calls, whose LNS is the second host."""
HUB, BRANCH = "hub.example.org", "branch1.example.org"
OF_BRANCH = "branch1"


class AsWritten(kl2tp.Protected):
    """A kl2tp with a configuration from config/."""

    def __init__(self, host: Host, directory: Path, authority: Authority, name: str, addresses: dict[str, str]) -> None:
        super().__init__(host, directory, Terms())
        self._join(directory, authority, QUICK, keeper=False)
        text = (CONFIG / name).read_text().replace("/etc/kl2tp", str(self.unit.directory))
        for theirs, ours in addresses.items():
            text = text.replace(theirs, ours)
        self.written: Tree = yaml.safe_load(text)
        self._make_files()

    def _make_files(self) -> None:
        """All that the examples name, with what both ends know."""
        users = {user(n): password(n) for n in USERS} | {OF_BRANCH: PSK}
        self.secret_file("ike.psk", f"{PSK}\n")
        self.secret_file("branch1.password", f"{PSK}\n")
        self.secret_file("chap-secrets", "".join(f'{name} * "{secret}" *\n' for name, secret in users.items()))
        (self.unit.directory / "pki").mkdir()

    def certify(self, own: str) -> None:
        """Give it a certificate, as the example calls the files."""
        given = self._authority.credentials(own)
        for name, path in (("hub.pem", given.certificate), ("hub.key", given.key), ("ca.pem", given.ca)):
            self.secret_file(f"pki/{name}", path.read_text())

    def tree(self) -> Tree:
        """As written; charon is where the bench has it."""
        return self.written | {"daemon": self.written.get("daemon", {}) | self.service()["daemon"]}


def mirrored(tree: Tree) -> Tree:
    """The other end of a site: what its operator is told to do."""
    (name,) = tree["tunnels"]
    tunnel = tree["tunnels"][name]
    common = tree.setdefault("defaults", {})
    local = tunnel.pop("local", None) or common.pop("local")
    tunnel["local"], tunnel["remote"] = tunnel["remote"], local
    tunnel["ids"] = "/".join(reversed(tunnel["ids"].split("/")))
    tunnel["sessions"]["lan"]["interface"] = {"name": "hub0", "address": "10.64.0.2/30"}
    if "ike" in common.get("ipsec", {}):
        common["ipsec"]["ike"]["local_id"], tunnel["ipsec"]["ike"]["remote_id"] = BRANCH, HUB
    return tree


def wait_up(host: Host, device: str) -> None:
    """Until a tunnel's interface is switched on."""
    host.until(lambda: (found := host.device(device)) and found.up, PATIENCE_S)


@contextlib.contextmanager
def running(*ends: End) -> Iterator[None]:
    """All of them, and what they said."""
    try:
        for end in ends:
            end.start()
        yield
    finally:
        for end in ends:
            print(end.log())
            with contextlib.suppress(Late):
                end.close()


def test_there_is_a_test_for_each() -> None:
    tried = ["lac-ike.yaml", "lns-ike.yaml", "lns-legacy-clients.yaml", "site-ike-cert.yaml", "site-ike-psk.yaml"]
    assert tried == NEGOTIATED


@pytest.mark.parametrize("name", [name for name in NEGOTIATED if name.startswith("site-")])
def test_two_sites(network: Network, authority: Authority, name: str) -> None:
    hosts = network.add("near"), network.add("far")
    near, far = (AsWritten(host, network.directory, authority, name, OURS) for host in hosts)
    far.written = mirrored(far.written)
    near.certify(HUB)
    far.certify(BRANCH)
    with never_clear(network.wire.host), running(near, far):
        wait_up(near.host, "br1")
        wait_up(far.host, "hub0")
        points.ping(near.host, "10.64.0.2")
        points.ping(far.host, "10.64.0.1", size=points.mtu(far.host, "hub0") - 28)


def test_a_branch_calls_the_office(network: Network, authority: Authority) -> None:
    client, server = network.add("lac"), network.add("lns")
    lac = AsWritten(client, network.directory, authority, "lac-ike.yaml", THEIRS)
    lns = AsWritten(server, network.directory, authority, "lns-ike.yaml", THEIRS)
    with never_clear(network.wire.host), running(lns, lac):
        client.until(lambda: "hq0" in points.links(client), PATIENCE_S)
        server.until(lambda: "branch0" in points.links(server), PATIENCE_S)
        assert points.links(client)["hq0"] == points.links(server)["branch0"][::-1]
        points.ping(client, "10.10.0.1", "hq0", size=points.mtu(client, "hq0") - 28)


OLD = {
    "windows": (
        "aes256-sha1-ecp384,aes128-sha1-ecp256,aes256-sha1-modp2048,3des-sha1-modp1024",
        "aes256-sha1,3des-sha1",
    ),
    "windows-7": ("aes256-sha1-modp2048,3des-sha1-modp1024", "aes128-sha1,3des-sha1"),
    "macos": ("aes256-sha256-modp2048,aes256-sha1-modp2048,3des-sha1-modp1024", "aes256-sha256,aes256-sha1,3des-md5"),
}
"""What clients of systems offer, for IKE and for ESP; charon stands for them."""


@pytest.mark.parametrize("client", OLD)
def test_old_clients(network: Network, authority: Authority, client: str) -> None:
    caller, server = network.add("lac"), network.add("lns")
    lns = AsWritten(server, network.directory, authority, "lns-legacy-clients.yaml", THEIRS)
    lac = DebianLac(caller, network.directory, Terms(auth="mschapv2"), server, IKEV1_PSK, authority)
    ike, esp = OLD[client]
    conf = debian.client(IKEV1_PSK, lac.server_address)["ipsec.conf"]
    conf = conf.replace("aes256-sha256-modp2048,aes128-sha1-modp2048", f"{ike}!")
    lac.charon.write("ipsec.conf", conf.replace("aes256-sha256,aes128-sha1", f"{esp}!"))
    with never_clear(network.wire.host), Call(lns, lac).told() as it:
        it.begin()
        it.wait_up()
        it.assert_carries()
