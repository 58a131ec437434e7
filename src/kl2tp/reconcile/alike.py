"""Tunnels that are alike: those that differ in names, ids, addresses and keys only are made by one stencil.

Hundreds of tunnels from one template are the rule, and to compile, plan and pack twelve objects for each of them would
take twice as long as the kernel takes to make them. What is sent is the same, byte by byte: a stencil is used only if
it reproduces what the long way gives for the first tunnel of its shape.
"""

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import NamedTuple, TypeAlias

from kl2tp.ipsec.keys import KeyFileError, KeyRing, SaKeys
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.netns import NoNamespace
from kl2tp.kernel.stencil import NotAlike, Row, Specimen, Stencil, Value
from kl2tp.model.objects import Secret
from kl2tp.model.plan import Unit
from kl2tp.model.spec import CookieSpec, SessionSpec, TunnelSpec
from kl2tp.reconcile.compile import Keying, compile_unit, cookies, keying
from kl2tp.reconcile.ledger import decode_keys, encode_keys

FEWEST = 16
"""Tunnels of a shape for which a stencil is worth its cutting, which takes as long as some ten tunnels do without."""
_SHORTEST_NAME = 4
"""A shorter mark could occur by chance."""

_TUNNEL = attrgetter("encap", "checksum", "netns", "path_mtu")
_IPSEC = attrgetter("cipher", "mode", "esn", "replay_window", "nat_local_port", "nat_remote_port", "mark")
_SESSION = attrgetter("name", "l2spec", "send_sequence", "require_sequence", "reorder_ms")
_INTERFACE = attrgetter("mtu", "bridge", "vrf", "mss", "up")

Cookies: TypeAlias = Sequence[tuple[bytes, bytes]]
"""(expected, sent) of each session."""


class Batch(NamedTuple):
    """Tunnels of one shape."""

    stencil: Stencil
    rows: list[Row]


class _Candidate(NamedTuple):
    """A tunnel with what was derived for it."""

    spec: TunnelSpec
    keys: Keying | None
    values: list[Value]


def batches(specs: Iterable[TunnelSpec], ring: KeyRing, cut: Callable[[Specimen], Stencil]) -> Iterator[Batch]:
    """Those of the tunnels that are enough of one shape. Whatever is wrong with one is left for the long way to say."""
    shapes: dict[Hashable, list[_Candidate]] = {}
    for spec in specs:
        if _plain(spec) and (candidate := _candidate(spec, ring)):
            shapes.setdefault(_shape(candidate), []).append(candidate)
    for candidates in shapes.values():
        if len(candidates) >= FEWEST and (stencil := _stencil(candidates[0], ring, cut)):
            yield Batch(stencil, [stencil.row(c.spec.name, c.values, _devices(c.spec)) for c in candidates])


def _plain(spec: TunnelSpec) -> bool:
    """Whether a tunnel has nothing that must be looked up for it alone, or that is made in two steps."""
    if spec.route or spec.ike or (spec.ipsec and spec.ipsec.offload_device) or len(spec.name) < _SHORTEST_NAME:
        return False
    for session in spec.sessions:
        interface = session.interface
        if interface.netns is not None or interface.routes or interface.mac or len(interface.name) < _SHORTEST_NAME:
            return False
    return True


def _candidate(spec: TunnelSpec, ring: KeyRing) -> _Candidate | None:
    try:
        keys = keying(spec, ring)
        pairs = [cookies(spec, session, ring) for session in spec.sessions]
    except (KeyFileError, ValueError):
        return None
    return _Candidate(spec, keys, _values(spec, keys, pairs))


def _values(spec: TunnelSpec, keys: Keying | None, pairs: Cookies) -> list[Value]:
    """All in which tunnels of a shape differ."""
    values: list[Value] = [spec.name, spec.local, spec.remote]
    values += (spec.id, spec.peer_id, spec.local_port, spec.remote_port)
    if spec.ipsec and keys:
        values.append(spec.ipsec.reqid)
        for sa in (*keys.inbound, *keys.outbound):
            values += (sa.spi, sa.encryption.reveal(), sa.integrity.reveal() if sa.integrity else b"")
    for session, pair in zip(spec.sessions, pairs, strict=True):
        interface = session.interface
        values += (session.id, session.peer_id, interface.name, *pair)
        values += [address for address, _ in interface.addresses]
    return values


