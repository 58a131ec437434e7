"""Many datagrams by one system call."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from kl2tp.kernel.many import COUNT, SIZE, Slots


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A pair of sockets, of which the first waits for a moment only."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 10_000))
    yield here, there
    here.close()
    there.close()


def test_what_waits_is_taken_in_its_order(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    sent = [bytes((n,)) * (n + 1) for n in range(10)]
    for data in sent:
        there.send(data)
    assert Slots().receive(here.fileno()) == sent


def test_not_more_than_fit_are_taken_at_once(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    for _ in range(COUNT + 5):
        there.send(b"x")
    slots = Slots()
    assert [len(slots.receive(here.fileno())) for _ in range(2)] == [COUNT, 5]


def test_the_longest_datagram_fits(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    there.send(b"y" * SIZE)
    there.send(b"z")
    assert Slots().receive(here.fileno()) == [b"y" * SIZE, b"z"]


def test_a_longer_one_is_an_error(ends: tuple[socket.socket, socket.socket]) -> None:
    here, there = ends
    there.send(b"y" * (SIZE + 1))
    with pytest.raises(OSError, match="too long") as caught:
        Slots().receive(here.fileno())
    assert caught.value.errno == errno.EMSGSIZE


def test_where_nothing_comes_waiting_ends(ends: tuple[socket.socket, socket.socket]) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011 the number says it
        Slots().receive(ends[0].fileno())
    assert caught.value.errno == errno.EAGAIN
