"""Files of pppd: options, and users with secrets, of which only the names are read."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from kl2tp.migrate.files import Files
from kl2tp.migrate.finding import Findings, Kind, Place
from kl2tp.migrate.pppd_table import OPTIONS, PppOption

MAX_NESTED = 8
"""Files that name files."""
_ADDRESSES = re.compile(r"[0-9A-Za-z.-]*:[0-9A-Za-z.-]*")
_SPEED = re.compile(r"[0-9]+")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Given:
    """An option as it stands in a file."""

    option: PppOption
    values: tuple[str, ...]
    place: Place = field(compare=False)

    @property
    def what(self) -> str:
        """The line, for the report."""
        return self.option.name if self.option.secret else " ".join((self.option.name, *self.values))


class Options:
    """The options of one pppd: the last of each name counts."""

    def __init__(self, given: list[Given]) -> None:
        self.given = given

    def last(self, *names: str) -> Given | None:
        """The last of these."""
        found = [one for one in self.given if one.option.name in names]
        return found[-1] if found else None

    def all(self, name: str) -> list[Given]:
        """All of this name."""
        return [one for one in self.given if one.option.name == name]

    def value(self, *names: str) -> str:
        """The value of the last of these; empty: none is there."""
        found = self.last(*names)
        return "" if found is None else found.values[0]


def words(text: str) -> Iterator[tuple[str, int]]:
    """The words of a file with their lines, as pppd splits them: quotes, backslashes, `#` to the end of the line."""
    at, line, size = 0, 1, len(text)
    while at < size:
        if text[at] == "#":
            while at < size and text[at] != "\n":
                at += 1
        elif text[at].isspace():
            line += text[at] == "\n"
            at += 1
        else:
            word, end = _word(text, at)
            yield word, line
            line += text.count("\n", at, end)
            at = end


def _word(text: str, at: int) -> tuple[str, int]:
    """The word that begins here, and where it ends."""
    parts = []
    size = len(text)
    while at < size and not text[at].isspace():
        if text[at] in "\"'":
            end = _closing(text, at)
            parts.append(_ESCAPED.sub(r"\1", text[at + 1 : end]))
            at = end + 1
        elif text[at] == "\\":
            parts.append(text[at + 1 : at + 2])
            at += 2
        else:
            parts.append(text[at])
            at += 1
    return "".join(parts), min(at, size)


def _closing(text: str, at: int) -> int:
    """Where the quote that begins here ends."""
    end = at + 1
    while end < len(text) and text[end] != text[at]:
        end += 2 if text[end] == "\\" else 1
    return min(end, len(text))


def read(files: Files, findings: Findings, path: str, depth: int = 0) -> list[Given]:
    """The options of a file, and of those that it names."""
    text = files.text(path)
    if text is None:
        return []
    given: list[Given] = []
    queue = list(words(text))
    while queue:
        word, line = queue.pop(0)
        place = Place(path, line)
        option = OPTIONS.get(word)
        if option is None:
            _unknown(word, line, queue, place, given, findings)
            continue
        values = tuple(value for value, _ in queue[: option.words])
        del queue[: option.words]
        if len(values) < option.words:
            findings.add(Kind.WRONG, place, word, "the value is missing")
        elif option.name == "file" and depth < MAX_NESTED:
            given += read(files, findings, values[0], depth + 1)
        else:
            given.append(Given(option, values, place))
    return given


def _unknown(
    word: str, line: int, queue: list[tuple[str, int]], place: Place, given: list[Given], findings: Findings
) -> None:
    """Addresses, a speed, or something that only a plugin knows: then the rest of the line belongs to it."""
    if _ADDRESSES.fullmatch(word):
        given.append(Given(OPTIONS["ADDRESS:ADDRESS"], (word,), place))
        return
    if _SPEED.fullmatch(word) or word.startswith("/dev/"):
        given.append(Given(OPTIONS["speed"], (word,), place))
        return
    while queue and queue[0][1] == line:
        queue.pop(0)
    findings.add(Kind.LOST, place, word, "not an option of pppd itself")


@dataclass(frozen=True, slots=True)
class User:
    """A line of chap-secrets or pap-secrets, but for its secret."""

    client: str
    server: str
    empty: bool
    """Whether the secret is empty."""
    place: Place


def users(path: str, text: str) -> list[User]:
    """The users of a file."""
    by_line: dict[int, list[str]] = {}
    for word, line in words(text):
        by_line.setdefault(line, []).append(word)
    return [
        User(found[0], found[1], not found[2], Place(path, line)) for line, found in by_line.items() if len(found) >= 3
    ]
