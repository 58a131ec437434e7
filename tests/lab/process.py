"""Signals and messages that all ways of running a job share."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


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


def complain(message: str) -> None:
    """A message on stderr that stands apart from the command's own."""
    print(f"\nlab: {message}", file=sys.stderr, flush=True)
