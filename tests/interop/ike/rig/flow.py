"""Numbered datagrams both ways between pairs of addresses, without a pause; afterwards every lost one is known."""

import contextlib
import itertools
import os
import select
import socket
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from kernel.rig.net import Host, Late
from kernel.rig.traffic import forked
from kl2tp.model.value import dataclass

_PORTS = itertools.count(9000)
"""Each stream has its own: two may run through the same tunnel."""
_FREEBIND, _RCVBUFFORCE = 15, 33
_PAYLOAD = bytes(92)
_LINGER_S = 1.0
"""How long after the end something may still arrive."""


class Pair(NamedTuple):
    """Two hosts that talk through a tunnel, with their addresses in it."""

    near: Host
    near_address: str
    far: Host
    far_address: str


class _Leg(NamedTuple):
    name: str
    source: socket.socket
    sink: socket.socket


@dataclass(frozen=True, slots=True)
class Loss:
    """What did not arrive of one direction."""

    name: str
    sent: int
    numbers: tuple[int, ...]
    pace: float

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """(first, last) of those in a row."""
        found: list[tuple[int, int]] = []
        for number in self.numbers:
            if found and number == found[-1][1] + 1:
                found[-1] = found[-1][0], number
            else:
                found.append((number, number))
        return found

    @property
    def longest_s(self) -> float:
        """For how long nothing arrived."""
        return max(last - first + 1 for first, last in self.gaps) * self.pace

    def __str__(self) -> str:
        """Each gap with the seconds since the beginning."""
        words = [f"{first}..{last} ({first * self.pace:.2f} s)" for first, last in self.gaps[:8]]
        return f"{self.name}: {len(self.numbers)} of {self.sent} lost: {', '.join(words)}"


def _end(host: Host, own: str, other: str, port: int) -> socket.socket:
    with host.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.IPPROTO_IP, _FREEBIND, 1)
    sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 64 << 20)
    sock.bind((own, port))
    sock.connect((other, port))
    sock.setblocking(False)
    return sock


def _pump(legs: Sequence[_Leg], control: socket.socket, pace: float) -> None:
    """The child: send on every leg, in turn, until told to stop; then tell how many each got."""
    number, due = 0, time.monotonic()
    while not select.select([control], [], [], max(0.0, due - time.monotonic()))[0]:
        data = number.to_bytes(8) + _PAYLOAD
        for leg in legs:
            with contextlib.suppress(OSError):  # no route, no device: counts as lost
                leg.source.send(data)
        number += 1
        due = max(due + pace, time.monotonic() - 10 * pace)
    control.sendall(number.to_bytes(8))


class Flow:
    """A stream both ways through tunnels, from its making until it is stopped."""

    def __init__(self, pairs: Sequence[Pair], pace: float = 0.02) -> None:
        self._pace = pace
        self._legs: list[_Leg] = []
        self._arrived: list[set[int]] = []
        self.sent = 0
        """Datagrams on each leg, known at the end."""
        port = next(_PORTS)
        for pair in pairs:
            near = _end(pair.near, pair.near_address, pair.far_address, port)
            far = _end(pair.far, pair.far_address, pair.near_address, port)
            self._legs.append(_Leg(f"{pair.near.name} {pair.near_address} -> {pair.far.name}", near, far))
            self._legs.append(_Leg(f"{pair.far.name} -> {pair.near.name} {pair.near_address}", far, near))
            self._arrived += [set(), set()]
        self._control, theirs = socket.socketpair()
        self._pid = forked(lambda: _pump(self._legs, theirs, pace))
        theirs.close()

    def _take(self, number: int) -> int:
        """Everything that waits at the end of a leg; how many those are."""
        count, sink = 0, self._legs[number].sink
        while True:
            try:
                data = sink.recv(2048)
            except BlockingIOError:
                return count
            except ConnectionError:  # an ICMP error for something that we sent
                continue
            self._arrived[number].add(int.from_bytes(data[:8]))
            count += 1

    def wait_for(self, packets: int = 5, within: float = 10.0) -> None:
        """Until so many more have arrived on every leg, apart from those that had already. Raises Late."""
        for number in range(len(self._legs)):
            self._take(number)
        deadline = time.monotonic() + within
        left = {leg.sink: (number, packets) for number, leg in enumerate(self._legs)}
        while left:
            ready = select.select(left, [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready or time.monotonic() > deadline:
                names = ", ".join(self._legs[number].name for number, _ in left.values())
                raise Late(f"nothing arrives: {names}")
            for sink in ready:
                number, missing = left[sink]
                missing -= self._take(number)
                left[sink] = number, missing
                if missing <= 0:
                    del left[sink]

    def stop(self) -> list[Loss]:
        """End it; what was lost."""
        if self._pid:
            self._control.sendall(b"!")
            self.sent = int.from_bytes(self._control.recv(8))
            os.waitpid(self._pid, 0)
            self._pid = 0
            self._control.close()
            self._collect()
        return self.losses

    def _collect(self) -> None:
        """What is still under way."""
        deadline = time.monotonic() + _LINGER_S
        for number, leg in enumerate(self._legs):
            self._take(number)
            while len(self._arrived[number]) < self.sent:
                if not select.select([leg.sink], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    break
                self._take(number)
        for leg in self._legs:
            leg.sink.close()

    @property
    def losses(self) -> list[Loss]:
        """Of each leg that lost something."""
        everything = range(self.sent)
        found = []
        for leg, arrived in zip(self._legs, self._arrived, strict=True):
            if len(arrived) < self.sent:
                found.append(Loss(leg.name, self.sent, tuple(n for n in everything if n not in arrived), self._pace))
        return found

    @property
    def total(self) -> int:
        """Datagrams that were sent, in all."""
        return self.sent * len(self._legs)


@contextlib.contextmanager
def flowing(*pairs: Pair, pace: float = 0.02) -> Iterator[Flow]:
    """A stream while the block runs; what it lost is not judged."""
    flow = Flow(pairs, pace)
    try:
        yield flow
    finally:
        flow.stop()


@contextlib.contextmanager
def lossless(*pairs: Pair, pace: float = 0.02, at_least: int = 5, gap_s: float = 0.0) -> Iterator[Flow]:
    """A stream while the block runs of which every packet arrives, but for gaps no longer than that."""
    with flowing(*pairs, pace=pace) as flow:
        flow.wait_for(at_least)
        yield flow
        flow.wait_for(at_least)
    print(f"\n{flow.total} packets sent, {sum(len(loss.numbers) for loss in flow.losses)} lost")
    bad = [loss for loss in flow.losses if loss.longest_s > gap_s]
    assert not bad, "\n".join(map(str, bad))
