"""The caller's terminal, for interactive runs."""

from __future__ import annotations

import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def raw_terminal() -> Iterator[None]:
    """Hand every key to the guest's own terminal, as ssh does."""
    before = termios.tcgetattr(0)
    tty.setraw(0, termios.TCSADRAIN)  # keeps what was typed ahead
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def window_size() -> tuple[int, int]:
    """Rows and columns."""
    columns, rows = os.get_terminal_size(0)
    return rows, columns


def is_terminal() -> bool:
    """Whether an interactive run is possible."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()
