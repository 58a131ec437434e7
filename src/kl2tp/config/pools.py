"""Address pools: what is written down, to ranges that can be given out."""

from collections.abc import Iterable
from typing import TypeAlias

from kl2tp.config.call_scalars import PoolRange
from kl2tp.config.conflicts import Claim
from kl2tp.config.fields import Broken, Fields
from kl2tp.config.problem import Mark, Problems, where
from kl2tp.config.scalar import version
from kl2tp.model import addr
from kl2tp.model.calls import PoolSpec
from kl2tp.model.ranges import Range, common, merged, without

Given: TypeAlias = list[tuple[PoolRange, Mark]]
Domain: TypeAlias = tuple[str, str]
"""Where addresses are unique: (namespace, VRF)."""
PREFIX6 = 64
"""Length of the prefix that a call gets: what hosts can make addresses in (RFC 4862 5.5.3)."""


class Pool:
    """A pool in the making."""

    def __init__(self, name: str, mark: Mark, size: int, length: int, ranges: list[Range]) -> None:
        self.name = name
        self.mark = mark
        self.size = size
        """Bytes of an address: 4 or 16."""
        self.length = length
        self.ranges = ranges
        """In units of what one session gets."""
        self.domains: dict[Domain, Claim] = {}
        """Where it is used, and by whom."""
        self.own: set[bytes] = set()
        """Our own addresses, which nobody gets."""

    @property
    def shift(self) -> int:
        """Bits of an address that a session has for itself."""
        return self.size * 8 - self.length

    def spec(self) -> PoolSpec:
        """What can be given out."""
        free = without(self.ranges, [(unit, unit) for unit in self._own_units()])
        ends = tuple((self._bytes(first), self._bytes(last)) for first, last in free)
        return PoolSpec(self.name, ends, self.length, where(self.mark))

    def _own_units(self) -> set[int]:
        return {int.from_bytes(address) >> self.shift for address in self.own if len(address) == self.size}

    def _bytes(self, unit: int) -> bytes:
        return (unit << self.shift).to_bytes(self.size)

    def text(self, ends: Range) -> str:
        """A range for people."""
        first, last = (addr.text(self._bytes(unit)) for unit in ends)
        return first if first == last else f"{first}-{last}"


