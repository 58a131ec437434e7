"""Calls with other implementations: every way to authenticate, tunnel secret, hidden AVPs, sequence numbers."""

from collections.abc import Iterator

import pytest

from interop.conftest import Network
from interop.rig import call, points, seen
from interop.rig.call import PAIRS, Call
from interop.rig.kl2tp import Kl2tp
from interop.rig.terms import LNS_ADDRESS, Terms

METHODS = ("pap", "chap", "mschapv2", "eap-md5")
SECRET = "open sesame"
TERMS = [
    *(Terms(auth=method) for method in METHODS),
    *(Terms(auth=method, secret=SECRET, hidden=True) for method in METHODS),
    Terms(secret=SECRET),
    Terms(sequence=True),
    Terms(auth="mschapv2", secret=SECRET, hidden=True, sequence=True),
    Terms(ipv6=True),
]
OURS = ("kl2tp", "kl2tp")
OUR_TERMS = [
    Terms(auth="eap-mschapv2"),  # pppd can't
    Terms(auth="mschapv2", secret=SECRET, hidden=True, sequence=True, ipv6=True),
]
CASES = [(pair, terms) for pair in PAIRS for terms in (OUR_TERMS if pair == OURS else TERMS)]


def named(value: object) -> str:
    """A parameter as part of a test's name."""
    return "-to-".join(value) if isinstance(value, tuple) else str(value)


@pytest.fixture
def it(network: Network, pair: tuple[str, str], terms: Terms) -> Iterator[Call]:
    """A call that is to be made."""
    hosts = network.add("lac"), network.add("lns")
    with call.between(*pair, hosts, network.directory, terms).told() as found:
        yield found


@pytest.mark.parametrize(("pair", "terms"), CASES, ids=named)
def test_a_call_comes_up_as_agreed_and_carries_packets(network: Network, it: Call, terms: Terms) -> None:
    """Debian's xl2tpd understands hidden AVPs, but hides nothing itself: it only sends a Random Vector."""
    with network.wire.watched() as capture:
        it.begin()
        it.wait_up()
        it.assert_carries()
    packets = list(seen.packets(capture.clear))
    for end in (it.lac, it.lns):
        told = seen.attributes(packets, end.host)
        assert (seen.CHALLENGE in told) == bool(terms.secret)
        assert (seen.RANDOM_VECTOR in told) == terms.hidden
        assert bool(seen.attributes(packets, end.host, hidden=True)) == (terms.hidden and isinstance(end, Kl2tp))
        assert seen.sequenced(packets, end.host) == {terms.sequence}


@pytest.mark.parametrize(("pair", "terms"), [(pair, Terms()) for pair in PAIRS], ids=named)
def test_tcp_gets_through_both_ways(it: Call) -> None:
    it.begin()
    it.wait_up()
    for reverse in (False, True):
        speed = points.iperf(it.lac.host, it.lns.host, LNS_ADDRESS, reverse=reverse)
        print(f"{speed:.0f} Mbit/s{' back' if reverse else ''}")
        assert speed > 50
