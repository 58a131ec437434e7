"""What is found out about a machine: good, worrying or in the way, and the command that mends it."""

import enum
from dataclasses import dataclass


class Level(enum.StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found out about this machine."""

    level: Level
    what: str
    why: str = ""
    """What follows from it."""
    mend: str = ""
    """A command that mends it."""

    def as_json(self) -> dict[str, str]:
        return {"level": self.level.value, "what": self.what, "why": self.why, "mend": self.mend}


def ok(what: str) -> Finding:
    return Finding(Level.OK, what)


def warn(what: str, why: str, mend: str = "") -> Finding:
    return Finding(Level.WARN, what, why, mend)


def fail(what: str, why: str, mend: str = "") -> Finding:
    return Finding(Level.FAIL, what, why, mend)
