"""The Challenge Handshake Authentication Protocol, RFC 1994, with MD5; MS-CHAPv2 is built on it.

A challenge that is not answered is sent again as it was: with a new one each time, a peer that is slower than our timer
would never answer the current one. The same goes for responses, since a Success may get lost (RFC 1994 4.2).
"""

from kl2tp.model.objects import Secret
from kl2tp.ppp.auth import hashes
from kl2tp.ppp.auth.attempt import Attempt, ChapAttempt
from kl2tp.ppp.auth.machine import REFUSED, TIMEOUT, TRIES, WELCOME, Machine, Random, sent, shown
from kl2tp.ppp.auth.packet import decode, encode, pack_value, unpack_value
from kl2tp.wire.errors import ProtocolError

CHALLENGE, RESPONSE, SUCCESS, FAILURE = 1, 2, 3, 4
CHALLENGE_SIZE = 16
MD5_SIZE = 16


class ChapAuthenticator(Machine):
    """Challenges the peer; with `interval`, seconds, again and again after its success."""

    __slots__ = ("_challenge", "_identifier", "_interval", "_name", "_random", "_reply", "attempt", "identity")
    response_size = MD5_SIZE

    def __init__(
        self, name: str, random: Random, *, tries: int = TRIES, timeout: float = TIMEOUT, interval: float = 0.0
    ) -> None:
        super().__init__(tries, timeout)
        self._name = name.encode()
        self._random = random
        self._interval = interval
        self._identifier = random(1)[0]
        self._challenge = b""
        """Empty: none waits for its response."""
        self._reply = b""
        """The last Success or Failure: what a repeated response gets."""
        self.attempt: Attempt | None = None
        self.identity = ""

    def start(self, now: float) -> None:
        """Challenge the peer."""
        self._identifier = self._identifier + 1 & 0xFF
        self._challenge = self._random(CHALLENGE_SIZE)
        self._reply = b""
        self._ask(encode(CHALLENGE, self._identifier, pack_value(self._challenge) + self._name), now)

    def go_on(self, identity: str, now: float) -> None:
        """Without a challenge, until the next is due."""
        self.identity, self.result = identity, True
        self.deadline = now + self._interval if self._interval else None

    def receive(self, information: bytes, now: float) -> None:
        """Take a packet."""
        try:
            code, identifier, data = decode(information)
            if code != RESPONSE or identifier != self._identifier:
                return
            value, name = unpack_value(data)
        except ProtocolError:
            return
        if self._reply:
            self._say(self._reply)  # "MUST return the same reply Code", RFC 1994 4.1
        elif len(value) == self.response_size and self._challenge:
            self._judge(self._claim(name, value), now)

    def _judge(self, attempt: Attempt, now: float) -> None:
        """A peer that has shown who it is may not become somebody else."""
        self._stop()
        self._challenge = b""
        self.attempt = attempt
        if self.result and attempt.identity != self.identity:
            self.verdict(False, "", now)
        else:
            self.identity = attempt.identity

    def verdict(self, ok: bool, message: str, now: float) -> None:
        """Answer the attempt."""
        if self.attempt is None:
            return
        text = self._text(self.attempt, ok, sent(message, WELCOME if ok else REFUSED))
        self.attempt = None
        self._reply = encode(SUCCESS if ok else FAILURE, self._identifier, text)
        self._say(self._reply)
        self.result = ok
        self.deadline = now + self._interval if ok and self._interval else None

    def handle_timer(self, now: float) -> None:
        """Repeat a challenge, or begin another round."""
        if self.result and not self._challenge and self.deadline is not None and now >= self.deadline:
            self.start(now)
        else:
            super().handle_timer(now)

    def _claim(self, name: bytes, value: bytes) -> Attempt:
        return ChapAttempt(name, self._identifier, self._challenge, value)

    def _text(self, attempt: Attempt, ok: bool, message: bytes) -> bytes:
        """What a Success or Failure says."""
        return message

    def _expired(self, now: float) -> None:
        self._challenge = b""
        self.result = False


class ChapSupplicant(Machine):
    """Answers the peer's challenges, whenever one comes."""

    __slots__ = ("_asked", "_identifier", "_name", "_random", "_response", "_secret", "reason")

    def __init__(
        self, name: str, secret: Secret, random: Random, *, tries: int = TRIES, timeout: float = TIMEOUT
    ) -> None:
        super().__init__(tries, timeout)
        self._name = name.encode()
        self._secret = secret
        self._random = random
        self._identifier = -1
        """Of the challenge that we answered and the peer has said nothing to yet; -1: there is none."""
        self._asked = b""
        """The last challenge, whole."""
        self._response = b""
        self.reason = ""

    def start(self, now: float) -> None:
        """The peer has to begin."""
        self._wait(now)

    def receive(self, information: bytes, now: float) -> None:
        """Take a packet."""
        try:
            code, identifier, data = decode(information)
            if code == CHALLENGE:
                self._challenged(information, identifier, data, now)
            elif code in (SUCCESS, FAILURE) and identifier == self._identifier and self.result is not False:
                self._told(code == SUCCESS, data)
        except ProtocolError:
            return

    def _challenged(self, packet: bytes, identifier: int, data: bytes, now: float) -> None:
        challenge, _ = unpack_value(data)
        if self.result is False or not self._fits(challenge):
            return
        if packet != self._asked:
            self._response = encode(RESPONSE, identifier, pack_value(self._value(identifier, challenge)) + self._name)
            self._asked = packet
        self._identifier = identifier
        self._ask(self._response, now)

    def _told(self, ok: bool, message: bytes) -> None:
        self._stop()
        self._identifier = -1
        self.reason = self._complaint(message) if ok else self._refusal(message)
        self.result = not self.reason

    def _fits(self, challenge: bytes) -> bool:
        """Whether this can be a challenge."""
        return bool(challenge)

    def _value(self, identifier: int, challenge: bytes) -> bytes:
        """The response to a challenge."""
        return hashes.chap_response(identifier, self._secret.reveal(), challenge)

    def _complaint(self, message: bytes) -> str:
        """What is wrong with a Success; "": nothing."""
        return ""

    def _refusal(self, message: bytes) -> str:
        """What a Failure means."""
        return f"the peer refused our password: {shown(message)}".rstrip(": ")

    def _expired(self, now: float) -> None:
        if self.result is None:
            self.result = False
            what = "did not answer our response" if self._asked else "demanded no authentication"
            self.reason = f"the peer {what}"
