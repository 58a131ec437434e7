"""Users from a YAML file of our own:

    alice: {secret: "correct horse", address: 10.9.0.7}
    bob:
      secret_file: /etc/kl2tp/secrets/bob
      server: office                     # only where this is our PPP name
      prefix6: 2001:db8:7::/56
      routes: [192.168.7.0/24]
      limit: 2                           # sessions at a time
    "*": {secret: shared}                # everyone else

A user without `address` gets one from the profile's pool. No message shows what is in the file: where something is
wrong with a line, a part of it may be a secret that was not quoted.
"""

from collections.abc import Callable
from typing import Any

from kl2tp.access import secretfile
from kl2tp.access.secretfile import SecretFileError
from kl2tp.access.user import ANY_ADDRESS, ANYBODY, AddressRule, User
from kl2tp.config import document, scalar
from kl2tp.config.document import Mapping, Node, Scalar, Sequence
from kl2tp.config.problem import Bad, ConfigError, Mark, Problems
from kl2tp.model import names
from kl2tp.model.objects import Secret
from kl2tp.model.spec import RouteSpec, Where

MAX_SECRET_FILE = 65536
"""Bytes of a file that holds one secret."""
KEYS = ("secret", "secret_file", "server", "address", "prefix6", "routes", "limit")
_ALL = 0xFFFFFFFF
_SESSIONS = scalar.integer(1, 65535)
_ENTRY = "write NAME: {secret: ...}"
_QUOTE = 'quote secrets: a plain one may not begin with any of ! & * % @ ` { [ | > # " \', nor hold ": " or " #"'


