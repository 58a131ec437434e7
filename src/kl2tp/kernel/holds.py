"""What tunnels and PPP sessions shall be, and the descriptors that hold them once they are.

A tunnel is a connected UDP socket. A session is three descriptors: its own socket, with which it lives and dies; its
channel, where LCP and authentication are read and written; and its unit, with which its network device lives and dies.
"""

import enum
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import field
from typing import NamedTuple

from kl2tp.kernel import ppp
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.udp import Peer, Stray
from kl2tp.model.value import dataclass

CLOSED = -1
DEFAULT_MRU = 1500


@dataclass(frozen=True, slots=True)
class TunnelWish:
    """A tunnel as it shall be."""

    id: int
    peer_id: int
    local: Peer
    """An empty address: what the route gives; port 0: one of the kernel's choice."""
    remote: Peer
    mark: int = 0
    """Of its packets; it needs CAP_NET_ADMIN."""
    reqid: int = 0
    """The IPsec SAs that alone protect it, by a policy of its socket's; 0: what the policies of the host say."""
    sock: socket.socket | None = field(default=None, compare=False)
    """A connected socket that was never a tunnel; None: it is opened."""


@dataclass(frozen=True, slots=True)
class SessionWish:
    """A session as it shall be."""

    tunnel_id: int
    id: int
    peer_tunnel_id: int
    peer_id: int
    ifname: str
    mtu: int
    mru: int = DEFAULT_MRU
    """Bytes. The kernel takes longer packets too."""
    lns: bool = False
    """Whether we decide about sequence numbers, RFC 2661 5.4."""
    send_sequence: bool = False
    require_sequence: bool = False
    reorder_ms: int = 0
    netns: str | None = None
    """Namespace of its device, which is born there; None: the tunnel's."""
    up: bool = False
    """Whether the device is switched on; otherwise somebody else does it, with the rest of its settings."""
    ipv4: bool = True
    ipv6: bool = True
    """What passes; see `Plane.set_network`."""


class TunnelHold:
    """What holds a tunnel."""

    __slots__ = ("id", "sock", "strays")

    def __init__(self, number: int, sock: socket.socket, strays: list[Stray]) -> None:
        self.id = number
        self.sock = sock
        self.strays = strays
        """What came before the socket was connected, from whomever, and before it was a tunnel."""

    def names(self) -> list[str]:
        """What the descriptors are called while somebody else keeps them."""
        return [f"tunnel/{self.id}"]

    def fds(self) -> list[int]:
        """In the order of their names."""
        return [self.sock.fileno()]


class SessionHold:
    """What holds a session. A descriptor that is not there is -1."""

    __slots__ = ("channel_fd", "id", "ifindex", "netns", "px_fd", "tunnel_id", "unit", "unit_fd")

    def __init__(self, tunnel_id: int, number: int, namespace: str, px_fd: int = -1, unit_fd: int = -1) -> None:
        self.tunnel_id = tunnel_id
        self.id = number
        self.px_fd = px_fd
        """The session's own socket."""
        self.channel_fd = CLOSED
        self.unit_fd = unit_fd
        self.unit = -1
        """Number of the unit."""
        self.netns = namespace
        """Where the device is."""
        self.ifindex = 0

    def names(self) -> list[str]:
        """What the descriptors are called while somebody else keeps them."""
        return [f"session/{self.tunnel_id}/{self.id}", f"unit/{self.tunnel_id}/{self.id}"]

    def fds(self) -> list[int]:
        """In the order of their names. The channel's is not among them: it can be opened again."""
        return [self.px_fd, self.unit_fd]

    def read(self, fd: int, limit: int = ppp.FRAMES) -> tuple[list[bytes], bool]:
        """Frames from the channel's or the unit's descriptor, and whether there can be more, ever."""
        return ppp.read_frames(fd, limit)

    def write(self, frame: bytes) -> bool:
        """Send a frame of any protocol."""
        return ppp.write_frame(self.channel_fd, frame)


class Loss(enum.Flag):
    """What somebody else took away from under a session."""

    NOTHING = 0
    SESSION = enum.auto()
    """Itself, or its tunnel."""
    DEVICE = enum.auto()
    """Its network device is gone, or elsewhere, or called otherwise."""


class Broken(NamedTuple):
    """What cannot be taken over, and why: `Plane.detach` closes what is left of it."""

    hold: SessionHold
    error: KernelError


class Kept(NamedTuple):
    """Descriptors that somebody kept, sorted."""

    tunnels: dict[int, int]
    sessions: dict[tuple[int, int], tuple[int, int]]
    """(socket, unit) by tunnel and session."""
    rest: dict[str, int]
    """By name: parts of sessions of which the others are missing, and what is not ours."""


def sort_kept(descriptors: Mapping[str, int]) -> Kept:
    """What descriptors with such names as holds give them belong to."""
    kept = Kept({}, {}, dict(descriptors))
    for name, fd in descriptors.items():
        kind, _, ids = name.partition("/")
        other = descriptors.get(f"unit/{ids}")
        with suppress(ValueError):
            if kind == "tunnel":
                kept.tunnels[int(ids)] = fd
                del kept.rest[name]
            elif kind == "session" and other is not None:
                tunnel, _, session = ids.partition("/")
                kept.sessions[int(tunnel), int(session)] = fd, other
                del kept.rest[name], kept.rest[f"unit/{ids}"]
    return kept
