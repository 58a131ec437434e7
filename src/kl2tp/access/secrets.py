"""Secrets of L2TP tunnels (RFC 2661 5.1.1): a file with one secret, or lines of xl2tpd's l2tp-secrets.

One secret is one line without blanks, and is taken as it is. Lines are `US THEM SECRET`, where US is our host name and
THEM the peer's, in any case of letters, `*` is anybody, and the secret is the rest of the line without the blanks
around it. `#` and `;` begin comments. The first line that fits is the one that counts.
"""

import re
from collections.abc import Iterator
from typing import TypeAlias

from kl2tp.access import secretfile
from kl2tp.access.secretfile import SecretFileError
from kl2tp.config.problem import ConfigError, Problems
from kl2tp.model import names
from kl2tp.model.objects import Secret
from kl2tp.model.spec import Where

__all__ = ["ConfigError", "TunnelSecrets"]

MAX_SIZE = 16 << 20
"""Bytes of a file."""
_Lines: TypeAlias = dict[tuple[str, str], tuple[int, Secret]]
"""Number and secret of the first line for (our name, the peer's)."""
_ANYBODY = "*"
_COMMENT = re.compile(rb"[#;]")
_FORM = "write one secret, without blanks, or lines US THEM SECRET"


class TunnelSecrets:
    """The secrets of one file. Raises ConfigError with all that is wrong in it."""

    __slots__ = ("_lines", "_path", "_signature")

    def __init__(self, path: str) -> None:
        self._path = path
        self._signature = secretfile.signature(path)
        self._lines: _Lines = {}
        problems = Problems()
        try:
            self._lines = parse(path, secretfile.read(path, MAX_SIZE), problems)
        except SecretFileError as error:
            problems.add(Where(path, 0, 0), error.problem, error.hint)
        problems.check()

    def lookup(self, us: str, them: str) -> Secret | None:
        """The secret that our host, of this name, shares with the peer of that name."""
        us, them = us.lower(), them.lower()
        pairs = ((us, them), (us, _ANYBODY), (_ANYBODY, them), (_ANYBODY, _ANYBODY))
        found = [line for pair in pairs if (line := self._lines.get(pair))]
        return min(found, key=lambda line: line[0])[1] if found else None

    def changed(self) -> bool:
        """Whether the file is another than was read: one stat(2)."""
        return secretfile.signature(self._path) != self._signature

    def reload(self) -> "TunnelSecrets":
        """These secrets if the file has not changed, else those of the file as it is now. Raises ConfigError."""
        return TunnelSecrets(self._path) if self.changed() else self


def parse(path: str, content: bytes, problems: Problems) -> _Lines:
    """The lines of a file by their names; `path` is for messages. One secret alone is for everybody."""
    lines = list(_lines(content))
    if len(lines) == 1 and len(lines[0][1].split()) == 1:
        return {(_ANYBODY, _ANYBODY): (1, Secret(lines[0][1].strip()))}
    if not lines:
        problems.add(Where(path, 0, 0), "there is no secret in it", _FORM)
    found: _Lines = {}
    for number, raw in lines:
        words = _COMMENT.split(raw, 1)[0].split(maxsplit=2)
        if len(words) < 3:
            column = len(raw) - len(raw.lstrip()) + 1
            problems.add(Where(path, number, column), "the line has fewer than three words", _FORM)
            continue
        us, them, secret = words
        pair = (names.text(us).lower(), names.text(them).lower())
        found.setdefault(pair, (number, Secret(secret.rstrip())))
    return found


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and text of each line that is neither empty nor a comment."""
    for number, line in enumerate(content.split(b"\n"), 1):
        if not line.lstrip().startswith((b"#", b";")) and line.strip():
            yield number, line
