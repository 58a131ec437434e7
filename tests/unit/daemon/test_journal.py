"""Log records on their way to journald and to standard error."""

import io
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kl2tp.daemon import journal


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """Journald's end of the socket, and its path."""
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(5)
        yield listener, path


@pytest.fixture
def handler(journald: tuple[socket.socket, str]) -> Iterator[journal.JournalHandler]:
    handler = journal.JournalHandler(journald[1])
    yield handler
    handler.close()


@pytest.fixture
def clean_logging() -> Iterator[None]:
    """Whatever a test does to logging is undone."""
    root, ours = logging.getLogger(), logging.getLogger("kl2tp")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    ours.setLevel(levels[1])
    logging.captureWarnings(False)


def record(message: str = "up", level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("kl2tp.loop", level, "/src/loop.py", 7, message, (), None, "run")
    made.__dict__.update(extra)
    return made


def decode(data: bytes) -> dict[str, str]:
    """The native protocol, read as journald reads it."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + length], rest[8 + length :]
            assert rest[:1] == b"\n"
            rest = rest[1:]
        fields[name.decode()] = value.decode()
        data = rest
    return fields


def test_tunnel_and_session_are_fields(
    journald: tuple[socket.socket, str], handler: journal.JournalHandler
) -> None:
    handler.emit(record("madrid: up", tunnel="madrid", session="lan"))
    fields = decode(journald[0].recv(65536))
    assert fields["MESSAGE"] == "madrid: up"
    assert fields["KL2TP_TUNNEL"] == "madrid"
    assert fields["KL2TP_SESSION"] == "lan"
    assert fields["PRIORITY"] == "6"
    assert fields["SYSLOG_IDENTIFIER"] == "kl2tp"
    assert fields["CODE_FUNC"] == "run"


def test_a_record_about_no_tunnel_has_no_such_field(handler: journal.JournalHandler) -> None:
    assert "KL2TP_TUNNEL" not in handler.fields(record())


def test_a_message_of_several_lines_cannot_forge_a_field(
    journald: tuple[socket.socket, str], handler: journal.JournalHandler
) -> None:
    handler.emit(record("line\nPRIORITY=0\nKL2TP_TUNNEL=forged"))
    fields = decode(journald[0].recv(65536))
    assert fields["MESSAGE"] == "line\nPRIORITY=0\nKL2TP_TUNNEL=forged"
    assert fields["PRIORITY"] == "6"
    assert "KL2TP_TUNNEL" not in fields


def test_a_traceback_is_part_of_the_message(handler: journal.JournalHandler) -> None:
    try:
        raise ValueError("odd")
    except ValueError:
        made = record(exc_info=sys.exc_info())
    assert "ValueError: odd" in handler.fields(made)["MESSAGE"]


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        (logging.DEBUG, 7),
        (logging.INFO, 6),
        (logging.WARNING, 4),
        (logging.ERROR, 3),
        (logging.CRITICAL, 2),
        (25, 6),
    ],
)
def test_levels_become_priorities(level: int, expected: int) -> None:
    assert journal.priority(level) == expected


def test_a_record_too_long_for_a_datagram_goes_as_a_sealed_file(
    journald: tuple[socket.socket, str], handler: journal.JournalHandler
) -> None:
    handler.emit(record("x" * 4_000_000))
    message, fds, _, _ = socket.recv_fds(journald[0], 100, 1)
    assert message == b""
    with open(fds[0], "rb") as file:
        file.seek(0)
        assert decode(file.read())["MESSAGE"] == "x" * 4_000_000
        with pytest.raises(PermissionError):
            os.truncate(fds[0], 0)


def test_a_full_journald_holds_nobody_up_and_hears_of_the_loss(
    journald: tuple[socket.socket, str], handler: journal.JournalHandler
) -> None:
    sent = 0
    while not handler.lost:
        handler.emit(record(f"{sent}"))
        sent += 1
        assert sent < 100_000
    handler.emit(record("lost too"))
    assert handler.lost == 2
    for _ in range(sent - 1):
        journald[0].recv(65536)
    handler.emit(record("again"))
    assert decode(journald[0].recv(65536))["MESSAGE"] == "2 records were lost: journald had no room"
    assert decode(journald[0].recv(65536))["MESSAGE"] == "again"
    assert handler.lost == 0


def test_a_restarted_journald_is_found_again(tmp_path: Path) -> None:
    path = str(tmp_path / "journal")
    first = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    first.bind(path)
    handler = journal.JournalHandler(path)
    first.close()
    Path(path).unlink()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
        second.bind(path)
        second.settimeout(5)
        handler.emit(record("still here"))
        assert decode(second.recv(65536))["MESSAGE"] == "still here"
    handler.close()


def test_without_journald_records_go_to_standard_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "journal")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        handler = journal.JournalHandler(path)
    Path(path).unlink()
    handler.emit(record("alone", logging.ERROR))
    handler.close()
    assert capfd.readouterr().err == "<3>alone\n"


def test_every_line_on_standard_error_has_its_priority() -> None:
    out = io.StringIO()
    journal.stream_handler(out).emit(record("one\ntwo", logging.WARNING))
    assert out.getvalue() == "<4>one\n<4>two\n"


def test_a_person_reads_time_and_level() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    journal.stream_handler(out).emit(record("up"))
    assert out.getvalue().endswith(" INFO    up\n")
    assert "<6>" not in out.getvalue()


def test_journald_is_used_only_if_standard_error_goes_there(
    journald: tuple[socket.socket, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clean_logging: None
) -> None:
    with (tmp_path / "stderr").open("w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        chosen = journal.configure("info", path=journald[1])
        assert isinstance(chosen, journal.JournalHandler)
        chosen.close()
        monkeypatch.setenv("JOURNAL_STREAM", "1:1")
        assert not isinstance(journal.configure("info", path=journald[1]), journal.JournalHandler)


def test_libraries_are_heard_from_warnings_on(clean_logging: None) -> None:
    journal.configure("debug")
    assert logging.getLogger("kl2tp.loop").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("asyncio").isEnabledFor(logging.INFO)
    assert logging.getLogger("asyncio").isEnabledFor(logging.WARNING)
