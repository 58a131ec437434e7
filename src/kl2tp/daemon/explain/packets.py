"""Where packets stop: told from what was counted twice, while something was sent.

A packet passes, on its way out: session or control connection, out policy, SA, wire; on its way in: wire, SA (by its
SPI), in policy, nftables, socket, session. Where one counter grows and the next does not, there it stops.
"""

from collections.abc import Iterable, Mapping

from kl2tp.daemon.explain.facts import CLIENT, Facts, Sample
from kl2tp.daemon.explain.layers import Diagnosis, Layer, Mark, broken, counted, ok, told, unknown, waiting
from kl2tp.kernel.associations import Association
from kl2tp.kernel.drops import Dropping, grown
from kl2tp.kernel.xfrmstat import grown as errors_grown
from kl2tp.model.addr import text
from kl2tp.model.value import dataclass

ESP, DELIVERY = "ESP packets", "delivery"
_FEW = 3
"""Packets that left since the SA is there from which on silence means something."""

OUT_ERRORS: dict[str, tuple[str, str]] = {
    "XfrmOutNoStates": ("the out policy demands an SA that is not there", ""),
    "XfrmAcquireError": ("there is no SA for them, and nobody makes one", ""),
    "XfrmOutPolBlock": ("a policy blocks them: the one that demands the SA is missing, or another outweighs it",
                        "$ ip xfrm policy"),
    "XfrmOutStateExpired": ("their SA has come to its end, and there is no other", ""),
    "XfrmOutStateSeqError": ("the sequence numbers of their SA are used up", "$ kl2tp apply"),
    "XfrmOutStateProtoError": ("the kernel fails to encrypt them", "$ dmesg"),
    "XfrmOutBundleGenError": ("the kernel cannot find their way", "$ ip route get {remote}"),
    "XfrmOutPolError": ("the out policy cannot be applied", "$ ip xfrm policy"),
    "XfrmOutError": ("the kernel fails to send them", "$ dmesg"),
}  # fmt: skip
"""What a counter of xfrm_stat means for packets that leave, and a command that shows more."""
IN_ERRORS: dict[str, tuple[str, str]] = {
    "XfrmInStateProtoError": ("their integrity check fails: the peer protects them with another key or cipher", ""),
    "XfrmInStateSeqError": ("they are older than the replay window, or were received before", ""),
    "XfrmInNoStates": ("they name an SPI for which there is no SA here", "$ ip -s xfrm state"),
    "XfrmInStateMismatch": ("they come as plain ESP for an SA of ESP in UDP, or the other way round", ""),
    "XfrmInStateModeError": ("they are in another mode than their SA (transport, tunnel)", ""),
    "XfrmInStateExpired": ("their SA has come to its end", ""),
    "XfrmInStateInvalid": ("their SA is about to go", ""),
    "XfrmInHdrError": ("their ESP header is broken", ""),
}
"""The same for packets that come, before they are decrypted..."""
POLICY_ERRORS: dict[str, str] = {
    "XfrmInPolBlock": "a policy blocks them: the in policy that accepts them is missing, or another outweighs it",
    "XfrmInTmplMismatch": "the in policy demands another SA (reqid or mode) than the one they came out of, or they came"
    " in clear",
    "XfrmInNoPols": "there is no in policy for them",
    "XfrmInPolError": "the in policy cannot be applied",
}  # fmt: skip
"""...and after."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What has passed where, between two samples and in all."""

    offered: int
    """To IPsec, by our session or control connection; -1: not known."""
    out: int
    into: int
    taken: int
    """By our session or control connection; -1: not known."""
    all_out: int
    all_in: int
    unauthentic: int
    all_unauthentic: int
    replayed: int
    errors: Mapping[str, int]
    drops: tuple[tuple[Dropping, int], ...]
    replaced: bool = False
    """SAs have gone meanwhile, and with them what they had counted."""


