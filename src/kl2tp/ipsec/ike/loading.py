"""Making charon have what is wanted: what it has, what differs, and nothing else sent.

charon tells the names of what it has, not the content. So a digest of each connection that we loaded is kept, in a
file too, for this very charon process. Of secrets there is only a keyed digest, with a key that ends with us: after a
restart of ours secrets are loaded again. What another program took away (`swanctl --load-all` unloads whatever is not
in its own files) is missed at the next look, and loaded again.
"""

import asyncio
import json
import logging
import os
from collections.abc import Awaitable, Iterable, Mapping
from contextlib import suppress
from dataclasses import field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from kl2tp.ipsec.ike.causes import refused
from kl2tp.ipsec.ike.connections import Content, Loaded, Shared
from kl2tp.ipsec.ike.negotiation import Cause, CauseKind
from kl2tp.ipsec.ike.wanted import PREFIX
from kl2tp.ipsec.vici import CommandError, Vici
from kl2tp.model.value import dataclass
from kl2tp.wire.vici import Message, ViciError, items, text

_log = logging.getLogger("kl2tp.ike")
_UNKNOWN = ("", "")
"""Digests of a connection of which only the name is known."""


@dataclass(slots=True)
class Pass:
    """What one pass did."""

    sent: int = 0
    """Changes."""
    problems: dict[str, Cause] = field(default_factory=dict)
    """Of connections that charon refused, by name."""
    hard: tuple[str, ...] = ()
    """Connections whose SAs are wrong now."""
    soft: tuple[str, ...] = ()
    """Connections whose SAs are good, but were made by other rules."""


