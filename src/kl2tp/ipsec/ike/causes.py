"""From charon's log to causes: why a negotiation failed, who refused whom, and what mends it.

charon tells the whole story only in its log, line by line: what each side proposed stands some lines before the
refusal. So each IKE SA has a few facts that later lines draw on. The lines are those of strongSwan 5.9 and 6.0.
A responder does not know at first which connection a peer means; then its address is all there is (`Finding.name` "").
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from kl2tp.ipsec.ike.negotiation import Cause, CauseKind
from kl2tp.model.value import dataclass
from kl2tp.wire.vici import Section, ViciError, number, text

UNNAMED = "(unnamed)"
"""How charon calls an IKE SA for which no connection is chosen yet."""
REMEMBERED = 512
"""IKE SAs whose facts are kept; the log of older ones has long ended."""
_GROUPS = frozenset(("IKE", "CFG", "KNL"))
_LONGEST = 400
"""Characters of a fact: proposals may go on for ever."""
_MANY = 2
"""Retransmissions from which on silence is worth a word."""
PSK, CERTIFICATE, EAP = "pre-shared key", "certificate", "EAP"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a line of the log means."""

    name: str
    """Of the connection; "" while charon does not know."""
    ike_id: int
    peer: str
    """Address; "" where the log did not say."""
    cause: Cause
    final: bool
    """Whether this attempt is over; otherwise it is a hint that counts if things end."""


class Facts:
    """Of one IKE SA, as far as its log goes."""

    __slots__ = ("certificate", "configured", "established", "garbled", "identities", "kernel", "method", "myself",
                 "peer", "received", "subject")  # fmt: skip

    def __init__(self) -> None:
        self.peer = ""
        self.received = self.configured = ""
        self.identities = ""
        self.method = self.myself = ""
        """How and as whom we authenticate."""
        self.subject = self.certificate = ""
        """The peer's certificate, and what is wrong with it."""
        self.kernel = ""
        self.established = False
        self.garbled = False
        """Messages could not be deciphered: with IKEv1 this is how different keys look."""


_Judge: TypeAlias = Callable[["re.Match[str]", Facts], "Cause | None"]


class Log:
    """Reads charon's log events."""

    def __init__(self) -> None:
        self._facts: OrderedDict[int, Facts] = OrderedDict()

    def clear(self) -> None:
        """Another charon: its ids begin anew."""
        self._facts.clear()

    def peer_of(self, ike_id: int) -> str:
        """The address at the other end of an IKE SA, if its log said so."""
        facts = self._facts.get(ike_id)
        return facts.peer if facts else ""

    def take(self, event: Section, now: float) -> Finding | None:
        """What a `log` event says about one of the IKE SAs, if it says anything."""
        if text(event, "group") not in _GROUPS or "ikesa-uniqueid" not in event:
            return None
        try:
            ike_id = number(event, "ikesa-uniqueid")
        except ViciError:
            return None
        facts = self._of(ike_id)
        for line in text(event, "msg").splitlines():
            if (found := judge(line, facts)) is None:
                continue
            cause, final = found
            name = text(event, "ikesa-name")
            return Finding("" if name == UNNAMED else name, ike_id, facts.peer, _dated(cause, now), final)
        return None

    def _of(self, ike_id: int) -> Facts:
        facts = self._facts.get(ike_id)
        if facts is None:
            facts = self._facts[ike_id] = Facts()
            if len(self._facts) > REMEMBERED:
                self._facts.popitem(last=False)
        return facts


def judge(line: str, facts: Facts) -> tuple[Cause, bool] | None:
    """The meaning of a line after others: a cause, and whether it is the end."""
    for fact, note in _FACTS:
        if match := fact.match(line):
            note(match, facts)
            return None
    for pattern, build, final in _CAUSES:
        if match := pattern.match(line):
            cause = build(match, facts)
            return None if cause is None else (cause, final)
    return None


def refused(error: str, now: float) -> Cause:
    """The cause behind charon's answer to `load-conn`."""
    match = re.search(r"invalid value for: (\S+?),", error)
    cure = ""
    if match and match[1].endswith("proposals"):
        cure = "use algorithms that this strongSwan knows: swanctl --list-algs; perhaps a plugin is not loaded"
    elif match and match[1] in ("certs", "cacerts"):
        cure = "the certificate must be PEM or DER with a key type that strongSwan's plugins know"
    return Cause(CauseKind.CONFIGURATION, f"strongSwan does not take the connection: {error}", cure, when=now)