def count(facts: Facts) -> Counts:
    """Compare both samples."""
    one, two = facts.before, facts.after
    out, into = ways(facts, two.sas)
    before = {(sa.destination, sa.spi): sa for sa in one.sas}

    def more(sas: Iterable[Association], name: str) -> int:
        return sum(
            max(0, getattr(sa, name) - getattr(before.get((sa.destination, sa.spi)), name, 0)) for sa in sas
        )

    return Counts(
        offered=_offered(facts, one, two),
        out=more(out, "packets"),
        into=more(into, "packets"),
        taken=_taken(one, two),
        all_out=sum(sa.packets for sa in out),
        all_in=sum(sa.packets for sa in into),
        unauthentic=more(into, "unauthentic"),
        all_unauthentic=sum(sa.unauthentic for sa in into),
        replayed=more(into, "replayed") + more(into, "late"),
        errors=errors_grown(one.errors, two.errors),
        drops=tuple(grown(one.drops, two.drops)),
        replaced=not before.keys() <= {(sa.destination, sa.spi) for sa in two.sas},
    )


def ways(facts: Facts, sas: Iterable[Association]) -> tuple[list[Association], list[Association]]:
    """SAs that protect what we send, and what we receive."""
    out = [sa for sa in sas if sa.source == facts.local or sa.destination == facts.remote]
    return out, [sa for sa in sas if sa not in out]


def _sum(sample: Sample, counter: str) -> int:
    return sum(values.get(counter, 0) for values in sample.sessions.values())


def _offered(facts: Facts, one: Sample, two: Sample) -> int:
    # What a policy blocks counts as an error of the session.
    sessions = sum(_sum(two, name) - _sum(one, name) for name in ("tx_packets", "tx_errors"))
    if two.control is None or one.control is None:
        return sessions if two.sessions else -1
    repeated = two.control.retransmissions - one.control.retransmissions
    return max(0, sessions) + max(0, repeated) + facts.stirred


def _taken(one: Sample, two: Sample) -> int:
    sessions = _sum(two, "rx_packets") - _sum(one, "rx_packets")
    if two.control is None or one.control is None:
        return sessions if two.sessions else -1
    heard = two.control.silent_s < two.at - one.at
    return max(0, sessions) + heard


def layers(facts: Facts) -> list[Layer]:
    """What becomes of protected packets, on the wire's side of IPsec and on ours."""
    if not facts.protection:
        return [_clear(facts)]
    if not facts.after.sas:
        return [waiting(ESP, "there are no SAs to send by")]
    counts = count(facts)
    found = [_esp(facts, counts)]
    delivery = _delivery(facts, counts)
    return [*found, delivery] if delivery is not None else found


def _clear(facts: Facts) -> Layer:
    """Without IPsec."""
    counts = count(facts)
    details = _errors(counts)
    rule = _dropped(counts, ("input", "output", "prerouting", "postrouting"))
    if rule is not None and counts.taken <= 0:
        return broken("packets", rule, *details)
    if counts.taken > 0:
        return ok("packets", f"pass both ways, in clear ({_both(counts.offered, counts.taken)})", *details)
    seen = _both(max(0, counts.offered), 0)
    return unknown("packets", f"nothing came from the peer while we looked ({seen})", *details)


def _both(out: int, into: int) -> str:
    return f"{out:,} out, {into:,} in"


# -- to and from the wire --------------------------------------------------------------------------------------------


def _esp(facts: Facts, counts: Counts) -> Layer:
    details = _errors(counts)
    if (found := _stuck(facts, counts)) is not None:
        return broken(ESP, found, *details)
    if (found := _not_accepted(facts, counts)) is not None:
        return broken(ESP, found, *details)
    seen = f"{_both(counts.out, counts.into)} while we looked; {_both(counts.all_out, counts.all_in)} in all"
    if counts.into:
        return ok(ESP, f"pass both ways: {seen}", *details)
    if (found := _nothing_comes(facts, counts)) is not None:
        return broken(ESP, found, *details)
    if counts.all_in and not counts.out:
        return ok(ESP, f"quiet: {seen}", *details)
    words = f"nothing came from the peer while we looked: {seen}"
    perhaps = _silence(facts, counts) if counts.out >= _FEW else None
    return Layer(ESP, Mark.UNKNOWN, words, told(details), perhaps)


