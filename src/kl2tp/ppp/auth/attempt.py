"""A peer's claim to be somebody, with what proves it: verified against the secret of that somebody, or of nobody.

Verifying takes as long whether the secret is right, wrong, or there is none since nobody has that name: the last with
None in place of the secret. What was received is never shown.
"""

import hmac
from hashlib import sha256

from kl2tp.model.calls import CHAP, MSCHAPV2, PAP
from kl2tp.model.names import text
from kl2tp.model.objects import Secret
from kl2tp.ppp.auth import hashes

_NOBODYS = b"a secret that nobody has"


class Attempt:
    """One attempt; `verify` is each method's own."""

    __slots__ = ("identity", "method")

    def __init__(self, name: bytes, method: str) -> None:
        self.identity = text(name)
        """Who the peer says it is, fit to be shown."""
        self.method = method

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.identity!r} by {self.method}>"

    def verify(self, secret: bytes | None) -> bool:
        """Whether the peer knows the secret; with None, never."""
        right = self._matches(_NOBODYS if secret is None else secret)
        return right and secret is not None

    def _matches(self, secret: bytes) -> bool:
        raise NotImplementedError


class PapAttempt(Attempt):
    """The password itself."""

    __slots__ = ("_password",)

    def __init__(self, name: bytes, password: bytes) -> None:
        super().__init__(name, PAP)
        self._password = Secret(password)

    def _matches(self, secret: bytes) -> bool:
        # The digests are of one length, so that the time tells nothing of the secret's.
        return hmac.compare_digest(sha256(self._password.reveal()).digest(), sha256(secret).digest())


class ChapAttempt(Attempt):
    """A response to a challenge, with MD5."""

    __slots__ = ("_challenge", "_identifier", "_response")

    def __init__(self, name: bytes, identifier: int, challenge: bytes, response: bytes, method: str = CHAP) -> None:
        super().__init__(name, method)
        self._identifier = identifier
        self._challenge = challenge
        self._response = response

    def _matches(self, secret: bytes) -> bool:
        expected = hashes.chap_response(self._identifier, secret, self._challenge)
        return hmac.compare_digest(expected, self._response)


class MschapAttempt(Attempt):
    """A response to a challenge by MS-CHAPv2, and what proves to the peer that we know the secret, too."""

    __slots__ = ("_challenge", "_name", "_peer_challenge", "_response", "proof")

    def __init__(
        self, name: bytes, challenge: bytes, peer_challenge: bytes, response: bytes, method: str = MSCHAPV2
    ) -> None:
        super().__init__(name, method)
        self._name = name
        self._challenge = challenge
        self._peer_challenge = peer_challenge
        self._response = response
        self.proof = b""
        """`S=...`, once verified."""

    def _matches(self, secret: bytes) -> bool:
        hashed = hashes.password_hash(secret)
        challenge = hashes.challenge_hash(self._peer_challenge, self._challenge, self._name)
        expected = hashes.nt_response(hashed, challenge)
        proof = hashes.authenticator_response(hashed, self._response, challenge)
        right = hmac.compare_digest(expected, self._response)
        self.proof = proof if right else b""
        return right
