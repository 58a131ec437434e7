"""Key files: read, checked and parsed; nothing here ever puts their content into a message.

A key file is text of at most 64 KiB, in lines; `#` begins a comment. Both ends hold the same shared file:

    key BASE64           # 32 bytes or more; `kl2tp genkey` prints such a line
    cookie BASE64        # optional: what derived session cookies come from; else from the first key

The first `key` sends, all of them are accepted inbound. To rotate without loss: put the new key in the
place of the old one, on both ends within the tunnel's `overlap`; or, without haste, append the new key on
both ends, then move it to the first place on both ends, then remove the old one. Keep the `cookie`: a
session whose cookies change must be made anew. Every tunnel that names the file gets keys of its own.

For a peer without kl2tp the associations are written out, the first `out` sends:

    in  spi 0x1001 key HEX [auth HEX]
    out spi 0x2001 key HEX [auth HEX]

A `cookie` line may stand beside them, and must if cookies are to be derived.
"""

import base64
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

from kl2tp.access import secretfile
from kl2tp.access.secretfile import SecretFileError, Signature
from kl2tp.ipsec.hkdf import expand, extract
from kl2tp.model.objects import Secret

MAX_SIZE = 65536
"""Bytes of a key file."""
MIN_MATERIAL = 32
"""Bytes of key material in a `key` or `cookie` line."""
MIN_SPI = 0x100
"""1 to 255 are reserved by IANA, 0 is never sent (RFC 4303 2.1)."""
GENERATIONS = 4095
"""Generations are 1 to this: 12 bits, never 0."""
LEFT_TO_RIGHT, RIGHT_TO_LEFT = b"left>right", b"right>left"
"""Direction labels of derived keys."""

_SALT = b"kl2tp static keys 1"
_SPI = re.compile(r"0[xX][0-9a-fA-F]{1,8}|[1-9][0-9]{0,9}")
_HEX = re.compile(r"(?:0[xX])?((?:[0-9a-fA-F]{2})+)")


KeyFileError = SecretFileError
"""A key file cannot be used. Says where, why and what mends it, and never what is in the file."""


@dataclass(frozen=True, slots=True)
class SharedKey:
    """A `key` line, as HKDF takes it."""

    line: int
    pseudorandom_key: Secret
    generations: tuple[int, int]
    """High 12 bits of the SPIs: of what goes left to right, of what goes right to left."""


