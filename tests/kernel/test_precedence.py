"""Which of several outbound SAs with one reqid the kernel takes, and that we can say so."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from kernel.conftest import Bench
from kernel.rig.net import Host, Wire
from kl2tp.kernel import associations, precedence, xfrm
from kl2tp.kernel.door import Door
from kl2tp.model.addr import parse
from kl2tp.model.objects import Direction, Policy, Sa, Secret, Selector, Template
from kl2tp.model.spec import Mode

REQID, PORT = 77, 5000
OLD, NEW, KNOWN, YOUNGER = 0x1001, 0x1002, 0x1003, 0x1004


class Sender:
    """A host whose packets to another need ESP."""

    def __init__(self, near: Host, far: Host, wire: Wire) -> None:
        self.host, self._wire = near, wire
        self.source, self.target = (parse(f"192.0.2.{host.number}") for host in (near, far))
        selector = Selector(self.source, 32, self.target, 32, socket.IPPROTO_UDP, 0, PORT)
        policy = Policy("", Direction.OUT, selector, 1000, Template(REQID, Mode.TRANSPORT))
        near.request(xfrm.NETLINK_XFRM, xfrm.policy_set(policy, int))
        with near.entered():
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect((f"192.0.2.{far.number}", PORT))

    def add(self, spi: int) -> None:
        """One more SA."""
        key = Secret(bytes(range(36)))
        sa = Sa("", self.source, self.target, spi, Mode.TRANSPORT, REQID, "rfc4106(gcm(aes))", key)
        self.host.request(xfrm.NETLINK_XFRM, xfrm.sa_add(sa, int))

    def delete(self, spi: int) -> None:
        sa = Sa("", self.source, self.target, spi, Mode.TRANSPORT, REQID, "", Secret(b""))
        self.host.request(xfrm.NETLINK_XFRM, xfrm.sa_delete(sa))

    def used(self) -> int:
        """The SPI of a packet that is sent now."""
        with self._wire.host.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as sock:
            sock.settimeout(10.0)
            self._sock.send(b"hello")
            while True:
                frame = sock.recv(2048)
                if frame[12:14] == b"\x08\0" and frame[23] == socket.IPPROTO_ESP:
                    return int.from_bytes(frame[34:38])

    def outbound(self, spi: int) -> precedence.Outbound:
        return self.target, spi

    def association(self, spi: int) -> associations.Association:
        found = associations.read(self.host.netlink(xfrm.NETLINK_XFRM), "")
        return next(sa for sa in found if sa.spi == spi)

    def pass_a_second(self, spi: int) -> None:
        """Until an SA that is made now is younger than that one, to the kernel, which counts in seconds."""
        made = self.association(spi).made_at
        probe = 0x9000
        while True:
            self.add(probe)
            age = self.association(probe).made_at - made
            self.delete(probe)
            if age >= 1:
                return
            probe += 1


@pytest.fixture
def sender(bench: Bench) -> Iterator[Sender]:
    found = Sender(bench.near.host, bench.far.host, bench.wire)
    with contextlib.closing(found._sock):
        yield found


def test_by_itself_the_kernel_takes_the_latest(sender: Sender) -> None:
    sender.add(OLD)
    assert sender.used() == OLD
    sender.pass_a_second(OLD)
    sender.add(NEW)
    assert sender.used() == NEW


def test_one_with_precedence_is_taken_until_it_goes_and_then_the_next_at_once(sender: Sender) -> None:
    sock = sender.host.netlink(xfrm.NETLINK_XFRM)
    sender.add(OLD)
    sender.pass_a_second(OLD)
    assert precedence.prefer(sock, [sender.outbound(OLD), sender.outbound(0x5555)]) == 1
    sender.add(NEW)
    assert sender.used() == OLD
    sender.delete(OLD)
    assert sender.used() == NEW


def test_it_is_given_once_taken_once_and_nothing_else_changes(sender: Sender) -> None:
    sock = sender.host.netlink(xfrm.NETLINK_XFRM)
    sender.add(OLD)
    assert sender.used() == OLD
    before = sender.association(OLD)
    assert list(precedence.preferred(sock)) == []
    assert precedence.level(sock, [sender.outbound(OLD)]) == 0
    assert precedence.prefer(sock, [sender.outbound(OLD)]) == 1
    assert precedence.prefer(sock, [sender.outbound(OLD)]) == 0
    assert list(precedence.preferred(sock)) == [sender.outbound(OLD)]
    during = sender.association(OLD)
    assert during.made_at > before.made_at
    assert (during.packets, during.octets) == (before.packets, before.octets)
    assert during.first_used_at == before.first_used_at
    assert precedence.level(sock, [sender.outbound(OLD)]) == 1
    assert sender.association(OLD) == before
    assert list(precedence.preferred(sock)) == []


def test_what_an_earlier_charon_has_left_is_swept_away(sender: Sender) -> None:
    """But not what is known, nor what has come since, of which we may not have heard yet."""
    sender.add(OLD)
    sender.add(KNOWN)
    sender.pass_a_second(OLD)
    sender.add(NEW)
    sender.pass_a_second(NEW)
    sender.add(YOUNGER)
    with contextlib.closing(Door()) as door, sender.host.entered():
        assert door.sweep(REQID, (sender.source, sender.target), {KNOWN, NEW}, NEW) == 1
        assert door.sweep(REQID, (sender.source, sender.target), {KNOWN, NEW}, NEW) == 0
    left = {sa.spi for sa in associations.read(sender.host.netlink(xfrm.NETLINK_XFRM), "")}
    assert left == {KNOWN, NEW, YOUNGER}
