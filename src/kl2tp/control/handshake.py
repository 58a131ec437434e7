"""What the two ends of a tunnel tell each other of themselves, and how they prove it, RFC 2661 5.1 and 6.1 to 6.3."""

import hmac
from typing import TYPE_CHECKING, Any

from kl2tp.control.call import Avps
from kl2tp.wire.avp import Avp
from kl2tp.wire.messages import MessageType, StopCcn, challenge_response
from kl2tp.wire.values import ANALOG, ASYNCHRONOUS, DIGITAL, PROTOCOL_VERSION, SYNCHRONOUS, ResultCode

if TYPE_CHECKING:
    from kl2tp.control.tunnel import Tunnel

_CHALLENGE = 16
"""Octets of our challenges: as many as the response has."""
_VENDOR = "kl2tp"
_WRONG_RESPONSE = ResultCode(StopCcn.NOT_AUTHORIZED, 0, "the peer does not know the shared secret")
_NO_SECRET = ResultCode(StopCcn.NOT_AUTHORIZED, 0, "the peer wants a shared secret, there is none")


def introduction(tunnel: "Tunnel") -> dict[Avp, Any]:
    """What we tell of ourselves in SCCRQ and SCCRP; a challenge if the peer has to prove that it knows the secret.

    The name stands in front: who has several secrets needs it for all that is hidden.
    """
    control = tunnel.profile.control
    avps: dict[Avp, Any] = {
        Avp.PROTOCOL_VERSION: PROTOCOL_VERSION,
        Avp.HOST_NAME: control.host_name or tunnel.host.name,
        Avp.FRAMING_CAPABILITIES: SYNCHRONOUS | ASYNCHRONOUS,
        Avp.ASSIGNED_TUNNEL_ID: tunnel.id,
        Avp.RECEIVE_WINDOW_SIZE: control.window,
        Avp.VENDOR_NAME: _VENDOR,
    }
    if tunnel.host.accept_outgoing is not None:
        avps[Avp.BEARER_CAPABILITIES] = DIGITAL | ANALOG
    if tunnel.secret and control.challenge:
        tunnel.challenge = avps[Avp.CHALLENGE] = tunnel.host.entropy.take(_CHALLENGE)
    return avps


def response(kind: MessageType, tunnel: "Tunnel", avps: Avps) -> dict[Avp, Any]:
    """The answer to the challenge in a message, if there is one, to be sent in one of `kind` (5.1.1)."""
    if Avp.CHALLENGE not in avps:
        return {}
    assert tunnel.secret is not None
    return {Avp.CHALLENGE_RESPONSE: challenge_response(kind, tunnel.secret, avps[Avp.CHALLENGE])}


def refusal(kind: MessageType, tunnel: "Tunnel", avps: Avps) -> ResultCode | None:
    """Why an SCCRP or SCCCN is not acceptable."""
    if kind is MessageType.SCCRP:
        # Only now do we know the name of whom we called.
        host = tunnel.host
        tunnel.secret = host.secret_of(tunnel.profile, tunnel.peer, avps[Avp.HOST_NAME]) or tunnel.secret
    if tunnel.challenge:
        assert tunnel.secret is not None
        expected = challenge_response(kind, tunnel.secret, tunnel.challenge)
        if not hmac.compare_digest(expected, avps.get(Avp.CHALLENGE_RESPONSE, b"")):
            tunnel.host.counters.unauthorized += 1
            return _WRONG_RESPONSE
    return _NO_SECRET if Avp.CHALLENGE in avps and not tunnel.secret else None
