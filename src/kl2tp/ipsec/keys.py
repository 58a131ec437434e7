"""Static keys of a tunnel: from a key file to the SPIs and keys of its security associations, and to cookies.

Both ends read the same shared file and derive the same keys: HKDF (RFC 5869) over the file's key, bound to
the cipher, to the direction and to both tunnel ids. The ends call themselves left and right; what left
sends under, right expects. A hub's tunnel ids are unique on it, so every tunnel of one shared file has keys
of its own. Two hubs must not share a file if they also use the same pairs of ids.

An SPI is made of the key's generation (12 bits) and the receiver's tunnel id (20 bits), so no two tunnels
of a host collide, and every key in a file has SPIs of its own.
"""

from kl2tp.ipsec.hkdf import expand
from kl2tp.ipsec.keyfile import (
    LEFT_TO_RIGHT,
    RIGHT_TO_LEFT,
    KeyFile,
    KeyFileError,
    KeyRing,
    RawKey,
    SharedKey,
    generate,
    new_file,
    parse,
    read,
)
from kl2tp.model.ciphers import Cipher, find
from kl2tp.model.objects import Secret
from kl2tp.model.spec import SessionSpec, TunnelSpec
from kl2tp.model.value import dataclass

__all__ = [
    "Associations",
    "KeyFile",
    "KeyFileError",
    "KeyRing",
    "RawKey",
    "SaKeys",
    "SharedKey",
    "cookie",
    "derive",
    "generate",
    "is_left",
    "new_file",
    "parse",
    "read",
]

TUNNEL_ID_BITS = 20
"""Low bits of an SPI that hold the receiver's tunnel id."""
LOWEST_HASHED_SPI = 0x1000
"""SPIs of tunnels whose id is too long for the SPI begin here."""

_DIRECTIONS = (LEFT_TO_RIGHT, RIGHT_TO_LEFT)


@dataclass(frozen=True, slots=True)
class SaKeys:
    """SPI and keys of one security association."""

    spi: int
    encryption: Secret
    """With the salt at its end, for an AEAD."""
    integrity: Secret | None


@dataclass(frozen=True, slots=True)
class Associations:
    """The associations of a tunnel, in the order of the key file."""

    outbound: tuple[SaKeys, ...]
    """The first one sends."""
    inbound: tuple[SaKeys, ...]
    """All are accepted."""


def is_left(tunnel: TunnelSpec) -> bool:
    """Whether this end is the left one: as configured, else the one with the smaller (address, port, id)."""
    if tunnel.ipsec and tunnel.ipsec.side:
        return tunnel.ipsec.side == "left"
    ours = (tunnel.local, tunnel.local_port, tunnel.id)
    theirs = (tunnel.remote, tunnel.remote_port, tunnel.peer_id)
    if ours == theirs:
        hint = "set `side` to left on one end, to right on the other"
        raise ValueError(f"tunnel {tunnel.name}: both ends look the same; {hint}")
    return ours < theirs


def derive(keyfile: KeyFile, tunnel: TunnelSpec) -> Associations:
    """The security associations of a tunnel. Raises KeyFileError if the file has no keys for its cipher."""
    if tunnel.ipsec is None:
        raise ValueError(f"tunnel {tunnel.name} has no ipsec")
    cipher = find(tunnel.ipsec.cipher)
    if keyfile.shared:
        return _derive_shared(keyfile, tunnel, cipher)
    if not keyfile.outbound:
        raise KeyFileError(keyfile.path, 0, "has a `cookie` but no key", "append one: kl2tp genkey")
    return Associations(
        tuple(_raw(keyfile, key, cipher) for key in keyfile.outbound),
        tuple(_raw(keyfile, key, cipher) for key in keyfile.inbound),
    )


