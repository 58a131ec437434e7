"""One writer at a time: whoever changes the kernel for a run directory holds its lock."""

import errno
import fcntl
import os
from pathlib import Path

from kl2tp.daemon.errors import ServiceError


class Lock:
    """An exclusive lock on a run directory, held until `release` or the end of the process."""

    def __init__(self, run_dir: Path) -> None:
        """Raises ServiceError if another kl2tp holds it, or the directory cannot be used."""
        path = run_dir / "lock"
        try:
            run_dir.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ServiceError(
                f"cannot use {run_dir}: {error.strerror}", "run kl2tp as root, or give --run-dir"
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(self._fd, 32).decode(errors="replace").strip()
            os.close(self._fd)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            raise ServiceError(
                f"another kl2tp is at work in {run_dir}" + (f" (process {holder})" if holder else ""),
                "wait for it, or ask the daemon: kl2tp status",
            ) from None
        os.truncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def release(self) -> None:
        os.close(self._fd)
