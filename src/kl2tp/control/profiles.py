"""Which profile a peer that calls us gets."""

import re
from collections.abc import Iterable, Sequence
from fnmatch import translate
from typing import Any, NamedTuple, TypeAlias

from kl2tp.model.calls import LnsSpec

Place: TypeAlias = tuple[bytes, int]
"""Packed address (4 or 16 octets) and port, of either end."""
Peer: TypeAlias = tuple[bytes, int] | tuple[bytes, int, int]
"""The same of the other end; behind IPsec with the number of the client whose SA it speaks through: so clients behind
one NAT, all from one address and port, are different peers."""
_PORT = 1701
_WILDCARDS = re.compile(r"[*?]")
_LITERAL = 1 << 16
"""A name without wildcards says more than the longest pattern."""
_MOST_PLACES = 1024
"""Local addresses whose profiles are remembered: as many as we have, but who listens everywhere may have any."""


def client_of(peer: Peer) -> int:
    """Through whose SA a peer speaks; 0: none's."""
    return peer[2] if len(peer) == 3 else 0


def saved_peer(peer: Peer) -> list[str | int]:
    """A peer, in JSON's types."""
    return [peer[0].hex(), *peer[1:]]


def restored_peer(saved: Sequence[Any]) -> Peer:
    """What `saved_peer` gave. Raises ValueError, TypeError, LookupError."""
    address, port, client = bytes.fromhex(saved[0]), int(saved[1]), int(saved[2]) if len(saved) > 2 else 0
    return (address, port, client) if client else (address, port)


class _Rule(NamedTuple):
    """One profile for peers of one prefix."""

    spec: LnsSpec
    exact: bool
    """Whether it names our address, instead of any."""
    length: int
    """Octets of the address: 4 or 16; 0: both."""
    shift: int
    network: int
    names: tuple[tuple[int, re.Pattern[str]], ...]
    """(how much it says, pattern), the most specific first; empty: any name."""

    def takes(self, address: bytes, number: int) -> bool:
        """Whether the peer's address, also given as a number, is in the prefix."""
        return not self.length or (len(address) == self.length and number >> self.shift == self.network)


class Profiles:
    """The profiles of an LNS. The most specific one wins: first by the address it listens on, then by the prefix of the
    peer's address, then by the peer's host name; among equals the one that stands first."""

    def __init__(self, specs: Iterable[LnsSpec]) -> None:
        self.specs = tuple(specs)
        self._by_name = {spec.name: spec for spec in self.specs}
        self._by_place: dict[Place, list[_Rule]] = {}

    def named(self, name: str) -> LnsSpec | None:
        """The profile of that name."""
        return self._by_name.get(name)

    def choose(self, local: Place, peer: Peer, host_name: str) -> LnsSpec | None:
        """The profile for a peer that called us at `local`; None: nobody may."""
        address = peer[0]
        number = int.from_bytes(address, "big")
        chosen: LnsSpec | None = None
        best = (False, -1, -1)
        for rule in self._at(local):
            if not rule.takes(address, number):
                continue
            said = _match(rule, host_name)
            rank = (rule.exact, rule.length * 8 - rule.shift, said)
            if said >= 0 and rank > best:
                chosen, best = rule.spec, rank
        return chosen

    def _at(self, local: Place) -> list[_Rule]:
        """The rules for one of our addresses."""
        rules = self._by_place.get(local)
        if rules is None:
            if len(self._by_place) >= _MOST_PLACES:
                self._by_place.clear()
            rules = self._by_place[local] = [
                rule for spec in self.specs for rule in _rules(spec, local)
            ]
        return rules


def _rules(spec: LnsSpec, local: Place) -> list[_Rule]:
    """A rule for each prefix of a profile, if it listens there."""
    address, port = local
    listen = [there for there, number in spec.listen if number == port] if spec.listen else [b""] * (port == _PORT)
    if address not in listen and all(any(there) for there in listen):
        return []
    exact = address in listen
    names = tuple(sorted(((_says(name), _pattern(name)) for name in spec.host_names), key=_first))
    prefixes = [(len(net), 8 * len(net) - plen, int.from_bytes(net, "big")) for net, plen in spec.peers]
    return [_Rule(spec, exact, size, shift, net >> shift, names) for size, shift, net in prefixes or [(0, 0, 0)]]


def _pattern(name: str) -> re.Pattern[str]:
    """Of host names, which are the same in capitals; only * and ? are special."""
    return re.compile(translate(name.lower().replace("[", "[[]")))


def _says(pattern: str) -> int:
    """How much a pattern of host names says: the more letters the more."""
    letters = len(_WILDCARDS.sub("", pattern))
    return letters if _WILDCARDS.search(pattern) else letters + _LITERAL


def _first(name: tuple[int, re.Pattern[str]]) -> int:
    return -name[0]


def _match(rule: _Rule, host_name: str) -> int:
    """How much the pattern that fits says, at least 1; 0: any name will do; -1: none fits."""
    if not rule.names:
        return 0
    lowered = host_name.lower()
    return next((1 + said for said, pattern in rule.names if pattern.match(lowered)), -1)
