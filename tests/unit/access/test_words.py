"""Words of chap-secrets: what pppd's reader makes of the same bytes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kl2tp.access.words import LONGEST, first_word, lines, position_in


def read(content: bytes) -> list[list[bytes]]:
    return [line.words for line in lines(content, _unexpected)]


def _unexpected(offset: int, message: str, hint: str) -> None:
    raise AssertionError(message)


def problems(content: bytes) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    for _ in lines(content, lambda offset, message, hint: found.append((offset, message))):
        pass
    return found


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n \t\n", []),
        (b"a b c", [[b"a", b"b", b"c"]]),
        (b"  a\tb\x0bc\x0cd \r\n\re f\n", [[b"a", b"b", b"c", b"d"], [b"e", b"f"]]),
        (b"# a b\na#b c\nd # 'it is\n", [[b"a"], [b"d"]]),
        (b"a \"b c\" 'd\"e'", [[b"a", b"b c", b"d\"e"]]),
        (b"a'b c'd\"e\"", [[b"ab cde"]]),
        (b"a '' b \"\"\n", [[b"a", b"", b"b", b""]]),
        (b"a \"\"", [[b"a"]]),
        (b"'a\nb' c\nd", [[b"a\nb", b"c"], [b"d"]]),
        (b"'a # b' c", [[b"a # b", b"c"]]),
        (rb"a\ b \#c \"d \'e \\f", [[b"a b", b"#c", b"\"d", b"'e", b"\\f"]]),
        (rb"'a\'b' " + rb'"c\"d"', [[b"a'b", b'c"d']]),
        (rb"\a\b\f\n\r\s\t\z", [[b"\a\b\f\n\r \tz"]]),
        (rb"\101\7x\0601\777", [[b"A\x07x01\xff"]]),
        (rb"\x41\x7z\x4142\8", [[b"A\x07zA428"]]),
        (b"a\\\nb c \\\n d\ne", [[b"ab", b"c", b"d"], [b"e"]]),
        (b"a b\\", [[b"a", b"b"]]),
        (b"a \\", [[b"a"]]),
        (b"a b\0c d", [[b"a", b"b", b"d"]]),
        (rb"a b\0c \xz", [[b"a", b"b", b""]]),
        (b"# comment\\\na b", [[b"a", b"b"]]),
        ("josé \u00a0".encode(), [["josé".encode(), b"\xc2\xa0"]]),
    ],
)
def test_words(content: bytes, expected: list[list[bytes]]) -> None:
    assert read(content) == expected


def test_a_quotation_without_end_is_reported_where_it_begins() -> None:
    assert problems(b"a b 'c d\ne f") == [(4, "a quotation has no end")]


@pytest.mark.parametrize("quote", [b"", b"'"])
def test_a_word_that_pppd_would_cut_is_reported(quote: bytes) -> None:
    assert problems(b"a " + quote + b"x" * LONGEST + quote + b" c") == []
    assert problems(b"a " + quote + b"x" * (LONGEST + 1) + quote + b" c") == [(2, "a word is longer than 1023 bytes")]


def test_places_are_those_of_the_words() -> None:
    content = "# é\n  é b\n'x y' z # z\n".encode()
    found = [position_in(content, line.start(n)) for line in lines(content, _unexpected) for n in range(2)]
    assert found == [(2, 3), (2, 5), (3, 1), (3, 7)]


def test_the_first_word_is_found_on_any_line() -> None:
    assert first_word(b"# x\n\n 'a b' c\n") == b"a b"
    assert first_word(b"# x\n") is None


pieces = st.sampled_from([b"a", b" ", b"\n", b'"', b"'", b"\\", b"#", b"x", b"7", b"\0", b"\r", b"\xe9"])


@given(st.lists(pieces, max_size=30).map(b"".join))
@example(b"'a\\")
@example(b"\\x")
def test_every_word_has_a_place_and_no_byte_stops_the_reader(content: bytes) -> None:
    found: list[tuple[int, str]] = []
    for line in lines(content, lambda offset, message, hint: found.append((offset, message))):
        starts = [line.start(number) for number in range(len(line.words))]
        assert starts == sorted(set(starts))
        assert all(content[start : start + 1].strip(b" \n\r#") for start in starts)
    assert all(0 <= offset < len(content) for offset, _ in found)


@given(st.lists(st.lists(st.binary(min_size=1, max_size=8), min_size=1, max_size=5), max_size=6))
def test_words_that_are_escaped_come_back(rows: list[list[bytes]]) -> None:
    rows = [[word.replace(b"\0", b"0") for word in row] for row in rows]
    content = b"\n".join(b" ".join(b"".join(b"\\%03o" % byte for byte in word) for word in row) for row in rows)
    assert read(content) == rows
