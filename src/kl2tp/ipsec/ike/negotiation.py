"""What has become of the connections in charon: IKE SAs, the IPsec SAs below them, and what is in the way.

Times are seconds since 1970, so that they are dates to people and outlive a restart.
"""

import enum
from dataclasses import field

from kl2tp.model.value import dataclass


class State(enum.Enum):
    """Of a connection."""

    NO_CHARON = "no charon"
    """strongSwan does not answer. What it negotiated before lives on in the kernel."""
    CONNECTING = "connecting"
    """An IKE SA is being negotiated, or its IPsec SA."""
    UP = "up"
    """There is at least one IPsec SA."""
    DOWN = "down"
    """There is nothing, and nothing under way."""


class CauseKind(enum.Enum):
    """Why a negotiation fails."""

    NO_PROPOSAL = "no proposal chosen"
    AUTHENTICATION_FAILED = "authentication failed"
    NO_SECRET = "no pre-shared key for this peer"
    CERTIFICATE = "certificate not accepted"
    NO_ANSWER = "no answer from the peer"
    TS_UNACCEPTABLE = "traffic selectors not acceptable"
    NO_CONFIG = "no connection fits the peer"
    IDENTITY = "the peer is somebody else"
    MODE = "the peer wants another mode"
    VERSION = "the peer speaks another version of IKE"
    UNSUPPORTED = "not supported"
    CLOSED = "closed by the peer"
    KERNEL = "the kernel refuses the SA"
    CONFIGURATION = "the connection cannot be loaded"
    CHARON = "strongSwan does not answer"
    OTHER = "failed"


@dataclass(frozen=True, slots=True)
class Cause:
    """One failure, as told by charon; never with a secret in it."""

    kind: CauseKind
    text: str
    """What happened, in a sentence."""
    cure: str = ""
    """What the operator can do."""
    details: tuple[tuple[str, str], ...] = ()
    """(name, value): `ours`, `theirs`, `identity`, `method`, `peer`..."""
    when: float = 0.0
    by_peer: bool = False
    """Whether the peer refused, rather than we."""

    def detail(self, name: str) -> str:
        """A detail's value; "" where there is none."""
        return dict(self.details).get(name, "")


@dataclass(frozen=True, slots=True)
class Stranger:
    """A peer that failed before any of our connections was found for it, and how often."""

    address: str
    cause: Cause
    times: int = 1


@dataclass(frozen=True, slots=True)
class IkeSa:
    """An IKE SA of one of our connections."""

    name: str
    unique_id: int
    version: int
    state: str
    """charon's word: CONNECTING, ESTABLISHED, REKEYING, DELETING..."""
    initiator: bool
    """Whether we began it."""
    spis: tuple[str, str]
    """Of initiator and responder, hexadecimal."""
    local: bytes
    remote: bytes
    local_port: int
    remote_port: int
    local_id: str
    remote_id: str
    nat_local: bool
    nat_remote: bool
    algorithms: str
    """`AES_GCM_16-256/PRF_HMAC_SHA2_384/CURVE_25519`."""
    since: float
    """When it was established; 0: it is not."""
    rekey_at: float | None
    reauth_at: float | None
    busy: bool = False
    """Whether an IPsec SA is being negotiated below it."""

    @property
    def established(self) -> bool:
        """Whether the peer has proved who it is."""
        return bool(self.since)


@dataclass(frozen=True, slots=True)
class Counters:
    """Of a pair of IPsec SAs, when last looked at."""

    bytes_in: int = 0
    packets_in: int = 0
    bytes_out: int = 0
    packets_out: int = 0


@dataclass(frozen=True, slots=True)
class ChildSa:
    """A pair of IPsec SAs, in and out. Two of them with the same SPIs are the same pair."""

    name: str
    """The connection's."""
    unique_id: int
    """Within charon's life."""
    ike_id: int
    """`unique_id` of its IKE SA."""
    reqid: int
    spi_in: int
    spi_out: int
    local: bytes
    remote: bytes
    """Where ESP comes from: the public address of a peer behind NAT."""
    local_port: int
    """500, or 4500 with ESP in UDP."""
    remote_port: int
    local_id: str
    remote_id: str
    encap: bool
    """ESP in UDP, RFC 3948."""
    transport: bool
    """Transport mode; otherwise tunnel mode."""
    encryption: str
    """`AES_GCM_16-256`."""
    integrity: str
    """`HMAC_SHA2_256_128`; "" with an AEAD."""
    group: str
    """Of perfect forward secrecy; "" without."""
    local_ts: tuple[str, ...]
    remote_ts: tuple[str, ...]
    since: float
    rekey_at: float | None
    expires_at: float | None
    """When the kernel takes the SAs away unless they are re-keyed."""
    counters: Counters = field(default=Counters(), compare=False)
    rekeyed: int = 0
    """How often its keys were made anew since we look."""
    follows: int = 0
    """For a client of an LNS that has authenticated anew: the reqid that it had before; 0 for a new client."""
    orphaned: bool = False
    """The charon of today does not know it; the kernel may still have it."""


@dataclass(frozen=True, slots=True)
class Negotiation:
    """All that is known about one connection."""

    state: State
    since: float
    """When the state became so."""
    ike: tuple[IkeSa, ...] = ()
    """The newest first."""
    children: tuple[ChildSa, ...] = ()
    """IPsec SAs that are good for traffic; the newest first. While charon is away, those of before."""
    problem: Cause | None = None
    """What was last in the way. Kept while it is down, forgotten when it is up."""
    next_try: float | None = None
    tries: int = 0
    """Failed ones since it was last up."""
    rekeys: tuple[float, ...] = ()
    """When IPsec SAs were re-keyed, the latest last; a few dozen at most."""
    loaded: bool = False
    """Whether charon has the connection as it is wanted."""

    @property
    def up(self) -> bool:
        """Whether there is an IPsec SA."""
        return bool(self.children)
