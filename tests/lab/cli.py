"""The command line."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from . import build, uml
from .cache import cache_directory
from .errors import Exit, LabError
from .job import Job, guest_environment

KERNELS = (*build.VERSIONS, "native", "vng")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one lab command; errors that a user can mend are two lines, not a traceback."""
    options = parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.code


def parser() -> argparse.ArgumentParser:
    root = argparse.ArgumentParser(prog="lab")
    commands = root.add_subparsers(required=True)
    run = commands.add_parser("run")
    run.add_argument("--kernel", default="6.12", choices=("6.12", "6.1"))
    run.add_argument("--mem", default="3G")
    run.add_argument("--timeout", type=float, default=1800)
    run.add_argument("--writable", action="append", default=[])
    run.add_argument("--env", action="append", default=[])
    run.add_argument("-i", "--interactive", action="store_true")
    run.add_argument("-v", "--verbose", action="store_true")
    run.add_argument("argv", nargs=argparse.REMAINDER)
    run.set_defaults(run=command_run)
    return root


def command_run(options: argparse.Namespace) -> int:
    writable = tuple(Path(p).absolute() for p in options.writable)
    for path in writable:
        path.mkdir(parents=True, exist_ok=True)
    job = Job(argv=tuple(options.argv[1:] if options.argv[:1] == ['--'] else options.argv), env=guest_environment(os.environ, options.env, kernel=options.kernel),
              cwd=Path.cwd(), writable=writable, memory=options.mem, timeout=options.timeout,
              interactive=options.interactive, verbose=options.verbose)
    return uml.run(job, options.kernel)
