"""`kl2tp restart`: a new daemon in the place of the old one, and nobody notices."""

import argparse
import json
import time

from kl2tp.cli import exits
from kl2tp.cli.client import connect, running
from kl2tp.cli.options import DEFAULT_RUN_DIR, common, json_output

_DESCRIPTION = """\
Have the daemon end and the service manager start it anew, to take a new version into use: tunnels
and calls stay, with their addresses and traffic. (systemctl restart ends calls, unless
`keep_calls` is set.)"""
_PATIENCE_S = 30.0
_STEP_S = 0.1


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "restart", help="start the daemon anew; tunnels and calls stay", description=_DESCRIPTION
    )
    parser.add_argument("--no-wait", action="store_true", help="don't wait for the new daemon")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the old daemon, wait for the new one."""
    old = int(running(args).call("restart")["pid"])
    new = None if args.no_wait else _successor(args.run_dir or DEFAULT_RUN_DIR, old)
    if args.json:
        print(json.dumps({"old_pid": old, "new_pid": new}, indent=2))
    elif new is not None:
        print(f"The daemon runs anew, as process {new}.")
    return exits.OK


def _successor(run_dir: str, old: int) -> int:
    """The process id of the next daemon. Raises CommandError if none comes."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        try:
            if (daemon := connect(run_dir)) is not None:
                pid = int((daemon.call("status").get("daemon") or {}).get("pid") or 0)
                if pid not in (0, old):
                    return pid
        except exits.CommandError:
            pass  # it is on its way out, or in
        time.sleep(_STEP_S)
    raise exits.CommandError(
        f"no daemon came back within {_PATIENCE_S:.0f} seconds", "start it: systemctl start kl2tp; calls wait"
    )
