"""What the text of a scalar means, continued: the types that only IKE needs."""

import re
from collections.abc import Callable
from typing import Any

from kl2tp.config.problem import Bad
from kl2tp.config.scalar import FILE, Type, duration, either, number, secret_path, show, similar
from kl2tp.model import addr
from kl2tp.model.algorithms import ALGORITHMS, Algorithm, Kind, of_kind
from kl2tp.model.ike import ANYBODY, CERTIFICATE, EAP, LEGACY_CLIENTS, PSK, Initiate

_NOTHING = ("never", "off", "no", "none")


def _one_of(words: dict[str, Any], shown: str, other: Callable[[str], Bad] | None = None) -> Type[Any]:
    """One of a few words; `shown` is how they are documented."""

    def refuse(text: str) -> Any:
        if other is not None:
            raise other(text)
        meant = similar(text, words)
        raise Bad(f"{show(text)} is none of {shown.replace(' |', ',')}", f"did you mean {meant}?" if meant else "")

    return Type(shown, refuse, words)


# What is negotiated, and by whom

VERSION = _one_of({"2": 2, "1": 1, "any": 0}, "2 | 1 | any")
AUTH = _one_of({PSK: PSK, CERTIFICATE: CERTIFICATE, EAP: EAP}, "psk | cert | eap")
PROFILE = _one_of({"strong": "", LEGACY_CLIENTS: LEGACY_CLIENTS}, f"strong | {LEGACY_CLIENTS}")
INITIATE = _one_of({one.value: one for one in Initiate}, "auto | yes | no")
NAT_TRAVERSAL = _one_of({"auto": False, "always": True}, "auto | always")


def _remote_auth(text: str) -> Bad:
    if text == EAP:
        return Bad(
            "peers that prove themselves by EAP are not supported", "users log in by PPP; devices have psk or cert"
        )
    return Bad(f"{show(text)} is none of psk, cert")


REMOTE_AUTH = _one_of({PSK: PSK, CERTIFICATE: CERTIFICATE}, "psk | cert", _remote_auth)

SHORT: Type[tuple[str, str]] = _one_of(
    {
        **{word: ("auth", word) for word in (PSK, CERTIFICATE, EAP)},
        LEGACY_CLIENTS: ("profile", LEGACY_CLIENTS),
        **dict.fromkeys(("off", "no", "none", "false"), ("off", "")),
    },
    f"psk | cert | eap | {LEGACY_CLIENTS} | off",
)
"""The short form of a whole `ike`: a key and its value."""

WEAK_WORD = "i-accept-broken-crypto"
WEAK = _one_of({"no": False, "off": False, WEAK_WORD: True}, f"no | {WEAK_WORD}")


def never(other: Type[int]) -> Type[int]:
    """A time, or none at all."""
    return either(dict.fromkeys(_NOTHING, 0), other)


REKEY = never(duration("s", 3, 86_400))
IKE_REKEY = never(duration("s", 10, 604_800))
DPD = never(duration("s", 1, 3600))
DPD_TIMEOUT = duration("s", 2, 3600)
GRACE = duration("s", 0, 3600)

# Files

_CREDENTIAL = re.compile(r"credential:[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")


def _secret_file(text: str) -> str:
    return text if _CREDENTIAL.fullmatch(text) else FILE.parse(text)


def _directory(text: str) -> str:
    return secret_path(text, "secrets live in files")


SECRET_FILE = Type("/PATH | credential:NAME", _secret_file)
PSK_DIRECTORY = Type("/PATH", _directory)

# Identities, RFC 7296 3.5, as strongSwan understands them

_TYPES = ("fqdn", "dns", "rfc822", "email", "userfqdn", "ipv4", "ipv6", "asn1dn", "keyid", "xmppaddr")
_ATTRIBUTES = (
    "nd uid dc cn sn serialnumber c l st o ou t d n g i dnqualifier id en employeenumber e email emailaddress un "
    "unstructuredname ua unstructuredaddress tcgid postaladdress postalcode dmdname pseudonym street"
)
"""What a distinguished name may consist of; strongSwan takes one with anything else for a mere string of bytes."""


