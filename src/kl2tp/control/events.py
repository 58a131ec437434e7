"""What an endpoint tells its owner."""

from typing import TYPE_CHECKING, TypeAlias

from kl2tp.model.value import dataclass
from kl2tp.wire.values import Accm, CallErrors, Q931Cause

if TYPE_CHECKING:
    from kl2tp.control.call import Call
    from kl2tp.control.profiles import Peer, Place
    from kl2tp.control.tunnel import Tunnel


@dataclass(frozen=True, slots=True)
class TunnelUp:
    """A control connection is established."""

    tunnel: "Tunnel"


@dataclass(frozen=True, slots=True)
class TunnelDown:
    """A control connection that was established, or that we opened, has ended; its calls have before.

    A StopCCN may still be under way. `result` and `error` are those of the StopCCN, whoever sent it; 0: there was none.
    """

    tunnel: "Tunnel"
    reason: str
    result: int
    error: int


@dataclass(frozen=True, slots=True)
class TunnelMoved:
    """The peer speaks from another address or port: the tunnel's packets go there from now on."""

    tunnel: "Tunnel"


@dataclass(frozen=True, slots=True)
class CallOffered:
    """The peer asks for a call, and nothing speaks against it."""

    call: "Call"


@dataclass(frozen=True, slots=True)
class CallUp:
    """A call is established: PPP may begin."""

    call: "Call"


@dataclass(frozen=True, slots=True)
class CallDown:
    """A call that was offered or placed has ended. `result` and `error` are those of the CDN; 0: there was none."""

    call: "Call"
    reason: str
    result: int
    error: int
    cause: Q931Cause | None = None


@dataclass(frozen=True, slots=True)
class LinkInfo:
    """The LNS tells us, the LAC, what PPP negotiated (SLI, RFC 2661 6.14)."""

    call: "Call"
    accm: Accm


@dataclass(frozen=True, slots=True)
class LineErrors:
    """The LAC tells us, the LNS, of errors on its line (WEN, RFC 2661 6.13)."""

    call: "Call"
    errors: CallErrors


Event: TypeAlias = TunnelUp | TunnelDown | TunnelMoved | CallOffered | CallUp | CallDown | LinkInfo | LineErrors


@dataclass(frozen=True, slots=True)
class Refusal:
    """A peer that asked for a tunnel, or did not prove its right to one, was sent away. However many try, there are few
    of these per second."""

    peer: "Peer"
    local: "Place"
    host_name: str
    reason: str
