"""Events: which hint comes of which message, and what the monitor makes of our own, of nonsense and of losses."""

import errno
from collections.abc import Iterable

import pytest

from kl2tp.kernel import events, l2tp, nft, nftrules, rtnl, xfrm
from kl2tp.kernel.events import (
    AddressHint,
    DeviceHint,
    ElementHint,
    EndpointHint,
    Hint,
    Monitor,
    NamespaceHint,
    RouteHint,
    SaHint,
    TunnelHint,
)
from kl2tp.kernel.netlink import HEADER, Message, attr, string
from kl2tp.model.objects import Address, Clamp, Guard, GuardedPlace, Link, Route, Session
from unit.kernel import objects
from unit.kernel.test_xfrm import BLOCK6, GCM, HERE, THERE, THERE6, TRANSPORT

L2TP, ROUTE, XFRM, NFT = l2tp.NETLINK_GENERIC, rtnl.NETLINK_ROUTE, xfrm.NETLINK_XFRM, nft.NETLINK_NETFILTER


class FakeSocket:
    """Datagrams, two at a time, and errors, in their order."""

    def __init__(self, waiting: Iterable[bytes | OSError]) -> None:
        self.waiting = list(waiting)
        self.ignored: list[set[int]] = []

    def ignore(self, ports: Iterable[int]) -> None:
        self.ignored.append(set(ports))

    def receive_many(self) -> list[bytes]:
        taken: list[bytes] = []
        while self.waiting and len(taken) < 2:
            first = self.waiting[0]
            if isinstance(first, OSError):
                if taken:
                    break
                del self.waiting[0]
                raise first
            taken.append(first)
            del self.waiting[0]
        return taken


def monitoring(protocol: int, sock: FakeSocket) -> Monitor:
    """A monitor of namespace `n`."""
    monitor = Monitor.__new__(Monitor)
    monitor.name, monitor._ignored = "n", 0
    monitor._sockets = {protocol: sock}  # type: ignore[dict-item]
    return monitor


def datagram(*parts: Message, pid: int = 0) -> bytes:
    return b"".join(
        HEADER.pack(16 + len(m.payload), m.type, 0, 0, pid) + m.payload + bytes(-len(m.payload) & 3) for m in parts
    )


def drained(protocol: int, *waiting: bytes | OSError, limit: int = 400, ours: Iterable[int] = ()) -> list[Hint]:
    """What a monitor makes of this."""
    return list(monitoring(protocol, FakeSocket(waiting)).drain(set(ours), limit))


LINK = rtnl.link_set(Link("", "l0", 1400, alias="kl2tp:a/s"), 0, set_master=False)
ADDRESS = Address("", "l0", HERE, 24)
ELEMENTS = nft._elements(
    nftrules.NEWSETELEM,
    0,
    [Guard("", THERE6, 1, 2), Clamp("", "l0", 9, 9), GuardedPlace("", THERE, 1701, (0, 1))],
    with_data=True,
)
EXPIRED = xfrm.sa_add(GCM, objects.index).payload[:224] + bytes((1, *bytes(7)))


