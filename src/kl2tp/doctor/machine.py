"""The machine as files show it. Tests give it a root of their own."""

import os
from collections.abc import Iterator

from kl2tp.kernel.features import version


class Machine:
    """Reads /proc, /sys and /etc; what is not there, or not readable, is empty."""

    def __init__(self, root: str = "/", *, release: str = "") -> None:
        self._root = root
        self.release = release or os.uname().release

    def path(self, name: str) -> str:
        """Where a file of the machine is."""
        return os.path.join(self._root, name.lstrip("/"))

    def text(self, name: str) -> str:
        """A file's content."""
        try:
            with open(self.path(name), encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""

    def number(self, name: str) -> int | None:
        """A file that holds a number."""
        try:
            return int(self.text(name))
        except ValueError:
            return None

    def sysctl(self, name: str) -> str:
        """A setting of the kernel, by its name with dots."""
        return self.text(f"/proc/sys/{name.replace('.', '/')}").strip()

    def exists(self, name: str) -> bool:
        return os.path.exists(self.path(name))

    def status(self, name: str) -> os.stat_result | None:
        """Owner, permissions and so on of a file."""
        try:
            return os.stat(self.path(name))
        except OSError:
            return None

    def locker(self, path: str) -> int | None:
        """The process that holds a file locked (flock), which is not of this machine's root; None: nobody does."""
        try:
            file = os.stat(path)
        except OSError:
            return None
        place = f"{os.major(file.st_dev):02x}:{os.minor(file.st_dev):02x}:{file.st_ino}"
        for line in self.text("/proc/locks").splitlines():
            fields = line.split()
            if fields[1:2] == ["FLOCK"] and place in fields:
                return int(fields[4])
        return None

    def names(self, directory: str) -> list[str]:
        """What is in a directory, in order."""
        try:
            return sorted(os.listdir(self.path(directory)))
        except OSError:
            return []

    def version(self) -> tuple[int, int]:
        """The kernel's version: the first two numbers of its release."""
        return version(self.release)

    def processes(self) -> Iterator[tuple[int, str]]:
        """(number, name) of every process."""
        for entry in self.names("/proc"):
            if entry.isdecimal() and (name := self.text(f"/proc/{entry}/comm").strip()):
                yield int(entry), name
