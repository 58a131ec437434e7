"""A daemon that says what the test wants, and commands as a shell would run them."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kl2tp.cli import main

Reply = bytes | dict[str, Any]


class FakeDaemon:
    """Answers each connection's request with the lines set for its method."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.requests: list[dict[str, Any]] = []
        self.replies: dict[str, list[Reply]] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(run_dir / "control"))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def answers(self, method: str, *lines: Reply) -> None:
        """What comes back: mappings as JSON lines, bytes as they are; then the connection ends."""
        self.replies[method] = list(lines)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        line = connection.makefile("rb").readline()
        if not line:
            return
        request = json.loads(line)
        self.requests.append(request)
        for reply in self.replies.get(request["method"], []):
            connection.sendall(reply if isinstance(reply, bytes) else json.dumps(reply).encode() + b"\n")

    def close(self) -> None:
        """End; a shutdown wakes the thread that accepts."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@dataclass(slots=True)
class Outcome:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass(slots=True)
class Shell:
    """Runs `kl2tp` in this process."""

    run_dir: Path
    capsys: pytest.CaptureFixture[str] = field(repr=False)

    def __call__(self, *arguments: str) -> Outcome:
        status = main(["--run-dir", str(self.run_dir), *arguments])
        captured = self.capsys.readouterr()
        return Outcome(status, captured.out, captured.err)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Shell(tmp_path, capsys)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    fake = FakeDaemon(tmp_path)
    yield fake
    fake.close()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes standard output look like a terminal of some width."""

    def install(columns: int) -> None:
        import sys

        from kl2tp.cli import terminal as module

        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        monkeypatch.setattr(module, "width", lambda: columns)
        monkeypatch.setenv("TERM", "xterm")

    return install
