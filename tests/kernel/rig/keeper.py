"""A keeper, and owners of sessions that are processes of their own, to be killed."""

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from kernel.rig.net import Late
from kernel.rig.ppp import End
from kernel.rig.traffic import forked
from kl2tp.keeper.client import KeeperClient
from kl2tp.keeper.protocol import SOCKET
from kl2tp.kernel.pppol2tp import SessionHold, TunnelHold

_SRC = Path(__file__).parents[3] / "src"
_START_S = 30.0


class Keeper:
    """`kl2tp keeper` in a run directory."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / SOCKET
        notify = run_dir / "notify"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(notify))
            manager.settimeout(_START_S)
            environment = os.environ | {"PYTHONPATH": str(_SRC), "NOTIFY_SOCKET": str(notify)}
            command = [sys.executable, "-m", "kl2tp", "keeper", "--run-dir", str(run_dir)]
            self.process = subprocess.Popen(command, env=environment)
            assert b"READY=1" in manager.recv(4096)
        notify.unlink()

    def client(self) -> KeeperClient:
        return KeeperClient(self.path)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Its exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)


class Owner:
    """A process that does something, says so, and then waits to be killed."""

    def __init__(self, work: Callable[[], object]) -> None:
        reading, writing = os.pipe()

        def life() -> None:
            work()
            os.write(writing, b"!")
            signal.pause()

        self.pid = forked(life)
        os.close(writing)
        try:
            if not select.select([reading], [], [], _START_S)[0]:
                raise Late("the owner does not begin")
            assert os.read(reading, 1), "the owner failed"
        finally:
            os.close(reading)

    def kill(self) -> None:
        """SIGKILL, and wait until all that it held is closed."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def leave(keeper: Keeper, end: End) -> None:
    """Leave what an end holds with the keeper."""
    holds: list[TunnelHold | SessionHold] = [*end.tunnels.values(), *end.sessions.values()]
    client = keeper.client()
    client.keep([name for hold in holds for name in hold.names()], [fd for hold in holds for fd in hold.fds()])
    client.close()


def drop(keeper: Keeper, holds: Iterable[TunnelHold | SessionHold]) -> None:
    """Have the keeper forget them."""
    client = keeper.client()
    client.drop([name for hold in holds for name in hold.names()])
    client.close()
