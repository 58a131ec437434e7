"""Programs on a host: started in its namespace, waited for, ended."""

import contextlib
import fcntl
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kernel.rig.net import Host, Late
from kl2tp.kernel import netns

PATIENCE_S = 30.0
_PIPE_SIZE = 1 << 20
"""So that nobody waits for us to read."""


class Program:
    """A running program whose output is kept."""

    def __init__(self, host: Host, command: Sequence[str], *, prepare: Callable[[], object] | None = None) -> None:
        """`prepare` is what the child does before it becomes the program."""
        self.name = Path(command[0]).name
        self._output = b""
        self._seen = 0
        self._read, write = os.pipe()
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        os.set_blocking(self._read, False)
        with host.entered():
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=write, stderr=write, preexec_fn=prepare
            )
        os.close(write)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def fileno(self) -> int:
        """Readable when it has said something."""
        return self._read

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._process.kill()
        self._process.wait()

    def terminate(self, within: float = PATIENCE_S) -> int:
        """SIGTERM, and wait for the end; its exit status."""
        self._process.terminate()
        return self.wait(within)

    def wait(self, within: float = PATIENCE_S) -> int:
        """Wait for the end; its exit status."""
        try:
            return self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise Late(f"{self.name} still runs after {within} s: {self.output()}") from None

    def output(self) -> str:
        """All that it has said."""
        with contextlib.suppress(BlockingIOError):
            while self._read >= 0 and (data := os.read(self._read, 1 << 16)):
                self._output += data
        return self._output.decode(errors="replace")

    def wait_for(self, pattern: str, within: float = PATIENCE_S) -> re.Match[str]:
        """Until it says something that it had not said when last waited for. Raises Late."""
        deadline = time.monotonic() + within
        while True:
            if found := re.compile(pattern).search(self.output(), self._seen):
                self._seen = found.end()
                return found
            left = deadline - time.monotonic()
            if left <= 0 or self.status is not None:
                raise Late(f"{self.name} (status {self.status}) has not said {pattern!r}: {self.output()}")
            select.select([self._read], [], [], min(left, 0.5))

    def close(self) -> None:
        """End it, if need be; once more does no harm."""
        if self._read < 0:
            return
        self.kill()
        self.output()
        os.close(self._read)
        self._read = -1


def run(host: Host, *command: str, within: float = PATIENCE_S) -> str:
    """Run a program to its end; what it wrote. It must succeed."""
    with host.entered():
        done = subprocess.run(command, capture_output=True, text=True, timeout=within, check=False)
    assert not done.returncode, f"{command}: status {done.returncode}: {done.stdout}{done.stderr}"
    return done.stdout


# -- everything that runs on a host ----------------------------------------------------------------------------------


def processes(host: Host) -> Iterator[int]:
    """Whatever runs in a host's namespace, children and orphans of what was started there too; never this process."""
    here = (Path(netns.RUN_NETNS) / host.name).stat().st_ino
    for path in Path("/proc").iterdir():
        if path.name.isdecimal() and int(path.name) != os.getpid():
            with contextlib.suppress(OSError):
                if (path / "ns/net").stat().st_ino == here:
                    yield int(path.name)


def pids_of(host: Host, program: str) -> list[int]:
    """The processes of a program on a host."""
    found = []
    for pid in processes(host):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                found.append(pid)
    return found


def kill_all(host: Host, program: str = "") -> None:
    """SIGKILL to all of a host's processes, or to those of one program, and wait until they are gone."""
    with contextlib.ExitStack() as stack:
        fds = []
        for pid in pids_of(host, program) if program else processes(host):
            with contextlib.suppress(ProcessLookupError):
                fds.append(os.pidfd_open(pid))
                stack.callback(os.close, fds[-1])
                signal.pidfd_send_signal(fds[-1], signal.SIGKILL)
        for fd in fds:
            if not select.select([fd], [], [], PATIENCE_S)[0]:
                raise Late(f"a process on {host.name} survived SIGKILL")
