"""Looks at the kernel for what an explanation needs. Blocking, in the thread of the door; nothing is changed."""

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from kl2tp.daemon.explain.facts import TUNNEL, Device, Facts, Sample, Thing
from kl2tp.daemon.explain.kernel import named
from kl2tp.ipsec.ike import L2TP
from kl2tp.ipsec.keys import KeyFileError
from kl2tp.kernel import drops, nft, way, xfrmstat
from kl2tp.kernel.associations import Association
from kl2tp.kernel.door import Door
from kl2tp.kernel.drops import Dropping
from kl2tp.kernel.netlink import KernelError
from kl2tp.kernel.netns import NoNamespace, entered
from kl2tp.kernel.way import Way
from kl2tp.model.addr import text
from kl2tp.model.ciphers import Cipher
from kl2tp.model.objects import Session
from kl2tp.model.overhead import Stack, for_session, stack_of
from kl2tp.model.plan import differences, satisfied
from kl2tp.model.spec import Encap, SessionSpec, TunnelSpec
from kl2tp.model.value import dataclass
from kl2tp.reconcile.compile import expected_link
from kl2tp.reconcile.engine import Engine

_ODD = (KernelError, NoNamespace, OSError)


@dataclass(frozen=True, slots=True)
class Subject:
    """What is counted."""

    netns: str = ""
    local: bytes = b""
    remote: bytes = b""
    reqids: frozenset[int] = frozenset()
    """Of its SAs."""
    sessions: tuple[Session, ...] = ()
    """Of declared tunnels."""
    devices: tuple[tuple[str, str], ...] = ()
    """(namespace, name) of Ethernet devices of theirs."""


def sample(door: Door, subject: Subject, at: float) -> Sample:
    """What the kernel has counted until now."""
    return Sample(
        at=at,
        sas=_sas(door, subject),
        errors=_errors(subject.netns),
        sessions=_sessions(door, subject.sessions),
        drops=_drops(door, subject.netns),
    )


def _sas(door: Door, subject: Subject) -> tuple[Association, ...]:
    if not subject.reqids:
        return ()
    known = any(subject.local) and any(subject.remote)
    ends = (subject.local, subject.remote) if known else None
    try:
        return tuple(door.associations(subject.netns, reqids=subject.reqids, ends=ends))
    except _ODD:
        return ()


def _errors(netns: str) -> dict[str, int]:
    try:
        return xfrmstat.read(netns)
    except _ODD:
        return {}


def _sessions(door: Door, some: Iterable[Session]) -> dict[str, dict[str, int]]:
    sessions = {thing.key: thing.ifname for thing in some}
    try:
        return {sessions[key]: values for key, values in door.counters(some).items()}
    except _ODD:
        return {}


def _drops(door: Door, netns: str) -> tuple[Dropping, ...]:
    try:
        return tuple(drops.read(door.host(netns).socket(nft.NETLINK_NETFILTER)))
    except _ODD:
        return ()


def stir(subject: Subject) -> bool:
    """Have declared tunnels send something; whether anything left."""
    found = False
    for netns, name in subject.devices:
        try:
            with entered(netns):
                found = way.stir(name) or found
        except _ODD:
            continue
    return found


def came(before: Sample, after: Sample) -> bool:
    """Whether sessions have taken packets between."""

    def total(one: Sample) -> int:
        return sum(values.get("rx_packets", 0) for values in one.sessions.values())

    return total(after) > total(before)


def look(door: Door, netns: str, local: bytes, remote: bytes) -> Way | None:
    """The way to a peer; None where there is no peer."""
    if not any(remote):
        return None
    try:
        return way.look(door.host(netns), local, remote)
    except _ODD as error:
        return Way(problem=str(error))


def look_again(door: Door, facts: Facts) -> Facts:
    """The way once more, after a while in which something was sent: a next hop that is still asked for is not there."""
    before, now = facts.way, look(door, facts.netns, facts.local, facts.remote)
    asked = ("asked", "does not answer")
    if before is not None and now is not None and now.neighbour in asked and before.neighbour in (*asked, ""):
        now = replace(now, neighbour=asked[1])
    return replace(facts, way=now)


