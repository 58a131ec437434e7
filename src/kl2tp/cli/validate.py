"""`kl2tp validate`: whether a configuration is valid. Asks neither the kernel nor the daemon."""

import argparse
import json
import time
from typing import Any

from kl2tp.cli import exits
from kl2tp.cli.options import DEFAULT_CONFIG, common, json_output
from kl2tp.cli.units import counted, duration

_DESCRIPTION = """\
Read a configuration (and conf.d/*.yaml beside it) and print everything that is wrong with it,
each with its place, the bad value and a hint. Needs no privileges; reads no keys."""
_EPILOG = """\
exit status:
  0  valid
  1  the file cannot be read
  2  not valid"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "validate",
        help="check a configuration",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration (default: that of --config)")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Load the file, and print the problems or what is in it."""
    from pathlib import Path

    from kl2tp.config import ConfigError, load

    path = args.file or args.config or DEFAULT_CONFIG
    began = time.perf_counter()
    try:
        desired = load(Path(path))
    except ConfigError as error:
        if not args.json:
            raise invalid(path, error) from None
        problems = [_problem(problem) for problem in error.problems]
        print(json.dumps({"valid": False, "file": path, "problems": problems}, indent=2))
        return exits.USAGE
    if args.json:
        print(json.dumps({"valid": True, "file": path, "problems": [], **numbers(desired)}, indent=2))
    else:
        print(f"{path} is valid: {summary(desired)}; read in {duration(time.perf_counter() - began)}.")
    return exits.OK


def numbers(desired: Any) -> dict[str, int]:
    """How much there is of everything."""
    return {
        "tunnels": len(desired.tunnels),
        "sessions": sum(len(tunnel.sessions) for tunnel in desired.tunnels),
        "protected": sum(1 for tunnel in desired.tunnels if tunnel.ipsec or tunnel.ike),
        "lns": len(desired.lns),
        "lac": len(desired.lac),
        "pools": len(desired.pools),
    }


def summary(desired: Any) -> str:
    """The same in words, of what there is."""
    count = numbers(desired)
    parts = []
    if count["tunnels"] or not (count["lns"] or count["lac"]):
        parts += [f"{counted(count['tunnels'], 'tunnel')} ({count['protected']:,} with IPsec)"]
        parts += [counted(count["sessions"], "session")]
    for kind, noun in (("lns", "LNS profile"), ("lac", "LAC call"), ("pools", "pool")):
        parts += [counted(count[kind], noun)] if count[kind] else []
    return ", ".join(parts)


def invalid(path: str, error: Any) -> exits.CommandError:
    """A ConfigError as the error of a command."""
    problems = [_problem(problem) for problem in error.problems]
    return exits.CommandError(
        f"{path} is not valid: {counted(len(problems), 'problem')}", problems=problems, status=exits.USAGE
    )


def _problem(problem: Any) -> dict[str, Any]:
    """A problem as JSON values."""
    found = {}
    for name in ("message", "value", "hint"):
        if (value := getattr(problem, name, None)) not in (None, ""):
            found[name] = str(value)
    where = getattr(problem, "where", None)
    place: dict[str, Any] = {}
    if where is not None:
        place = {"where": str(where) if where.line else where.file, "file": where.file}
        place |= {"line": where.line, "column": where.column} if where.line else {}
    return place | found if found else {"message": str(problem)}
