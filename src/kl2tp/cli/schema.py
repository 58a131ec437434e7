"""`kl2tp schema`: the reference of the configuration language."""

import argparse
import json

from kl2tp.cli import exits
from kl2tp.cli.options import common, json_output

_DESCRIPTION = """\
Print every key that a configuration may have, with its values, its default and an example.
It comes from the table that also checks configurations."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "schema", help="print the reference of the configuration", description=_DESCRIPTION
    )
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the reference."""
    from kl2tp.config.schema import as_json, reference

    print(json.dumps(as_json(), indent=2) if args.json else reference().rstrip("\n"))
    return exits.OK
