"""Where kernels are kept between runs, and the locks that let several callers share them."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path


def cache_directory() -> Path:
    """${XDG_CACHE_HOME:-~/.cache}/kl2tp-lab, made if missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(base) / "kl2tp-lab"
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Hold a lock among processes; the kernel drops it when its holder dies, however it dies."""
    with (cache_directory() / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"lab: waiting for another process that works on {name}", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def scratch(prefix: str) -> Iterator[Path]:
    """A private directory in the cache, removed afterwards; a killed process's goes with the next."""
    parent = cache_directory()
    with ExitStack() as stack:
        with locked("scratch"):
            remove_abandoned(parent, prefix)
            path = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir=parent))
            stack.callback(shutil.rmtree, path, ignore_errors=True)
            alive = stack.enter_context((path / ".alive").open("w"))
            fcntl.flock(alive, fcntl.LOCK_EX)
        yield path


def remove_abandoned(parent: Path, prefix: str) -> None:
    """Remove scratch directories whose process is gone: nobody holds their lock."""
    for path in parent.glob(f"{prefix}-*"):
        with suppress(OSError), (path / ".alive").open() as alive:
            fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