def _identity(text: str) -> str:
    """An address, a name, a mail address, a distinguished name, or any of strongSwan's `type:value`."""
    if not text.isprintable() or not text.strip():
        raise Bad("the value is empty or has control characters in it")
    if len(text.encode()) > 255:
        raise Bad(f"{show(text)} is longer than 255 bytes")
    if text == ANYBODY:
        raise Bad(f"{ANYBODY} is nobody in particular", "write who we are, or leave it out")
    if text.partition(":")[0] in _TYPES and ":" in text:
        return text
    if "=" in text:
        return _distinguished_name(text)
    if "@" not in text and (":" in text or text.replace(".", "").isdigit()):
        _must_be_address(text)
    elif " " in text:
        raise Bad(
            f"{show(text)} is no identity: it has a space in it", "a certificate's subject is written CN=..., O=..."
        )
    return text


def _must_be_address(text: str) -> None:
    try:
        addr.parse(text)
    except ValueError:
        hint = f"an address, a name, or one of {', '.join(f'{kind}:' for kind in _TYPES[:4])} ... before it"
        raise Bad(f"{show(text)} is not an IPv4 or IPv6 address", hint) from None


def _distinguished_name(text: str) -> str:
    parts = text[1:].split("/") if text.startswith("/") else text.split(",")
    for part in parts:
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name:
            why = f"{show(part.strip())} is not of the form NAME=VALUE"
            raise Bad(f"{show(text)} is no distinguished name: {why}", "CN=vpn.example.org, O=Example")
        if name.lower() not in _ATTRIBUTES.split():
            raise Bad(f"{show(text)}: there is no attribute {show(name)}", "e.g. CN, O, OU, C, L, ST, DC, UID, E")
        if not value:
            raise Bad(f"{show(text)}: {name} has no value", "leave it out, or write * for any")
    return text


def _remote_identity(text: str) -> str:
    star = text.find("*", 1)
    if star > 0 and "=" not in text:
        raise Bad(f"{show(text)}: a * stands at the beginning only", "as in *.example.org or *@example.org")
    return _identity(text)


def _local_identity(text: str) -> str:
    if "*" in text:
        raise Bad(f"{show(text)} has a * in it: we are somebody in particular")
    return _identity(text)


LOCAL_ID = Type("IDENTITY", _local_identity)
REMOTE_ID: Type[str] = either({"any": ANYBODY, ANYBODY: ANYBODY}, Type("IDENTITY", _remote_identity))

# Proposals

_GOOD_IKE, _GOOD_ESP = "aes256-sha256-ecp256", "aes256gcm16"
_MEANT = {
    **{f"dh{n}": word for n, word in ((14, "modp2048"), (15, "modp3072"), (16, "modp4096"), (19, "ecp256"))},
    **{f"group{n}": word for n, word in ((14, "modp2048"), (15, "modp3072"), (16, "modp4096"), (19, "ecp256"))},
    **{"dh20": "ecp384", "dh21": "ecp521", "dh31": "x25519", "dh2": "modp1024", "dh5": "modp1536"},
    **{"sha2": "sha256", "aes_gcm": "aes256gcm16", "aes_gcm256": "aes256gcm16", "aesgcm": "aes256gcm16"},
    **{"x25519mlkem768": "x25519-ke1_mlkem768", "chachapoly": "chacha20poly1305", "secp256r1": "ecp256"},
}
"""What other programs call them."""


def _words(text: str) -> tuple[Algorithm, ...]:
    """The algorithms of a proposal, each once and each something that protects. Raises `Bad`."""
    if "," in text:
        raise Bad(f"{show(text)} is several proposals in one", "write a list: [aes256gcm16, aes256-sha256]")
    words = text.split("-")
    for word in words:
        found = ALGORITHMS.get(word)
        if found is None:
            raise _unknown(text, word)
        if found.never:
            raise Bad(f"{show(text)} is refused: {word}: {found.weak}", f"use {_GOOD_ESP}")
        if words.count(word) > 1:
            raise Bad(f"{show(text)} names {word} twice", "remove one")
    return tuple([ALGORITHMS[word] for word in words])


def _unknown(text: str, word: str) -> Bad:
    if word == "default":
        return Bad(
            f"{show(text)}: default is what strongSwan makes of it, which changes", "leave it out: then it is kl2tp's"
        )
    meant = _MEANT.get(word.lower(), "") or (word.lower() if word.lower() in ALGORITHMS else similar(word, ALGORITHMS))
    hint = f"did you mean {meant}?" if meant else f"words of strongSwan, joined by dashes: {_GOOD_IKE}"
    return Bad(f"{show(text)}: there is no algorithm {show(word)}", hint)


