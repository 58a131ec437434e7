"""What charon says about a connection, in words and as plain values. No secret has a way in here."""

import time

from kl2tp.daemon.report import Json, moment
from kl2tp.ipsec.ike import Cause, ChildSa, IkeSa, Negotiation, State
from kl2tp.model.addr import text

_WORDS = {
    State.NO_CHARON: "strongSwan does not answer (systemctl status strongswan)",
    State.CONNECTING: "IKE is negotiating",
    State.UP: "",
    State.DOWN: "there is no IPsec SA",
}


def state(negotiation: Negotiation) -> str:
    """What a connection waits for, or why it has to: a sentence, and what can be done."""
    if negotiation.state is State.UP:
        return ""
    cause = negotiation.problem
    words = cause_in_words(cause) if cause is not None else _WORDS[negotiation.state]
    if negotiation.next_try is not None and negotiation.state is State.DOWN:
        words += f"; next try in {max(0.0, negotiation.next_try - time.time()):.0f} s"
    return words


def cause_in_words(cause: Cause) -> str:
    """What happened, and what can be done."""
    return f"{cause.text} ({cause.cure})" if cause.cure else cause.text


def described(negotiation: Negotiation) -> Json:
    """A connection, its IKE SAs and its IPsec SAs."""
    return {
        "ike": _connection(negotiation),
        "ike_sas": [_ike(sa) for sa in negotiation.ike],
        "ipsec_sas": [child(sa) for sa in negotiation.children],
    }


def _connection(negotiation: Negotiation) -> Json:
    cause = negotiation.problem
    return {
        "state": negotiation.state.value,
        "since": moment(negotiation.since) if negotiation.since else None,
        "loaded": negotiation.loaded,
        "problem": cause.text if cause is not None else "",
        "cure": cause.cure if cause is not None else "",
        "kind": cause.kind.value if cause is not None else None,
        **({f"problem_{name}": value for name, value in cause.details} if cause is not None else {}),
        "tries": negotiation.tries,
        "next_try": moment(negotiation.next_try) if negotiation.next_try else None,
        "rekeys": len(negotiation.rekeys),
        "last_rekey": moment(negotiation.rekeys[-1]) if negotiation.rekeys else None,
    }


def _ike(sa: IkeSa) -> Json:
    return {
        "version": sa.version,
        "state": sa.state,
        "initiator": sa.initiator,
        "spis": " ".join(sa.spis),
        "local": f"{text(sa.local)} port {sa.local_port}",
        "remote": f"{text(sa.remote)} port {sa.remote_port}",
        "local_id": sa.local_id,
        "remote_id": sa.remote_id,
        "nat": " ".join(end for end, there in (("local", sa.nat_local), ("remote", sa.nat_remote)) if there),
        "algorithms": sa.algorithms,
        "since": moment(sa.since) if sa.since else None,
        "rekey_at": moment(sa.rekey_at) if sa.rekey_at else None,
        "reauth_at": moment(sa.reauth_at) if sa.reauth_at else None,
    }


def child(sa: ChildSa) -> Json:
    """A pair of IPsec SAs."""
    return {
        "reqid": sa.reqid,
        "spi_in": f"{sa.spi_in:#010x}",
        "spi_out": f"{sa.spi_out:#010x}",
        "local": f"{text(sa.local)} port {sa.local_port}",
        "remote": f"{text(sa.remote)} port {sa.remote_port}",
        "identity": sa.remote_id,
        "encap": sa.encap,
        "cipher": cipher(sa),
        "since": moment(sa.since) if sa.since else None,
        "rekey_at": moment(sa.rekey_at) if sa.rekey_at else None,
        "expires_at": moment(sa.expires_at) if sa.expires_at else None,
        "rekeyed": sa.rekeyed,
        "orphaned": sa.orphaned,
    }


def cipher(sa: ChildSa) -> str:
    """The algorithms of a pair of SAs."""
    return "/".join(word for word in (sa.encryption, sa.integrity) if word)
