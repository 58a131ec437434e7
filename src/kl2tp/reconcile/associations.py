"""Which SAs there are, kept up to date by the kernel's events: to ask costs the same for one client and thousands."""

from collections.abc import Iterable
from typing import TypeAlias

from kl2tp.kernel.events import SaHint

_Sa: TypeAlias = tuple[bytes, bytes, int]
"""Source, destination, SPI."""
Owner: TypeAlias = tuple[str, int]
"""Namespace and reqid."""


class Associations:
    """SAs by namespace and reqid."""

    def __init__(self) -> None:
        self._there: dict[Owner, set[_Sa]] = {}
        self._reading: dict[str, set[_Sa]] = {}
        """Per namespace that is being read: SAs that events told of meanwhile, and know better."""
        self.known: set[str] = set()
        """Namespaces that have been read."""

    def begin(self, netns: str) -> None:
        """All SAs of a namespace are about to be read."""
        self._reading[netns] = set()

    def complete(self, netns: str, found: Iterable[tuple[int, bytes, bytes, int]]) -> set[Owner]:
        """(reqid, source, destination, SPI) of all that were read; whose protection came or went."""
        newer = self._reading.pop(netns, set())
        before = self._protected(netns)
        there: dict[Owner, set[_Sa]] = {}
        for owner, sas in self._there.items():
            if owner[0] != netns:
                there[owner] = sas
            elif kept := sas & newer:
                there[owner] = kept
        for reqid, source, destination, spi in found:
            if (sa := (source, destination, spi)) not in newer:
                there.setdefault((netns, reqid), set()).add(sa)
        self._there = there
        self.known.add(netns)
        return before ^ self._protected(netns)

    def note(self, hint: SaHint) -> bool:
        """Take in an event; whether the protection by this reqid came or went."""
        owner, sa = (hint.netns, hint.reqid), (hint.source, hint.destination, hint.spi)
        before = self.protects(*owner)
        if hint.netns in self._reading:
            self._reading[hint.netns].add(sa)
        if not hint.gone:
            self._there.setdefault(owner, set()).add(sa)
        elif (sas := self._there.get(owner)) is not None:
            sas.discard(sa)
            if not sas:
                del self._there[owner]
        return before != self.protects(*owner)

    def forget(self, netns: str) -> None:
        """Nobody listens there any more."""
        self.known.discard(netns)
        self._reading.pop(netns, None)
        self._there = {owner: sas for owner, sas in self._there.items() if owner[0] != netns}

    def protects(self, netns: str, reqid: int) -> bool:
        """Whether there are SAs with this reqid both ways."""
        sas = self._there.get((netns, reqid), ())
        ways = {(source, destination) for source, destination, _ in sas}
        return any(way[::-1] in ways for way in ways)

    def _protected(self, netns: str) -> set[Owner]:
        return {owner for owner in self._there if owner[0] == netns and self.protects(*owner)}