def _encrypts(text: str, algorithms: tuple[Algorithm, ...], good: str) -> bool:
    """Whether it is encryption that authenticates by itself. There must be some, and of one kind."""
    aead, classic = of_kind(algorithms, Kind.AEAD), of_kind(algorithms, Kind.ENCRYPTION)
    if not aead and not classic:
        raise Bad(f"{show(text)} names no encryption", f"e.g. {good}")
    if aead and classic:
        what = f"{show(text)}: {aead[0].word} authenticates by itself and {classic[0].word} doesn't"
        raise Bad(f"{what}: they can't stand in one proposal", "make two of it: a list")
    if classic and not of_kind(algorithms, Kind.INTEGRITY):
        raise Bad(f"{show(text)} names no integrity: {classic[0].word} alone does not authenticate", "add sha256")
    return bool(aead)


def _ike(text: str) -> str:
    algorithms = _words(text)
    _encrypts(text, algorithms, _GOOD_IKE)
    if not of_kind(algorithms, Kind.PRF) and not any(map(_is_prf, algorithms)):
        raise Bad(f"{show(text)} names no pseudo-random function", "add prfsha256 or prfsha384")
    if not any(one.kind is Kind.GROUP and not one.word.startswith("ke") for one in algorithms):
        raise Bad(f"{show(text)} names no Diffie-Hellman group", "add ecp256, x25519 or modp2048")
    if of_kind(algorithms, Kind.ESN):
        raise Bad(f"{show(text)}: extended sequence numbers are a matter of ESP", "put esn into esp_proposals")
    return text


def _is_prf(algorithm: Algorithm) -> bool:
    """Whether an integrity algorithm serves as pseudo-random function too, where none is named."""
    return algorithm.kind is Kind.INTEGRITY and not algorithm.word.endswith("_96")


def _esp(text: str) -> str:
    algorithms = _words(text)
    aead = _encrypts(text, algorithms, _GOOD_ESP)
    integrity, prf = of_kind(algorithms, Kind.INTEGRITY), of_kind(algorithms, Kind.PRF)
    if prf or (aead and integrity):
        needless = (*prf, *integrity)[0].word
        why = "ESP has no pseudo-random function" if prf else "the encryption authenticates by itself"
        raise Bad(f"{show(text)}: {needless} means nothing here, as {why}", f"remove {needless}")
    return text


IKE_PROPOSAL = Type("ALGORITHM-ALGORITHM-...", _ike)
ESP_PROPOSAL = Type("ALGORITHM-ALGORITHM-...", _esp)

# The daemon

_VICI = "unix:///run/charon.vici"
MAX_SOCKET = 107
"""Bytes of a path in sockaddr_un, without its zero byte."""


def _charon(text: str) -> str:
    scheme, colon, path = text.partition("://")
    if colon and scheme == "tcp":
        why = "over TCP everybody who reaches the port can read and change all keys"
        raise Bad(f"{show(text)} is refused: {why}", f"charon.plugins.vici.socket = {_VICI}, as strongSwan has it")
    if not colon or scheme != "unix" or not path.startswith("/") or path.endswith("/"):
        raise Bad(f"{show(text)} is not unix:// and an absolute path", f"e.g. {_VICI}")
    if len(path.encode()) > MAX_SOCKET or not path.isprintable():
        raise Bad(f"{show(text)} is no path for a socket", f"at most {MAX_SOCKET} bytes, without control characters")
    return text


def _marks(text: str) -> tuple[int, int]:
    """BASE/MASK as firewalls write it, to (base, what is left for the clients' numbers)."""
    base, slash, mask = text.partition("/")
    if not slash:
        raise Bad(
            f"{show(text)} has no mask", "BASE/MASK, as in 0x6b000000/0xffff0000: marks from 0x6b000000 to 0x6b00ffff"
        )
    value, fixed = number(base), number(mask)
    if max(value, fixed) > 0xFFFFFFFF:
        raise Bad(f"{show(text)} has more than 32 bits")
    free = ~fixed & 0xFFFFFFFF
    if free & (free + 1) or not 0xFF <= free <= 0xFFFFFF:
        raise Bad(f"{show(text)}: the mask does not leave the last 8 to 24 bits", "e.g. 0xffff0000: 65,536 clients")
    if value & free or not value:
        raise Bad(f"{show(text)}: the base must be within the mask, and not 0", f"e.g. 0x6b000000/{fixed:#010x}")
    return value, free


CHARON = Type("unix:///PATH", _charon)
MARKS = Type("BASE/MASK", _marks)
