"""What the runtime knows of a peer's tunnel and of a session: the machines, and what the kernel holds for them."""

import enum
import time
from typing import TYPE_CHECKING

from kl2tp.calls.network import Grant, unit_name
from kl2tp.calls.timers import NEVER
from kl2tp.control.profiles import Peer as Source
from kl2tp.control.profiles import Place, client_of
from kl2tp.kernel.holds import TunnelWish
from kl2tp.model.calls import LacSpec, LnsSpec

if TYPE_CHECKING:
    import socket

    from kl2tp.access.user import User
    from kl2tp.calls.securing import Bond
    from kl2tp.control.call import Call
    from kl2tp.control.tunnel import Tunnel
    from kl2tp.kernel.pppol2tp import SessionHold, TunnelHold
    from kl2tp.model.plan import Unit
    from kl2tp.ppp.link import Link


class Phase(enum.Enum):
    """How far a session is."""

    SETUP = "setup"
    """LCP and authentication, in user space."""
    ATTACHING = "attaching"
    """The kernel's half is being made."""
    NETWORK = "network"
    """The network protocols are being negotiated."""
    UP = "up"
    CLOSING = "closing"
    """Over; the kernel's half is being taken away."""


class Peer:
    """The runtime's side of one control connection: the socket that the kernel's tunnel has, once there is one."""

    __slots__ = ("bond", "bound", "ends", "hold", "opening", "over", "sessions", "socket", "tunnel", "waiting")

    def __init__(self, tunnel: "Tunnel") -> None:
        self.tunnel = tunnel
        self.sessions: dict[int, Session] = {}
        """By our session id."""
        self.hold: TunnelHold | None = None
        self.opening = False
        self.over = False
        """Whether the control connection has ended."""
        self.socket: socket.socket | None = None
        """The connected one; None while the listener still speaks for the tunnel."""
        self.ends: tuple[Place, Source] | None = None
        """Between which it was connected."""
        self.bond: Bond | None = None
        """With its IPsec SA."""
        self.bound = not client_of(tunnel.peer)
        """Whether the kernel takes the tunnel's packets from its peer's SA alone; always so without IPsec."""
        self.waiting: dict[Session, None] = {}
        """Sessions that want their kernel's half as soon as it is bound."""

    @property
    def suspended(self) -> bool:
        """Whether its IPsec SA is gone, for a while."""
        return self.tunnel.suspended_at is not None

    def wish(self, sock: "socket.socket | None" = None) -> TunnelWish:
        """The kernel's tunnel, as it shall be; `sock` was never one."""
        tunnel = self.tunnel
        address, port, *_ = tunnel.peer
        reqid = client_of(tunnel.peer)
        return TunnelWish(tunnel.id, tunnel.peer_id, tunnel.local, (address, port), reqid=reqid, sock=sock)


class Session:
    """One call with its PPP."""

    __slots__ = (
        *(
            "call",
            "counted",
            "device",
            "grant",
            "hold",
            "identity",
            "link",
            "mtu",
            "name",
            "number",
            "opened",
            "peer",
            "phase",
        ),
        *("profile", "ready_for_network", "reason", "since", "timer_at", "unit", "unit_ready", "up_since", "user"),
    )

    def __init__(self, peer: Peer, call: "Call", profile: LnsSpec | LacSpec, link: "Link") -> None:
        self.peer = peer
        self.call = call
        self.profile = profile
        self.link = link
        self.name = unit_name(call.tunnel.id, call.id)
        self.phase = Phase.SETUP
        self.number = -1
        """Of the device; -1: none yet."""
        self.device = ""
        self.mtu = 0
        self.identity = ""
        self.counted = ""
        """The user whose sessions this one counts among."""
        self.user: User | None = None
        self.grant = Grant()
        self.hold: SessionHold | None = None
        self.unit: Unit | None = None
        self.unit_ready = False
        self.since = time.time()
        self.up_since = 0.0
        self.reason = ""
        """Why it ended."""
        self.timer_at = NEVER
        self.opened = False
        """Whether LCP was begun."""
        self.ready_for_network = False
        """Whether both ends are who they say, and addresses are known as far as they are ours to give."""

    @property
    def short(self) -> str:
        """How people name it: our tunnel id and our session id."""
        return f"{self.call.tunnel.id}.{self.call.id}"

    @property
    def deadline(self) -> float | None:
        """Of its PPP machines. Without IPsec nobody would hear them: then none."""
        return None if self.peer.suspended else self.link.deadline
