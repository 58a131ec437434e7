"""What the terminal can do: colours, width, progress."""

import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "cyan": "36", "bold": "1", "dim": "2"}


class Paint:
    """Colours text, or leaves it as it is."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled

    def __call__(self, text: str, *styles: str) -> str:
        if not self.enabled or not styles or not text:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


def paint(no_color: bool, stream: TextIO | None = None) -> Paint:
    """Colours where a terminal shows them and nobody objects (https://no-color.org)."""
    out = sys.stdout if stream is None else stream
    wanted = not no_color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Paint(wanted and out.isatty())


def width() -> int | None:
    """Columns of the terminal; None where lines may have any length."""
    if not sys.stdout.isatty():
        return None
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError):
        return None


def printable(text: str) -> str:
    """Text without characters that would command the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


class Progress:
    """One line on standard error that says how far a command is. Shows nothing where no person watches."""

    def __init__(self, *, enabled: bool, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._enabled = enabled and self._stream.isatty()
        self._shown = False

    def __call__(self, event: Mapping[str, Any]) -> None:
        if not self._enabled:
            return
        done, total = event.get("done"), event.get("total")
        count = f"{done}/{total} " if total else ""
        line = f"{count}{event.get('text', '')}"[: (width() or 80) - 1]
        self._stream.write(f"\r\x1b[K{printable(line)}")
        self._stream.flush()
        self._shown = True

    def clear(self) -> None:
        """Take the line away, before anything else is printed."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._shown = False
