"""The operator's wishes: one frozen, compact value per tunnel, as the configuration yields it.

A spec is what the daemon keeps for each tunnel; the kernel objects of one tunnel are compiled from it when they are
needed (`kl2tp.reconcile.compile`), so ten thousand tunnels cost a few megabytes. Specs hold no secret: keys are named
by file.
Addresses are packed bytes (`kl2tp.model.addr`).
"""

import enum
from dataclasses import field
from typing import TYPE_CHECKING

from kl2tp.model.value import dataclass

if TYPE_CHECKING:
    from kl2tp.model.ike import IkeSpec  # which needs this module itself


class Encap(enum.IntEnum):
    """Outer encapsulation, with the kernel's numbers (L2TP_ENCAPTYPE_*)."""

    UDP = 0
    IP = 1


class L2Spec(enum.IntEnum):
    """L2-specific sublayer, RFC 3931 3.2.2, with the kernel's numbers."""

    NONE = 0
    DEFAULT = 1


class Mode(enum.IntEnum):
    """IPsec mode, RFC 4301 3.2, with the kernel's numbers."""

    TRANSPORT = 0
    TUNNEL = 1


@dataclass(frozen=True, slots=True)
class Where:
    """A place in the configuration, for messages."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A route: into a session's interface, or to a tunnel's peer."""

    destination: bytes
    prefix_length: int
    via: bytes = b""
    """Gateway; empty for a route straight into the interface."""
    metric: int = 0
    table: int = 254
    """Routing table; 254 is `main`. Routes of an interface in a VRF go to the VRF's table unless given."""


@dataclass(frozen=True, slots=True)
class InterfaceSpec:
    """The network device of a session."""

    name: str
    mtu: int | None = None
    """Bytes; None: computed from the path MTU and the layers."""
    addresses: tuple[tuple[bytes, int], ...] = ()
    """(address, prefix length)."""
    routes: tuple[RouteSpec, ...] = ()
    bridge: str = ""
    vrf: str = ""
    netns: str | None = None
    """Namespace the device is moved to; None: the tunnel's own. "" is the daemon's."""
    mss: int | None = 0
    """TCP MSS clamp in bytes: 0 computes it from the MTU, None clamps nothing."""
    mac: bytes = b""
    up: bool = True


@dataclass(frozen=True, slots=True)
class CookieSpec:
    """Cookies of a session, RFC 3931 4.1: we expect `local` and send `peer`; None: derived from the key file."""

    length: int
    """0, 4 or 8 bytes."""
    local: bytes | None = None
    peer: bytes | None = None


NO_COOKIE = CookieSpec(0, b"", b"")


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """One Ethernet pseudowire."""

    name: str
    id: int
    peer_id: int
    interface: InterfaceSpec
    cookie: CookieSpec = NO_COOKIE
    l2spec: L2Spec = L2Spec.DEFAULT
    send_sequence: bool = False
    require_sequence: bool = False
    reorder_ms: int = 0
    """How long an out-of-order packet waits for its predecessor, milliseconds."""


@dataclass(frozen=True, slots=True)
class IpsecSpec:
    """Protection of a tunnel by SAs with static keys."""

    cipher: str
    """A key of `kl2tp.model.ciphers.CIPHERS`."""
    key_file: str
    """Absolute path; `credential:NAME` names a systemd credential."""
    mode: Mode = Mode.TRANSPORT
    reqid: int = 0
    """Unique per tunnel; the configuration fills it in."""
    esn: bool = False
    replay_window: int = 0
    """Packets. 0, no check, is right for static keys: a peer that restarts begins at 1 again (RFC 4303 3.3.3)."""
    nat_local_port: int = 0
    """ESP in UDP (RFC 3948): our port, 0 for plain ESP."""
    nat_remote_port: int = 0
    mark: tuple[int, int] | None = None
    """(value, mask) of the packets the policies and SAs apply to."""
    offload_device: str = ""
    offload_packet: bool = False
    """Full packet offload rather than crypto offload."""
    side: str = ""
    """`left` or `right`: which half of the derived keys sends; empty: decided by comparing the endpoints."""
    overlap: int = 10
    """Seconds for which old and new keys are both accepted when a key file changes, before sending switches."""


@dataclass(frozen=True, slots=True)
class TunnelSpec:
    """One L2TPv3 tunnel with its sessions and its protection."""

    name: str
    local: bytes
    remote: bytes
    id: int
    peer_id: int
    encap: Encap = Encap.IP
    local_port: int = 0
    remote_port: int = 0
    """Both 0 for encapsulation ip."""
    checksum: bool = True
    """UDP checksums (both directions for IPv6)."""
    netns: str = ""
    """Named network namespace of the outer traffic; "" is the daemon's."""
    path_mtu: int = 1500
    """MTU of the path to the peer, bytes: what the interface MTUs are computed from."""
    route: RouteSpec | None = None
    """A host route that the tunnel needs (its destination is `remote`)."""
    route_device: str = ""
    ipsec: IpsecSpec | None = None
    """Protection with static keys."""
    secret_file: str = ""
    """Key file from which cookies are derived when there is no IPsec with static keys."""
    sessions: tuple[SessionSpec, ...] = ()
    ike: "IkeSpec | None" = None
    """Protection with keys that IKE negotiates; `ipsec` is None then."""
    where: Where = field(default=Where("", 0, 0), compare=False)
