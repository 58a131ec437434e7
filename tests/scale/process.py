"""A kl2tp daemon as a child process: started, asked, measured from outside."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from kl2tp.cli.client import Answer, Remote
from kl2tp.daemon.direct import LEDGER
from scale.fleet import Fleet

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PATIENCE_S = 600
_UP = re.compile(r"(\d+) tunnels are up|: up$", re.MULTILINE)


class Daemon:
    """`kl2tp daemon` for a fleet."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.run_dir = fleet.directory / "run"
        self.log = fleet.directory / "log"
        self._remote = Remote(str(self.run_dir / "control"))

    def __enter__(self) -> "Daemon":
        command = [sys.executable, "-m", "kl2tp", "daemon"]
        command += ["-c", str(self.fleet.config), "--run-dir", str(self.run_dir)]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(command, stderr=log)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        (self.run_dir / LEDGER).unlink(missing_ok=True)

    def wait_up(self) -> None:
        """Until the log has said of every tunnel that it is up."""
        deadline = time.monotonic() + _PATIENCE_S
        while sum(int(number or 1) for number in _UP.findall(self.log.read_text())) < self.fleet.size:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the daemon did not get up:\n{tail(self.log)}")
            time.sleep(0.02)

    def call(self, method: str, **parameters: Any) -> Answer:
        """Ask over the control socket."""
        return self._remote.call(method, **parameters)

    @property
    def cpu_s(self) -> float:
        """User and system time so far, finished children's included."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) * _TICK_S

    def memory_mb(self, field: str) -> float:
        """VmRSS or VmHWM."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) / 1024
        raise KeyError(field)


def tail(path: Path, lines: int = 20) -> str:
    """The end of a log."""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
