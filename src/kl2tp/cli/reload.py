"""`kl2tp reload`: the daemon takes the configuration file as it is now."""

import argparse
import json

from kl2tp.cli import exits
from kl2tp.cli.client import Local, connect, service
from kl2tp.cli.options import DEFAULT_RUN_DIR, common, json_output

_DESCRIPTION = """\
Have the daemon read its configuration again and apply the difference: tunnels that did not
change are not touched. If the new file is not valid, nothing changes and the problems are printed."""
_EPILOG = """\
exit status:
  0  the daemon has taken the new configuration
  1  failed
  2  the new configuration is not valid; the old one stands"""
_COUNTS = ("added", "changed", "removed", "unchanged")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "reload",
        help="have the daemon read its configuration again",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the daemon."""
    if connect(args.run_dir or DEFAULT_RUN_DIR) is None:
        message = f"no daemon runs at {args.run_dir or DEFAULT_RUN_DIR}"
        raise exits.CommandError(message, "start it: systemctl start kl2tp; without one use: kl2tp apply")
    worker = service(args)
    assert not isinstance(worker, Local)
    answer = worker.call("reload")
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        counts = [f"{answer[key]:,} {key}" for key in _COUNTS if key in answer]
        print(f"Reloaded: {', '.join(counts)}.")
    return exits.OK
