"""One host: its namespace, its files, the kl2tp commands typed on it, its daemon."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from demo.paper import Failed, Paper
from kl2tp.cli.client import Answer, connect
from kl2tp.kernel import netns

ROOT = Path("/tmp/kl2tp-demo")
CONFIG = Path(__file__).parent / "config"
_PATIENCE_S = 60.0
_AT_EASE_S = 0.05
"""Between looks where nothing is measured: to look costs the one processor time that others need."""


def wait_until(
    true: Callable[[], bool], what: str, patience_s: float = _PATIENCE_S, *, pause_s: float = 0.001
) -> float:
    """Wait for something; the seconds it took. Raises Failed."""
    began = time.monotonic()
    while not true():
        if time.monotonic() > began + patience_s:
            raise Failed(f"waited {patience_s:.0f} s in vain: {what}")
        time.sleep(pause_s)
    return time.monotonic() - began


class Host:
    """A machine, as far as one needs to be played."""

    def __init__(self, name: str, paper: Paper) -> None:
        self.name = name
        self.directory = ROOT / name
        self.keys = self.directory / "keys"
        self.run_dir = self.directory / "run"
        self.config = self.directory / "kl2tp.yaml"
        self._paper = paper
        self._daemon: subprocess.Popen[bytes] | None = None
        self._keeper: subprocess.Popen[bytes] | None = None
        self._log = self.directory / "daemon.log"
        self._read = 0

    # -- files -----------------------------------------------------------------------------------------------------

    def set_up(self) -> None:
        """Make its directories and put its configuration there."""
        for directory in (self.keys, self.run_dir, self.directory / "conf.d"):
            directory.mkdir(parents=True, mode=0o700)
        shutil.copyfile(CONFIG / f"{self.name}.yaml", self.config)

    def add_config(self, name: str) -> None:
        """Put a file into conf.d."""
        shutil.copyfile(CONFIG / f"{self.name}-{name}.yaml", self.directory / "conf.d" / f"{name}.yaml")

    def replace_config(self, name: str) -> None:
        """Put another configuration in the place of the first, and of all in conf.d."""
        shutil.rmtree(self.directory / "conf.d")
        shutil.copyfile(CONFIG / f"{self.name}-{name}.yaml", self.config)

    def write_secret(self, name: str, text: str) -> Path:
        """A file that only its owner reads."""
        path = self.directory / name
        path.touch(0o600)
        path.write_text(text)
        return path

    def show_file(self, path: Path) -> None:
        """Print a file."""
        self._paper.file(str(path), path.read_text())

    # -- commands --------------------------------------------------------------------------------------------------

    def kl2tp(self, line: str) -> None:
        """Run `kl2tp LINE`: print the line as a user types it, then its own output. Raises Failed."""
        self._paper.command(self.name, f"kl2tp {line}")
        with netns.entered(self.name):
            status = subprocess.call(self._argv(shlex.split(line)), stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        if status:
            raise Failed(f"kl2tp {line} at {self.name} ended with {status}")

    def replace_key(self, file: Path) -> None:
        """Put a new key in the place of the old one, and leave the rest of the file."""
        self._paper.command(self.name, f'sed -i "s|^key .*|$(kl2tp genkey)|" {file}')
        key = subprocess.check_output(self._argv(["genkey"]), text=True).strip()
        lines = [key if line.startswith("key ") else line for line in file.read_text().splitlines()]
        file.write_text("\n".join(lines) + "\n")

    def _argv(self, words: list[str]) -> list[str]:
        place = ["--config", str(self.config), "--run-dir", str(self.run_dir)]
        return [sys.executable, "-m", "kl2tp", *words, *place]

    # -- daemon and keeper -----------------------------------------------------------------------------------------

    def start_daemon(self) -> None:
        """Start the daemon, as systemd would."""
        self._daemon = self._start("daemon", "--state-dir", str(self.directory / "state"))

    def start_keeper(self) -> None:
        """Start the keeper of calls, and wait for its socket. Raises Failed."""
        self._keeper = self._start("keeper")
        wait_until((self.run_dir / "keeper").exists, f"the keeper of {self.name}", pause_s=_AT_EASE_S)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        with netns.entered(self.name), self._log.open("ab") as log:
            return subprocess.Popen(self._argv([*words]), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def await_up(self) -> None:
        """Wait until the daemon answers and all its tunnels are up. Raises Failed."""

        def up() -> bool:
            self.check_alive()
            counts = (self.ask("status") or {"counts": {"tunnels": 1, "up": 0}})["counts"]
            return bool(counts["up"] == counts["tunnels"] and counts["tunnels"])

        wait_until(up, f"the tunnels of {self.name} to come up", pause_s=_AT_EASE_S)

    def check_alive(self) -> None:
        """Raises Failed if the daemon has ended by itself."""
        if self._daemon and self._daemon.poll() is not None:
            raise Failed(f"the daemon of {self.name} ended:\n{self._log.read_text()}")

    def await_answer(self) -> None:
        """Wait until the daemon answers. Raises Failed."""

        def answers() -> bool:
            self.check_alive()
            return self.ask("status") is not None

        wait_until(answers, f"the daemon of {self.name}", pause_s=_AT_EASE_S)

    def await_sessions(self, count: int) -> None:
        """Wait until the daemon has so many sessions, and all are up. Raises Failed."""

        def there() -> bool:
            self.check_alive()
            states = [row["state"] for row in (self.ask("sessions") or {"sessions": [{"state": ""}]})["sessions"]]
            return states == ["up"] * count

        wait_until(there, f"{count} sessions of {self.name}", pause_s=_AT_EASE_S)

    def sessions(self) -> list[Answer]:
        """The daemon's sessions."""
        return list((self.ask("sessions") or {"sessions": []})["sessions"])

    def ask(self, method: str) -> Answer | None:
        """An answer of the daemon, without a command; None if it does not run."""
        daemon = connect(str(self.run_dir))
        return daemon.call(method) if daemon else None

    def signal(self, number: signal.Signals) -> None:
        """Send the daemon a signal."""
        assert self._daemon
        os.kill(self._daemon.pid, number)
        if number == signal.SIGKILL:
            self._daemon.wait()
            self._daemon = None

    @property
    def pid(self) -> int:
        """The daemon's."""
        assert self._daemon
        return self._daemon.pid

    def stop_daemon(self) -> None:
        """Stop the daemon, if it runs. Raises Failed if it does not end."""
        daemon, self._daemon = self._daemon, None
        if daemon:
            daemon.send_signal(signal.SIGCONT)
            self._stop(daemon, "daemon")

    def stop_keeper(self) -> None:
        """The same for the keeper."""
        keeper, self._keeper = self._keeper, None
        if keeper:
            self._stop(keeper, "keeper")

    def _stop(self, process: subprocess.Popen[bytes], what: str) -> None:
        process.terminate()
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise Failed(f"the {what} of {self.name} did not stop") from None

    def new_log(self) -> list[str]:
        """What the daemon logged since the last look, without the priorities."""
        if not self._log.exists():
            return []
        with self._log.open("rb") as log:
            log.seek(self._read)
            data = log.read()
        self._read += len(data)
        return [line.partition(">")[2] if line.startswith("<") else line for line in data.decode().splitlines()]

    def show_log(self) -> list[str]:
        """Print that."""
        lines = self.new_log()
        self._paper.log(self.name, lines)
        return lines
