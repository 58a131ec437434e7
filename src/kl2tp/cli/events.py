"""`kl2tp events`: what happens to sessions, as it happens."""

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from kl2tp.cli import exits, terminal
from kl2tp.cli.client import running
from kl2tp.cli.options import common, json_output
from kl2tp.cli.terminal import printable

_DESCRIPTION = """\
Follow what happens to tunnels and sessions of L2TP calls: one line each, until interrupted. With
--json one JSON object a line, for programs."""
_STYLES = {
    "session-up": "green",
    "session-down": "yellow",
    "refused": "red",
    "tunnel-refused": "red",
    "tunnel-suspended": "yellow",
    "tunnel-resumed": "green",
    "lost": "red",
}
_HEAD = ("event", "time", "session")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("events", help="follow what happens to sessions", description=_DESCRIPTION)
    parser.add_argument("--max", type=int, default=0, metavar="N", help="end after so many")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print events until there have been enough, or the daemon goes."""
    paint = terminal.paint(args.no_color)

    def hear(event: Mapping[str, Any]) -> None:
        if event.get("event") == "idle":  # a sign of life
            return
        print(json.dumps(event) if args.json else line(event, paint), flush=True)

    running(args).call("events", hear, limit=args.max)
    return exits.OK


def line(event: Mapping[str, Any], paint: terminal.Paint) -> str:
    """An event for people."""
    kind = str(event.get("event", ""))
    when = float(event.get("time") or 0)
    moment = datetime.fromtimestamp(when, UTC).astimezone().strftime("%H:%M:%S") if when else ""
    rest = " ".join(f"{key}={value}" for key, value in event.items() if key not in _HEAD and value not in (None, ""))
    text = paint(f"{kind:12}", _STYLES.get(kind, "bold"))
    return printable(f"{moment} ") + text + printable(f" {event.get('session', '')} {rest}".rstrip())
