"""`kl2tp status`: how tunnels and calls are."""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from kl2tp.cli import calls, exits, table, terminal
from kl2tp.cli.client import Answer, service
from kl2tp.cli.options import common, json_output
from kl2tp.cli.table import Cell, Column
from kl2tp.cli.units import age, duration, number

_DESCRIPTION = """\
Show the daemon, the tunnels and calls: which tunnels are as declared, which are not, why, and when
the next attempt is; how many sessions there are, and what became of the calls that we place. (Who
is connected: kl2tp sessions.)"""
_EPILOG = """\
exit status:
  0  all tunnels are as declared, all calls that we place are up
  1  failed
  3  some are not"""

STATES = {
    "up": "green",
    "failed": "red",
    "conflict": "red",
    "pending": "yellow",
    "waiting for IKE": "yellow",
    "rekeying": "cyan",
    "down": "dim",
}
GOOD = ("up", "rekeying")
_COLUMNS = (
    Column("TUNNEL", shrink=True),
    Column("STATE"),
    Column("LOCAL"),
    Column("REMOTE"),
    Column("ENCAP"),
    Column("IPSEC"),
    Column("SESSIONS", right=True),
    Column("SINCE", right=True),
    Column("TRIES", right=True),
    Column("NEXT", right=True),
    Column("PROBLEM", shrink=True),
)


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "status",
        help="show how tunnels and calls are",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="TUNNEL", help="only these tunnels and calls; patterns such as 'branch-*' too"
    )
    parser.add_argument("--problems", action="store_true", help="only what is not as declared")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the state."""
    answer = service(args).call("status")
    answer["tunnels"] = tunnels = list(_chosen(answer.get("tunnels") or (), args))
    placed: list[Mapping[str, Any]] = []
    if served := answer.get("calls"):
        served["lac"] = placed = list(_chosen(served.get("lac") or (), args))
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        paint = terminal.paint(args.no_color)
        for line in text(answer, paint, terminal.width()):
            print(line)
    return exits.OK if all(entry.get("state") in GOOD for entry in (*tunnels, *placed)) else exits.PARTLY


def _chosen(tunnels: Iterable[Mapping[str, Any]], args: argparse.Namespace) -> Iterator[Mapping[str, Any]]:
    for tunnel in tunnels:
        if args.problems and tunnel.get("state") == "up" and not tunnel.get("problem"):
            continue
        if not args.names or any(fnmatchcase(str(tunnel.get("name")), pattern) for pattern in args.names):
            yield tunnel


def text(answer: Answer, paint: terminal.Paint, width: int | None) -> Iterator[str]:
    """The state for people."""
    yield from _daemon(answer.get("daemon"), paint)
    served, counts = answer.get("calls"), answer.get("counts") or {}
    if counts.get("tunnels") or not (served or answer.get("unserved")):
        yield _counts(counts, paint)
    if (drift := answer.get("drift")) and (drift.get("seen") or not served):
        yield f"Drift: {number(drift.get('seen', 0))} seen, {number(drift.get('repaired', 0))} repaired"
    if unserved := answer.get("unserved"):
        yield paint(calls.not_served(unserved), "yellow")
    if unnegotiated := answer.get("unnegotiated"):
        yield paint(calls.not_negotiated(unnegotiated), "yellow")
    if (ike := answer.get("ike")) is not None:
        yield from calls.ike(ike, paint)
    if tunnels := answer.get("tunnels"):
        yield ""
        yield from table.render(_COLUMNS, [_row(tunnel) for tunnel in tunnels], paint, width)
    if served:
        yield ""
        yield from calls.text(served, paint, width)


def _daemon(daemon: Mapping[str, Any] | None, paint: terminal.Paint) -> Iterator[str]:
    if daemon is None:
        yield "Daemon: not running; drift is not repaired"
        return
    parts = [f"pid {daemon['pid']}"] if daemon.get("pid") else []
    if daemon.get("version"):
        parts.append(f"version {daemon['version']}")
    if daemon.get("uptime_s") is not None:
        parts.append(f"up {duration(daemon['uptime_s'])}")
    if daemon.get("config"):
        parts.append(str(daemon["config"]))
    if daemon.get("resync_in_s") is not None:
        parts.append(f"full comparison in {duration(daemon['resync_in_s'])}")
    if daemon.get("longest_stall_ms") is not None:
        parts.append(f"longest stall {daemon['longest_stall_ms']:.1f} ms")
    yield f"Daemon: {', '.join(parts)}"
    if daemon.get("suspended"):
        text = "Taken down by `kl2tp down`; stays so until `kl2tp apply` or `kl2tp reload`"
        yield paint(text, "yellow", "bold")


def _counts(counts: Mapping[str, Any], paint: terminal.Paint) -> str:
    tunnels = int(counts.get("tunnels") or 0)
    parts = [
        paint(f"{number(value)} {key}", STATES.get(key, "bold"))
        for key, value in counts.items()
        if key != "tunnels" and value
    ]
    return f"Tunnels: {number(tunnels)}" + (f": {', '.join(parts)}" if parts else "")


def _row(tunnel: Mapping[str, Any]) -> list[str | Cell]:
    state = str(tunnel.get("state") or "-")
    retry = tunnel.get("next_retry_s")
    tries = tunnel.get("tries")
    return [
        str(tunnel.get("name", "")),
        Cell(state, (STATES.get(state, "bold"),)),
        str(tunnel.get("local") or ""),
        str(tunnel.get("remote") or ""),
        str(tunnel.get("encapsulation") or ""),
        _ipsec(tunnel.get("ipsec")),
        _sessions(tunnel.get("sessions")),
        age(tunnel.get("since")) if tunnel.get("since") else "",
        str(tries) if tries else "",
        duration(retry) if retry is not None else "",
        Cell(str(tunnel.get("problem") or ""), ("red",)),
    ]


def _ipsec(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value.get("cipher") or "yes")
    if isinstance(value, bool):
        return "yes" if value else ""
    return str(value or "")


def _sessions(value: Any) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int | str) else str(len(value))
