"""The layers of IKE: strongSwan, the IKE SA, the IPsec SA. What charon said is turned into cause and cure."""

from collections.abc import Sequence

from kl2tp.config.ike_scalars import WEAK_WORD
from kl2tp.daemon.explain import proposals
from kl2tp.daemon.explain.facts import CLIENT, PROFILE, Facts, Ike
from kl2tp.daemon.explain.layers import (
    Diagnosis,
    Layer,
    Sides,
    broken,
    counted,
    duration,
    ok,
    unknown,
    waiting,
)
from kl2tp.ipsec.ike import Cause, CauseKind, ChildSa, IkeSa, State
from kl2tp.model.addr import text
from kl2tp.model.ike import PSK
from kl2tp.model.value import dataclass

STRONGSWAN, IKE_SA, CHILD_SA = "strongSwan", "IKE SA", "IPsec SA"
_OF_CHILD = (CauseKind.TS_UNACCEPTABLE, CauseKind.KERNEL, CauseKind.MODE)
_STORM_S, _STORM_TIMES, _STORM_GAP_S = 600.0, 4, 60.0
"""A storm: so many new keys within so many seconds, oftener than this."""


def layers(facts: Facts) -> list[Layer]:
    """All three; none without IKE."""
    ike = facts.ike
    if ike is None:
        return []
    if ike.negotiation is None:
        words = "nobody has asked it: no daemon runs" if not facts.daemon else "the daemon does not speak to it yet"
        return [unknown(STRONGSWAN, words), unknown(IKE_SA, "as above"), unknown(CHILD_SA, "as above")]
    return [_strongswan(facts, ike), _ike_sa(facts, ike), _child_sa(facts, ike)]


# -- strongSwan ------------------------------------------------------------------------------------------------------


def _strongswan(facts: Facts, ike: Ike) -> Layer:
    negotiation = ike.negotiation
    assert negotiation is not None
    if not ike.alive:
        return broken(STRONGSWAN, _no_charon(facts, ike))
    cause = negotiation.problem
    if cause is not None and cause.kind is CauseKind.CONFIGURATION:
        cure = (cause.cure,) if cause.cure else ()
        return broken(STRONGSWAN, Diagnosis("strongSwan does not take our connection", cause.text, cure))
    if not negotiation.loaded:
        return waiting(STRONGSWAN, "answers; our connection is being loaded")
    return ok(STRONGSWAN, "answers, and has our connection as configured")


def _no_charon(facts: Facts, ike: Ike) -> Diagnosis:
    child = child_of(ike)
    left = child.expires_at - facts.now if child is not None and child.expires_at else None
    alive: tuple[str, ...] = ()
    if child is not None:
        until = f" for {duration(left)} more" if left is not None and left > 0 else ""
        alive = (f"the SAs that it has made live on in the kernel{until}: traffic passes, but nothing is renewed",)
    if ike.hangs:
        return Diagnosis(
            "strongSwan hangs: its process is there and takes connections, and answers nothing",
            f"charon is frozen, overloaded or deadlocked ({ike.away})",
            ("$ systemctl restart strongswan", "before that, for its authors: $ gdb -p $(pidof charon charon-systemd)"
             " -batch -ex 'thread apply all bt'"),
            alive,
        )  # fmt: skip
    return Diagnosis(
        "strongSwan is not running, or its vici socket is elsewhere",
        ike.away or "nothing answers at daemon.charon",
        ("$ systemctl status strongswan", "$ systemctl start strongswan", "is daemon.charon where its socket is?"),
        alive,
    )


# -- the IKE SA ------------------------------------------------------------------------------------------------------


