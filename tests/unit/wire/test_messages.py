"""Control messages: those of xl2tpd, every kind there and back, and what is done about those that are wrong."""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.wire import avp as wire
from kl2tp.wire import l2tp, values
from kl2tp.wire.avp import HIDDEN, MANDATORY, Avp
from kl2tp.wire.errors import (
    OUT_OF_RANGE,
    UNKNOWN_AVP,
    WRONG_LENGTH,
    BadAvp,
    MalformedMessage,
    MessageError,
    MissingAvp,
    UnknownMandatory,
    UnknownMessage,
)
from kl2tp.wire.messages import (
    LAYOUTS,
    Cdn,
    GeneralError,
    Message,
    MessageType,
    StopCcn,
    UnsupportedVersion,
    challenge_response,
    decode,
    encode,
    peek_host_name,
    peek_type,
)
from kl2tp.wire.values import HIDEABLE, RULES, Accm, CallErrors, ProxyAuthen, Q931Cause, ResultCode
from unit.wire import captures
from unit.wire.strategies import Avps, messages

SECRET = b"opensesame"
CALLS = {kind for kind in MessageType if kind > MessageType.HELLO}

INTRODUCTION: Avps = {
    Avp.PROTOCOL_VERSION: 0x0100,
    Avp.HOST_NAME: "lac",
    Avp.FRAMING_CAPABILITIES: 3,
    Avp.ASSIGNED_TUNNEL_ID: 7,
}
OFFER: Avps = {Avp.ASSIGNED_SESSION_ID: 8, Avp.CALL_SERIAL_NUMBER: 1}
CONNECTED: Avps = {Avp.TX_CONNECT_SPEED: 56000, Avp.FRAMING_TYPE: 1}
WISH: Avps = {
    Avp.MINIMUM_BPS: 1,
    Avp.MAXIMUM_BPS: 2,
    Avp.BEARER_TYPE: 1,
    Avp.FRAMING_TYPE: 1,
    Avp.CALLED_NUMBER: "1",
}
LEAST: dict[MessageType, Avps] = {
    MessageType.SCCRQ: INTRODUCTION,
    MessageType.SCCRP: INTRODUCTION,
    MessageType.SCCCN: {},
    MessageType.STOPCCN: {Avp.ASSIGNED_TUNNEL_ID: 7, Avp.RESULT_CODE: ResultCode(1)},
    MessageType.HELLO: {},
    MessageType.OCRQ: {**OFFER, **WISH},
    MessageType.OCRP: {Avp.ASSIGNED_SESSION_ID: 8},
    MessageType.OCCN: CONNECTED,
    MessageType.ICRQ: OFFER,
    MessageType.ICRP: {Avp.ASSIGNED_SESSION_ID: 8},
    MessageType.ICCN: CONNECTED,
    MessageType.CDN: {Avp.ASSIGNED_SESSION_ID: 8, Avp.RESULT_CODE: ResultCode(1)},
    MessageType.WEN: {Avp.CALL_ERRORS: CallErrors(1, 2, 3, 4, 5, 6)},
    MessageType.SLI: {Avp.ACCM: Accm(1, 2)},
}
"""What each message must carry, sections 6.1 to 6.14."""

INCOMING_PROXY = {26, 27, 28, 29, 30, 31, 32, 33}
MAY: dict[MessageType, set[int]] = {
    MessageType.SCCRQ: {4, 5, 6, 8, 10, 11},
    MessageType.SCCRP: {4, 6, 8, 10, 11, 13},
    MessageType.SCCCN: {13},
    MessageType.STOPCCN: set(),
    MessageType.HELLO: set(),
    MessageType.OCRQ: {23},
    MessageType.OCRP: {25},
    MessageType.OCCN: {38, 39},
    MessageType.ICRQ: {18, 21, 22, 23, 25},
    MessageType.ICRP: set(),
    MessageType.ICCN: {*INCOMING_PROXY, 37, 38, 39},
    MessageType.CDN: {12},
    MessageType.WEN: set(),
    MessageType.SLI: set(),
}
"""What each message may carry besides, sections 6.1 to 6.14."""

LENGTHS = {
    **dict.fromkeys((0, 2, 6, 9, 10, 14, 29, 32), (2, 2)),
    **dict.fromkeys((3, 4, 15, 16, 17, 18, 19, 24, 25, 38), (4, 4)),
    **dict.fromkeys((8, 21, 22, 23, 26, 27, 28, 30, 31, 33, 36, 37), (0, 1017)),
    **{1: (2, 1017), 5: (8, 8), 7: (1, 1017), 11: (1, 1017), 12: (3, 1017), 13: (16, 16)},
    **{34: (26, 26), 35: (10, 10), 39: (0, 0)},
}
"""Octets of each attribute's value, at least and at most, 4.4."""

