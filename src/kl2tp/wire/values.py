"""What the value of each AVP is, RFC 2661 4.4: its length, how it is read and written, its M and H bits."""

import enum
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from kl2tp.wire.avp import MANDATORY, MAX_VALUE, Avp

PROTOCOL_VERSION = 0x0100
"""Version 1, revision 0: what the Protocol Version AVP says."""
SYNCHRONOUS, ASYNCHRONOUS = 1, 2
"""Bits of Framing Capabilities and Framing Type."""
DIGITAL, ANALOG = 1, 2
"""Bits of Bearer Capabilities and Bearer Type."""

_CALL_ERRORS = struct.Struct(">2xIIIIII")
_ACCM = struct.Struct(">2xII")
_RESULT = struct.Struct(">HH")
_CAUSE = struct.Struct(">HB")


class ProxyAuthen(enum.IntEnum):
    """Proxy Authen Type, how the LAC authenticated the caller, 4.4.5."""

    TEXT = 1
    CHAP = 2
    PAP = 3
    NONE = 4
    MSCHAP = 5


class ResultCode(NamedTuple):
    """Why a tunnel or call ends, 4.4.2."""

    result: int
    error: int = 0
    message: str = ""


class Q931Cause(NamedTuple):
    """Why the telephone network ended a call, 4.4.6."""

    cause: int
    message: int
    advisory: str = ""


class CallErrors(NamedTuple):
    """Errors on the LAC's line since the call began, 4.4.6."""

    crc: int
    framing: int
    hardware_overruns: int
    buffer_overruns: int
    timeouts: int
    alignment: int


class Accm(NamedTuple):
    """Control characters that PPP escapes on an asynchronous line, 4.4.6."""

    send: int
    receive: int


class Rule(NamedTuple):
    """One AVP's format. `read` gets a value whose length is right; it gives None if it is impossible all the same."""

    avp: Avp
    shortest: int
    longest: int
    read: Callable[[bytes], Any]
    write: Callable[[Any], bytes]
    flags: int
    hideable: bool


_Kind = tuple[int, int, Callable[[bytes], Any], Callable[[Any], bytes]]


