"""`kl2tp daemon`: run in the foreground, as systemd wants it."""

import argparse
import os

from kl2tp.cli.options import DEFAULT_CONFIG, DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, common

_DESCRIPTION = """\
Make the kernel as declared and keep it so: watch it, repair what drifts, retry what failed.
Runs in the foreground; SIGHUP reads the configuration again, SIGTERM ends it. Declared tunnels
stay when it ends: they are the kernel's. Calls end properly, unless `keep_calls` is set; SIGUSR2
ends the daemon and leaves calls to the next one, as `kl2tp restart` does."""
LEVELS = ("debug", "info", "warning", "error")


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "daemon",
        help="keep the kernel as declared",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--log-level", choices=LEVELS, help="how much to log (default: as configured)")
    parser.add_argument(
        "--state-dir", metavar="DIR", help=f"what a reboot shall not forget (default {DEFAULT_STATE_DIR})"
    )
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Hand over to the daemon."""
    from kl2tp.daemon.main import run as run_daemon

    args.config = args.config or DEFAULT_CONFIG
    args.run_dir = args.run_dir or DEFAULT_RUN_DIR
    args.state_dir = args.state_dir or os.environ.get("STATE_DIRECTORY") or DEFAULT_STATE_DIR
    return int(run_daemon(args))
