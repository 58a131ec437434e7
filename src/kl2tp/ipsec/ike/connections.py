"""What is sent to charon for a connection: the connection itself, its keys, secrets and certificates. Pure.

Certificates go inline in the connection, so that they come and go with it; those between ours and the CA, private
keys and secrets are charon's common property, so each has a name or an id of its own.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import TypeVar, cast

from kl2tp.access import secretfile
from kl2tp.access.secretfile import SecretFileError, Signature
from kl2tp.ipsec.ike import psk
from kl2tp.ipsec.ike.negotiation import Cause, CauseKind
from kl2tp.ipsec.ike.wanted import CHILD, L2TP, PREFIX, Wanted
from kl2tp.model.addr import prefix, text
from kl2tp.model.ike import ANYBODY, CERTIFICATE, EAP, PSK, IkeSpec
from kl2tp.model.objects import Secret
from kl2tp.model.spec import Mode
from kl2tp.model.value import dataclass
from kl2tp.wire.vici import LONGEST_VALUE, Message, encode_message

LONGEST_FILE = LONGEST_VALUE
"""Bytes of a certificate or key: what fits into one value."""
LEAST_MARGIN_S = 60
"""Between the time to re-key and the end of an SA, however short the former: on a busy machine, with many tunnels whose
time has come at once, and packets of IKE that get lost, new keys take a while."""
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\r?\n.*?-----END \1-----\r?\n?", re.DOTALL)
_AUTH = {PSK: "psk", CERTIFICATE: "pubkey", EAP: "eap"}

_Found = TypeVar("_Found")
ReadFile = Callable[[str, int], bytes]
"""Content of a file that may be `limit` bytes long. Raises SecretFileError."""


@dataclass(frozen=True, slots=True)
class Shared:
    """A secret that both ends know."""

    kind: str
    """IKE or EAP."""
    owners: tuple[str, ...]
    """Identities that it is for."""
    secret: Secret
    source: str
    """The file it is from."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A connection as it is sent."""

    message: Message
    digest: str
    """Of all of it. It holds no secret."""
    hard: str
    """Of those parts whose change makes its SAs wrong."""
    key_file: str = ""
    """The private key that it needs."""


@dataclass(slots=True)
class Content:
    """All that charon is to have."""

    connections: dict[str, Loaded] = field(default_factory=dict)
    shared: dict[str, Shared] = field(default_factory=dict)
    """By id."""
    keys: dict[str, Secret] = field(default_factory=dict)
    """Private keys, by file."""
    certificates: dict[str, bytes] = field(default_factory=dict)
    """Those between ours and the CA, by digest."""
    problems: dict[str, Cause] = field(default_factory=dict)
    """Of connections that cannot be loaded, by name."""
    files: set[str] = field(default_factory=set)
    """All that were read, or should have been..."""
    unread: set[str] = field(default_factory=set)
    """...and those that could not be."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What one connection adds to the content."""

    loaded: Loaded
    shared: Mapping[str, Shared]
    keys: Mapping[str, Secret]
    certificates: Mapping[str, bytes]


class Compiler:
    """Makes the content anew each time, and reads and encodes only what is another than before."""

    def __init__(self, read_secret: ReadFile, read_public: ReadFile) -> None:
        self._reader = _Reader(read_secret, read_public)
        self._parts: dict[str, tuple[Wanted, _Part]] = {}

    def compile(self, wanted: Iterable[Wanted]) -> Content:
        """Everything for these connections. What one lacks is its own problem, and costs no other. Reads files."""
        content = Content()
        changed = self._reader.refresh()
        before, self._parts = self._parts, {}
        for want in wanted:
            content.files.update(want.spec.files)
            try:
                known = before.get(want.name)
                fresh = known is None or known[0] != want or not changed.isdisjoint(want.spec.files)
                part = _part(want, self._reader) if fresh or known is None else known[1]
                self._parts[want.name] = (want, part)
                _add(content, want.name, part)
            except SecretFileError as error:
                content.unread.add(error.path)
                where = f"{error.path}:{error.line}" if error.line else error.path
                cause = Cause(CauseKind.CONFIGURATION, f"{where}: {error.problem}", error.hint)
                content.problems[want.name] = cause
            except _Conflict as error:
                content.problems[want.name] = Cause(CauseKind.CONFIGURATION, str(error), error.cure)
        self._reader.keep(content.files)
        return content


