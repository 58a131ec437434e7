"""A user: the secret, and what a session of the user gets."""

from kl2tp.model.objects import Secret
from kl2tp.model.spec import RouteSpec
from kl2tp.model.value import dataclass

ANYBODY = "*"
"""As a client or server: whoever it is."""
_ALL = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class AddressRule:
    """A word of the address list of chap-secrets: the first rule that an address falls under decides on it."""

    permit: bool
    base: int
    mask: int
    per_unit: bool = False
    """`/24+`: not the network but one address in it, that of the interface's unit number plus one."""

    def range(self, unit: int) -> tuple[int, int] | None:
        """(base, mask) on the interface with this unit number; None: the number is beyond the network."""
        if not self.per_unit:
            return (self.base, self.mask)
        offset = unit + 1
        return (self.base + offset, _ALL) if offset < self.mask ^ _ALL else None


ANY_ADDRESS = (AddressRule(True, 0, 0),)


@dataclass(frozen=True, slots=True)
class User:
    """One line of a users' file."""

    name: str
    """`ANYBODY`: the line is for everyone without one of his own."""
    secret: Secret
    server: str = ANYBODY
    """Our own name in PPP, if the line is for that alone."""
    rules: tuple[AddressRule, ...] = ANY_ADDRESS
    prefix6: tuple[bytes, int] | None = None
    """A prefix of the user's own: (network, length)."""
    routes: tuple[RouteSpec, ...] = ()
    """Into the session's interface."""
    limit: int = 0
    """Sessions at a time; 0: as the profile says."""

    def fixed(self, unit: int = 0) -> bytes:
        """The IPv4 address of the user's own (packed), on the interface with this unit number; empty: none."""
        for rule in self.rules:
            found = rule.range(unit)
            if rule.permit and found and found[1] == _ALL:
                return found[0].to_bytes(4)
        return b""

    def permits(self, address: bytes, unit: int = 0) -> bool:
        """Whether the user may have this IPv4 address. What no rule speaks of is forbidden."""
        wanted = int.from_bytes(address)
        if len(address) != 4 or address[0] == 127 or address[0] >= 224:
            return False  # loopback, multicast, reserved: nobody's
        for rule in self.rules:
            found = rule.range(unit)
            if found and wanted & found[1] == found[0]:
                return rule.permit
        return False
