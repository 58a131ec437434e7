"""Tables, numbers, colours."""

import time

import pytest

from kl2tp.cli import terminal, units
from kl2tp.cli.table import Cell, Column, cut, render
from kl2tp.cli.terminal import Paint

PLAIN = Paint(False)
COLUMNS = (Column("NAME", shrink=True), Column("COUNT", right=True), Column("NOTE", shrink=True))


def test_columns_are_aligned() -> None:
    lines = list(render(COLUMNS, [["a", "1", "x"], ["longer", "1000", "y"]], PLAIN))
    assert lines == ["NAME    COUNT  NOTE", "a           1  x", "longer   1000  y"]


def test_columns_without_content_are_left_out() -> None:
    assert list(render(COLUMNS, [["a", "1", ""]], PLAIN)) == ["NAME  COUNT", "a         1"]


def test_an_empty_table_has_its_headings() -> None:
    assert list(render(COLUMNS, [], PLAIN)) == ["NAME  COUNT  NOTE"]


def test_a_narrow_terminal_cuts_the_widest_column_first() -> None:
    lines = list(render(COLUMNS, [["n" * 12, "1", "x" * 40]], PLAIN, 40))
    assert lines[1] == f"{'n' * 12}      1  {'x' * 18}…"
    assert len(lines[1]) == 40


def test_no_column_vanishes() -> None:
    lines = list(render(COLUMNS, [["n" * 40, "1", "x" * 40]], PLAIN, 10))
    assert lines[1] == f"{'n' * 7}…      1  {'x' * 7}…"


def test_colours_do_not_disturb_the_alignment() -> None:
    lines = list(render(COLUMNS, [[Cell("a", ("red",)), "1", "x"], ["bb", "2", "y"]], Paint(True)))
    assert lines[1] == "\x1b[31ma\x1b[0m         1  x"
    assert lines[2] == "bb        2  y"


def test_cut() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0.000s"),
        (0.0321, "0.032s"),
        (0.5, "0.5s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.6, "1m"),
        (61, "1m1s"),
        (3600, "1h"),
        (3725, "1h2m"),
        (90_000, "1d1h"),
        (8_640_000, "100d"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 << 30, "3.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert units.size(count) == text


def test_counts() -> None:
    assert units.counted(1, "tunnel") == "1 tunnel"
    assert units.counted(2000, "tunnel") == "2,000 tunnels"
    assert units.counted(0, "key file") == "0 key files"


def test_ages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_767_225_660.0)
    assert units.age("2026-01-01T00:00:00+00:00") == "1m"
    assert units.age(1_767_225_600) == "1m"
    assert units.age("yesterday") == "yesterday"
    assert units.age(None) == "-"


def test_a_dumb_terminal_gets_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.paint(False).enabled
    monkeypatch.setenv("TERM", "xterm")
    assert terminal.paint(False).enabled
    assert not terminal.paint(True).enabled
