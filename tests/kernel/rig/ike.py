"""An LNS with IPsec and its clients, behind a NAT or beside it.

SAs are placed by hand, in the role of charon's: the kernel cannot tell, and a test says itself when there is one. All
else is as with charon: ESP in UDP through a real NAT, no policy but ours, a reqid for each client.
"""

import contextlib
import itertools
import os
import select
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from kernel.rig.net import Host
from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel import clients, netns, rtnl, udp, xfrm
from kl2tp.kernel.door import Door
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.pppol2tp import Plane, SessionHold, SessionWish, TunnelHold, TunnelWish
from kl2tp.kernel.udp import Listener, Peer
from kl2tp.model.addr import family, text
from kl2tp.model.objects import Address, Direction, Marks, Policy, Sa, Secret, Selector, Template
from kl2tp.model.plan import Unit
from kl2tp.model.spec import Mode
from kl2tp.reconcile.engine import Engine
from kl2tp.reconcile.ledger import Ledger
from kl2tp.reconcile.places import binding_unit, place_unit

PORT, NAT_T = 1701, 4500
MARKS: Marks = (0x5000000, 0xFFFF)
CLIENT_REQID = 9
"""Of SAs on a client's own host."""
WITHIN_S = 5.0
_ENCAP, _ENCAP_ESP = 100, 2
_NOT_ESP = bytes(4)
_SPIS = itertools.count(0x1000)
_CIPHER = "rfc4106(gcm(aes))"


def inside(unit: Unit, host: Host) -> Unit:
    """A unit in the namespace of a host."""
    return Unit(unit.name, tuple(replace(thing, netns=host.name) for thing in unit.objects))


def control(tunnel: int, ns: int = 0) -> bytes:
    """An L2TPv2 control message without content."""
    return struct.pack("!HHHHHH", 0xC802, 12, tunnel, 0, ns, 0)


def data(tunnel: int, session: int, *, length: bool) -> bytes:
    """An L2TPv2 data packet with an IPv4 packet for nobody in it."""
    frame = bytes.fromhex("ff030021") + bytes.fromhex("4500001400000000401100000a0000010a000002")
    if length:
        return struct.pack("!HHHH", 0x4002, 8 + len(frame), tunnel, session) + frame
    return struct.pack("!HHH", 0x0002, tunnel, session) + frame


def dump(host: Host) -> list[Sa]:
    """All SAs of a host."""
    replies = host.netlink(xfrm.NETLINK_XFRM).dump(xfrm.GETSA, b"")
    return [sa for reply in list(replies) if (sa := xfrm.decode_sa("", reply.payload, str))]