@pytest.mark.parametrize(
    ("protocol", "message", "hints"),
    [
        (L2TP, l2tp.Codec(30).tunnel_delete(7), [TunnelHint(7)]),
        (L2TP, l2tp.Codec(30).session_delete(Session("", 7, 1, 1, "l0")), [TunnelHint(7)]),
        (L2TP, Message(30, 0, bytes(4)), []),
        (ROUTE, Message(rtnl.RTM_DELLINK, 0, LINK.payload), [DeviceHint("n", "l0", "kl2tp:a/s", None)]),
        (ROUTE, Message(rtnl.RTM_NEWLINK, 0, b"\7" + LINK.payload[1:]), []),
        (ROUTE, rtnl.address_add(ADDRESS, 9), [AddressHint("n", 9, HERE, 24, True)]),
        (ROUTE, rtnl.address_delete(ADDRESS, 9), [AddressHint("n", 9, HERE, 24, False)]),
        (ROUTE, rtnl.route_add(Route("", 1000, THERE, 32, 5), 0), [RouteHint("n", 1000, THERE, 32)]),
        (ROUTE, rtnl.route_delete(Route("", 254, THERE6, 64, 5), 0), [RouteHint("n", 254, THERE6, 64)]),
        (ROUTE, Message(80, 0, bytes(20)), []),
        (XFRM, xfrm.sa_add(GCM, objects.index), [SaHint("n", 0x10, HERE, THERE, GCM.spi)]),
        (XFRM, Message(xfrm.EXPIRE, 0, EXPIRED), [SaHint("n", 0x10, HERE, THERE, GCM.spi, gone=True)]),
        (XFRM, xfrm.policy_set(TRANSPORT, objects.index), [EndpointHint("n", THERE, 1701, 1702)]),
        (XFRM, xfrm.policy_delete(BLOCK6), [EndpointHint("n", THERE6, 0, 0)]),
        (XFRM, Message(xfrm.FLUSHSA, 0, bytes(8)), [NamespaceHint("n")]),
        (XFRM, Message(xfrm.FLUSHPOLICY, 0, b""), [NamespaceHint("n")]),
        (NFT, ELEMENTS[0], [EndpointHint("n", THERE6, 1, 2)]),
        (NFT, ELEMENTS[3], [ElementHint("n", ("place", "n", THERE.hex(), 1701))]),
        (NFT, ELEMENTS[1], [DeviceHint("n", "l0", "", None)]),
        (NFT, Message(nftrules.DELTABLE, 0, bytes(4) + string(1, "kl2tp")), [NamespaceHint("n")]),
        (NFT, Message(nftrules.NEWSETELEM, 0, bytes(4) + string(1, "other")), []),
        (NFT, Message(nftrules.NEWGEN, 0, bytes(4) + attr(1, bytes(4))), []),
    ],
)
def test_a_message_is_a_hint(protocol: int, message: Message, hints: list[Hint]) -> None:
    assert drained(protocol, datagram(message)) == hints


def test_the_event_of_a_device_tells_its_state() -> None:
    (hint,) = drained(ROUTE, datagram(LINK))
    assert isinstance(hint, DeviceHint)
    assert hint.state
    assert (hint.name, hint.state.mtu, hint.state.up) == ("l0", 1400, True)


def test_one_datagram_may_hold_many_messages() -> None:
    codec = l2tp.Codec(30)
    assert drained(L2TP, datagram(codec.tunnel_get(1), codec.tunnel_get(2))) == [TunnelHint(1), TunnelHint(2)]


def test_what_our_own_requests_caused_is_no_news() -> None:
    message = l2tp.Codec(30).tunnel_get(1)
    waiting = [datagram(message, pid=pid) for pid in (7, 8, 0)]
    assert len(drained(L2TP, *waiting, ours=[7, 9])) == 2


def test_the_kernel_is_told_once_what_are_our_own_requests() -> None:
    sock = FakeSocket([])
    monitor = monitoring(L2TP, sock)
    for ours in ({1, 2}, {1, 2}, {1, 2, 3}):
        list(monitor.drain(ours))
    assert sock.ignored == [{1, 2}, {1, 2, 3}]


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EMSGSIZE])
def test_lost_events_are_a_hint_about_everything_and_reading_goes_on(number: int) -> None:
    hints = drained(L2TP, OSError(number, "lost"), datagram(l2tp.Codec(30).tunnel_get(1)))
    assert hints == [NamespaceHint("n", lost=True), TunnelHint(1)]


def test_other_errors_are_not_hidden() -> None:
    with pytest.raises(OSError, match="Bad file"):
        drained(L2TP, OSError(errno.EBADF, "Bad file descriptor"))


@pytest.mark.parametrize("protocol", [ROUTE, XFRM])
def test_nonsense_is_a_reason_to_look_at_everything(protocol: int) -> None:
    kind = rtnl.RTM_NEWADDR if protocol == ROUTE else xfrm.NEWSA
    assert drained(protocol, datagram(Message(kind, 0, b"x"))) == [NamespaceHint("n")]


def test_a_flood_is_read_in_parts() -> None:
    flood = [datagram(l2tp.Codec(30).tunnel_get(1))] * 10
    assert len(drained(L2TP, *flood, limit=4)) == 4


def test_every_protocol_has_a_decoder() -> None:
    assert set(events._DECODERS) == {L2TP, ROUTE, XFRM, NFT}
