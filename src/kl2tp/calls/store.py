"""The state of calls on disk (in /run, which is memory): what the next daemon needs to go on where this one was killed.

A log of JSON lines, `[key, value]`, in which the last line about a key counts; null forgets it. What a machine must not
forget is written before the packet that tells the peer of it leaves: one `write()` per turn of the event loop, however
many machines it moved. A line that a kill cut short is ignored: nothing that it says was ever sent.

The log is begun anew while work goes on: a new file takes what changes, and bit by bit the state of everything else;
when it holds all, a line says so and the old file is removed.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Value = dict[str, Any]

_encode = json.JSONEncoder(separators=(",", ":")).encode
_PREFIX = "calls."
_COMPLETE = "complete"
_SPARE_LINES = 5000
"""Lines more than twice the number of live keys before the log is begun anew."""
_SLICE = 100
"""Values copied per turn while the log is begun anew: a millisecond or two."""


class StoreError(Exception):
    """The log cannot be read or written."""


class Store:
    """Values by key, each kept by its owner: `value_of` gives the present one when the log is begun anew."""

    def __init__(self, directory: Path, value_of: Callable[[str], Value | None]) -> None:
        self._directory = directory
        self._value_of = value_of
        self._keys: dict[str, None] = {}
        self._pending: dict[str, str] = {}
        self._lines = 0
        self._file = -1
        self._number = 0
        self._torn = False
        self._old: list[Path] = []
        self._copying: Iterator[str] | None = None
        self.failures = 0
        """Writes that failed: what they held is tried again with the next one."""

    def load(self) -> dict[str, Value]:
        """What an earlier daemon left; then begin a new log. Raises StoreError."""
        found: dict[str, Value] = {}
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            files = self._files()
            for number, path in files:
                part, complete = _read(path)
                if complete:
                    found.clear()
                for key, value in part.items():
                    if value is None:
                        found.pop(key, None)
                    else:
                        found[key] = value
                self._number = number
            self._old = [path for _, path in files]
            self._keys = dict.fromkeys(found)
            self._open()
        except OSError as error:
            raise StoreError(f"cannot read the state of calls in {self._directory}: {error}") from None
        return found

    def begin(self) -> None:
        """All of what was loaded has its owner, or was dropped: copy it into the new log."""
        self._copying = iter(list(self._keys))

    def put(self, key: str, value: Value | None) -> None:
        """Note a new value; `flush` writes it."""
        self._pending[key] = _encode([key, value])
        if value is None:
            self._keys.pop(key, None)
        else:
            self._keys[key] = None

    def flush(self) -> None:
        """Write what was noted, and a bit of what is still to be copied."""
        if self._copying is not None:
            self._copy()
        if not self._pending:
            return
        count = len(self._pending)
        if not self._write():
            return
        self._lines += count
        if self._copying is None and self._lines > 2 * len(self._keys) + _SPARE_LINES:
            self._begin_anew()

    def _write(self) -> bool:
        """Append what was noted, whole; whether that worked. A line cut short ends before the next one begins."""
        data = ("\n" if self._torn else "") + "\n".join(self._pending.values()) + "\n"
        encoded = data.encode()
        try:
            written = os.write(self._file, encoded)
        except OSError:
            written = 0
        self._torn = self._torn if not written else written < len(encoded)
        if written < len(encoded):
            self.failures += 1
            return False
        self._pending.clear()
        return True

    @property
    def busy(self) -> bool:
        """Whether a copy is under way: `flush` wants to be called again soon."""
        return self._copying is not None

    def close(self) -> None:
        """Write what is left."""
        while self._copying is not None:
            self.flush()
        self.flush()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _copy(self) -> None:
        assert self._copying is not None
        for _ in range(_SLICE):
            key = next(self._copying, None)
            if key is None:
                self._finish_copy()
                return
            if key in self._keys and key not in self._pending:
                self.put(key, self._value_of(key))

    def _finish_copy(self) -> None:
        self._copying = None
        self._pending[_COMPLETE] = _encode([_COMPLETE, {}])
        if not self._write():
            self._copying = iter(())  # say so with the next write that succeeds
            return
        for path in self._old:
            path.unlink(missing_ok=True)
        self._old.clear()

    def _begin_anew(self) -> None:
        os.close(self._file)
        self._old.append(self._path(self._number))
        self._open()
        self.begin()

    def _open(self) -> None:
        self._number += 1
        self._file = os.open(
            self._path(self._number), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        self._lines = 0

    def _path(self, number: int) -> Path:
        return self._directory / f"{_PREFIX}{number}"

    def _files(self) -> list[tuple[int, Path]]:
        numbered = []
        for path in self._directory.glob(f"{_PREFIX}*"):
            number = path.name.removeprefix(_PREFIX)
            if number.isdecimal():
                numbered.append((int(number), path))
        return sorted(numbered)


def _read(path: Path) -> tuple[dict[str, Value | None], bool]:
    """(last value of each key, whether the file holds everything)."""
    values: dict[str, Value | None] = {}
    complete = False
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            try:
                key, value = json.loads(line)
            except (ValueError, TypeError):
                continue  # cut short by a kill
            if key == _COMPLETE:
                complete = True
            else:
                values[key] = value
    return values, complete
