"""The ledger: what kl2tp made, so that it never touches anything else, and finds its own again after a crash.

A text file in /run, which lives exactly as long as the kernel's objects do: it survives the daemon and ends with the
boot. Each line is a JSON value; what is about to be made is written before it is made, so that whatever happens in
between, nothing of ours is forgotten. The last line about a unit counts. A line cut short by a crash is ignored: it
was written before anything that it names was made.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from kl2tp.model.objects import Key

_HEADER = {"kl2tp-ledger": 1}
_SPARE_LINES = 2000
"""The file is rewritten when it holds this many lines more than twice the number of units."""


class LedgerError(Exception):
    """The ledger cannot be read or written: without it kl2tp would not know its own."""


_RECENT = 1000
"""Units whose keys are kept decoded: those of a chunk are asked for again and again."""
_encode = json.JSONEncoder(separators=(",", ":")).encode
"""`json.dumps` makes an encoder for each call that wants other separators."""


def encode_keys(keys: Iterable[Key]) -> str:
    """Keys as JSON, in an order that depends on nothing else."""
    return _encode(sorted(keys))


def decode_keys(text: str) -> frozenset[Key]:
    """The inverse of `encode_keys`. Raises ValueError, TypeError on anything else."""
    return frozenset(map(tuple, json.loads(text)))


class Ledger:
    """Owned keys by unit. In memory each unit is its line of text: decoded when it is asked for."""

    def __init__(self, path: Path, identity: Callable[[str], int]) -> None:
        """`identity` gives the inode of a network namespace, by which a later one of the same name is told apart."""
        self._path = path
        self._identity = identity
        self._units: dict[str, str] = {}
        self._recent: dict[str, frozenset[Key]] = {}
        self._namespaces: dict[str, int] = {}
        self._rollovers: dict[str, float] = {}
        self._tentative: set[str] = set()
        self._dismantling: set[str] = set()
        self._lines = 0
        self._incomplete = False
        """Whether the file lacks something that could not be written."""
        self._load()
        self._file = self._open()
        if self._lines > 2 * len(self._units) + _SPARE_LINES:
            self._rewrite()

    # -- what is owned ---------------------------------------------------------------------------------------------

    def names(self) -> Collection[str]:
        """Units of which something may exist, at this moment: another thread may ask."""
        return list(self._units)

    def namespaces(self) -> Collection[str]:
        """Named namespaces in which something was ever made."""
        return self._namespaces.keys()

    def owned(self, unit: str) -> frozenset[Key]:
        """Keys of what was made for a unit."""
        keys = self._recent.get(unit)
        if keys is None:
            text = self._units.get(unit)
            keys = self._remember(unit, decode_keys(text) if text else frozenset())
        return keys

    def _remember(self, unit: str, keys: frozenset[Key]) -> frozenset[Key]:
        if len(self._recent) >= _RECENT:
            self._recent.clear()
        self._recent[unit] = keys
        return keys

    def owners(self, keys: Iterable[Key]) -> set[str]:
        """The units that own any of these. Looks at every unit: for questions that are rare."""
        parts = [encode_keys([key])[1:-1] for key in keys]
        return {name for name, text in self._units.items() if any(part in text for part in parts)} if parts else set()

    def holds(self, *beginnings: Key) -> bool:
        """Whether any unit owns a key that begins so: quick if one does."""
        parts = [f"{_encode(beginning)[:-1]}," for beginning in beginnings]
        return any(part in text for text in self._units.values() for part in parts)

    def untouched(self, unit: str) -> bool:
        """Whether nothing at all is noted about a unit."""
        return unit not in self._units and unit not in self._rollovers

    def tentative(self, unit: str) -> bool:
        """Whether a crash left open if anything of the unit was made."""
        return unit in self._tentative

    def in_doubt(self) -> bool:
        """Whether a crash left that open of any unit."""
        return bool(self._tentative)

    def dismantling(self, unit: str) -> bool:
        """Whether a crash left open if the unit's tunnels are still on their way out."""
        return unit in self._dismantling

    def note_dismantling(self, units: Iterable[str]) -> None:
        """Tunnels of these units are about to be deleted, which the kernel does in its own time. Raises LedgerError."""
        new = [name for name in units if name not in self._dismantling]
        self._dismantling.update(new)
        self._append([json.dumps({"d": name}) for name in new])

    def record(self, units: Mapping[str, Collection[Key]], *, tentative: bool = False) -> None:
        """Write down what is owned from now on, in one write; a unit without keys is forgotten. Raises LedgerError.

        `tentative`: this is about to be made where nobody looked whether somebody else's is there.
        """
        lines: list[str] = []
        for name, keys in units.items():
            settled = name in self._dismantling or (name in self._tentative and not tentative)
            self._tentative.discard(name)
            self._dismantling.discard(name)
            if tentative:
                self._tentative.add(name)
            if not keys:
                self._recent.pop(name, None)
                if self._units.pop(name, None) is not None:
                    lines.append(json.dumps({"u": name, "k": []}))
                continue
            if self.owned(name) != keys:
                self._note_namespaces(keys, lines)
                self._units[name] = text = encode_keys(self._remember(name, frozenset(keys)))
                mark = ',"t":1' if tentative else ""
                lines.append(f'{{"u":{json.dumps(name)},"k":{text}{mark}}}')
            elif settled:
                lines.append(json.dumps({"s": name}))
        self._append(lines)

    def begin(self, units: Mapping[str, str], namespace: str) -> None:
        """Write down, in one write, what is about to be made in a namespace for untouched units. Raises LedgerError.

        Their keys come as `encode_keys` puts them, in any order. Nobody looked whether somebody else's are there.
        """
        lines: list[str] = []
        self._note_namespaces([("", namespace)], lines)
        self._units.update(units)
        self._tentative.update(units)
        for name in units:
            self._recent.pop(name, None)
        lines += [f'{{"u":{_encode(name)},"k":{text},"t":1}}' for name, text in units.items()]
        self._append(lines)

    def settle(self, units: Iterable[str]) -> None:
        """What was begun was made. Raises LedgerError."""
        units = list(units)
        self._tentative.difference_update(units)
        self._append([f'{{"s":{_encode(name)}}}' for name in units])

    def _note_namespaces(self, keys: Iterable[Key], lines: list[str]) -> None:
        for name in {str(key[1]) for key in keys}:
            if name and name not in self._namespaces:
                try:
                    self._namespaces[name] = self._identity(name)
                except LookupError:
                    continue  # not there yet: whatever is made in it will fail, and be recorded again
                lines.append(json.dumps({"n": name, "i": self._namespaces[name]}))

    # -- key changes under way -------------------------------------------------------------------------------------

    def rollover(self, unit: str) -> float | None:
        """When the key change of a unit began (seconds since boot), None if there is none."""
        return self._rollovers.get(unit)

    def set_rollover(self, unit: str, began: float | None) -> None:
        """Note that a key change began, or is over."""
        if self._rollovers.get(unit) == began:
            return
        if began is None:
            del self._rollovers[unit]
        else:
            self._rollovers[unit] = began
        self._append([json.dumps({"r": unit, "t": began})])

    # -- the file --------------------------------------------------------------------------------------------------

    def _load(self) -> None:
        try:
            with open(self._path, encoding="utf-8", newline="\n") as file:
                for line in file:
                    if line := line.rstrip("\n"):
                        self._lines += 1
                        self._read_line(line)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise LedgerError(f"cannot read the ledger {self._path}: {error}") from None
        stale = {name for name, inode in self._namespaces.items() if not self._same(name, inode)}
        if stale:
            self._drop_namespaces(stale)

    def _read_line(self, line: str) -> None:
        try:
            entry = json.loads(line)
            if "s" in entry:
                self._tentative.discard(entry["s"])
                self._dismantling.discard(entry["s"])
            elif "d" in entry:
                self._dismantling.add(entry["d"])
            elif "u" in entry:
                self._tentative.discard(entry["u"])
                self._dismantling.discard(entry["u"])
                if entry.get("t"):
                    self._tentative.add(entry["u"])
                if entry["k"]:
                    self._units[entry["u"]] = encode_keys(frozenset(map(tuple, entry["k"])))
                else:
                    self._units.pop(entry["u"], None)
            elif "n" in entry:
                self._namespaces[entry["n"]] = entry["i"]
            elif "r" in entry:
                self._rollovers.pop(entry["r"], None)
                if entry["t"] is not None:
                    self._rollovers[entry["r"]] = float(entry["t"])
        except (ValueError, TypeError, KeyError, StopIteration):
            if line.endswith("}"):
                raise LedgerError(f"the ledger {self._path} is damaged at line {self._lines}: {line[:60]}") from None

    def _same(self, name: str, inode: int) -> bool:
        try:
            return self._identity(name) == inode
        except LookupError:
            return False

    def _drop_namespaces(self, stale: set[str]) -> None:
        """What was in a namespace that is gone went with it."""
        for name in stale:
            del self._namespaces[name]
        for unit in list(self._units):
            keys = decode_keys(self._units[unit])
            left = {key for key in keys if str(key[1]) not in stale}
            if len(left) < len(keys):
                if left:
                    self._units[unit] = encode_keys(left)
                else:
                    del self._units[unit]

    def _open(self) -> int:
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(f"cannot write the ledger {self._path}: {error.strerror}") from None
        size = os.fstat(fd).st_size
        if size == 0:
            os.write(fd, json.dumps(_HEADER).encode() + b"\n")
        elif os.pread(fd, 1, size - 1) != b"\n":  # cut short by a crash
            os.write(fd, b"\n")
        return fd

    def _append(self, lines: list[str]) -> None:
        if self._incomplete:
            self._rewrite()
        if not lines:
            return
        data = ("\n".join(lines) + "\n").encode()
        try:
            while data:
                data = data[os.write(self._file, data) :]
        except OSError as error:
            self._incomplete = True
            raise LedgerError(f"cannot write the ledger {self._path}: {error.strerror}") from None
        self._lines += len(lines)
        if self._lines > 2 * len(self._units) + _SPARE_LINES:
            self._rewrite()

    def _rewrite(self) -> None:
        """Put a file with only the valid lines in the place of the grown one, atomically."""
        lines = [json.dumps(_HEADER)]
        lines += [json.dumps({"n": name, "i": inode}) for name, inode in self._namespaces.items()]
        lines += [
            f'{{"u":{json.dumps(name)},"k":{text}{mark}}}'
            for name, text in self._units.items()
            for mark in (',"t":1' if name in self._tentative else "",)
        ]
        lines += [json.dumps({"d": unit}) for unit in self._dismantling]
        lines += [json.dumps({"r": unit, "t": began}) for unit, began in self._rollovers.items()]
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
            temporary.chmod(0o600)
            temporary.replace(self._path)
            fresh = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise LedgerError(f"cannot rewrite the ledger {self._path}: {error.strerror}") from None
        os.close(self._file)
        self._file = fresh
        self._lines = len(lines)
        self._incomplete = False

    def close(self) -> None:
        os.close(self._file)