def read_public(path: str, limit: int) -> bytes:
    """A file that others may read; a credential is read like a secret. Raises SecretFileError."""
    if path.startswith("credential:"):
        return secretfile.read(path, limit)
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no file name"
        raise SecretFileError(path, 0, f"cannot be read: {why}", "check the path, and whether we may read it") from None
    if len(content) > limit:
        raise SecretFileError(path, 0, f"is longer than {limit} bytes", "name another file")
    return content


class _Conflict(Exception):
    """Two connections that cannot both be served."""

    def __init__(self, problem: str, cure: str) -> None:
        super().__init__(problem)
        self.cure = cure


class _Reader:
    """Files in memory: those that changed on disk, and those that could not be read, are read anew in each pass."""

    def __init__(self, read_secret: ReadFile, read_public: ReadFile) -> None:
        self._read_secret, self._read_public = read_secret, read_public
        self._known: dict[str, tuple[Signature, object]] = {}

    def refresh(self) -> set[str]:
        """Begin a new pass: what is on disk no more as it was read."""
        changed = {
            path
            for path, (signature, found) in self._known.items()
            if isinstance(found, SecretFileError) or secretfile.signature(path) != signature
        }
        for path in changed:
            del self._known[path]
        return changed

    def keep(self, paths: set[str]) -> None:
        """Forget all other files."""
        self._known = {path: known for path, known in self._known.items() if path in paths}

    def _get(self, path: str, read: Callable[[], _Found]) -> _Found:
        """What `read` makes of a file, from memory if it is there. Raises SecretFileError, the same again in a pass."""
        if path not in self._known:
            # The signature first: a file that changes in between looks changed afterwards, never unchanged.
            signature = secretfile.signature(path)
            try:
                self._known[path] = (signature, read())
            except SecretFileError as error:
                self._known[path] = (signature, error.with_traceback(None))
        found = self._known[path][1]
        if isinstance(found, SecretFileError):
            raise SecretFileError(found.path, found.line, found.problem, found.hint)
        return cast("_Found", found)

    def psk(self, path: str) -> dict[str, Secret]:
        """Pre-shared keys by identity. Raises SecretFileError."""
        return self._get(path, lambda: psk.parse(path, self._read_secret(path, psk.LONGEST_FILE)))

    def secret(self, path: str) -> bytes:
        """A file with nothing but a secret. Raises SecretFileError."""
        return self._get(path, lambda: self._read_secret(path, LONGEST_FILE))

    def certificates(self, path: str) -> tuple[bytes, ...]:
        """Those in a PEM file, in their order. Raises SecretFileError."""
        return self._get(path, lambda: _certificates(path, self._read_public(path, 16 * LONGEST_FILE)))


def _certificates(path: str, data: bytes) -> tuple[bytes, ...]:
    found = tuple(match[0] for match in _PEM.finditer(data) if match[1].endswith(b"CERTIFICATE"))
    if not found and data[:1] == b"\x30":
        found = (data,)  # DER, which strongSwan takes as well
    if not found:
        raise SecretFileError(path, 0, "has no certificate", "it must be PEM: -----BEGIN CERTIFICATE-----")
    if any(len(certificate) > LONGEST_VALUE for certificate in found):
        raise SecretFileError(path, 0, f"has a certificate of more than {LONGEST_VALUE} bytes", "name another file")
    return found


def _part(want: Wanted, reader: _Reader) -> _Part:
    """One connection and what belongs to it. Raises SecretFileError."""
    spec = want.spec
    mine, chain, cas = _chain(spec, reader)
    shared = _shared(want, reader)
    keys = {spec.key_file: Secret(reader.secret(spec.key_file))} if spec.auth == CERTIFICATE and spec.key_file else {}
    return _Part(load(want, mine, cas), shared, keys, {_digest(certificate): certificate for certificate in chain})


def _add(content: Content, name: str, part: _Part) -> None:
    """All of it or nothing. Raises _Conflict."""
    for key, secret in part.shared.items():
        other = content.shared.get(key)
        if other is not None and other.secret != secret.secret:
            raise _Conflict(
                f"{secret.source} and {other.source} have different secrets for the same peer {secret.owners[-1]!r}",
                "give the peer one key, or let it have another identity (remote_id) for each connection",
            )
    content.shared.update(part.shared)
    content.keys.update(part.keys)
    content.certificates.update(part.certificates)
    content.connections[name] = part.loaded