class Loading:
    """What one charon has of ours."""

    def __init__(self, state_file: Path | None) -> None:
        self._file = state_file
        self._mac = os.urandom(32)
        self._identity = ""
        """Of the charon process that all below is about."""
        self._connections: dict[str, tuple[str, str]] = {}
        """Digests of those loaded, by name."""
        self._shared: dict[str, tuple[bytes, str]] = {}
        """Keyed digest and file of each secret, by id."""
        self._keys: dict[str, tuple[bytes, str]] = {}
        """Keyed digest, and charon's name, of each private key, by file."""
        self._certificates: set[str] = set()
        self._refused: dict[str, tuple[str, Cause]] = {}
        """Digest and cause of connections and keys that charon did not take: not sent again unless they change."""
        self._saved = b""
        self._read()

    def loaded(self, name: str, content: Content) -> bool:
        """Whether charon has this connection as it is wanted."""
        wanted = content.connections.get(name)
        return wanted is not None and self._connections.get(name, _UNKNOWN)[0] == wanted.digest

    # --- looking

    async def look(self, vici: Vici, identity: str) -> bool:
        """See what charon has; whether something of ours is missing. Raises CharonError, CommandError."""
        if identity != self._identity:
            self._forget(identity)
        connections, shared, keys = await asyncio.gather(
            vici.ask("get-conns"), vici.ask("get-shared"), vici.ask("get-keys")
        )
        before = (len(self._connections), len(self._shared), len(self._keys))
        names = [name for name in items(connections, "conns") if name.startswith(PREFIX)]
        ids = [name for name in items(shared, "keys") if name.startswith(PREFIX)]
        there = set(items(keys, "keys"))
        self._connections = {name: self._connections.get(name, _UNKNOWN) for name in names}
        self._shared = {name: self._shared.get(name, (b"", "")) for name in ids}
        self._keys = {path: known for path, known in self._keys.items() if known[1] in there}
        return (len(self._connections), len(self._shared), len(self._keys)) != before

    def _forget(self, identity: str) -> None:
        """Another charon: it has nothing that we know of."""
        self._identity = identity
        self._connections, self._shared, self._keys = {}, {}, {}
        self._certificates, self._refused = set(), {}

    # --- sending

    async def agree(self, vici: Vici, content: Content, wanted: Iterable[str]) -> Pass:
        """Have charon agree with the content; of `wanted` connections nothing is unloaded. Raises CharonError."""
        done = Pass()
        await self._load_keys(vici, content, done)
        await self._load_shared(vici, content, done)
        await self._load_certificates(vici, content, done)
        await self._load_connections(vici, content, done)
        await self._unload(vici, content, set(wanted), done)
        self._refused = {name: known for name, known in self._refused.items()
                         if name in content.connections or name in content.keys}  # fmt: skip
        return done

    async def _load_keys(self, vici: Vici, content: Content, done: Pass) -> None:
        for path, secret in content.keys.items():
            digest = self._digest(secret.reveal())
            if self._keys.get(path, (b"", ""))[0] == digest or self._refused.get(path, ("",))[0] == digest.hex():
                continue
            done.sent += 1
            try:
                answer = await vici.ask("load-key", {"type": "any", "data": secret.reveal()})
            except CommandError:
                # Never charon's words about it.
                cure = "it must be PEM without a passphrase: openssl pkey -in KEY -out NEWKEY"
                cause = Cause(CauseKind.CONFIGURATION, f"{path}: strongSwan does not take this private key", cure)
                self._refused[path] = (digest.hex(), cause)
            else:
                self._keys[path] = (digest, text(answer, "id"))
                self._refused.pop(path, None)

    async def _load_shared(self, vici: Vici, content: Content, done: Pass) -> None:
        async def load(name: str, shared: Shared, digest: bytes) -> None:
            message: Message = {
                "id": name, "type": shared.kind, "owners": shared.owners, "data": shared.secret.reveal()
            }  # fmt: skip
            await vici.ask("load-shared", message)
            self._shared[name] = (digest, shared.source)

        work = []
        for name, shared in content.shared.items():
            digest = self._digest(shared.secret.reveal())
            if self._shared.get(name, (b"", ""))[0] != digest:
                work.append(_tolerant(load(name, shared, digest), "a secret", shared.source))
        done.sent += len(work)
        await _together(work)

    async def _load_certificates(self, vici: Vici, content: Content, done: Pass) -> None:
        for digest in content.certificates.keys() - self._certificates:
            done.sent += 1
            message: Message = {"type": "X509", "flag": "NONE", "data": content.certificates[digest]}
            await _tolerant(vici.ask("load-cert", message), "a certificate", digest)
            self._certificates.add(digest)

    async def _load_connections(self, vici: Vici, content: Content, done: Pass) -> None:
        work: list[Awaitable[object]] = []
        hard: list[str] = []
        soft: list[str] = []
        for name, loaded in content.connections.items():
            digest, before = self._connections.get(name, _UNKNOWN)
            if digest == loaded.digest or self._refused.get(name, ("",))[0] == loaded.digest:
                continue
            work.append(self._load(vici, name, loaded))
            if digest:
                (soft if before == loaded.hard else hard).append(name)
        done.sent += len(work)
        await _together(work)
        for name, loaded in content.connections.items():
            if (refusal := self._refused.get(name) or self._refused.get(loaded.key_file)) is not None:
                done.problems[name] = refusal[1]
        done.hard = tuple(name for name in hard if self.loaded(name, content))
        done.soft = tuple(name for name in soft if self.loaded(name, content))

    async def _load(self, vici: Vici, name: str, loaded: Loaded) -> None:
        try:
            await vici.ask("load-conn", loaded.message)
        except (CommandError, ViciError) as error:
            self._refused[name] = (loaded.digest, refused(str(error), 0.0))
            return
        self._connections[name] = (loaded.digest, loaded.hard)
        self._refused.pop(name, None)

    async def _unload(self, vici: Vici, content: Content, wanted: set[str], done: Pass) -> None:
        """What is wanted no longer; not a secret whose file cannot be read at the moment."""
        work: list[Awaitable[object]] = []
        for name in self._connections.keys() - wanted:
            work.append(_tolerant(vici.ask("unload-conn", {"name": name}), "a connection", name))
            del self._connections[name]
        for name in self._shared.keys() - content.shared.keys():
            if self._shared[name][1] not in content.unread:
                work.append(_tolerant(vici.ask("unload-shared", {"id": name}), "a secret", name))
                del self._shared[name]
        used = {self._keys[path][1] for path in content.keys.keys() & self._keys.keys()}
        for path in self._keys.keys() - content.keys.keys() - content.unread:
            _, key_id = self._keys.pop(path)
            if key_id not in used:
                work.append(_tolerant(vici.ask("unload-key", {"id": key_id}), "a private key", path))
        done.sent += len(work)
        await _together(work)

    def _digest(self, secret: bytes) -> bytes:
        return blake2b(secret, key=self._mac, digest_size=16).digest()

    # --- the file

    def _read(self) -> None:
        """What was loaded before our restart. A file that makes no sense is as good as none."""
        if self._file is None:
            return
        try:
            state: Any = json.loads(self._file.read_bytes())
            identity = str(state["charon"])
            connections = {str(name): (str(digest), str(hard)) for name, (digest, hard) in state["connections"].items()}
            certificates = set(map(str, state["certificates"]))
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return
        self._identity, self._connections, self._certificates = identity, connections, certificates

    def save(self) -> None:
        """Keep it for the time after a restart. Blocks; an error costs no more than loading all of it again."""
        if self._file is None:
            return
        state: Mapping[str, object] = {
            "charon": self._identity,
            "connections": self._connections,
            "certificates": sorted(self._certificates),
        }
        data = json.dumps(state, separators=(",", ":")).encode()
        if data == self._saved:
            return
        new = self._file.with_name(f".{self._file.name}.new")
        try:
            new.write_bytes(data)
            new.replace(self._file)
            self._saved = data
        except OSError as error:
            _log.warning("%s: cannot be written: %s", self._file, error.strerror)
            with suppress(OSError):
                new.unlink()


async def _tolerant(work: Awaitable[object], what: str, which: str) -> None:
    """What charon refuses is told, and stops nothing else."""
    try:
        await work
    except (CommandError, ViciError) as error:
        _log.warning("strongSwan: %s (%s): %s", what, which, error)


async def _together(work: Iterable[Awaitable[object]]) -> None:
    """All at once; the first CharonError ends it when all have ended."""
    for result in await asyncio.gather(*work, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def process(pid: int) -> str:
    """What tells this charon from the next: process id and start time."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        return f"{pid}/{fields[19]}"
    except (OSError, IndexError):
        return ""
