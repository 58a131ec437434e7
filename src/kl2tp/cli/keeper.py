"""`kl2tp keeper`: the process that holds the descriptors of calls while the daemon is away."""

import argparse

from kl2tp.cli.options import DEFAULT_RUN_DIR, common

_DESCRIPTION = """\
Hold the sockets of tunnels and calls for the daemon, so that calls outlive it: whoever holds
the last of them must stay, and this process has little to stumble over. Runs in the
foreground; SIGTERM ends it. While the daemon runs, nothing is lost by that."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "keeper",
        help="hold the sockets of calls while the daemon is away",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Become the keeper: the same process, without all that the command line needed."""
    import os
    import sys
    from pathlib import Path

    import kl2tp

    where = str(Path(kl2tp.__file__).parents[1])
    code = f"import sys; sys.path.append({where!r}); from kl2tp.keeper.holder import main; sys.exit(main(sys.argv[1]))"
    command = [sys.executable, "-I", "-S", "-c", code, args.run_dir or DEFAULT_RUN_DIR]
    os.execv(sys.executable, command)
