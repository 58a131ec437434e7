"""What the methods compute: CHAP with MD5 (RFC 1994 4.1) and MS-CHAPv2 (RFC 2759 8).

OpenSSL 3 has neither MD4 nor DES any more; they come from pycryptodomex, which is loaded when they are first needed.
"""

from functools import cache
from hashlib import md5, sha1
from typing import Any

_SIGNING = b"Magic server to client signing constant"
_ITERATION = b"Pad to make it do more than one iteration"
MAX_PASSWORD = 256
"""Characters of a password that count, RFC 2759 8.3."""


@cache
def _legacy() -> tuple[Any, Any, int]:
    """MD4, DES and its mode of single blocks."""
    from Cryptodome.Cipher import DES
    from Cryptodome.Hash import MD4

    return MD4.new, DES.new, DES.MODE_ECB


def load() -> None:
    """Load what MS-CHAPv2 needs, which takes a tenth of a second: best done before the first peer waits for it."""
    _legacy()


def chap_response(identifier: int, secret: bytes, challenge: bytes) -> bytes:
    """RFC 1994 4.1: the response value, 16 bytes."""
    return md5(bytes((identifier,)) + secret + challenge, usedforsecurity=False).digest()


def password_hash(secret: bytes) -> bytes:
    """NtPasswordHash, RFC 2759 8.3. A secret that is not UTF-8 is taken for Latin-1."""
    try:
        password = secret.decode()
    except UnicodeDecodeError:
        password = secret.decode("latin-1")
    return _md4(password[:MAX_PASSWORD].encode("utf-16-le"))


def challenge_hash(peer_challenge: bytes, challenge: bytes, name: bytes) -> bytes:
    """RFC 2759 8.2: 8 bytes from both challenges and the user's name, of which a domain in front is no part."""
    return sha1(peer_challenge + challenge + name.rpartition(b"\\")[2], usedforsecurity=False).digest()[:8]


def nt_response(hashed: bytes, challenge: bytes) -> bytes:
    """ChallengeResponse, RFC 2759 8.5: 24 bytes from the password's hash and that of the challenges."""
    _, des, mode = _legacy()
    padded = hashed + bytes(5)
    keys = (_des_key(padded[at : at + 7]) for at in (0, 7, 14))
    return b"".join(des(key, mode).encrypt(challenge) for key in keys)


def authenticator_response(hashed: bytes, response: bytes, challenge: bytes) -> bytes:
    """GenerateAuthenticatorResponse, RFC 2759 8.7: `S=` and 40 hexadecimal digits."""
    digest = sha1(_md4(hashed) + response + _SIGNING, usedforsecurity=False).digest()
    return b"S=" + sha1(digest + challenge + _ITERATION, usedforsecurity=False).hexdigest().upper().encode()


def _md4(data: bytes) -> bytes:
    digest: bytes = _legacy()[0](data).digest()
    return digest


_SPREAD = tuple(n << 1 for n in range(128))
"""Seven bits of a key with a place for the parity bit, which nobody looks at."""


def _des_key(key: bytes) -> bytes:
    """8 bytes of 7 bits each, from 7 bytes (RFC 2759 8.6)."""
    bits = int.from_bytes(key)
    return bytes(_SPREAD[bits >> shift & 127] for shift in (49, 42, 35, 28, 21, 14, 7, 0))
