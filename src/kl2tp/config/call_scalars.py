"""What the text of a scalar means, continued: the types that only calls need."""

import re
from typing import TypeAlias

from kl2tp.config.problem import Bad
from kl2tp.config.scalar import (
    DESTINATION,
    ENDPOINT,
    MAX_DEVICE,
    NAME,
    Net,
    Type,
    device,
    either,
    integer,
    secret_path,
    show,
    similar,
    unicast,
    version,
)
from kl2tp.model import addr
from kl2tp.model.calls import AUTH_METHODS

Socket: TypeAlias = tuple[bytes, int]
"""(address, UDP port)."""

PORT = 1701
"""UDP port of L2TP, RFC 2661 8.1."""
MAX_NUMBER = 5
"""Digits of the number in an interface's name: what 65,535 calls need."""

# Time and rates

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_TIME = re.compile(r"(0|[1-9][0-9]{0,8})(?:\.([0-9]{1,3}))?\s*(ms|s|m|h)?")


def seconds(low: float, high: float) -> Type[float]:
    """A time from `low` to `high` seconds, in whole milliseconds; a number alone counts seconds."""

    def parse(text: str) -> float:
        found = _TIME.fullmatch(text)
        if not found:
            hint = "write a number of seconds, or one with a unit: 500ms, 10s, 5m, 1h"
            raise Bad(f"{show(text)} is not a time", hint)
        whole, fraction, unit = found.groups()
        value = int(whole + (fraction or "").ljust(3, "0")) * _UNITS[unit or "s"] / 1_000_000
        if not low <= value <= high:
            raise Bad(f"{show(text)} is not from {low:g} to {high:g} s")
        return value

    return Type(f"{low:g}..{high:g} s", parse)


def never(other: Type[float]) -> Type[float]:
    """A time, or none at all."""
    return either({"off": 0.0, "never": 0.0, "no": 0.0, "none": 0.0}, other)


_RATE = re.compile(r"([1-9][0-9]{0,5})\s*(?:/\s*(s|m|h))?")


def _rate(text: str) -> float:
    found = _RATE.fullmatch(text)
    if not found:
        raise Bad(f"{show(text)} is not a rate", "write calls per second as in 50/s, or off")
    return int(found[1]) / {"s": 1, "m": 60, "h": 3600}[found[2] or "s"]


RATE: Type[float] = either({"off": 0.0, "no": 0.0, "none": 0.0}, Type("NUMBER[/s | /m | /h]", _rate))
COUNT = integer(1, 65535)
SESSIONS = integer(1, 1_000_000)
PER_USER: Type[int] = either({"off": 0, "none": 0}, integer(1, 65535))
CONTROL_WINDOW = integer(1, 4096, "messages")
TRIES = integer(1, 255)
MRU: Type[int | None] = either({"auto": None}, integer(576, 65535, "bytes"))
PORT_OR_AUTO: Type[int] = either({"auto": 0}, integer(1, 65535))

# Addresses

_WITH_PORT = re.compile(r"(?:\[([^\]]*)\]|([^:]*)):([0-9]+)")


def _address_and_port(text: str) -> tuple[str, int]:
    """`ADDRESS`, `IPV4:PORT` or `[IPV6]:PORT`. Raises `Bad`."""
    found = _WITH_PORT.fullmatch(text)
    if not found:
        return text.removeprefix("[").removesuffix("]"), PORT
    try:
        return found[1] or found[2] or "", integer(1, 65535).parse(found[3])
    except Bad as bad:
        raise Bad(f"{show(text)}: the port {bad.message}", bad.hint) from None


def _listen(text: str) -> Socket:
    part, port = _address_and_port(text)
    if part in ("0.0.0.0", "::"):
        return addr.parse(part), port
    return ENDPOINT.parse(part), port


def _server(text: str) -> Socket:
    part, port = _address_and_port(text)
    return ENDPOINT.parse(part), port


LISTEN = Type("ADDRESS[:PORT]", _listen)
SERVER = Type("ADDRESS[:PORT]", _server)
LOCAL: Type[bytes] = either({"auto": b""}, ENDPOINT)


def _ipv4(text: str) -> bytes:
    address = ENDPOINT.parse(text)
    if len(address) != 4:
        raise Bad(f"{show(text)} is an IPv6 address", "this one is IPv4: IPv6 addresses follow from the prefix")
    return address


IPV4 = Type("IPv4 address", _ipv4)

# Pools


class PoolRange:
    """A piece of a pool as it was written."""

    __slots__ = ("first", "last", "length", "text")

    def __init__(self, text: str, first: bytes, last: bytes, length: int | None) -> None:
        self.text = text
        """In canonical form."""
        self.first = first
        self.last = last
        self.length = length
        """Of the prefix that it is; None for FIRST-LAST and a single address."""


def pool_range(text: str) -> PoolRange:
    """`PREFIX`, `FIRST-LAST` or one address. Raises `Bad`."""
    first, dash, last = (part.strip() for part in text.partition("-"))
    if dash:
        return _first_last(text, unicast(_parsed(first), first), unicast(_parsed(last), last))
    if "/" not in text:
        address = unicast(_parsed(text), text)
        return PoolRange(addr.text(address), address, address, None)
    network, length = DESTINATION.parse(text)
    unicast(network, text)
    bits = len(network) * 8
    end = (int.from_bytes(network) | (1 << bits - length) - 1).to_bytes(len(network))
    unicast(end, text)
    return PoolRange(addr.prefix(network, length), network, end, length)


