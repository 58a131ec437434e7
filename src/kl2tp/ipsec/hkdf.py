"""HKDF with SHA-256, RFC 5869, in the two steps of the RFC."""

import hashlib
from functools import lru_cache
from hmac import digest
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

HASH_LENGTH = 32
"""Bytes."""
_BLOCK_LENGTH = 64
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))


def extract(salt: bytes, material: bytes) -> bytes:
    """Concentrate key material into a pseudorandom key, RFC 5869 2.2."""
    return digest(salt or bytes(HASH_LENGTH), material, "sha256")


def expand(pseudorandom_key: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes of key material, bound to `info`, RFC 5869 2.3."""
    if length > 255 * HASH_LENGTH:
        raise ValueError("HKDF-SHA256 yields at most 8160 bytes")
    keyed = _keyed(pseudorandom_key)
    block = output = _hmac(keyed, info + b"\x01")
    counter = 2
    while len(output) < length:
        block = _hmac(keyed, block + info + bytes((counter,)))
        output += block
        counter += 1
    return output[:length]


@lru_cache(maxsize=8)
def _keyed(key: bytes) -> "tuple[_Hash, _Hash]":
    """The two hashes of HMAC (RFC 2104 2) with the key in them: half of the work, the same for thousands of tunnels."""
    padded = (key if len(key) <= _BLOCK_LENGTH else hashlib.sha256(key).digest()).ljust(_BLOCK_LENGTH, b"\0")
    return hashlib.sha256(padded.translate(_INNER)), hashlib.sha256(padded.translate(_OUTER))


def _hmac(keyed: "tuple[_Hash, _Hash]", message: bytes) -> bytes:
    inner, outer = keyed[0].copy(), keyed[1].copy()
    inner.update(message)
    outer.update(inner.digest())
    return outer.digest()