def _ike_sa(facts: Facts, ike: Ike) -> Layer:
    negotiation = ike.negotiation
    assert negotiation is not None
    sa = next((sa for sa in negotiation.ike if sa.established and _is_of(sa, ike.child)), None)
    cause = None if ike.alive is False else negotiation.problem
    stale = "" if ike.alive else ", as last heard"
    if facts.kind == PROFILE and ike.alive:
        return ok(IKE_SA, f"clients begin; {counted(sum(sa.established for sa in negotiation.ike), 'client')} with one")
    if sa is not None:
        return ok(IKE_SA, f"IKEv{sa.version} {sa.state.lower()} with {sa.remote_id}{stale}", *_of_ike(sa, facts.now))
    if ike.child is not None:
        return unknown(IKE_SA, "charon does not tell of it: with IKEv1 it may be gone while its IPsec SA lives")
    if cause is not None and cause.kind is not CauseKind.CONFIGURATION and not _about_child(cause):
        return broken(IKE_SA, diagnosis(cause, ike), *_tries(facts, ike))
    if cause is not None and _about_child(cause):
        return ok(IKE_SA, "was there, and went with the IPsec SA that failed", *_tries(facts, ike))
    if not ike.alive:
        return unknown(IKE_SA, "only strongSwan knows")
    if negotiation.state is State.CONNECTING:
        return waiting(IKE_SA, f"is being negotiated with {text(facts.remote) or 'the peer'}", *_tries(facts, ike))
    return waiting(IKE_SA, _whom(ike), *_tries(facts, ike), diagnosis=_nothing_begun(facts, ike))


def _whom(ike: Ike) -> str:
    return "the peer is to begin" if ike.waits_for_peer else "there is none; it is begun shortly"


def _nothing_begun(facts: Facts, ike: Ike) -> Diagnosis | None:
    if not ike.waits_for_peer:
        return None
    return Diagnosis(
        "there is no IKE SA, and it is the peer who begins (ipsec.ike.initiate: no)",
        f"nothing that {text(facts.remote)} has sent fitted our connection, or it has sent nothing",
        ("begin at the peer", "or let both ends begin: ipsec.ike.initiate: auto",
         f"does it arrive here? $ tcpdump -ni any host {text(facts.remote)} and 'udp port 500 or udp port 4500'"),
    )  # fmt: skip


def _is_of(sa: IkeSa, child: ChildSa | None) -> bool:
    return child is None or sa.unique_id == child.ike_id


def _tries(facts: Facts, ike: Ike) -> list[tuple[str, object]]:
    negotiation = ike.negotiation
    assert negotiation is not None
    left = negotiation.next_try - facts.now if negotiation.next_try else 0.0
    return [
        ("failed tries", negotiation.tries or ""),
        ("next try", f"in {duration(left)}" if left > 0 else ""),
    ]


def _of_ike(sa: IkeSa, now: float) -> list[tuple[str, object]]:
    nat = " and ".join(end for end, there in (("we", sa.nat_local), ("the peer", sa.nat_remote)) if there)
    return [
        ("ends", f"{text(sa.local)} port {sa.local_port} - {text(sa.remote)} port {sa.remote_port}"),
        ("identities", f"{sa.local_id} - {sa.remote_id}"),
        ("begun by", "us" if sa.initiator else "the peer"),
        ("ciphers", sa.algorithms),
        ("SPIs", " ".join(sa.spis)),
        ("behind NAT", nat),
        ("age", duration(now - sa.since)),
        ("next re-key", _when(sa.rekey_at, now)),
        ("authenticates anew", _when(sa.reauth_at, now)),
    ]


def _when(at: float | None, now: float) -> str:
    if at is None:
        return ""
    return f"in {duration(at - now)}" if at > now else f"due for {duration(now - at)}"


# -- the IPsec SA ----------------------------------------------------------------------------------------------------


def child_of(ike: Ike) -> ChildSa | None:
    """The pair of SAs that it is about."""
    if ike.child is not None:
        return ike.child
    return next(iter(ike.negotiation.children), None) if ike.negotiation else None


def _child_sa(facts: Facts, ike: Ike) -> Layer:
    negotiation = ike.negotiation
    assert negotiation is not None
    child, cause = child_of(ike), negotiation.problem
    if facts.kind == PROFILE:
        return ok(CHILD_SA, f"{counted(len(negotiation.children), 'client')} with one")
    if child is not None:
        if cause is not None and cause.kind is CauseKind.MODE:
            return broken(CHILD_SA, diagnosis(cause, ike), *_of_child(child, facts.now))
        if (found := storm(negotiation.rekeys, facts.now, ike)) is not None:
            words = f"up, but its keys are made anew ever again: {_headline(child)}"
            return broken(CHILD_SA, found, *_of_child(child, facts.now), text=words)
        stale = "" if ike.alive and not child.orphaned else ", as last heard"
        return ok(CHILD_SA, _headline(child) + stale, *_of_child(child, facts.now))
    if cause is not None and _about_child(cause) and ike.alive:
        return broken(CHILD_SA, diagnosis(cause, ike), *_tries(facts, ike))
    return waiting(CHILD_SA, "comes with the IKE SA")


