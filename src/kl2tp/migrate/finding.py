"""What is to be said about lines of the old files."""

import enum
from dataclasses import dataclass


class Kind(enum.Enum):
    """What became of a line; the value is the title of that part of the report."""

    WRONG = "The old program itself would have stopped at"
    LOST = "Without a counterpart in kl2tp"
    NEVER = "In the old file, but never done by the old program, and not taken over"
    DIFFERENT = "Done differently: please look at these"
    TAKEN = "Taken over"
    SAME = "Needs nothing"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file; line 0 means the file as a whole."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to say about one line."""

    kind: Kind
    place: Place
    what: str
    """The line, without what might be secret."""
    note: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.what}" + (f": {self.note}" if self.note else "")


class Findings:
    """All that was found, each thing once: two sections may share a file of options."""

    def __init__(self) -> None:
        self._found: dict[Finding, None] = {}

    def add(self, kind: Kind, place: Place, what: str, note: str = "") -> None:
        """Note something."""
        self._found.setdefault(Finding(kind, place, what, note))

    def of(self, kind: Kind) -> list[Finding]:
        """What was found of one kind, by file and line."""
        files = {place.file: number for number, place in enumerate(reversed([one.place for one in self._found]))}
        found = [one for one in self._found if one.kind is kind and not self._outdone(one)]
        return sorted(found, key=lambda one: (-files[one.place.file], one.place.line))

    def _outdone(self, finding: Finding) -> bool:
        """Whether a line is taken over, but there is more to say about it."""
        others = (Kind.WRONG, Kind.LOST, Kind.NEVER, Kind.DIFFERENT)
        return finding.kind in (Kind.TAKEN, Kind.SAME) and any(
            one.place == finding.place and one.kind in others for one in self._found
        )
