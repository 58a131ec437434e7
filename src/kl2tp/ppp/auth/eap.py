"""The Extensible Authentication Protocol, RFC 3748, with the methods MD5-Challenge (5.4) and MS-CHAPv2 (type 26,
draft-kamath-pppext-eap-mschapv2): what both ends share, and the side that demands.

The authenticator asks for the identity, then goes through its methods in order; a peer that does not want one says with
a Nak what it wants instead. Success and Failure of EAP carry no message: what there is to say goes into a Notification
before them, unless the method has a place for it.
"""

import struct
from collections.abc import Callable, Sequence
from typing import TypeAlias

from kl2tp.model.calls import EAP_MD5, EAP_MSCHAPV2
from kl2tp.ppp.auth import mschap
from kl2tp.ppp.auth.attempt import Attempt, ChapAttempt, MschapAttempt
from kl2tp.ppp.auth.machine import REFUSED, TIMEOUT, TRIES, WELCOME, Machine, Random, sent
from kl2tp.ppp.auth.packet import decode, encode, pack_value, unpack_value
from kl2tp.wire.errors import ProtocolError

REQUEST, RESPONSE, SUCCESS, FAILURE = 1, 2, 3, 4
IDENTITY, NOTIFICATION, NAK, MD5_CHALLENGE, MSCHAPV2 = 1, 2, 3, 4, 26
TYPES = {EAP_MD5: MD5_CHALLENGE, EAP_MSCHAPV2: MSCHAPV2}
OP_CHALLENGE, OP_RESPONSE, OP_SUCCESS, OP_FAILURE = 1, 2, 3, 4
"""OpCode of an MS-CHAPv2 packet."""
CHALLENGE_SIZE = 16
NOTIFICATION_TRIES = 3
_MSCHAP = struct.Struct(">BBH")
_MD5_SIZE = 16


def encode_mschap(opcode: int, identifier: int, data: bytes) -> bytes:
    """Type data of MS-CHAPv2: its length is that of EAP without the EAP header and the type."""
    return _MSCHAP.pack(opcode, identifier, _MSCHAP.size + len(data)) + data


def decode_mschap(data: bytes) -> tuple[int, int, bytes]:
    """OpCode, MS-CHAPv2 identifier and data. Responses to Success and Failure are the OpCode alone.

    Raises ProtocolError.
    """
    if len(data) == 1 and data[0] in (OP_SUCCESS, OP_FAILURE):
        return data[0], 0, b""
    if len(data) < _MSCHAP.size:
        raise ProtocolError("an MS-CHAPv2 packet is shorter than its header")
    opcode, identifier, length = _MSCHAP.unpack_from(data)
    if not _MSCHAP.size <= length <= len(data):
        raise ProtocolError("the length of an MS-CHAPv2 packet is not its own")
    return opcode, identifier, data[_MSCHAP.size : length]


def decode_typed(data: bytes) -> tuple[int, bytes]:
    """Type and type data of a request or response. Raises ProtocolError."""
    if not data:
        raise ProtocolError("an EAP packet has no type")
    return data[0], data[1:]