def _number(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _not_zero(data: bytes) -> int | None:
    return int.from_bytes(data, "big") or None


def _write16(value: int) -> bytes:
    return value.to_bytes(2, "big")


def _write32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _text(data: bytes) -> str:
    """Names and messages: UTF-8 (RFC 2661 4.4 says so of some), fit to be shown; some peers end them with a zero."""
    text = data.rstrip(b"\0").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _read_result(data: bytes) -> ResultCode | None:
    if len(data) < _RESULT.size:
        return ResultCode(_number(data)) if len(data) == 2 else None
    result, error = _RESULT.unpack_from(data)
    return ResultCode(result, error, _text(data[_RESULT.size :]))


def _write_result(value: ResultCode) -> bytes:
    return _RESULT.pack(value.result, value.error) + _shortened(value.message, MAX_VALUE - _RESULT.size)


def _read_cause(data: bytes) -> Q931Cause:
    cause, message = _CAUSE.unpack_from(data)
    return Q931Cause(cause, message, _text(data[_CAUSE.size :]))


def _write_cause(value: Q931Cause) -> bytes:
    return _CAUSE.pack(value.cause, value.message) + _shortened(value.advisory, MAX_VALUE - _CAUSE.size)


def _shortened(message: str, size: int) -> bytes:
    """A message for people: better cut off than not sent."""
    return message.encode("utf-8", "backslashreplace")[:size]


def _rules() -> dict[int, Rule]:
    """All of 4.4. M is set where the RFC says so; H may be where it says that the AVP may be hidden."""
    rules: dict[int, Rule] = {}

    def add(kind: _Kind, *avps: Avp, must: bool = True, hide: bool = True) -> None:
        shortest, longest, read, write = kind
        for avp in avps:
            rules[avp] = Rule(avp, shortest, longest, read, write, MANDATORY if must else 0, hide)

    number16 = (2, 2, _number, _write16)
    number32 = (4, 4, _number, _write32)
    identifier = (2, 2, _not_zero, _write16)
    octets = (0, MAX_VALUE, bytes, bytes)
    some_octets = (1, MAX_VALUE, bytes, bytes)
    text = (0, MAX_VALUE, _text, str.encode)
    name = (1, MAX_VALUE, _text, str.encode)

    add(number16, Avp.MESSAGE_TYPE, Avp.PROTOCOL_VERSION, hide=False)
    add((2, MAX_VALUE, _read_result, _write_result), Avp.RESULT_CODE, hide=False)
    add(number32, Avp.FRAMING_CAPABILITIES, Avp.BEARER_CAPABILITIES)
    add((8, 8, bytes, bytes), Avp.TIE_BREAKER, must=False, hide=False)
    add(number16, Avp.FIRMWARE_REVISION, must=False)
    add(name, Avp.HOST_NAME, hide=False)
    add(text, Avp.VENDOR_NAME, must=False)
    add(identifier, Avp.ASSIGNED_TUNNEL_ID, Avp.ASSIGNED_SESSION_ID)
    add(identifier, Avp.RECEIVE_WINDOW_SIZE, hide=False)
    add(some_octets, Avp.CHALLENGE)
    add((3, MAX_VALUE, _read_cause, _write_cause), Avp.Q931_CAUSE_CODE, hide=False)
    add((16, 16, bytes, bytes), Avp.CHALLENGE_RESPONSE)
    add(number32, Avp.CALL_SERIAL_NUMBER, Avp.MINIMUM_BPS, Avp.MAXIMUM_BPS, Avp.BEARER_TYPE, Avp.FRAMING_TYPE)
    add(text, Avp.CALLED_NUMBER, Avp.CALLING_NUMBER, Avp.SUB_ADDRESS)
    add(number32, Avp.TX_CONNECT_SPEED)
    add(number32, Avp.PHYSICAL_CHANNEL_ID, Avp.RX_CONNECT_SPEED, must=False)
    add(octets, Avp.INITIAL_RECEIVED_LCP_CONFREQ, Avp.LAST_SENT_LCP_CONFREQ, must=False)
    add(octets, Avp.LAST_RECEIVED_LCP_CONFREQ, must=False)
    # Of the identifier's two octets the first is reserved.
    add((2, 2, lambda data: data[1], _write16), Avp.PROXY_AUTHEN_ID, must=False)
    add(number16, Avp.PROXY_AUTHEN_TYPE, must=False)
    add(octets, Avp.PROXY_AUTHEN_NAME, Avp.PROXY_AUTHEN_CHALLENGE, Avp.PROXY_AUTHEN_RESPONSE, must=False)
    errors = _CALL_ERRORS
    add((26, 26, lambda data: CallErrors(*errors.unpack(data)), lambda value: errors.pack(*value)), Avp.CALL_ERRORS)
    add((10, 10, lambda data: Accm(*_ACCM.unpack(data)), lambda value: _ACCM.pack(*value)), Avp.ACCM)
    add(octets, Avp.RANDOM_VECTOR, hide=False)
    add(text, Avp.PRIVATE_GROUP_ID, must=False)
    add((0, 0, lambda data: True, lambda value: b""), Avp.SEQUENCING_REQUIRED, hide=False)
    return rules


RULES = _rules()
"""By attribute."""
ANY_ID = {avp: RULES[avp]._replace(read=_number) for avp in (Avp.ASSIGNED_TUNNEL_ID, Avp.ASSIGNED_SESSION_ID)}
"""In the messages that end a tunnel or call an id may be 0: one that was never assigned."""
HIDEABLE = frozenset(rule.avp for rule in RULES.values() if rule.hideable)
"""What may be hidden."""