def _dated(cause: Cause, now: float) -> Cause:
    return replace(cause, when=now)


def _cause(kind: CauseKind, says: str, cure: str = "", *, by_peer: bool = False, **details: str) -> Cause:
    return Cause(kind, says, cure, tuple((key, value) for key, value in details.items() if value), 0.0, by_peer)


# --- facts, for later lines


def _peer(match: "re.Match[str]", facts: Facts) -> None:
    facts.peer = match[1]
    facts.received = facts.configured = facts.certificate = ""


def _established(match: "re.Match[str]", facts: Facts) -> None:
    facts.established = True
    facts.peer = match[1]


def _noted(name: str) -> Callable[["re.Match[str]", Facts], None]:
    def note(match: "re.Match[str]", facts: Facts) -> None:
        setattr(facts, name, match[1][:_LONGEST])

    return note


def _garbled(_: "re.Match[str]", facts: Facts) -> None:
    facts.garbled = not facts.established


def _myself(match: "re.Match[str]", facts: Facts) -> None:
    facts.myself = match[1]
    facts.method = _method(match[2])


def _method(words: str) -> str:
    if words.startswith("pre-shared"):
        return PSK
    return EAP if words.startswith("EAP") else CERTIFICATE


def _issuer(match: "re.Match[str]", facts: Facts) -> None:
    facts.certificate = f"its issuer {match[1]} is none of the CAs that we trust"


def _invalid(match: "re.Match[str]", facts: Facts) -> None:
    facts.certificate = f"it is {match[1].replace('valid from', 'valid only from')}"


_FACTS = tuple(
    (re.compile(pattern), note)
    for pattern, note in (
        (r"(\S+) is initiating an? .*IKE_SA$", _peer),
        (r"initiating .*IKE_SA \S+ to (\S+)$", _peer),
        (r"IKE_SA \S+ established between .*\.\.\.(\S+?)\[", _established),
        (r"received proposals: (.*)", _noted("received")),
        (r"configured proposals: (.*)", _noted("configured")),
        (r"looking for .*configs matching (.*)", _noted("identities")),
        (r"authentication of '(.*)' \(myself\) with (.*)", _myself),
        (r"received end entity cert \"(.*)\"", _noted("subject")),
        (r"  issuer is (\".*\")", _issuer),
        (r"no issuer certificate found for (\".*\")", _issuer),
        (r"(?:subject|issuer) certificate invalid \((.*)\)", _invalid),
        (r"certificate was (revoked.*)", _invalid),
        (r"received netlink error: (.*)", _noted("kernel")),
        (r"message (?:parsing|verification) failed", _garbled),
    )
)


# --- causes


def _ours_unacceptable(_: "re.Match[str]", facts: Facts) -> Cause:
    """The peer proposed what we don't take."""
    layer = "IPsec" if facts.received.startswith(("ESP", "AH")) else "IKE"
    return _cause(
        CauseKind.NO_PROPOSAL,
        f"the peer's {layer} proposals and ours have nothing in common",
        f"give both ends one proposal in common ({'esp_proposals' if layer == 'IPsec' else 'proposals'})",
        layer=layer,
        theirs=facts.received,
        ours=facts.configured,
        peer=facts.peer,
    )


def _no_proposal_chosen(match: "re.Match[str]", facts: Facts) -> Cause:
    """The peer took nothing of what we proposed; it never says what it would take."""
    layer = "IPsec" if facts.established or "CHILD_SA" in match[0] else "IKE"
    cure = "compare with the peer's configuration; its log has both sides' proposals"
    if layer == "IKE":
        cure += "; a peer that knows no connection for our address, or not this version of IKE, says the same"
    return _cause(
        CauseKind.NO_PROPOSAL,
        f"the peer accepts none of our {layer} proposals",
        cure,
        by_peer=True,
        layer=layer,
        ours=facts.configured,
        peer=facts.peer,
    )


