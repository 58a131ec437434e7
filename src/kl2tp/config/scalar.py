"""What the text of a scalar means: one reader per type, which refuses what it does not fully understand.

YAML's own guesses (`no` is false, `010` is eight, `12:30` is 750) play no part: a reader gets the text as it
was written.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, TypeVar

from kl2tp.config.problem import Bad
from kl2tp.model import addr, ciphers
from kl2tp.model.spec import Encap, L2Spec, Mode

T = TypeVar("T")
Pair = tuple[int, int]
Net = tuple[bytes, int]

MAX_SHOWN = 80
"""Characters of a bad value that a message shows."""


@dataclass(frozen=True, slots=True, eq=False)
class Type(Generic[T]):
    """A kind of scalar: `text` becomes `words[text]` if that exists, else what `parse` makes of it."""

    syntax: str
    """How it is written, for people."""
    parse: Callable[[str], T]
    """Raises `Bad`."""
    words: Mapping[str, T] = field(default_factory=dict)
    instead: Bad | None = None
    """What to say about a mapping or a list in the place of the scalar, if not just that."""

    def read(self, text: str) -> T:
        """The value of `text`. Raises `Bad`."""
        return self.words[text] if text in self.words else self.parse(text)


def show(text: str) -> str:
    """A value as messages show it: quoted, on one line, not too long."""
    return repr(text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}...")


def similar(word: str, among: Iterable[str]) -> str:
    """The word that was probably meant, or the empty string if none is near."""
    return _similar(word.lower(), tuple(among)) if len(word) <= MAX_SHOWN else ""


@lru_cache(1024)
def _similar(word: str, among: tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(word, among, 1, 0.6)
    return close[0] if close else ""


def _did_you_mean(word: str, among: Iterable[str]) -> str:
    meant = similar(word, among)
    return f"did you mean {meant}?" if meant else ""


# Words


def choice(words: Mapping[str, T]) -> Type[T]:
    """One of a few words."""

    def refuse(text: str) -> T:
        raise Bad(f"{show(text)} is none of {', '.join(words)}", _did_you_mean(text, words))

    return Type(" | ".join(words), refuse, words)


def either(words: Mapping[str, Any], other: Type[Any]) -> Type[Any]:
    """A few words, or another type."""
    first = {value: word for word, value in reversed(list(words.items())) if word}
    shown = [word for word in words if word in first.values()]
    return Type(" | ".join((*shown, other.syntax)), other.parse, {**other.words, **words})


def _boolean(text: str) -> bool:
    raise Bad(f"{show(text)} is neither true nor false", "write true or false")


BOOLEAN = Type(
    "true | false",
    _boolean,
    {
        form: value
        for word, value in (
            ("true", True),
            ("yes", True),
            ("on", True),
            ("false", False),
            ("no", False),
            ("off", False),
        )
        for form in (word, word.capitalize(), word.upper())
    },
)


def _off(text: str) -> bool:
    raise Bad("only 'off' may stand here in place of a mapping", "write the keys: {KEY: VALUE}")


OFF = Type("off", _off, {"off": False, "no": False, "none": False, "false": False})
"""The short form that switches something off."""

# Numbers

_HEX = re.compile(r"0[xX][0-9a-fA-F]{1,16}")
_OCTAL = re.compile(r"0[0-7]+")
_GROUPED = re.compile(r"[0-9]+(?:[_,'][0-9]+)+")


def number(text: str) -> int:
    """A natural number, decimal or hexadecimal. Raises `Bad` for all that only might be one."""
    if text.isdecimal() and text.isascii() and (text[0] != "0" or text == "0") and len(text) <= 20:
        return int(text)
    if _HEX.fullmatch(text):
        return int(text, 16)
    if text.isdecimal() and len(text) > 20:
        raise Bad(f"{show(text)} is a number beyond all bounds")
    raise Bad(f"{show(text)} is not a whole number", _number_hint(text))


def _number_hint(text: str) -> str:
    if _OCTAL.fullmatch(text):
        return f"write {text.lstrip('0') or '0'} if it is decimal, {int(text, 8):#x} if octal was meant"
    if text.startswith("0") and text.isascii() and text.isdigit():
        return f"write {text.lstrip('0')}"
    if text[:2].lower() == "0o" and _OCTAL.fullmatch("0" + text[2:]):
        return f"octal is not used here: write {int(text[2:], 8)}"
    if _GROUPED.fullmatch(text):
        return f"write {re.sub('[^0-9]', '', text)}"
    return "write it in decimal, or in hexadecimal as in 0x1f"


def integer(low: int, high: int, unit: str = "") -> Type[int]:
    """A whole number from `low` to `high`."""

    def parse(text: str) -> int:
        value = number(text)
        if low <= value <= high:
            return value
        raise Bad(f"{show(text)} is not from {low} to {high}" + (f" {unit}" if unit else ""))

    return Type(f"{low}..{high}", parse)


def pair(half: Type[int]) -> Type[Pair]:
    """`LOCAL/PEER`; one number alone stands for both."""

    def parse(text: str) -> Pair:
        first, slash, second = text.partition("/")
        if first == second:
            slash = ""
        if not slash:
            value = half.parse(first.strip())
            return (value, value)
        return (half.parse(first.strip()), half.parse(second.strip()))

    return Type("LOCAL/PEER", parse)


U32 = 0xFFFFFFFF
ID = integer(1, U32)
IDS = pair(ID)
PORTS = pair(integer(1, 65535))
REQID = integer(1, U32)
METRIC = integer(0, U32)
TABLE: Type[int] = either({"main": 254, "local": 255, "default": 253}, integer(1, U32))
PATH_MTU = integer(576, 65535, "bytes")
MTU: Type[int | None] = either({"auto": None}, integer(68, 65535, "bytes"))
MSS: Type[int | None] = either({"auto": 0, "off": None, "no": None, "none": None}, integer(88, 65495, "bytes"))
WINDOW = integer(0, 4096, "packets")
NAT: Type[Pair] = either({"off": (0, 0), "no": (0, 0), "none": (0, 0)}, PORTS)


def _mark(text: str) -> Pair:
    value, slash, mask = text.partition("/")
    got = (number(value), number(mask) if slash else U32)
    if max(got) > U32:
        raise Bad(f"{show(text)} has more than 32 bits")
    if got[0] & ~got[1]:
        raise Bad(
            f"{show(text)} has bits in its value that its mask leaves out: nothing would ever match",
            "widen the mask",
        )
    if not got[1]:
        raise Bad(f"{show(text)} has an empty mask: every packet would match", "leave the mark out")
    return got


MARK: Type[Pair | None] = either({"none": None, "off": None, "no": None}, Type("VALUE[/MASK]", _mark))

# Time

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
_DURATION = re.compile(r"(0|[1-9][0-9]{0,9})\s*(ms|s|m|h)?")


def duration(unit: str, low: int, high: int) -> Type[int]:
    """A time in `unit` (ms or s) from `low` to `high`; a number alone counts that unit."""

    def parse(text: str) -> int:
        found = _DURATION.fullmatch(text)
        if not found:
            raise Bad(
                f"{show(text)} is not a time",
                f"write a number of {unit}, or one with a unit: 500ms, 10s, 5m, 1h",
            )
        value, rest = divmod(int(found[1]) * _UNITS[found[2] or unit], _UNITS[unit])
        if rest or not low <= value <= high:
            raise Bad(f"{show(text)} is not from {low} to {high} {unit}")
        return value

    return Type(f"{low}..{high} {unit}", parse)


REORDER = duration("ms", 0, 10_000)
OVERLAP = duration("s", 0, 3600)
RESYNC = duration("s", 1, 86_400)

# Addresses


def _address(text: str) -> bytes:
    try:
        return addr.parse(text)
    except ValueError:
        raise Bad(f"{show(text)} is not an IPv4 or IPv6 address", _address_hint(text)) from None


def _address_hint(text: str) -> str:
    if "/" in text:
        return "write the address without a prefix length"
    if "%" in text:
        return "addresses with a zone are not supported"
    if text.replace(".", "").isdigit():
        return "an IPv4 address is four numbers from 0 to 255, without leading zeros"
    if "." in text or any(c.isalpha() for c in text if c not in "abcdefABCDEF:"):
        return "names are not looked up: write the address itself"
    return ""


def unicast(address: bytes, text: str) -> bytes:
    """Refuse what can't be an end of anything. Raises `Bad`."""
    if not any(address):
        raise Bad(f"{show(text)} is the unspecified address", "write the address of one host")
    if len(address) == 4:
        if 224 <= address[0] < 240:
            raise Bad(f"{show(text)} is a multicast address", "write the address of one host")
        if address[0] >= 240:
            raise Bad(f"{show(text)} is a broadcast or reserved address", "write the address of one host")
    elif address[0] == 0xFF:
        raise Bad(f"{show(text)} is a multicast address", "write the address of one host")
    elif address[:12] == bytes(10) + b"\xff\xff":
        raise Bad(f"{show(text)} is an IPv4 address in IPv6 form", f"write {addr.text(address[12:])}")
    return address


