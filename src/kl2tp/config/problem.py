"""What is wrong with a configuration: every problem with its place, the bad value and a hint."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from kl2tp.model.spec import Where

SHOWN = 200
"""Problems that the text of a `ConfigError` shows; `ConfigError.problems` has all."""


class Mark(Protocol):
    """A place in a file as PyYAML gives it; line and column count from 0."""

    @property
    def name(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


def where(mark: Mark) -> Where:
    """The place as people count it: from 1."""
    return Where(mark.name, mark.line + 1, mark.column + 1)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. Line 0 means the file as a whole."""

    where: Where
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = str(self.where) if self.where.line else self.where.file
        return f"{place}: {self.message}" + (f"\n    hint: {self.hint}" if self.hint else "")


class ConfigError(Exception):
    """The configuration is not valid; `problems` is all that is wrong with it, in the order of the files."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        lines = [str(problem) for problem in self.problems[:SHOWN]]
        if len(self.problems) > SHOWN:
            lines.append(f"... and {len(self.problems) - SHOWN} more problems")
        super().__init__("\n".join(lines))


class Bad(ValueError):
    """A scalar's text means nothing to its type. The message shows the value, unless it may be a secret."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Problems:
    """Collects problems.

    While a set is expanded (`n` is not None) each place in its template is reported once, for the first n
    that fails, with the number of the others: five hundred tunnels with one mistake have one mistake.
    """

    def __init__(self) -> None:
        self.n: int | None = None
        self._found: dict[object, Problem] = {}
        self._repeated: dict[object, int] = {}
        self._order: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._found)

    def file(self, name: str) -> None:
        """Files are reported in the order in which they are announced here."""
        self._order.setdefault(name, len(self._order))

    def add(self, place: Mark | Where, message: str, hint: str = "", kind: str = "") -> None:
        """Note a problem. `kind` tells the problems apart that one place in a set may have."""
        at = place if isinstance(place, Where) else where(place)
        if self.n is None:
            self._found.setdefault((at, message), Problem(at, message, hint))
        elif (at, None, kind) in self._found:
            self._repeated[at, None, kind] = self._repeated.get((at, None, kind), 0) + 1
        else:
            self._found[at, None, kind] = Problem(at, f"{message} (with n={self.n})", hint)

    def _rank(self, problem: Problem) -> tuple[int, int, int]:
        return (self._order.get(problem.where.file, -1), problem.where.line, problem.where.column)

    def check(self) -> None:
        """Raise `ConfigError` if there is any problem."""
        if not self._found:
            return
        for key, times in self._repeated.items():
            first = self._found[key]
            self._found[key] = Problem(first.where, f"{first.message[:-1]} and {times} more)", first.hint)
        raise ConfigError(sorted(self._found.values(), key=self._rank))
