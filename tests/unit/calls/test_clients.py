"""Who speaks through IPsec, by the mark of a packet or by its address, and packets that come before that is known."""

from kl2tp.calls.clients import Clients
from kl2tp.control.profiles import Peer
from unit.calls.children import child

NAT = bytes((203, 0, 113, 9))
HERE = (bytes((198, 51, 100, 1)), 1701)
PEER = (NAT, 1701)
BASE, MASK = 0x6B000000, 0xFFFF


def _clients(*reqids: int) -> Clients:
    clients = Clients()
    clients.marks = (BASE, MASK)
    clients.known = {reqid: child(reqid, NAT) for reqid in reqids}
    clients.guard([HERE])
    return clients


def test_only_some_places_are_guarded() -> None:
    clients = _clients()
    assert clients.guards(HERE)
    assert not clients.guards((HERE[0], 1702))
    clients.guard([(bytes(4), 1701)])
    assert clients.guards(HERE)
    assert not clients.guards((bytes(15) + b"\1", 1701))


def test_the_mark_tells_clients_behind_one_nat_apart() -> None:
    clients = _clients(7, 8)
    assert clients.source(PEER, BASE | 7) == (*PEER, 7)
    assert clients.source(PEER, BASE | 8) == (*PEER, 8)


def test_a_mark_of_somebody_else_names_nobody() -> None:
    clients = _clients(7)
    assert clients.source(PEER, 0x1234) is None
    assert clients.source(PEER, 7) is None
    assert clients.source(PEER, 0) is None


def test_without_nftables_the_address_tells_if_only_one_client_has_it() -> None:
    clients = _clients(7)
    clients.filtered = False
    assert clients.source(PEER, 0) == (*PEER, 7)
    assert clients.source((bytes(4), 1701), 0) is None
    clients.known = {7: child(7, NAT), 8: child(8, NAT)}
    assert clients.source(PEER, 0) is None


def test_a_packet_waits_until_its_sender_is_known() -> None:
    clients = _clients()
    clients.park(b"a", PEER, HERE, BASE | 7, 10.0)
    clients.park(b"b", PEER, HERE, BASE | 8, 10.0)
    assert clients.unpark(11.0) == []
    clients.known = {7: child(7, NAT)}
    expected: list[tuple[bytes, Peer, tuple[bytes, int]]] = [(b"a", (*PEER, 7), HERE)]
    assert clients.unpark(12.0) == expected
    assert clients.unpark(12.0) == []
    clients.known = {7: child(7, NAT), 8: child(8, NAT)}
    assert clients.unpark(20.0) == []
    assert clients.unknown == 1


def test_of_too_many_that_wait_the_oldest_are_lost_and_counted() -> None:
    clients = _clients()
    for number in range(300):
        clients.park(b"%d" % number, PEER, HERE, BASE | 7, 10.0)
    clients.known = {7: child(7, NAT)}
    found = clients.unpark(10.0)
    assert len(found) == 256
    assert found[0][0] == b"44"
    assert clients.unknown == 44