class EapAuthenticator(Machine):
    """Asks the peer who it is, and to prove that; with `interval`, seconds, again and again after its success."""

    __slots__ = ("_awaited", "_challenge", "_final", "_identifier", "_interval", "_left_methods", "_methods", "_name",
                 "_outcome", "_random", "_said", "_take", "attempt", "identity")

    def __init__(
        self,
        methods: Sequence[str],
        name: str,
        random: Random,
        *,
        tries: int = TRIES,
        timeout: float = TIMEOUT,
        interval: float = 0.0,
    ) -> None:
        super().__init__(tries, timeout)
        self._methods = tuple(methods)
        self._name = name.encode()
        self._random = random
        self._interval = interval
        self._identifier = random(1)[0]
        self._awaited = 0
        """Type that the response must have; 0: none is awaited."""
        self._take: _Take = EapAuthenticator._identified
        """Takes the type data of that response."""
        self._outcome = False
        """What is left to be said, behind a notification."""
        self._left_methods: list[str] = []
        """The first is the one in use."""
        self._challenge = b""
        self._said = b""
        """Identity as the peer said it."""
        self._final = b""
        """Success or Failure: what the last response gets if it comes again."""
        self.attempt: Attempt | None = None
        self.identity = ""

    def start(self, now: float) -> None:
        """Ask who it is."""
        self._final = b""
        self._left_methods = list(self._methods)
        self._request(IDENTITY, b"", EapAuthenticator._identified, now)

    def go_on(self, identity: str, now: float) -> None:
        """Without a request, until the next is due."""
        self.identity, self.result = identity, True
        self._final = encode(SUCCESS, self._identifier)
        self.deadline = now + self._interval if self._interval else None

    def receive(self, information: bytes, now: float) -> None:
        """Take a packet."""
        try:
            code, identifier, data = decode(information)
            if code != RESPONSE or identifier != self._identifier:
                return
            kind, data = decode_typed(data)
            if self._final:
                self._say(self._final)
            elif self._awaited and kind == self._awaited:
                self._take(self, data, now)
            elif kind == NAK and self._awaited and self._take in self._NEGOTIABLE:
                self._refused_method(data, now)
        except ProtocolError:
            return

    def verdict(self, ok: bool, message: str, now: float) -> None:
        """Answer the attempt."""
        attempt = self.attempt
        if attempt is None:
            return
        if isinstance(attempt, MschapAttempt):
            self._tell_mschap(attempt, ok, sent(message, WELCOME if ok else REFUSED), now)
        elif message:
            self._outcome = ok
            self._request(NOTIFICATION, sent(message, ""), EapAuthenticator._notified, now)
            self._left = min(self._left, NOTIFICATION_TRIES - 1)
        self.attempt = None
        if not self._awaited:
            self._finish(ok, now)

    def handle_timer(self, now: float) -> None:
        """Repeat a request, or begin another round."""
        if self.result and self._final and self.deadline is not None and now >= self.deadline:
            self.start(now)
        else:
            super().handle_timer(now)

    # --- requests and what comes back

    def _request(self, kind: int, data: bytes, take: "_Take", now: float) -> None:
        self._identifier = self._identifier + 1 & 0xFF
        self._awaited, self._take = kind, take
        self._ask(encode(REQUEST, self._identifier, bytes((kind,)) + data), now)

    def _identified(self, data: bytes, now: float) -> None:
        self._said = data.partition(b"\0")[0]
        self._next_method(now)

    def _next_method(self, now: float) -> None:
        """Begin the first method that is left."""
        if not self._left_methods:
            self._finish(False, now)
            return
        self._challenge = self._random(CHALLENGE_SIZE)
        data = pack_value(self._challenge) + self._name
        if self._left_methods[0] == EAP_MD5:
            self._request(MD5_CHALLENGE, data, EapAuthenticator._md5_response, now)
        else:
            packet = encode_mschap(OP_CHALLENGE, self._identifier + 1 & 0xFF, data)
            self._request(MSCHAPV2, packet, EapAuthenticator._mschap_response, now)

    def _refused_method(self, wanted: bytes, now: float) -> None:
        """A Nak, RFC 3748 5.3.1: go on with what the peer wants, if that is one of ours."""
        self._left_methods = [method for method in self._left_methods[1:] if TYPES[method] in wanted]
        self._next_method(now)

    def _claim(self, attempt: Attempt, now: float) -> None:
        """A peer that has shown who it is may not become somebody else."""
        self._stop()
        self._awaited = 0
        self.attempt = attempt
        if self.result and attempt.identity != self.identity:
            self.verdict(False, "", now)
        else:
            self.identity = attempt.identity

    # --- MD5-Challenge

    def _md5_response(self, data: bytes, now: float) -> None:
        value, name = unpack_value(data)
        if len(value) != _MD5_SIZE:
            raise ProtocolError("an MD5 response has another length")
        self._claim(ChapAttempt(self._said or name, self._identifier, self._challenge, value, EAP_MD5), now)

    # --- MS-CHAPv2

    def _mschap_response(self, data: bytes, now: float) -> None:
        opcode, _, data = decode_mschap(data)
        if opcode != OP_RESPONSE:
            raise ProtocolError("this is not the response to a challenge")
        value, name = unpack_value(data)
        self._claim(mschap.attempt(name or self._said, self._challenge, value, EAP_MSCHAPV2), now)

    def _tell_mschap(self, attempt: MschapAttempt, ok: bool, message: bytes, now: float) -> None:
        if ok:
            opcode, data = OP_SUCCESS, mschap.success(attempt, message)
        else:
            opcode, data = OP_FAILURE, mschap.failure(self._random(CHALLENGE_SIZE), message)
        packet = encode_mschap(opcode, self._identifier, data)
        self._request(MSCHAPV2, packet, EapAuthenticator._acknowledged if ok else EapAuthenticator._failed, now)

    def _acknowledged(self, data: bytes, now: float) -> None:
        """The peer says whether our own proof was right."""
        opcode, _, _ = decode_mschap(data)
        if opcode in (OP_SUCCESS, OP_FAILURE):
            self._finish(opcode == OP_SUCCESS, now)

    def _failed(self, data: bytes, now: float) -> None:
        opcode, _, _ = decode_mschap(data)
        if opcode == OP_FAILURE:
            self._finish(False, now)

    # --- the end

    def _notified(self, data: bytes, now: float) -> None:
        self._finish(self._outcome, now)

    def _finish(self, ok: bool, now: float) -> None:
        """Say how it ends."""
        self._stop()
        self._awaited = 0
        self._final = encode(SUCCESS if ok else FAILURE, self._identifier)
        self._say(self._final)
        self.result = ok
        if ok and self._interval:
            self.deadline = now + self._interval

    def _expired(self, now: float) -> None:
        """The peer is silent. If all that was left was a notification, that does not matter."""
        self._finish(self._awaited == NOTIFICATION and self._outcome, now)

    _NEGOTIABLE = (_md5_response, _mschap_response)
    """What a Nak may come in place of."""


_Take: TypeAlias = Callable[[EapAuthenticator, bytes, float], None]
