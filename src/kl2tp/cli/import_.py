"""`kl2tp import xl2tpd`: a configuration of xl2tpd, rewritten for kl2tp."""

import argparse
import json
import os
import sys
from typing import Any

from kl2tp.cli import exits, terminal
from kl2tp.cli.options import common, json_output
from kl2tp.cli.units import counted

CONF = "/etc/xl2tpd/xl2tpd.conf"
_DESCRIPTION = """\
Read xl2tpd.conf and what it names (l2tp-secrets, options of pppd, chap-secrets), and write a
configuration of kl2tp that does what xl2tpd did. Every line that has no counterpart is named,
and what the old file meant but xl2tpd never did. Secrets stay where they are, and are never shown."""
_EPILOG = """\
examples:
  kl2tp import xl2tpd                              print it, with the report on standard error
  kl2tp import xl2tpd --output /etc/kl2tp          write /etc/kl2tp/kl2tp.yaml
  kl2tp import xl2tpd --root /mnt/old-server       the files of another machine
  kl2tp import xl2tpd --list                       every option of xl2tpd and pppd, with the new key"""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "import",
        help="rewrite a configuration of xl2tpd",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("program", choices=("xl2tpd",), metavar="PROGRAM", help="what to import from: xl2tpd")
    parser.add_argument("file", nargs="?", metavar="FILE", default=CONF, help=f"its configuration (default {CONF})")
    parser.add_argument("-o", "--output", metavar="DIR", help="write kl2tp.yaml and files with passwords there")
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument("--root", metavar="DIR", default="", help="look for all files below this directory")
    parser.add_argument("--list", action="store_true", help="print every option with its new key, and read nothing")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Import, and write or print."""
    if args.list:
        from kl2tp.migrate.report import table

        print("\n".join(table()))
        return exits.OK
    from kl2tp.migrate.xl2tpd import PASSWORDS, convert

    directory = os.path.abspath(args.output) if args.output else PASSWORDS
    try:
        imported = convert(args.file, root=args.root, secrets=directory)
    except OSError as error:
        raise exits.CommandError(f"cannot read {args.file}: {error.strerror}", "name xl2tpd.conf") from None
    _check(args.file, imported)
    written = _write(directory, imported, args.force) if args.output else []
    if args.json:
        print(json.dumps(_plain(imported, written), indent=2))
    else:
        _print(imported, written, args.output)
    return exits.OK


def _check(path: str, imported: Any) -> None:
    """Nothing is written that kl2tp itself would not take."""
    from kl2tp.config import ConfigError, loads

    if not imported.sections:
        from kl2tp.migrate.report import text

        print("\n".join(text(imported.findings)), file=sys.stderr)
        raise exits.CommandError(f"{path} has nothing to import", "it has no [lns] or [lac] that xl2tpd would use")
    try:
        loads(imported.yaml)
    except ConfigError as error:
        problems = [f"{one.message} ({one.hint})" if one.hint else one.message for one in error.problems]
        hint = "mend the old file, or a copy of it"
        raise exits.CommandError(f"what {path} says is not valid in kl2tp", hint, problems=problems) from None


def _write(directory: str, imported: Any, force: bool) -> list[str]:
    """Write all files, or none. Gives their names."""
    files = {os.path.join(directory, "kl2tp.yaml"): (imported.yaml.encode(), 0o644)}
    files |= {path: (password.reveal() + b"\n", 0o600) for path, password in imported.passwords.items()}
    there = [path for path in files if os.path.lexists(path)]
    if there and not force:
        raise exits.CommandError(f"{', '.join(there)}: there already", "choose another directory, or --force")
    try:
        os.makedirs(directory, exist_ok=True)
        for path, (content, mode) in files.items():
            _replace(path, content, mode)
    except OSError as error:
        raise exits.CommandError(f"cannot write {error.filename or directory}: {error.strerror}") from None
    return list(files)


def _replace(path: str, content: bytes, mode: int) -> None:
    """Write a file that is there as a whole or not at all, and that nobody else could read in between."""
    new = f"{path}.new"
    if os.path.lexists(new):
        os.unlink(new)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        if os.geteuid() == 0:  # the daemon may have a user of its own, whose directory this is
            owner = os.stat(os.path.dirname(path))
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        file.write(content)
        os.fchmod(file.fileno(), mode)
    os.replace(new, path)


def _print(imported: Any, written: list[str], output: str | None) -> None:
    from kl2tp.migrate.report import text

    report = "\n".join(text(imported.findings, min(terminal.width() or 100, 110)))
    if not output:
        print(imported.yaml, end="")
        print(report, file=sys.stderr)
        for path in imported.passwords:
            print(f"Make {path}, mode 0600, with the password in one line; --output does it.", file=sys.stderr)
        return
    print(f"Wrote {', '.join(written)}: {counted(imported.sections, 'section')} of the old file.\n")
    print(report)
    print(f"\nThen: kl2tp validate {written[0]}")


def _plain(imported: Any, written: list[str]) -> dict[str, Any]:
    """The same as plain values."""
    from kl2tp.migrate.finding import Kind

    findings = [
        {"kind": kind.name.lower(), "file": one.place.file, "line": one.place.line, "what": one.what, "note": one.note}
        for kind in Kind
        for one in imported.findings.of(kind)
    ]
    return {"yaml": imported.yaml, "written": written, "passwords": [*imported.passwords], "findings": findings}
