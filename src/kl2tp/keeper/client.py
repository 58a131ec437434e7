"""The daemon's side of the keeper. Blocking, for worker threads."""

import socket
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kl2tp.keeper.protocol import DROP, FDS, FETCH, KEEP, LIST, MESSAGE, NAMES, NO, OK

_PATIENCE_S = 60.0
"""For an answer: to drop what nobody else holds takes the kernel its time."""
_MSG_CMSG_CLOEXEC = 0x40000000
_INT = 4


class KeeperError(Exception):
    """The keeper is not there, has gone, or refused."""


class KeeperClient:
    """A connection to the keeper. Once it is lost, `connect` makes a new one, perhaps to a keeper that has nothing."""

    def __init__(self, path: Path) -> None:
        """Raises KeeperError if no keeper answers there."""
        self._path = path
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.connect()

    def connect(self) -> None:
        """Connect anew; the keeper then forgets any other client. Raises KeeperError."""
        with self._lock:
            self._lose()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
            sock.settimeout(_PATIENCE_S)
            try:
                sock.connect(str(self._path))
            except OSError as error:
                sock.close()
                raise KeeperError(f"no keeper at {self._path}: {error.strerror}") from None
            self._socket = sock

    @property
    def connected(self) -> bool:
        """Whether the connection was good when it was last used."""
        return self._socket is not None

    def close(self) -> None:
        """End the connection; the keeper keeps what it has."""
        with self._lock:
            self._lose()

    def keep(self, names: Sequence[str], fds: Sequence[int]) -> None:
        """Leave descriptors there, each under a name; they replace those that had these names. Raises KeeperError."""
        for start in range(0, len(names), FDS):
            part = slice(start, start + FDS)
            self._ask(_message(KEEP, names[part]), fds[part])

    def drop(self, names: Iterable[str]) -> None:
        """Have the keeper close them. Raises KeeperError."""
        for part in _parts(names, NAMES):
            self._ask(_message(DROP, part))

    def names(self) -> list[str]:
        """What the keeper has, in the order in which it came. Raises KeeperError."""
        found: list[str] = []
        while part := self._ask(_message(LIST, [str(len(found))]))[0]:
            found += part
        return found

    def fetch(self, names: Iterable[str] | None = None) -> dict[str, int]:
        """Descriptors of one's own for these, or for all, by name; the keeper has them still. Raises KeeperError."""
        found: dict[str, int] = {}
        try:
            for part in _parts(self.names() if names is None else names, FDS):
                found.update(zip(*self._ask(_message(FETCH, part)), strict=True))
        except BaseException:
            _close(found.values())
            raise
        return found

    def _ask(self, message: bytes, fds: Sequence[int] = ()) -> tuple[list[str], list[int]]:
        """The words and descriptors of the answer."""
        with self._lock:
            if self._socket is None:
                raise KeeperError("the connection to the keeper is lost")
            try:
                answer, received = _exchange(self._socket, message, fds)
            except OSError as error:
                self._lose()
                raise KeeperError(f"the connection to the keeper is lost: {error}") from None
            if not answer:
                self._lose()
                raise KeeperError("the keeper has closed the connection")
        verdict, *words = answer.decode(errors="replace").split("\n")
        if verdict != OK.decode() or len(received) not in (0, len(words)):
            _close(received)
            raise KeeperError(f"the keeper refused: {words[0]}" if verdict == NO.decode() and words else "no sense")
        return words, received

    def _lose(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _exchange(sock: socket.socket, message: bytes, fds: Sequence[int]) -> tuple[bytes, list[int]]:
    """Send a message and wait for the answer. Raises OSError."""
    if fds:
        socket.send_fds(sock, [message], fds)
    else:
        sock.send(message)
    # Not by socket.recv_fds, which forgets its flags.
    answer, ancillary, flags, _ = sock.recvmsg(MESSAGE, socket.CMSG_SPACE(FDS * _INT), _MSG_CMSG_CLOEXEC)
    received: list[int] = []
    for _, _, data in ancillary:
        received += memoryview(data[: len(data) - len(data) % _INT]).cast("i")
    if flags & socket.MSG_CTRUNC:
        _close(received)
        raise OSError("no room for so many descriptors: raise LimitNOFILE")
    return answer, received


def _message(verb: bytes, names: Iterable[str]) -> bytes:
    return b"\n".join((verb, *(name.encode() for name in names)))


def _parts(names: Iterable[str], size: int) -> Iterator[list[str]]:
    names = list(names)
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        socket.close(fd)