def _parsed(text: str) -> bytes:
    """An address. Raises `Bad`."""
    try:
        return addr.parse(text)
    except ValueError:
        hint = "write FIRST-LAST as in 10.9.0.10-10.9.0.99, or a prefix as in 10.9.0.0/24"
        raise Bad(f"{show(text)} is not an IPv4 or IPv6 address", hint) from None


def _first_last(text: str, first: bytes, last: bytes) -> PoolRange:
    if len(first) != len(last):
        raise Bad(f"{show(text)} begins with {version(first)} and ends with {version(last)}")
    if first > last:
        raise Bad(f"{show(text)} counts down", f"write {addr.text(last)}-{addr.text(first)}")
    return PoolRange(f"{addr.text(first)}-{addr.text(last)}", first, last, None)


def _is_range(text: str) -> bool:
    """Whether this looks like addresses rather than a name."""
    first = text.partition("-")[0].partition("/")[0].strip()
    try:
        addr.parse(first)
    except ValueError:
        return "/" in text or ":" in text
    return True


def _pool(text: str) -> str | PoolRange:
    return pool_range(text) if _is_range(text) else NAME.parse(text)


def _pool_name(text: str) -> str:
    if _is_range(text):
        raise Bad(f"{show(text)} is not a name for a pool", "NAME: PREFIX, as in customers: 10.9.0.0/20")
    return NAME.parse(text)


POOL_RANGE = Type("PREFIX | FIRST-LAST", pool_range)
POOL: Type[str | PoolRange] = either({"none": ""}, Type("POOL | PREFIX | FIRST-LAST", _pool))
POOL_NAME = Type("NAME", _pool_name)
PEERS: Type[Net] = DESTINATION

# Names

_HOST_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_HOST_PATTERN = re.compile(r"[A-Za-z0-9._@*?-]{1,64}")


def _host_name(text: str) -> str:
    if not _HOST_NAME.fullmatch(text):
        raise Bad(f"{show(text)} is not a host name", "at most 64 letters, digits and . _ -")
    return text


def _host_pattern(text: str) -> str:
    if not _HOST_PATTERN.fullmatch(text):
        raise Bad(
            f"{show(text)} is not a pattern for host names",
            "at most 64 letters, digits and . _ @ -, and the wildcards * (any text) and ? (one character)",
        )
    return text


def _text(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise Bad("the value is empty or has control characters in it")
    if len(text.encode()) > 255:
        raise Bad(f"{show(text)} is longer than 255 bytes")
    return text


def _number(text: str) -> str:
    if not re.fullmatch(r"[0-9A-Za-z*#+.-]{1,64}", text):
        raise Bad(f"{show(text)} is not a number to call", "digits, letters and * # + . -")
    return text


def pattern(text: str) -> str:
    """The name of a device, in which {n} may stand for a number. Raises `Bad`."""
    if text.count("{n}") > 1 or "{" in (rest := text.replace("{n}", "", 1)) or "}" in rest:
        raise Bad(f"{show(text)} is not a pattern for interface names", "write {n} once, for the number, as in l2tp{n}")
    if "{n}" not in text:
        return device(text)
    if len(rest) > MAX_DEVICE - MAX_NUMBER:
        raise Bad(
            f"{show(text)} leaves no room for numbers: a network device's name has at most {MAX_DEVICE} characters",
            f"at most {MAX_DEVICE - MAX_NUMBER} characters beside {{n}}",
        )
    device(text.replace("{n}", "0"))
    return text


HOST_NAME = Type("NAME", _host_name)
HOST_PATTERN = Type("PATTERN", _host_pattern)
TEXT = Type("TEXT", _text)
CALLED_NUMBER = Type("NUMBER", _number)
PATTERN = Type("NAME{n}", pattern)

# Files


def _file(text: str, what: str) -> str:
    path = secret_path(text, what)
    if text.endswith("/"):
        raise Bad(f"{show(text)} names a directory", "name the file in it")
    return path


def _secret_file(text: str) -> str:
    """A path, or the name of a credential."""
    if text.startswith("credential:"):
        name = text.removeprefix("credential:")
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}", name):
            raise Bad("the value is not the name of a credential", "credential:NAME, the name after LoadCredential=")
        return text
    return _file(text, "secrets live in files")


SECRET_FILE = Type("/PATH | credential:NAME", _secret_file)
OPTIONAL_SECRET_FILE: Type[str] = either({"none": "", "off": "", "no": ""}, SECRET_FILE)
PROGRAM: Type[str] = either(
    {"none": "", "off": "", "no": ""}, Type("/PATH", lambda text: _file(text, "programs are not searched for"))
)

# Choices

_BROKEN = {
    "mschap": "MS-CHAP version 1 can be broken in hours",
    "ms-chap": "MS-CHAP version 1 can be broken in hours",
    "mschap-v1": "MS-CHAP version 1 can be broken in hours",
    "eap-tls": "EAP with certificates is not supported",
    "spap": "SPAP is no more than disguised clear text",
}
_MEANT = {"eap": "eap-mschapv2", "ms-chap-v2": "mschapv2", "mschap-v2": "mschapv2", "chap-md5": "chap", "md5": "chap"}


def _auth(text: str) -> str:
    word = text.lower()
    if word in _BROKEN:
        raise Bad(f"{show(text)} is refused: {_BROKEN[word]}; use eap-mschapv2 or mschapv2")
    meant = _MEANT.get(word) or similar(text, AUTH_METHODS)
    raise Bad(f"{show(text)} is none of {', '.join(AUTH_METHODS)}, none", f"did you mean {meant}?" if meant else "")


AUTH = Type(" | ".join((*AUTH_METHODS, "none")), _auth, {**{word: word for word in AUTH_METHODS}, "none": ""})
