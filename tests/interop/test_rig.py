"""The test bench proves itself: xl2tpd calls xl2tpd."""

import pytest

from interop.conftest import Network
from interop.rig import points, pppd, xl2tpd
from interop.rig.terms import LNS_ADDRESS, POOL_FIRST, POOL_LAST, Terms


def test_baseline(network: Network) -> None:
    terms = Terms()
    near, far = network.add("lns"), network.add("lac")
    lns, lac = xl2tpd.Lns(near, network.directory, terms), xl2tpd.Lac(far, network.directory, terms, near)
    try:
        lns.start()
        lac.start()
        (device, ends), = points.wait_links(far).items()
        assert ends.peer == LNS_ADDRESS
        points.assert_in_pool(ends.local, POOL_FIRST, POOL_LAST)
        points.wait_links(near)
        points.ping(far, LNS_ADDRESS, device)
        print("iperf", points.iperf(far, near, LNS_ADDRESS))
        lac.hang_up()
        print("gone", points.wait_no_devices(near))
    finally:
        print(lns.log(), lac.log())
        lns.close(); lac.close()
