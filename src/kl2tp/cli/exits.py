"""Exit statuses, and the error that ends a command."""

from collections.abc import Sequence
from typing import Any

OK = 0
FAILED = 1
"""Nothing, or not all, of what was asked for could be done."""
USAGE = 2
"""The command line or the configuration is not valid; nothing was touched."""
PARTLY = 3
"""Some tunnels are as declared, others have a problem."""
INTERRUPTED = 130
BROKEN_PIPE = 141


class CommandError(Exception):
    """Ends a command with a message and, where there is one, a hint about what mends it."""

    def __init__(
        self, message: str, hint: str = "", *, problems: Sequence[Any] = (), status: int = FAILED
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.problems = tuple(problems)
        """What is wrong with a configuration: strings, or mappings with `where`, `message` and `hint`."""
        self.status = status

    def lines(self) -> list[str]:
        """The error as it is printed."""
        lines = [f"kl2tp: error: {self.message}"]
        for problem in self.problems:
            lines += problem_lines(problem)
        if self.hint:
            lines.append(f"hint: {self.hint}")
        return lines


def problem_lines(problem: Any) -> list[str]:
    """One problem of a configuration as lines of text."""
    if not isinstance(problem, dict):
        return [f"  {line}" for line in str(problem).splitlines()]
    where = str(problem.get("where") or "").removesuffix(":0:0")  # line 0: the file as a whole
    text = ": ".join(part for part in (where, str(problem.get("message") or "")) if part)
    lines = [f"  {text}"]
    if problem.get("hint"):
        lines.append(f"      hint: {problem['hint']}")
    return lines