def _chain(spec: IkeSpec, reader: _Reader) -> tuple[tuple[bytes, ...], list[bytes], list[bytes]]:
    """Our certificate, those above it, and the CAs of the peer. Raises SecretFileError."""
    own = [one for path in spec.certificate_files for one in reader.certificates(path)]
    mine, chain = (own[:1], own[1:]) if spec.auth == CERTIFICATE else ([], [])
    cas = [one for path in spec.ca_files for one in reader.certificates(path)] if spec.remote_auth != PSK else []
    return tuple(mine), chain, cas


# --- secrets


def _shared(want: Wanted, reader: _Reader) -> dict[str, Shared]:
    """Pre-shared keys and EAP passwords. Raises SecretFileError."""
    spec = want.spec
    found: dict[str, Shared] = {}
    if PSK in (spec.auth, spec.remote_auth):
        keys = reader.psk(spec.psk_file)
        for who, key in (keys if _is_open(want) else _one_of(keys, want)).items():
            owners = _owners(want, who)
            found[f"{PREFIX}ike:{','.join(owners)}"] = Shared("IKE", owners, key, spec.psk_file)
    if spec.auth == EAP:
        password = reader.secret(spec.eap_password_file).rstrip(b"\r\n")
        if not password:
            raise SecretFileError(spec.eap_password_file, 0, "is empty", "write the password into it")
        owners = (spec.eap_user,)
        found[f"{PREFIX}eap:{spec.eap_user}"] = Shared("EAP", owners, Secret(password), spec.eap_password_file)
    return found


def peer_identity(want: Wanted) -> str:
    """Who the peer must be; "" for anybody."""
    spec = want.spec
    if spec.remote_id:
        return "" if spec.remote_id == ANYBODY else spec.remote_id
    return text(want.remote) if spec.remote_auth == PSK and not want.many else ""


def _is_open(want: Wanted) -> bool:
    """Whether several peers may come, each with a key of its own."""
    who = peer_identity(want)
    return not who or "*" in who


def _one_of(keys: Mapping[str, Secret], want: Wanted) -> dict[str, Secret]:
    """The key of the one peer, under the name that it is looked up by. Raises SecretFileError."""
    who = peer_identity(want)
    for name in (who, text(want.remote), psk.ANY):
        if name and name in keys:
            return {who: keys[name]}
    path = want.spec.psk_file
    raise SecretFileError(path, 0, f"has no key for {who}", f"add a line to it: {who} KEY (or %any KEY)")


def _owners(want: Wanted, who: str) -> tuple[str, ...]:
    """Identities under which charon looks a key up.

    A key for a named peer has that name alone: charon takes a key if either identity fits, so our own would make the
    key good for everybody. A key for anybody has ours too, and so comes before a key for anybody of somebody else.
    IKEv1 in main mode knows addresses at first.
    """
    spec = want.spec
    mine = spec.local_id or text(want.local)
    if who == psk.ANY:
        return tuple(dict.fromkeys(filter(None, (mine, text(want.local) if spec.version != 2 else "", psk.ANY))))
    address = text(want.remote) if spec.version != 2 and not _is_open(want) else ""
    return tuple(dict.fromkeys(filter(None, (address, who))))


# --- the connection


def load(want: Wanted, mine: tuple[bytes, ...], cas: Iterable[bytes]) -> Loaded:
    """The connection, with its certificates inline."""
    message: Message = {want.name: _connection(want, mine, tuple(cas))}
    return Loaded(message, _digest(encode_message(message)), _digest(encode_message(_hard(want))), want.spec.key_file)


