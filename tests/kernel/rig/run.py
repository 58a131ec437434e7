"""kl2tp on a host: directly, or as a daemon."""

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from kernel.rig.net import Host, Late
from kl2tp.daemon.direct import Direct
from kl2tp.daemon.errors import ServiceError

_SRC = Path(__file__).parents[3] / "src"
Answer = dict[str, Any]
START_S = 30.0


class Unit:
    """A configuration and a run directory on a host."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory / host.name
        self.directory.mkdir()
        self.config = self.directory / "kl2tp.yaml"
        self.run_dir = self.directory / "run"

    @property
    def ledger(self) -> Path:
        return self.run_dir / "ledger"

    def direct(self, method: str, **parameters: Any) -> Answer:
        """Call a service method without a daemon. Raises ServiceError."""
        with self.host.entered():
            return dict(getattr(Direct(self.config, self.run_dir), method)(**parameters))

    def apply(self, **parameters: Any) -> Answer:
        """Apply; nothing may go wrong."""
        answer = self.direct("apply", **parameters)
        assert not answer["problems"], answer["problems"]
        return answer

    def down(self) -> Answer:
        """Take all away; nothing may go wrong."""
        answer = self.direct("down")
        assert not answer["problems"], answer["problems"]
        return answer

    def daemon(self) -> "Daemon":
        """A daemon, when it is ready."""
        return Daemon(self)


def verbs(answer: Answer) -> list[str]:
    """What was done, as `+ tunnel`."""
    return [f"{op['verb']} {op['kind']}" for op in answer["operations"]]


class Daemon:
    """`kl2tp daemon` in a process of its own."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit
        self._notify_path = unit.directory / "notify"
        self._log = b""
        self._seen = 0
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._notify_path))
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(read, False)
        self._stderr = read
        command = [
            sys.executable,
            "-m",
            "kl2tp",
            "daemon",
            "--config",
            str(unit.config),
            "--run-dir",
            str(unit.run_dir),
        ]
        environment = os.environ | {"PYTHONPATH": str(_SRC), "NOTIFY_SOCKET": str(self._notify_path)}
        with unit.host.entered():
            self._process = subprocess.Popen(command, env=environment, stderr=write, stdout=write)
        os.close(write)

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.kill()
        if kind:
            print(self.log())
        self._close()

    def _close(self) -> None:
        if not self._notify._closed:  # type: ignore[attr-defined]
            self._notify.close()
            self._notify_path.unlink()
            os.close(self._stderr)

    # -- its life --------------------------------------------------------------------------------------------------

    def wait_ready(self, within: float = START_S) -> None:
        """Until it says that it is ready, or ready again."""
        self.wait_notified("READY=1", within)

    def wait_notified(self, line: str, within: float = START_S) -> None:
        """Until it tells its service manager something."""
        deadline = time.monotonic() + within
        while True:
            if not select.select([self._notify], [], [], 0.2)[0]:
                status = self._process.poll()
                assert status is None, f"the daemon ended with {status}: {self.log()}"
                if time.monotonic() > deadline:
                    raise Late(f"no {line} within {within} s: {self.log()}")
                continue
            if line in self._notify.recv(4096).decode().splitlines():
                return

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def terminate(self, within: float = 10.0) -> int:
        """SIGTERM; its exit status."""
        self._process.terminate()
        return self._process.wait(within)

    def hang_up(self) -> None:
        """SIGHUP."""
        self._process.send_signal(signal.SIGHUP)

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def alive(self) -> bool:
        return self._process.poll() is None

    # -- what it says ----------------------------------------------------------------------------------------------

    def log(self) -> str:
        """All that it has logged until now."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._stderr, 1 << 16):
                self._log += data
        return self._log.decode(errors="replace")

    def wait_log(self, text: str, within: float = 10.0) -> float:
        """Until a line with this text comes, after those that were waited for before; the seconds it took."""
        began = time.monotonic()
        while True:
            lines = self.log().encode()[self._seen :].decode()
            if text in lines:
                self._seen += len(lines[: lines.index(text) + len(text)].encode())
                return time.monotonic() - began
            left = began + within - time.monotonic()
            if left <= 0 or not self.alive():
                raise Late(f"{text!r} is not in the log after {within} s: {self.log()}")
            select.select([self._stderr], [], [], min(left, 0.5))

    # -- asking it -------------------------------------------------------------------------------------------------

    def connect(self, within: float = 60.0) -> socket.socket:
        """A connection to the control socket."""
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(within)
        connection.connect(str(self._unit.run_dir / "control"))
        return connection

    def call(self, method: str, **parameters: Any) -> Answer:
        """Ask over the control socket. Raises ServiceError."""
        with self.connect() as connection:
            connection.sendall(json.dumps({"method": method, "params": parameters}).encode() + b"\n")
            return answer_on(connection)

    def status(self, name: str) -> Answer:
        """One tunnel's line of the status."""
        return next(line for line in self.call("status")["tunnels"] if line["name"] == name)

    def settled(self, *names: str) -> Answer:
        """Have everything looked at, and see that all is well."""
        answer = self.call("apply")
        assert not answer["problems"], answer["problems"]
        return answer


def answer_on(connection: socket.socket) -> Answer:
    """The next answer on a control connection. Raises ServiceError."""
    with connection.makefile("rb") as lines:
        for line in lines:
            message = json.loads(line)
            if "result" in message:
                return dict(message["result"])
            if "error" in message:
                raise ServiceError(**message["error"])
    raise AssertionError("the daemon closed the connection")


def until(predicate: Callable[[], object], daemon: Daemon, within: float = 10.0) -> None:
    """Ask the daemon until it says so: for what no event tells."""
    deadline = time.monotonic() + within
    while not predicate():
        if time.monotonic() > deadline:
            raise Late(f"not so after {within} s: {daemon.log()}")
        select.select([daemon._stderr], [], [], 0.05)
