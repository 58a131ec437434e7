"""The control messages of RFC 2661 section 6: what each must and may carry, decoded and encoded."""

import enum
import hashlib
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

from kl2tp.wire import avp as avps_wire
from kl2tp.wire.avp import HIDDEN, MANDATORY, RESERVED, Avp, RawAvp
from kl2tp.wire.errors import (
    OUT_OF_RANGE,
    WRONG_LENGTH,
    AvpError,
    BadAvp,
    MalformedMessage,
    MessageError,
    MissingAvp,
    UnknownMandatory,
    UnknownMessage,
)
from kl2tp.wire.values import ANY_ID, HIDEABLE, PROTOCOL_VERSION, RULES, Rule

_VECTOR = 16
"""Octets of the random vectors that we send: "at least 16" is recommended, 4.3."""


class MessageType(enum.IntEnum):
    """Control messages, 3.2."""

    SCCRQ = 1
    SCCRP = 2
    SCCCN = 3
    STOPCCN = 4
    HELLO = 6
    OCRQ = 7
    OCRP = 8
    OCCN = 9
    ICRQ = 10
    ICRP = 11
    ICCN = 12
    CDN = 14
    WEN = 15
    SLI = 16


class StopCcn(enum.IntEnum):
    """Result codes of StopCCN, 4.4.2."""

    CLEAR = 1
    GENERAL_ERROR = 2
    EXISTS = 3
    NOT_AUTHORIZED = 4
    VERSION = 5
    SHUTTING_DOWN = 6
    STATE_MACHINE = 7


class Cdn(enum.IntEnum):
    """Result codes of CDN, 4.4.2."""

    LOST_CARRIER = 1
    GENERAL_ERROR = 2
    ADMINISTRATIVE = 3
    NO_FACILITIES_NOW = 4
    NO_FACILITIES = 5
    INVALID_DESTINATION = 6
    NO_CARRIER = 7
    BUSY = 8
    NO_DIAL_TONE = 9
    TIMEOUT = 10
    NO_FRAMING = 11


class GeneralError(enum.IntEnum):
    """Error codes, where the result is "general error", 4.4.2."""

    NONE = 0
    NO_TUNNEL = 1
    WRONG_LENGTH = 2
    OUT_OF_RANGE = 3
    NO_RESOURCES = 4
    INVALID_SESSION = 5
    VENDOR = 6
    TRY_ANOTHER = 7
    UNKNOWN_AVP = 8


class UnsupportedVersion(MessageError):
    """Another version of L2TP than ours: the answer names the highest that we know."""

    result = StopCcn.VERSION

    def __init__(self, version: int) -> None:
        super().__init__(f"protocol version {version >> 8}.{version & 0xFF} is not supported", PROTOCOL_VERSION)


class Message:
    """A control message. `type` is a plain number for one that we don't know and need not."""

    __slots__ = ("avps", "hidden", "ignored", "type")

    def __init__(
        self,
        type: MessageType | int,
        avps: dict[Avp, Any],
        hidden: Collection[Avp] = (),
        ignored: Collection[str] = (),
    ) -> None:
        self.type = type
        self.avps = avps
        """Values as in `kl2tp.wire.values`: numbers, text for names, octets, small tuples."""
        self.hidden = hidden
        """What came hidden."""
        self.ignored = ignored
        """Complaints about optional AVPs, to be logged (7.1)."""

    def __repr__(self) -> str:
        name = self.type.name if isinstance(self.type, MessageType) else str(self.type)
        return f"<{name}: {', '.join(avp.name for avp in self.avps)}>"


class Layout:
    """What a message may and must carry."""

    __slots__ = ("call", "header", "required", "rules", "type")

    def __init__(self, kind: MessageType, call: bool, required: Collection[Avp], optional: Collection[Avp]) -> None:
        self.type = kind
        self.call = call
        self.required = frozenset(required)
        ending = kind in (MessageType.STOPCCN, MessageType.CDN)
        self.rules: dict[int, Rule] = {
            avp: ANY_ID.get(avp, RULES[avp]) if ending else RULES[avp] for avp in (*required, *optional)
        }
        self.header = avps_wire.join(MANDATORY, Avp.MESSAGE_TYPE, kind.to_bytes(2, "big"))


