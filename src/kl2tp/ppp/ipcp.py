"""IPCP: IPv4 addresses and name servers, RFC 1332 and 1877, for the side that gives them and the side that asks.

Compression of headers (Van Jacobson's and others) and the IP-Addresses option, long deprecated, are rejected.
"""

from kl2tp.model.value import dataclass
from kl2tp.ppp.automaton import REJECT, Automaton, Json, Restart, octets
from kl2tp.wire.ppp import IpcpOption, Option, Protocol, encode_option

_NONE = bytes(4)
"""0.0.0.0: whoever asks for it asks to be given one."""
_LOOPBACK, _MULTICAST = 127, 224
"""First octets of addresses that are no host's on a link; what is above multicast is reserved."""
_DNS = (IpcpOption.DNS1, IpcpOption.DNS2)
_NBNS = (IpcpOption.NBNS1, IpcpOption.NBNS2)
_ADDRESS, _DNS1, _DNS2 = 1, 2, 4
"""Options that we ask for, as bits."""


@dataclass(frozen=True, slots=True)
class Ipv4Settings:
    """What one link's IPCP is to bring about. Addresses are packed."""

    local: bytes = b""
    """Our address; empty: the peer gives us one."""
    peer: bytes = b""
    """The peer's; empty: it tells us."""
    dns: tuple[bytes, ...] = ()
    """Name servers for the peer; two at most."""
    nbns: tuple[bytes, ...] = ()
    request_dns: bool = False
    """Whether to ask the peer for name servers."""
    accept_local: bool = False
    """Whether the peer may give us another address than `local`..."""
    accept_peer: bool = False
    """...and take another than `peer`."""


class Ipcp(Automaton):
    """The IP Control Protocol of one link."""

    PROTOCOL = Protocol.IPCP
    NAME = "IPCP"
    __slots__ = ("_asked", "_dns1", "_dns2", "local", "peer", "settings")

    def __init__(self, timing: Restart, settings: Ipv4Settings) -> None:
        super().__init__(timing)
        self.settings = settings
        self._asked = 0
        self.local = settings.local
        """Ours; empty: not known."""
        self.peer = settings.peer
        self._dns1 = self._dns2 = b""

    @property
    def dns(self) -> tuple[bytes, ...]:
        """Name servers that the peer told us, each once."""
        told = (self._dns1, self._dns2)
        return tuple(dict.fromkeys(address for address in told if address and address != _NONE))

    # -- what we ask for -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        super()._begin()
        self.local = self.settings.local
        self._dns1 = self._dns2 = b""
        self._asked = _ADDRESS | _DNS1 | _DNS2 if self.settings.request_dns else _ADDRESS

    def _build(self) -> bytes:
        options = b""
        if self._asked & _ADDRESS:
            options += encode_option(IpcpOption.ADDRESS, self.local or _NONE)
        if self._asked & _DNS1:
            options += encode_option(IpcpOption.DNS1, self._dns1 or _NONE)
        if self._asked & _DNS2:
            options += encode_option(IpcpOption.DNS2, self._dns2 or _NONE)
        return options

    def _nakked(self, kind: int, value: bytes) -> str:
        if len(value) != 4 or value == _NONE:
            return ""
        if kind == IpcpOption.ADDRESS and self._asked & _ADDRESS:
            if (not self.settings.local or self.settings.accept_local) and _is_unicast(value):
                self.local = value
        elif kind == IpcpOption.DNS1 and self._asked & _DNS1:
            self._dns1 = value
        elif kind == IpcpOption.DNS2 and self._asked & _DNS2:
            self._dns2 = value
        return ""

    def _refused(self, kind: int) -> str:
        if kind == IpcpOption.ADDRESS:
            self._asked &= ~_ADDRESS
            return self._objection()
        if kind == IpcpOption.DNS1:
            self._asked &= ~_DNS1
        elif kind == IpcpOption.DNS2:
            self._asked &= ~_DNS2
        return ""

    def _objection(self) -> str:
        return "" if self.local else "the peer gives us no IPv4 address"

    # -- what the peer asks for ------------------------------------------------------------------------------------

    def _forget_peer(self) -> None:
        self.peer = self.settings.peer

    def _judge(self, kind: int, value: bytes) -> bytes | None:
        if len(value) != 4:
            return REJECT
        if kind == IpcpOption.ADDRESS:
            return self._judge_address(value)
        if kind in _DNS:
            return _judge_server(kind, value, self.settings.dns, _DNS.index(kind))
        if kind in _NBNS:
            return _judge_server(kind, value, self.settings.nbns, _NBNS.index(kind))
        return REJECT

    def _judge_address(self, value: bytes) -> bytes | None:
        wanted = self.settings.peer
        if value == wanted:
            return None
        if value == _NONE:
            return encode_option(IpcpOption.ADDRESS, wanted) if wanted else REJECT
        if (not wanted or self.settings.accept_peer) and _is_unicast(value):
            self.peer = value
            return None
        return encode_option(IpcpOption.ADDRESS, wanted) if wanted else REJECT

    def _missing(self, options: list[Option]) -> bytes:
        """A peer that we have an address for shall know it."""
        if self.settings.peer and not any(kind == IpcpOption.ADDRESS for kind, _ in options):
            return encode_option(IpcpOption.ADDRESS, self.settings.peer)
        return b""

    # -- to go on after a restart ----------------------------------------------------------------------------------

    def save(self) -> dict[str, Json]:
        """What `restore` needs of a machine in Opened."""
        dns: list[Json] = [address.hex() for address in (self._dns1, self._dns2)]
        return {**super().save(), "l": self.local.hex(), "p": self.peer.hex(), "d": dns}

    @classmethod
    def restore(cls, timing: Restart, settings: Ipv4Settings, state: dict[str, Json]) -> "Ipcp":
        """A machine that goes on in Opened."""
        ipcp = cls(timing, settings)
        ipcp._restore(state)
        ipcp.local, ipcp.peer = octets(state["l"]), octets(state["p"])
        dns = state["d"]
        if isinstance(dns, list) and len(dns) == 2:
            ipcp._dns1, ipcp._dns2 = octets(dns[0]), octets(dns[1])
        return ipcp


def _is_unicast(address: bytes) -> bool:
    """Whether a host may have this address at all."""
    return 0 < address[0] < _MULTICAST and address[0] != _LOOPBACK


def _judge_server(kind: int, value: bytes, servers: tuple[bytes, ...], index: int) -> bytes | None:
    """A name server that the peer asks for; it shall use ours, if there are any (RFC 1877 1)."""
    if index >= len(servers):
        return REJECT
    return None if value == servers[index] else encode_option(kind, servers[index])


def save_settings(settings: Ipv4Settings) -> dict[str, Json]:
    """For a machine that has to negotiate again after a restart."""
    return {
        "l": settings.local.hex(),
        "p": settings.peer.hex(),
        "d": [address.hex() for address in settings.dns],
        "n": [address.hex() for address in settings.nbns],
        "f": settings.request_dns | settings.accept_local << 1 | settings.accept_peer << 2,
    }


def restore_settings(state: dict[str, Json]) -> Ipv4Settings:
    """What `save_settings` saved."""
    dns, nbns, flags = state["d"], state["n"], state["f"]
    if not isinstance(dns, list) or not isinstance(nbns, list) or not isinstance(flags, int):
        raise TypeError("these are no settings of IPCP")
    return Ipv4Settings(
        octets(state["l"]),
        octets(state["p"]),
        tuple(octets(address) for address in dns),
        tuple(octets(address) for address in nbns),
        bool(flags & 1),
        bool(flags & 2),
        bool(flags & 4),
    )
