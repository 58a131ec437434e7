"""Runs a job on Debian's stock kernel under QEMU."""

from __future__ import annotations

from .errors import LabError
from .job import Job


def run(job: Job) -> int:
    """Run a job."""
    raise LabError(f"not yet: {job.command_line}")


def describe() -> str:
    """For `lab status`."""
    return "not installed yet"
