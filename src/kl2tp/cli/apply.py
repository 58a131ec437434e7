"""`kl2tp apply`: make the kernel as declared."""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from kl2tp.cli import calls, changes, exits, terminal
from kl2tp.cli.client import Answer, service
from kl2tp.cli.options import common, json_output
from kl2tp.cli.units import counted, duration

_DESCRIPTION = """\
Make the kernel as the configuration declares it, and print what was done. A second run
does nothing. What kl2tp did not make is never touched, unless --adopt is given.
Where a daemon runs, it does the work."""
_EPILOG = """\
exit status:
  0  everything is as declared
  1  failed
  2  the configuration is not valid; nothing was touched
  3  some tunnels have a problem, all others are as declared"""

FULL_UP_TO = 20
"""Tunnels of which every operation is shown without being asked."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "apply",
        help="make the kernel as declared",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--adopt", action="store_true", help="take over what others made in the place of ours"
    )
    parser.add_argument("--no-wait", action="store_true", help="return before a change of keys is complete")
    output(parser)
    parser.set_defaults(run=run)


def output(parser: argparse.ArgumentParser) -> None:
    """Options of the commands that change the kernel."""
    parser.add_argument("-v", "--verbose", action="store_true", help="every operation, however many")
    parser.add_argument("-q", "--quiet", action="store_true", help="only problems")
    json_output(parser)
    common(parser)


def run(args: argparse.Namespace) -> int:
    """Apply, and print what was done."""
    worker = service(args)
    progress = terminal.Progress(enabled=not args.json and not args.quiet)
    try:
        answer = worker.call("apply", progress, adopt=args.adopt, wait=not args.no_wait, detail=detail(args))
    finally:
        progress.clear()
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        show(answer, args, nothing="Nothing to do: {tunnels} as declared.", remote=worker.remote)
    return exits.PARTLY if changes.has_obstacles(answer) else exits.OK


def detail(args: argparse.Namespace) -> bool:
    """Whether every operation is wanted, however many."""
    return bool(args.verbose or args.json)


def show(answer: Answer, args: argparse.Namespace, *, nothing: str, remote: bool) -> None:
    """Print what was done; `nothing` if that is nothing."""
    paint = terminal.paint(args.no_color)
    if not args.quiet:
        counts, operations = changes.counts(answer), answer.get("operations") or ()
        full = operations and (args.verbose or len(counts) <= FULL_UP_TO)
        for line in changes.full(operations, paint) if full else changes.brief(counts, paint):
            print(line)
    for line in changes.obstacles(answer, paint):
        print(line, file=sys.stderr if args.quiet else sys.stdout)
    if not args.quiet:
        for line in _conclusion(answer, nothing, remote=remote):
            print(line)
    sys.stdout.flush()


def _conclusion(answer: Answer, nothing: str, *, remote: bool) -> Iterator[str]:
    counts = changes.counts(answer)
    took = f" ({_cost(answer)})" if answer.get("seconds") is not None else ""
    if counts:
        yield f"\nDone: {changes.totals(counts, done=True)}{took}."
    elif not changes.has_obstacles(answer) and nothing:
        tunnels = answer.get("tunnels")
        count = (
            counted(tunnels, "tunnel") + (" is" if tunnels == 1 else " are")
            if tunnels is not None
            else "all is"
        )
        yield nothing.format(tunnels=count) if not took else f"{nothing.format(tunnels=count)[:-1]}{took}."
    if waiting := answer.get("waiting"):
        yield _waiting(waiting, remote=remote)
    if unserved := answer.get("unserved"):
        yield f"{calls.not_served(unserved)}; start it: systemctl start kl2tp"
    if tunnels := answer.get("unnegotiated"):
        yield f"{calls.not_negotiated(tunnels)}; start it: systemctl start kl2tp"


def _waiting(waiting: Mapping[str, Any], *, remote: bool) -> str:
    verb = "changes" if len(waiting) == 1 else "change"
    next_step = duration(min(waiting.values()))
    who = "by the daemon" if remote else "by the next `kl2tp apply`"
    return f"{counted(len(waiting), 'tunnel')} {verb} keys: the next step is due in {next_step}, {who}."


def _cost(answer: Answer) -> str:
    text = f"in {duration(answer['seconds'])}"
    if (sent := answer.get("sent")) is not None:
        text += f", {counted(sent, 'message')} to the kernel"
    return text