def _headline(child: ChildSa) -> str:
    mode = "transport" if child.transport else "tunnel"
    return f"{cipher(child)}, {mode} mode" + (", ESP in UDP" if child.encap else "")


def cipher(child: ChildSa) -> str:
    """The algorithms of an IPsec SA."""
    return "/".join(word for word in (child.encryption, child.integrity) if word)


def _of_child(child: ChildSa, now: float) -> list[tuple[str, object]]:
    return [
        ("SPIs", f"in {child.spi_in:#010x}, out {child.spi_out:#010x}"),
        ("reqid", f"{child.reqid:#x}"),
        ("protects", f"{' '.join(child.local_ts)} === {' '.join(child.remote_ts)}"),
        ("new keys by", f"a Diffie-Hellman exchange of their own ({child.group})" if child.group else ""),
        ("age", duration(now - child.since)),
        ("re-keyed", f"{counted(child.rekeyed, 'time')}" if child.rekeyed else ""),
        ("next re-key", _when(child.rekey_at, now)),
        ("ends", _when(child.expires_at, now)),
    ]


def storm(rekeys: Sequence[float], now: float, ike: Ike) -> Diagnosis | None:
    """New keys again and again: by their dates."""
    late = [at for at in rekeys if now - at < _STORM_S]
    if len(late) < _STORM_TIMES:
        return None
    gap, configured = (late[-1] - late[0]) / (len(late) - 1), ike.spec.rekey_time
    if gap > _STORM_GAP_S or now - late[-1] > 5 * max(gap, 1.0):
        return None
    evidence = f"{len(late)} times in the last {duration(now - late[0])}, every {gap:.1f} s; here configured: " + (
        f"every {duration(configured)}" if configured else "never"
    )
    says = "keys are made anew in a storm"
    if configured and configured <= 3 * gap + 1:
        cure = ("set ipsec.ike.rekey to an hour or so (1h is the default)", "$ kl2tp reload")
        return Diagnosis(says, f"our own ipsec.ike.rekey is {configured} s", cure, (evidence,))
    cause = "the peer's lifetime is that short (in seconds, bytes or packets), or each end answers a re-key by another"
    what = "with strongSwan rekey_time, rekey_bytes, rekey_packets; in ipsec.conf lifetime, margintime, rekeyfuzz"
    return Diagnosis(says, cause, (f"look at the peer's lifetimes: {what}",), (evidence,))


# -- causes ----------------------------------------------------------------------------------------------------------


def _about_child(cause: Cause) -> bool:
    if cause.kind is CauseKind.NO_PROPOSAL:
        return cause.detail("layer") == "IPsec"
    return cause.kind in _OF_CHILD


def diagnosis(cause: Cause, ike: Ike | None = None) -> Diagnosis:
    """A cause as charon's log had it, with what each side wants."""
    if cause.kind is CauseKind.NO_PROPOSAL:
        return _no_proposal(cause)
    if cause.kind is CauseKind.TS_UNACCEPTABLE:
        return _selectors(cause, ike)
    if cause.kind in (CauseKind.AUTHENTICATION_FAILED, CauseKind.NO_SECRET, CauseKind.CERTIFICATE, CauseKind.IDENTITY):
        return _authentication(cause, ike)
    if cause.kind is CauseKind.NO_ANSWER:
        return _no_answer(cause)
    return Diagnosis(cause.text, _why(cause), (cause.cure,) if cause.cure else (), _evidence(cause))


def _why(cause: Cause) -> str:
    return "the peer says so" if cause.by_peer else f"{cause.kind.value}: we refuse"


def _evidence(cause: Cause) -> tuple[str, ...]:
    parts = [f"{name} {value!r}" for name, value in cause.details if name not in ("layer", "ours", "theirs")]
    return (", ".join(parts),) if parts else ()


@dataclass(frozen=True, slots=True)
class _Names:
    """How proposals are called here and there."""

    title: str
    key: str


