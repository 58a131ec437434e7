"""`kl2tp show NAME`: all about one tunnel, or one session of a call."""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kl2tp.cli import exits, table, terminal
from kl2tp.cli.client import Answer, service
from kl2tp.cli.options import common, json_output
from kl2tp.cli.status import STATES
from kl2tp.cli.table import Column
from kl2tp.cli.terminal import Paint, printable
from kl2tp.cli.units import age, duration, number, size

_DESCRIPTION = """\
Show all about one tunnel: what is declared, what the kernel has, counters of sessions and
security associations, and what the layers around a packet cost. Of a call's session: who is
connected, PPP, the control connection, and what the kernel has."""
_KNOWN = {"name", "state", "problem", "where", "spec", "objects", "sessions", "associations", "overhead"}
_COUNTERS = ("packets", "bytes", "errors")
_WAYS = ("rx_", "tx_")
_TITLES = {"ppp": "PPP", "control": "Control connection"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("show", help="show all about one tunnel or session", description=_DESCRIPTION)
    parser.add_argument(
        "name", metavar="TUNNEL", help="its name; or a call's session, user, interface, address or peer"
    )
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    answer = service(args).call("show", name=args.name)
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        for line in text(answer, terminal.paint(args.no_color), terminal.width()):
            print(line)
    return exits.PARTLY if answer.get("problem") else exits.OK


def text(answer: Answer, paint: Paint, width: int | None) -> Iterator[str]:
    """All of it, for people."""
    answer = _safe(answer)
    yield from _head(answer, paint)
    if spec := answer.get("spec"):
        yield from _section("Declared", paint)
        yield from _pairs(spec)
    if objects := answer.get("objects"):
        yield from _section("In the kernel", paint)
        yield from _objects(objects, paint)
    for session in answer.get("sessions") or ():
        yield from _session(session, paint, width)
    if associations := answer.get("associations"):
        yield from _section("Security associations", paint)
        yield from _records(associations, paint, width)
    if overhead := answer.get("overhead"):
        yield from _section("Overhead", paint)
        yield from _overhead(overhead, paint, width)
    for key, value in answer.items():
        if key not in _KNOWN and isinstance(value, Mapping | list) and value:
            yield from _section(_TITLES.get(key) or _label(key).capitalize(), paint)
            yield from _anything(value, paint, width)


def _safe(value: Any) -> Any:
    """The answer without characters that would command the terminal; line breaks stay."""
    if isinstance(value, str):
        return "\n".join(printable(line) for line in value.split("\n"))
    if isinstance(value, Mapping):
        return {_safe(key): _safe(item) for key, item in value.items()}
    return [_safe(item) for item in value] if isinstance(value, list) else value


def _head(answer: Answer, paint: Paint) -> Iterator[str]:
    state = str(answer.get("state") or "unknown")
    name = printable(str(answer.get("name", "")))
    yield f"{paint(name, 'bold')}: {paint(state, STATES.get(state, 'bold'))}"
    if problem := answer.get("problem"):
        for line in str(problem).splitlines():
            yield paint(f"  {printable(line)}", "red")
    if where := answer.get("where"):
        yield f"  declared at {where}"
    known = _KNOWN | (answer.get("spec") or {}).keys()
    rest = {k: v for k, v in answer.items() if k not in known and not isinstance(v, Mapping | list)}
    if not rest.get("tries"):
        rest.pop("tries", None)
    counters = {k: rest.pop(k) for k, v in list(rest.items()) if k.startswith(_WAYS) and isinstance(v, int)}
    yield from _pairs(rest)
    yield from _statistics(counters, max([12, *(len(_label(key)) for key in rest)]))


def _section(title: str, paint: Paint) -> Iterator[str]:
    yield ""
    yield paint(title, "bold")


def _objects(objects: Sequence[Mapping[str, Any]], paint: Paint) -> Iterator[str]:
    for thing in objects:
        present, differences = thing.get("present", True), thing.get("differences") or ()
        mark, style = ("=", "dim") if present and not differences else ("~", "yellow") if present else ("-", "red")
        missing = "" if present else "  (missing)"
        yield paint(f"  {mark} {printable(str(thing.get('text', '')))}{missing}", style)
        for difference in differences:
            yield paint(f"      {printable(str(difference))}", style)


def _session(session: Mapping[str, Any], paint: Paint, width: int | None) -> Iterator[str]:
    title = f"Session {printable(str(session.get('name', '')))}"
    yield from _section(title, paint)
    rest = {k: v for k, v in session.items() if k not in ("name", "statistics", "addresses", "overhead")}
    if addresses := session.get("addresses"):
        rest["addresses"] = ", ".join(map(str, addresses))
    yield from _pairs(rest)
    yield from _statistics(session.get("statistics") or {})
    if overhead := session.get("overhead"):
        yield from _section(f"{title}: overhead", paint)
        yield from _overhead(overhead, paint, width)


def _statistics(statistics: Mapping[str, Any], width: int = 12) -> Iterator[str]:
    """Both directions with packets, bytes and errors; of the other counters those that are not zero."""
    shown = set()
    for way, label in (("rx", "received"), ("tx", "sent")):
        keys = {counter: f"{way}_{counter}" for counter in _COUNTERS}
        if not any(key in statistics for key in keys.values()):
            continue
        shown |= set(keys.values())
        packets, octets, errors = (int(statistics.get(key) or 0) for key in keys.values())
        yield f"  {label:{width}} {number(packets)} packets, {size(octets)}, {number(errors)} errors"
    for key, value in statistics.items():
        if key not in shown and value:
            yield f"  {_label(key):{width}} {value}"


def _overhead(overhead: Any, paint: Paint, width: int | None) -> Iterator[str]:
    if isinstance(overhead, list) and overhead and all(_is_layer(row) for row in overhead):
        total = sum(row["bytes"] for row in overhead)
        rows = [*overhead, {"layer": "total", "bytes": total}]
        yield from _records(rows, paint, width)
    else:
        yield from _anything(overhead, paint, width)


def _is_layer(row: Any) -> bool:
    return isinstance(row, Mapping) and "layer" in row and isinstance(row.get("bytes"), int)


def _anything(value: Any, paint: Paint, width: int | None) -> Iterator[str]:
    """What nobody told us how to print."""
    if isinstance(value, Mapping):
        yield from _pairs(value)
    elif isinstance(value, list) and value and all(isinstance(row, Mapping) for row in value):
        yield from _records(value, paint, width)
    elif isinstance(value, list):
        yield from (f"  {_plain(item)}" for item in value)
    else:
        yield f"  {_plain(value)}"


def _records(rows: Sequence[Mapping[str, Any]], paint: Paint, width: int | None) -> Iterator[str]:
    """A table of like mappings: a column for each key."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    columns = [
        Column(
            _label(key),
            right=_numbers(key, rows),
            shrink=True,
        )
        for key in keys
    ]
    cells = [[_cell(key, row.get(key)) for key in keys] for row in rows]
    for line in table.render(columns, cells, paint, width and width - 2):
        yield f"  {line}"


_HEXADECIMAL = ("spi", "reqid")
"""Numbers as plans and other commands write them."""


def _numbers(key: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return key not in _HEXADECIMAL and all(isinstance(row.get(key), int | float) for row in rows if key in row)


def _cell(key: str, value: Any) -> str:
    if key in _HEXADECIMAL and isinstance(value, int):
        return f"{value:#010x}"
    return _plain(value)


def _pairs(values: Mapping[str, Any], indent: int = 2) -> Iterator[str]:
    """`key  value` lines, aligned; nested mappings below their key."""
    width = max((len(_label(key)) for key in values), default=0)
    for key, value in values.items():
        label = _label(key)
        if isinstance(value, Mapping):
            if value:
                yield f"{' ' * indent}{label}"
                yield from _pairs(value, indent + 2)
        elif value not in (None, "", [], ()):
            yield f"{' ' * indent}{label:{max(width, 12)}} {_value(key, value)}"


def _value(key: str, value: Any) -> str:
    if key.endswith("_s") and isinstance(value, int | float):
        return duration(value)
    if key == "since":
        return f"{value} ({age(value)} ago)" if isinstance(value, str) else f"{age(value)} ago"
    return _cell(key, value)


def _plain(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_plain(item)}" for key, item in value.items())
    return printable(str(value))


def _label(key: str) -> str:
    name = key[:-2] if key.endswith("_s") else key
    return name.replace("_", " ")