MUST = {0, 1, 2, 3, 4, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 23, 24, 34, 35, 36, 39}
"""Attributes whose M bit must be 1, 4.4; that of the others must be 0."""
NEVER_HIDDEN = {0, 1, 2, 5, 7, 10, 12, 36, 39}
"""Attributes whose H bit must be 0, 4.4."""

VALUES: dict[str, tuple[Avp, str, Any]] = {
    "message type": (Avp.MESSAGE_TYPE, "0006", 6),
    "result": (Avp.RESULT_CODE, "0001", ResultCode(1)),
    "result and error": (Avp.RESULT_CODE, "0002 0004", ResultCode(2, 4)),
    "result, error and message": (Avp.RESULT_CODE, "0002 0006 6e6f", ResultCode(2, 6, "no")),
    "protocol version": (Avp.PROTOCOL_VERSION, "0100", 256),
    "framing capabilities": (Avp.FRAMING_CAPABILITIES, "00000003", 3),
    "bearer capabilities": (Avp.BEARER_CAPABILITIES, "00000002", 2),
    "tie breaker": (Avp.TIE_BREAKER, "0102030405060708", bytes(range(1, 9))),
    "firmware revision": (Avp.FIRMWARE_REVISION, "0690", 0x690),
    "host name": (Avp.HOST_NAME, "6c6163", "lac"),
    "vendor name, with a zero": (Avp.VENDOR_NAME, "4d6963726f736f667400", "Microsoft"),
    "vendor name, no text": (Avp.VENDOR_NAME, "ff0a41", "\\xff\\nA"),
    "assigned tunnel id": (Avp.ASSIGNED_TUNNEL_ID, "ffff", 65535),
    "receive window size": (Avp.RECEIVE_WINDOW_SIZE, "0004", 4),
    "challenge": (Avp.CHALLENGE, "00", b"\0"),
    "Q.931 cause": (Avp.Q931_CAUSE_CODE, "0010 01", Q931Cause(16, 1)),
    "Q.931 cause and text": (Avp.Q931_CAUSE_CODE, "0010 01 6279 65", Q931Cause(16, 1, "bye")),
    "challenge response": (Avp.CHALLENGE_RESPONSE, "00" * 16, bytes(16)),
    "assigned session id": (Avp.ASSIGNED_SESSION_ID, "0001", 1),
    "call serial number": (Avp.CALL_SERIAL_NUMBER, "ffffffff", 0xFFFFFFFF),
    "minimum": (Avp.MINIMUM_BPS, "00000001", 1),
    "maximum": (Avp.MAXIMUM_BPS, "000fffff", 0xFFFFF),
    "bearer type": (Avp.BEARER_TYPE, "00000001", 1),
    "framing type": (Avp.FRAMING_TYPE, "00000001", 1),
    "called number": (Avp.CALLED_NUMBER, "35 35", "55"),
    "no calling number": (Avp.CALLING_NUMBER, "", ""),
    "sub-address": (Avp.SUB_ADDRESS, "61", "a"),
    "transmit speed": (Avp.TX_CONNECT_SPEED, "0000dac0", 56000),
    "physical channel": (Avp.PHYSICAL_CHANNEL_ID, "00000009", 9),
    "first CONFREQ": (Avp.INITIAL_RECEIVED_LCP_CONFREQ, "0104 05dc", b"\1\4\5\xdc"),
    "last CONFREQ sent": (Avp.LAST_SENT_LCP_CONFREQ, "", b""),
    "last CONFREQ received": (Avp.LAST_RECEIVED_LCP_CONFREQ, "0702", b"\7\2"),
    "proxy authen type": (Avp.PROXY_AUTHEN_TYPE, "0002", ProxyAuthen.CHAP),
    "proxy authen name": (Avp.PROXY_AUTHEN_NAME, "6d65", b"me"),
    "proxy authen challenge": (Avp.PROXY_AUTHEN_CHALLENGE, "0102", b"\1\2"),
    "proxy authen id": (Avp.PROXY_AUTHEN_ID, "00fe", 0xFE),
    "proxy authen response": (Avp.PROXY_AUTHEN_RESPONSE, "0102", b"\1\2"),
    "call errors": (
        Avp.CALL_ERRORS,
        "0000 00000001 00000002 00000003 00000004 00000005 00000006",
        CallErrors(1, 2, 3, 4, 5, 6),
    ),
    "accm": (Avp.ACCM, "0000 ffffffff 000a0000", Accm(0xFFFFFFFF, 0xA0000)),
    "private group": (Avp.PRIVATE_GROUP_ID, "7670 6e", "vpn"),
    "receive speed": (Avp.RX_CONNECT_SPEED, "00000001", 1),
    "sequencing required": (Avp.SEQUENCING_REQUIRED, "", True),
}

