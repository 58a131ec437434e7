"""Tunnels of calls and the IPsec SAs that IKE makes for them: bound to each other, parted for a while, and for good.

A tunnel belongs to the SA that its first packet came out of, or that was there before we called. The reqid names it.
Where the SA goes, the tunnel's time stands still for a grace time; where it comes back, be it under another reqid, the
tunnel goes on. charon may give a reqid to another client: then whoever had it before is cut off from it at once.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from kl2tp.calls.clients import Clients
from kl2tp.calls.session import Peer
from kl2tp.control.endpoint import Endpoint
from kl2tp.control.profiles import Peer as Place
from kl2tp.control.profiles import client_of
from kl2tp.ipsec.ike import ChildSa
from kl2tp.kernel import clients as kernel
from kl2tp.kernel import udp
from kl2tp.model.addr import text
from kl2tp.model.objects import Direction
from kl2tp.reconcile.loop import Loop
from kl2tp.reconcile.places import binding_name, binding_unit

_log = logging.getLogger("kl2tp.calls")
_ADRIFT, _ADRIFT_MASK = 0x7E000000, 0xFFFFFF
"""Reqids that no SA has."""
_GRACE_S = 30.0


class Identity(NamedTuple):
    """Who a client is, as far as IKE tells."""

    connection: str
    """charon's, by which it came in."""
    name: str
    """IKE identity."""
    address: str
    """Where its ESP comes from, in hexadecimal: names of clients with a pre-shared key need not be their own."""

    @classmethod
    def of(cls, child: ChildSa) -> "Identity":
        return cls(child.name, child.remote_id, child.remote.hex())


class Bond:
    """The tunnels of one client, or of one call of ours, and their SA."""

    __slots__ = ("grace_s", "handle", "identity", "peers", "reqid")

    def __init__(self, reqid: int, identity: Identity | None) -> None:
        self.reqid = reqid
        self.identity = identity
        """None: of a call that we placed."""
        self.peers: dict[Peer, None] = {}
        self.handle: asyncio.TimerHandle | None = None
        """Runs while the SA is gone."""
        self.grace_s = _GRACE_S


