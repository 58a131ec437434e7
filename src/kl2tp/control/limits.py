"""What the peers of one profile use, and how much they may."""

from typing import TYPE_CHECKING

from kl2tp.model.calls import LimitsSpec
from kl2tp.wire.messages import Cdn, GeneralError, StopCcn
from kl2tp.wire.values import ResultCode

if TYPE_CHECKING:
    from kl2tp.control.tunnel import Tunnel

_MANY_TUNNELS = ResultCode(StopCcn.GENERAL_ERROR, GeneralError.TRY_ANOTHER, "too many tunnels")
_MANY_OF_PEER = ResultCode(StopCcn.GENERAL_ERROR, GeneralError.NO_RESOURCES, "too many tunnels of this peer")
_MANY_CALLS = ResultCode(Cdn.GENERAL_ERROR, GeneralError.TRY_ANOTHER, "too many sessions")
_MANY_OF_TUNNEL = ResultCode(Cdn.GENERAL_ERROR, GeneralError.NO_RESOURCES, "too many sessions in this tunnel")
_TOO_FAST = ResultCode(Cdn.GENERAL_ERROR, GeneralError.NO_RESOURCES, "too many new sessions at once")


class TokenBucket:
    """So many per second, and as many at once after a quiet second."""

    __slots__ = ("_at", "_tokens")

    def __init__(self) -> None:
        self._at: float | None = None
        self._tokens = 0.0

    def take(self, rate: float, now: float) -> bool:
        """Whether there is one more now. A rate below 1 still lets one through at once."""
        most = max(rate, 1.0)
        tokens = most if self._at is None else min(self._tokens + (now - self._at) * rate, most)
        self._at = now
        allowed = tokens >= 1.0
        self._tokens = tokens - 1.0 if allowed else tokens
        return allowed


class Usage:
    """Tunnels and calls of one profile: numbers, and the tunnels that have proved nothing yet."""

    __slots__ = ("_calls", "half_open", "sessions", "tunnels", "tunnels_of")

    def __init__(self) -> None:
        self.tunnels = 0
        """Whose peers have shown that their address is theirs."""
        self.sessions = 0
        """Calls that peers asked for."""
        self.tunnels_of: dict[bytes, int] = {}
        """By the peer's address."""
        self.half_open: dict[int, Tunnel] = {}
        """By our id, the oldest first."""
        self._calls = TokenBucket()

    def tunnel_refusal(self, limits: LimitsSpec, address: bytes) -> ResultCode | None:
        """Why there cannot be one more tunnel with this peer."""
        if self.tunnels >= limits.tunnels:
            return _MANY_TUNNELS
        if self.tunnels_of.get(address, 0) >= limits.tunnels_per_peer:
            return _MANY_OF_PEER
        return None

    def call_refusal(self, limits: LimitsSpec, in_tunnel: int, now: float) -> ResultCode | None:
        """Why there cannot be one more call in a tunnel that has so many; if there can, it counts as begun."""
        if self.sessions >= limits.sessions:
            return _MANY_CALLS
        if in_tunnel >= limits.sessions_per_tunnel:
            return _MANY_OF_TUNNEL
        if limits.setup_rate and not self._calls.take(limits.setup_rate, now):
            return _TOO_FAST
        return None

    def add_tunnel(self, address: bytes) -> None:
        """One more."""
        self.tunnels += 1
        self.tunnels_of[address] = self.tunnels_of.get(address, 0) + 1

    def remove_tunnel(self, address: bytes) -> None:
        """One less."""
        self.tunnels -= 1
        left = self.tunnels_of[address] - 1
        if left:
            self.tunnels_of[address] = left
        else:
            del self.tunnels_of[address]
