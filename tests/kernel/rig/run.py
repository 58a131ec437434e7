"""kl2tp on a host: directly, or as a daemon."""

import argparse
import contextlib
import fcntl
import itertools
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
from kernel.rig.traffic import forked
from kl2tp.daemon import main
from kl2tp.daemon.direct import Direct
from kl2tp.daemon.errors import ServiceError

_SRC = Path(__file__).parents[3] / "src"
Answer = dict[str, Any]
START_S = 30.0
_NUMBERS = itertools.count()


class Unit:
    """A configuration and a run directory on a host."""

    def __init__(self, host: Host, directory: Path) -> None:
        self.host = host
        self.directory = directory / host.name
        self.directory.mkdir()
        self.config = self.directory / "kl2tp.yaml"
        self.run_dir = self.directory / "run"
        self.state_dir = self.directory / "state"

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

    def daemon(self, *, forked: bool = False) -> "Daemon":
        """A daemon, for a `with` block, which begins when it is ready; `forked`: without the time that exec takes."""
        return Daemon(self, forked=forked)


def verbs(answer: Answer) -> list[str]:
    """What was done, as `+ tunnel`."""
    return [f"{op['verb']} {op['kind']}" for op in answer["operations"]]


def _exec(unit: Unit, environment: dict[str, str], output: int) -> subprocess.Popen[bytes]:
    arguments = ["--config", str(unit.config), "--run-dir", str(unit.run_dir), "--state-dir", str(unit.state_dir)]
    command = [sys.executable, "-m", "kl2tp", "daemon", *arguments]
    return subprocess.Popen(command, env=environment, stderr=output, stdout=output)


class _Fork:
    """The daemon in a copy of this process; the part of `subprocess.Popen` that is needed."""

    def __init__(self, unit: Unit, environment: dict[str, str], output: int) -> None:
        self.returncode: int | None = None
        self.pid = forked(lambda: self._run(unit, environment, output))
        self._fd = os.pidfd_open(self.pid)

    @staticmethod
    def _run(unit: Unit, environment: dict[str, str], output: int) -> None:
        os.dup2(output, 2)
        sys.stderr = sys.stdout = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.environ.update(environment)
        where = {"config": str(unit.config), "run_dir": str(unit.run_dir), "state_dir": str(unit.state_dir)}
        os._exit(main.run(argparse.Namespace(**where, log_level=None)))

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._fd], [], [], 0)[0]:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
            os.close(self._fd)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            select.select([self._fd], [], [], timeout)
        status = self.poll()
        assert status is not None, "still running"
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Daemon:
    """`kl2tp daemon` in a process of its own."""

    def __init__(self, unit: Unit, *, forked: bool) -> None:
        self._unit = unit
        self._notify_path = unit.directory / f"notify{next(_NUMBERS)}"
        self._log = b""
        self._seen = 0
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._notify_path))
        read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 1 << 20)
        os.set_blocking(read, False)
        self._stderr = read
        environment = os.environ | {"PYTHONPATH": str(_SRC), "NOTIFY_SOCKET": str(self._notify_path)}
        with unit.host.entered():
            self._process = (_Fork if forked else _exec)(unit, environment, write)
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
        self.close()

    def close(self) -> None:
        """Kill it, if need be, and forget it."""
        self.kill()
        if self._notify.fileno() >= 0:
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

    def wait_up(self, within: float = START_S) -> None:
        """Until every tunnel is up."""

        def all_up() -> bool:
            counts = self.call("status")["counts"]
            return bool(counts["up"] == counts["tunnels"])

        until(all_up, self, within)

    def settled(self) -> Answer:
        """Have the configuration read again and everything looked at, and see that all is well."""
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
