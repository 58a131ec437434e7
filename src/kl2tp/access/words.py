"""Words of pppd's files: chap-secrets and pap-secrets.

The rules are those of pppd's own reader. Words are parted by blanks, a line ends where the next one begins with a word
of its own. `#` begins a comment wherever it is not quoted, in the middle of a word too. Quotes of either kind may stand
around any part of a word and hold blanks and newlines. A backslash, in quotes as well, makes the next character a
plain one, except: backslash-newline is nothing; \\a \\b \\f \\n \\r \\t as in C; \\s is a blank; \\ooo and \\xhh are
bytes. A word ends at a zero byte.
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeAlias

LONGEST = 1023
"""Bytes of a word; pppd cuts what is longer."""

Report: TypeAlias = Callable[[int, str, str], None]
"""Takes what is wrong: at which byte, what, and a hint."""

_SPECIAL = re.compile(rb"[\\\"'\0]")
"""What makes a line more than words between blanks."""
_BLANK = re.compile(rb"(?:[ \t\v\f\r]|#[^\n]*|\\\n)*")
_WORD = re.compile(rb"[^\s#]+")
_PLAIN = re.compile(rb"[^\s\\\"'#]+")
_QUOTED = {b'"': re.compile(rb"[^\\\"]+"), b"'": re.compile(rb"[^\\']+")}
_ESCAPE = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{0,2})|(.)|$)", re.DOTALL)
_LETTERS = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"s": b" ", b"t": b"\t", b"\n": b""}


class Line:
    """The words of one line."""

    __slots__ = ("_content", "_start", "_starts", "words")

    def __init__(self, words: list[bytes], content: bytes, start: int, starts: list[int] | None = None) -> None:
        self.words = words
        self._content = content
        self._start = start
        self._starts = starts

    def start(self, number: int) -> int:
        """Where in the file a word begins."""
        if self._starts is None:
            self._starts = [match.start() for match in _WORD.finditer(self._content, self._start)][: len(self.words)]
        return self._starts[number]


def lines(content: bytes, report: Report) -> Iterator[Line]:
    """All lines that have any words."""
    position, end = 0, len(content)
    while position < end:
        newline = content.find(b"\n", position)
        stop = end if newline < 0 else newline
        raw = content[position:stop]
        if _SPECIAL.search(raw):
            careful = _Careful(content, position, report)
            position = careful.position
            if careful.words:
                yield Line(careful.words, content, 0, careful.starts)
            continue
        if words := raw.partition(b"#")[0].split():
            simple = Line(words, content, position)
            if len(raw) > LONGEST:
                _check_lengths(simple, report)
            yield simple
        position = stop + 1


def first_word(content: bytes) -> bytes | None:
    """The first word of a file, wherever it is; None: there is none."""
    found = next(lines(content, lambda *problem: None), None)
    return found.words[0] if found else None


def position_in(content: bytes, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a byte; columns count characters."""
    start = content.rfind(b"\n", 0, offset) + 1
    return content.count(b"\n", 0, offset) + 1, len(content[start:offset].decode(errors="replace")) + 1


def _check_lengths(line: Line, report: Report) -> None:
    for number, word in enumerate(line.words):
        if len(word) > LONGEST:
            report(line.start(number), f"a word is longer than {LONGEST} bytes", "shorten it; pppd would cut it")


class _Careful:
    """One line with quotes or backslashes in it, byte by byte where it must be."""

    def __init__(self, content: bytes, position: int, report: Report) -> None:
        self.content = content
        self.position = position
        self.report = report
        self.words: list[bytes] = []
        self.starts: list[int] = []
        while not self._skip_blanks() or not self.words:
            if self.position >= len(content):
                return
            self._word()

    def _skip_blanks(self) -> bool:
        """To the next word; whether a newline is before it."""
        newline = False
        while True:
            match = _BLANK.match(self.content, self.position)
            self.position = match.end() if match else self.position
            if self.content[self.position : self.position + 1] != b"\n":
                return newline
            newline = True
            self.position += 1

    def _word(self) -> None:
        start, parts, quote = self.position, [], b""
        content, end = self.content, len(self.content)
        while (position := self.position) < end:
            here = content[position : position + 1]
            if here == b"\\":
                parts.append(self._escape())
            elif here == quote or (not quote and here in _QUOTED):
                quote = b"" if quote else here
                self.position += 1
            elif match := (_QUOTED[quote] if quote else _PLAIN).match(content, position):
                parts.append(match[0])
                self.position = match.end()
            else:
                break  # a blank, or a comment
        self._add(start, b"".join(parts), quote)

    def _add(self, start: int, word: bytes, quote: bytes) -> None:
        if self.position >= len(self.content):
            if not word:
                return  # pppd takes it for the end of the file
            if quote:
                self.report(start, "a quotation has no end", f"close it with {quote.decode()}")
        if len(word) > LONGEST:
            self.report(start, f"a word is longer than {LONGEST} bytes", "shorten it; pppd would cut it")
        self.words.append(word.partition(b"\0")[0])
        self.starts.append(start)

    def _escape(self) -> bytes:
        match = _ESCAPE.match(self.content, self.position)
        assert match is not None
        self.position = match.end()
        octal, hexadecimal, letter = match.groups()
        if octal is not None:
            return bytes((int(octal, 8) & 0xFF,))
        if hexadecimal is not None:
            return bytes((int(hexadecimal or b"0", 16),))
        return b"" if letter is None else _LETTERS.get(letter, letter)
