"""`kl2tp disconnect`: end sessions."""

import argparse
import json

from kl2tp.cli import exits
from kl2tp.cli.client import running
from kl2tp.cli.options import common, json_output
from kl2tp.cli.units import counted

_DESCRIPTION = """\
End sessions properly: PPP is terminated, the call cleared, the device taken away. A call of our
own (lac) is placed again if its profile says so: take it out of the configuration to end it for good."""
_EPILOG = """\
A PATTERN is compared with session, user, interface, address and peer: 'alice', '10.9.*'.

exit status:
  0  done
  1  failed, or nothing matched"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "disconnect",
        help="end sessions",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("patterns", nargs="+", metavar="PATTERN", help="the sessions that match one of these")
    parser.add_argument("--reason", default="", metavar="TEXT", help="what the peer and the journal are told")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Have the daemon end them."""
    answer = running(args).call("disconnect", patterns=args.patterns, reason=args.reason)
    ended = answer["sessions"]
    if args.json:
        print(json.dumps(answer, indent=2))
    elif not ended:
        raise exits.CommandError("no session matches", "list them with: kl2tp sessions")
    else:
        print(f"Ended {counted(len(ended), 'session')}: {', '.join(ended[:20])}{' ...' if len(ended) > 20 else ''}")
    return exits.OK if ended else exits.FAILED