def _hard(want: Wanted) -> Message:
    """What SAs are made of: if it changes, those there are must go. The rest may wait for new ones."""
    spec = want.spec
    return {
        "local": text(want.local),
        "remotes": [prefix(*remote) for remote in want.remotes],
        "identities": [spec.local_id, spec.remote_id],
        "auth": [spec.auth, spec.remote_auth],
        "traffic": list(map(str, (want.traffic.protocol, want.traffic.local_port, want.traffic.remote_port))),
        "mode": spec.mode.name,
        "reqid": str(spec.reqid),
        "many": _yes(want.many),
    }


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _connection(want: Wanted, mine: tuple[bytes, ...], cas: tuple[bytes, ...]) -> Message:
    spec = want.spec
    # Whoever initiates renews by himself, the new IKE SA first: charon would end the old one first.
    reauth = 0 if want.initiates else spec.reauth_time
    soonest = min(filter(None, (spec.ike_rekey_time, reauth)), default=0)
    margin = max(spec.ike_rekey_time // 10, LEAST_MARGIN_S)
    return {
        "version": str(spec.version),
        "local_addrs": [text(want.local) or "%any"],
        "remote_addrs": [_remote(*remote) for remote in want.remotes] or ["%any"],
        "proposals": spec.proposals,
        # Many clients come with the same private address as identity; of one peer the latest IKE SA is the right one.
        "unique": "never" if want.many else "replace",
        "encap": _yes(spec.encap),
        # With it charon tells the peer of each address that comes or goes on this host, for every IKE SA. What we make
        # ourselves stays between the addresses that it was made for, so only clients of an LNS gain by it.
        "mobike": _yes(spec.mobike and want.many),
        "aggressive": _yes(spec.aggressive),
        "dpd_delay": f"{spec.dpd_delay}s",
        "dpd_timeout": f"{spec.dpd_timeout}s",
        "rekey_time": f"{spec.ike_rekey_time}s",
        "reauth_time": f"{reauth}s",
        "over_time": f"{margin}s",
        "rand_time": f"{soonest // 10}s",
        "local-1": _local(want, mine),
        "remote-1": _remote_auth(want, cas),
        "children": {CHILD: _child(want)},
    }


def renewed(loaded: Loaded, name: str, generation: int) -> Message:
    """The same connection, so little changed that charon begins a new IKE SA for it beside the one there is."""
    inner = loaded.message[name]
    assert isinstance(inner, Mapping)
    over = inner["over_time"]
    assert isinstance(over, str)
    return {name: {**inner, "over_time": f"{int(over[:-1]) + generation % 2}s"}}


def _remote(address: bytes, length: int) -> str:
    return text(address) if length == len(address) * 8 else prefix(address, length)


def _local(want: Wanted, mine: tuple[bytes, ...]) -> Message:
    spec = want.spec
    found: dict[str, str | list[bytes]] = {"auth": _AUTH[spec.auth]}
    identity = spec.local_id or (spec.eap_user if spec.auth == EAP else "")
    if identity:
        found["id"] = identity
    if spec.auth == EAP:
        found["eap_id"] = spec.eap_user
    if mine:
        found["certs"] = list(mine)
    return found


def _remote_auth(want: Wanted, cas: tuple[bytes, ...]) -> Message:
    found: dict[str, str | list[bytes]] = {"auth": _AUTH[want.spec.remote_auth]}
    if identity := peer_identity(want):
        found["id"] = identity
    if cas:
        found["cacerts"] = list(cas)
    return found


def _child(want: Wanted) -> Message:
    spec, traffic = want.spec, want.traffic
    margin = max(spec.rekey_time // 10, LEAST_MARGIN_S)
    child: dict[str, str | tuple[str, ...] | list[str]] = {
        "mode": "transport" if spec.mode is Mode.TRANSPORT else "tunnel",
        "policies": "no",  # the SPD is ours
        "esp_proposals": spec.esp_proposals,
        "local_ts": [selector(traffic.protocol, traffic.local_port)],
        "remote_ts": [selector(traffic.protocol, traffic.remote_port)],
        "rekey_time": f"{spec.rekey_time}s",
        "life_time": f"{spec.rekey_time + margin if spec.rekey_time else 0}s",
        "rand_time": f"{spec.rekey_time // 10}s",
        "replay_window": str(spec.replay_window),
    }
    if want.many:
        # Without policies no mark gets into the kernel, but each client gets a reqid of its own.
        child |= {"mark_in": "%unique", "mark_in_sa": "no"}
    else:
        child["reqid"] = str(spec.reqid)
    return child


def selector(protocol: int, port: int) -> str:
    """A traffic selector in charon's words: this traffic of the end's own address, whatever that is."""
    if protocol == L2TP:
        return f"dynamic[{L2TP}]"
    return f"dynamic[udp/{port}]" if port else "dynamic[udp]"