def version(address: bytes) -> str:
    """The IP version of a packed address, for messages."""
    return "IPv4" if len(address) == 4 else "IPv6"


def link_local(address: bytes) -> bool:
    """Whether a packed address is an IPv6 link-local one."""
    return len(address) == 16 and address[0] == 0xFE and address[1] & 0xC0 == 0x80


def _endpoint(text: str) -> bytes:
    address = unicast(_address(text), text)
    if link_local(address):
        raise Bad(f"{show(text)} is a link-local address", "tunnels need an address that is valid beyond one link")
    return address


def _gateway(text: str) -> bytes:
    return unicast(_address(text), text)


ENDPOINT = Type("IPv4 or IPv6 address", _endpoint)
GATEWAY = Type("IPv4 or IPv6 address", _gateway)


def _split(text: str) -> tuple[str, int | None]:
    address, slash, length = text.partition("/")
    return address, number(length) if slash else None


def _interface_address(text: str) -> Net:
    part, length = _split(text)
    address = unicast(_address(part), part)
    bits = len(address) * 8
    if length is None:
        raise Bad(f"{show(text)} has no prefix length", f"write {text}/{bits} for a single address")
    if length > bits or not length:
        raise Bad(f"{show(text)} has a prefix length that is not from 1 to {bits}")
    if bits == 32 and length < 31:
        _ipv4_host(address, length, text)
    return (address, length)