def association(sa: Association, *, into: bool) -> str:
    """An SA, in a line."""
    parts = [f"{sa.spi:#010x} reqid {sa.reqid:#x}", f"{sa.packets:,} packets, {sa.octets:,} bytes"]
    errors = (("replayed", sa.replayed), ("late", sa.late), ("not authentic", sa.unauthentic))
    parts += [f"{value:,} {name}" for name, value in errors if value]
    if into:
        parts.append(f"replay window {sa.replay_window}" if sa.replay_window else "no replay check")
    return ", ".join([*parts, *(("ESN",) if sa.esn else ())])


def _errors(counts: Counts) -> list[tuple[str, object]]:
    found: list[tuple[str, object]] = []
    if counts.errors:
        found.append(("xfrm_stat", ", ".join(f"{name} +{value}" for name, value in counts.errors.items())))
    if counts.drops:
        found.append(("nftables", ", ".join(f"{_rule(drop)} +{value}" for drop, value in counts.drops)))
    return found


def _stuck(facts: Facts, counts: Counts) -> Diagnosis | None:
    """What is sent does not get as far as the SA."""
    if counts.out or counts.offered <= 0 or counts.replaced:
        return None
    seen = (f"{counted(counts.offered, 'packet')} offered, none protected by the SA",)
    for name, (why, show) in OUT_ERRORS.items():
        if name in counts.errors:
            cure = [show.format(remote=text(facts.remote))] if show else []
            return Diagnosis("packets stop here, before they are encrypted", why, (*cure, *_repair(facts)),
                             (*seen, f"xfrm_stat: {name} +{counts.errors[name]}"))  # fmt: skip
    if (rule := _dropped(counts, ("output", "postrouting"))) is not None:
        return rule
    if facts.way is not None and facts.way.problem:
        return None  # the way has said so
    return Diagnosis(
        "packets stop here, before they are encrypted",
        "no counter of IPsec says why: perhaps they go another way, or are dropped before IPsec",
        ("$ nft list ruleset", f"$ ip route get {text(facts.remote)}", "$ ip -s xfrm policy"),
        seen,
    )


def _repair(facts: Facts) -> tuple[str, ...]:
    if facts.daemon:
        return ("the daemon puts back what is missing: $ journalctl -u kl2tp -n 50 says who takes it away",)
    return ("$ kl2tp apply",)


def _not_accepted(facts: Facts, counts: Counts) -> Diagnosis | None:
    """Packets of the peer come, and IPsec does not accept them."""
    if counts.unauthentic or (counts.all_unauthentic and not counts.all_in):
        return _unauthentic(facts, counts)
    if counts.replayed and not counts.into:
        return _replayed(facts, counts)
    if counts.into or not (counts.errors.keys() & IN_ERRORS.keys()):
        return None
    name = next(name for name in IN_ERRORS if name in counts.errors)
    why, show = IN_ERRORS[name]
    cure = [show] if show else []
    if name == "XfrmInNoStates":
        why, cure = _unknown_spi(facts, why, cure)
    evidence = [f"xfrm_stat: {name} +{counts.errors[name]} (of this host: they need not be the peer's)"]
    if not counts.all_in:
        evidence.append("our SA has never received one")
    return Diagnosis("ESP packets come, and are not accepted", why, tuple(cure), tuple(evidence))


def _unknown_spi(facts: Facts, why: str, cure: list[str]) -> tuple[str, list[str]]:
    if facts.protection == "IKE":
        cure = ["end what the peer has, so that both begin anew: $ swanctl --terminate --child l2tp (there)", *cure]
        return f"{why}: one end has lost its SAs, and the other goes on with old ones", cure
    why += ": SPIs come from the key and the tunnel's ids, so the ends have different keys, or other ids"
    return why, [*_COMPARE_KEYS, "are the ids of both ends mirrored (ids: OURS/THEIRS)?", *cure]


