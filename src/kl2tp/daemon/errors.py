"""The error that a service method answers with."""

from collections.abc import Sequence
from pathlib import Path

from kl2tp.config import Problem as ConfigProblem

Problem = dict[str, str]


class ServiceError(Exception):
    """A request cannot be done. `hint` says what to do; `problems` lists single findings (of a configuration)."""

    def __init__(self, message: str, hint: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = list(problems)

    def as_json(self) -> dict[str, object]:
        return {"message": self.message, "hint": self.hint, "problems": self.problems}


def configuration_error(path: Path, problems: Sequence[ConfigProblem]) -> ServiceError:
    """All that is wrong with a configuration."""
    plural = "" if len(problems) == 1 else "s"
    found = [{"where": str(p.where), "message": p.message, "hint": p.hint} for p in problems]
    return ServiceError(f"{path}: {len(found)} problem{plural} in the configuration", problems=found)
