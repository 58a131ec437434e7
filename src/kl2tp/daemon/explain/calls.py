"""The layers of calls: where we listen, the control connection, PPP and what it has brought."""

from kl2tp.daemon.explain.facts import CALL, CLIENT, PROFILE, Control, Facts, Ppp
from kl2tp.daemon.explain.layers import Diagnosis, Layer, broken, counted, duration, ok, unknown, waiting
from kl2tp.daemon.explain.negotiating import strangers

LISTENING, PEERS, CONTROL, PPP, ADDRESSES = "listening", "peers", "control connection", "PPP", "addresses"


def listening(facts: Facts) -> list[Layer]:
    """Where a profile waits for calls."""
    if facts.kind != PROFILE:
        return []
    if facts.deaf:
        found = Diagnosis("a place cannot be listened at", facts.deaf[0],
                          ("$ ss -unlp sport = 1701", "$ kl2tp status"), facts.deaf)  # fmt: skip
        return [broken(LISTENING, found)]
    if not facts.listening:
        return [waiting(LISTENING, "until the place is protected")]
    return [ok(LISTENING, ", ".join(facts.listening))]


def peers(facts: Facts) -> list[Layer]:
    """Who failed of late: to a profile, or from an address."""
    failed = strangers(facts)
    if facts.kind == PROFILE:
        some = counted(facts.clients, "session")
        if failed is None:
            return [ok(PEERS, f"{some}; none has failed of late")]
        return [broken(PEERS, failed, text=f"{some}; the last to fail: {failed.broken}")]
    return [broken(PEERS, failed)] if failed is not None else []


def control(facts: Facts) -> list[Layer]:
    """The control connection of L2TPv2."""
    if facts.kind not in (CALL, CLIENT):
        return []
    found = facts.after.control
    if found is None:
        return [_not_yet(facts)]
    details = _details(found)
    if found.suspended:
        return [waiting(CONTROL, "waits for its IPsec SA, which is gone", *details)]
    if not found.established:
        return [_setting_up(facts, found, details)]
    if _mute(facts):
        wrong = Diagnosis(
            "the peer does not answer on the control connection",
            "our messages are repeated and not acknowledged: see above where packets stop; if nowhere, its L2TP hangs",
            ("at the peer: is its L2TP daemon at work? its log", "at the end it is given up, and called anew"),
            (f"{counted(found.unacknowledged, 'message')} not acknowledged, nothing heard for {found.silent_s:.0f} s",),
        )
        return [broken(CONTROL, wrong, *details)]
    return [ok(CONTROL, f"established with {found.peer} ({found.host_name or 'no name'})", *details)]


def _mute(facts: Facts) -> bool:
    one, two = facts.before.control, facts.after.control
    if one is None or two is None or not two.unacknowledged:
        return False
    return two.silent_s >= facts.after.at - facts.before.at and two.retransmissions > one.retransmissions


def _details(found: Control) -> list[tuple[str, object]]:
    return [
        ("ends", f"{found.local} - {found.peer}"),
        ("ids", f"{found.id}/{found.peer_id or '?'} (ours/theirs)"),
        ("not acknowledged", found.unacknowledged or ""),
        ("retransmissions", found.retransmissions or ""),
        ("last heard", f"{duration(found.silent_s)} ago"),
        ("socket", "its own" if found.socket else "the listener's"),
    ]


def _setting_up(facts: Facts, found: Control, details: list[tuple[str, object]]) -> Layer:
    words = f"is being set up ({found.state.replace('_', ' ')})"
    if not found.retransmissions:
        return waiting(CONTROL, words, *details)
    wrong = Diagnosis(
        f"{found.peer} does not answer the request for an L2TP tunnel (SCCRQ)",
        "the SA may be up and L2TP not: see above where packets stop; if nowhere, nothing listens at the peer",
        ("at the peer: does L2TP listen? $ ss -unlp sport = 1701", "does its L2TP daemon take calls from us? its log"),
        (f"sent {counted(found.retransmissions + 1, 'time')}, never answered",),
    )
    return broken(CONTROL, wrong, *details)


def _not_yet(facts: Facts) -> Layer:
    if facts.ended:
        return broken(CONTROL, Diagnosis("there is no such session any more", f"it ended: {facts.ended}",
                                         ("$ kl2tp sessions --ended",)))  # fmt: skip
    if facts.state == "waiting for IKE" or (facts.protection == "IKE" and not facts.after.sas):
        return waiting(CONTROL, "the call is placed when there is an IPsec SA")
    tries = (("next try", f"in {duration(facts.next_try_s)}" if facts.next_try_s else ""),)
    if facts.problem:
        return broken(CONTROL, _call_failed(facts), *tries)
    return waiting(CONTROL, "the call is about to be placed", *tries)


def _call_failed(facts: Facts) -> Diagnosis:
    silent = "not answer" in facts.problem
    cure: tuple[str, ...] = ("$ kl2tp events", "the log of the L2TP daemon at the peer")
    if silent:
        cure = ("see above where packets stop", "at the peer: does L2TP listen? $ ss -unlp sport = 1701", *cure)
    return Diagnosis("the call did not come up", facts.problem, cure)


def ppp(facts: Facts) -> list[Layer]:
    """PPP, and the addresses that it has agreed on."""
    if facts.kind not in (CALL, CLIENT) or facts.after.control is None:
        return []
    found = facts.ppp
    if found is None:
        return [waiting(PPP, "begins when the call is up")]
    details = [
        ("user", found.user),
        ("MRU", f"{found.mru} (ours) {found.peer_mru} (peer's)" if found.mru else ""),
    ]
    if found.state != "up":
        return [waiting(PPP, f"{found.phase} ({found.state})", *details)]
    return [ok(PPP, f"up, {found.user or 'nobody authenticated'}", *details), _addresses(found)]


def _addresses(found: Ppp) -> Layer:
    if not found.peer and not found.local:
        return unknown(ADDRESSES, "no IPv4 address was agreed on")
    return ok(ADDRESSES, f"{found.local or '?'} here, {found.peer or '?'} there")
