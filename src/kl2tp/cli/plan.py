"""`kl2tp plan`: what `apply` would do."""

import argparse
import json
from fnmatch import fnmatchcase
from typing import Any

from kl2tp.cli import changes, exits, terminal
from kl2tp.cli.client import Answer, service
from kl2tp.cli.options import common, json_output

_DESCRIPTION = """\
Compare the configuration with the kernel and show what `kl2tp apply` would do, tunnel by
tunnel: + creates, ~ changes, - removes, ! cannot be done. Touches nothing."""
_EPILOG = """\
exit status:
  0  compared; with --detailed-exitcode: nothing to do
  1  failed
  2  the configuration is not valid; with --detailed-exitcode: there is something to do
  3  some tunnels have a problem"""
CHANGES = 2


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "plan",
        help="show what apply would do",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="TUNNEL", help="only these; patterns such as 'branch-*' too"
    )
    parser.add_argument("--summary", action="store_true", help="a line for each tunnel")
    parser.add_argument("--adopt", action="store_true", help="as `apply --adopt` would do it")
    parser.add_argument(
        "--detailed-exitcode",
        action="store_true",
        help="exit with 2 if there is something to do, 1 for every error",
    )
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    try:
        answer = _only(service(args).call("plan", adopt=args.adopt), args.names)
    except exits.CommandError as error:
        if args.detailed_exitcode:
            error.status = exits.FAILED
        raise
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        _show(answer, args)
    return _status(answer, args)


def _only(answer: Answer, patterns: list[str]) -> Answer:
    """The part of an answer that concerns the tunnels asked for."""
    if not patterns:
        return answer

    def wanted(unit: Any) -> bool:
        return any(fnmatchcase(str(unit), pattern) for pattern in patterns)

    return answer | {
        "operations": [o for o in answer.get("operations") or () if wanted(o.get("unit"))],
        "conflicts": [c for c in answer.get("conflicts") or () if wanted(c.get("unit"))],
        "problems": {unit: text for unit, text in (answer.get("problems") or {}).items() if wanted(unit)},
    }


def _show(answer: Answer, args: argparse.Namespace) -> None:
    paint = terminal.paint(args.no_color)
    operations = answer.get("operations") or ()
    counts = changes.counts(answer)
    for line in changes.brief(counts, paint) if args.summary else changes.full(operations, paint):
        print(line)
    for line in changes.obstacles(answer, paint):
        print(line)
    if operations:
        print(f"\nPlan: {changes.totals(counts, done=False)}.")
    elif not changes.has_obstacles(answer):
        print("Nothing to do: the kernel is as declared.")


def _status(answer: Answer, args: argparse.Namespace) -> int:
    if changes.has_obstacles(answer):
        return exits.FAILED if args.detailed_exitcode else exits.PARTLY
    return CHANGES if args.detailed_exitcode and answer.get("operations") else exits.OK
