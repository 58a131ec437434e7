"""IKE SAs and IPsec SAs as charon tells of them, from its lists and its events, kept as one table. Pure.

A list is the truth of one moment; events since then are applied to it. Each change leaves the connection's name in
`changed`, and each pair of SAs that is no more, without a successor by re-keying, in `gone`.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import attrgetter
from typing import TypeAlias

from kl2tp.ipsec.ike.negotiation import ChildSa, Counters, IkeSa
from kl2tp.ipsec.ike.wanted import PREFIX
from kl2tp.model import addr
from kl2tp.wire.vici import Section, ViciError, items, number, sections, text

REKEYS = 32
"""Dates of re-keyings that are kept for each connection."""
REMEMBERED = 1024
"""Clients that left whose reqids are kept."""
_LIVE = frozenset(("INSTALLED", "UPDATING", "REKEYING"))
"""States of a child that is good for traffic. The old one of a re-keying (REKEYED, DELETED) lingers in lists."""
_CHILD_TASKS = frozenset(("CHILD_CREATE", "QUICK_MODE", "IKE_AUTH", "MAIN_MODE", "AGGRESSIVE_MODE"))
# What of an SA is worth telling when it changes: dates computed from whole seconds differ a little each time.
_OF_IKE = attrgetter("unique_id", "state", "local", "remote", "local_port", "remote_port", "remote_id", "busy")
_OF_CHILD = attrgetter(
    *("unique_id", "ike_id", "reqid", "spi_in", "spi_out", "local", "remote", "local_port", "remote_port"),
    *("remote_id", "transport", "rekeyed", "follows"),
)
Listed: TypeAlias = tuple[IkeSa, list[ChildSa]]
"""An IKE SA and its children, as charon lists them."""


def ours(section: Section) -> Iterator[tuple[str, Section]]:
    """Name and content of those IKE SAs in a message that are of our connections."""
    for name, content in sections(section).items():
        if name.startswith(PREFIX):
            yield name, content


def _address(section: Section, name: str) -> bytes:
    value = text(section, name).partition("%")[0]
    try:
        return addr.parse(value) if value else b""
    except ValueError as error:
        raise ViciError(f"{name}: {error}") from None


def _in(section: Section, name: str, now: float) -> float | None:
    """A time to come, given as seconds from now."""
    return now + number(section, name) if name in section else None


def _algorithm(section: Section, kind: str) -> str:
    name, size = text(section, f"{kind}-alg"), text(section, f"{kind}-keysize")
    return f"{name}-{size}" if name and size else name


def ike_sa(name: str, section: Section, now: float) -> IkeSa:
    """An IKE SA from its section. Raises ViciError."""
    algorithms = (_algorithm(section, "encr"), _algorithm(section, "integ"), text(section, "prf-alg"),
                  text(section, "dh-group"))  # fmt: skip
    tasks = {*items(section, "tasks-queued"), *items(section, "tasks-active"), *items(section, "tasks-passive")}
    return IkeSa(
        name=name,
        unique_id=number(section, "uniqueid"),
        version=number(section, "version"),
        state=text(section, "state"),
        initiator=text(section, "initiator") == "yes",
        spis=(text(section, "initiator-spi"), text(section, "responder-spi")),
        local=_address(section, "local-host"),
        remote=_address(section, "remote-host"),
        local_port=number(section, "local-port"),
        remote_port=number(section, "remote-port"),
        local_id=text(section, "local-id"),
        remote_id=text(section, "remote-eap-id") or text(section, "remote-xauth-id") or text(section, "remote-id"),
        nat_local=text(section, "nat-local") == "yes",
        nat_remote=text(section, "nat-remote") == "yes",
        algorithms="/".join(filter(None, algorithms)),
        since=now - number(section, "established") if "established" in section else 0.0,
        rekey_at=_in(section, "rekey-time", now),
        reauth_at=_in(section, "reauth-time", now),
        busy=not _CHILD_TASKS.isdisjoint(tasks),
    )


def child_sa(ike: IkeSa, section: Section, now: float) -> ChildSa:
    """A pair of IPsec SAs from its section. Raises ViciError."""
    counters = Counters(*(number(section, f"{unit}-{way}") for way in ("in", "out") for unit in ("bytes", "packets")))
    return ChildSa(
        name=ike.name,
        unique_id=number(section, "uniqueid"),
        ike_id=ike.unique_id,
        reqid=number(section, "reqid"),
        spi_in=number(section, "spi-in", 16),
        spi_out=number(section, "spi-out", 16),
        local=ike.local,
        remote=ike.remote,
        local_port=ike.local_port,
        remote_port=ike.remote_port,
        local_id=ike.local_id,
        remote_id=ike.remote_id,
        encap=text(section, "encap") == "yes",
        transport=text(section, "mode") == "TRANSPORT",
        encryption=_algorithm(section, "encr"),
        integrity=_algorithm(section, "integ"),
        group=text(section, "dh-group"),
        local_ts=items(section, "local-ts"),
        remote_ts=items(section, "remote-ts"),
        since=now - number(section, "install-time"),
        rekey_at=_in(section, "rekey-time", now),
        expires_at=_in(section, "life-time", now),
        counters=counters,
    )


def parsed(name: str, section: Section, now: float) -> Listed:
    """One IKE SA of a list, and those of its children that carry traffic. Raises ViciError."""
    ike = ike_sa(name, section, now)
    found = sections(section, "child-sas").values()
    return ike, [child_sa(ike, child, now) for child in found if text(child, "state") in _LIVE]


class _Connection:
    """What there is of one connection."""

    __slots__ = ("below", "children", "ike", "rekeys")

    def __init__(self) -> None:
        self.ike: dict[int, IkeSa] = {}
        self.children: dict[int, ChildSa] = {}
        """By unique id; orphans by the negative of their SPI, which no live one has."""
        self.below: dict[int, set[int]] = {}
        """Unique ids of the children of each IKE SA: an LNS has one connection and ten thousand of these."""
        self.rekeys: deque[float] = deque(maxlen=REKEYS)


class Sas:
    """The table."""

    def __init__(self) -> None:
        self._connections: dict[str, _Connection] = {}
        self.clients: dict[int, ChildSa] = {}
        """Pairs of SAs of connections with many peers, by reqid."""
        self.many: frozenset[str] = frozenset()
        """Which connections have many peers."""
        self.changed: set[str] = set()
        self.gone: list[ChildSa] = []
        self.fresh: list[ChildSa] = []
        """Pairs of IKEv2 that were not known before, successors too."""
        self._orphans: dict[int, ChildSa] = {}
        """By inbound SPI."""
        self._seats: OrderedDict[object, int] = OrderedDict()
        """The latest reqid of each client, by what tells it from others: it may come back under another reqid."""

    # --- asking

    def names(self) -> list[str]:
        """Connections of which there is anything."""
        return list(self._connections)

    def ike(self, name: str) -> tuple[IkeSa, ...]:
        """IKE SAs, the newest first."""
        found = self._connections.get(name)
        return tuple(sorted(found.ike.values(), key=lambda sa: -sa.unique_id)) if found else ()

    def children(self, name: str) -> tuple[ChildSa, ...]:
        """Pairs of IPsec SAs, the newest first, orphans last."""
        found = self._connections.get(name)
        return tuple(sorted(found.children.values(), key=lambda sa: (sa.orphaned, -sa.unique_id))) if found else ()

    def live(self, name: str) -> bool:
        """Whether charon has IPsec SAs for it."""
        found = self._connections.get(name)
        return found is not None and any(not child.orphaned for child in found.children.values())

    def rekeys(self, name: str) -> tuple[float, ...]:
        """When they were re-keyed."""
        found = self._connections.get(name)
        return tuple(found.rekeys) if found else ()

    # --- lists

    def replace(self, listed: Iterable[Listed]) -> None:
        """All IKE SAs that charon has."""
        by_name: dict[str, list[Listed]] = {}
        for one in listed:
            by_name.setdefault(one[0].name, []).append(one)
        for name in self._connections.keys() - by_name.keys():
            self._set(name, [])
        for name, some in by_name.items():
            self._set(name, some)

    def replace_one(self, name: str, listed: Iterable[Listed]) -> None:
        """The same for one connection."""
        self._set(name, [one for one in listed if one[0].name == name])

    def _set(self, name: str, pairs: list[Listed]) -> None:
        """What a connection has, from a list."""
        connection = self._of(name)
        new_ike = {ike.unique_id: ike for ike, _ in pairs}
        if list(map(_OF_IKE, connection.ike.values())) != list(map(_OF_IKE, new_ike.values())):
            self.changed.add(name)
        connection.ike = new_ike
        listed = {child.unique_id: child for _, children in pairs for child in children}
        for child in [child for child in connection.children.values() if not child.orphaned]:
            if child.unique_id not in listed:
                self._remove(connection, child)
        for child in listed.values():
            self._put(connection, child)
        self._forget_if_empty(name, connection)

    # --- events

    def ike_updown(self, name: str, section: Section, up: bool, now: float) -> IkeSa:
        """An IKE SA was established, or is over. Raises ViciError.

        charon tells of each child that ends with it. Those it does not tell of another IKE SA may have adopted, as
        with IKEv1 when both ends authenticate anew: a list will show (`has_child`).
        """
        ike = ike_sa(name, section, now)
        connection = self._of(name)
        self.changed.add(name)
        if up:
            connection.ike[ike.unique_id] = ike
            return ike
        connection.ike.pop(ike.unique_id, None)
        self._forget_if_empty(name, connection)
        return ike

    def child_updown(self, name: str, section: Section, up: bool, now: float) -> None:
        """Pairs of IPsec SAs came, or went. Raises ViciError."""
        ike = ike_sa(name, section, now)
        connection = self._of(name)
        if up:
            connection.ike[ike.unique_id] = replace(ike, busy=False)  # no event will say that it is so no more
        for content in sections(section, "child-sas").values():
            child = child_sa(ike, content, now)
            if up:
                self._put(connection, child)
            elif (known := connection.children.get(child.unique_id)) is not None:
                self._remove(connection, known)
        self.changed.add(name)
        self._forget_if_empty(name, connection)

    def ike_rekey(self, name: str, section: Section, now: float) -> None:
        """An IKE SA has a successor, which has its children now. Raises ViciError."""
        inner = sections(section)
        if not {"old", "new"} <= inner.keys():
            raise ViciError("ike-rekey without old and new")
        old, new = ike_sa(name, inner["old"], now), ike_sa(name, inner["new"], now)
        connection = self._of(name)
        connection.ike.pop(old.unique_id, None)
        connection.ike[new.unique_id] = new
        for key in list(connection.below.get(old.unique_id, ())):
            self._store(connection, replace(connection.children[key], ike_id=new.unique_id))
        self.changed.add(name)

    def child_rekey(self, name: str, section: Section, now: float) -> None:
        """Pairs of IPsec SAs have successors. Raises ViciError."""
        ike = ike_sa(name, section, now)
        connection = self._of(name)
        connection.ike[ike.unique_id] = ike
        for content in sections(section, "child-sas").values():
            inner = sections(content)
            if not {"old", "new"} <= inner.keys():
                raise ViciError("child-rekey without old and new")
            old, new = child_sa(ike, inner["old"], now), child_sa(ike, inner["new"], now)
            known = self._drop(connection, old.unique_id) or old
            self._put(connection, replace(new, rekeyed=known.rekeyed + 1, follows=known.follows))
        connection.rekeys.append(now)
        self.changed.add(name)

    def ike_update(self, name: str, section: Section, where: Section) -> None:
        """The ends of an IKE SA have moved (MOBIKE, or a NAT that changed its mind). Raises ViciError."""
        unique_id = number(section, "uniqueid")
        ends = {
            "local": _address(where, "local-host"),
            "remote": _address(where, "remote-host"),
            "local_port": number(where, "local-port"),
            "remote_port": number(where, "remote-port"),
        }
        connection = self._connections.get(name)
        if connection is None or (ike := connection.ike.get(unique_id)) is None:
            return
        connection.ike[unique_id] = replace(ike, **ends)  # type: ignore[arg-type]
        for key in list(connection.below.get(unique_id, ())):
            self._store(connection, replace(connection.children[key], **ends))  # type: ignore[arg-type]
        self.changed.add(name)

    # --- charon came anew, and the kernel

    def orphan_all(self) -> list[ChildSa]:
        """Another charon: it knows none of these, but the kernel may still have their SAs. All of them."""
        for name, connection in self._connections.items():
            orphans = {-child.spi_in: replace(child, orphaned=True) for child in connection.children.values()}
            connection.children, connection.ike, connection.below = orphans, {}, {}
            for orphan in orphans.values():
                self._orphans[orphan.spi_in] = orphan
                self._note_client(orphan)
            self.changed.add(name)
        return list(self._orphans.values())

    def kernel_gone(self, spis: Iterable[int]) -> None:
        """These inbound SPIs are no more in the kernel: whatever orphan had them is gone."""
        for spi in spis:
            if (orphan := self._orphans.get(spi)) is not None:
                self._remove_orphan(orphan)

    def expire(self, now: float) -> None:
        """The kernel takes SAs away when their time is over: orphans, which nobody re-keys."""
        for orphan in list(self._orphans.values()):
            if orphan.expires_at is not None and orphan.expires_at <= now:
                self._remove_orphan(orphan)

    def _remove_orphan(self, orphan: ChildSa) -> None:
        connection = self._of(orphan.name)
        self._remove(connection, orphan)
        self._forget_if_empty(orphan.name, connection)

    # --- one by one

    def _of(self, name: str) -> _Connection:
        connection = self._connections.get(name)
        if connection is None:
            connection = self._connections[name] = _Connection()
        return connection

    def _forget_if_empty(self, name: str, connection: _Connection) -> None:
        """The dates of re-keyings stay, so that a storm is seen when all is down."""
        if not (connection.ike or connection.children or connection.rekeys):
            self._connections.pop(name, None)

    def forget(self, name: str) -> bool:
        """The connection is wanted no longer: its orphans are gone. Whether charon has SAs of it."""
        connection = self._connections.get(name)
        if connection is None:
            return False
        connection.rekeys.clear()
        for orphan in [child for child in connection.children.values() if child.orphaned]:
            self._remove(connection, orphan)
        self._forget_if_empty(name, connection)
        return bool(connection.ike or connection.children)

    def has_child(self, name: str, ike_id: int) -> bool:
        """Whether there is an IPsec SA below that IKE SA."""
        connection = self._connections.get(name)
        return connection is not None and ike_id in connection.below

    def negotiating(self, name: str) -> bool:
        """Whether an IKE SA of it, or an IPsec SA, is being negotiated."""
        connection = self._connections.get(name)
        return connection is not None and any(sa.state == "CONNECTING" or sa.busy for sa in connection.ike.values())

    def _put(self, connection: _Connection, child: ChildSa) -> None:
        """A pair of SAs that is there; what it replaces is gone."""
        known = connection.children.get(child.unique_id)
        if known is not None:
            child = replace(child, rekeyed=max(known.rekeyed, child.rekeyed), follows=known.follows)
        if known is None or _OF_CHILD(known) != _OF_CHILD(child):
            self.changed.add(child.name)
        if known is None:
            child = self._succeed(connection, child)
            if (ike := connection.ike.get(child.ike_id)) is not None and ike.version == 2:
                self.fresh.append(child)
        self._store(connection, child)

    def _store(self, connection: _Connection, child: ChildSa) -> None:
        """Into every index."""
        self._drop(connection, child.unique_id)
        connection.children[child.unique_id] = child
        connection.below.setdefault(child.ike_id, set()).add(child.unique_id)
        self._note_client(child)

    @staticmethod
    def _drop(connection: _Connection, unique_id: int) -> ChildSa | None:
        """Out of the indexes of live ones."""
        child = connection.children.pop(unique_id, None)
        if child is not None and (below := connection.below.get(child.ike_id)) is not None:
            below.discard(unique_id)
            if not below:
                del connection.below[child.ike_id]
        return child

    def _succeed(self, connection: _Connection, child: ChildSa) -> ChildSa:
        """A new pair: orphans in its place are gone; a client that was here before is known again."""
        if child.name not in self.many:
            for orphan in [old for old in connection.children.values() if old.orphaned]:
                self._remove(connection, orphan)
            return child
        client = _client(child)
        if before := self._seats.get(client, 0):
            child = replace(child, follows=before if before != child.reqid else 0)
        for reqid in {before, child.reqid}:
            if (holder := self.clients.get(reqid)) is not None and holder.orphaned:
                self._remove_orphan(holder)
        return child

    def _remove(self, connection: _Connection, child: ChildSa) -> None:
        if child.orphaned:
            connection.children.pop(-child.spi_in, None)
            self._orphans.pop(child.spi_in, None)
        else:
            self._drop(connection, child.unique_id)
        self.changed.add(child.name)
        self.gone.append(child)
        if (holder := self.clients.get(child.reqid)) is not None and holder.spi_in == child.spi_in:
            del self.clients[child.reqid]

    def _note_client(self, child: ChildSa) -> None:
        if child.name not in self.many:
            return
        self.clients[child.reqid] = child
        client = _client(child)
        self._seats[client] = child.reqid
        self._seats.move_to_end(client)
        if len(self._seats) > len(self.clients) + REMEMBERED:
            self._seats.popitem(last=False)


def _client(child: ChildSa) -> object:
    """What a client keeps when it authenticates anew: its place, its name, and what it protects."""
    return child.name, child.remote, child.remote_port, child.remote_id, child.remote_ts
