"""A whole configuration, as the reader yields it."""

from kl2tp.model.calls import LacSpec, LnsSpec, PoolSpec, UsersSpec
from kl2tp.model.spec import TunnelSpec
from kl2tp.model.value import dataclass


@dataclass(frozen=True, slots=True)
class DaemonSpec:
    """Settings of the daemon itself."""

    resync_interval: float = 300.0
    """Seconds between full comparisons with the kernel."""
    log_level: str = "info"
    keep_calls: bool = False
    """Whether calls outlive a regular stop of the daemon, as they do a crash: the keeper holds them."""
    charon: str = "unix:///run/charon.vici"
    """Where strongSwan's charon is spoken to: its vici socket, `unix://` and an absolute path."""
    marks: tuple[int, int] = (0x6B000000, 0x0000FFFF)
    """(base, mask) of the packet marks of an LNS's clients in IPsec: base | (number & mask), and no others."""


@dataclass(frozen=True, slots=True)
class Desired:
    """A whole valid configuration."""

    tunnels: tuple[TunnelSpec, ...] = ()
    daemon: DaemonSpec = DaemonSpec()
    lns: tuple[LnsSpec, ...] = ()
    lac: tuple[LacSpec, ...] = ()
    pools: tuple[PoolSpec, ...] = ()
    users: UsersSpec = UsersSpec()

    @property
    def calls(self) -> tuple[LnsSpec | LacSpec, ...]:
        """Profiles of calls of both kinds."""
        return (*self.lns, *self.lac)
