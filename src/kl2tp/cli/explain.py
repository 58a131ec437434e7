"""`kl2tp explain NAME`: one tunnel, call or client through all layers, and the first that is broken."""

import argparse
import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from kl2tp.cli import exits, terminal
from kl2tp.cli.client import Answer, service
from kl2tp.cli.options import common, json_output
from kl2tp.cli.terminal import Paint, printable

_DESCRIPTION = """\
Find out why a tunnel or a call does not work. Follow it through all layers: the way to the peer,
strongSwan, IKE SA, IPsec SA, policies, SAs and the packets that pass them, L2TP, PPP, interface,
addresses, MTU. Say how each is, with ids, counters and ciphers, and of the first that is broken
the cause and the cure.

Counters are read twice, while something is sent: a frame that means nothing to anybody through
the interfaces of a declared tunnel, a HELLO on the control connection of a call. That takes up to
three seconds."""
_EPILOG = """\
NAME is a declared tunnel, a call that we place (lac), a profile (lns); or of a session its number,
user, interface, address or peer; or the address of a peer that did not get in.

exit status:
  0  nothing is broken
  1  failed
  3  something is broken, or waits"""
_STYLES = {"ok": "green", "waiting": "yellow", "broken": "red", "unknown": "dim"}
_MARKS = {"ok": "ok", "waiting": "...", "broken": "XX", "unknown": "?"}
_PLAIN_WIDTH = 100
"""Columns of prose where there is no terminal."""
_LEAST_WIDTH = 60


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command to the command line."""
    parser = subparsers.add_parser(
        "explain",
        help="find out why a tunnel or call does not work",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="TUNNEL", help="what is to be explained: a tunnel, call, profile or session")
    parser.add_argument(
        "--probe",
        action="store_true",
        help="find out by pings which packets pass the path in one piece; takes up to 20 seconds more",
    )
    parser.add_argument("--brief", action="store_true", help="without ids, counters and ciphers")
    json_output(parser)
    common(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    answer = service(args).call("explain", name=args.name, probe=args.probe)
    if args.json:
        print(json.dumps(answer, indent=2))
    else:
        for line in text(answer, terminal.paint(args.no_color), terminal.width(), brief=args.brief):
            print(line)
    return exits.OK if answer.get("state") == "ok" else exits.PARTLY


def text(answer: Answer, paint: Paint, width: int | None, *, brief: bool = False) -> Iterator[str]:
    """The layers, then the diagnosis."""
    wide = max(_LEAST_WIDTH, width or _PLAIN_WIDTH)
    state = str(answer.get("state") or "unknown")
    yield f"{paint(_clean(answer.get('name')), 'bold')} ({_clean(answer.get('kind'))}): {paint(state, _STYLES[state])}"
    yield ""
    layers = answer.get("layers") or []
    column = max((len(str(layer["layer"])) for layer in layers), default=0)
    for layer in layers:
        yield from _layer(layer, column, paint, wide, brief=brief)
    yield from _verdict(answer, layers, paint, wide)


def _clean(value: Any) -> str:
    return printable(str(value or ""))


def _layer(layer: Mapping[str, Any], column: int, paint: Paint, wide: int, *, brief: bool) -> Iterator[str]:
    state = str(layer["state"])
    mark = paint(f"{_MARKS.get(state, '?'):3}", _STYLES.get(state, "dim"))
    first, *more = _wrapped(_clean(layer["text"]), wide - column - 8) or [""]
    yield f"  {mark} {_clean(layer['layer']):{column}}  {first}"
    for line in more:
        yield f"{'':{column + 8}}{line}"
    for detail in () if brief else layer.get("details") or ():
        name = f"{_clean(detail['name'])}: " if detail["name"] else ""
        for line in _wrapped(name + _clean(detail["value"]), wide - column - 10):
            yield paint(f"{'':{column + 10}}{line}", "dim")


def _wrapped(words: str, wide: int) -> list[str]:
    return textwrap.wrap(words, max(30, wide), subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _verdict(answer: Answer, layers: Sequence[Mapping[str, Any]], paint: Paint, wide: int) -> Iterator[str]:
    first = next((x for x in layers if x["layer"] == answer.get("first_broken") and x.get("diagnosis")), None)
    yield ""
    if first is None:
        yield _nothing(str(answer.get("state")), layers)
    else:
        yield from _diagnosis(first, paint, wide)
        others = [x["layer"] for x in layers if x.get("diagnosis") and x is not first and x["state"] == "broken"]
        if others:
            yield from _paragraph("Also:", f"{', '.join(others)}, which may follow from it", paint, wide)
    for note in answer.get("notes") or ():
        yield from _paragraph("Note:", _clean(note), paint, wide)


def _nothing(state: str, layers: Sequence[Mapping[str, Any]]) -> str:
    if state == "waiting":
        waits = next(layer for layer in layers if layer["state"] == "waiting")
        return f"Nothing is broken; it waits: {_clean(waits['layer'])}: {_clean(waits['text'])}"
    if any(layer["state"] == "unknown" for layer in layers):
        return "Nothing is broken, as far as one can tell."
    return "Nothing is broken."


def _diagnosis(layer: Mapping[str, Any], paint: Paint, wide: int) -> Iterator[str]:
    found = layer["diagnosis"]
    broken = layer["state"] == "broken"
    label = {"broken": "First broken:", "waiting": "Waits:"}.get(layer["state"], "Perhaps:")
    words = f"{_clean(layer['layer'])}: {_clean(found['broken'])}"
    yield from _paragraph(label, words, paint, wide, "red" if broken else "yellow")
    for seen in found.get("evidence") or ():
        yield from _paragraph("Seen:", _clean(seen), paint, wide)
    yield from _paragraph("Cause:", _clean(found["cause"]), paint, wide)
    for sides in found.get("compare") or ():
        yield from _sides(sides, paint)
    for number, cure in enumerate(found.get("cure") or ()):
        yield from _paragraph("" if number else "Cure:", _clean(cure), paint, wide)


def _paragraph(label: str, words: str, paint: Paint, wide: int, *styles: str) -> Iterator[str]:
    for number, line in enumerate(_wrapped(words, wide - 14)):
        shown = paint(f"{label:13}", "bold", *styles) if number == 0 and label else " " * 13
        yield f"{shown} {line}"


def _sides(sides: Mapping[str, Any], paint: Paint) -> Iterator[str]:
    """Both lists, side by side."""
    ours, theirs = ([_clean(one) for one in sides.get(side) or ()] for side in ("ours", "theirs"))
    column = max([len("ours"), *map(len, ours)])
    yield f"{'':14}{paint(_clean(sides['what']), 'dim')}"
    yield f"{'':16}{paint('ours'.ljust(column) + '  theirs', 'bold')}"
    for one, other in zip_longest(ours, theirs, fillvalue=""):
        yield f"{'':16}{one:{column}}  {other}".rstrip()
