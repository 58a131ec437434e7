"""HKDF with SHA-256, RFC 5869, in the two steps of the RFC."""

from hmac import digest

HASH_LENGTH = 32
"""Bytes."""


def extract(salt: bytes, material: bytes) -> bytes:
    """Concentrate key material into a pseudorandom key, RFC 5869 2.2."""
    return digest(salt or bytes(HASH_LENGTH), material, "sha256")


def expand(pseudorandom_key: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes of key material, bound to `info`, RFC 5869 2.3."""
    if length > 255 * HASH_LENGTH:
        raise ValueError("HKDF-SHA256 yields at most 8160 bytes")
    block = output = digest(pseudorandom_key, info + b"\x01", "sha256")
    counter = 2
    while len(output) < length:
        block = digest(pseudorandom_key, block + info + bytes((counter,)), "sha256")
        output += block
        counter += 1
    return output[:length]
