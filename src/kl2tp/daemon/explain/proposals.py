"""Two ends that have no proposal in common: what each wants, where they differ, and what would match.

Our configuration has strongSwan's words (`aes256-sha256-modp2048`), charon's log names
(`IKE:AES_CBC_256/HMAC_SHA2_256_128/PRF_HMAC_SHA2_256/MODP_2048`): all are brought to words.
"""

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from kl2tp.daemon.explain.layers import Sides
from kl2tp.model.algorithms import ALGORITHMS, Kind

Proposal: TypeAlias = tuple[str, ...]
"""Words."""

_NAMES = (
    (r"(AES|CAMELLIA)_CBC_(\d+)", r"\1\2"),
    (r"(AES|CAMELLIA)_CTR_(\d+)", r"\1\2ctr"),
    (r"(AES|CAMELLIA)_(GCM|CCM)_(\d+)_(\d+)", r"\1\4\2\3"),
    (r"(3?DES|CAST|BLOWFISH)_CBC(_\d+)?", r"\1"),
    (r"CHACHA20_POLY1305.*", "chacha20poly1305"),
    (r"PRF_HMAC_SHA2_(\d+)", r"prfsha\1"),
    (r"PRF_HMAC_(SHA1|MD5)", r"prf\1"),
    (r"PRF_AES128_(XCBC|CMAC)", r"prfaes\1"),
    (r"HMAC_SHA2_(\d+)_\d+", r"sha\1"),
    (r"HMAC_(SHA1|MD5)_96", r"\1"),
    (r"AES_(XCBC|CMAC)_96", r"aes\1"),
    (r"MODP_(\d+)_(\d+)", r"modp\1s\2"),
    (r"MODP_(\d+)", r"modp\1"),
    (r"ECP_(\d+)(_BP)?", r"ecp\1\2"),
    (r"CURVE_25519", "x25519"),
    (r"CURVE_448", "x448"),
    (r"NO_EXT_SEQ", "noesn"),
    (r"EXT_SEQ", "esn"),
)
_ALIASES = {"curve25519": "x25519", "curve448": "x448", "ecp256_bp": "ecp256bp", "sha": "sha1"}
_ORDER = (Kind.ENCRYPTION, Kind.INTEGRITY, Kind.PRF, Kind.GROUP)
"""An AEAD counts as encryption."""


def word_of(name: str) -> str:
    """charon's name of an algorithm as the word of a configuration; what has none stays as it is."""
    for pattern, word in _NAMES:
        if re.fullmatch(pattern, name):
            found = re.sub(pattern, word, name).lower()
            return _ALIASES.get(found, found)
    return name.lower()


def read(words: str | Iterable[str]) -> tuple[Proposal, ...]:
    """Proposals from a log, or from a configuration."""
    parts = words.split(", ") if isinstance(words, str) else list(words)
    return tuple(dict.fromkeys(_proposal(part.strip()) for part in parts if part.strip()))


def _proposal(text: str) -> Proposal:
    protocol, colon, names = text.partition(":")
    if colon and protocol.isupper():
        return tuple(word for name in names.split("/") if (word := word_of(name)) != "noesn")
    return tuple(_ALIASES.get(word, word) for word in text.split("-") if word != "noesn")


def _kinds(proposal: Proposal) -> dict[Kind, set[str]]:
    """Words by what they are for. A hash also stands for its pseudo-random function where none is named."""
    found: dict[Kind, set[str]] = {}
    for word in proposal:
        known = ALGORITHMS.get(word)
        kind = Kind.ENCRYPTION if known is None or known.kind is Kind.AEAD else known.kind
        found.setdefault(kind, set()).add(word)
    if Kind.PRF not in found and Kind.INTEGRITY in found:
        found[Kind.PRF] = {f"prf{word}" for word in found[Kind.INTEGRITY]}
    return found


def differences(ours: Proposal, theirs: Proposal) -> list[Kind]:
    """For what two proposals have no algorithm in common."""
    left, right = _kinds(ours), _kinds(theirs)
    found = []
    for kind in _ORDER:
        one, other = left.get(kind, set()), right.get(kind, set())
        optional = kind in (Kind.GROUP, Kind.PRF) and not (one and other)  # ESP negotiates none at first
        if not optional and not (one & other) and (one or other):
            found.append(kind)
    return found


def sides(ours: Sequence[Proposal], theirs: Sequence[Proposal], title: str) -> Sides:
    """Both, and where the two that are nearest to each other differ."""
    verdict = ""
    if ours and theirs:
        one, other = _nearest(ours, theirs)
        left, right = _kinds(one), _kinds(other)
        parts = [
            f"{kind.value}: {_words(left.get(kind))} here, {_words(right.get(kind))} there"
            for kind in differences(one, other)
        ]
        verdict = "; ".join(parts)
    return Sides(title, tuple("-".join(p) for p in ours), tuple("-".join(p) for p in theirs), verdict)


def _words(found: set[str] | None) -> str:
    return " or ".join(sorted(found)) if found else "none"


def _nearest(ours: Sequence[Proposal], theirs: Sequence[Proposal]) -> tuple[Proposal, Proposal]:
    pairs = [(one, other) for one in ours for other in theirs]
    return min(pairs, key=lambda pair: (len(differences(*pair)), ours.index(pair[0])))


def matching(ours: Sequence[Proposal], theirs: Sequence[Proposal], key: str) -> list[str]:
    """What would match: one of the peer's proposals here, if it is strong enough; one of ours there."""
    if not ours or not theirs:
        return []
    found = []
    strong = next((p for p in theirs if not weaknesses(p)), None)
    one, other = _nearest(ours, theirs)
    if strong is not None:
        found.append(f"here: add {_spelled(strong)!r} to ipsec.ike.{key}")
        found.append(f"or at the peer: {_spelled(one)}")
    else:
        why = "; ".join(f"{word}: {reason}" for word, reason in weaknesses(other).items())
        found.append(f"at the peer: {_spelled(one)}, or another of ours")
        found.append(f"what the peer offers is weak ({why}); if there is no other way, here: {_spelled(other)!r}"
                     f" in ipsec.ike.{key}, with the word that it asks for (kl2tp validate)")  # fmt: skip
    return found


def _spelled(proposal: Proposal) -> str:
    """As one writes it: the pseudo-random function goes without saying where it is that of the hash."""
    hashes = {f"prf{word}" for word in proposal}
    return "-".join(word for word in proposal if word not in hashes)


def weaknesses(proposal: Proposal) -> dict[str, str]:
    """What speaks against the algorithms of a proposal, by word."""
    return {word: known.weak for word in proposal if (known := ALGORITHMS.get(word)) is not None and known.weak}