def _layouts() -> dict[int, Layout]:
    """Sections 6.1 to 6.14."""
    layouts: dict[int, Layout] = {}

    def add(kind: MessageType, required: Collection[Avp] = (), optional: Collection[Avp] = ()) -> None:
        layouts[kind] = Layout(kind, kind > MessageType.HELLO, required, optional)

    proxy = tuple(avp for avp in Avp if Avp.INITIAL_RECEIVED_LCP_CONFREQ <= avp <= Avp.PROXY_AUTHEN_RESPONSE)
    introduction = (Avp.PROTOCOL_VERSION, Avp.HOST_NAME, Avp.FRAMING_CAPABILITIES, Avp.ASSIGNED_TUNNEL_ID)
    about_us = (Avp.BEARER_CAPABILITIES, Avp.RECEIVE_WINDOW_SIZE, Avp.CHALLENGE, Avp.FIRMWARE_REVISION, Avp.VENDOR_NAME)
    offer = (Avp.ASSIGNED_SESSION_ID, Avp.CALL_SERIAL_NUMBER)
    numbers = (Avp.CALLED_NUMBER, Avp.CALLING_NUMBER, Avp.SUB_ADDRESS)
    wish = (Avp.MINIMUM_BPS, Avp.MAXIMUM_BPS, Avp.BEARER_TYPE, Avp.FRAMING_TYPE, Avp.CALLED_NUMBER)
    connected = (Avp.TX_CONNECT_SPEED, Avp.FRAMING_TYPE)
    line = (Avp.RX_CONNECT_SPEED, Avp.SEQUENCING_REQUIRED)

    add(MessageType.SCCRQ, introduction, (*about_us, Avp.TIE_BREAKER))
    add(MessageType.SCCRP, introduction, (*about_us, Avp.CHALLENGE_RESPONSE))
    add(MessageType.SCCCN, (), (Avp.CHALLENGE_RESPONSE,))
    add(MessageType.STOPCCN, (Avp.ASSIGNED_TUNNEL_ID, Avp.RESULT_CODE))
    add(MessageType.HELLO)
    add(MessageType.ICRQ, offer, (Avp.BEARER_TYPE, Avp.PHYSICAL_CHANNEL_ID, *numbers))
    add(MessageType.ICRP, (Avp.ASSIGNED_SESSION_ID,))
    add(MessageType.ICCN, connected, (*proxy, Avp.PRIVATE_GROUP_ID, *line))
    add(MessageType.OCRQ, (*offer, *wish), (Avp.SUB_ADDRESS,))
    add(MessageType.OCRP, (Avp.ASSIGNED_SESSION_ID,), (Avp.PHYSICAL_CHANNEL_ID,))
    add(MessageType.OCCN, connected, line)
    add(MessageType.CDN, (Avp.RESULT_CODE, Avp.ASSIGNED_SESSION_ID), (Avp.Q931_CAUSE_CODE,))
    add(MessageType.WEN, (Avp.CALL_ERRORS,))
    add(MessageType.SLI, (Avp.ACCM,))
    return layouts


LAYOUTS = _layouts()
"""By message type."""


def decode(payload: bytes, secret: bytes | None = None) -> Message:
    """A message from the AVPs of a control packet. Raises a MessageError, which says what to answer."""
    raw = avps_wire.split(payload)
    kind, mandatory = _type_of(raw)
    layout = LAYOUTS.get(kind)
    if layout is None:
        if mandatory:
            raise UnknownMessage(kind)
        return Message(kind, {})
    return _Reader(layout, secret).read(raw)


def _type_of(raw: list[RawAvp]) -> tuple[int, bool]:
    """The Message Type AVP, which comes first and is never hidden, 4.4.1."""
    if raw:
        word, vendor, attribute, value = raw[0]
        if len(value) == 2 and not vendor | attribute and not word & (HIDDEN | RESERVED):
            return int.from_bytes(value, "big"), bool(word & MANDATORY)
    raise MalformedMessage("no message type in front")