class PoolBuilder:
    """All pools of a configuration."""

    def __init__(self, problems: Problems) -> None:
        self.problems = problems
        self.pools: dict[str, Pool] = {}
        self.broken: set[str] = set()
        """Names of pools that are there, but wrong."""
        self.complete = True
        """Whether all files could be read."""

    def add(self, name: str, mark: Mark, fields: Fields) -> None:
        """A pool with a name of its own."""
        try:
            self.pools[name] = self._pool(name, mark, fields)
        except Broken:
            self.broken.add(name)

    def inline(self, written: PoolRange, mark: Mark) -> str:
        """A pool that is written where it is used; the same addresses are the same pool. Its name. Raises `Broken`."""
        if written.text not in self.pools:
            length = PREFIX6 if len(written.first) == 16 else 32
            units = self._units(written.text, mark, written, length, hosts=True)
            self.pools[written.text] = Pool(written.text, mark, len(written.first), length, [units])
        return written.text

    def _pool(self, name: str, mark: Mark, fields: Fields) -> Pool:
        ranges: Given = fields.get("ranges", [])
        removed: Given = fields.get("except", [])
        if not ranges:
            self.problems.add(mark, f"{name}: the pool has no ranges", "e.g. ranges: 10.9.0.0/20", "ranges")
            raise Broken
        size = len(ranges[0][0].first)
        self._one_version(name, ranges, removed)
        length = self._length(name, fields, size)
        here = merged([self._units(name, place, one, length, hosts=True) for one, place in ranges])
        gone = [self._units(name, place, one, length, hosts=False) for one, place in removed]
        for units, (one, place) in zip(gone, removed, strict=True):
            if common(here, [units]) is None:
                self.problems.add(place, f"{name}: except {one.text} is not in the pool", "remove it", "except")
        left = without(here, gone)
        if not left:
            self.problems.add(fields.place("except"), f"{name}: nothing is left of the pool", "", "except")
            raise Broken
        return Pool(name, mark, size, length, left)

    def _one_version(self, name: str, *lists: Given) -> None:
        (one, place), *others = [item for items in lists for item in items]
        for other, mark in others:
            if len(other.first) != len(one.first):
                kinds = f"{version(other.first)}, and {one.text} (at {where(place)}) {version(one.first)}"
                message = f"{name}: {other.text} is {kinds}"
                self.problems.add(mark, message, "make two pools: ppp has the keys pool and pool6", "version")
                raise Broken

    def _length(self, name: str, fields: Fields, size: int) -> int:
        length: int | None = fields.get("prefix_length")
        if size == 16:
            return length or PREFIX6
        if length is not None:
            message = f"{name}: prefix_length means nothing in an IPv4 pool"
            self.problems.add(fields.place("prefix_length"), message, "a call gets one address: remove it", "length")
        return 32

    def _units(self, name: str, mark: Mark, written: PoolRange, length: int, *, hosts: bool) -> Range:
        """A range in units of what one session gets. Raises `Broken`."""
        shift = len(written.first) * 8 - length
        first, last = int.from_bytes(written.first), int.from_bytes(written.last)
        if written.length is not None and written.length > length:
            message = f"{name}: {written.text} is smaller than the /{length} that one call gets"
            self.problems.add(mark, message, "write a shorter prefix", "small")
            raise Broken
        if written.length is None and (first | last) & (1 << shift) - 1:
            message = f"{name}: {written.text} does not begin and end with prefixes of length {length}"
            self.problems.add(mark, message, f"e.g. 2001:db8:100::/48, from which calls get a /{length} each", "edge")
            raise Broken
        if hosts and written.length is not None and len(written.first) == 4 and written.length < 31:
            first, last = first + 1, last - 1  # neither the network's nor the broadcast address
        return first >> shift, last >> shift

    # use

    def use(self, name: str, domain: Domain, size: int, claim: Claim) -> None:
        """Note that a profile gives out of a pool."""
        pool = self.pools.get(name)
        if pool is None:
            self._missing(name, claim)
        elif pool.size != size:
            key = "pool6" if pool.size == 16 else "pool"
            message = f"{claim[1]}: the pool {name} is of {'IPv6' if pool.size == 16 else 'IPv4'} addresses"
            self.problems.add(claim[0], message, f"{key}: {name}", "version")
        else:
            pool.domains.setdefault(domain, claim)

    def _missing(self, name: str, claim: Claim) -> None:
        if name in self.broken or not self.complete:
            return
        known = [known for known in self.pools if "/" not in known]
        hint = f"the pools are {', '.join(known[:8])}" if known else f"pools: {{{name}: 10.9.0.0/20}}"
        self.problems.add(claim[0], f"{claim[1]}: there is no pool {name!r}", hint, "pool")

    def ours(self, domain: Domain, addresses: Iterable[bytes]) -> None:
        """Our own addresses in a domain: they are not given to anybody."""
        own = set(addresses)
        for pool in self.pools.values():
            if domain in pool.domains:
                pool.own |= own

    def finish(self) -> tuple[PoolSpec, ...]:
        """Check each pool against all others, and give those that are right."""
        self._overlaps()
        specs = []
        for pool in self.pools.values():
            spec = pool.spec()
            if not spec.ranges:
                ours = ", ".join(sorted(addr.text(address) for address in pool.own if len(address) == pool.size))
                message = f"{pool.name}: the pool has no address but our own ({ours})"
                self.problems.add(pool.mark, message, "add addresses for peers", "empty")
            specs.append(spec)
        return tuple(specs)

    def _overlaps(self) -> None:
        """No two pools that are used in one place have an address in common. Unused ones count as everywhere."""
        seen: list[Pool] = []
        for pool in self.pools.values():
            for other in seen:
                if pool.size != other.size or not _meet(pool, other):
                    continue
                both = common(_addresses(pool), _addresses(other))
                if both is not None:
                    narrow = Pool("", pool.mark, pool.size, pool.size * 8, [])
                    message = f"{pool.name}: {narrow.text(both)} is in the pool {other.name} at {where(other.mark)} too"
                    self.problems.add(pool.mark, message, "an address is in one pool only", "overlap")
            seen.append(pool)


def _meet(one: Pool, other: Pool) -> bool:
    return not one.domains or not other.domains or not one.domains.keys().isdisjoint(other.domains)


def _addresses(pool: Pool) -> list[Range]:
    return [(first << pool.shift, (last + 1 << pool.shift) - 1) for first, last in pool.ranges]
