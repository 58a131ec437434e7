"""Control messages of every kind, with any values that they may have."""

from typing import Any

from hypothesis import strategies as st

from kl2tp.wire.avp import Avp
from kl2tp.wire.messages import LAYOUTS, MessageType
from kl2tp.wire.values import Accm, CallErrors, Q931Cause, ResultCode

Avps = dict[Avp, Any]

bit16 = st.integers(0, 0xFFFF)
bit32 = st.integers(0, 0xFFFFFFFF)
octets = st.binary(max_size=64)
text = st.text(st.characters(exclude_categories=("C", "Z")), max_size=20)

_STRUCTURED: dict[Avp, st.SearchStrategy[Any]] = {
    Avp.PROTOCOL_VERSION: st.integers(0x0100, 0x01FF),
    Avp.TIE_BREAKER: st.binary(min_size=8, max_size=8),
    Avp.CHALLENGE: st.binary(min_size=1, max_size=64),
    Avp.CHALLENGE_RESPONSE: st.binary(min_size=16, max_size=16),
    Avp.RESULT_CODE: st.builds(ResultCode, bit16, bit16, text),
    Avp.Q931_CAUSE_CODE: st.builds(Q931Cause, bit16, st.integers(0, 255), text),
    Avp.CALL_ERRORS: st.builds(CallErrors, *(bit32,) * 6),
    Avp.ACCM: st.builds(Accm, bit32, bit32),
    Avp.HOST_NAME: text.filter(bool),
    Avp.PROXY_AUTHEN_ID: st.integers(0, 255),
    Avp.SEQUENCING_REQUIRED: st.just(True),
}
_TEXT = {Avp.VENDOR_NAME, Avp.CALLED_NUMBER, Avp.CALLING_NUMBER, Avp.SUB_ADDRESS, Avp.PRIVATE_GROUP_ID}
_NOT_ZERO = {Avp.ASSIGNED_TUNNEL_ID, Avp.ASSIGNED_SESSION_ID, Avp.RECEIVE_WINDOW_SIZE}
_BITS_16 = {Avp.FIRMWARE_REVISION, Avp.PROXY_AUTHEN_TYPE}
_OCTETS = {
    Avp.INITIAL_RECEIVED_LCP_CONFREQ,
    Avp.LAST_SENT_LCP_CONFREQ,
    Avp.LAST_RECEIVED_LCP_CONFREQ,
    Avp.PROXY_AUTHEN_NAME,
    Avp.PROXY_AUTHEN_CHALLENGE,
    Avp.PROXY_AUTHEN_RESPONSE,
}


def value(avp: Avp) -> st.SearchStrategy[Any]:
    """Whatever the AVP may say."""
    if avp in _STRUCTURED:
        return _STRUCTURED[avp]
    if avp in _NOT_ZERO:
        return st.integers(1, 0xFFFF)
    if avp in _TEXT:
        return text
    return octets if avp in _OCTETS else bit16 if avp in _BITS_16 else bit32


@st.composite
def messages(draw: st.DrawFn) -> tuple[MessageType, Avps]:
    """A message with all that it must and some of what it may carry, in any order."""
    layout = LAYOUTS[draw(st.sampled_from(MessageType))]
    optional = [Avp(number) for number in layout.rules if number not in layout.required]
    chosen = draw(st.lists(st.sampled_from(optional), unique=True)) if optional else []
    order = draw(st.permutations([*sorted(layout.required), *chosen]))
    return layout.type, {avp: draw(value(avp)) for avp in order}
