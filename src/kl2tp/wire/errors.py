"""What a decoder raises, and nothing else: each error says what RFC 2661 wants done about it.

A malformed header is dropped in silence. Below it, what belongs to a call ends the call (CDN) and the rest ends the
tunnel (StopCCN), each with result 2, "general error", and one of the error codes of 4.4.2.
"""

from collections.abc import Mapping
from typing import Any

WRONG_LENGTH = 2
OUT_OF_RANGE = 3
UNKNOWN_AVP = 8
_GENERAL_ERROR = 2


class ProtocolError(ValueError):
    """A peer sent what cannot be understood; the text is for people, and may be sent as the error message."""

    fatal = False
    """The tunnel, or with `call_only` the call, has to go; otherwise what was received is dropped."""
    call_only = False
    """What was received was about one call."""
    result = _GENERAL_ERROR
    """Result code to answer with, 4.4.2: it means the same in StopCCN and in CDN."""
    error = OUT_OF_RANGE
    """General error code to answer with, 4.4.2."""
    message_type = 0
    """Of the message in which it was; 0: not known."""
    avps: Mapping[Any, Any] = {}
    """What else the message said, by `kl2tp.wire.avp.Avp`: the ids that the answer is for."""


class HeaderError(ProtocolError):
    """The L2TP header is none: drop the packet (RFC 2661 7.1)."""


class MessageError(ProtocolError):
    """A control message that must not be ignored."""

    fatal = True

    def __init__(self, text: str, error: int = OUT_OF_RANGE) -> None:
        super().__init__(text)
        self.error = error


class MalformedMessage(MessageError):
    """AVPs that cannot be told apart, or no message type in front."""


class UnknownMessage(MessageError):
    """A message type that we don't know and must (M bit, 4.4.1)."""

    def __init__(self, message_type: int) -> None:
        super().__init__(f"message type {message_type} is unknown", UNKNOWN_AVP)
        self.message_type = message_type


class AvpError(MessageError):
    """Something about one AVP; `attribute` is its number, `vendor` whose (0: IETF)."""

    def __init__(self, text: str, attribute: int, error: int, vendor: int = 0) -> None:
        super().__init__(text, error)
        self.attribute = attribute
        self.vendor = vendor


class UnknownMandatory(AvpError):
    """An AVP that we don't know and must (M bit, 4.1)."""

    def __init__(self, attribute: int, vendor: int = 0) -> None:
        whose = f" of vendor {vendor}" if vendor else ""
        super().__init__(f"AVP {attribute}{whose} is unknown", attribute, UNKNOWN_AVP, vendor)


class BadAvp(AvpError):
    """A mandatory AVP whose value makes no sense, or cannot be deciphered."""


class MissingAvp(AvpError):
    """An AVP without which the message has no meaning (section 6)."""
