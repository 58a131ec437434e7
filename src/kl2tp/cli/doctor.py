"""`kl2tp doctor`: what this machine lacks."""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from kl2tp.cli import exits, terminal
from kl2tp.cli.options import DEFAULT_CONFIG, DEFAULT_RUN_DIR, common, json_output
from kl2tp.cli.units import counted

if TYPE_CHECKING:
    from kl2tp.kernel.finding import Finding

_DESCRIPTION = """\
Examine this machine: kernel, capabilities, settings, other software, configuration and keys;
say what is missing or will be slow, why it matters, and the command that mends it.
Changes nothing: what the kernel can do is tried in a network namespace made for that. (The
kernel loads modules as it would for `kl2tp apply`.)"""
_EPILOG = """\
exit status:
  0  nothing is in the way, though there may be warnings
  1  something is"""
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "doctor",
        help="find out what this machine lacks",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="only what is not as it should be")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings."""
    from kl2tp.doctor import examine
    from kl2tp.doctor.machine import Machine

    findings = examine(Machine(), args.config or DEFAULT_CONFIG, args.run_dir or DEFAULT_RUN_DIR)
    if args.json:
        found = list(findings)
        print(json.dumps([finding.as_json() for finding in found], indent=2))
    else:
        found = []
        for line in text(_kept(findings, found), terminal.paint(args.no_color), quiet=args.quiet):
            print(line)
            sys.stdout.flush()
        print(_summary(found))
    return exits.FAILED if any(finding.level == "fail" for finding in found) else exits.OK


def _kept(findings: "Iterable[Finding]", found: "list[Finding]") -> "Iterator[Finding]":
    """Pass findings on while they come, and keep them."""
    for finding in findings:
        found.append(finding)
        yield finding


def text(findings: "Iterable[Finding]", paint: terminal.Paint, *, quiet: bool = False) -> Iterator[str]:
    """Findings for people: what, why, and the command."""
    for finding in findings:
        if quiet and finding.level == "ok":
            continue
        level = finding.level.value
        yield f"{paint(f'{level:4}', _STYLES[level], 'bold')}  {terminal.printable(finding.what)}"
        if finding.why:
            yield f"      {terminal.printable(finding.why)}"
        if finding.mend:
            yield f"      {paint('mend:', 'dim')} {terminal.printable(finding.mend)}"


def _summary(found: "list[Finding]") -> str:
    fails = sum(finding.level == "fail" for finding in found)
    warnings = sum(finding.level == "warn" for finding in found)
    if not fails and not warnings:
        return "\nAll is well."
    verdict = f"{counted(fails, 'thing')} in the way" if fails else "nothing in the way"
    return f"\n{verdict}, {counted(warnings, 'warning')}."
