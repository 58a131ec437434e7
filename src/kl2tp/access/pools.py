"""Address pools: who gets which address, or IPv6 prefix, decided in constant time.

What a pool hands out are slots, numbered from 0 through all of its ranges; an address is computed from its slot, so a
pool of a million addresses costs nothing until they are used. A slot is in one of these states:

- fresh: never used. `_fresh` is the first slot that may be; those before it are not.
- held: by a session.
- free: held once, now in `_free`, the one that has been free the longest first.
- reserved: never given to just anybody, because it is ours or some user's own; `take` gets it all the same.

A user gets an address back that he had, if it is free. Strangers are given fresh ones as long as there are any, then
the one that has been free the longest: so an address stays with its user for as long as can be.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping

from kl2tp.model.calls import PoolSpec

REMEMBERED = 65536
"""Users whose addresses a pool remembers; those who came longest ago are forgotten first."""
PER_USER = 4
"""Addresses that it remembers of one user, who may have several sessions."""


class Pool:
    """The addresses of one pool."""

    __slots__ = ("_bits", "_bounds", "_family", "_firsts", "_free", "_fresh", "_held", "_remembered", "_reserved",
                 "_shift", "_users", "name", "size")

    def __init__(self, spec: PoolSpec, remembered: int = REMEMBERED) -> None:
        self.name = spec.name
        self._bits = len(spec.ranges[0][0]) * 8 if spec.ranges else 32
        self._shift = self._bits - spec.prefix_length
        self._firsts: list[int] = []
        """First address of each range, in units of what one session gets."""
        self._bounds: list[int] = [0]
        """Slot at which each range begins, and the number of slots at the end."""
        for first, last in _merged(spec.ranges, self._shift):
            self._firsts.append(first)
            self._bounds.append(self._bounds[-1] + last - first + 1)
        self.size = self._bounds[-1]
        self._fresh = 0
        self._held: dict[int, str] = {}
        self._free: OrderedDict[int, None] = OrderedDict()
        self._reserved: frozenset[int] = frozenset()
        self._remembered = remembered
        self._users: OrderedDict[str, tuple[int, ...]] = OrderedDict()

    def __contains__(self, address: bytes) -> bool:
        return self._slot(address) is not None

    @property
    def used(self) -> int:
        """Addresses that are held now."""
        return len(self._held)

    def allocate(self, user: str) -> bytes | None:
        """An address for a session of this user; None: there is none left."""
        slot = self._known(user)
        if slot is None:
            slot = self._next_fresh()
        if slot is None:
            slot = next(iter(self._free), None)
        if slot is None:
            return None
        self._hold(slot, user)
        return self._address(slot)

    def take(self, address: bytes, user: str) -> bool:
        """Hold this very address: a user's own one, or that of a session which lived before we did.

        False: it is not of this pool, or somebody holds it.
        """
        slot = self._slot(address)
        if slot is None or slot in self._held:
            return False
        self._hold(slot, user)
        return True

    def release(self, address: bytes) -> bool:
        """Give an address back. False: nobody holds it."""
        slot = self._slot(address)
        if slot is None or self._held.pop(slot, None) is None:
            return False
        self._put_back(slot)
        return True

    def holder(self, address: bytes) -> str | None:
        """The user who holds an address."""
        slot = self._slot(address)
        return None if slot is None else self._held.get(slot)

    def reserve(self, addresses: Iterable[bytes]) -> None:
        """Give these to nobody who does not `take` them; those that were reserved before are so no longer."""
        reserved = frozenset(slot for slot in map(self._slot, addresses) if slot is not None)
        before, self._reserved = self._reserved, reserved
        for slot in reserved - before:
            self._free.pop(slot, None)
        for slot in sorted(before - reserved):
            if slot not in self._held:
                self._put_back(slot)

    def save(self) -> dict[str, list[str]]:
        """Who had which addresses. Who holds one now is not in it: sessions say so themselves, by `take`."""
        return {user: [self._address(slot).hex() for slot in slots] for user, slots in self._users.items()}

    def restore(self, state: Mapping[str, object]) -> None:
        """Remember what an earlier pool of this name saved; what is no longer in the pool is forgotten."""
        for user, addresses in state.items():
            for slot in self._saved_slots(addresses):
                self._remember(user, slot)
                if slot not in self._held and slot not in self._reserved and slot >= self._fresh:
                    self._free.setdefault(slot)  # remembered: strangers get it when nothing else is left

    # --- slots

    def _saved_slots(self, addresses: object) -> Iterator[int]:
        """The slots of saved addresses, the latest one last; those of a damaged state are left out."""
        for text in reversed(addresses) if isinstance(addresses, list) else ():
            try:
                slot = self._slot(bytes.fromhex(text)) if isinstance(text, str) else None
            except ValueError:
                continue
            if slot is not None:
                yield slot

    def _slot(self, address: bytes) -> int | None:
        """The slot of an address; None: it is not of this pool, or not the first of a prefix."""
        if len(address) * 8 != self._bits:
            return None
        unit = int.from_bytes(address)
        if unit & (1 << self._shift) - 1:
            return None
        unit >>= self._shift
        index = bisect_right(self._firsts, unit) - 1
        if index < 0:
            return None
        slot = self._bounds[index] + unit - self._firsts[index]
        return slot if slot < self._bounds[index + 1] else None

    def _address(self, slot: int) -> bytes:
        index = bisect_right(self._bounds, slot) - 1
        unit = self._firsts[index] + slot - self._bounds[index]
        return (unit << self._shift).to_bytes(self._bits // 8)

    def _known(self, user: str) -> int | None:
        """A free slot that the user had."""
        for slot in self._users.get(user, ()):
            if slot not in self._held and slot not in self._reserved:
                return slot
        return None

    def _next_fresh(self) -> int | None:
        """The next slot that was never used. Each that is passed over is passed over once."""
        while (slot := self._fresh) < self.size:
            self._fresh += 1
            if slot not in self._held and slot not in self._free and slot not in self._reserved:
                return slot
        return None

    def _hold(self, slot: int, user: str) -> None:
        self._free.pop(slot, None)
        self._held[slot] = user
        self._remember(user, slot)

    def _put_back(self, slot: int) -> None:
        """A slot that nobody holds any more, or that is reserved no more."""
        if slot not in self._reserved:
            self._free[slot] = None

    def _remember(self, user: str, slot: int) -> None:
        """The last one first."""
        slots = self._users.get(user, ())
        if not slots or slots[0] != slot:
            self._users[user] = (slot, *(other for other in slots if other != slot))[:PER_USER]
        self._users.move_to_end(user)
        if len(self._users) > self._remembered:
            self._users.popitem(last=False)


def _merged(ranges: Iterable[tuple[bytes, bytes]], shift: int) -> Iterator[tuple[int, int]]:
    """The ranges in units of what a session gets, sorted; ranges that overlap are one, so that slots do not."""
    pending: tuple[int, int] | None = None
    units = ((int.from_bytes(first) >> shift, int.from_bytes(last) >> shift) for first, last in ranges)
    for first, last in sorted(units):
        if pending is None:
            pending = (first, last)
        elif first <= pending[1] + 1:
            pending = (pending[0], max(last, pending[1]))
        else:
            yield pending
            pending = (first, last)
    if pending is not None:
        yield pending
