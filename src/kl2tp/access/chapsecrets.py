"""Users from pppd's chap-secrets (or pap-secrets) as it is: `CLIENT SERVER SECRET ADDRESSES...`.

It means what it means to pppd, where that is anything at all; what pppd would skip with a warning, or without, is an
error here. Not looked up: host names in the address list. Not obeyed: options behind `--`, with a warning.
"""

import re
from collections.abc import Callable

from kl2tp.access import secretfile, words
from kl2tp.access.secretfile import SecretFileError
from kl2tp.access.user import ANY_ADDRESS, AddressRule, User
from kl2tp.config.problem import Problem, Problems
from kl2tp.model import addr, names
from kl2tp.model.objects import Secret
from kl2tp.model.spec import Where

MAX_INDIRECT = 65536
"""Bytes of a file that holds one secret."""
_FORM = "write: CLIENT SERVER SECRET ADDRESSES"
_ADDRESS = re.compile(rb"(!?)([0-9.]+)(?:/([0-9]{1,3})(\+?))?")
_ADDRESS_HINT = "write -, *, or addresses and networks: 10.0.0.1, !10.0.0.2, 10.0.0.0/24, 10.0.0.0/24+"
_ALL = 0xFFFFFFFF


class Reader:
    """Reads one file after the other. What is wrong goes to `problems`, what only might be to `warnings`."""

    def __init__(self, problems: Problems, add: Callable[[User], bool]) -> None:
        self.problems = problems
        self.warnings: list[Problem] = []
        self.files: list[str] = []
        """Files with single secrets that were read, too."""
        self._add = add
        """Takes a user; False: there is one of that name for that server."""
        self._path = ""
        self._content = b""
        self._rules: dict[bytes, AddressRule | None] = {}

    def read(self, path: str, content: bytes) -> None:
        """Read a whole file."""
        self._path, self._content = path, content
        for line in words.lines(content, self._wrong):
            if len(line.words) < 3:
                self._wrong(line.start(0), f"the line has no {'secret' if len(line.words) == 2 else 'server'}", _FORM)
                continue
            client, server, secret, *rest = line.words
            if secret[:2] == b"@/":
                secret = self._indirect(secret[1:], line)
            elif not secret:
                self._wrong(line.start(2), "the secret is empty", "everybody who knows the name would be let in")
            rules = self._address_list(rest, line)
            if not self._add(User(names.text(client), Secret(secret), names.text(server), rules)):
                self._warn(line.start(0), "this client and server are there already", "the first line counts")

    def _warn(self, offset: int, message: str, hint: str = "") -> None:
        """Note what the operator may not have meant."""
        self.warnings.append(Problem(self._where(offset), message, hint))

    def _wrong(self, offset: int, message: str, hint: str) -> None:
        self.problems.add(self._where(offset), message, hint)

    def _where(self, offset: int) -> Where:
        return Where(self._path, *words.position_in(self._content, offset))

    def _indirect(self, name: bytes, line: words.Line) -> bytes:
        """The secret that a file holds. Its name is not shown where it may be a secret instead."""
        path = name.decode("utf-8", "surrogateescape")
        self.files.append(path)
        try:
            secret = words.first_word(secretfile.read(path, MAX_INDIRECT))
        except SecretFileError as error:
            there = secretfile.signature(path) is not None
            hint = error.hint if there else "a secret that begins with @/ names the file in which the secret is"
            self._wrong(line.start(2), f"the file that holds the secret {error.problem}", hint)
            return b""
        if not secret:
            self._wrong(line.start(2), "the file that holds the secret has none", "write it into the first line")
        return secret or b""

    def _address_list(self, rest: list[bytes], line: words.Line) -> tuple[AddressRule, ...]:
        """The rules of an address list; without one, no address is permitted."""
        if rest == [b"*"]:
            return ANY_ADDRESS
        rules: list[AddressRule] = []
        for number, word in enumerate(rest, 3):
            if word == b"--":
                message = "options of pppd are not obeyed here"
                self._warn(line.start(number), message, "give the user routes and limits in a YAML file")
            if word in (b"-", b"--"):
                break
            if word == b"*":
                rules += ANY_ADDRESS
                break
            if word not in self._rules:
                self._rules[word] = _rule(word)
            rule = self._rules[word]
            if rule is None:
                self._wrong(line.start(number), "this is no address", _ADDRESS_HINT)
            else:
                rules.append(rule)
        return tuple(rules)


def _rule(word: bytes) -> AddressRule | None:
    """One word of an address list; None: it is none."""
    match = _ADDRESS.fullmatch(word)
    if not match:
        return None
    length = 32 if match[3] is None else int(match[3])
    try:
        address = int.from_bytes(addr.parse(match[2].decode()))
    except ValueError:
        return None
    if not 1 <= length <= 32:
        return None
    mask = _ALL << 32 - length & _ALL
    return AddressRule(not match[1], address & mask, mask, match[4] == b"+")
