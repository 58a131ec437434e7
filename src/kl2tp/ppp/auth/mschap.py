"""MS-CHAPv2, RFC 2759: CHAP in which both ends prove that they know the password.

Passwords are not changed over it (Change-Password, RFC 2759 7): a peer that demands that refuses us.
"""

import hmac
import re

from kl2tp.model.calls import MSCHAPV2
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth import hashes
from kl2tp.ppp.auth.attempt import Attempt, MschapAttempt
from kl2tp.ppp.auth.chap import CHALLENGE_SIZE, ChapAuthenticator, ChapSupplicant
from kl2tp.ppp.auth.machine import Random, shown
from kl2tp.wire.errors import ProtocolError

RESPONSE_SIZE = 49
"""16 bytes of the peer's challenge, 8 of zero, 24 of the NT response, 1 of flags (RFC 2759 4)."""
_PROOF_SIZE = 42
_NT = slice(24, 48)
_ERROR = re.compile(rb"E=([0-9]{1,10})")
_MESSAGE = re.compile(rb"M=(.*)", re.DOTALL)
AUTHENTICATION_FAILURE = 691
ERRORS = {
    646: "we may not log in at this time",
    647: "the account is disabled",
    648: "the password has expired, and we do not change passwords: let its owner do that elsewhere",
    649: "the account may not dial in",
    AUTHENTICATION_FAILURE: "wrong name or password",
    709: "the password was not changed",
}
"""RFC 2759 6."""


class Response:
    """The value of a response, as we compute it for a challenge; and what has to come back."""

    __slots__ = ("_expected", "value")

    def __init__(self, name: bytes, secret: Secret, challenge: bytes, peer_challenge: bytes) -> None:
        hashed = hashes.password_hash(secret.reveal())
        mixed = hashes.challenge_hash(peer_challenge, challenge, name)
        answer = hashes.nt_response(hashed, mixed)
        self.value = peer_challenge + bytes(8) + answer + bytes(1)
        self._expected = hashes.authenticator_response(hashed, answer, mixed)

    def proved(self, message: bytes) -> bool:
        """Whether a success message shows that the peer knows our password, too."""
        return hmac.compare_digest(message[:_PROOF_SIZE].upper(), self._expected)


def attempt(name: bytes, challenge: bytes, value: bytes, method: str) -> MschapAttempt:
    """The claim in a response. Raises ProtocolError."""
    if len(value) != RESPONSE_SIZE:
        raise ProtocolError("an MS-CHAPv2 response has another length")
    return MschapAttempt(name, challenge, value[:CHALLENGE_SIZE], value[_NT], method)


def success(claim: MschapAttempt, message: bytes) -> bytes:
    """What a Success says, RFC 2759 5. Without a verified response there can be none: raises ValueError."""
    if not claim.proof:
        raise ValueError("MS-CHAPv2 has no success without a response that was verified")
    return claim.proof + b" M=" + message


def failure(challenge: bytes, message: bytes) -> bytes:
    """What a Failure says, RFC 2759 6: no other try, and no word on what was wrong, name or password."""
    return b"E=%d R=0 C=%s V=3 M=%s" % (AUTHENTICATION_FAILURE, challenge.hex().upper().encode(), message)


def refusal(message: bytes) -> str:
    """What a peer's Failure means."""
    error, text = _ERROR.search(message), _MESSAGE.search(message)
    if error is None:
        return f"the peer refused our password: {shown(message)}".rstrip(": ")
    number = int(error[1])
    reason = f"the peer refused our password: {ERRORS.get(number, 'for a reason of its own')} (E={number})"
    return f"{reason}: {shown(text[1])}" if text and shown(text[1]) else reason


NO_PROOF = "the peer let us in without knowing our password: it is not who it should be"


class MschapAuthenticator(ChapAuthenticator):
    """Challenges the peer."""

    __slots__ = ()
    response_size = RESPONSE_SIZE

    def _claim(self, name: bytes, value: bytes) -> Attempt:
        return attempt(name, self._challenge, value, MSCHAPV2)

    def _text(self, attempt: Attempt, ok: bool, message: bytes) -> bytes:
        assert isinstance(attempt, MschapAttempt)
        return success(attempt, message) if ok else failure(self._random(CHALLENGE_SIZE), message)


class MschapSupplicant(ChapSupplicant):
    """Answers challenges, and is content only with a peer that knows the password."""

    __slots__ = ("_sent",)

    def __init__(self, name: str, secret: Secret, random: Random, *, tries: int, timeout: float) -> None:
        super().__init__(name, secret, random, tries=tries, timeout=timeout)
        self._sent: Response | None = None

    def _fits(self, challenge: bytes) -> bool:
        return len(challenge) == CHALLENGE_SIZE

    def _value(self, identifier: int, challenge: bytes) -> bytes:
        self._sent = Response(self._name, self._secret, challenge, self._random(CHALLENGE_SIZE))
        return self._sent.value

    def _complaint(self, message: bytes) -> str:
        return "" if self._sent is not None and self._sent.proved(message) else NO_PROOF

    def _refusal(self, message: bytes) -> str:
        return refusal(message)
