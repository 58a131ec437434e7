"""`kl2tp version`."""

import argparse
import os
import sys

from kl2tp import __version__
from kl2tp.cli import exits
from kl2tp.cli.options import common, json_output


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("version", help="print the version", description="Print the version.")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it; with `--json` also those of Python and the kernel."""
    if args.json:
        import json

        python = ".".join(map(str, sys.version_info[:3]))
        print(json.dumps({"kl2tp": __version__, "python": python, "kernel": os.uname().release}, indent=2))
    else:
        print(f"kl2tp {__version__}")
    return exits.OK