def _refused_us(_: "re.Match[str]", facts: Facts) -> Cause:
    cures = {
        PSK: "the pre-shared keys of both ends must be the same, and the peer must know us by this identity",
        CERTIFICATE: "the peer must trust our certificate's CA, and know us by this identity",
        EAP: "check the user's name and password at the peer",
    }
    who = f" as {facts.myself!r}" if facts.myself else ""
    return _cause(
        CauseKind.AUTHENTICATION_FAILED,
        f"the peer does not believe who we are{who}" + (f" ({facts.method})" if facts.method else ""),
        cures.get(facts.method, "compare secrets and identities of both ends"),
        by_peer=True,
        identity=facts.myself,
        method=facts.method,
        peer=facts.peer,
    )


def _mac_mismatch(match: "re.Match[str]", facts: Facts) -> Cause:
    return _cause(
        CauseKind.AUTHENTICATION_FAILED,
        f"the peer {match[2]!r} has another pre-shared key than we have for it",
        "give both ends the same key",
        identity=match[2],
        ours=match[1],
        method=PSK,
        peer=facts.peer,
    )


def _no_psk(match: "re.Match[str]", facts: Facts) -> Cause:
    mine, theirs = match[1], match[2]
    return _cause(
        CauseKind.NO_SECRET,
        f"there is no pre-shared key for us {mine!r} and the peer {theirs!r}",
        f"add to the file of keys a line: {theirs} KEY (or %any KEY)",
        identity=theirs,
        ours=mine,
        method=PSK,
        peer=facts.peer,
    )


def _no_eap_secret(match: "re.Match[str]", facts: Facts) -> Cause:
    return _cause(
        CauseKind.NO_SECRET,
        f"there is no EAP password for the user {match[1]!r}",
        "check eap: its user and password file",
        identity=match[1],
        method=EAP,
        peer=facts.peer,
    )


def _eap_failed(match: "re.Match[str]", facts: Facts) -> Cause:
    who = match.groupdict().get("who") or ""
    says = f"the user {who!r} has not proved itself by EAP" if who else "the peer does not accept our EAP login"
    cure = "check the user's name and password on both ends"
    return _cause(
        CauseKind.AUTHENTICATION_FAILED, says, cure, by_peer=not who, identity=who, method=EAP, peer=facts.peer
    )


def _untrusted(match: "re.Match[str]", facts: Facts) -> Cause:
    who = match[1]
    why = facts.certificate or ("it has sent none" if not facts.subject else "its chain does not end at a trusted CA")
    cure = "add the CA to ca_file" if "issuer" in why else "give the peer a valid certificate from a CA that we trust"
    if not facts.subject and not facts.certificate:
        cure = "both ends must authenticate the same way; the identity must stand in the peer's certificate"
    return _cause(
        CauseKind.CERTIFICATE,
        f"the certificate of the peer {who!r} is not accepted: {why}",
        cure,
        identity=who,
        certificate=facts.subject,
        method=CERTIFICATE,
        peer=facts.peer,
    )


def _no_private_key(match: "re.Match[str]", facts: Facts) -> Cause:
    return _cause(
        CauseKind.CERTIFICATE,
        f"we have no private key for {match[1]!r}",
        "the key must belong to our certificate, and the identity must stand in the certificate",
        identity=match[1],
        method=CERTIFICATE,
        peer=facts.peer,
    )


def _silence(match: "re.Match[str]", facts: Facts) -> Cause | None:
    """Once may be a lost packet."""
    if match.groupdict().get("times") and int(match["times"]) < _MANY:
        return None
    if facts.garbled:
        return _keys_differ(match, facts)
    where = facts.peer or "the peer"
    return _cause(
        CauseKind.NO_ANSWER,
        f"{where} does not answer",
        "is IKE running there, and do udp/500 and udp/4500 pass in both directions?",
        peer=facts.peer,
    )


def _keys_differ(_: "re.Match[str]", facts: Facts) -> Cause:
    return _cause(
        CauseKind.AUTHENTICATION_FAILED,
        "messages cannot be deciphered: with IKEv1 this is how different pre-shared keys look",
        "give both ends the same key",
        method=PSK,
        identity=facts.peer,
        peer=facts.peer,
    )


def _undecipherable(match: "re.Match[str]", facts: Facts) -> Cause | None:
    return _keys_differ(match, facts) if facts.garbled else None


def _their_selectors(match: "re.Match[str]", facts: Facts) -> Cause:
    """The peer wants to protect something else: in charon's order, ours first, or theirs first with IKEv1."""
    return _cause(
        CauseKind.TS_UNACCEPTABLE,
        "the peer wants to protect other traffic than L2TP as configured",
        "both ends must name the same protocol and ports: 17/1701 is usual",
        theirs=f"{match[1]} === {match[2]}",
        peer=facts.peer,
    )