_COMPARE_KEYS = (
    "compare the key files of both ends: $ sha256sum KEYFILE",
    "copy one to the other end, then there: $ kl2tp reload",
)


def _unauthentic(facts: Facts, counts: Counts) -> Diagnosis:
    number = counts.unauthentic or counts.all_unauthentic
    evidence = (f"{counted(number, 'packet')} of the peer failed the integrity check of our SA",)
    if facts.protection == "IKE":
        why = "they are damaged on the way, or forged: with IKE both ends have the same keys"
        cure = ("look for devices that change packets on the way",)
        return Diagnosis("packets of the peer fail their integrity check", why, cure, evidence)
    return Diagnosis(
        "packets of the peer fail their integrity check",
        "the ends have different keys, or different proposals",
        (*_COMPARE_KEYS, "compare ipsec.proposal and ipsec.esn of both ends"),
        evidence,
    )


def _replayed(facts: Facts, counts: Counts) -> Diagnosis:
    evidence = (f"{counted(counts.replayed, 'packet')} refused as replayed or too old",)
    if facts.protection == "IKE":
        why = "they are repeated or much reordered on the way"
        cure = ("look for what does so on the way: several links at once, a broken bond",)
        return Diagnosis("packets of the peer are refused as replays", why, cure, evidence)
    return Diagnosis(
        "packets of the peer are refused as replays",
        "the peer has begun its sequence numbers anew (it was restarted), which a replay window does not allow with"
        " static keys",
        ("leave ipsec.replay_window at 0 with static keys", "or give both ends new keys: $ kl2tp genkey"),
        evidence,
    )


def _nothing_comes(facts: Facts, counts: Counts) -> Diagnosis | None:
    """We send by the SA, and nothing ever came back."""
    never = not counts.all_in and counts.all_out >= _FEW
    expects = facts.after.control is not None and (facts.stirred or facts.after.control.unacknowledged > 0)
    if not never and not (expects and counts.out):
        return None
    return _silence(facts, counts)


def _silence(facts: Facts, counts: Counts) -> Diagnosis:
    """What is to be said of it."""
    if (rule := _dropped(counts, ("prerouting", "input"))) is not None:
        return rule
    expects = facts.after.control is not None
    seen = [f"{counted(counts.out, 'packet')} left in ESP while we looked, none came back"]
    seen.append("none has ever come by this SA" if not counts.all_in else f"{counts.all_in:,} had come before")
    if facts.ike is not None and facts.ike.alive and facts.ike.negotiation is not None and facts.ike.negotiation.up:
        seen.append("the peer's host is there: it has made this SA with us by IKE")
    what = _esp_of(facts)
    peer = text(facts.remote)
    cure = [
        f"does ESP leave and arrive? here and at the peer: $ tcpdump -ni any host {peer} and '{what}'",
        "at the peer: $ ip -s xfrm state (do the packets of its SA in grow?) and $ cat /proc/net/xfrm_stat",
    ]
    if expects:
        cause = "ESP is lost on the way, or the peer decrypts our packets and nothing there answers L2TP"
        cure.append("at the peer: does L2TP listen ($ ss -unlp sport = 1701), and does its firewall let it in?")
    else:
        cause = "ESP is lost on the way, or the peer sends nothing: it is down, has no such tunnel, or other SAs"
    if any(sa.source_port for sa in facts.after.sas) or facts.kind == CLIENT:
        cure.append("on the way: udp/4500 must pass both ways")
    else:
        more = ": ipsec.ike.nat_traversal: always puts it into UDP" if facts.protection == "IKE" else ""
        cure.append(f"on the way: IP protocol 50 (ESP) must pass both ways; NATs and many firewalls stop it{more}")
    return Diagnosis("packets leave, and nothing comes back", cause, tuple(cure), tuple(seen))


def _esp_of(facts: Facts) -> str:
    return "udp port 4500" if any(sa.source_port for sa in facts.after.sas) else "esp"


# -- on this host ----------------------------------------------------------------------------------------------------


