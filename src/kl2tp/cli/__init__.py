"""The command line: one module per command. Daemon, netlink and YAML are loaded when a command needs them."""

from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status."""
    from kl2tp.cli.entry import main as run

    return run(arguments)
