"""Files with pre-shared keys: one key alone, or lines `IDENTITY KEY`. Nothing in them ever gets into a message.

A line without white space is a key by itself, for whoever the file is for. With white space, the first word is the
peer's identity and the rest its key. As in strongSwan's own files a key may be quoted ("with spaces"), hexadecimal
(0x...) or base64 (0s...); quoted it is taken as it stands. A line that begins with `#` is a comment.
"""

import base64
import binascii
import re

from kl2tp.access.secretfile import SecretFileError
from kl2tp.model.objects import Secret

ANY = "%any"
LONGEST_FILE = 1 << 20
"""Bytes: ten thousand peers."""
LONGEST_KEY = 512
"""Characters."""
MAKE = "(umask 077; openssl rand -base64 32 > {path})"
"""A command that makes such a file where there is none."""
_LINE = re.compile(r'(?:(?P<who>[^\s"]+)\s+)?(?:"(?P<quoted>[^"]*)"|(?P<bare>\S+))')


def parse(path: str, content: bytes) -> dict[str, Secret]:
    """Keys by identity; ANY for one without. `path` is for messages. Raises SecretFileError."""
    found: dict[str, Secret] = {}
    for number, raw in enumerate(content.split(b"\n"), 1):
        try:
            line = raw.decode().strip()
        except UnicodeDecodeError:
            raise SecretFileError(path, number, "line is not UTF-8", "write keys as text, 0xHEX or 0sBASE64") from None
        if not line or line.startswith("#"):
            continue
        who, key = _line(path, number, line)
        if who in found:
            problem = "line has a second key for everybody" if who == ANY else "line has a second key for the same peer"
            raise SecretFileError(path, number, problem, "keep one, or write `IDENTITY KEY` for each peer")
        found[who] = key
    if not found:
        raise SecretFileError(path, 0, "has no key", "write one line with the key; openssl rand -base64 32 makes one")
    return found


def _line(path: str, number: int, line: str) -> tuple[str, Secret]:
    match = _LINE.fullmatch(line)
    if match is None:
        hint = 'write KEY, or IDENTITY KEY; a key with spaces in quotes: "KEY"'
        raise SecretFileError(path, number, "line is not understood", hint)
    quoted = match["quoted"]
    key = quoted.encode() if quoted is not None else _decoded(path, number, match["bare"])
    if not key:
        raise SecretFileError(path, number, "line has an empty key", "openssl rand -base64 32 makes one")
    if len(key) > LONGEST_KEY:
        raise SecretFileError(path, number, f"line has a key of more than {LONGEST_KEY} bytes", "take a shorter one")
    return match["who"] or ANY, Secret(key)


def _decoded(path: str, number: int, word: str) -> bytes:
    try:
        if word[:2].lower() == "0x":
            return bytes.fromhex(word[2:])
        if word[:2].lower() == "0s":
            return base64.b64decode(word[2:], validate=True)
    except (ValueError, binascii.Error):
        hint = "0x wants pairs of hexadecimal digits, 0s base64; in quotes the key is taken as it stands"
        raise SecretFileError(path, number, "line has a key that cannot be decoded", hint) from None
    return word.encode()