def cookie(keyfile: KeyFile, tunnel: TunnelSpec, session: SessionSpec, length: int) -> tuple[bytes, bytes]:
    """Cookies of a session, `length` bytes each: (the one we expect, the one we send). RFC 3931 4.1.

    Raises KeyFileError if the file has nothing to derive them from.
    """
    if seed := keyfile.cookie_seed:
        key = seed.reveal()
    elif keyfile.shared:
        key = keyfile.shared[0].pseudorandom_key.reveal()
    else:
        hint = "append a `cookie` line: kl2tp genkey | sed s/key/cookie/"
        raise KeyFileError(keyfile.path, 0, "has raw keys, from which no cookie is derived", hint)
    left = is_left(tunnel)
    ids = _ids(left, tunnel.id, tunnel.peer_id) + _ids(left, session.id, session.peer_id)
    ours, theirs = (expand(key, b"cookie\0" + direction + ids, length) for direction in _DIRECTIONS)
    return (theirs, ours) if left else (ours, theirs)


def _ids(left: bool, ours: int, theirs: int) -> bytes:
    """Both ids, the left end's first."""
    return (ours << 32 | theirs if left else theirs << 32 | ours).to_bytes(8, "big")


def _derive_shared(keyfile: KeyFile, tunnel: TunnelSpec, cipher: Cipher) -> Associations:
    left = is_left(tunnel)
    ids = _ids(left, tunnel.id, tunnel.peer_id)
    out, back = (0, 1) if left else (1, 0)
    outbound = tuple(_association(key, cipher, out, ids, tunnel.peer_id) for key in keyfile.shared)
    inbound = tuple(_association(key, cipher, back, ids, tunnel.id) for key in keyfile.shared)
    _check_distinct(keyfile, tunnel, outbound)
    _check_distinct(keyfile, tunnel, inbound)
    return Associations(outbound, inbound)


def _check_distinct(keyfile: KeyFile, tunnel: TunnelSpec, associations: tuple[SaKeys, ...]) -> None:
    """Generations differ; only hashed SPIs, those of long tunnel ids, can meet, once in 2**32."""
    if len({association.spi for association in associations}) < len(associations):
        problem = f"gives tunnel {tunnel.name} the same SPI twice"
        raise KeyFileError(keyfile.path, 0, problem, "make another key: kl2tp genkey")


def _association(key: SharedKey, cipher: Cipher, direction: int, ids: bytes, receiver: int) -> SaKeys:
    """SPI and keys of one shared key in one direction (an index of `_DIRECTIONS`)."""
    secret = key.pseudorandom_key.reveal()
    label = _DIRECTIONS[direction] + ids
    info = b"esp\0" + cipher.name.encode() + b"\0" + label
    material = expand(secret, info, cipher.key + cipher.integrity_key)
    if receiver < 1 << TUNNEL_ID_BITS:
        spi = key.generations[direction] << TUNNEL_ID_BITS | receiver
    else:
        spi = _hashed_spi(expand(secret, b"spi\0" + label, 8))
    if not cipher.integrity_key:
        return SaKeys(spi, Secret(material), None)
    return SaKeys(spi, Secret(material[: cipher.key]), Secret(material[cipher.key :]))


def _hashed_spi(random: bytes) -> int:
    return LOWEST_HASHED_SPI + int.from_bytes(random, "big") % (0x1_0000_0000 - LOWEST_HASHED_SPI)


def _raw(keyfile: KeyFile, key: RawKey, cipher: Cipher) -> SaKeys:
    """A raw key, once its lengths are those of the cipher."""

    def error(problem: str, hint: str) -> KeyFileError:
        return KeyFileError(keyfile.path, key.line, f"line {problem}", hint)

    def check(name: str, secret: Secret, wanted: int, note: str = "") -> None:
        if (length := len(secret.reveal())) != wanted:
            hint = f"{cipher.name} takes {wanted} bytes, {2 * wanted} hex digits{note}"
            raise error(f"has `{name}` of {length} bytes", hint)

    check("key", key.encryption, cipher.key, ", the last 8 are the salt" if cipher.aead else "")
    if cipher.aead:
        if key.integrity is not None:
            raise error(f"has `auth`, {cipher.name} takes none", "remove it")
    elif key.integrity is None:
        raise error(f"has no `auth`, {cipher.name} needs one", "add `auth HEX`")
    else:
        check("auth", key.integrity, cipher.integrity_key)
    return SaKeys(key.spi, key.encryption, key.integrity)
