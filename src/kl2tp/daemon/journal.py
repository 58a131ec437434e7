"""Logging: to journald with fields, or to standard error.

Under systemd each record is a datagram of journald's native protocol, and the tunnel and the session that it
is about are fields: `journalctl KL2TP_TUNNEL=madrid`. Elsewhere a line on standard error, with a `<N>`
priority as systemd and others understand it, or with the time if a person watches.
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from typing import TextIO

SOCKET = "/run/systemd/journal/socket"
FIELDS = {"tunnel": "KL2TP_TUNNEL", "session": "KL2TP_SESSION"}
"""Attributes of a record (`extra=`) that become fields."""

_LENGTH = struct.Struct("<Q")
_MOST_LINES = 200
"""Lines that wait for the end of a pass of the event loop."""
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def priority(level: int) -> int:
    """The syslog priority of a level."""
    for least, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return number
    return 7


def under_journald(stream: TextIO | None = None) -> bool:
    """Whether a stream (standard error) goes to journald, as `$JOURNAL_STREAM` says (systemd.exec(5))."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat((sys.stderr if stream is None else stream).fileno())
    except (OSError, ValueError, AttributeError):
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def configure(level: str = "info", *, path: str = SOCKET) -> logging.Handler:
    """Set logging up for the whole process: ours from `level` on, that of libraries from warnings on."""
    handler = _choose(path)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("kl2tp").setLevel(level.upper())
    logging.captureWarnings(True)
    # Nobody asks for these, and each is a system call or more for every record.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    return handler


def _choose(path: str) -> logging.Handler:
    if under_journald() and os.path.exists(path):
        with contextlib.suppress(OSError):
            return JournalHandler(path)
    return stream_handler()


def stream_handler(stream: TextIO | None = None) -> logging.Handler:
    """Lines on standard error."""
    out = sys.stderr if stream is None else stream
    handler = StreamHandler(out)
    handler.setFormatter(_Readable() if out.isatty() else _Prioritized())
    return handler


class StreamHandler(logging.StreamHandler[TextIO]):
    """Lines to a stream; what one pass of the event loop has to say leaves in one write, errors at once.

    When a thousand sessions come up in a second, a write for each line would cost more than the sessions.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take one record."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            if record.levelno < logging.ERROR and len(self._lines) < _MOST_LINES:
                if len(self._lines) > 1:
                    return  # the first of them has seen to it
                asyncio.get_running_loop().call_soon(self.flush)
                return
        except RuntimeError:  # no event loop here
            pass
        except Exception:
            self.handleError(record)
            return
        self.flush()

    def flush(self) -> None:
        """Write what there is."""
        with self.lock or contextlib.nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                try:
                    self.stream.write("".join(lines))
                    self.stream.flush()
                except (OSError, ValueError):  # nobody listens any more
                    pass


class _Prioritized(logging.Formatter):
    """`<N>message`: every line of a record has the priority."""

    def format(self, record: logging.LogRecord) -> str:
        prefix = f"<{priority(record.levelno)}>"
        return "\n".join(prefix + line for line in super().format(record).splitlines() or [""])


class _Readable(logging.Formatter):
    """Time, level and message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S")


def encode(fields: dict[str, str]) -> bytes:
    """Fields in the native protocol: `NAME=value` lines; a value of several lines comes after its length."""
    out = []
    for name, value in fields.items():
        data = value.encode(errors="surrogateescape")
        if b"\n" in data:
            out += [name.encode(), b"\n", _LENGTH.pack(len(data)), data, b"\n"]
        else:
            out += [name.encode(), b"=", data, b"\n"]
    return b"".join(out)


class JournalHandler(logging.Handler):
    """Sends records to journald. Never waits: what journald has no room for is counted, the count logged."""

    def __init__(self, path: str = SOCKET, *, identifier: str = "kl2tp") -> None:
        """Raises OSError if nothing listens there."""
        super().__init__()
        self._path = path
        self._identifier = identifier
        self._socket = self._connected()
        self._fallback = stream_handler()
        self.lost = 0
        """Records that journald had no room for, and of which it has not been told yet."""

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._path)
        except BaseException:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Send one record."""
        try:
            fields = self.fields(record)
            if self.lost and self._send(encode(self._lost_fields())):
                self.lost = 0
            if not self._send(encode(fields)):
                self.lost += 1
        except OSError:
            self._fallback.emit(record)
        except Exception:
            self.handleError(record)

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """A record as journal fields."""
        fields = {
            "MESSAGE": self.format(record),
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": self._identifier,
            "LOGGER": record.name,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
        }
        for attribute, name in FIELDS.items():
            if value := getattr(record, attribute, None):
                fields[name] = str(value)
        return fields

    def _lost_fields(self) -> dict[str, str]:
        message = f"{self.lost} records were lost: journald had no room"
        return {"MESSAGE": message, "PRIORITY": "4", "SYSLOG_IDENTIFIER": self._identifier}

    def _send(self, data: bytes) -> bool:
        """Whether journald took it. Raises OSError if there is no journald."""
        try:
            return self._datagram(data)
        except BlockingIOError:
            return False
        except (ConnectionError, FileNotFoundError):  # journald was restarted
            self._socket.close()
            self._socket = self._connected()
            return self._datagram(data)

    def _datagram(self, data: bytes) -> bool:
        try:
            self._socket.send(data)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(data)
        return True

    def _send_as_file(self, data: bytes) -> None:
        """A record of any length, in a sealed memory file."""
        fd = os.memfd_create("kl2tp-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(data)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            socket.send_fds(self._socket, [b""], [fd])
        finally:
            os.close(fd)