def _delivery(facts: Facts, counts: Counts) -> Layer | None:
    """From the SA to the socket; None where nothing came to be delivered."""
    if not counts.into or counts.taken < 0:
        return None
    if counts.taken:
        return ok(DELIVERY, f"{counted(counts.taken, 'packet')} of the peer taken by L2TP while we looked")
    seen = (f"{counted(counts.into, 'packet')} decrypted by the SA, none taken by L2TP",)
    for name, why in POLICY_ERRORS.items():
        if name in counts.errors:
            evidence = (*seen, f"xfrm_stat: {name} +{counts.errors[name]}")
            return broken(DELIVERY, Diagnosis("packets stop here, after they are decrypted: the in policy", why,
                                              ("$ ip xfrm policy", *_repair(facts)), evidence))  # fmt: skip
    if (rule := _dropped(counts, ("prerouting", "input"))) is not None:
        return broken(DELIVERY, Diagnosis(rule.broken, rule.cause, rule.cure, (*seen, *rule.evidence)))
    return broken(DELIVERY, _no_session(facts, counts, seen))


def _no_session(facts: Facts, counts: Counts, seen: tuple[str, ...]) -> Diagnosis:
    """Neither a policy nor a rule with a counter has dropped them."""
    for values in facts.after.sessions.values():
        if values.get("rx_cookie_discards"):
            return Diagnosis("packets stop at the session: their cookie is not the one that it expects",
                             "the ends have different cookies, or keys that they derive them from",
                             ("compare cookie of both ends: what one sends the other must expect",),
                             (*seen, f"{values['rx_cookie_discards']:,} discarded for their cookie"))  # fmt: skip
    mute = [drop for drop in facts.after.drops if drop.packets is None and not drop.ours and drop.hook in ("input", "")]
    suspects = tuple(f"suspect: {_rule(drop)}, which does not count" for drop in mute[:3])
    shows = tuple(dict.fromkeys(f"$ {drop.show}" for drop in mute[:3]))
    if facts.after.control is None:
        why = "no session here has the id that they bear, or a firewall of this host drops them"
        cure: tuple[str, ...] = ("are the ids of both ends mirrored (ids: OURS/THEIRS), of tunnel and session?",)
    else:
        why = "a firewall of this host drops them, or they are for another port than the one we listen at"
        cure = ("let in what came out of IPsec: $ nft insert rule FAMILY TABLE CHAIN meta secpath exists accept",)
    if mute:
        why = "a firewall of this host drops them, most likely; it does not count what it drops"
    cure = (*shows, *cure) if shows else (*cure, "$ nft list ruleset")
    return Diagnosis("packets stop here, after they are decrypted and before L2TP", why, cure, (*seen, *suspects))


def _dropped(counts: Counts, hooks: tuple[str, ...]) -> Diagnosis | None:
    """A rule of nftables that has dropped something meanwhile."""
    for drop, number in counts.drops:
        if drop.hook and drop.hook not in hooks:
            continue
        evidence = (f"{_rule(drop)} dropped {counted(number, 'packet')} while we looked",)
        if drop.ours:
            return Diagnosis(
                "packets are dropped by our own guard: they are in clear, or not for the SA that they came from",
                "the peer sends L2TP without IPsec, or by another SA",
                ("is IPsec up and its policies right at the peer? $ ip xfrm policy (there)", f"$ {drop.show}"),
                evidence,
            )
        what = f"the rule with handle {drop.handle}" if drop.handle else "the policy"
        place = f"{what} of chain {drop.where} drops them"
        cure = [f"$ {drop.show}", "let L2TP and ESP of this peer pass before it"]
        if drop.handle:
            cure.append(f"or, if it is not needed: $ nft delete rule {drop.where} handle {drop.handle}")
        return Diagnosis("packets are dropped by a firewall on this host", place, tuple(cure), evidence)
    return None


def _rule(drop: Dropping) -> str:
    return f"{drop.where} handle {drop.handle}" if drop.handle else f"policy of {drop.where}"