def _ts_refused(_: "re.Match[str]", facts: Facts) -> Cause:
    return _cause(
        CauseKind.TS_UNACCEPTABLE,
        "the peer does not want to protect this traffic",
        "both ends must name the same protocol and ports: 17/1701 is usual; the peer's log has both",
        by_peer=True,
        peer=facts.peer,
    )


def _invalid_id(match: "re.Match[str]", facts: Facts) -> Cause:
    """IKEv1 says so for traffic selectors in quick mode, for identities in main mode."""
    if facts.established:
        return _ts_refused(match, facts)
    says = "the peer does not know us by our identity"
    return _cause(CauseKind.IDENTITY, says, "compare the identities of both ends", by_peer=True, peer=facts.peer)


def _no_ike_config(match: "re.Match[str]", facts: Facts) -> Cause:
    facts.peer = match[2]
    return _cause(
        CauseKind.NO_CONFIG,
        f"{match[2]} wants IPsec with {match[1]}, and no connection is there for these addresses and its IKE version",
        "is the peer's address as configured, and does it speak the same version of IKE?",
        ours=match[1],
        peer=match[2],
    )


def _no_peer_config(_match: "re.Match[str]", facts: Facts) -> Cause:
    """The identities are in the line before: `OURS[AS THE PEER CALLS US]...THEIRS[AS IT CALLS ITSELF]`."""
    ours, _, theirs = facts.identities.partition("...")
    address, _, identity = theirs.rstrip("]").partition("[")
    wanted = ours.rstrip("]").partition("[")[2]
    return _cause(
        CauseKind.NO_CONFIG,
        f"no connection is there for a peer who calls itself {identity!r}" + (f" and us {wanted!r}" if wanted else ""),
        "compare local_id and remote_id of both ends",
        identity=identity,
        ours=wanted,
        peer=facts.peer or address,
    )


def _other_methods(match: "re.Match[str]", facts: Facts) -> Cause:
    says = f"the peer authenticates by {match[1]}, and no connection for it does"
    cure = "both ends must authenticate the same way"
    return _cause(CauseKind.NO_CONFIG, says, cure, method=match[1], peer=facts.peer)


def _somebody_else(match: "re.Match[str]", facts: Facts) -> Cause:
    theirs, ours = match.groupdict().get("theirs") or "", match["ours"]
    says = f"the peer is {theirs!r}, not {ours!r}" if theirs else f"the peer is not {ours!r}"
    return _cause(CauseKind.IDENTITY, says, "correct remote_id, or the peer's identity",
                  identity=theirs, ours=ours, peer=facts.peer)  # fmt: skip


def _constrained(match: "re.Match[str]", facts: Facts) -> Cause:
    """The peer has proved who it is, and that is not enough for this connection: another one trusts its CA."""
    who = f" of the peer {facts.subject!r}" if facts.subject else " of the peer"
    ca = match.groupdict().get("ca")
    why = f"it is not from the CA {ca!r} that this connection demands" if ca else match["why"]
    cure = "add the peer's CA to ca_file, or give the peer a certificate from ours" if ca else "compare both ends"
    return _cause(
        CauseKind.CERTIFICATE,
        f"the certificate{who} is not accepted: {why}",
        cure,
        identity=facts.subject,
        method=CERTIFICATE,
        peer=facts.peer,
    )


def _aggressive(_: "re.Match[str]", facts: Facts) -> Cause:
    says = "the peer wants IKEv1 aggressive mode with a pre-shared key, which gives its hash to everybody"
    return _cause(CauseKind.UNSUPPORTED, says, "configure main mode at the peer", peer=facts.peer)


def _kernel(_: "re.Match[str]", facts: Facts) -> Cause:
    why = f": {facts.kernel}" if facts.kernel else ""
    cure = "kl2tp doctor shows whether the kernel has ESP and the algorithms; dmesg may have more"
    return _cause(CauseKind.KERNEL, f"the kernel does not take the IPsec SA{why}", cure, peer=facts.peer)


