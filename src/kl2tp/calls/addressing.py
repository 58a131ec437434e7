"""Which addresses a session gets: its user's own, or one of a pool."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kl2tp.access.pools import Pool
from kl2tp.access.user import User
from kl2tp.calls.network import Grant
from kl2tp.model.addr import text
from kl2tp.model.calls import LnsSpec, PoolSpec

_log = logging.getLogger("kl2tp.calls")
OUR_IID = bytes(7) + b"\x01"
PEER_IID = bytes(7) + b"\x02"
"""Interface identifiers on a link of two: there is nobody else to be told apart from."""


class NoAddress(Exception):
    """A session cannot be given what its profile promises; says which."""


class Addressing:
    """All pools."""

    def __init__(self) -> None:
        self._pools: dict[str, Pool] = {}
        self._specs: dict[str, PoolSpec] = {}
        self._memory: dict[str, Any] = {}
        """What earlier pools remembered of their users, by pool."""
        self._outside: set[bytes] = set()
        """Addresses and prefixes of no pool that sessions hold."""

    def configure(self, specs: Iterable[PoolSpec], ours: Iterable[bytes], held: Iterable[tuple[bytes, str]]) -> None:
        """Take new pools. `ours` are given to nobody; `held` are (address, user) of the sessions that live."""
        wanted = {spec.name: spec for spec in specs}
        for name in self._pools.keys() - wanted.keys():
            self._memory[name] = self._pools.pop(name).save()
            del self._specs[name]
        for name, spec in wanted.items():
            if self._specs.get(name) != spec:
                old = self._pools.pop(name, None)
                pool = self._pools[name] = Pool(spec)
                self._specs[name] = spec
                if memory := (old.save() if old is not None else self._memory.get(name)):
                    pool.restore(memory)
                for address, user in held:
                    if address in pool:
                        pool.take(address, user)
            self._pools[name].reserve(ours)

    def remember(self, memory: Mapping[str, Any]) -> None:
        """What `save` gave an earlier daemon."""
        self._memory = dict(memory)

    def save(self) -> dict[str, Any]:
        """Who had which addresses."""
        return {**self._memory, **{name: pool.save() for name, pool in self._pools.items()}}

    def usage(self) -> dict[str, tuple[int, int]]:
        """(used, size) of each pool."""
        return {name: (pool.used, pool.size) for name, pool in self._pools.items()}

    def grant(self, profile: LnsSpec, user: User | None, identity: str, unit: int, local: bytes) -> Grant:
        """Addresses for a new session on the device of this number. `local` is our address where the profile names
        none. Raises NoAddress."""
        grant = Grant(dns=profile.ppp.dns, routes=user.routes if user is not None else ())
        try:
            if profile.ppp.ipv4:
                self._ipv4(grant, profile, user, identity, unit, local)
            if profile.ppp.ipv6:
                self._ipv6(grant, profile, user, identity)
        except NoAddress:
            self.give_back(grant)
            raise
        if not grant.peer and not grant.local_iid:
            raise NoAddress(f"user {identity!r} has no address of his own, and profile {profile.name} has no pool")
        return grant

    def _ipv4(self, grant: Grant, profile: LnsSpec, user: User | None, identity: str, unit: int, local: bytes) -> None:
        own = user.fixed(unit) if user is not None else b""
        pool = self._pools.get(profile.ppp.pool)
        if own:
            self._take(own, identity)
            grant.peer, grant.held = own, True
        elif pool is not None:
            peer = pool.allocate(identity)
            if peer is None:
                raise NoAddress(f"pool {pool.name} has no address left")
            grant.peer, grant.held = peer, True
            if user is not None and not user.permits(peer, unit):
                raise NoAddress(f"user {identity!r} may not have {text(peer)}, which is what pool {pool.name} gives")
        if grant.peer:
            grant.local = profile.ppp.local_address or local

    def _ipv6(self, grant: Grant, profile: LnsSpec, user: User | None, identity: str) -> None:
        grant.local_iid, grant.peer_iid = OUR_IID, PEER_IID
        own = user.prefix6 if user is not None else None
        pool = self._pools.get(profile.ppp.pool6)
        if own is not None:
            self._take(own[0], identity)
            grant.prefix, grant.prefix_length = own
            grant.prefix_held = True
        elif pool is not None:
            prefix = pool.allocate(identity)
            if prefix is None:
                raise NoAddress(f"pool {pool.name} has no prefix left")
            grant.prefix, grant.prefix_length = prefix, self._specs[pool.name].prefix_length
            grant.prefix_held = True

    def _take(self, own: bytes, identity: str) -> None:
        """Hold a user's own address or prefix. Raises NoAddress."""
        pools = [pool for pool in self._pools.values() if own in pool]
        if own in self._outside or not all(pool.take(own, identity) for pool in pools):
            raise NoAddress(f"{text(own)}, the user's own address, is in use by another session")
        if not pools:
            self._outside.add(own)

    def retake(self, grant: Grant, identity: str) -> None:
        """Hold what a session of an earlier daemon was given."""
        for own in _held(grant):
            try:
                self._take(own, identity)
            except NoAddress:
                _log.error("%s is held by two sessions, one of them of %s", text(own), identity)

    def give_back(self, grant: Grant) -> None:
        """A session is over."""
        for own in _held(grant):
            self._outside.discard(own)
            for pool in self._pools.values():
                if own in pool:
                    pool.release(own)
        grant.held = grant.prefix_held = False


def _held(grant: Grant) -> Iterator[bytes]:
    if grant.held:
        yield grant.peer
    if grant.prefix_held:
        yield grant.prefix