IMPOSSIBLE: dict[str, tuple[Avp, str, int]] = {
    "result of one octet": (Avp.RESULT_CODE, "01", WRONG_LENGTH),
    "result of three octets": (Avp.RESULT_CODE, "000102", OUT_OF_RANGE),
    "short version": (Avp.PROTOCOL_VERSION, "01", WRONG_LENGTH),
    "long framing": (Avp.FRAMING_CAPABILITIES, "0000000003", WRONG_LENGTH),
    "short tie breaker": (Avp.TIE_BREAKER, "01020304050607", WRONG_LENGTH),
    "empty host name": (Avp.HOST_NAME, "", WRONG_LENGTH),
    "tunnel id 0": (Avp.ASSIGNED_TUNNEL_ID, "0000", OUT_OF_RANGE),
    "session id 0": (Avp.ASSIGNED_SESSION_ID, "0000", OUT_OF_RANGE),
    "window 0": (Avp.RECEIVE_WINDOW_SIZE, "0000", OUT_OF_RANGE),
    "empty challenge": (Avp.CHALLENGE, "", WRONG_LENGTH),
    "cause without message": (Avp.Q931_CAUSE_CODE, "0010", WRONG_LENGTH),
    "short response": (Avp.CHALLENGE_RESPONSE, "00" * 15, WRONG_LENGTH),
    "short errors": (Avp.CALL_ERRORS, "00" * 25, WRONG_LENGTH),
    "long accm": (Avp.ACCM, "00" * 11, WRONG_LENGTH),
    "sequencing with a value": (Avp.SEQUENCING_REQUIRED, "01", WRONG_LENGTH),
    "speed of 16 bits": (Avp.RX_CONNECT_SPEED, "0001", WRONG_LENGTH),
}

every_message = pytest.mark.parametrize("kind", MessageType, ids=lambda kind: kind.name)


def _carrier(avp: Avp) -> MessageType:
    """A message that may carry the AVP, not one that ends things: there an id may be 0."""
    carriers = [kind for kind, layout in LAYOUTS.items() if avp in layout.rules]
    return MessageType(min(carriers, key=lambda kind: kind == MessageType.STOPCCN))


def _with(kind: MessageType, avp: int, value: bytes, flags: int = MANDATORY, vendor: int = 0) -> bytes:
    """The least message, with one AVP in place of, or beside, what it must have."""
    rest = {other: data for other, data in LEAST[kind].items() if other != avp}
    parts = [wire.join(MANDATORY, Avp.MESSAGE_TYPE, kind.to_bytes(2, "big"))]
    raw = bytearray(wire.join(flags, avp, value))
    raw[2:4] = vendor.to_bytes(2, "big")
    parts.append(bytes(raw))
    parts.extend(wire.join(MANDATORY, other, RULES[other].write(data)) for other, data in rest.items())
    return b"".join(parts)


def _error(payload: bytes, secret: bytes | None = None) -> MessageError:
    with pytest.raises(MessageError) as caught:
        decode(payload, secret)
    return caught.value


# xl2tpd


@pytest.mark.parametrize(
    ("packet", "kind", "avps"),
    [
        (
            captures.SCCRQ,
            MessageType.SCCRQ,
            {
                Avp.PROTOCOL_VERSION: 0x0100,
                Avp.FRAMING_CAPABILITIES: 3,
                Avp.BEARER_CAPABILITIES: 0,
                Avp.FIRMWARE_REVISION: 0x0690,
                Avp.HOST_NAME: "lac.example",
                Avp.VENDOR_NAME: "xelerance.com",
                Avp.ASSIGNED_TUNNEL_ID: 37856,
                Avp.RECEIVE_WINDOW_SIZE: 4,
                Avp.CHALLENGE: bytes.fromhex("62ce8b29e23259876a781014b2e36101"),
            },
        ),
        (captures.ICRQ, MessageType.ICRQ, {**OFFER, Avp.ASSIGNED_SESSION_ID: 13355, Avp.BEARER_TYPE: 0}),
        (captures.ICRP, MessageType.ICRP, {Avp.ASSIGNED_SESSION_ID: 18951}),
        (
            captures.ICCN,
            MessageType.ICCN,
            {Avp.TX_CONNECT_SPEED: 0, Avp.FRAMING_TYPE: 1, Avp.RX_CONNECT_SPEED: 0},
        ),
        (captures.CDN, MessageType.CDN, {Avp.RESULT_CODE: ResultCode(1), Avp.ASSIGNED_SESSION_ID: 13355}),
    ],
    ids=lambda value: value.name if isinstance(value, MessageType) else "",
)
def test_messages_of_xl2tpd_are_read(packet: bytes, kind: MessageType, avps: Avps) -> None:
    message = decode(l2tp.decode_control(packet)[1])
    assert (message.type, message.avps) == (kind, avps)
    assert not message.ignored