class Securing:
    """All tunnels of calls with IPsec."""

    def __init__(self, loop: Loop, endpoint: Endpoint, clients: Clients) -> None:
        self.bonds: dict[int, Bond] = {}
        """By reqid."""
        self.bound: Callable[[Peer, str], None] = lambda peer, problem: None
        """Told that the kernel takes a tunnel's packets from its SA alone; or why it does not."""
        self.resumed: Callable[[Peer], None] = lambda peer: None
        """Told that the way to a peer is open again."""
        self.turn: Callable[[], None] = lambda: None
        self.tell: Callable[[str, Peer], None] = lambda kind, peer: None
        """Told of what people may want to know."""
        self._loop, self._endpoint, self._clients = loop, endpoint, clients
        self._aio = asyncio.get_running_loop()
        self._binding: dict[str, Peer] = {}
        """Tunnels by the unit of their binding."""
        self._numbers = itertools.count(1)
        self._synced = False
        self.in_kernel: Callable[[int], bool] = lambda reqid: False
        """Whether the kernel has SAs with a reqid both ways, whoever knows of them."""
        self.proven: frozenset[str] = frozenset()
        """Connections whose clients prove that their names are theirs alone."""

    # -- tunnels come and go ---------------------------------------------------------------------------------------

    def begin(self, peer: Peer) -> None:
        """A tunnel is established: nobody else may speak in it from now on."""
        if client_of(peer.tunnel.peer) and peer.bond is None:
            child = self._clients.known.get(client_of(peer.tunnel.peer))
            self._bond(peer, Identity.of(child) if child is not None else None)
            self._put(peer)

    def take_up(self, peer: Peer) -> None:
        """Go on with a tunnel of an earlier daemon: the kernel still has its binding."""
        if not client_of(peer.tunnel.peer):
            return
        note = peer.tunnel.note
        self._bond(peer, Identity(*note) if len(note) == len(Identity._fields) else None)
        peer.bound = True
        self._put(peer)
        if peer.suspended and peer.bond is not None:
            self._wait(peer.bond)

    def _bond(self, peer: Peer, identity: Identity | None) -> None:
        tunnel = peer.tunnel
        reqid = client_of(tunnel.peer)
        bond = self.bonds.get(reqid)
        if bond is None:
            bond = self.bonds[reqid] = Bond(reqid, identity)
        bond.peers[peer] = None
        peer.bond = bond
        tunnel.note = [*bond.identity] if bond.identity is not None else []
        if tunnel.profile.ike is not None:
            bond.grace_s = tunnel.profile.ike.grace

    def _put(self, peer: Peer) -> None:
        self._binding[binding_name(peer.tunnel.id)] = peer
        self._loop.put_call(binding_unit(peer.tunnel.id, client_of(peer.tunnel.peer)))

    def end(self, peer: Peer) -> None:
        """A tunnel is over, and nothing of it is left in the kernel."""
        if (bond := peer.bond) is None:
            return
        peer.bond = None
        bond.peers.pop(peer, None)
        if not bond.peers:
            self._stop_waiting(bond)
            if self.bonds.get(bond.reqid) is bond:
                del self.bonds[bond.reqid]
        name = binding_name(peer.tunnel.id)
        if self._binding.get(name) is peer:
            del self._binding[name]
            self._loop.drop_call(name)
            self._loop.clear_call(name)

    def unit_done(self, name: str, problem: str) -> bool:
        """What became of a unit; whether it is a binding's."""
        peer = self._binding.get(name)
        if peer is not None and not peer.bound:
            self.bound(peer, problem)
        return peer is not None

    # -- SAs come and go -------------------------------------------------------------------------------------------

    def synced(self) -> None:
        """charon was asked for all that there is, for the first time."""
        self._synced = True
        found = self._by_identity()
        for bond in list(self.bonds.values()):
            if bond.identity is not None:
                self._review(bond, found)
        self.turn()

    def gone(self, child: ChildSa) -> None:
        """A client's SA is no more, or nobody knows it any more."""
        bond = self.bonds.get(child.reqid)
        if bond is not None and bond.identity is not None:
            if (bond.identity.connection, bond.identity.name) == (child.name, child.remote_id):
                bond.identity = Identity.of(child)  # it may have moved since
            self._review(bond)
            self.turn()

    def lost(self, reqid: int) -> None:
        """The kernel has no SAs with this reqid any more, or has some again."""
        bond = self.bonds.get(reqid)
        if bond is not None and bond.identity is not None:
            self._review(bond)
            self.turn()

    def changed(self) -> None:
        """Clients have come, or are others than before."""
        waiting = [b for b in self.bonds.values() if b.handle is not None and b.identity is not None]
        if not waiting:
            return
        found = self._by_identity()  # once for all of them: after a restart of charon all clients wait, and return
        for bond in waiting:
            self._review(bond, found)
        self.turn()

    def call_changed(self, reqid: int, *, up: bool) -> None:
        """The SA of a call that we placed has come or gone."""
        if (bond := self.bonds.get(reqid)) is not None:
            if up:
                self._resume(bond)
            else:
                self._suspend(bond)
            self.turn()

    def _review(self, bond: Bond, found: Mapping[tuple[str, ...], ChildSa] | None = None) -> None:
        """See where a client's SA is; `found` is what `_by_identity` gives, if that is known already."""
        if not self._synced:
            return
        current = self._clients.known.get(bond.reqid)
        if current is not None and self._same(bond, current):
            self._resume(bond)
            return
        if current is not None:  # the reqid is somebody else's now
            self._rebind(bond, _ADRIFT | next(self._numbers) & _ADRIFT_MASK, None)
        again = self._find(bond, self._by_identity() if found is None else found)
        if again is not None:
            self._rebind(bond, again.reqid, again)
            self._resume(bond)
        elif self.in_kernel(bond.reqid):  # left by another charon, and still good: its client knows no better
            self._resume(bond)
        else:
            self._suspend(bond)

    def _by_identity(self) -> dict[tuple[str, ...], ChildSa]:
        """Clients that charon knows, by who they are: those who prove their names, by these alone too."""
        found: dict[tuple[str, ...], ChildSa] = {}
        for child in self._clients.known.values():
            if not child.orphaned:
                identity = Identity.of(child)
                found.setdefault(identity, child)
                if child.name in self.proven:
                    found.setdefault(identity[:2], child)
        return found

    @staticmethod
    def _find(bond: Bond, found: Mapping[tuple[str, ...], ChildSa]) -> ChildSa | None:
        """The same client's SA, under another reqid."""
        assert bond.identity is not None
        return found.get(bond.identity) or found.get(bond.identity[:2])

    def _same(self, bond: Bond, child: ChildSa) -> bool:
        """Whether an SA is of the client that tunnels belong to. Who shares a key with others may call himself by
        another's name, but is not where the other is."""
        ours, theirs = bond.identity, Identity.of(child)
        return ours == theirs or (ours is not None and ours[:2] == theirs[:2] and child.name in self.proven)

    def _rebind(self, bond: Bond, reqid: int, child: ChildSa | None) -> None:
        """Have tunnels belong to another SA, or to none."""
        if self.bonds.get(bond.reqid) is bond:
            del self.bonds[bond.reqid]
        old, bond.reqid = bond.reqid, reqid
        other = self.bonds.setdefault(reqid, bond)
        now = self._aio.time()
        for peer in list(bond.peers):
            self._endpoint.move(peer.tunnel, _moved(peer.tunnel.peer, old, reqid, child), now)
            if other is not bond:
                other.peers[peer] = None
                peer.bond = other
            if child is not None:
                peer.tunnel.note = [*Identity.of(child)]
        if other is not bond:
            self._stop_waiting(bond)
            for peer in bond.peers:
                self._endpoint.resume(peer.tunnel, now)
                self.resumed(peer)
            bond.peers = {}

    def moved(self, peer: Peer) -> None:
        """A tunnel's peer is elsewhere, or has another SA: its socket and its binding follow."""
        tunnel = peer.tunnel
        if peer.bond is not None and peer.bond.identity is not None:
            peer.bond.identity = peer.bond.identity._replace(address=tunnel.peer[0].hex())
            tunnel.note = [*peer.bond.identity]
        if peer.bond is not None:
            self._put(peer)
        if peer.socket is None or (kernel.BY_PORT and _replaced(peer)):
            return
        try:
            _repoint(peer)
        except OSError as error:
            _log.error("tunnel %d cannot follow its peer to %s: %s", tunnel.id, text(tunnel.peer[0]), error)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def _suspend(self, bond: Bond) -> None:
        if bond.handle is not None:
            return
        now = self._aio.time()
        for peer in list(bond.peers):
            self._endpoint.suspend(peer.tunnel, now)
            self.tell("tunnel-suspended", peer)
        self._wait(bond)

    def _wait(self, bond: Bond) -> None:
        if bond.handle is None:
            bond.handle = self._aio.call_later(bond.grace_s, self._give_up, bond)

    @staticmethod
    def _stop_waiting(bond: Bond) -> None:
        if bond.handle is not None:
            bond.handle.cancel()
            bond.handle = None

    def _resume(self, bond: Bond) -> None:
        if bond.handle is None:
            return
        self._stop_waiting(bond)
        now = self._aio.time()
        for peer in list(bond.peers):
            self._endpoint.resume(peer.tunnel, now)
            self.resumed(peer)
            self.tell("tunnel-resumed", peer)

    def _give_up(self, bond: Bond) -> None:
        """The SA did not come back in time."""
        now = self._aio.time()
        for peer in list(bond.peers):
            message = f"there was no IPsec SA for {bond.grace_s:g} s"
            self._endpoint.close(peer.tunnel, now, message=message)
        bond.handle = None
        self.turn()

    @property
    def suspended(self) -> int:
        """Tunnels whose SA is gone, for now."""
        return sum(len(bond.peers) for bond in self.bonds.values() if bond.handle is not None)

    def let_go(self, names: Iterable[str] = ()) -> None:
        """Want nothing any more: bindings go with the next pass."""
        for name in (*self._binding, *names):
            self._loop.drop_call(name)
        self._binding.clear()

    def close(self) -> None:
        """Stop the clocks."""
        for bond in self.bonds.values():
            self._stop_waiting(bond)


