"""All users, from any number of files: read once, found in constant time.

Loading blocks, for a second or two per 100,000 users, and is for a worker thread; a loaded set never changes. A new one
takes its place only if all of its files are right.
"""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from kl2tp.access import chapsecrets, secretfile
from kl2tp.access.secretfile import SecretFileError, Signature
from kl2tp.access.user import ANYBODY, AddressRule, User
from kl2tp.config.problem import ConfigError, Problem, Problems
from kl2tp.model.spec import Where

__all__ = ["AddressRule", "ConfigError", "User", "Users"]

MAX_SIZE = 256 << 20
"""Bytes of a users' file."""
_YAML = (".yaml", ".yml")


class Users:
    """The users of some files. Raises ConfigError with all that is wrong in any of them."""

    __slots__ = ("_by_server", "_count", "_paths", "_signatures", "warnings")

    def __init__(self, paths: Iterable[str] = ()) -> None:
        self._paths = tuple(paths)
        self._signatures: dict[str, Signature] = {}
        self._by_server: dict[str, dict[str, User]] = {}
        self._count = 0
        self.warnings: tuple[Problem, ...] = ()
        """What is right but may not be meant."""
        if self._paths:
            with _without_gc():
                self._load()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[User]:
        for users in self._by_server.values():
            yield from users.values()

    def lookup(self, name: str, server: str = "") -> User | None:
        """The user of this name where `server` is our own; the line that says most wins, as in pppd.

        That is one for this server rather than one for all, then one for this user rather than one for all.
        """
        for ours in (server, ANYBODY):
            users = self._by_server.get(ours)
            if users and (found := users.get(name) or users.get(ANYBODY)):
                return found
        return None

    def fixed_addresses(self) -> Iterator[bytes]:
        """IPv4 addresses that are some user's own, whatever the interface: no pool may give them to others."""
        for user in self:
            if user.rules and not any(rule.per_unit for rule in user.rules) and (address := user.fixed()):
                yield address

    def fixed_prefixes(self) -> Iterator[bytes]:
        """The same for IPv6 prefixes: their first addresses."""
        for user in self:
            if user.prefix6:
                yield user.prefix6[0]

    def changed(self) -> bool:
        """Whether any file is another than was read: one stat(2) each."""
        return any(secretfile.signature(path) != held for path, held in self._signatures.items())

    def reload(self) -> "Users":
        """These users if no file has changed, else those of the files as they are now. Raises ConfigError."""
        return Users(self._paths) if self.changed() else self

    # --- loading

    def _load(self) -> None:
        problems = Problems()
        lines = chapsecrets.Reader(problems, self._add)
        files = lines.files
        for path in self._paths:
            problems.file(path)
            # The signature first: a file that changes in between looks changed afterwards, never unchanged.
            self._signatures[path] = secretfile.signature(path)
            try:
                content = secretfile.read(path, MAX_SIZE)
            except SecretFileError as error:
                problems.add(Where(path, 0, 0), error.problem, error.hint)
                continue
            if path.endswith(_YAML):
                files += self._load_yaml(path, content, problems)
            else:
                lines.read(path, content)
        problems.check()
        self._signatures |= {path: secretfile.signature(path) for path in files}
        self.warnings = tuple(lines.warnings)
        self._count = sum(map(len, self._by_server.values()))

    def _load_yaml(self, path: str, content: bytes, problems: Problems) -> list[str]:
        """Gives the files with single secrets that it names."""
        from kl2tp.access import yamlusers  # loads PyYAML

        reader = yamlusers.Reader(problems, self._add)
        reader.read(path, content)
        return reader.files

    def _add(self, user: User) -> bool:
        """False: there is one of that name for that server, which stays."""
        users = self._by_server.get(user.server)
        if users is None:
            users = self._by_server[user.server] = {}
        return users.setdefault(user.name, user) is user


@contextmanager
def _without_gc() -> Iterator[None]:
    """Nothing here makes cycles, and the collector would more than double the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
