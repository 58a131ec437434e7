"""UDP sockets of L2TP, on the loopback device: who spoke, to which address, and answers from there."""

import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kl2tp.kernel import udp
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.udp import Listener, Peer
from kl2tp.model.addr import parse, text

ONE, TWO, ANY = (bytes((127, 0, 0, 1)), bytes((127, 0, 0, 2)), bytes(4))
ONE6, ANY6 = bytes(15) + b"\1", bytes(16)
OpenListener = Callable[[bytes], Listener]


@pytest.fixture
def listening() -> Iterator[OpenListener]:
    opened = []

    def start(address: bytes) -> Listener:
        opened.append(Listener(address, 0))
        return opened[-1]

    yield start
    for listener in opened:
        listener.close()


def port(listener: Listener) -> int:
    return listener._local[1]


def peer(address: bytes = ONE) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if len(address) == 16 else socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((text(address), 0))
    sock.settimeout(5)
    return sock


def place(sock: socket.socket) -> Peer:
    name = sock.getsockname()
    return parse(name[0]), name[1]


def heard(listener: Listener, count: int = 1) -> list[Any]:
    """The next datagrams."""
    found: list[Any] = []
    while len(found) < count:
        assert select.select([listener], [], [], 5)[0]
        found += listener.drain()
    return found


@pytest.mark.parametrize(
    ("address", "to"),
    [(ONE, ONE), (ANY, ONE), (ANY, TWO), (ONE6, ONE6), (ANY6, ONE6)],
    ids=["one", "any", "any-second", "ipv6", "any-ipv6"],
)
def test_a_listener_tells_who_spoke_and_to_which_address_and_answers_from_there(
    listening: OpenListener, address: bytes, to: bytes
) -> None:
    listener = listening(address)
    with peer(ONE6 if len(to) == 16 else ONE) as sock:
        sock.sendto(b"hello", (text(to), port(listener)))
        local = (to, port(listener))
        assert heard(listener) == [(b"hello", place(sock), local)]
        listener.send(b"welcome", place(sock), local)
        answer, sender = sock.recvfrom(100)
        assert (answer, parse(sender[0]), sender[1]) == (b"welcome", *local)


def test_many_datagrams_come_at_once_and_in_their_order(listening: OpenListener) -> None:
    listener = listening(ANY)
    with peer() as sock:
        for number in range(200):
            sock.sendto(number.to_bytes(2), ("127.0.0.1", port(listener)))
        parts = [listener.drain() for _ in range(5)]
    assert [len(part) for part in parts] == [64, 64, 64, 8, 0]
    assert [int.from_bytes(data) for part in parts for data, _, _ in part] == list(range(200))


def test_no_more_are_taken_than_asked_for(listening: OpenListener) -> None:
    listener = listening(ONE)
    with peer() as sock:
        for _ in range(3):
            sock.sendto(b"x", ("127.0.0.1", port(listener)))
        assert [len(listener.drain(limit)) for limit in (1, 5)] == [1, 2]


def test_empty_and_overlong_datagrams_are_dropped(listening: OpenListener) -> None:
    listener = listening(ANY)
    with peer() as sock:
        for data in (b"", bytes(5000), b"fine", bytes(4096)):
            sock.sendto(data, ("127.0.0.1", port(listener)))
        assert [len(data) for data, _, _ in heard(listener, 2)] == [4, 4096]


def test_each_datagram_has_its_own_sender_whatever_came_before(listening: OpenListener) -> None:
    four, six = listening(ANY), listening(ANY6)
    with peer() as sock4, peer(ONE6) as sock6:
        for _ in range(3):
            sock4.sendto(b"four", ("127.0.0.2", port(four)))
            sock6.sendto(b"six", ("::1", port(six)))
            assert heard(four) == [(b"four", place(sock4), (TWO, port(four)))]
            assert heard(six) == [(b"six", place(sock6), (ONE6, port(six)))]


def test_packets_without_a_mark_have_none(listening: OpenListener) -> None:
    listener = listening(ANY)
    with peer() as sock:
        sock.sendto(b"x", ("127.0.0.1", port(listener)))
        assert select.select([listener], [], [], 5)[0]
        assert listener.drain_marked() == [(b"x", place(sock), (ONE, port(listener)), 0)]


def test_an_icmp_error_is_nothing_to_read(listening: OpenListener) -> None:
    listener = listening(ONE)
    with peer() as sock:
        closed = place(sock)
    listener.send(b"x", closed, (ONE, port(listener)))
    assert listener.drain() == []


def test_an_address_that_is_not_ours_is_an_error_with_its_name() -> None:
    with pytest.raises(KernelError, match=r"listening at 198\.51\.100\.1 port 1701"):
        Listener(bytes((198, 51, 100, 1)), 1701)


# -- connected -------------------------------------------------------------------------------------------------------


def test_the_connected_socket_hears_its_peer_and_the_listener_everybody_else(listening: OpenListener) -> None:
    listener = listening(ONE)
    with peer() as known, peer() as stranger, udp.open_connected((ONE, port(listener)), place(known)) as sock:
        for each in (known, stranger):
            each.sendto(b"x", ("127.0.0.1", port(listener)))
        assert udp.strays(sock) == [(b"x", place(known), 0)]
        assert heard(listener) == [(b"x", place(stranger), (ONE, port(listener)))]


def test_without_a_wish_the_kernel_chooses_address_and_port() -> None:
    with peer() as other, udp.open_connected((b"", 0), place(other)) as sock:
        assert place(sock)[0] == ONE
        assert sock.getpeername() == other.getsockname()
        assert not sock.getblocking()


def test_strays_are_what_came_so_far() -> None:
    with peer() as other, udp.open_connected((ONE, 0), place(other)) as sock:
        assert udp.strays(sock) == []
        for number in range(70):
            other.sendto(bytes((number,)), sock.getsockname())
        assert [data[0] for data, _, _ in udp.strays(sock)] == list(range(70))


def test_a_connection_that_cannot_be_names_both_ends() -> None:
    with pytest.raises(KernelError, match=r"from 198\.51\.100\.1 port 5 to 127\.0\.0\.1 port 6"):
        udp.open_connected((bytes((198, 51, 100, 1)), 5), (ONE, 6))


def test_the_source_for_a_peer_is_what_the_route_says() -> None:
    assert udp.source_for((TWO, 1701)) == ONE
    assert udp.source_for((ONE6, 1701)) == ONE6


def test_the_newer_of_two_sockets_between_the_same_ends_hears_the_peer() -> None:
    with peer() as other:
        far = (ONE, other.getsockname()[1])
        with udp.open_connected((ONE, 0), far) as older:
            near = older.getsockname()
            other.sendto(b"for the older", near)
            assert older.recv(99) == b"for the older"
            with udp.open_connected((ONE, near[1]), far) as newer:
                udp.outrank(newer, older)
                for number in range(3):
                    other.sendto(b"%d" % number, near)
                    assert select.select([newer], [], [], 5)[0]
                    assert newer.recv(99) == b"%d" % number
