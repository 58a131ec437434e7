"""The Extensible Authentication Protocol, RFC 3748: the side that answers ("peer" in the RFC).

It answers what it is asked and repeats nothing of its own accord (RFC 3748 4.1). An EAP Success counts only when a
method has come so far that it may: with MS-CHAPv2 when the authenticator has proved that it knows our password.
"""

from collections.abc import Callable, Mapping, Sequence

from kl2tp.model.objects import Secret
from kl2tp.ppp.auth import hashes, mschap
from kl2tp.ppp.auth.eap import (
    CHALLENGE_SIZE,
    FAILURE,
    IDENTITY,
    MD5_CHALLENGE,
    MSCHAPV2,
    NAK,
    NOTIFICATION,
    OP_CHALLENGE,
    OP_FAILURE,
    OP_RESPONSE,
    OP_SUCCESS,
    REQUEST,
    RESPONSE,
    SUCCESS,
    TYPES,
    decode_mschap,
    decode_typed,
    encode_mschap,
)
from kl2tp.ppp.auth.machine import TIMEOUT, TRIES, Machine, Random, shown
from kl2tp.ppp.auth.packet import decode, encode, pack_value, unpack_value
from kl2tp.wire.errors import ProtocolError

REMEMBERED = 4
"""Requests whose answers are kept."""


class EapSupplicant(Machine):
    """Answers requests, at any time."""

    __slots__ = ("_answers", "_complaint", "_identifier", "_may_succeed", "_name", "_proved", "_random", "_secret",
                 "_sent", "_types", "reason")

    def __init__(
        self,
        methods: Sequence[str],
        name: str,
        secret: Secret,
        random: Random,
        *,
        tries: int = TRIES,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(tries, timeout)
        self._name = name.encode()
        self._secret = secret
        self._random = random
        self._types = bytes(TYPES[method] for method in methods)
        """What we are willing to do, the best first."""
        self._answers: dict[bytes, bytes] = {}
        """To the last requests: one that comes again, be it late, gets the same and changes nothing."""
        self._identifier = -1
        """Of the last request."""
        self._may_succeed = False
        self._proved = False
        """Whether the authenticator has proved itself, and knows that we know."""
        self._sent: mschap.Response | None = None
        self._complaint = ""
        """What a Failure means, as far as it was said."""
        self.reason = ""

    def start(self, now: float) -> None:
        """The peer has to begin."""
        self._wait(now)

    def receive(self, information: bytes, now: float) -> None:
        """Take a packet."""
        try:
            code, identifier, data = decode(information)
            if self.result is False:
                return
            if code == REQUEST:
                self._requested(information, identifier, data, now)
            elif code in (SUCCESS, FAILURE) and self._ours(identifier):
                self._told(code == SUCCESS)
        except ProtocolError:
            return

    def network_seen(self, now: float) -> None:
        """The peer has begun with a network protocol: its Success, which nobody repeats, was lost (RFC 3748 4.2)."""
        if self.result is None and self._may_succeed:
            self._told(True)

    def _ours(self, identifier: int) -> bool:
        """Whether an end is that of what we answered. Some authenticators count once more for it."""
        return self._identifier >= 0 and identifier in (self._identifier, self._identifier + 1 & 0xFF)

    def _requested(self, packet: bytes, identifier: int, data: bytes, now: float) -> None:
        kind, data = decode_typed(data)
        answer = self._answers.get(packet)
        if answer is None:
            said = self._HANDLERS.get(kind, EapSupplicant._unwilling)(self, identifier, data)
            if said is None:
                return
            self._identifier = identifier
            answer = encode(RESPONSE, identifier, said)
            self._remember(packet, answer)
            if self.result is None:
                self._wait(now)
        self._say(answer)
        if self.result is None and self._proved:
            # Both ends have said that they are content: a Success that does not come was lost (RFC 4137 4.3).
            self.deadline = now + self._timeout

    def _remember(self, request: bytes, answer: bytes) -> None:
        self._answers[request] = answer
        if len(self._answers) > REMEMBERED:
            del self._answers[next(iter(self._answers))]

    def _told(self, ok: bool) -> None:
        if ok and not self._may_succeed:
            return
        self._stop()
        self._identifier = -1
        self._may_succeed = self._proved = False
        if not ok:
            self.reason = self._complaint or "the peer refused us"
        self.result = ok

    # --- requests: each gives the type and type data of the response, or None to say nothing

    def _who(self, identifier: int, data: bytes) -> bytes:
        self._may_succeed = self._proved = False
        return bytes((IDENTITY,)) + self._name

    def _notified(self, identifier: int, data: bytes) -> bytes:
        if message := shown(data):
            self._complaint = f"the peer refused us: {message}"
        return bytes((NOTIFICATION,))

    def _unwilling(self, identifier: int, data: bytes) -> bytes | None:
        """Say what we would do instead (RFC 3748 5.3.1); 0: nothing."""
        return bytes((NAK,)) + (self._types or b"\0")

    def _md5(self, identifier: int, data: bytes) -> bytes | None:
        if MD5_CHALLENGE not in self._types:
            return self._unwilling(identifier, data)
        challenge, _ = unpack_value(data)
        if not challenge:
            return None
        value = hashes.chap_response(identifier, self._secret.reveal(), challenge)
        self._may_succeed, self._proved = True, False
        return bytes((MD5_CHALLENGE,)) + pack_value(value) + self._name

    def _mschap(self, identifier: int, data: bytes) -> bytes | None:
        if MSCHAPV2 not in self._types:
            return self._unwilling(identifier, data)
        opcode, inner, data = decode_mschap(data)
        step = self._STEPS.get(opcode)
        answer = step(self, inner, data) if step else None
        return None if answer is None else bytes((MSCHAPV2,)) + answer

    def _challenged(self, inner: int, data: bytes) -> bytes | None:
        challenge, _ = unpack_value(data)
        if len(challenge) != CHALLENGE_SIZE:
            return None
        self._may_succeed = self._proved = False
        self._sent = mschap.Response(self._name, self._secret, challenge, self._random(CHALLENGE_SIZE))
        return encode_mschap(OP_RESPONSE, inner, pack_value(self._sent.value) + self._name)

    def _succeeded(self, inner: int, data: bytes) -> bytes | None:
        if self._sent is None:
            return None
        if not self._sent.proved(data):
            self._complaint = mschap.NO_PROOF
            self._told(False)
            return bytes((OP_FAILURE,))
        self._may_succeed = self._proved = True
        return bytes((OP_SUCCESS,))

    def _failed(self, inner: int, data: bytes) -> bytes | None:
        if self._sent is None:
            return None
        self._may_succeed = self._proved = False
        self._complaint = mschap.refusal(data)
        return bytes((OP_FAILURE,))

    def _expired(self, now: float) -> None:
        if self.result is not None:
            return
        if self._proved:
            self._told(True)
            return
        self.result = False
        what = "did not say how the authentication ended" if self._answers else "demanded no authentication"
        self.reason = self._complaint or f"the peer {what}"

    _HANDLERS: Mapping[int, Callable[["EapSupplicant", int, bytes], bytes | None]] = {
        IDENTITY: _who,
        NOTIFICATION: _notified,
        MD5_CHALLENGE: _md5,
        MSCHAPV2: _mschap,
    }
    _STEPS: Mapping[int, Callable[["EapSupplicant", int, bytes], bytes | None]] = {
        OP_CHALLENGE: _challenged,
        OP_SUCCESS: _succeeded,
        OP_FAILURE: _failed,
    }
