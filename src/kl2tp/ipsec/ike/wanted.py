"""What charon is to have for us: one value per connection, compiled from a tunnel, an LNS or an LAC."""

from kl2tp.model.ike import IkeSpec
from kl2tp.model.value import dataclass

PREFIX = "kl2tp:"
"""How the names of our connections and secrets in charon begin. What is not named so is somebody else's."""
CHILD = "l2tp"
"""How the child of each of our connections is called."""
UDP, L2TP = 17, 115
"""Protocol numbers: L2TP in UDP, and L2TPv3 directly in IP (RFC 3931 4.1.1)."""


def name_of(kind: str, name: str) -> str:
    """The connection's name: `kl2tp:NAME` of a declared tunnel (kind ""), `kl2tp:lns:NAME`, `kl2tp:lac:NAME`."""
    return f"{PREFIX}{kind}:{name}" if kind else f"{PREFIX}{name}"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What a child protects: exactly this, whatever the addresses."""

    protocol: int = UDP
    local_port: int = 1701
    """0: any; of no matter for L2TP in IP."""
    remote_port: int = 1701
    """0: any."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A connection that charon is to have, and what is to become of it."""

    name: str
    """Unique; begins with `kl2tp:`."""
    spec: IkeSpec
    local: bytes = b""
    """Our address; b"": any."""
    remotes: tuple[tuple[bytes, int], ...] = ()
    """(address, prefix length) of where the peer may be; (): anywhere."""
    traffic: Traffic = Traffic()
    initiates: bool = False
    """Whether we begin where nothing is up; `Initiate.AUTO` is True here."""
    first: bool = True
    """Whether we begin at once, and not only when the peer has had its time to: for AUTO the end with the lower
    address."""
    many: bool = False
    """Whether this is an LNS: many peers at once, each with a reqid of its own."""

    @property
    def remote(self) -> bytes:
        """The one address where the peer must be; b"" where there is none."""
        if len(self.remotes) != 1 or self.remotes[0][1] != len(self.remotes[0][0]) * 8:
            return b""
        return self.remotes[0][0]