def _closed(_: "re.Match[str]", facts: Facts) -> Cause:
    says = f"{facts.peer or 'the peer'} has closed the connection"
    return _cause(CauseKind.CLOSED, says, "its log has the reason", by_peer=True, peer=facts.peer)


def _replaced(match: "re.Match[str]", facts: Facts) -> Cause:
    says = f"the peer {match[1]!r} has made a new IKE SA in its place"
    return _cause(CauseKind.CLOSED, says, by_peer=True, identity=match[1], peer=facts.peer)


def _unresolved(match: "re.Match[str]", facts: Facts) -> Cause:
    return _cause(CauseKind.CONFIGURATION, match[0], "give the peer's address", peer=facts.peer)


def _notified(match: "re.Match[str]", facts: Facts) -> Cause:
    kind = CauseKind.VERSION if "MAJOR_VERSION" in match[1] else CauseKind.OTHER
    cure = "its log has the reason"
    if match[1] == "INVALID_KE_PAYLOAD":
        cure += "; with IKEv1, strongSwan says so when it has no pre-shared key for us"
    return _cause(kind, f"the peer refuses: {match[1]}", cure, by_peer=True, peer=facts.peer)


_NOTIFY = r"(?: notify error| error notify| notify, no CHILD_SA built)"
_CAUSES: tuple[tuple["re.Pattern[str]", _Judge, bool], ...] = tuple(
    (re.compile(pattern), build, final)
    for pattern, build, final in (
        (r"(?:received proposals unacceptable|no (?:acceptable |matching )?proposal found)", _ours_unacceptable, True),
        (rf"received NO_PROPOSAL_CHOSEN{_NOTIFY}", _no_proposal_chosen, True),
        (rf"received AUTHENTICATION_FAILED{_NOTIFY}", _refused_us, True),
        (r"tried \d+ shared keys? for '(.*)' - '(.*)', but MAC mismatched", _mac_mismatch, True),
        (r"no shared key found for '?(.*?)'?(?:\[.*\])? - '?(.*?)'?(?:\[.*\])?$", _no_psk, True),
        (r"no EAP key found for hosts '(.*)' - '.*'", _no_eap_secret, True),
        (r"EAP method \S+ failed for peer (?P<who>.*)", _eap_failed, True),
        (r"received EAP_FAILURE, EAP authentication failed", _eap_failed, True),
        (r"no trusted \S+ public key found for '(.*)'", _untrusted, True),
        (r"no private key found for '(.*)'", _no_private_key, True),
        (r"(?:sending )?retransmit (?P<times>\d+) of request", _silence, False),
        (r"giving up after \d+ retransmits", _silence, True),
        (r"establishing IKE_SA failed, peer not responding", _silence, True),
        (r"DPD check timed out", _silence, True),
        (r"ID_PROT request with message ID \d+ processing failed", _undecipherable, True),
        (r"traffic selectors (.*) === (.*) unacceptable", _their_selectors, True),
        (r"no matching CHILD_SA config found for (.*) === (.*)", _their_selectors, True),
        (rf"received TS_UNACCEPTABLE{_NOTIFY}", _ts_refused, True),
        (rf"received INVALID_ID_INFORMATION{_NOTIFY}", _invalid_id, True),
        (r"no IKE config found for (\S+)\.\.\.(\S+?), sending", _no_ike_config, True),
        (r"no (?:matching )?peer config found", _no_peer_config, True),
        (r"found \d+ matching configs?, but none allows (.*) authentication", _other_methods, True),
        (r"IDir '(?P<theirs>.*)' does not match to '(?P<ours>.*)'", _somebody_else, True),
        (r"constraint check failed: identity '(?P<ours>.*)' required", _somebody_else, True),
        (r"constraint check failed: peer not authenticated by CA '(?P<ca>.*)'", _constrained, True),
        (r"constraint check failed: (?P<why>.*)", _constrained, True),
        (r"Aggressive Mode PSK disabled for security reasons", _aggressive, True),
        (r"unable to install .*(?:\(SAD\)|\(SPD\)) in kernel", _kernel, True),
        (r"received DELETE for (?:IKE_SA|ESP CHILD_SA)", _closed, False),
        (r"(?:deleting|schedule delete of) duplicate IKE_SA for peer '(.*)' due to uniqueness", _replaced, False),
        (r"unable to resolve .*initiate aborted", _unresolved, True),
        (rf"received (\w+){_NOTIFY}", _notified, True),
    )
)