class _Reader:
    """Reads the AVPs of one message, all of them even if one is wrong: the answer needs the ids that the peer chose."""

    __slots__ = ("_avps", "_hidden", "_ignored", "_layout", "_secret", "_vector")

    def __init__(self, layout: Layout, secret: bytes | None) -> None:
        self._layout = layout
        self._secret = secret
        self._vector: bytes | None = None
        self._avps: dict[Avp, Any] = {}
        self._hidden: list[Avp] = []
        self._ignored: list[str] = []

    def read(self, raw: list[RawAvp]) -> Message:
        """The message. Raises the MessageError of the first AVP that must be understood and is not."""
        wrong = self._read_all(raw) or self._missing()
        if wrong is not None:
            wrong.message_type = self._layout.type
            wrong.call_only = self._layout.call
            wrong.avps = self._avps
            raise wrong
        return Message(self._layout.type, self._avps, self._hidden, self._ignored)

    def _read_all(self, raw: list[RawAvp]) -> MessageError | None:
        """Fill in what can be read; the first error about something that need be."""
        rules, avps = self._layout.rules, self._avps
        wrong: MessageError | None = None
        for word, vendor, attribute, value in raw[1:]:
            try:
                rule = rules.get(attribute)
                if rule is None or vendor or word & RESERVED or attribute in avps:
                    self._read_other(word, vendor, attribute, value)
                else:
                    avps[rule.avp] = _value(rule, self._reveal(rule.avp, value) if word & HIDDEN else value)
            except AvpError as error:
                # Malformed is like unknown: what need not be understood is left out, 4.1 and 7.1.
                if word & MANDATORY:
                    wrong = wrong or error
                else:
                    self._ignored.append(str(error))
        return wrong

    def _read_other(self, word: int, vendor: int, attribute: int, value: bytes) -> None:
        """An AVP that is none of the message: a random vector, one that is out of place, or an unknown one."""
        if vendor or word & RESERVED or attribute not in RULES:
            raise UnknownMandatory(attribute, vendor)
        if attribute == Avp.RANDOM_VECTOR and not word & HIDDEN:
            self._vector = value
        elif attribute in self._avps:
            self._ignored.append(f"AVP {attribute} came again")
        else:
            self._ignored.append(f"AVP {attribute} has no meaning in {self._layout.type.name}")

    def _missing(self) -> MessageError | None:
        """What is wrong with a message all of whose AVPs are right."""
        layout, avps = self._layout, self._avps
        if not layout.required <= avps.keys():
            missing = min(layout.required - avps.keys())
            return MissingAvp(f"{layout.type.name} without {missing.name}", missing, OUT_OF_RANGE)
        version = avps.get(Avp.PROTOCOL_VERSION, PROTOCOL_VERSION)
        return UnsupportedVersion(version) if version >> 8 != PROTOCOL_VERSION >> 8 else None

    def _reveal(self, avp: Avp, value: bytes) -> bytes:
        """Decipher with the last random vector before. Raises BadAvp."""
        if not self._secret:
            raise BadAvp(f"{avp.name} is hidden, without a shared secret", avp, OUT_OF_RANGE)
        if self._vector is None:
            raise BadAvp(f"{avp.name} is hidden, without a random vector before it", avp, OUT_OF_RANGE)
        plain = avps_wire.reveal(avp, value, self._secret, self._vector)
        if plain is None:
            raise BadAvp(f"{avp.name} cannot be deciphered: the secrets differ", avp, WRONG_LENGTH)
        self._hidden.append(avp)
        return plain


def _value(rule: Rule, value: bytes) -> Any:
    """What the value of an AVP says. Raises BadAvp."""
    if not rule.shortest <= len(value) <= rule.longest:
        raise BadAvp(f"{rule.avp.name} has {len(value)} octets", rule.avp, WRONG_LENGTH)
    read = rule.read(value)
    if read is None:
        raise BadAvp(f"{rule.avp.name} has an impossible value, {value.hex()}", rule.avp, OUT_OF_RANGE)
    return read


def encode(
    kind: MessageType,
    avps: Mapping[Avp, Any],
    *,
    hide: Collection[Avp] = (),
    secret: bytes = b"",
    random: Callable[[int], bytes] = os.urandom,
) -> bytes:
    """The AVPs of a message; those of `hide` that it has are hidden. Raises ValueError if they don't make one."""
    layout = LAYOUTS[kind]
    if not layout.required <= avps.keys():
        raise ValueError(f"{kind.name} needs {', '.join(avp.name for avp in layout.required - avps.keys())}")
    parts = [layout.header]
    vector = b""
    for avp, value in avps.items():
        rule = layout.rules.get(avp)
        if rule is None:
            raise ValueError(f"{kind.name} has no {avp.name}")
        data = rule.write(value)
        flags = rule.flags
        if avp in hide:
            if not vector:
                vector = random(_VECTOR)
                parts.append(avps_wire.join(MANDATORY, Avp.RANDOM_VECTOR, vector))
            data = _hidden(avp, data, secret, vector, random)
            flags |= HIDDEN
        parts.append(avps_wire.join(flags, avp, data))
    return b"".join(parts)


def _hidden(avp: Avp, data: bytes, secret: bytes, vector: bytes, random: Callable[[int], bytes]) -> bytes:
    if avp not in HIDEABLE or not secret:
        raise ValueError(f"{avp.name} cannot be hidden" if secret else "nothing can be hidden without a secret")
    return avps_wire.hide(avp, data, secret, vector, random(avps_wire.padding(len(data))))


def peek_type(payload: bytes) -> int:
    """The message type; 0 if there is none."""
    return int.from_bytes(payload[6:8], "big") if payload[2:6] == b"\0\0\0\0" and len(payload) > 7 else 0


def peek_host_name(payload: bytes) -> str:
    """The Host Name AVP, which is never hidden: it tells which secret reveals the others. Raises MalformedMessage."""
    rule = RULES[Avp.HOST_NAME]
    for word, vendor, attribute, value in avps_wire.split(payload):
        if attribute == Avp.HOST_NAME and not vendor and not word & (HIDDEN | RESERVED):
            return str(rule.read(value))
    return ""


def challenge_response(kind: MessageType, secret: bytes, challenge: bytes) -> bytes:
    """What answers a challenge in SCCRP or SCCCN: as CHAP (RFC 1994), with the message type as identifier, 4.4.3."""
    return hashlib.md5(bytes((kind,)) + secret + challenge, usedforsecurity=False).digest()
