"""The words of IKE and ESP proposals, in strongSwan's notation: what each stands for, and what speaks against it.

A proposal is a list of words joined by dashes: `aes256gcm16-prfsha384-ecp384`, `aes256-sha256-modp2048`. Here is also
what the ciphers of a proposal cost on the wire, for `kl2tp.model.overhead`.
"""

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from kl2tp.model.ciphers import CIPHERS, REFUSED, Cipher


class Kind(enum.Enum):
    """What an algorithm is for; the value names it in messages."""

    ENCRYPTION = "encryption"
    AEAD = "encryption that authenticates too"
    INTEGRITY = "integrity"
    PRF = "pseudo-random function"
    GROUP = "Diffie-Hellman group"
    ESN = "extended sequence numbers"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """One word of a proposal; lengths in bytes, as ESP has them."""

    word: str
    kind: Kind
    weak: str = ""
    """Why one should not use it; empty: nothing speaks against it."""
    never: bool = False
    """It protects nothing at all: nobody can ask for it."""
    iv: int = 0
    block: int = 1
    """Padding aligns to this."""
    icv: int = 0


SHA1 = frozenset(("sha", "sha1", "sha1_160", "prfsha1"))
"""What old clients can't do without."""

_BLOCKS64 = {word: REFUSED[name] for word, name in (("3des", "3des"), ("cast128", "cast"), ("des", "des"))}
_BLOCKS64 |= {f"blowfish{bits}": REFUSED["blowfish"] for bits in ("", 128, 192, 256)}
_SMALL = "{} bits can be broken by those who try (RFC 8247 2.4)"
_SUBGROUPS = "it has small subgroups, and nobody knows where its numbers come from (RFC 8247 2.4)"
_ICVS = (("8", 8), ("64", 8), ("12", 12), ("96", 12), ("16", 16), ("128", 16), ("", 16))
"""Lengths of ICVs as words have them: in bytes, in bits, or not at all."""


def _encryption() -> Iterator[Algorithm]:
    """Ciphers that need an integrity algorithm beside them."""
    yield Algorithm("null", Kind.ENCRYPTION, REFUSED["null"], never=True)
    for word, why in _BLOCKS64.items():
        yield Algorithm(word, Kind.ENCRYPTION, why, iv=8, block=8)
    for name in ("aes", "camellia"):
        for bits in ("", 128, 192, 256):
            yield Algorithm(f"{name}{bits}", Kind.ENCRYPTION, iv=16, block=16)
            if bits:
                yield Algorithm(f"{name}{bits}ctr", Kind.ENCRYPTION, iv=8)


def _aead() -> Iterator[Algorithm]:
    yield Algorithm("chacha20poly1305", Kind.AEAD, iv=8, icv=16)
    for bits in (128, 192, 256):
        yield Algorithm(f"aes{bits}gmac", Kind.AEAD, REFUSED["null"], never=True, iv=8, icv=16)
        for mode in ("aes{}gcm", "aes{}ccm", "camellia{}ccm"):
            for suffix, icv in _ICVS if mode.startswith("aes") else _ICVS[:-1]:
                yield Algorithm(f"{mode.format(bits)}{suffix}", Kind.AEAD, iv=8, icv=icv)


def _integrity() -> Iterator[Algorithm]:
    for word, icv in (("sha", 12), ("sha1", 12), ("sha1_160", 20)):
        yield Algorithm(word, Kind.INTEGRITY, REFUSED["sha1"], icv=icv)
    for word, icv in (("md5", 12), ("md5_128", 16)):
        yield Algorithm(word, Kind.INTEGRITY, REFUSED["md5"], icv=icv)
    for bits in (256, 384, 512):
        for sha in (f"sha{bits}", f"sha2_{bits}"):
            yield Algorithm(sha, Kind.INTEGRITY, icv=bits // 16)
    for word in ("sha256_96", "sha2_256_96", "aesxcbc", "aescmac", "camelliaxcbc"):
        yield Algorithm(word, Kind.INTEGRITY, icv=12)


def _prf() -> Iterator[Algorithm]:
    yield Algorithm("prfmd5", Kind.PRF, REFUSED["md5"])
    yield Algorithm("prfsha1", Kind.PRF, REFUSED["sha1"])
    for name in ("sha256", "sha384", "sha512", "aesxcbc", "aescmac", "camelliaxcbc"):
        yield Algorithm(f"prf{name}", Kind.PRF)


def _groups() -> Iterator[Algorithm]:
    """Key exchanges; further ones of RFC 9370 are written with a number: `ke1_mlkem768`."""
    yield Algorithm("modpnull", Kind.GROUP, "it exchanges no key at all", never=True)
    for bits in (768, 1024, 1536):
        yield Algorithm(f"modp{bits}", Kind.GROUP, _SMALL.format(bits))
    for word in ("modp1024s160", "modp2048s224", "modp2048s256"):
        yield Algorithm(word, Kind.GROUP, _SUBGROUPS)
    yield Algorithm("ecp192", Kind.GROUP, "192 bits are less than those of any other curve here")
    strong = (
        *(f"modp{bits}" for bits in (2048, 3072, 4096, 6144, 8192)),
        *(f"ecp{bits}" for bits in ("224", "256", "384", "521", "224bp", "256bp", "384bp", "512bp")),
        *("x25519", "curve25519", "x448", "curve448"),
        *(f"mlkem{bits}" for bits in (512, 768, 1024)),
    )
    for word in strong:
        yield Algorithm(word, Kind.GROUP)
        yield from (Algorithm(f"ke{n}_{word}", Kind.GROUP) for n in range(1, 8))


def _all() -> Iterator[Algorithm]:
    yield from _encryption()
    yield from _aead()
    yield from _integrity()
    yield from _prf()
    yield from _groups()
    yield from (Algorithm("esn", Kind.ESN), Algorithm("noesn", Kind.ESN))


ALGORITHMS: dict[str, Algorithm] = {algorithm.word: algorithm for algorithm in _all()}
"""Every word of a proposal that there is."""


def parse(proposal: str) -> tuple[Algorithm, ...]:
    """The algorithms of a proposal. Raises KeyError with the first word that is none."""
    return tuple([ALGORITHMS[word] for word in proposal.split("-")])


def of_kind(algorithms: tuple[Algorithm, ...], *kinds: Kind) -> tuple[Algorithm, ...]:
    """Those of some kinds, in their order."""
    return tuple([algorithm for algorithm in algorithms if algorithm.kind in kinds])


@lru_cache(maxsize=1024)
def esp_ciphers(proposals: tuple[str, ...]) -> tuple[Cipher, ...]:
    """Every transform that ESP may come to use, once each, for what it costs on the wire. Raises KeyError."""
    found: dict[str, Cipher] = {}
    for proposal in proposals:
        algorithms = parse(proposal)
        for one in of_kind(algorithms, Kind.AEAD):
            found[one.word] = CIPHERS.get(one.word) or Cipher(one.word, "", 0, one.iv, one.block, one.icv)
        for one in of_kind(algorithms, Kind.ENCRYPTION):
            for hmac in of_kind(algorithms, Kind.INTEGRITY):
                name = f"{one.word}-{hmac.word}"
                found[name] = CIPHERS.get(name) or Cipher(name, "", 0, one.iv, one.block, hmac.icv, aead=False)
    return tuple(found.values())
