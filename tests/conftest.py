"""What all test directories share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.features import missing_features

NEEDS_KERNEL = tuple(Path(__file__).parent / name for name in ("kernel", "interop"))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse kernel tests where they cannot run or would change the machine: skipping is no success."""
    if session.config.option.collectonly:
        return
    if not any(item.path.is_relative_to(directory) for item in session.items for directory in NEEDS_KERNEL):
        return
    how = "run them with 'make kernel', or one with: tests/lab/lab run -- python -m pytest tests/kernel/..."
    if os.geteuid() != 0:
        raise pytest.UsageError(f"tests/kernel and tests/interop need root: {how}")
    if missing := missing_features():
        raise pytest.UsageError(f"this kernel cannot run tests/kernel, it lacks {'; '.join(missing)}: {how}")
    if "LAB_KERNEL" not in os.environ:
        raise pytest.UsageError(f"tests/kernel and tests/interop change the network of the machine: {how}")
