"""The keeper's process: it keeps descriptors and knows nothing of what they are.

It has one client at a time; a new one takes the place of the old. It answers each request, never waits for a client,
and closes what it is told to drop: what hangs on a descriptor ends with the last who holds it. It is meant to run for
months and to be killed last, so it is small: from the standard library it takes only the C halves of what it needs
(`_socket` instead of `socket`, which would bring a seventh more of memory), and no other part of kl2tp.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import _thread
import fcntl
import os
import resource
import select
import sys
from itertools import islice

from kl2tp.keeper.protocol import DROP, FDS, FETCH, KEEP, LIST, MESSAGE, NAME, NAMES, NO, OK, SOCKET

_MSG_CMSG_CLOEXEC = 0x40000000
_SO_PEERCRED = 17
_CLOSERS = 32
_INT = 4
_BACKLOG = 8
_LAST_REQUESTS = 1000
_PAUSE_S = 0.02


class Refusal(Exception):
    """A request that cannot be granted."""


class Holder:
    """Descriptors by name, and the requests about them."""

    def __init__(self) -> None:
        self.held: dict[bytes, int] = {}

    def handle(self, message: bytes, fds: list[int]) -> tuple[bytes, list[int]]:
        """(answer, descriptors that go with it). Takes over `fds`. Raises Refusal; then they are closed."""
        verb, *words = message.split(b"\n")
        try:
            if verb == KEEP:
                return self._keep(words, fds), []
            if fds:
                raise Refusal(f"{verb!r} with descriptors")
            if verb == DROP:
                return self._drop(words), []
            if verb == LIST:
                return self._list(words), []
            if verb == FETCH:
                return self._fetch(words)
            raise Refusal(f"{verb[:20]!r} is no request")
        except Refusal:
            _close(fds)
            raise

    def _keep(self, names: list[bytes], fds: list[int]) -> bytes:
        if not len(names) == len(set(names)) == len(fds):
            raise Refusal(f"{len(set(names))} names for {len(fds)} descriptors")
        if not all(0 < len(name) <= NAME for name in names):
            raise Refusal("a name is empty or too long")
        _close([self.held.pop(name) for name in names if name in self.held])
        self.held.update(zip(names, fds, strict=True))
        return OK

    def _drop(self, names: list[bytes]) -> bytes:
        _close([self.held.pop(name) for name in names if name in self.held])
        return OK

    def _list(self, words: list[bytes]) -> bytes:
        if len(words) != 1 or not words[0].isdigit():
            raise Refusal("a list begins at a number")
        start = min(int(words[0][:9]), len(self.held))
        return b"\n".join((OK, *islice(self.held, start, start + NAMES)))

    def _fetch(self, names: list[bytes]) -> tuple[bytes, list[int]]:
        found = [name for name in names if name in self.held]
        if len(found) > FDS:
            raise Refusal(f"{len(found)} descriptors are too many for one message")
        return b"\n".join((OK, *found)), [self.held[name] for name in found]

    def close(self) -> None:
        """Close everything, side by side: the last reference to a session takes the kernel some 50 ms to close."""
        fds = list(self.held.values())
        self.held.clear()
        left = iter(fds)
        done: list[None] = []

        def work() -> None:
            for fd in left:  # an iterator over a list hands out each of its items once, whoever asks
                _close([fd])
            done.append(None)

        helpers = _CLOSERS if len(fds) > _CLOSERS else 0
        for _ in range(helpers):
            _thread.start_new_thread(work, ())
        work()
        while len(done) <= helpers:
            select.select([], [], [], _PAUSE_S)


class Server:
    """The listening socket and the one client."""

    def __init__(self, path: str) -> None:
        """Raises OSError."""
        self.holder = Holder()
        self._listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        before = os.umask(0o177)
        try:
            self._listener.bind(path)
        finally:
            os.umask(before)
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)
        self._client: _socket.socket | None = None
        self._poll = select.poll()
        self._poll.register(self._listener.fileno(), select.POLLIN)
        self._allowed = (0, os.geteuid())

    def run(self) -> None:
        """Serve for ever."""
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._listener.fileno():
                    self._accept()
                elif self._client is not None and fd == self._client.fileno():
                    self._serve(self._client)

    def _accept(self) -> None:
        try:
            fd, _ = self._listener._accept()  # type: ignore[attr-defined]
        except BlockingIOError:  # gone again
            return
        except OSError:  # no descriptor is left for it: not at once again
            select.select([], [], [], _PAUSE_S)
            return
        client = _socket.socket(fileno=fd)
        credentials = client.getsockopt(_socket.SOL_SOCKET, _SO_PEERCRED, 3 * _INT)
        uid = int.from_bytes(credentials[_INT : 2 * _INT], sys.byteorder)
        if uid not in self._allowed:
            _say(f"refused user {uid}")
            client.close()
            return
        for _ in range(_LAST_REQUESTS):  # of a client that was killed, perhaps: what it said still counts
            if self._client is not None:
                self._serve(self._client)
        self._forget_client()
        client.setblocking(False)
        self._client = client
        self._poll.register(client.fileno(), select.POLLIN)

    def _forget_client(self) -> None:
        if self._client is not None:
            self._poll.unregister(self._client.fileno())
            self._client.close()
            self._client = None

    def _serve(self, client: _socket.socket) -> None:
        """Answer one request. A client that is gone, or does not take its answer, is forgotten."""
        try:
            message, fds = _receive(client)
            if not message:
                self._forget_client()
                return
            try:
                answer, sent = self.holder.handle(message, fds)
            except Refusal as refusal:
                answer, sent = b"\n".join((NO, str(refusal).encode())), []
            _send(client, answer, sent)
        except Refusal as refusal:
            _say(f"a message was refused: {refusal}")
            self._refuse(client, str(refusal))
        except OSError:
            self._forget_client()

    def _refuse(self, client: _socket.socket, why: str) -> None:
        try:
            _send(client, b"\n".join((NO, why.encode())), [])
        except OSError:
            self._forget_client()


def _receive(client: _socket.socket) -> tuple[bytes, list[int]]:
    """A message and its descriptors; b"" if the client is gone. Raises OSError; Refusal: not all of it could be had."""
    space = _socket.CMSG_SPACE(FDS * _INT)
    message, ancillary, flags, _ = client.recvmsg(MESSAGE, space, _MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in ancillary:
        if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
            fds += memoryview(data[: len(data) - len(data) % _INT]).cast("i")
    if flags & (_socket.MSG_CTRUNC | _socket.MSG_TRUNC):
        _close(fds)
        raise Refusal("too long, or there is no room for so many descriptors")
    return message, fds


def _send(client: _socket.socket, answer: bytes, fds: list[int]) -> None:
    if not fds:
        client.send(answer)
        return
    rights = b"".join(fd.to_bytes(_INT, sys.byteorder) for fd in fds)
    client.sendmsg([answer], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)])


def _close(fds: list[int]) -> None:
    for fd in fds:
        try:
            os.close(fd)
        except OSError:  # closed all the same
            continue


def _say(text: str) -> None:
    os.write(2, f"kl2tp keeper: {text}\n".encode())


def _tell_manager(state: bytes) -> None:
    """sd_notify(3)."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path[:1] not in ("/", "@"):
        return
    with_null = "\0" + path[1:] if path[0] == "@" else path
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        sock.sendto(state, with_null)
    except OSError:
        pass
    finally:
        sock.close()


def _end(number: int, frame: object) -> None:
    raise SystemExit(0)


def main(run_dir: str) -> int:
    """Keep descriptors until SIGTERM; the exit status."""
    path = f"{run_dir}/{SOCKET}"
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _say(f"another keeper is at work in {run_dir}")
        return 1
    except OSError as error:
        _say(f"cannot use {run_dir}: {error.strerror}")
        return 1
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for number in (_signal.SIGTERM, _signal.SIGINT):
        _signal.signal(number, _end)
    if os.path.exists(path):
        os.unlink(path)
    server = Server(path)
    _tell_manager(b"READY=1\nSTATUS=Keeps what the daemon gives it")
    try:
        server.run()
    except SystemExit:
        _tell_manager(b"STOPPING=1")
        os.unlink(path)
        server.holder.close()
    return 0
