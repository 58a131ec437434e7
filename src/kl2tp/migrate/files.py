"""The old files, as they are on this machine or below a directory that holds a copy of another machine's."""

import os
import stat

from kl2tp.migrate.finding import Findings, Kind, Place


class Files:
    """Reads files below `root`; messages and results have the names without it."""

    def __init__(self, findings: Findings, root: str = "") -> None:
        self.findings = findings
        self.root = root.rstrip("/")

    def _real(self, path: str) -> str:
        return f"{self.root}{path}" if path.startswith("/") else path

    def open(self, path: str) -> str:
        """The content of a file. Raises OSError."""
        with open(self._real(path), encoding="utf-8", errors="replace") as file:
            return file.read()

    def text(self, path: str) -> str | None:
        """The content of a file; None if it can't be read, which is told."""
        try:
            return self.open(path)
        except OSError as error:
            self.findings.add(Kind.DIFFERENT, Place(path), "can't be read", f"{error.strerror}; nothing of it is here")
            return None

    def there(self, path: str) -> bool:
        """Whether there is such a file."""
        return os.path.isfile(self._real(path))

    def names(self, directory: str) -> list[str]:
        """What is in a directory, if it is there."""
        try:
            return sorted(os.listdir(self._real(directory)))
        except OSError:
            return []

    def private(self, path: str) -> None:
        """Tell if others can read a file with secrets: kl2tp refuses such a file."""
        try:
            mode = stat.S_IMODE(os.stat(self._real(path)).st_mode)
        except OSError:
            return
        if mode & 0o077:
            note = f"kl2tp refuses files with secrets that others can read: chmod 600 {path}"
            self.findings.add(Kind.DIFFERENT, Place(path), f"is open to others (mode {mode:04o})", note)