def _no_proposal(cause: Cause) -> Diagnosis:
    ipsec = cause.detail("layer") == "IPsec"
    names = _Names("ESP proposals", "esp_proposals") if ipsec else _Names("IKE proposals", "proposals")
    ours, theirs = proposals.read(cause.detail("ours")), proposals.read(cause.detail("theirs"))
    both = proposals.sides(ours, theirs, names.title)
    if not theirs:
        both = Sides(names.title, both.ours, ("(a peer that refuses does not say what it takes)",))
    cure = proposals.matching(ours, theirs, names.key) or [
        f"make one of ours possible at the peer, or add one of its own to ipsec.ike.{names.key}",
        "its log has both lists: with strongSwan, the lines 'received proposals' and 'configured proposals'",
    ]
    if not ipsec and cause.by_peer:
        cure.append("a peer that knows no connection for our address, or not this version of IKE, says the same")
    weak = any(proposals.weaknesses(p) for p in theirs) and not any(not proposals.weaknesses(p) for p in theirs)
    if weak:
        cure.append(f"the word: weak: {WEAK_WORD}")
    why = f"no proposal in common; {both.verdict}" if both.verdict else "no proposal in common"
    says = cause.text + (" (NO_PROPOSAL_CHOSEN)" if cause.by_peer else "")
    return Diagnosis(says, why, tuple(cure), _evidence(cause), (both,))


def _selectors(cause: Cause, ike: Ike | None) -> Diagnosis:
    ours = (ike.selectors if ike is not None else "") or cause.detail("ours")
    theirs = cause.detail("theirs")
    both = Sides("traffic selectors", (ours,), (theirs or "(a peer that refuses does not say)",))
    cure = [cause.cure] if cause.cure else []
    cure.append(f"at the peer (swanctl.conf): local_ts and remote_ts for {ours}, seen from its side")
    cure.append("ours come from the configuration: encapsulation (udp: port 17/PORT; ip: protocol 115) and ports")
    why = "both ends must name exactly the same protocol and ports"
    return Diagnosis(f"{cause.text} (TS_UNACCEPTABLE)", why, tuple(cure), _evidence(cause), (both,))


def _authentication(cause: Cause, ike: Ike | None) -> Diagnosis:
    method = cause.detail("method")
    who = cause.detail("identity")
    evidence = list(_evidence(cause))
    if cause.detail("ours"):
        evidence.append(f"our side: {cause.detail('ours')}")
    if ike is not None and ike.spec.remote_id and cause.by_peer:
        evidence.append(f"we asked for {ike.spec.remote_id!r} (remote_id)")
    cure = [cause.cure] if cause.cure else []
    if ike is not None and method == "pre-shared key" and ike.spec.auth == PSK:
        cure.append(f"our key is in {ike.spec.psk_file}: is it, letter by letter, the one that the peer has for us?")
    if ike is not None and ike.spec.remote_id and cause.by_peer:
        cure.append(f"a peer that is not {ike.spec.remote_id!r} says the same: is remote_id its local_id?")
    why = "the peer refuses" if cause.by_peer else "we refuse"
    why += f" {who!r}" if who else ""
    why += f", who is to prove itself by {method}" if method else ""
    label = " (AUTHENTICATION_FAILED)" if cause.kind is CauseKind.AUTHENTICATION_FAILED else ""
    return Diagnosis(cause.text + label, why, tuple(cure), tuple(evidence))


def _no_answer(cause: Cause) -> Diagnosis:
    peer = cause.detail("peer") or "the peer"
    return Diagnosis(
        f"{cause.text} to IKE",
        "the peer is down or runs no IKE, the way to it is cut, or a firewall drops udp/500 or udp/4500",
        (f"is it there? $ ping {peer}", "does strongSwan run there, with a connection for our address?",
         f"what leaves and what comes back? $ tcpdump -ni any host {peer} and 'udp port 500 or udp port 4500'"),
        _evidence(cause),
    )  # fmt: skip


def strangers(facts: Facts) -> Diagnosis | None:
    """The last peer that failed, for a profile or for one address."""
    if not facts.strangers:
        return None
    last = facts.strangers[-1]
    found = diagnosis(last.cause, facts.ike)
    seen = (f"from {last.address}, {counted(last.times, 'time')}",)
    whose = "" if facts.kind == CLIENT else f"{last.address}: "
    return Diagnosis(f"{whose}{found.broken}", found.cause, found.cure, (*seen, *found.evidence), found.sides)
