"""Who does the work: the daemon, asked over its socket, or this process itself if there is no daemon.

One request line of JSON goes to the socket; lines with `progress` come back, then one with `result` or
`error`.
"""

import argparse
import json
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias, cast

from kl2tp.cli.exits import FAILED, USAGE, CommandError
from kl2tp.cli.options import DEFAULT_CONFIG, DEFAULT_RUN_DIR

Answer: TypeAlias = dict[str, Any]
Listener: TypeAlias = Callable[[Mapping[str, Any]], None]

SOCKET = "control"
PATIENCE_S = 120.0
"""How long the daemon may be silent. While it works it reports progress."""
_NET_ADMIN = 12
"""Number of CAP_NET_ADMIN."""
_SEE_JOURNAL = "see what it says: journalctl -u kl2tp -n 50"


class Service(Protocol):
    """What commands ask."""

    @property
    def remote(self) -> bool:
        """Whether a daemon does the work."""
        ...

    def call(self, method: str, progress: Listener | None = None, **parameters: Any) -> Answer:
        """Ask; the answer as JSON values. Raises CommandError."""
        ...


def service(args: argparse.Namespace) -> Service:
    """The daemon if it runs, otherwise this process. Raises CommandError."""
    run_dir = args.run_dir or DEFAULT_RUN_DIR
    if connection := connect(run_dir):
        if args.config:
            _check_same_configuration(connection, args.config, run_dir)
        return connection
    return Local(args.config or DEFAULT_CONFIG, run_dir)


def running(args: argparse.Namespace) -> "Remote":
    """The daemon, for what only a daemon can tell or do. Raises CommandError."""
    run_dir = args.run_dir or DEFAULT_RUN_DIR
    if (connection := connect(run_dir)) is None:
        raise CommandError(f"no daemon runs at {run_dir}", "start it: systemctl start kl2tp")
    if args.config:
        _check_same_configuration(connection, args.config, run_dir)
    return connection


def connect(run_dir: str) -> "Remote | None":
    """The daemon of that directory; None if none runs. Raises CommandError."""
    remote = Remote(os.path.join(run_dir, SOCKET))
    try:
        remote.open().close()
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError:
        hint = "use sudo, or ask for membership of the group that owns the socket"
        raise CommandError(f"no permission to talk to the daemon at {remote.path}", hint) from None
    except OSError as error:
        raise CommandError(f"cannot reach the daemon at {remote.path}: {_reason(error)}") from None
    return remote


def _check_same_configuration(daemon: "Remote", config: str, run_dir: str) -> None:
    """Refuse to answer about one file with what the daemon knows of another."""
    theirs = (daemon.call("status").get("daemon") or {}).get("config")
    if theirs and os.path.realpath(theirs) != os.path.realpath(config):
        raise CommandError(
            f"the daemon at {run_dir} runs with {theirs}, not with {config}",
            "leave --config out, or name another --run-dir to work without that daemon",
            status=USAGE,
        )


class Remote:
    """The daemon behind its socket. Each call is a connection of its own."""

    remote = True

    def __init__(self, path: str) -> None:
        self.path = path

    def open(self) -> socket.socket:
        """A new connection. Raises OSError."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(PATIENCE_S)
            connection.connect(self.path)
        except BaseException:
            connection.close()
            raise
        return connection

    def call(self, method: str, progress: Listener | None = None, **parameters: Any) -> Answer:
        """Ask the daemon. Raises CommandError."""
        try:
            with self.open() as connection:
                request = json.dumps({"method": method, "params": parameters})
                connection.sendall(request.encode() + b"\n")
                return self._answer(connection, progress)
        except TimeoutError:
            message = f"the daemon has been silent for {PATIENCE_S:.0f} seconds"
            raise CommandError(message, _SEE_JOURNAL) from None
        except OSError as error:
            raise CommandError(f"lost the daemon at {self.path}: {_reason(error)}", _SEE_JOURNAL) from None

    def _answer(self, connection: socket.socket, progress: Listener | None) -> Answer:
        with connection.makefile("rb") as lines:
            for line in lines:
                message = self._message(line)
                if "progress" in message:
                    if progress:
                        progress(message["progress"])
                elif "error" in message:
                    raise refused(message["error"])
                elif "result" in message:
                    return cast(Answer, message["result"])
        raise CommandError("the daemon went away before it had answered", _SEE_JOURNAL)

    def _message(self, line: bytes) -> dict[str, Any]:
        try:
            message = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            message = ()
        if message is None:
            raise CommandError("the daemon went away in the middle of its answer", _SEE_JOURNAL)
        if not isinstance(message, dict):
            raise CommandError(f"what answers at {self.path} is no kl2tp daemon")
        return message


def refused(error: Any) -> CommandError:
    """The daemon's error as ours."""
    if not isinstance(error, dict):
        return CommandError(str(error))
    problems = error.get("problems") or ()
    status = USAGE if problems else FAILED
    return CommandError(
        str(error.get("message", "refused")), str(error.get("hint") or ""), problems=problems, status=status
    )


class Local:
    """This process does the work itself."""

    remote = False

    def __init__(self, config: str, run_dir: str) -> None:
        if not capable(_NET_ADMIN):
            raise CommandError("no daemon runs, and without one this needs CAP_NET_ADMIN", "use sudo")
        from pathlib import Path

        from kl2tp.daemon.direct import Direct
        from kl2tp.daemon.errors import ServiceError

        self._error: type[Exception] = ServiceError
        try:
            self._direct: Any = Direct(Path(config), Path(run_dir))
        except ServiceError as error:
            raise _translated(error) from None

    def call(self, method: str, progress: Listener | None = None, **parameters: Any) -> Answer:
        """Do it. Raises CommandError."""
        if progress is not None:
            parameters["progress"] = progress
        try:
            return cast(Answer, getattr(self._direct, method)(**parameters))
        except self._error as error:
            raise _translated(error) from None


def _translated(error: Any) -> CommandError:
    """An error of the service as ours."""
    problems = tuple(error.problems or ())
    return CommandError(
        error.message, error.hint or "", problems=problems, status=USAGE if problems else FAILED
    )


def capable(number: int) -> bool:
    """Whether this process has a capability. True where /proc does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            effective = next(line for line in status if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return True
    return bool(int(effective.split()[1], 16) >> number & 1)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