@pytest.mark.parametrize("packet", [captures.SCCRQ, captures.SCCRP, captures.SCCCN, captures.ICRQ, captures.ICCN])
def test_messages_are_written_as_xl2tpd_does(packet: bytes) -> None:
    payload = l2tp.decode_control(packet)[1]
    message = decode(payload)
    assert isinstance(message.type, MessageType)
    assert encode(message.type, message.avps) == payload[:8] + payload[30:]  # without its random vector


def test_challenges_are_answered_as_xl2tpd_does() -> None:
    offered, answered = (decode(l2tp.decode_control(packet)[1]).avps for packet in (captures.SCCRQ, captures.SCCRP))
    connected = decode(l2tp.decode_control(captures.SCCCN)[1]).avps
    response = challenge_response(MessageType.SCCRP, SECRET, offered[Avp.CHALLENGE])
    assert response == answered[Avp.CHALLENGE_RESPONSE]
    response = challenge_response(MessageType.SCCCN, SECRET, answered[Avp.CHALLENGE])
    assert response == connected[Avp.CHALLENGE_RESPONSE]


def test_avps_are_hidden_as_xl2tpd_takes_them() -> None:
    avps = {**OFFER, Avp.ASSIGNED_SESSION_ID: 88, Avp.CALL_SERIAL_NUMBER: 5, Avp.CALLING_NUMBER: "12345678901234567890"}
    payload = encode(MessageType.ICRQ, avps, hide=HIDEABLE, secret=SECRET, random=lambda size: bytes(range(size)))
    assert payload == captures.HIDDEN_ICRQ
    message = decode(payload, SECRET)
    assert message.avps == avps
    assert set(message.hidden) == set(avps)
    assert decode(captures.HIDDEN_SCCCN, SECRET).avps.keys() == {Avp.CHALLENGE_RESPONSE}


# Values


@pytest.mark.parametrize(("avp", "octets", "value"), VALUES.values(), ids=VALUES.keys())
def test_a_value_is_read(avp: Avp, octets: str, value: Any) -> None:
    rule, data = RULES[avp], bytes.fromhex(octets)
    assert rule.shortest <= len(data) <= rule.longest
    read = rule.read(data)
    assert read == value
    assert type(read) is type(value) or isinstance(value, int)


def test_every_attribute_has_a_vector() -> None:
    assert {avp for avp, *_ in VALUES.values()} == RULES.keys() - {Avp.RANDOM_VECTOR}
    assert RULES.keys() == set(Avp)


@pytest.mark.parametrize(("avp", "octets", "value"), VALUES.values(), ids=VALUES.keys())
def test_a_value_is_written(avp: Avp, octets: str, value: Any) -> None:
    data = RULES[avp].write(value)
    if avp == Avp.RESULT_CODE:
        assert data.startswith(bytes.fromhex(octets))
    elif avp != Avp.VENDOR_NAME:
        assert data == bytes.fromhex(octets)


def test_a_message_for_people_is_cut_off_where_an_avp_ends() -> None:
    assert RULES[Avp.RESULT_CODE].write(ResultCode(2, 6, "x" * 2000)) == b"\0\2\0\6" + b"x" * 1013
    assert RULES[Avp.Q931_CAUSE_CODE].write(Q931Cause(16, 1, "x" * 2000)) == b"\0\x10\1" + b"x" * 1014
    assert RULES[Avp.RESULT_CODE].write(ResultCode(2, 6, "\udc80")) == b"\0\2\0\6\\udc80"


