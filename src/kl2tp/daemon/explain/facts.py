"""What is known of one tunnel, call, profile or client, layer by layer, before anybody has drawn conclusions."""

from collections.abc import Mapping
from dataclasses import field

from kl2tp.ipsec.ike import ChildSa, Negotiation, Stranger
from kl2tp.kernel.associations import Association
from kl2tp.kernel.drops import Dropping
from kl2tp.kernel.pathmtu import Probed
from kl2tp.kernel.way import Way
from kl2tp.model.ike import IkeSpec
from kl2tp.model.objects import KernelObject
from kl2tp.model.overhead import Overhead, Stack
from kl2tp.model.value import dataclass

TUNNEL, CALL, PROFILE, CLIENT = "tunnel", "call", "LNS profile", "session"


@dataclass(frozen=True, slots=True)
class Thing:
    """An object that the kernel should have, and whether it does."""

    wanted: KernelObject
    present: bool = True
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Control:
    """An L2TPv2 control connection."""

    state: str
    established: bool
    id: int
    peer_id: int
    """0: not told yet."""
    local: str
    peer: str
    host_name: str = ""
    retransmissions: int = 0
    """In all."""
    unacknowledged: int = 0
    silent_s: float = 0.0
    """For how long nothing was heard."""
    suspended: bool = False
    socket: bool = False
    """Whether it has one of its own."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What was counted until a moment."""

    at: float = 0.0
    sas: tuple[Association, ...] = ()
    errors: Mapping[str, int] = field(default_factory=dict)
    """Of IPsec in this namespace: xfrm_stat."""
    sessions: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Of the kernel's sessions, by the interface."""
    drops: tuple[Dropping, ...] = ()
    """Of all rules of nftables in this namespace."""
    control: Control | None = None


@dataclass(frozen=True, slots=True)
class Ike:
    """What IKE was asked for, and what became of it."""

    spec: IkeSpec
    negotiation: Negotiation | None = None
    """None: nobody asked charon."""
    alive: bool = False
    """Whether charon answers."""
    away: str = ""
    """Why it does not."""
    hangs: bool = False
    """It is there, and does not answer."""
    selectors: str = ""
    """What we want to protect: `[udp/1701] === [udp/1701]`."""
    waits_for_peer: bool = False
    """It is the peer who begins."""
    child: ChildSa | None = None
    """Of one client."""


@dataclass(frozen=True, slots=True)
class Device:
    """A session's interface: what its packets cost, and how it is."""

    name: str
    expected: int = 0
    """MTU that was reckoned or configured, bytes."""
    configured: bool = False
    """Whether the MTU was configured."""
    overhead: Overhead | None = None
    """As reckoned."""
    stack: Stack | None = None
    """As its packets are wrapped now."""
    mtu: int | None = None
    """None: there is no such device."""
    up: bool = False
    addresses: tuple[str, ...] = ()
    wanted_addresses: tuple[str, ...] = ()
    bridge: str = ""
    carrier: bool = True


@dataclass(frozen=True, slots=True)
class Ppp:
    """PPP on a call."""

    phase: str
    state: str
    """Of the session: setup, network, up..."""
    user: str = ""
    local: str = ""
    peer: str = ""
    mru: int | None = None
    peer_mru: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All of it."""

    name: str
    kind: str = TUNNEL
    state: str = "up"
    problem: str = ""
    """In the daemon's words."""
    next_try_s: float | None = None
    daemon: bool = True
    """Whether a daemon looks after it."""
    now: float = 0.0
    where: str = ""
    local: bytes = b""
    remote: bytes = b""
    netns: str = ""
    path_mtu: int = 1500
    protection: str = ""
    """`static keys`, `IKE`, or nothing."""
    way: Way | None = None
    ike: Ike | None = None
    things: tuple[Thing, ...] = ()
    before: Sample = Sample()
    after: Sample = Sample()
    stirred: bool = False
    """Whether we sent something between them."""
    devices: tuple[Device, ...] = ()
    ppp: Ppp | None = None
    probe: Probed | None = None
    strangers: tuple[Stranger, ...] = ()
    """Peers that failed, the latest last."""
    listening: tuple[str, ...] = ()
    """Where a profile listens."""
    deaf: tuple[str, ...] = ()
    """Why it does not listen somewhere."""
    clients: int = 0
    ended: str = ""
    """How a session ended that is no more."""
