"""One TCP stream without a tunnel, with one, and with IPsec: what each of them costs."""

from dataclasses import dataclass
from pathlib import Path

from demo import network
from demo.paper import Paper
from demo.traffic import stream

_PATHS = {"no tunnel": "203.0.113.1", "L2TPv3 in clear": "10.64.3.2", "L2TPv3 in ESP": "10.64.2.2"}
"""Addresses of Lisbon, by the way to it."""
_ROUNDS, _SECONDS = 4, 0.25
"""Several short rounds, taking turns, of which the best counts: others use this machine too."""
_BAR = 60
"""Columns of the longest bar there can be."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A stream, and what came over the hub's wire for it, with Ethernet headers."""

    octets: int
    seconds: float
    packets: int
    wire_octets: int

    @property
    def microseconds(self) -> float:
        """Per packet from the hub."""
        return 1e6 * self.seconds / self.packets

    @property
    def overhead(self) -> float:
        """Bytes on the wire beyond the payload, percent of the payload."""
        return 100 * (self.wire_octets - self.octets) / self.octets

    def __str__(self) -> str:
        megabits, megabytes = 8 * self.octets / self.seconds / 1e6, self.octets / self.seconds / 1e6
        return (
            f"{megabits:7,.0f} Mbit/s ({megabytes:5,.0f} MB/s)  {self.packets:9,} packets"
            f"  {self.overhead:6.1f} %  {self.microseconds:9.1f} µs"
        )


def _measure(address: str) -> Measured:
    packets, octets = network.carried("hub")
    streamed = stream("hub", "lisbon", address, _SECONDS)
    packets_after, octets_after = network.carried("hub")
    return Measured(streamed.octets, streamed.seconds, packets_after - packets, octets_after - octets)


def compare(paper: Paper) -> None:
    """Measure all ways to Lisbon, print the table, and where the time goes."""
    rounds = [{name: _measure(address) for name, address in _PATHS.items()} for _ in range(_ROUNDS)]
    measured = {name: min((found[name] for found in rounds), key=lambda m: m.microseconds) for name in _PATHS}
    paper.say(f"A TCP stream from the hub to Lisbon over each, the best of {_ROUNDS}:")
    head = f"  {'':16}{'payload':>14}{'on the wire':>32}{'overhead':>11}{'per packet':>13}"
    paper.lines([head, *(f"  {name:16} {found}" for name, found in measured.items())])
    _explain(paper, *(found.microseconds for found in measured.values()))


def _explain(paper: Paper, bare: float, clear: float, protected: float) -> None:
    parts = {
        "TCP/IP": bare,
        "L2TP": max(0.0, clear - bare),
        "encryption (ESP)": max(0.0, protected - max(clear, bare)),
    }
    total = sum(parts.values())
    paper.say("Where the time of a packet in ESP goes, both ends together:")
    paper.lines(
        f"  {name:16} {cost:6.1f} µs {100 * cost / total:4.0f} %  {'█' * round(_BAR * cost / total)}"
        for name, cost in parts.items()
    )
    slowest = max(parts, key=lambda name: parts[name])
    slow_cipher = (
        "" if _has_aes() else " Here the kernel encrypts in plain C, without the processor's AES instructions."
    )
    paper.say(
        f"""The bottleneck is {slowest}.{slow_cipher} One processor does all: both ends, the router between them, and
        the demo. These are figures of this machine, not of kl2tp, which touches no packet."""
    )


def _has_aes() -> bool:
    """Whether the kernel encrypts with AES instructions."""
    drivers = Path("/proc/crypto").read_text()
    return "aesni" in drivers or "aes-ce" in drivers