def _moved(peer: Place, old: int, reqid: int, child: ChildSa | None) -> Place:
    """Where a peer is once it has another SA; older kernels tell clients apart by a port on this host."""
    address = child.remote if child is not None else peer[0]
    by_port = kernel.BY_PORT and peer[1] == kernel.port_of(old)
    return (address, kernel.port_of(reqid) if by_port else peer[1], reqid)


def _replaced(peer: Peer) -> bool:
    """Whether a tunnel's peer has since opened another one from where it is now: one that broke down and came back.

    Older kernels find a session by the socket: if the old tunnel's went there too, it would take what is for the new.
    """
    ends = (peer.tunnel.local, peer.tunnel.peer)
    others = peer.bond.peers if peer.bond is not None else ()
    return any(other is not peer and other.socket is not None and other.ends == ends for other in others)


def _repoint(peer: Peer) -> None:
    """Have a tunnel's socket, and with it the kernel's data, go to its peer's address by its peer's SA. Raises
    OSError."""
    sock = peer.socket
    assert sock is not None
    address, port, *_ = peer.tunnel.peer
    reqid = client_of(peer.tunnel.peer)
    if reqid:
        udp.set_policy(sock, Direction.OUT, reqid)
        if kernel.BY_PORT:
            udp.set_policy(sock, Direction.IN, reqid)
    udp.reconnect(sock, (address, port))
