"""`kl2tp genkey`: a new key for a key file."""

import argparse
import os

from kl2tp.cli import exits
from kl2tp.cli.options import common

_DESCRIPTION = """\
Print a line with a new random key, for a key file that both ends of a tunnel hold. Written to a
new file, a second line goes with it, from which cookies are derived: leave it when keys change."""
_EPILOG = """\
examples:
  kl2tp genkey --output /etc/kl2tp/keys/madrid.key    a new file that only its owner can read
  kl2tp genkey >> /etc/kl2tp/keys/madrid.key          a second key: the first step of a rotation
  sed -i "s|^key .*|$(kl2tp genkey)|" /etc/kl2tp/keys/madrid.key    a new key in the place of the old"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "genkey",
        help="make a key",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="write a new file with mode 0600, owned by the owner of its directory"
    )
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print a key, or write it."""
    from kl2tp.ipsec.keys import generate, new_file

    if args.output:
        _write(args.output, new_file())
    else:
        print(generate())
    return exits.OK


def _write(path: str, content: str) -> None:
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise exits.CommandError(f"{path} exists", f"to add a second key: kl2tp genkey >> {path}") from None
    except OSError as error:
        raise exits.CommandError(f"cannot make {path}: {error.strerror}") from None
    with open(fd, "w", encoding="ascii") as file:
        _hand_over(fd, path)
        file.write(content)


def _hand_over(fd: int, path: str) -> None:
    """Made by root, the file belongs to the owner of its directory: the daemon may have a user of its own."""
    if os.geteuid() == 0:
        directory = os.stat(os.path.dirname(path) or ".")
        os.fchown(fd, directory.st_uid, directory.st_gid)
