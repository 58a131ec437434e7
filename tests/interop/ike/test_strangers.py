"""L2TP in clear reaches no LNS that wants IPsec: the kernel drops it, with nftables or without, and counts it."""

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.ike.rig import forged, kl2tp
from interop.ike.rig.ends import DebianLac
from interop.ike.rig.flow import Pair, lossless
from interop.ike.rig.forged import Sink
from interop.ike.rig.watch import watched
from interop.ike.rig.ways import IKEV2_PSK, Authority
from interop.rig import points, xl2tpd
from interop.rig.process import kill_all
from interop.rig.terms import LNS_ADDRESS, Terms
from kernel.rig.net import Host, Wire
from kernel.rig.run import until


class Place:
    """An LNS that wants IPsec, a client of it, and a stranger on the same wire."""

    def __init__(self, directory: Path, authority: Authority, stack: contextlib.ExitStack) -> None:
        self.directory = directory
        self.wire = Wire("wire")
        stack.callback(self.wire.host.delete)
        lns, lac, self.stranger = (self._host(n, name, stack) for n, name in enumerate(("lns", "lac", "stranger"), 1))
        self.lns = kl2tp.IkeLns(lns, directory, Terms(echo_failures=30), IKEV2_PSK, authority, keeper=True)
        self.lac = DebianLac(lac, directory, Terms(echo_failures=30), lns, IKEV2_PSK, authority)
        stack.callback(self.lac.close)
        stack.callback(self.lns.close)
        self.lns.start()
        self.lac.start()
        (ends,) = points.wait_links(lac).values()
        self.call = forged.call_of(lac, ends.local)
        self.pair = Pair(lac, ends.local, lns, LNS_ADDRESS)

    def _host(self, number: int, name: str, stack: contextlib.ExitStack) -> Host:
        host = Host(name)
        stack.callback(host.delete)
        stack.callback(kill_all, host)
        self.wire.plug(host, number)
        return host

    def forge(self, sink: Sink) -> int:
        """Put packets on the wire that seem to come from the client, in clear; how many."""
        packets = list(forged.packets(self.call, sink.address))
        for packet in packets:
            datagram = struct.pack("!HHHH", 1701, 1701, 8 + len(packet), 0) + packet
            self.wire.inject(self.lac.host, self.lns.host, datagram, protocol=17)
        return len(packets)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Place]:
    with contextlib.ExitStack() as stack:
        yield Place(tmp_path_factory.mktemp("strangers"), authority, stack)


@pytest.fixture(autouse=True)
def told(place: Place) -> Iterator[None]:
    """What everybody said, in case that it is wanted."""
    yield
    print(place.lns.log(), place.lac.log())


@pytest.fixture
def sink(place: Place) -> Iterator[Sink]:
    """Where forged packets would arrive."""
    with contextlib.closing(Sink(place.lns.host, LNS_ADDRESS)) as found:
        yield found


def test_a_caller_without_ipsec_is_not_heard_but_counted(place: Place) -> None:
    before = place.lns.dropped("in_clear")
    caller = xl2tpd.Lac(place.stranger, place.directory, Terms(echo_failures=30), place.lns.host, 2)
    with watched(place.wire.host) as watch, contextlib.closing(caller), lossless(place.pair):
        caller.start(ready=False)
        until(lambda: place.lns.dropped("in_clear") >= before + 3, place.lns.daemon, 30.0)
        sources = {packet[15] for packet in watch.clear}
    assert sources == {place.stranger.number}
    assert len(place.lns.sessions()) == 1


def test_packets_in_clear_for_a_call_that_is_there_are_dropped_and_counted(place: Place, sink: Sink) -> None:
    before = place.lns.dropped("in_clear")
    with lossless(place.pair):
        sent = place.forge(sink)
        assert not sink.got(1.0)
    assert place.lns.dropped("in_clear") == before + sent


def test_also_when_nobody_is_there_but_the_kernel_and_nftables_is_flushed(place: Place, sink: Sink) -> None:
    with lossless(place.pair):
        place.lns.kill_daemon()
        place.lns.host.table.delete()
        place.forge(sink)
        assert not sink.got(1.0)
        place.lns.start()
    before = place.lns.dropped("in_clear")
    place.forge(sink)
    assert place.lns.dropped("in_clear") > before
