"""`kl2tp doctor`: what this machine lacks."""

import argparse

from kl2tp.cli import exits
from kl2tp.cli.options import common, json_output


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser("doctor", help="find out what this machine lacks")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings."""
    raise exits.CommandError("not there yet")
