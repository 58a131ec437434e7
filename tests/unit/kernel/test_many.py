"""Many datagrams at once, and events that the kernel drops for us."""

import socket
from collections.abc import Iterator

import pytest

from kl2tp.kernel.many import COUNT, SIZE, Slots
from kl2tp.kernel.netlink import HEADER, EventSocket

NETLINK_USERSOCK = 2


Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


class Listener:
    """An event socket, and a way to send to it."""

    def __init__(self, sender: socket.socket) -> None:
        self.events = EventSocket(NETLINK_USERSOCK)
        self._sender = sender
        self._to = self.events._socket.getsockname()[0], 0

    def send(self, data: bytes) -> None:
        self._sender.sendto(data, self._to)


@pytest.fixture
def listener() -> Iterator[Listener]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK) as sender:
        found = Listener(sender)
        yield found
        found.events.close()


def test_all_that_waits_comes_in_its_order_and_length(pair: Pair) -> None:
    ours, theirs = pair
    sent = [bytes([n]) * (n * 100 + 1) for n in range(8)]
    for data in sent:
        theirs.send(data)
    assert Slots().receive(ours.fileno()) == sent


def test_what_does_not_fit_comes_the_next_time(listener: Listener) -> None:
    for n in range(COUNT + 6):
        listener.send(n.to_bytes(16))
    first, second = listener.events.receive_many(), listener.events.receive_many()
    assert [int.from_bytes(data) for data in first + second] == list(range(COUNT + 6))
    assert len(first) == COUNT
    assert listener.events.receive_many() == []


def test_nothing_there_is_an_error_for_a_socket_that_does_not_wait(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        Slots().receive(pair[0].fileno())


def test_a_datagram_longer_than_a_slot_is_no_datagram_cut_short(pair: Pair) -> None:
    ours, theirs = pair
    theirs.send(bytes(SIZE + 1))
    with pytest.raises(OSError, match="too long"):
        Slots().receive(ours.fileno())


@pytest.mark.parametrize(
    ("kind", "port", "byte", "arrives"),
    [(24, 7, 9, True), (24, 8, 9, False), (24, 7, 2, False), (25, 7, 2, True), (25, 4000000000, 9, False)],
)
def test_the_kernel_drops_what_we_caused_and_what_we_do_not_want(
    listener: Listener, kind: int, port: int, byte: int, *, arrives: bool
) -> None:
    listener.events.ignore({1, 8, 4000000000}, (24, 1, 2), (26, 0, 0))
    message = HEADER.pack(20, kind, 0, 1, port) + bytes((0, byte, 0, 0))
    listener.send(message)
    assert listener.events.receive_many() == ([message] if arrives else [])


def test_of_too_many_ports_some_are_ignored(listener: Listener) -> None:
    listener.events.ignore(range(1, 1000))
    for port in (1, 999, 1000):
        listener.send(HEADER.pack(16, 20, 0, 0, port))
    assert [HEADER.unpack(data)[4] for data in listener.events.receive_many()] == [1, 1000]
