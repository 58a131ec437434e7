"""What can go wrong for a user, and the exit codes that tell a script which of it did."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of the lab itself; any other code is the command's own (128 + N: killed by signal N)."""

    USAGE = 2
    PANIC = 123
    TIMEOUT = 124
    LAB = 125
    CANNOT_RUN = 126
    NOT_FOUND = 127


class LabError(Exception):
    """Something the user can act on: printed as two lines, without a traceback."""

    def __init__(self, message: str, *, hint: str = "", code: Exit = Exit.LAB) -> None:
        super().__init__(message)
        self.hint = hint
        self.code = code

    def __str__(self) -> str:
        message = str(self.args[0])
        return f"{message}\n  hint: {self.hint}" if self.hint else message
