"""The error that a service method answers with."""

from collections.abc import Sequence
from pathlib import Path

from kl2tp.config import Problem as ConfigProblem
from kl2tp.kernel.finding import Finding, Level

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


def lacking_error(findings: Sequence[Finding]) -> ServiceError | None:
    """What the kernel lacks for a configuration, if it lacks anything that stops all of it."""
    serious = [f for f in findings if f.level is Level.FAIL]
    failures = [{"where": "kernel", "message": f"{f.what}: {f.why}", "hint": f.mend} for f in serious]
    if not failures:
        return None
    text = "this machine lacks what the configuration needs; nothing was touched"
    return ServiceError(text, "see: kl2tp doctor", failures)