@pytest.mark.parametrize(("avp", "octets", "code"), IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_a_mandatory_avp_with_an_impossible_value_ends_it(avp: Avp, octets: str, code: int) -> None:
    error = _error(_with(_carrier(avp), avp, bytes.fromhex(octets)))
    assert isinstance(error, BadAvp)
    assert (error.attribute, error.error, error.result) == (avp, code, StopCcn.GENERAL_ERROR)
    assert avp.name in str(error)


@pytest.mark.parametrize("avp", [Avp.TIE_BREAKER, Avp.BEARER_CAPABILITIES, Avp.RX_CONNECT_SPEED, Avp.PROXY_AUTHEN_ID])
def test_an_optional_avp_with_an_impossible_value_is_ignored(avp: Avp) -> None:
    kind = _carrier(avp)
    message = decode(_with(kind, avp, b"\1\2\3", flags=0))
    assert message.avps == LEAST[kind]
    assert len(message.ignored) == 1


@pytest.mark.parametrize("kind", [MessageType.STOPCCN, MessageType.CDN])
def test_what_ends_something_may_have_no_id(kind: MessageType) -> None:
    avp = Avp.ASSIGNED_TUNNEL_ID if kind == MessageType.STOPCCN else Avp.ASSIGNED_SESSION_ID
    assert decode(_with(kind, avp, b"\0\0")).avps[avp] == 0


@pytest.mark.parametrize("avp", Avp)
def test_the_format_of_an_attribute_is_that_of_the_rfc(avp: Avp) -> None:
    rule = RULES[avp]
    assert (rule.shortest, rule.longest) == LENGTHS[avp]
    assert bool(rule.flags & MANDATORY) == (avp in MUST)
    assert rule.hideable == (avp not in NEVER_HIDDEN)
    assert (avp in HIDEABLE) == rule.hideable


def test_attributes_are_numbered_without_20() -> None:
    assert [int(avp) for avp in Avp] == [*range(20), *range(21, 40)]


def test_bits_and_kinds_are_those_of_the_rfc() -> None:
    assert (values.SYNCHRONOUS, values.ASYNCHRONOUS, values.DIGITAL, values.ANALOG) == (1, 2, 1, 2)
    assert {kind.name: kind.value for kind in ProxyAuthen} == {"TEXT": 1, "CHAP": 2, "PAP": 3, "NONE": 4, "MSCHAP": 5}


# Layout of messages


@every_message
def test_a_message_must_and_may_carry_what_the_rfc_says(kind: MessageType) -> None:
    assert LAYOUTS[kind].required == LEAST[kind].keys()
    assert LAYOUTS[kind].rules.keys() == LEAST[kind].keys() | MAY[kind]


def test_message_types_are_numbered_as_in_the_rfc() -> None:
    assert {kind.name: kind.value for kind in MessageType} == {
        **{"SCCRQ": 1, "SCCRP": 2, "SCCCN": 3, "STOPCCN": 4, "HELLO": 6},
        **{"OCRQ": 7, "OCRP": 8, "OCCN": 9, "ICRQ": 10, "ICRP": 11, "ICCN": 12, "CDN": 14, "WEN": 15, "SLI": 16},
    }


@every_message
def test_the_least_message_comes_back(kind: MessageType) -> None:
    payload = encode(kind, LEAST[kind])
    message = decode(payload)
    assert (message.type, message.avps) == (kind, LEAST[kind])
    assert peek_type(payload) == kind


@pytest.mark.parametrize(("kind", "avp"), [(kind, avp) for kind, avps in LEAST.items() for avp in avps])
def test_what_a_message_must_carry_is_missed(kind: MessageType, avp: Avp) -> None:
    least = {other: value for other, value in LEAST[kind].items() if other != avp}
    header = wire.join(MANDATORY, Avp.MESSAGE_TYPE, kind.to_bytes(2, "big"))
    error = _error(header + b"".join(wire.join(MANDATORY, a, RULES[a].write(v)) for a, v in least.items()))
    assert isinstance(error, MissingAvp)
    assert error.attribute == avp
    assert error.avps == least
    with pytest.raises(ValueError, match=avp.name):
        encode(kind, least)


@every_message
def test_a_message_says_whether_its_error_is_of_a_call(kind: MessageType) -> None:
    error = _error(_with(kind, 100, b""))
    assert isinstance(error, UnknownMandatory)
    assert error.fatal
    assert error.call_only == (kind in CALLS)
    assert error.message_type == kind


def test_a_message_is_not_encoded_with_what_has_no_meaning_in_it() -> None:
    with pytest.raises(ValueError, match="HELLO has no CHALLENGE"):
        encode(MessageType.HELLO, {Avp.CHALLENGE: b"x"})


def test_what_has_no_meaning_in_a_message_is_ignored_whatever_it_says() -> None:
    message = decode(_with(MessageType.HELLO, Avp.ASSIGNED_TUNNEL_ID, b"long"))
    assert message.avps == {}
    assert len(message.ignored) == 1


def test_the_first_of_two_counts() -> None:
    twice = encode(MessageType.ICRP, {Avp.ASSIGNED_SESSION_ID: 8}) + wire.join(
        MANDATORY, Avp.ASSIGNED_SESSION_ID, b"\0\x09"
    )
    message = decode(twice)
    assert message.avps == {Avp.ASSIGNED_SESSION_ID: 8}
    assert message.ignored == ["AVP 14 came again"]


def test_an_error_tells_the_ids_that_the_answer_needs() -> None:
    error = _error(_with(MessageType.ICRQ, 100, b""))
    assert error.avps == OFFER


@given(messages())
def test_messages_come_back(message: tuple[MessageType, Avps]) -> None:
    kind, avps = message
    decoded = decode(encode(kind, avps))
    assert (decoded.type, decoded.avps) == message
    assert list(decoded.avps) == list(avps)
    assert not decoded.hidden
    assert not decoded.ignored


@given(messages(), st.binary(min_size=1, max_size=20), st.randoms())
def test_hidden_messages_come_back(message: tuple[MessageType, Avps], secret: bytes, random: Any) -> None:
    kind, avps = message
    payload = encode(kind, avps, hide=HIDEABLE, secret=secret, random=random.randbytes)
    decoded = decode(payload, secret)
    assert (decoded.type, decoded.avps) == message
    assert set(decoded.hidden) == avps.keys() & HIDEABLE


def test_some_avps_are_hidden_and_others_not() -> None:
    hide = {Avp.ASSIGNED_TUNNEL_ID, Avp.CHALLENGE}
    payload = encode(MessageType.SCCRQ, INTRODUCTION, hide=hide, secret=SECRET)
    assert set(decode(payload, SECRET).hidden) == {Avp.ASSIGNED_TUNNEL_ID}


# M and H bits


def _sent(kind: MessageType, avps: Avps, **options: Any) -> dict[int, int]:
    """The flags of each AVP as it is sent."""
    return {number: word & ~0x3FF for word, _, number, _ in wire.split(encode(kind, avps, **options))}


@given(messages())
def test_m_bits_are_sent_as_the_rfc_says(message: tuple[MessageType, Avps]) -> None:
    sent = _sent(*message)
    assert sent == {number: MANDATORY if number in MUST else 0 for number in sent}


@given(messages())
def test_h_bits_are_sent_as_the_rfc_says(message: tuple[MessageType, Avps]) -> None:
    sent = _sent(*message, hide=HIDEABLE, secret=SECRET)
    assert {number for number, flags in sent.items() if flags & HIDDEN} == sent.keys() - NEVER_HIDDEN


@given(messages())
def test_the_message_type_comes_first_and_a_random_vector_before_what_is_hidden(
    message: tuple[MessageType, Avps],
) -> None:
    order = [number for _, _, number, _ in wire.split(encode(*message, hide=HIDEABLE, secret=SECRET))]
    assert order[0] == Avp.MESSAGE_TYPE
    hidden = [number for number in order if number not in NEVER_HIDDEN]
    assert order.count(Avp.RANDOM_VECTOR) == bool(hidden)
    if hidden:
        assert order.index(Avp.RANDOM_VECTOR) < order.index(hidden[0])


@pytest.mark.parametrize("avp", [Avp.HOST_NAME, Avp.PROTOCOL_VERSION])
def test_what_must_not_be_hidden_is_not(avp: Avp) -> None:
    with pytest.raises(ValueError, match="cannot be hidden"):
        encode(MessageType.SCCRQ, INTRODUCTION, hide={avp}, secret=SECRET)


def test_nothing_is_hidden_without_a_secret() -> None:
    with pytest.raises(ValueError, match="without a secret"):
        encode(MessageType.ICRQ, OFFER, hide=HIDEABLE)


def test_padding_hides_the_length() -> None:
    sizes = {
        len(encode(MessageType.ICRQ, {**OFFER, Avp.CALLING_NUMBER: "5" * size}, hide=HIDEABLE, secret=b"s"))
        for size in range(15)
    }
    assert len(sizes) == 1


def test_unknown_avps_are_ignored_unless_mandatory() -> None:
    message = decode(_with(MessageType.ICRQ, 100, b"what", flags=0))
    assert message.avps == OFFER
    assert message.ignored == ["AVP 100 is unknown"]
    error = _error(_with(MessageType.ICRQ, 100, b"what"))
    assert isinstance(error, UnknownMandatory)
    assert (error.attribute, error.error) == (100, UNKNOWN_AVP)
    assert str(error) == "AVP 100 is unknown"


def test_avps_of_vendors_are_unknown_whatever_their_number() -> None:
    assert decode(_with(MessageType.ICRQ, Avp.CALLING_NUMBER, b"1", flags=0, vendor=9)).avps == OFFER
    error = _error(_with(MessageType.ICRQ, Avp.CALLING_NUMBER, b"1", vendor=9))
    assert isinstance(error, UnknownMandatory)
    assert (error.attribute, error.vendor) == (Avp.CALLING_NUMBER, 9)
    assert str(error) == "AVP 22 of vendor 9 is unknown"


@pytest.mark.parametrize("bit", [0x2000, 0x1000, 0x0800, 0x0400])
def test_avps_with_a_reserved_bit_are_unknown(bit: int) -> None:
    assert decode(_with(MessageType.ICRQ, Avp.CALLING_NUMBER, b"1", flags=bit)).avps == OFFER
    error = _error(_with(MessageType.ICRQ, Avp.CALLING_NUMBER, b"1", flags=MANDATORY | bit))
    assert isinstance(error, UnknownMandatory)


# Message types


@pytest.mark.parametrize("kind", [0, 5, 13, 17, 0xFFFF])
def test_unknown_messages_are_ignored_unless_mandatory(kind: int) -> None:
    message = decode(wire.join(0, Avp.MESSAGE_TYPE, kind.to_bytes(2, "big")) + wire.join(MANDATORY, 100, b""))
    assert (message.type, message.avps) == (kind, {})
    error = _error(wire.join(MANDATORY, Avp.MESSAGE_TYPE, kind.to_bytes(2, "big")))
    assert isinstance(error, UnknownMessage)
    assert error.message_type == kind
    assert error.fatal
    assert not error.call_only


def test_a_known_message_need_not_be_mandatory() -> None:
    assert decode(wire.join(0, Avp.MESSAGE_TYPE, b"\0\6")).type is MessageType.HELLO


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        wire.join(MANDATORY, Avp.HOST_NAME, b"x") + wire.join(MANDATORY, Avp.MESSAGE_TYPE, b"\0\6"),
        wire.join(MANDATORY, Avp.MESSAGE_TYPE, b"\0"),
        wire.join(MANDATORY, Avp.MESSAGE_TYPE, b"\0\0\6"),
        wire.join(MANDATORY | HIDDEN, Avp.MESSAGE_TYPE, b"\0\6"),
        wire.join(MANDATORY | 0x0400, Avp.MESSAGE_TYPE, b"\0\6"),
        b"\x80\x08\0\x09\0\0\0\x06",
    ],
    ids=["empty", "second", "one octet", "three octets", "hidden", "reserved bit", "of a vendor"],
)
def test_a_message_type_in_front_is_indispensable(payload: bytes) -> None:
    error = _error(payload)
    assert isinstance(error, MalformedMessage)
    assert error.fatal
    assert not error.call_only


