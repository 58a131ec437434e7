"""Who has the wrong password, or the wrong secret of the tunnel, stays outside; nothing of a secret is ever logged."""

import dataclasses
import re
from collections.abc import Iterator

import pytest

from interop.conftest import Network
from interop.rig import call, points, xl2tpd
from interop.rig.call import PAIRS, Call
from interop.rig.kl2tp import Kl2tp, Lac, Lns
from interop.rig.terms import Terms
from kernel.rig.run import until

WRONG = "battery staple"
SECRET = "open sesame"
METHODS = ("pap", "chap", "mschapv2", "eap-md5")
pairs = pytest.mark.parametrize("pair", PAIRS[:-1], ids="-to-".join)


@pytest.fixture
def it(network: Network, pair: tuple[str, str], terms: Terms) -> Iterator[Call]:
    """A call whose LNS is there."""
    hosts = network.add("lac"), network.add("lns")
    with call.between(*pair, hosts, network.directory, terms).told() as found:
        found.lns.start()
        yield found


def assert_kept(it: Call, *secrets: str) -> None:
    """kl2tp's logs have none of the secrets."""
    for end in (it.lac, it.lns):
        if isinstance(end, Kl2tp):
            assert not [secret for secret in secrets if secret in end.log()]


def come_again(it: Call) -> None:
    """The caller starts anew, with all that it should have; and gets in."""
    it.lac.close()
    it.lac.start()
    it.wait_up()
    it.assert_carries()


@pairs
@pytest.mark.parametrize("terms", [Terms(auth=method) for method in METHODS], ids=str)
def test_a_wrong_password_gets_nowhere_and_the_right_one_does(it: Call) -> None:
    right, it.lac.password = it.lac.password, WRONG
    it.lac.start()
    wait_refused_user(it)
    assert not points.links(it.lac.host)
    if isinstance(it.lns, Lns):
        assert not points.ppp_devices(it.lns.host)
        assert it.lns.sessions() == []
    it.lac.password = right
    come_again(it)
    assert_kept(it, WRONG, right)


def wait_logged(lac: Lac, pattern: str) -> None:
    """Until a kl2tp has said something like that."""
    until(lambda: re.search(pattern, lac.daemon.log()), lac.daemon)


def wait_refused_user(it: Call) -> None:
    """Until the caller knows."""
    if isinstance(it.lac, xl2tpd.Lac):
        it.lac.wait_pppd_said("authentication fail")
    elif isinstance(it.lac, Lac):
        wait_logged(it.lac, r"refused our password|peer refused us|was not let in")


@pairs
@pytest.mark.parametrize(
    ("terms", "secret"),
    [(Terms(secret=SECRET), WRONG), (Terms(secret=SECRET, hidden=True), WRONG), (Terms(secret=SECRET), "")],
    ids=["wrong", "wrong-hidden", "none"],
)
def test_a_wrong_tunnel_secret_gets_nowhere_and_the_right_one_does(it: Call, terms: Terms, secret: str) -> None:
    it.lac.terms = dataclasses.replace(terms, secret=secret)
    it.lac.start()
    wait_refused_peer(it)
    assert not points.ppp_devices(it.lac.host)
    assert not points.ppp_devices(it.lns.host)
    it.lac.terms = terms
    come_again(it)
    assert_kept(it, WRONG, SECRET)


def wait_refused_peer(it: Call) -> None:
    """Until the caller knows."""
    if isinstance(it.lac, xl2tpd.Lac):
        it.lac.running.wait_for(r"onnection (\d+ )?closed to")
    elif isinstance(it.lac, Lac):
        wait_logged(it.lac, r"secret|not authorized")
