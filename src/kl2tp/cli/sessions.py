"""`kl2tp sessions`: who is connected."""

import argparse
import json
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from kl2tp.cli import calls, exits, table, terminal
from kl2tp.cli.client import Answer, running
from kl2tp.cli.options import common, json_output
from kl2tp.cli.table import Cell, Column
from kl2tp.cli.units import age, counted, duration, number, size

_DESCRIPTION = """\
Show the sessions of accepted and placed L2TP calls: user, addresses, peer, age, traffic. With
--ended those that ended lately, and why."""
_EPILOG = """\
A PATTERN is compared with session, user, interface, address and peer: 'alice', '10.9.*'.

exit status:
  0  done
  1  failed, or no daemon runs"""

STATES = tuple(state for state in calls.STATES if state not in ("stopped", "waiting for IKE"))
_MATCHED = ("session", "user", "interface", "address", "prefix", "peer", "profile")
_SORTS = ("session", "user", "interface", "address", "peer", "profile", "since", "rx", "tx")
_COLUMNS = (
    Column("SESSION"),
    Column("STATE"),
    Column("USER", shrink=True),
    Column("INTERFACE"),
    Column("ADDRESS"),
    Column("PREFIX"),
    Column("PEER"),
    Column("IPSEC", shrink=True),
    Column("PROFILE", shrink=True),
    Column("SINCE", right=True),
    Column("RECEIVED", right=True),
    Column("SENT", right=True),
)
_ENDED = (
    Column("SESSION"),
    Column("USER", shrink=True),
    Column("ADDRESS"),
    Column("PEER"),
    Column("PROFILE", shrink=True),
    Column("ENDED", right=True),
    Column("LASTED", right=True),
    Column("WHY", shrink=True),
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "sessions",
        help="show who is connected",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("patterns", nargs="*", metavar="PATTERN", help="only what matches one of these")
    parser.add_argument("--profile", metavar="NAME", help="only sessions of this profile")
    parser.add_argument("--state", choices=STATES, metavar="STATE", help=f"only these: {', '.join(STATES)}")
    parser.add_argument("--sort", choices=_SORTS, default="session", metavar="KEY", help=f"by {', '.join(_SORTS)}")
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--ended", action="store_true", help="those that ended lately, and why")
    parser.add_argument("--count", action="store_true", help="only how many")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print them."""
    answer = running(args).call("sessions", ended=args.ended, counters=not args.ended and not args.count)
    rows = [row for row in answer["sessions"] if _wanted(row, args)]
    rows.sort(key=lambda row: _sort_key(row, args.sort), reverse=args.reverse)
    answer["sessions"] = rows
    if args.json:
        print(json.dumps(answer, indent=2))
    elif args.count:
        print(len(rows))
    else:
        for line in text(answer, terminal.paint(args.no_color), terminal.width(), ended=args.ended):
            print(line)
    return exits.OK


def _wanted(row: Mapping[str, Any], args: argparse.Namespace) -> bool:
    if args.profile and row.get("profile") != args.profile:
        return False
    if args.state and row.get("state") != args.state:
        return False
    values = [str(row[key]) for key in _MATCHED if row.get(key)]
    return not args.patterns or any(fnmatchcase(value, pattern) for value in values for pattern in args.patterns)


def _sort_key(row: Mapping[str, Any], key: str) -> tuple[Any, ...]:
    value = row.get({"rx": "rx_bytes", "tx": "tx_bytes"}.get(key, key))
    if key in ("address", "peer") and value:
        from ipaddress import ip_address

        address = ip_address(str(value).partition(" ")[0])
        return (address.version, int(address))
    if key == "session":
        return tuple(int(part) for part in str(value).split(".") if part.isdecimal())
    if key in ("rx", "tx"):
        return (value or 0,)
    return (str(value or ""),)


def text(answer: Answer, paint: terminal.Paint, width: int | None, *, ended: bool) -> Iterator[str]:
    """The sessions for people."""
    rows = answer["sessions"]
    if not rows:
        yield "No session has ended lately." if ended else "No sessions."
        return
    if ended:
        yield from table.render(_ENDED, [_ended_row(row) for row in rows], paint, width)
        return
    yield from table.render(_COLUMNS, [_row(row) for row in rows], paint, width)
    yield ""
    counts = answer.get("counts") or {}
    parts = [f"{number(n)} {state}" for state, n in counts.items() if n and state in STATES]
    yield f"{counted(len(rows), 'session')}" + (f" (in all: {', '.join(parts)})" if parts else "")


def _row(row: Mapping[str, Any]) -> list[str | Cell]:
    state = str(row.get("state") or "-")
    return [
        str(row.get("session", "")),
        Cell(state, (calls.STATES.get(state, "bold"),)),
        str(row.get("user") or ""),
        str(row.get("interface") or ""),
        str(row.get("address") or ""),
        str(row.get("prefix") or ""),
        str(row.get("peer") or ""),
        _ipsec(row.get("ipsec")),
        str(row.get("profile") or ""),
        age(row.get("since")),
        size(row["rx_bytes"]) if row.get("rx_bytes") is not None else "",
        size(row["tx_bytes"]) if row.get("tx_bytes") is not None else "",
    ]


def _ipsec(found: Mapping[str, Any] | None) -> Cell:
    """Who the client is to IKE."""
    if not found:
        return Cell("")
    name = str(found.get("identity") or "yes")
    return Cell(f"{name} (waits)", ("yellow",)) if found.get("suspended") else Cell(name)


def _ended_row(row: Mapping[str, Any]) -> list[str | Cell]:
    return [
        str(row.get("session", "")),
        str(row.get("user") or ""),
        str(row.get("address") or ""),
        str(row.get("peer") or ""),
        str(row.get("profile") or ""),
        age(row.get("ended")),
        duration(row.get("lasted_s") or 0),
        str(row.get("reason") or ""),
    ]
