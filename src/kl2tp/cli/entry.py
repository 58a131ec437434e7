"""The entry point: finds the command, loads its module alone, and turns what goes wrong into two lines."""

import argparse
import importlib
import keyword
import os
import sys
from collections.abc import Collection, Sequence

from kl2tp import __version__
from kl2tp.cli import exits, options
from kl2tp.cli.options import Parser
from kl2tp.cli.overview import COMMANDS, overview


class Root(Parser):
    """The parser of the whole command line; its help is the overview."""

    def format_help(self) -> str:
        """What newcomers read."""
        return overview()

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Refuse a command that is none, with the nearest that is."""
        if isinstance(action, argparse._SubParsersAction) and value not in COMMANDS:
            from difflib import get_close_matches

            near = get_close_matches(str(value), COMMANDS, 1)
            self.error(f"there is no command {value!r}" + (f"; did you mean {near[0]}?" if near else ""))
        super()._check_value(action, value)


def build(load: Collection[str]) -> Parser:
    """The command line; only the commands in `load` are there in full, the others by name."""
    root = Root(prog="kl2tp")
    root.add_argument("--version", action="version", version=f"kl2tp {__version__}")
    options.common(root)
    root.set_defaults(config=None, run_dir=None, no_color=False, run=None)
    commands = root.add_subparsers(metavar="COMMAND", dest="command", parser_class=Parser)
    for name, summary in COMMANDS.items():
        if name in load:
            importlib.import_module(f"kl2tp.cli.{_module(name)}").add_parser(commands)
        else:
            commands.add_parser(name, help=summary)
    return root


def _module(command: str) -> str:
    """The module of a command: called like it, unless Python has that word for itself."""
    return f"{command}_" if keyword.iskeyword(command) else command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        status = _run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        return _pipe_broken()
    except KeyboardInterrupt:
        print("\nkl2tp: interrupted", file=sys.stderr)
        return exits.INTERRUPTED
    return status


def _run(given: list[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
    try:
        args = build(set(given) & COMMANDS.keys()).parse_args(given)
        if args.run is None:
            print(overview(), end="")
            return exits.OK
        return int(args.run(args))
    except SystemExit as end:  # argparse: help, version, wrong usage
        return end.code if isinstance(end.code, int) else exits.FAILED
    except exits.CommandError as error:
        sys.stdout.flush()
        print("\n".join(error.lines()), file=sys.stderr)
        return error.status
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"kl2tp: error: {where}{error.strerror or error}", file=sys.stderr)
        return exits.FAILED


def _pipe_broken() -> int:
    """Whoever read our output has gone: end as if by SIGPIPE, and let Python's exit be silent too."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    return exits.BROKEN_PIPE