def _ipv4_host(address: bytes, length: int, text: str) -> None:
    host = int.from_bytes(address) & (1 << 32 - length) - 1
    if not host:
        raise Bad(
            f"{show(text)} is the address of the network itself",
            f"the first host is {_nth(address, 1, length)}",
        )
    if host == (1 << 32 - length) - 1:
        raise Bad(
            f"{show(text)} is the broadcast address of its network",
            f"the last host is {_nth(address, -1, length)}",
        )


def _nth(address: bytes, step: int, length: int) -> str:
    return addr.prefix((int.from_bytes(address) + step).to_bytes(4), length)


INTERFACE_ADDRESS = Type("ADDRESS/LENGTH", _interface_address)


def _destination(text: str) -> Net:
    if text == "default":
        raise Bad("'default' may be IPv4 or IPv6", "write 0.0.0.0/0 or ::/0")
    part, length = _split(text)
    address = _address(part)
    bits = len(address) * 8
    if length is None:
        length = bits
    if length > bits:
        raise Bad(f"{show(text)} has a prefix length over {bits}")
    if addr.network(address, length) != address:
        raise Bad(
            f"{show(text)} has bits set beyond its prefix",
            f"write {addr.prefix(addr.network(address, length), length)}",
        )
    return (address, length)


DESTINATION = Type("PREFIX", _destination)

_MAC = re.compile(r"[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}")


def _mac(text: str) -> bytes:
    if not _MAC.fullmatch(text):
        raise Bad(f"{show(text)} is not a MAC address", "write it as 02:00:00:00:00:01")
    mac = bytes.fromhex(text.replace(":", "").replace("-", ""))
    if mac[0] & 1 or not any(mac):
        raise Bad(
            f"{show(text)} is not the address of one station",
            "the first byte must be even: 02:... is free for local use",
        )
    return mac


MAC = Type("MAC address", _mac)

# Names

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DEVICE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*")
_NETNS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,254}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
MAX_DEVICE = 15
"""IFNAMSIZ without its zero byte."""


def _name(text: str) -> str:
    if _NAME.fullmatch(text):
        return text
    if len(text) > 64:
        raise Bad(f"{show(text)} has more than 64 characters")
    raise Bad(
        f"{show(text)} is not a name",
        "letters, digits and . _ @ - are allowed; it begins with a letter or digit",
    )


