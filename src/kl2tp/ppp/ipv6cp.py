"""IPv6CP: the interface identifiers of which both sides make their link-local addresses, RFC 5072 4.

Addresses beyond the link are no affair of PPP: they come by router advertisement. Compression is rejected.
"""

from kl2tp.model.value import dataclass
from kl2tp.ppp.automaton import REJECT, Automaton, Json, Restart, octets
from kl2tp.ppp.lcp import Random
from kl2tp.wire.ppp import Ipv6cpOption, Option, Protocol, encode_option

IDENTIFIER = 8
"""Octets."""
_NONE = bytes(IDENTIFIER)
"""Whoever asks for it asks to be given one."""
_UNIVERSAL = 0x02
"""The u bit: what is chosen by chance is not universally unique (4.1)."""


@dataclass(frozen=True, slots=True)
class Ipv6Settings:
    """What one link's IPv6CP is to bring about."""

    local_iid: bytes = b""
    """Ours; empty: one by chance."""
    peer_iid: bytes = b""
    """For a peer that has none or has ours; one of its own it may keep (4.1). Empty: one by chance."""


class Ipv6cp(Automaton):
    """The IPv6 Control Protocol of one link."""

    PROTOCOL = Protocol.IPV6CP
    NAME = "IPV6CP"
    __slots__ = ("_random", "_suggested", "local", "peer", "settings")

    def __init__(self, timing: Restart, settings: Ipv6Settings, random: Random) -> None:
        super().__init__(timing)
        self.settings = settings
        self._random = random
        self.local = settings.local_iid or self._invent()
        self.peer = b""
        """The peer's identifier; empty: not known."""
        self._suggested = b""
        """What our last Configure-Nak told the peer to take."""

    def _invent(self) -> bytes:
        """An identifier by chance, RFC 5072 4.1: neither zero nor universal."""
        value = self._random(IDENTIFIER)
        return bytes((value[0] & ~_UNIVERSAL,)) + value[1:-1] + bytes((value[-1] or 1,))

    # -- what we ask for -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        super()._begin()
        self._suggested = b""

    def _build(self) -> bytes:
        return encode_option(Ipv6cpOption.INTERFACE_IDENTIFIER, self.local)

    def _nakked(self, kind: int, value: bytes) -> str:
        if kind == Ipv6cpOption.INTERFACE_IDENTIFIER and len(value) == IDENTIFIER and value != _NONE:
            # The suggestion that we made ourselves: both chose alike, or the line is looped.
            self.local = self._invent() if value == self._suggested else value
        return ""

    def _refused(self, kind: int) -> str:
        return "the peer does not negotiate interface identifiers"

    # -- what the peer asks for ------------------------------------------------------------------------------------

    def _forget_peer(self) -> None:
        self.peer = b""

    def _judge(self, kind: int, value: bytes) -> bytes | None:
        if kind != Ipv6cpOption.INTERFACE_IDENTIFIER or len(value) != IDENTIFIER:
            return REJECT
        if value not in (_NONE, self.local):
            self.peer = value
            return None
        return self._suggest()

    def _suggest(self) -> bytes:
        """An identifier that is not ours."""
        wish = self.settings.peer_iid
        self._suggested = wish if wish and wish not in (_NONE, self.local) else self._invent()
        return encode_option(Ipv6cpOption.INTERFACE_IDENTIFIER, self._suggested)

    def _missing(self, options: list[Option]) -> bytes:
        """Without an identifier the peer would have no address: it is told to ask for one (4.1)."""
        if any(kind == Ipv6cpOption.INTERFACE_IDENTIFIER for kind, _ in options):
            return b""
        return self._suggest()

    # -- to go on after a restart ----------------------------------------------------------------------------------

    def save(self) -> dict[str, Json]:
        """What `restore` needs of a machine in Opened."""
        return {**super().save(), "l": self.local.hex(), "p": self.peer.hex()}

    @classmethod
    def restore(cls, timing: Restart, settings: Ipv6Settings, random: Random, state: dict[str, Json]) -> "Ipv6cp":
        """A machine that goes on in Opened."""
        ipv6cp = cls(timing, settings, random)
        ipv6cp._restore(state)
        ipv6cp.local, ipv6cp.peer = octets(state["l"]), octets(state["p"])
        return ipv6cp


def save_settings(settings: Ipv6Settings) -> dict[str, Json]:
    """For a machine that has to negotiate again after a restart."""
    return {"l": settings.local_iid.hex(), "p": settings.peer_iid.hex()}


def restore_settings(state: dict[str, Json]) -> Ipv6Settings:
    """What `save_settings` saved."""
    return Ipv6Settings(octets(state["l"]), octets(state["p"]))
