"""What an import has to tell, as text."""

import textwrap
from collections.abc import Iterator

from kl2tp.migrate.finding import Finding, Findings, Kind
from kl2tp.migrate.pppd_table import BY_NAME as PPP_OPTIONS
from kl2tp.migrate.xl2tpd_table import BY_NAME as OPTIONS

AT_LENGTH = (Kind.WRONG, Kind.LOST, Kind.NEVER, Kind.DIFFERENT)
"""What gets a line each, and where the operator must look."""
IPSEC = """\
IPsec is not xl2tpd's business: what protects UDP port 1701 goes on to do so. Or kl2tp takes it over: what ipsec.conf
says is then `ipsec: {ike: {psk_file: ...}}` in a profile or call, and the old connections must go."""


def text(findings: Findings, width: int = 100) -> Iterator[str]:
    """The report, part by part."""
    for kind in AT_LENGTH:
        found = findings.of(kind)
        if found:
            yield f"{kind.value}:"
            for finding in found:
                yield from _finding(finding, width)
            yield ""
    for kind in (Kind.TAKEN, Kind.SAME):
        if found := findings.of(kind):
            yield from _names(kind, found, width)
    yield IPSEC


def _finding(finding: Finding, width: int) -> Iterator[str]:
    yield from _wrapped(str(finding), width, "  ", "      ")


def _names(kind: Kind, found: list[Finding], width: int) -> Iterator[str]:
    """The lines with nothing to say about them: their names will do."""
    names = ", ".join(dict.fromkeys(finding.what.partition(" = ")[0] for finding in found))
    title = f"{kind.value}, {len(found)} {'line' if len(found) == 1 else 'lines'}: "
    yield from _wrapped(title + names, width, "", "  ")


def _wrapped(paragraph: str, width: int, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        paragraph, width, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )


def table() -> Iterator[str]:
    """Every option of xl2tpd.conf and of pppd, and the key that does the same; what `--list` prints."""
    rows = [
        (option.name, f"[{', '.join(option.sections)}]", *_fate(option.kind, option.key, option.note))
        for option in OPTIONS.values()
    ]
    yield "Options of xl2tpd.conf"
    yield ""
    yield from _columns(rows)
    yield ""
    yield "Options of pppd, in a pppoptfile"
    yield ""
    yield from _columns([(one.name, "", *_fate(one.kind, one.key, one.note)) for one in PPP_OPTIONS.values()])


def _fate(kind: Kind, key: str, note: str) -> tuple[str, str]:
    """What stands in the column of new keys, and what is to be said."""
    if kind is Kind.TAKEN:
        return key or "-", note
    words = {Kind.LOST: "none", Kind.NEVER: "xl2tpd never did it", Kind.SAME: "needs nothing"}[kind]
    return words, f"{note}; see {key}" if key and note else note or (f"see {key}" if key else "")


def _columns(rows: list[tuple[str, str, str, str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True) if width]
        yield "  ".join((*cells, row[3])).rstrip()