def test_another_version_is_refused_with_ours() -> None:
    error = _error(_with(MessageType.SCCRQ, Avp.PROTOCOL_VERSION, b"\2\0"))
    assert isinstance(error, UnsupportedVersion)
    assert (error.result, error.error) == (StopCcn.VERSION, 0x0100)
    assert str(error) == "protocol version 2.0 is not supported"
    assert error.avps[Avp.ASSIGNED_TUNNEL_ID] == 7
    assert decode(_with(MessageType.SCCRQ, Avp.PROTOCOL_VERSION, b"\1\7")).avps[Avp.PROTOCOL_VERSION] == 0x0107


# Hidden AVPs that cannot be revealed


def _hidden_number(flags: int, secret: bytes = SECRET) -> bytes:
    """A call whose calling number is hidden."""
    hidden = wire.hide(Avp.CALLING_NUMBER, b"555", secret, b"vector")
    return wire.join(MANDATORY, Avp.RANDOM_VECTOR, b"vector") + wire.join(flags | HIDDEN, Avp.CALLING_NUMBER, hidden)


UNREADABLE: dict[str, tuple[Callable[[int], bytes], bytes | None]] = {
    "no secret": (_hidden_number, None),
    "another secret": (_hidden_number, b"other"),
    "no random vector": (lambda flags: _hidden_number(flags)[12:], SECRET),
    "random vector too late": (lambda flags: _hidden_number(flags)[12:] + _hidden_number(flags)[:12], SECRET),
    "hidden random vector": (lambda flags: b"\xc0" + _hidden_number(flags)[1:], SECRET),
    "empty": (lambda flags: _hidden_number(0)[:12] + wire.join(flags | HIDDEN, Avp.CALLING_NUMBER, b""), SECRET),
}


