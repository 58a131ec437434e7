"""Aligned columns, cut to the terminal's width where there is one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kl2tp.cli.terminal import Paint, printable

GAP = "  "
_LEAST = 8
"""Characters that a column keeps when the terminal is narrow."""


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and how its cells stand."""

    title: str
    right: bool = False
    shrink: bool = False
    """Whether cells may be cut when the terminal is narrow."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Text with a style."""

    text: str
    styles: tuple[str, ...] = ()


def render(
    columns: Sequence[Column], rows: Sequence[Sequence[str | Cell]], paint: Paint, width: int | None = None
) -> Iterator[str]:
    """The lines of a table: headings, then rows. Columns without any content are left out."""
    cells = [[_cell(cell) for cell in row] for row in rows]
    keep = [i for i in range(len(columns)) if not cells or any(row[i].text for row in cells)]
    columns = [columns[i] for i in keep]
    cells = [[row[i] for i in keep] for row in cells]
    widths = [max(len(c.title), *(len(row[i].text) for row in cells), 0) for i, c in enumerate(columns)]
    _shrink(columns, widths, width)
    yield _line(columns, [Cell(c.title, ("bold",)) for c in columns], widths, paint)
    for row in cells:
        yield _line(columns, row, widths, paint)


def _cell(cell: str | Cell) -> Cell:
    if isinstance(cell, str):
        return Cell(printable(cell))
    return Cell(printable(cell.text), cell.styles)


def _shrink(columns: Sequence[Column], widths: list[int], limit: int | None) -> None:
    """Take width from the widest column that may be cut, until the line fits."""
    if limit is None:
        return
    total = sum(widths) + len(GAP) * (len(widths) - 1)
    while total > limit:
        candidates = [i for i, c in enumerate(columns) if c.shrink and widths[i] > max(_LEAST, len(c.title))]
        if not candidates:
            return
        widest = max(candidates, key=lambda i: widths[i])
        widths[widest] -= 1
        total -= 1


def cut(text: str, width: int) -> str:
    """The beginning of a text that is too long."""
    return text if len(text) <= width else text[: width - 1] + "…"


def _line(columns: Sequence[Column], row: Sequence[Cell], widths: Sequence[int], paint: Paint) -> str:
    parts = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        text = cut(cell.text, width)
        blank = " " * (width - len(text))
        shown = paint(text, *cell.styles)
        parts.append(blank + shown if column.right else shown + blank)
    return GAP.join(parts).rstrip()