class _Wrong(Exception):
    """A value means nothing to its key."""

    def __init__(self, mark: Mark, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.mark, self.message, self.hint = mark, message, hint


class Reader:
    """Shown a document pair by pair, makes users of them."""

    def __init__(self, problems: Problems, add: Callable[[User], bool]) -> None:
        self.problems = problems
        self.files: list[str] = []
        """Files with single secrets that were read, too."""
        self._add = add
        """Takes a user; False: there is one of that name for that server."""

    def read(self, path: str, content: bytes) -> None:
        """Read a whole file."""
        syntax = Problems()
        try:
            document.stream(content.decode(), path, syntax, self)
            syntax.check()
        except UnicodeDecodeError as error:
            before = content[: error.start]
            column = len(before[before.rfind(b"\n") + 1 :].decode(errors="replace")) + 1
            place = Where(path, before.count(b"\n") + 1, column)
            self.problems.add(place, "this is not UTF-8", "save the file as UTF-8")
        except ConfigError as error:
            for problem in error.problems:  # whose text may quote the line
                self.problems.add(problem.where, "this is not YAML, or none of what belongs here", _QUOTE)

    # --- as document.Visitor

    def root(self, node: Node | None) -> None:
        """The whole document, as it is no mapping."""
        if node is not None and not (isinstance(node, Scalar) and node.empty):
            self.problems.add(node.mark, "here belongs a mapping from user names", _ENTRY)

    def streams(self, key: str, mark: Mark) -> bool:
        """No value is large."""
        return False

    def entry(self, name: str, mark: Mark, node: Node) -> None:
        """Never called: nothing is streamed."""

    def pair(self, key: str, mark: Mark, node: Node) -> None:
        """A user."""
        if key == "<<":
            self.problems.add(mark, "users are not merged", "merge what a user has: NAME: {<<: *base, secret: ...}")
        elif not isinstance(node, Mapping):
            self.problems.add(node.mark, "here belongs a mapping", _ENTRY)
        else:
            self._user(key, mark, node)

    def _user(self, name: str, mark: Mark, node: Mapping) -> None:
        values: dict[str, Any] = {}
        for key, key_mark, value in node.pairs:
            try:
                if key in values:
                    raise _Wrong(key_mark, f"{key} is here for the second time", "remove one")
                if key not in _READERS:
                    raise _Wrong(key_mark, "this key is unknown", _unknown_hint(key))
                values[key] = _READERS[key](value)
            except _Wrong as wrong:
                values.setdefault(key, None)
                self.problems.add(wrong.mark, wrong.message, wrong.hint)
        secret = self._secret(values, mark)
        if secret is not None:
            rest = {key: values[key] for key in _FIELDS if values.get(key) is not None}
            if not self._add(User(names.shown(name), secret, rules=values.get("address") or ANY_ADDRESS, **rest)):
                self.problems.add(mark, "this user is there already, for the same server", "remove one")

    def _secret(self, values: dict[str, Any], mark: Mark) -> Secret | None:
        """The secret, from wherever it is. None if there is none, which is reported."""
        if "secret" in values and "secret_file" in values:
            self.problems.add(mark, "the user has both secret and secret_file", "remove one")
        elif "secret" in values:
            found: Secret | None = values["secret"]
            return found
        elif "secret_file" in values:
            return self._from_file(values["secret_file"], mark)
        else:
            self.problems.add(mark, "the user has no secret", "write secret: ..., or secret_file: PATH")
        return None

    def _from_file(self, path: str | None, mark: Mark) -> Secret | None:
        """The first line of a file."""
        if path is None:
            return None
        self.files.append(path)
        try:
            content = secretfile.read(path, MAX_SECRET_FILE)
        except SecretFileError as error:
            self.problems.add(mark, f"the user's secret_file {error.problem}", error.hint)
            return None
        secret = content.split(b"\n", 1)[0].removesuffix(b"\r")
        if not secret:
            self.problems.add(mark, "the user's secret_file begins with an empty line", "write the secret into it")
            return None
        return Secret(secret)


def _text(node: Node, what: str) -> str:
    if not isinstance(node, Scalar):
        raise _Wrong(node.mark, f"here belongs {what}", _QUOTE if what == "a secret" else "")
    if node.empty or not node.text:
        raise _Wrong(node.mark, f"here is nothing where {what} belongs", "null and ~ are nothing, unless quoted")
    return node.text


def _secret(node: Node) -> Secret:
    return Secret(_text(node, "a secret").encode(errors="surrogatepass"))


def _path(node: Node) -> str:
    path = _text(node, "a path")
    if not path.startswith(("/", "credential:")):
        raise _Wrong(node.mark, "this is not an absolute path", "write /PATH, or credential:NAME")
    return path


def _server(node: Node) -> str:
    return _text(node, f"our PPP name, or {ANYBODY}")


def _typed(kind: scalar.Type[Any], node: Node) -> Any:
    """A value by one of the configuration's types, whose messages would show it."""
    text = _text(node, kind.syntax)
    try:
        return kind.read(text)
    except Bad:
        raise _Wrong(node.mark, "this value means nothing here", f"write {kind.syntax}") from None


def _address(node: Node) -> tuple[AddressRule, ...]:
    address = _typed(scalar.GATEWAY, node)
    if len(address) != 4 or address[0] == 127:
        raise _Wrong(node.mark, "this is not the IPv4 address of a host", "for IPv6 give the user a prefix6")
    return (AddressRule(True, int.from_bytes(address), _ALL),)


def _prefix6(node: Node) -> tuple[bytes, int]:
    network, length = _typed(scalar.DESTINATION, node)
    if len(network) != 16 or not 1 <= length <= 64:
        raise _Wrong(node.mark, "this is not an IPv6 prefix for a user", "write PREFIX/LENGTH, of 64 bits or fewer")
    return (network, length)


def _routes(node: Node) -> tuple[RouteSpec, ...]:
    items = node.items if isinstance(node, Sequence) else [node]
    return tuple(RouteSpec(*_typed(scalar.DESTINATION, item)) for item in items)


def _limit(node: Node) -> int:
    limit: int = _typed(_SESSIONS, node)
    return limit


_READERS: dict[str, Callable[[Node], Any]] = {
    "secret": _secret,
    "secret_file": _path,
    "server": _server,
    "address": _address,
    "prefix6": _prefix6,
    "routes": _routes,
    "limit": _limit,
}
_FIELDS = ("server", "prefix6", "routes", "limit")
"""Keys that are fields of a user as they are."""


def _unknown_hint(key: str) -> str:
    meant = scalar.similar(key, KEYS)
    return f"did you mean {meant}?" if meant else f"a user has the keys {', '.join(KEYS)}"