@pytest.mark.parametrize(("make", "secret"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_revealed_is_ignored_unless_mandatory(
    make: Callable[[int], bytes], secret: bytes | None
) -> None:
    offer = encode(MessageType.ICRQ, OFFER)
    assert decode(offer + make(0), secret).avps == OFFER
    error = _error(offer + make(MANDATORY), secret)
    assert isinstance(error, BadAvp)
    assert error.attribute == Avp.CALLING_NUMBER
    assert error.call_only
    assert error.avps == OFFER
    for key in (SECRET, b"other"):
        assert key.decode() not in str(error)


def test_the_last_random_vector_before_an_avp_counts() -> None:
    payload = encode(MessageType.ICRQ, OFFER)
    for vector, avp, value in ((b"one", Avp.CALLING_NUMBER, b"1"), (b"two", Avp.CALLED_NUMBER, b"2")):
        payload += wire.join(MANDATORY, Avp.RANDOM_VECTOR, vector)
        payload += wire.join(MANDATORY | HIDDEN, avp, wire.hide(avp, value, SECRET, vector))
    payload += wire.join(MANDATORY | HIDDEN, Avp.SUB_ADDRESS, wire.hide(Avp.SUB_ADDRESS, b"3", SECRET, b"two"))
    avps = decode(payload, SECRET).avps
    assert [avps[avp] for avp in (Avp.CALLING_NUMBER, Avp.CALLED_NUMBER, Avp.SUB_ADDRESS)] == ["1", "2", "3"]


def test_a_peer_may_hide_what_need_not_be() -> None:
    hidden = wire.hide(Avp.HOST_NAME, b"lac", SECRET, b"v")
    least = encode(MessageType.SCCRQ, INTRODUCTION).replace(wire.join(MANDATORY, Avp.HOST_NAME, b"lac"), b"")
    payload = least + wire.join(MANDATORY, Avp.RANDOM_VECTOR, b"v") + wire.join(MANDATORY | HIDDEN, 7, hidden)
    assert decode(payload, SECRET).avps[Avp.HOST_NAME] == "lac"


# Peeking, codes


def test_the_host_name_is_told_before_a_secret_is_known() -> None:
    payload = encode(MessageType.SCCRQ, INTRODUCTION, hide=HIDEABLE, secret=SECRET)
    assert peek_host_name(payload) == "lac"
    assert peek_host_name(encode(MessageType.HELLO, {})) == ""
    assert peek_host_name(wire.join(MANDATORY | HIDDEN, Avp.HOST_NAME, b"cipher")) == ""
    with pytest.raises(MalformedMessage):
        peek_host_name(b"x")


@pytest.mark.parametrize(
    "payload", [b"", b"\x80\x08\0\0\0\0\x06", b"\x80\x08\0\x09\0\0\0\x06", b"\x80\x08\0\0\0\7\0\x06"]
)
def test_there_is_not_always_a_type_to_peek_at(payload: bytes) -> None:
    assert peek_type(payload) == 0


def test_challenges_are_answered_as_chap_does() -> None:
    response = challenge_response(MessageType.SCCCN, b"secret", b"challenge")
    assert response == hashlib.md5(b"\x03secretchallenge").digest()


def test_codes_are_those_of_the_rfc() -> None:
    assert [code.name for code in StopCcn] == [
        "CLEAR", "GENERAL_ERROR", "EXISTS", "NOT_AUTHORIZED", "VERSION", "SHUTTING_DOWN", "STATE_MACHINE",
    ]  # fmt: skip
    assert list(StopCcn) == list(range(1, 8))
    assert list(Cdn) == list(range(1, 12))
    assert list(GeneralError) == list(range(9))
    assert (GeneralError.WRONG_LENGTH, GeneralError.OUT_OF_RANGE, GeneralError.UNKNOWN_AVP) == (
        WRONG_LENGTH,
        OUT_OF_RANGE,
        UNKNOWN_AVP,
    )


def test_a_message_shows_what_it_is_and_no_values() -> None:
    assert repr(Message(MessageType.SCCCN, {Avp.CHALLENGE_RESPONSE: b"x"})) == "<SCCCN: CHALLENGE_RESPONSE>"
    assert repr(Message(99, {})) == "<99: >"


@given(st.binary(max_size=60) | messages().map(lambda message: encode(*message)), st.data())
def test_nonsense_raises_nothing_else(payload: bytes, data: st.DataObject) -> None:
    broken = bytearray(payload)
    for _ in range(data.draw(st.integers(0, 3))):
        if broken:
            broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(MessageError):
        decode(bytes(broken), SECRET)
    with contextlib.suppress(MessageError):
        peek_host_name(bytes(broken))
    peek_type(bytes(broken))