def device(text: str) -> str:
    """A network device's name. Raises `Bad`."""
    if len(text) > MAX_DEVICE:
        raise Bad(f"{show(text)} has {len(text)} characters: a network device's name has at most {MAX_DEVICE}")
    if not _DEVICE.fullmatch(text):
        raise Bad(f"{show(text)} is not a name for a network device", "letters, digits and _ . @ + - are allowed")
    if text in ("lo", "all", "default"):
        raise Bad(f"{show(text)} is a name that the kernel uses itself", "choose another name")
    return text


def _netns(text: str) -> str:
    if _NETNS.fullmatch(text):
        return text
    hint = "write the name that `ip netns` shows, without a path" if "/" in text else ""
    raise Bad(f"{show(text)} is not the name of a network namespace", hint)


NAME = Type("NAME", _name)
DEVICE = Type("DEVICE", device)
MASTER: Type[str] = either({"none": "", "off": "", "no": ""}, DEVICE)
NETNS: Type[str] = either({"default": "", "": ""}, Type("NAME", _netns))

# Secrets: only references, and a text that may be the secret itself is never shown


def _shown(text: str) -> str:
    """The text if it looks like a path, since a key pasted in its place must not reach a message."""
    return show(text) if text[:1] in "./~" and not text.endswith("=") else "the value"


def secret_path(text: str, why: str) -> str:
    """An absolute path. Raises `Bad`, with `why` it must be one."""
    if any(ord(c) < 0x20 for c in text):
        raise Bad("the value has control characters in it")
    if not text.startswith("/"):
        raise Bad(f"{_shown(text)} is not an absolute path", f"{why}: write the whole path, from /")
    if text.endswith("/") and text.strip("/"):
        return text.rstrip("/")
    return text


def _path(text: str) -> str:
    return secret_path(text, "keys live in files")


def _file(text: str) -> str:
    path = _path(text)
    if text.endswith("/"):
        raise Bad(f"{_shown(text)} names a directory", "name the file in it, or use key_dir")
    return path


def _credential(text: str) -> str:
    if _CREDENTIAL.fullmatch(text):
        return text
    raise Bad("the value is not the name of a credential", "the name after LoadCredential=, without a path")


FILE = Type("/PATH", _file)
OPTIONAL_FILE: Type[str] = either({"none": "", "off": "", "no": ""}, FILE)
DIRECTORY = Type("/PATH", _path)
CREDENTIAL = Type("NAME", _credential)


def _hex_cookie(text: str) -> bytes:
    """Never shown: a cookie keeps blind attackers out."""
    digits = text.removeprefix("0x").replace(":", "")
    try:
        cookie = bytes.fromhex(digits)
    except ValueError:
        raise Bad("the cookie is not written in hexadecimal", "8 or 16 hexadecimal digits: 4 or 8 bytes") from None
    if len(cookie) not in (4, 8) or len(digits) != 2 * len(cookie):
        raise Bad(f"the cookie has {len(digits)} hexadecimal digits", "8 or 16 hexadecimal digits: 4 or 8 bytes")
    return cookie


def _cookie_kind(text: str) -> int:
    raise Bad("the value is none of none, auto, auto4, auto8", "given cookies are written {local: HEX, peer: HEX}")


COOKIE: Type[bytes] = either({"none": b""}, Type("HEX", _hex_cookie))
COOKIE_KIND = Type("none | auto | auto4 | auto8", _cookie_kind, {"none": 0, "auto": 8, "auto4": 4, "auto8": 8})

# Choices

ENCAPSULATION = choice({"ip": Encap.IP, "udp": Encap.UDP})
L2_SUBLAYER = choice({"default": L2Spec.DEFAULT, "none": L2Spec.NONE})
SEQUENCING = choice({"none": (False, False), "send": (True, False), "require": (False, True), "both": (True, True)})
MODE = choice({"transport": Mode.TRANSPORT, "tunnel": Mode.TUNNEL})
SIDE = choice({"auto": "", "left": "left", "right": "right"})
OFFLOAD = choice({"crypto": False, "packet": True})
LOG_LEVEL = choice({level: level for level in ("debug", "info", "warning", "error")})


def _proposal(text: str) -> str:
    try:
        return ciphers.find(text).name
    except ValueError as error:
        near = _did_you_mean(text, ciphers.CIPHERS) if str(error).startswith("there is no") else ""
        raise Bad(
            f"{show(text)} is refused: {error}" if not near else f"there is no cipher {show(text)}", near
        ) from None


PROPOSAL = Type(" | ".join(ciphers.CIPHERS), _proposal)
