"""What the demo prints: numbered steps, commands as a user types them, and their output."""

import textwrap
import time
from collections.abc import Iterable

from kl2tp.cli import terminal

WIDTH = 100
"""Columns of running text."""


class Failed(Exception):
    """Something was not as it must be; the demo ends here."""


class Paper:
    """Prints. Colours only where a terminal shows them."""

    def __init__(self) -> None:
        self.paint = terminal.paint(no_color=False)
        self._step = 0
        self._began = time.monotonic()

    def step(self, title: str) -> None:
        """Begin a step."""
        self._step += 1
        elapsed = f"{time.monotonic() - self._began:.0f} s"
        line = f"{self._step}. {title} "
        self._print("")
        self._print(self.paint(f"{line}{'─' * (WIDTH - len(line) - len(elapsed) - 1)} {elapsed}", "bold", "cyan"))

    def say(self, text: str) -> None:
        """A paragraph."""
        self._print("")
        for line in textwrap.wrap(" ".join(text.split()), WIDTH):
            self._print(line)

    def command(self, host: str, text: str) -> None:
        """A command, before it runs."""
        self._print("")
        self._print(f"{self.paint(f'{host}#', 'green')} {self.paint(text, 'bold')}")

    def lines(self, lines: Iterable[str]) -> None:
        """A picture or a table, set apart."""
        self._print("")
        for line in lines:
            self._print(line.rstrip())

    def file(self, name: str, text: str) -> None:
        """The content of a file."""
        self._print("")
        self._print(self.paint(f"  ┌── {name}", "dim"))
        for line in text.splitlines():
            self._print(f"{self.paint('  │', 'dim')} {line}".rstrip())

    def log(self, host: str, lines: Iterable[str]) -> None:
        """What a daemon logged."""
        for line in lines:
            self._print(f"{self.paint(f'{host} daemon |', 'dim')} {line}")

    def proof(self, text: str) -> None:
        """Something that was checked and is so."""
        self._print(f"{self.paint('✓', 'green', 'bold')} {text}")

    def check(self, true: bool, text: str, otherwise: str = "") -> None:
        """Print what holds, or end the demo. Raises Failed."""
        if not true:
            raise Failed(f"not so: {text}{f' ({otherwise})' if otherwise else ''}")
        self.proof(text)

    def end(self, text: str, *, good: bool) -> None:
        """The last line."""
        self._print("")
        self._print(self.paint(f"{text} ({time.monotonic() - self._began:.0f} s)", "bold", "green" if good else "red"))

    @staticmethod
    def _print(line: str) -> None:
        # At once: the commands between write to the same place.
        print(line, flush=True)