def device(door: Door, netns: str, found: Device) -> Device:
    """A device as it is now."""
    try:
        state, carrier, addresses = way.device(door.host(netns), found.name)
    except _ODD:
        return found
    if state is None:
        return found
    return replace(found, mtu=state.mtu, up=state.up, carrier=carrier, addresses=named(addresses))


# -- declared tunnels ------------------------------------------------------------------------------------------------


def of_tunnel(engine: Engine, spec: TunnelSpec) -> tuple[Facts, Subject]:
    """What is there of a declared tunnel, and what to count of it."""
    things, problem = _things(engine, spec.name)
    door = engine.door
    devices = tuple(_device(door, spec, session) for session in spec.sessions)
    facts = Facts(
        spec.name,
        TUNNEL,
        problem=problem,
        where=str(spec.where),
        local=spec.local,
        remote=spec.remote,
        netns=spec.netns,
        path_mtu=spec.path_mtu,
        protection="static keys" if spec.ipsec else "IKE" if spec.ike else "",
        way=look(door, spec.netns, spec.local, spec.remote),
        things=things,
        devices=devices,
    )
    protection = spec.ipsec or spec.ike
    subject = Subject(
        spec.netns,
        spec.local,
        spec.remote,
        frozenset({protection.reqid}) if protection else frozenset(),
        tuple(t.wanted for t in things if isinstance(t.wanted, Session) and t.present),
        tuple((_netns(spec, s), s.interface.name) for s in spec.sessions),
    )
    return facts, subject


def _netns(spec: TunnelSpec, session: SessionSpec) -> str:
    return spec.netns if session.interface.netns is None else session.interface.netns


def things_of(engine: Engine, name: str) -> tuple[Thing, ...]:
    """The objects of a unit, and whether they are there."""
    return _things(engine, name)[0]


def _things(engine: Engine, name: str) -> tuple[tuple[Thing, ...], str]:
    try:
        found = engine.inspect(name)
    except (KeyFileError, ValueError) as error:
        return (), str(error)
    except _ODD as error:
        return (), str(error)
    things = []
    for wanted in found.unit.objects:
        actual = found.actual.get(wanted.key)
        wrong = tuple(differences(wanted, actual)) if actual and not satisfied(wanted, actual) else ()
        things.append(Thing(wanted, actual is not None, wrong))
    return tuple(things), ""


def _device(door: Door, spec: TunnelSpec, session: SessionSpec) -> Device:
    link = expected_link(spec, session)
    found = Device(link.name, link.mtu, session.interface.mtu is not None, bridge=link.master)
    with suppress(ValueError):  # a path on which nothing fits
        found = replace(found, overhead=for_session(spec, session), stack=stack_of(spec, session))
    return device(door, link.netns, found)


def selectors(spec: TunnelSpec) -> str:
    """What a tunnel's traffic is, as IKE says it."""
    ours, theirs = text(spec.local), text(spec.remote)
    if spec.encap == Encap.IP:
        return f"{ours}[{L2TP}] === {theirs}[{L2TP}]"
    return f"{ours}[udp/{spec.local_port}] === {theirs}[udp/{spec.remote_port}]"


# -- ciphers ---------------------------------------------------------------------------------------------------------


def stack_now(stack: Stack, sas: Iterable[Association]) -> Stack:
    """How packets are wrapped by the SAs that there are."""
    for sa in sas:
        return replace(stack, cipher=_cipher(sa), mode=sa.mode, nat_traversal=bool(sa.source_port))
    return stack


def _cipher(sa: Association) -> Cipher:
    aead = sa.encryption.startswith("rfc")
    stream = aead or "ctr" in sa.encryption
    block = 8 if "des" in sa.encryption or "fish" in sa.encryption or "cast" in sa.encryption else 16
    name = sa.encryption + (f"+{sa.integrity}" if sa.integrity else "")
    return Cipher(name, "", 0, 8 if stream else block, 1 if stream else block, sa.icv, aead=aead)


def with_stacks(facts: Facts) -> Facts:
    """With the overhead of the cipher in use."""
    devices = tuple(
        replace(one, stack=stack_now(one.stack, facts.after.sas)) if one.stack is not None else one
        for one in facts.devices
    )
    return replace(facts, devices=devices)
