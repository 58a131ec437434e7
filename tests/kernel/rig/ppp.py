"""PPP sessions between two hosts, each with a plane of its own in this process: frames and packets, no negotiation."""

import contextlib
import select
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kernel.rig.conf import device, inner
from kernel.rig.net import Host, Late
from kl2tp.kernel import l2tp, rtnl
from kl2tp.kernel.netlink import KernelError, Message, Reply
from kl2tp.kernel.pppol2tp import Plane, SessionHold, SessionWish, TunnelHold, TunnelWish
from kl2tp.model.addr import parse
from kl2tp.model.objects import Address, Clamp, KernelObject, Link
from kl2tp.model.plan import Unit

PORT = 1701
FIRST_PORT = 20_000
MTU = 1400
FAR_IDS = 1000
"""What the far end's ids are higher by."""
ECHO_REQUEST = bytes.fromhex("c0210901000c01020304cafe0000")
ECHO_REPLY = bytes.fromhex("c0210a01000c05060708cafe0000")
IPCP = bytes.fromhex("80210101000a0306ac100001")


def place(host: Host, *, v6: bool = False) -> bytes:
    """Where a host is on the wire."""
    return parse(f"2001:db8::{host.number}" if v6 else f"192.0.2.{host.number}")


class End:
    """One host's tunnels and sessions, numbered as they were made."""

    def __init__(self, host: Host, other: Host, *, far: bool) -> None:
        self.host, self.other, self.far = host, other, far
        self.plane = Plane(host.name)
        self.tunnels: dict[int, TunnelHold] = {}
        self.wishes: dict[int, SessionWish] = {}
        self.sessions: dict[int, SessionHold] = {}

    def ids(self, number: int) -> tuple[int, int]:
        """(ours, the peer's) of a tunnel or session."""
        return (number + FAR_IDS, number) if self.far else (number, number + FAR_IDS)

    def tunnel_wish(self, number: int, *, v6: bool = False) -> TunnelWish:
        """Tunnels differ by the near end's port."""
        ports = (FIRST_PORT + number, PORT)
        ours, theirs = ports[self.far], ports[not self.far]
        return TunnelWish(*self.ids(number), (place(self.host, v6=v6), ours), (place(self.other, v6=v6), theirs))

    def session_wish(self, number: int, tunnel: int, **more: Any) -> SessionWish:
        """A session whose device is up."""
        ours, theirs = self.ids(number), self.ids(tunnel)
        settings: dict[str, Any] = {"up": True, "lns": self.far} | more
        return SessionWish(theirs[0], ours[0], theirs[1], ours[1], device(number), MTU, **settings)

    def open(self, numbers: Sequence[int], *, v6: bool = False) -> None:
        """Open tunnels; none may fail."""
        holds = self.plane.open_tunnels([self.tunnel_wish(number, v6=v6) for number in numbers])
        for number, hold in zip(numbers, holds, strict=True):
            assert isinstance(hold, TunnelHold), hold
            self.tunnels[number] = hold

    def attach(self, numbers: Sequence[int], tunnel: Callable[[int], int] = int, **more: Any) -> None:
        """Make sessions, each in the tunnel with its number unless `tunnel` says otherwise; none may fail."""
        wishes = [self.session_wish(number, tunnel(number), **more) for number in numbers]
        for number, wish, hold in zip(numbers, wishes, self.plane.attach(wishes), strict=True):
            assert isinstance(hold, SessionHold), hold
            self.wishes[number], self.sessions[number] = wish, hold

    def rebuild(self, numbers: Sequence[int]) -> None:
        """Make anew what sessions lost; none may fail."""
        wishes, holds = [self.wishes[n] for n in numbers], [self.sessions[n] for n in numbers]
        results = self.plane.rebuild(wishes, holds, self.plane.losses(wishes, holds))
        for number, hold in zip(numbers, results, strict=True):
            assert isinstance(hold, SessionHold), hold
            self.sessions[number] = hold

    def addresses(self, number: int) -> tuple[bytes, bytes]:
        """(ours, the peer's) inside the session."""
        ends = [parse(inner(number, end)) for end in (1, 2)]
        return ends[self.far], ends[not self.far]

    def unit(self, number: int, *more: KernelObject, **settings: Any) -> Unit:
        """What a call wants of the network."""
        wish = self.wishes[number]
        namespace = self.host.name if wish.netns is None else wish.netns
        ours, theirs = self.addresses(number)
        settings = {"tunnel_netns": namespace, "alias": f"kl2tp:call/{number}"} | settings
        link = Link(namespace, wish.ifname, MTU, **settings)
        address = Address(namespace, wish.ifname, ours, 32, theirs)
        return Unit(f"call/{number}", (link, address, *more, Clamp(namespace, wish.ifname, MTU - 40, MTU - 60)))

    def address(self, number: int, host: Host | None = None) -> None:
        """Give a session's device its address."""
        ours, theirs = self.addresses(number)
        host, name = host or self.host, self.wishes[number].ifname
        host.request(rtnl.NETLINK_ROUTE, rtnl.address_add(Address("", name, ours, 32, theirs), host.index(name)))

    def kernel_session(self, number: int) -> bytes | None:
        """What the kernel says of a session, if it has it."""
        wish = self.wishes[number]
        reply = self.host.netlink(l2tp.NETLINK_GENERIC).get([self.host.l2tp.session_get(wish.tunnel_id, wish.id)])[0]
        return reply.payload if isinstance(reply, Reply) else None

    def delete_session(self, number: int) -> None:
        """As another tool would."""
        wish = self.wishes[number]
        request = self.host.l2tp.session_get(wish.tunnel_id, wish.id).payload
        self.host.request(l2tp.NETLINK_GENERIC, Message(self.host.l2tp.family, 0, bytes((6,)) + request[1:]))

    def delete_tunnel(self, number: int) -> None:
        """As another tool would."""
        self.host.request(l2tp.NETLINK_GENERIC, self.host.l2tp.tunnel_delete(self.ids(number)[0]))

    def close(self) -> None:
        """Take everything away."""
        self.plane.detach(list(self.sessions.values()))
        self.plane.close_tunnels(list(self.tunnels.values()))
        self.plane.close()


@contextlib.contextmanager
def ends(near: Host, far: Host) -> Iterator[tuple[End, End]]:
    """Both ends, without tunnels."""
    pair = (End(near, far, far=False), End(far, near, far=True))
    try:
        yield pair
    finally:
        for end in pair:
            end.close()


@contextlib.contextmanager
def connected(
    near: Host, far: Host, numbers: Sequence[int], *, v6: bool = False, **more: Any
) -> Iterator[tuple[End, End]]:
    """Tunnels with a session and addresses each."""
    with ends(near, far) as pair:
        for end in pair:
            end.open(numbers, v6=v6)
            end.attach(numbers, **more)
            for number in numbers:
                end.address(number)
        yield pair


def frames(hold: SessionHold, fd: int, count: int = 1, within: float = 5.0) -> list[bytes]:
    """The next frames on the channel or the unit."""
    found: list[bytes] = []
    while len(found) < count:
        if not select.select([fd], [], [], within)[0]:
            raise Late(f"{len(found)} of {count} frames came")
        more, alive = hold.read(fd)
        found += more
        assert alive
    return found


def failure(result: object) -> KernelError:
    """What must have failed."""
    assert isinstance(result, KernelError), result
    return result
