"""The command line."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import build, native, packages, uml, vng
from .cache import cache_directory, locked
from .errors import Exit, LabError
from .job import Job, guest_environment
from .terminal import is_terminal

KERNELS = (*build.VERSIONS, "native", "vng")

OVERVIEW = """\
Run a command as root on a Linux kernel that has L2TP, PPP and IPsec, whatever this machine's kernel has.

The command sees this machine's files, programs and Python, but what it writes vanishes when it ends,
except in directories given with --writable. The kernel is built on first use (about 5 minutes) and then
boots in half a second.
"""

EXAMPLES = """\
examples:
  lab run -- uname -a                                   one command on the default kernel
  lab run -i -- bash                                    a shell to look around
  lab run --writable build -- python -m pytest tests/kernel --junitxml=build/kernel.xml
  lab run --kernel 6.1 --mem 1G --timeout 60 -- ip l2tp show tunnel
  lab build all                                         build both kernels now
  lab status                                            which kernels there are

exit codes: the command's own, 128 + N if signal N killed it; 123 the kernel panicked, 124 out of time,
125 the lab failed, 126 and 127 the command could not be run, was not found.
"""

RUN_USAGE = "lab run [OPTION ...] -- COMMAND [ARGUMENT ...]"
KERNEL_HELP = """\
6.12 or 6.1: User Mode Linux, built from Debian's sources (default 6.12; no root needed once built);
native: this machine's own kernel (root); vng: Debian's stock kernel under QEMU, slow but multiprocessor
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one lab command; errors that a user can mend are two lines, not a traceback."""
    options = make_parser().parse_args(arguments)
    try:
        return int(options.action(options))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    raw = argparse.RawDescriptionHelpFormatter
    texts: dict[str, Any] = {"description": OVERVIEW, "epilog": EXAMPLES, "formatter_class": raw}
    parser = argparse.ArgumentParser(prog="lab", **texts)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    add_run(commands.add_parser("run", usage=RUN_USAGE, help="run a command on a kernel", **texts))

    builder = commands.add_parser("build", help="build a kernel if it is not there yet")
    builder.add_argument("version", nargs="?", default="6.12", choices=(*build.VERSIONS, "all"))
    builder.add_argument("--update", action="store_true", help="also if Debian has newer sources by now")
    builder.set_defaults(action=command_build)

    status = commands.add_parser("status", aliases=["list"], help="show the kernels in the cache")
    status.set_defaults(action=command_status)

    packages_ = commands.add_parser("packages", help="install Debian packages that are missing (as root)")
    packages_.add_argument("names", nargs="+", metavar="PACKAGE")
    packages_.set_defaults(action=command_packages)

    clean = commands.add_parser("clean", help="remove kernels that the present recipe no longer gives")
    clean.add_argument("--all", action="store_true", help="remove everything that the lab keeps")
    clean.set_defaults(action=command_clean)
    return parser


def add_run(parser: argparse.ArgumentParser) -> None:
    """The options of `lab run`."""
    option = parser.add_argument
    option("--kernel", default="6.12", choices=KERNELS, metavar="KERNEL", help=KERNEL_HELP)
    option("--mem", default="3G", metavar="SIZE", help="the guest's memory, taken as it is used (default 3G)")
    option("--timeout", type=seconds, default=1800, metavar="SECONDS", help="end a hang (default 1800)")
    several: dict[str, Any] = {"action": "append", "default": []}
    option("--writable", **several, type=Path, metavar="DIR", help="keep what is written there; repeatable")
    option("--env", **several, metavar="NAME[=VALUE]", help="pass a variable; repeatable")
    option("-i", "--interactive", action="store_true", help="give the command this terminal")
    option("-v", "--verbose", action="store_true", help="show the kernel's messages")
    option("command", nargs=argparse.REMAINDER, metavar="-- COMMAND ...", help="what to run")
    parser.set_defaults(action=command_run, parser=parser)


def seconds(text: str) -> float:
    """A positive number."""
    value = float(text)
    if value <= 0:
        raise ValueError
    return value


def command_run(options: argparse.Namespace) -> int:
    """`lab run`"""
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    if not argv:
        raise LabError("no command to run", hint="lab run -- uname -a", code=Exit.USAGE)
    if options.interactive and not is_terminal():
        raise LabError("--interactive needs a terminal on stdin and stdout", code=Exit.USAGE)
    job = Job(
        argv=tuple(argv),
        env=guest_environment(os.environ, options.env, kernel=options.kernel),
        cwd=Path.cwd(),
        writable=tuple(make_writable(path) for path in options.writable),
        memory=options.mem,
        timeout=options.timeout,
        interactive=options.interactive,
        verbose=options.verbose,
    )
    match options.kernel:
        case "native":
            return native.run(job)
        case "vng":
            return vng.run(job)
        case version:
            return uml.run(job, version)


def make_writable(path: Path) -> Path:
    """The directory that the guest will write to, made if it is not there."""
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabError(f"--writable {path}: {error.strerror}", code=Exit.USAGE) from None
    return path.resolve()


def command_build(options: argparse.Namespace) -> int:
    """`lab build`"""
    for version in build.VERSIONS if options.version == "all" else (options.version,):
        build.build(version, update=options.update)
    build.require_init()
    return 0


def command_status(_options: argparse.Namespace) -> int:
    """`lab status`"""
    print(f"cache: {cache_directory()}")
    for version in build.VERSIONS:
        kernel = build.cached(version)
        print(f"{version:7} {f'built from {kernel.source}' if kernel else 'not built yet'}")
    print(f"vng     {vng.describe()}")
    return 0


def command_packages(options: argparse.Namespace) -> int:
    """`lab packages`"""
    packages.need_packages(options.names)
    return 0


def command_clean(options: argparse.Namespace) -> int:
    """`lab clean`"""
    keep = set() if options.all else {k.directory for v in build.VERSIONS if (k := build.cached(v))}
    with locked("uml-6.12"), locked("uml-6.1"):
        patterns = ["uml-*-*", "init-*", "failed-build.log", *(["vng"] if options.all else [])]
        for path in (p for pattern in patterns for p in cache_directory().glob(pattern)):
            if path not in keep and path.suffix != ".lock":
                print(f"removing {path}")
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return 0
