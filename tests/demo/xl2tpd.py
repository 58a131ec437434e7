"""A client that is not kl2tp: xl2tpd with pppd, where Debian's packages are installed."""

import contextlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

from demo.host import CONFIG, Host, wait_until
from kl2tp.kernel import netns

PROGRAMS = ("/usr/sbin/xl2tpd", "/usr/sbin/pppd")


def installed() -> bool:
    """Whether it can be shown."""
    return all(map(os.path.exists, PROGRAMS))


class Xl2tpd:
    """One xl2tpd on a host; it calls as soon as it runs."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.config = host.directory / "xl2tpd.conf"
        self._options = host.directory / "options"
        self._process: subprocess.Popen[bytes] | None = None

    def set_up(self, password: str) -> None:
        """Put its files there."""
        shutil.copyfile(CONFIG / f"{self.host.name}-xl2tpd.conf", self.config)
        text = (CONFIG / f"{self.host.name}-options").read_text()
        self.host.write_secret("options", f'{text}password "{password}"\n')

    def start(self) -> None:
        """Start it."""
        directory = self.host.directory
        files = ["-c", self.config, "-C", directory / "xl2tpd.control", "-p", directory / "xl2tpd.pid"]
        with netns.entered(self.host.name), (directory / "xl2tpd.log").open("ab") as log:
            command = [PROGRAMS[0], "-D", *map(str, files)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def stop(self) -> None:
        """End it, and the pppd that it started."""
        process, self._process = self._process, None
        if not process:
            return
        children = self._children(process.pid)
        process.terminate()
        process.wait(10)
        for number in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGTERM)
        wait_until(lambda: not any(Path(f"/proc/{n}").exists() for n in children), "pppd to end", 10.0)

    @staticmethod
    def _children(number: int) -> list[int]:
        text = Path(f"/proc/{number}/task/{number}/children").read_text()
        return [int(word) for word in text.split()]