@dataclass(frozen=True, slots=True)
class RawKey:
    """An `in` or `out` line."""

    line: int
    spi: int
    encryption: Secret
    integrity: Secret | None


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A parsed key file: either shared keys, or raw ones in both directions, or nothing but a cookie seed."""

    path: str
    shared: tuple[SharedKey, ...] = ()
    inbound: tuple[RawKey, ...] = ()
    outbound: tuple[RawKey, ...] = ()
    cookie_seed: Secret | None = None

    @property
    def per_tunnel(self) -> bool:
        """Whether each tunnel that names this file gets keys of its own; raw keys serve one tunnel only."""
        return bool(self.shared)


def generate() -> str:
    """A new `key` line, without newline."""
    return f"key {base64.b64encode(secrets.token_bytes(MIN_MATERIAL)).decode()}"


def new_file() -> str:
    """The content of a new key file: a key, and beside it what cookies are derived from, to outlive the key."""
    return f"{generate()}\n{generate().replace('key', 'cookie', 1)}\n"


def read(path: str) -> KeyFile:
    """Read and parse the key file named `path` or `credential:NAME`. Raises KeyFileError."""
    return parse(path, secretfile.read(path, MAX_SIZE, "kl2tp genkey --output {path}"))


# --- parsing


def parse(path: str, content: bytes) -> KeyFile:
    """Parse the content of a key file; `path` is for messages. Raises KeyFileError."""
    shared: list[SharedKey] = []
    raw: dict[str, list[RawKey]] = {"in": [], "out": []}
    seed: Secret | None = None
    for number, words in _lines(path, content):
        line = _Line(path, number, words)
        if words[0] == "key":
            shared.append(line.shared_key())
        elif words[0] in raw:
            raw[words[0]].append(line.raw_key())
        elif words[0] != "cookie":
            raise line.error("is not a key", "a line begins with `key`, `in`, `out` or `cookie`")
        elif seed is not None:
            raise line.error("is a second `cookie`", "keep one")
        else:
            seed = line.pseudorandom_key()
        if shared and (raw["in"] or raw["out"]):
            raise line.error("mixes `key` with `in` and `out`", "use one kind per file")
    _check_shared(path, shared)
    _check_raw(path, raw["in"], raw["out"])
    if not (shared or raw["in"] or seed):
        raise KeyFileError(path, 0, "has no key", "append one: kl2tp genkey")
    return KeyFile(path, tuple(shared), tuple(raw["in"]), tuple(raw["out"]), seed)


def _lines(path: str, content: bytes) -> Iterator[tuple[int, list[str]]]:
    """Number and words of each line that has any."""
    for number, raw in enumerate(content.split(b"\n"), 1):
        line, _, _ = raw.partition(b"#")
        if not line.isascii():
            raise KeyFileError(path, number, "line is not plain ASCII", "write keys in base64 or hex")
        if words := line.decode("ascii").split():
            yield number, words


@dataclass(frozen=True, slots=True, repr=False)
class _Line:
    """A line being parsed."""

    path: str
    number: int
    words: list[str]

    def error(self, problem: str, hint: str) -> KeyFileError:
        return KeyFileError(self.path, self.number, f"line {problem}", hint)

    def pseudorandom_key(self) -> Secret:
        """The material of a `key` or `cookie` line, extracted (RFC 5869 2.2)."""
        return Secret(extract(_SALT, self._material()))

    def shared_key(self) -> SharedKey:
        key = self.pseudorandom_key()
        return SharedKey(self.number, key, (_generation(key, LEFT_TO_RIGHT), _generation(key, RIGHT_TO_LEFT)))

    def raw_key(self) -> RawKey:
        names, values = self.words[1::2], self.words[2::2]
        if len(names) != len(values) or names not in (["spi", "key"], ["spi", "key", "auth"]):
            raise self.error("is incomplete", f"write `{self.words[0]} spi NUMBER key HEX [auth HEX]`")
        spi = self._spi(values[0])
        integrity = self._hex("auth", values[2]) if len(values) == 3 else None
        return RawKey(self.number, spi, self._hex("key", values[1]), integrity)

    def _material(self) -> bytes:
        if len(self.words) != 2:
            raise self.error("has the wrong number of words", f"write `{self.words[0]} BASE64`")
        try:
            material = base64.b64decode(self.words[1], validate=True)
        except ValueError:
            raise self.error("is not base64", "make a key with: kl2tp genkey") from None
        if len(material) < MIN_MATERIAL:
            problem = f"has {len(material)} bytes of key material, fewer than {MIN_MATERIAL}"
            raise self.error(problem, "make a key with: kl2tp genkey")
        self._check_random(material)
        return material

    def _check_random(self, material: bytes) -> None:
        """Refuse placeholders: 16 random bytes with fewer than 6 values do not happen."""
        if len(set(material)) < 6:
            raise self.error("is a placeholder, not a random key", "make a key with: kl2tp genkey")

    def _spi(self, word: str) -> int:
        spi = int(word, 0) if _SPI.fullmatch(word) else 0
        if not MIN_SPI <= spi <= 0xFFFFFFFF:
            raise self.error("has no valid SPI", f"write a number from {MIN_SPI:#x} to 0xffffffff")
        return spi

    def _hex(self, name: str, word: str) -> Secret:
        if not (match := _HEX.fullmatch(word)):
            raise self.error(f"has `{name}` that is not hex", "write two hex digits per byte")
        material = bytes.fromhex(match[1])
        self._check_random(material)
        return Secret(material)


def _generation(key: Secret, direction: bytes) -> int:
    """1 to 4095: high bits of the SPIs of a key in one direction, the same for all its tunnels."""
    return 1 + int.from_bytes(expand(key.reveal(), b"generation\0" + direction, 8), "big") % GENERATIONS


def _check_shared(path: str, keys: list[SharedKey]) -> None:
    """Keys of one file must differ, and so must their SPIs."""
    for index, key in enumerate(keys):
        for other in keys[:index]:
            if key.pseudorandom_key == other.pseudorandom_key:
                raise KeyFileError(path, key.line, f"line repeats the key of line {other.line}", "remove one")
            if any(a == b for a, b in zip(key.generations, other.generations, strict=True)):
                problem = f"line gives the same SPIs as line {other.line} (happens once in 2000 keys)"
                raise KeyFileError(path, key.line, problem, "make another key: kl2tp genkey")


def _check_raw(path: str, inbound: list[RawKey], outbound: list[RawKey]) -> None:
    """Raw keys need both directions, and each SPI once in its direction."""
    if bool(inbound) != bool(outbound):
        missing = "in" if outbound else "out"
        raise KeyFileError(path, 0, f"has no `{missing}` line", "write at least one `in` and one `out`")
    for keys in (inbound, outbound):
        seen: dict[int, int] = {}
        for key in keys:
            if (first := seen.setdefault(key.spi, key.line)) != key.line:
                raise KeyFileError(path, key.line, f"line repeats the SPI of line {first}", "use another SPI")


# --- many tunnels, few files

class KeyRing:
    """Key files in memory: ten thousand tunnels that share one read it once until `refresh` sees a change."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Signature, KeyFile | KeyFileError]] = {}

    def get(self, path: str) -> KeyFile:
        """The parsed key file, from memory if it is there. Raises KeyFileError, the same until the file is another."""
        entry = self._files.get(path)
        if entry and isinstance(entry[1], KeyFileError) and secretfile.signature(path) != entry[0]:
            entry = None  # mended: whoever tries again finds out
        if not entry:
            # The signature first: a file that changes in between looks changed afterwards, never unchanged.
            entry = self._files[path] = (secretfile.signature(path), _read_or_error(path))
        if isinstance(held := entry[1], KeyFileError):
            raise KeyFileError(held.path, held.line, held.problem, held.hint)
        return held

    def changed_paths(self) -> frozenset[str]:
        """Of the files held, those that are not on disk as they were when read. One stat(2) each."""
        return frozenset(path for path, (held, _) in self._files.items() if secretfile.signature(path) != held)

    def refresh(self) -> frozenset[str]:
        """Begin a new pass: forget what changed on disk, and every error. Gives the changed paths."""
        changed = self.changed_paths()
        self._files = {
            path: entry
            for path, entry in self._files.items()
            if path not in changed and isinstance(entry[1], KeyFile)
        }
        return changed


def _read_or_error(path: str) -> KeyFile | KeyFileError:
    try:
        return read(path)
    except KeyFileError as error:
        return error.with_traceback(None)
