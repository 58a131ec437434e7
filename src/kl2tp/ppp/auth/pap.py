"""The Password Authentication Protocol, RFC 1334 2: the password goes over the line as it is."""

from kl2tp.model.objects import Secret
from kl2tp.ppp.auth.attempt import PapAttempt
from kl2tp.ppp.auth.machine import REFUSED, TIMEOUT, TRIES, WELCOME, Machine, sent, shown
from kl2tp.ppp.auth.packet import decode, encode, pack_value, unpack_value
from kl2tp.wire.errors import ProtocolError

REQUEST, ACK, NAK = 1, 2, 3


def decode_request(data: bytes) -> tuple[bytes, bytes]:
    """Name and password. Raises ProtocolError."""
    name, rest = unpack_value(data)
    password, _ = unpack_value(rest)
    return name, password


def decode_message(data: bytes) -> bytes:
    """The message of an answer. Some peers leave its length out where there is none."""
    return unpack_value(data)[0] if data else b""


class PapAuthenticator(Machine):
    """Waits for the peer's password."""

    __slots__ = ("_code", "_identifier", "_message", "attempt", "identity")

    def __init__(self, tries: int = TRIES, timeout: float = TIMEOUT) -> None:
        super().__init__(tries, timeout)
        self._identifier = 0
        self._code = 0
        self._message = b""
        self.attempt: PapAttempt | None = None
        self.identity = ""

    def start(self, now: float) -> None:
        """The peer has to begin."""
        self._wait(now)

    def go_on(self, identity: str, now: float) -> None:
        """There is no way to ask again."""
        self.identity, self.result = identity, True

    def receive(self, information: bytes, now: float) -> None:
        """Take a packet."""
        try:
            code, identifier, data = decode(information)
            if code != REQUEST:
                return
            name, password = decode_request(data)
        except ProtocolError:
            return
        self._identifier = identifier
        if self._code:
            self._answer()  # "MUST return the same reply Code", RFC 1334 2.2.1
        elif self.attempt is None and self.result is None:
            self._stop()
            self.attempt = PapAttempt(name, password)
            self.identity = self.attempt.identity

    def verdict(self, ok: bool, message: str, now: float) -> None:
        """Answer the attempt."""
        if self.attempt is None:
            return
        self.attempt = None
        self.result = ok
        self._code = ACK if ok else NAK
        self._message = sent(message, WELCOME if ok else REFUSED)
        self._answer()

    def _answer(self) -> None:
        self._say(encode(self._code, self._identifier, pack_value(self._message)))

    def _expired(self, now: float) -> None:
        self.result = False


class PapSupplicant(Machine):
    """Sends our password until it is answered."""

    __slots__ = ("_credentials", "_identifier", "reason")

    def __init__(self, name: str, secret: Secret, tries: int = TRIES, timeout: float = TIMEOUT) -> None:
        super().__init__(tries, timeout)
        self._identifier = 0
        self._credentials = Secret(pack_value(name.encode()) + pack_value(secret.reveal()))
        self.reason = ""

    def start(self, now: float) -> None:
        """Say who we are."""
        self._identifier = 1
        self._ask(self._request(), now)

    def handle_timer(self, now: float) -> None:
        """The identifier "MUST be changed each time a request is issued", RFC 1334 2.2.1."""
        if self.deadline is not None and now >= self.deadline and self._left:
            self._identifier = min(self._identifier + 1, 255)
            self._repeated = self._request()
        super().handle_timer(now)

    def receive(self, information: bytes, now: float) -> None:
        """Take the answer, to any of our requests: they all said the same."""
        try:
            code, identifier, data = decode(information)
            if code not in (ACK, NAK) or not 1 <= identifier <= self._identifier or self.result is not None:
                return
            message = decode_message(data)
        except ProtocolError:
            return
        self._stop()
        self.result = code == ACK
        if not self.result:
            self.reason = f"the peer refused our password: {shown(message)}".rstrip(": ")

    def _request(self) -> bytes:
        return encode(REQUEST, self._identifier, self._credentials.reveal())

    def _expired(self, now: float) -> None:
        self.result = False
        self.reason = "the peer did not answer our password"
