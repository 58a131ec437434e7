"""The ESP transforms that kl2tp offers, with the kernel's names and every length that matters.

3DES, DES, MD5, SHA-1 and NULL are not here and never will be; `REFUSED` gives the reason to whoever asks for them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cipher:
    """One ESP transform; lengths in bytes unless the name says bits."""

    name: str
    kernel_encryption: str
    """Name in the kernel's crypto API, for XFRMA_ALG_AEAD or XFRMA_ALG_CRYPT."""
    key: int
    """Encryption key, with the salt of an AEAD (RFC 4106 8.1, RFC 7634 2)."""
    iv: int
    """Bytes of IV in each packet."""
    block: int
    """Padding aligns the plaintext and its 2-byte trailer to this, and to 4 (RFC 4303 2.4)."""
    icv: int
    """Bytes of ICV in each packet."""
    aead: bool = True
    kernel_integrity: str = ""
    integrity_key: int = 0


def _gcm(name: str, bits: int) -> Cipher:
    return Cipher(name, "rfc4106(gcm(aes))", bits // 8 + 4, 8, 1, 16)


def _cbc(bits: int, sha: int) -> Cipher:
    return Cipher(f"aes{bits}-sha{sha}", "cbc(aes)", bits // 8, 16, 16, sha // 16, False, f"hmac(sha{sha})", sha // 8)


CIPHERS: dict[str, Cipher] = {
    c.name: c
    for c in (
        _gcm("aes128gcm16", 128),
        _gcm("aes256gcm16", 256),
        Cipher("chacha20poly1305", "rfc7539esp(chacha20,poly1305)", 36, 8, 1, 16),
        *(_cbc(bits, sha) for bits in (128, 256) for sha in (256, 384, 512)),
    )
}

DEFAULT = "aes256gcm16"

REFUSED: dict[str, str] = {
    "3des": "3DES has 64-bit blocks: its data can be recovered after some gigabytes (CVE-2016-2183)",
    "des": "DES keys are found by trying them all",
    "blowfish": "Blowfish has 64-bit blocks, like 3DES",
    "cast": "CAST-128 has 64-bit blocks, like 3DES",
    "md5": "MD5 is broken (RFC 6151)",
    "sha1": "SHA-1 is broken (RFC 6194)",
    "null": "NULL encrypts nothing: packets would leave in clear",
}
"""Words in a proposal that are refused, with the reason."""


def find(name: str) -> Cipher:
    """The cipher of that name. Raises ValueError with the reason and what to use instead."""
    if cipher := CIPHERS.get(name):
        return cipher
    words = name.lower().replace("_", "-").split("-")
    for bad, why in REFUSED.items():
        if any(bad in word for word in words):
            raise ValueError(f"{why}; use {DEFAULT}")
    raise ValueError(f"there is no cipher {name!r}; choose one of {', '.join(CIPHERS)}")
