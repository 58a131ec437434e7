"""`kl2tp down`: take everything away that kl2tp made."""

import argparse
import json
import sys

from kl2tp.cli import apply, changes, exits, terminal
from kl2tp.cli.client import Service, service
from kl2tp.cli.units import counted

_DESCRIPTION = """\
Take down all that kl2tp made: calls, sessions and tunnels first, their protection last. What
others made stays. A daemon that runs keeps everything down until `kl2tp apply` or `kl2tp reload`.
(To stop only the daemon, and keep the tunnels: systemctl stop kl2tp.)"""
_EPILOG = """\
exit status:
  0  nothing of it is left
  1  failed, or not confirmed
  3  something could not be taken down"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "down",
        help="take everything down that kl2tp made",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-y", "--yes", action="store_true", help="don't ask")
    apply.output(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, take down, and print what was done."""
    worker = service(args)
    if not args.yes:
        _confirm(worker)
    progress = terminal.Progress(enabled=not args.json and not args.quiet)
    try:
        answer = worker.call("down", progress, detail=apply.detail(args))
    finally:
        progress.clear()
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        apply.show(answer, args, nothing="Nothing to do: there is nothing of kl2tp's.", remote=worker.remote)
    return exits.PARTLY if changes.has_obstacles(answer) else exits.OK


def _confirm(worker: Service) -> None:
    """Ask the person at the terminal. Raises CommandError if there is none, or they don't want to."""
    if not sys.stdin.isatty():
        message = "this takes all tunnels down, and there is no terminal on which to ask"
        raise exits.CommandError(message, "kl2tp down --yes", status=exits.USAGE)
    count = (worker.call("status").get("counts") or {}).get("tunnels")
    what = counted(count, "tunnel") if isinstance(count, int) else "all tunnels"
    print(f"Take down {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise exits.CommandError("nothing was touched")
