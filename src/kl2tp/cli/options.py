"""Options that many commands share. They may stand before or after the command."""

import argparse
from typing import NoReturn

DEFAULT_CONFIG = "/etc/kl2tp/kl2tp.yaml"
DEFAULT_RUN_DIR = "/run/kl2tp"
DEFAULT_STATE_DIR = "/var/lib/kl2tp"


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like all others, and which takes no abbreviations: scripts outlive them."""

    def __init__(self, **settings: object) -> None:
        settings.setdefault("allow_abbrev", False)
        super().__init__(**settings)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Refuse the command line: two lines, exit status 2."""
        self.exit(2, f"kl2tp: error: {message}\nhint: {self.prog} --help\n")


def common(parser: argparse.ArgumentParser) -> None:
    """`--config`, `--run-dir` and `--no-color`; a command's own win over those before it."""
    group = parser.add_argument_group("common options")
    add = group.add_argument
    add(
        "-c",
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"configuration (default {DEFAULT_CONFIG})",
    )
    add(
        "--run-dir",
        metavar="DIR",
        default=argparse.SUPPRESS,
        help=f"where the control socket and the ledger are (default {DEFAULT_RUN_DIR})",
    )
    add("--no-color", action="store_true", default=argparse.SUPPRESS, help="no colours, as with NO_COLOR set")


def json_output(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON")
