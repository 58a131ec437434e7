"""Addresses of xl2tpd.conf: hosts, which it looks up, and ranges of them, allowed or not, of which the last counts."""

import socket
from collections.abc import Callable, Iterable
from typing import TypeAlias

from kl2tp.migrate.finding import Findings, Kind, Place
from kl2tp.migrate.xl2tpd_conf import Given
from kl2tp.model import addr
from kl2tp.model.ranges import Range, merged, without

Resolve: TypeAlias = Callable[[str], bytes | None]
"""Looks up the IPv4 address of a host."""


def look_up(name: str) -> bytes | None:
    """The IPv4 address of a host, as the resolver of this machine says."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_DGRAM)
    except (OSError, UnicodeError):
        return None
    return addr.parse(str(found[0][4][0])) if found else None


class Hosts:
    """Hosts and ranges of them. kl2tp itself looks nothing up: that is done here, and told."""

    def __init__(self, findings: Findings, resolve: Resolve = look_up) -> None:
        self.findings = findings
        self.resolve = resolve

    def address(self, text: str, place: Place, what: str) -> str | None:
        """An IPv4 address as text; None: nobody knows it, which is told."""
        try:
            packed = addr.parse(text)
        except ValueError:
            return self._named(text, place, what)
        if len(packed) == 4:
            return addr.text(packed)
        self.findings.add(Kind.WRONG, place, what, "xl2tpd knows no IPv6")
        return None

    def _named(self, text: str, place: Place, what: str) -> str | None:
        found = self.resolve(text)
        if found is None:
            self.findings.add(Kind.LOST, place, what, f"{text} can't be looked up here; kl2tp takes addresses only")
            return None
        note = f"{text} is {addr.text(found)} today; kl2tp takes addresses only"
        self.findings.add(Kind.DIFFERENT, place, what, note)
        return addr.text(found)

    def ranges(self, lines: Iterable[Given]) -> list[Range]:
        """What is allowed by all lines together."""
        allowed: list[Range] = []
        for line in lines:
            found = self._range(line)
            if found is None:
                continue
            refused = line.option.name.startswith("no ")
            allowed = without(allowed, [found]) if refused else merged([*allowed, found])
        return allowed

    def _range(self, line: Given) -> Range | None:
        """`HOST`, `HOST - HOST` or `10.0.0.1-99`."""
        first, dash, last = line.value.partition("-")
        first, last = first.strip(), last.strip()
        if dash and last.count(".") < 3 and last.replace(".", "").isdigit() and first.count(".") == 3:
            last = ".".join((*first.split(".")[: 3 - last.count(".")], last))
        ends = [self.address(end, line.place, line.what) for end in ((first, last) if dash else (first,))]
        if None in ends:
            return None
        numbers = [int.from_bytes(addr.parse(end)) for end in ends if end is not None]
        if numbers[0] > numbers[-1]:
            self.findings.add(Kind.WRONG, line.place, line.what, "the range counts down")
            return None
        return numbers[0], numbers[-1]


def text(ends: Range) -> str:
    """A range as kl2tp writes it."""
    first, last = (addr.text(number.to_bytes(4)) for number in ends)
    return first if first == last else f"{first}-{last}"
