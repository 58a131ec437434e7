"""Signals, messages and the end of processes: what all ways of running a job share."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


class Interrupted(Exception):
    """A signal asked the lab to stop."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Turn the signals that end a process into an exception, so that what it started is cleaned up."""

    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def prepare_child() -> None:
    """In a kernel's process before exec: die with the lab, and take as many open files as the system allows.

    User Mode Linux holds a file of the host open for every file that the guest has in its cache.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def adopt_orphans() -> None:
    """Become the parent of processes that lose theirs, so that kill_session() can wait for them too."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def kill_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a session leader and everything in its process group, and wait until all of it is gone."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-process.pid, 0)


def complain(message: str) -> None:
    """A message on stderr that stands apart from the command's own."""
    print(f"\nlab: {message}", file=sys.stderr, flush=True)
