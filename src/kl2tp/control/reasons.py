"""The result and error codes of StopCCN and CDN in words, RFC 2661 4.4.2."""

from kl2tp.wire.messages import Cdn, GeneralError, StopCcn
from kl2tp.wire.values import ResultCode

_STOPCCN = {
    StopCcn.CLEAR: "it was cleared",
    StopCcn.GENERAL_ERROR: "an error",
    StopCcn.EXISTS: "the control connection exists already",
    StopCcn.NOT_AUTHORIZED: "not authorized",
    StopCcn.VERSION: "the protocol version is not supported",
    StopCcn.SHUTTING_DOWN: "the peer is being shut down",
    StopCcn.STATE_MACHINE: "a message came that was not due",
}
_CDN = {
    Cdn.LOST_CARRIER: "loss of carrier",
    Cdn.GENERAL_ERROR: "an error",
    Cdn.ADMINISTRATIVE: "administrative reasons",
    Cdn.NO_FACILITIES_NOW: "no facilities at the moment",
    Cdn.NO_FACILITIES: "no facilities",
    Cdn.INVALID_DESTINATION: "an invalid destination",
    Cdn.NO_CARRIER: "no carrier",
    Cdn.BUSY: "busy",
    Cdn.NO_DIAL_TONE: "no dial tone",
    Cdn.TIMEOUT: "it took too long",
    Cdn.NO_FRAMING: "no framing was detected",
}
_ERROR = {
    GeneralError.NO_TUNNEL: "there is no control connection",
    GeneralError.WRONG_LENGTH: "a length is wrong",
    GeneralError.OUT_OF_RANGE: "a value is out of range",
    GeneralError.NO_RESOURCES: "out of resources",
    GeneralError.INVALID_SESSION: "the session id is invalid",
    GeneralError.VENDOR: "a vendor's error",
    GeneralError.TRY_ANOTHER: "try another",
    GeneralError.UNKNOWN_AVP: "an unknown mandatory AVP",
}


def of_tunnel(code: ResultCode) -> str:
    """Why the peer ended a control connection."""
    return _text(_STOPCCN.get(code.result, f"result {code.result}"), code)  # type: ignore[call-overload]


def of_call(code: ResultCode) -> str:
    """Why the peer ended a call."""
    return _text(_CDN.get(code.result, f"result {code.result}"), code)  # type: ignore[call-overload]


def _text(words: str, code: ResultCode) -> str:
    """Result, error if it says anything, and what the peer wrote itself."""
    if code.result == StopCcn.GENERAL_ERROR and code.error:
        words = _ERROR.get(code.error, f"error {code.error}")  # type: ignore[call-overload]
    return f"{words} ({code.message})" if code.message else words