def _shape(candidate: _Candidate) -> Hashable:
    """What tunnels must have in common. Of values: whether numbers are there, and how long everything else is."""
    spec = candidate.spec
    sizes = [value > 0 if isinstance(value, int) else len(value) for value in candidate.values]
    sessions = [
        (_SESSION(session), _INTERFACE(session.interface), *(plen for _, plen in session.interface.addresses))
        for session in spec.sessions
    ]
    return (_TUNNEL(spec), _IPSEC(spec.ipsec) if spec.ipsec else None, *sessions, *sizes)


def _devices(spec: TunnelSpec) -> list[str]:
    return [session.interface.name for session in spec.sessions]


def _stencil(candidate: _Candidate, ring: KeyRing, cut: Callable[[Specimen], Stencil]) -> Stencil | None:
    """A stencil for tunnels like this one, if it proves true."""
    spec = candidate.spec
    try:
        stencil = cut(_specimen(candidate, ring))
        unit = compile_unit(spec, ring, candidate.keys)
        plain = cut(_described(unit, devices=dict.fromkeys(_devices(spec), 0)))
    except (NotAlike, KeyFileError, ValueError, KernelError, NoNamespace):
        return None
    row = stencil.row(spec.name, candidate.values, _devices(spec))
    same = stencil.filled(row) == plain.filled(plain.row(spec.name, (), _devices(spec)))
    return stencil if same and decode_keys(stencil.text(row)) == set(unit.keys()) else None


def _described(unit: Unit, marks: Sequence[Value] = (), *, devices: dict[str, int]) -> Specimen:
    return Specimen(unit, encode_keys(unit.keys()), marks, devices)


def _specimen(candidate: _Candidate, ring: KeyRing) -> Specimen:
    """A tunnel of the same shape in which every value is a mark."""
    marks = _Marks()
    spec, keys = candidate.spec, candidate.keys
    sessions = tuple(marks.session(session, ring, spec) for session in spec.sessions)
    pairs = [(s.cookie.local or b"", s.cookie.peer or b"") for s in sessions]
    marked = replace(
        spec,
        name=marks.word(spec.name),
        local=marks.octets(spec.local),
        remote=marks.octets(spec.remote),
        id=marks.number(spec.id),
        peer_id=marks.number(spec.peer_id),
        local_port=marks.port(spec.local_port),
        remote_port=marks.port(spec.remote_port),
        ipsec=spec.ipsec and replace(spec.ipsec, reqid=marks.number(spec.ipsec.reqid)),
        sessions=sessions,
    )
    marked_keys = marks.keying(keys) if keys else None
    devices = {name: marks.number(1) for name in _devices(marked)}
    unit = compile_unit(marked, ring, marked_keys)
    return _described(unit, _values(marked, marked_keys, pairs), devices=devices)


class _Marks:
    """Values that occur nowhere else, as long as those in whose place they stand."""

    def __init__(self) -> None:
        self._count = 0

    def octets(self, like: bytes) -> bytes:
        self._count += 1
        return hashlib.shake_256(b"mark %d" % self._count).digest(len(like))

    def number(self, like: int) -> int:
        """One of 32 bits, with the highest set."""
        return int.from_bytes(self.octets(bytes(4))) | 1 << 31 if like else 0

    def port(self, like: int) -> int:
        """One of 16 bits, with the highest set."""
        return int.from_bytes(self.octets(bytes(2))) | 1 << 15 if like else 0

    def word(self, like: str) -> str:
        """Letters that stand in no hexadecimal number."""
        return "".join("ghjkmnpqrstuvwxyz"[octet % 17] for octet in self.octets(bytes(len(like))))

    def keying(self, keys: Keying) -> Keying:
        inbound, outbound = (tuple(map(self.association, some)) for some in (keys.inbound, keys.outbound))
        return Keying(outbound[0], outbound, inbound)

    def association(self, keys: SaKeys) -> SaKeys:
        encryption, integrity = (
            Secret(self.octets(secret.reveal())) if secret else None for secret in (keys.encryption, keys.integrity)
        )
        assert encryption
        return SaKeys(self.number(keys.spi), encryption, integrity)

    def session(self, session: SessionSpec, ring: KeyRing, spec: TunnelSpec) -> SessionSpec:
        """With cookies written out, derived or not."""
        interface = session.interface
        expected, sent = cookies(spec, session, ring)
        return replace(
            session,
            id=self.number(session.id),
            peer_id=self.number(session.peer_id),
            cookie=CookieSpec(session.cookie.length, self.octets(expected), self.octets(sent)),
            interface=replace(
                interface,
                name=self.word(interface.name),
                addresses=tuple((self.octets(address), plen) for address, plen in interface.addresses),
            ),
        )