def await_address(host: Host, address: bytes) -> None:
    """Until a socket can be bound to an address: of IPv6 that takes a moment."""

    def usable() -> bool:
        with host.entered(), socket.socket(family(address), socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((text(address), 0))
            except OSError:
                return False
        return True

    host.until(usable)


class Nat4500:
    """The socket by which ESP in UDP leaves and arrives, and by which IKE finds out what a NAT does."""

    def __init__(self, host: Host, address: bytes) -> None:
        with host.entered():
            self._socket = socket.socket(family(address), socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_UDP, _ENCAP, _ENCAP_ESP)
        self._socket.bind((text(address), NAT_T))

    def seen_by(self, other: "Nat4500", where: bytes) -> tuple[bytes, int]:
        """As what address and port somebody else sees this socket."""
        self._socket.sendto(_NOT_ESP + b"who am I", (text(where), NAT_T))
        assert select.select([other._socket], [], [], WITHIN_S)[0]
        _, (address, port, *_) = other._socket.recvfrom(100)
        return socket.inet_pton(other._socket.family, address), port

    def close(self) -> None:
        self._socket.close()


class Side(NamedTuple):
    """A host, as far as SAs are concerned."""

    host: Host
    address: bytes
    seen: tuple[bytes, int]
    """The address and, behind a NAT, the port as which the other side sees it."""


class Pair:
    """Two SAs, one each way, on both hosts."""

    def __init__(
        self, lns: "Lns | Side", client: "Client | Side", reqid: int, client_reqid: int = CLIENT_REQID
    ) -> None:
        self._hosts = lns.host, client.host
        keys = [Secret(os.urandom(20)) for _ in range(2)]
        spis = [next(_SPIS) for _ in range(2)]
        port = client.seen[1]
        there, here = (NAT_T, port) if port else (0, 0), (NAT_T, NAT_T) if port else (0, 0)
        near = (lns.address, client.seen[0])
        far = (lns.address, client.address)
        self.near = [
            _sa(near[1], near[0], spis[0], reqid, keys[0], there[::-1]),
            _sa(near[0], near[1], spis[1], reqid, keys[1], there),
        ]
        self.far = [
            _sa(far[1], far[0], spis[0], client_reqid, keys[0], here),
            _sa(far[0], far[1], spis[1], client_reqid, keys[1], here),
        ]

    def install(self, *directions: int) -> "Pair":
        """Put them in place; or only some: 0 is what the LNS receives, 1 what it sends. The receiver's come first."""
        for n in directions or (0, 1):
            sides = ((self._hosts[0], self.near[n]), (self._hosts[1], self.far[n]))
            for host, sa in sides if n == 0 else sides[::-1]:
                host.request(xfrm.NETLINK_XFRM, xfrm.sa_add(sa, lambda name: 0))
        return self

    def remove(self) -> None:
        """Take them away; the sender's first."""
        for n in (0, 1):
            sides = ((self._hosts[0], self.near[n]), (self._hosts[1], self.far[n]))
            for host, sa in sides[::-1] if n == 0 else sides:
                with contextlib.suppress(KernelError):
                    host.request(xfrm.NETLINK_XFRM, xfrm.sa_delete(sa))


def _sa(source: bytes, destination: bytes, spi: int, reqid: int, key: Secret, ports: tuple[int, int]) -> Sa:
    sa = Sa("", source, destination, spi, Mode.TRANSPORT, reqid, _CIPHER, key, replay_window=32)
    return replace(sa, encap_source_port=ports[0], encap_destination_port=ports[1])


class Lns:
    """The host that listens."""

    def __init__(
        self, host: Host, address: bytes, directory: Path, *, exact: bool = False, filtered: bool = True
    ) -> None:
        """`exact`: it listens at that address only; `filtered`: with nftables."""
        self.host, self.address = host, address
        await_address(host, address)
        self.place = address if exact else bytes(len(address))
        self.door = Door()
        directory.mkdir(exist_ok=True)
        self.engine = Engine(self.door, Ledger(directory / "ledger", netns.identity), KeyRing())
        self.engine.calls = {}
        self.plane = Plane(host.name)
        self.encap = Nat4500(host, address)
        self.tunnels: dict[int, TunnelHold] = {}
        self.sessions: dict[int, SessionHold] = {}
        self.settle(place_unit(self.place, PORT, MARKS, filtered=filtered))
        self.listener = Listener(self.place, PORT, host.name)

    def settle(self, unit: Unit) -> None:
        """Have the kernel agree with what a call, or what protects calls, wants."""
        self.engine.put_call(inside(unit, self.host))
        self.look()

    def look(self) -> list[str]:
        """Compare everything with the kernel; what was done about it."""
        names = list(self.engine.calls or ())
        results = [result for some in self.engine.reconcile(names) for result in some]
        assert not [r.problem for r in results if r.problem]
        return [str(op) for result in results for op in result.done]

    def hear(self, count: int = 1, within: float = WITHIN_S) -> list[tuple[bytes, Peer, Peer, int]]:
        """What comes, to whatever socket: (data, sender, receiver, mark)."""
        found: list[tuple[bytes, Peer, Peer, int]] = []
        socks = [hold.sock for hold in self.tunnels.values()]
        while len(found) < count and (ready := select.select(self._fds(), [], [], within)[0]):
            found += self.listener.drain_marked()
            for sock in socks:
                if sock.fileno() in ready:
                    found += [(d, peer, (self.address, PORT), mark) for d, peer, mark in udp.receive(sock)]
        return found

    def silent(self) -> bool:
        """Whether nobody is heard, anywhere."""
        return not select.select(self._fds(), [], [], 0.1)[0]

    def _fds(self) -> list[int]:
        return [self.listener.fileno(), *(hold.sock.fileno() for hold in self.tunnels.values())]

    def accept(self, client: "Client", *, bound: bool = True) -> Peer:
        """Hear a client, answer, and have a tunnel and a session with it; where it is."""
        client.sock.send(control(0, client.number))
        ((heard, peer, local, mark),) = self.hear()
        assert (heard, mark) == (control(0, client.number), clients.mark_of(client.reqid, MARKS))
        assert self.listener.send_many([(control(client.number), peer, (self.address, PORT))], client.reqid) == 0
        assert client.hear() == control(client.number)
        assert local == (self.address, PORT)
        self.open(client, peer, bound=bound)
        return peer

    def open(self, client: "Client", peer: Peer, *, bound: bool = True) -> None:
        """A tunnel and a session."""
        ours = self.tunnel_id(client)
        if bound:
            self.settle(binding_unit(ours, client.reqid))
        wish = TunnelWish(ours, client.number, (self.address, PORT), peer, reqid=client.reqid)
        (hold,) = self.plane.open_tunnels([wish])
        assert isinstance(hold, TunnelHold), hold
        self.tunnels[client.number] = hold
        self.sessions[client.number] = _attach(
            self.plane, self.host, ours, client.number, f"lns{client.number}", _LNS_INSIDE, client.inside, lns=True
        )

    @staticmethod
    def tunnel_id(client: "Client") -> int:
        """Our id of a client's tunnel."""
        return 100 + client.number

    def received(self, client: "Client") -> int:
        """Packets that the kernel has taken from a client's session."""
        (counters,) = self.plane.counters([(self.tunnel_id(client), client.number)])
        assert counters
        return counters["rx_packets"]

    def close(self) -> None:
        self.plane.detach(list(self.sessions.values()))
        self.plane.close_tunnels(list(self.tunnels.values()))
        self.plane.close()
        self.listener.close()
        self.encap.close()
        self.door.close()


_LNS_INSIDE = bytes((172, 16, 0, 254))
_LOST = b"lost?"


class Client:
    """A client: its own policies are what such clients have."""

    def __init__(
        self, host: Host, address: bytes, lns: Lns, number: int, reqid: int, *, nat: bool = False, port: int = PORT
    ) -> None:
        self.host, self.address, self.number, self.reqid = host, address, number, reqid
        self.inside = bytes((172, 16, 0, number))
        self._lns, self._port = lns, port
        self._encap = Nat4500(host, address) if nat else None
        self.seen = self._encap.seen_by(lns.encap, lns.address) if self._encap else (address, 0)
        self.plane = Plane(host.name)
        self._dial()

    def _dial(self) -> None:
        """Policies, a tunnel and a session."""
        await_address(self.host, self.address)
        lns, bits = self._lns, len(self.address) * 8
        out = Selector(self.address, bits, lns.address, bits, 17, self._port, PORT)
        back = Selector(lns.address, bits, self.address, bits, 17, PORT, self._port)
        for direction, selector in ((Direction.OUT, out), (Direction.IN, back)):
            policy = Policy("", direction, selector, 1000, Template(CLIENT_REQID, Mode.TRANSPORT))
            self.host.request(xfrm.NETLINK_XFRM, xfrm.policy_set(policy, lambda name: 0))
        ours, theirs = self.number, Lns.tunnel_id(self)
        wish = TunnelWish(ours, theirs, (self.address, self._port), (lns.address, PORT))
        (hold,) = self.plane.open_tunnels([wish], WITHIN_S)
        assert isinstance(hold, TunnelHold), hold
        self._tunnel, self.sock = hold, hold.sock
        self._session = _attach(
            self.plane, self.host, ours, theirs, f"cli{self.number}", self.inside, _LNS_INSIDE, lns=False
        )

    def move(self, address: bytes) -> None:
        """It has another address from now on, and no SA yet; its session goes on."""
        self._let_go()
        self.address, self.seen = address, (address, 0)
        self._dial()

    def _let_go(self) -> None:
        self.plane.detach([self._session])
        self.plane.close_tunnels([self._tunnel])

    def hear(self, within: float = WITHIN_S) -> bytes:
        """The next control message; b"" if none comes."""
        if not select.select([self.sock], [], [], within)[0]:
            return b""
        return self.sock.recv(4096)

    def close(self) -> None:
        self._let_go()
        self.plane.close()
        if self._encap:
            self._encap.close()


def _attach(
    plane: Plane, host: Host, tunnel: int, peer_tunnel: int, name: str, ours: bytes, theirs: bytes, *, lns: bool
) -> SessionHold:
    """A session with the number of the client, at either end."""
    number = min(tunnel, peer_tunnel)
    wish = SessionWish(tunnel, number, peer_tunnel, number, name, 1300, lns=lns, up=True)
    (hold,) = plane.attach([wish])
    assert isinstance(hold, SessionHold), hold
    host.request(rtnl.NETLINK_ROUTE, rtnl.address_add(Address("", name, ours, 32, theirs), host.index(name)))
    return hold


class Flow:
    """Numbered datagrams through the sessions, both ways."""

    _PORT = 7

    def __init__(self, lns: Lns, some: Sequence[Client]) -> None:
        self._clients = some
        self._near = _bound(lns.host, _LNS_INSIDE, self._PORT)
        self._far = [_bound(client.host, client.inside, self._PORT) for client in some]
        self.sent = 0

    def send(self, count: int = 10) -> None:
        """Send so many each way to and from each, and see all of them arrive."""
        for _ in range(count):
            self.sent += 1
            number = self.sent.to_bytes(4)
            for client, sock in zip(self._clients, self._far, strict=True):
                sock.sendto(number + client.inside, (text(_LNS_INSIDE), self._PORT))
                assert self._next(self._near, client) == (number + client.inside, client.inside)
                self._near.sendto(number, (text(client.inside), self._PORT))
                assert self._next(sock, client) == (number, _LNS_INSIDE)

    def lost(self, client: Client) -> bool:
        """Whether nothing passes to and from a client."""
        sock = self._far[self._clients.index(client)]
        for source, target in ((sock, _LNS_INSIDE), (self._near, client.inside)):
            with contextlib.suppress(OSError):
                source.sendto(_LOST, (text(target), self._PORT))
        return not select.select([sock, self._near], [], [], 0.1)[0]

    @staticmethod
    def _next(sock: socket.socket, client: Client) -> tuple[bytes, bytes]:
        while True:
            ready = select.select([sock], [], [], WITHIN_S)[0]
            assert ready, f"nothing came to or from client {client.number}"
            data, (address, _) = sock.recvfrom(100)
            if data != _LOST:  # one that came late
                return data, socket.inet_aton(address)

    def close(self) -> None:
        for sock in (self._near, *self._far):
            sock.close()


def _bound(host: Host, address: bytes, port: int) -> socket.socket:
    with host.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((text(address), port))
    return sock


@contextlib.contextmanager
def flow(lns: Lns, *some: Client) -> Iterator[Flow]:
    """A flow to and from clients."""
    with contextlib.closing(Flow(lns, some)) as stream:
        yield stream


def heard(holds: Sequence[TunnelHold], within: float = WITHIN_S) -> tuple[int, bytes, int]:
    """The next control message at any tunnel's socket: (which of them, data, reqid)."""
    ready = select.select([hold.sock for hold in holds], [], [], within)[0]
    assert ready
    ((message, _, mark),) = udp.receive(ready[0])
    number = next(n for n, hold in enumerate(holds) if hold.sock is ready[0])
    return number, message, clients.reqid_of(mark, MARKS)
