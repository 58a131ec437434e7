"""Calls with other implementations: every way to authenticate, with and without tunnel secret, hidden AVPs, sequence."""

import pytest

from interop.conftest import Network
from interop.rig import call
from interop.rig.terms import Terms

PAIRS = [("xl2tpd", "xl2tpd")]
METHODS = ("pap", "chap", "mschapv2", "eap-md5")
TERMS = [
    *(Terms(auth=method) for method in METHODS),
    Terms(secret="s3cret"),
    Terms(secret="s3cret", hidden=True),
    Terms(sequence=True),
    Terms(secret="s3cret", hidden=True, sequence=True, auth="mschapv2"),
    Terms(ipv6=True),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: "-to-".join(pair))
@pytest.mark.parametrize("terms", TERMS, ids=str)
def test_a_call_comes_up_and_carries_packets(network: Network, pair: tuple[str, str], terms: Terms) -> None:
    hosts = network.add("lac"), network.add("lns")
    with call.between(*pair, hosts, network.directory, terms).told() as it:
        it.begin()
        it.wait_up()
        it.assert_carries()
        print(it.lns.log(), it.lac.log())
