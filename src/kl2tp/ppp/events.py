"""What a link has to tell."""

from typing import TypeAlias

from kl2tp.model.value import dataclass
from kl2tp.ppp.auth.protocol import Attempt


@dataclass(frozen=True, slots=True)
class LcpUp:
    """LCP has agreed; authentication comes next."""


@dataclass(frozen=True, slots=True)
class AuthNeeded:
    """The peer wants to be let in: look at the attempt, then `grant` or `refuse` it, at leisure."""

    attempt: Attempt


@dataclass(frozen=True, slots=True)
class NetworkPhase:
    """Both sides are content with each other: the link waits for `start_network`. Comes again, after the `Down` events
    of what was up, whenever the peer has negotiated LCP anew."""

    identity: str | None
    """Who the peer has proved to be; None: it had to prove nothing."""


@dataclass(frozen=True, slots=True)
class Ipv4Up:
    """IPv4 may flow."""

    local: bytes
    peer: bytes
    """Empty: the peer did not say."""
    dns: tuple[bytes, ...]
    """Name servers that the peer told us."""


@dataclass(frozen=True, slots=True)
class Ipv4Down:
    """IPv4 may no longer flow, or could not be agreed upon."""

    reason: str


@dataclass(frozen=True, slots=True)
class Ipv6Up:
    """IPv6 may flow, from and to link-local addresses with these interface identifiers."""

    local_iid: bytes
    peer_iid: bytes
    """Empty: the peer did not say."""


@dataclass(frozen=True, slots=True)
class Ipv6Down:
    """IPv6 may no longer flow, or could not be agreed upon."""

    reason: str


@dataclass(frozen=True, slots=True)
class Down:
    """The link is over; nothing more will come of it."""

    reason: str


Event: TypeAlias = LcpUp | AuthNeeded | NetworkPhase | Ipv4Up | Ipv4Down | Ipv6Up | Ipv6Down | Down
