"""Traffic through tunnels: numbered datagrams from both ends, without a pause, from a process of its own."""

import contextlib
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kernel.rig.conf import inner
from kernel.rig.net import Host

PORT = 9
PACE_S = 0.005
PAYLOAD = bytes(92)


class Leg(NamedTuple):
    """One direction of one tunnel."""

    source: socket.socket
    address: tuple[str, int]
    sink: socket.socket


@dataclass(slots=True)
class Flow:
    """What was sent through one tunnel in one direction, and what of it arrived."""

    sent: int = 0
    arrived: set[int] = field(default_factory=set)

    @property
    def lost(self) -> int:
        return self.sent - len(self.arrived)


def forked(child: Callable[[], object]) -> int:
    """Run something in a process of its own; its id. The child never comes back."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        child()
        status = 0
    finally:
        os._exit(status)


def _pump(legs: Sequence[Leg], control: socket.socket) -> None:
    """The child: send on every leg, in turn, until told to stop; then tell how many each got."""
    number = 0
    while not select.select([control], [], [], PACE_S if number else 0)[0]:
        data = number.to_bytes(8) + PAYLOAD
        for leg in legs:
            with contextlib.suppress(OSError):  # no route, no device: counts as lost
                leg.source.sendto(data, leg.address)
        number += 1
    control.sendall(number.to_bytes(8))


class Traffic:
    """A stream of datagrams both ways through tunnels."""

    def __init__(self, near: Host, far: Host, numbers: Sequence[int]) -> None:
        self._legs: list[Leg] = []
        self.flows: list[Flow] = []
        """Of each tunnel two: near to far, far to near."""
        for number in numbers:
            ends = [_end(near, inner(number, 1)), _end(far, inner(number, 2))]
            self._legs += [
                Leg(ends[0], (inner(number, 2), PORT), ends[1]),
                Leg(ends[1], (inner(number, 1), PORT), ends[0]),
            ]
        self._control, theirs = socket.socketpair()
        self._pid = forked(lambda: _pump(self._legs, theirs))
        theirs.close()

    def wait_for(self, packets: int, within: float = 5.0) -> None:
        """Until so many more datagrams have arrived on every leg."""
        for leg in self._legs:
            for _ in range(packets):
                if not select.select([leg.sink], [], [], within)[0]:
                    raise AssertionError(f"no traffic to {leg.sink.getsockname()[0]}")
                self._take(leg)

    def burst(self, packets: int = 3) -> None:
        """Send some datagrams more, now, that nobody counts."""
        for leg in self._legs:
            for _ in range(packets):
                with contextlib.suppress(OSError):
                    leg.source.sendto(PAYLOAD, (leg.address[0], PORT + 1))

    def stop(self) -> "Traffic":
        """End it and count."""
        if not self._pid:
            return self
        self._control.sendall(b"!")
        total = int.from_bytes(self._control.recv(8))
        os.waitpid(self._pid, 0)
        self._pid = 0
        self._control.close()
        deadline = time.monotonic() + 1.0
        for leg, flow in zip(self._legs, self._flows(), strict=True):
            flow.sent = total
            while flow.lost and select.select([leg.sink], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self._take(leg)
        for leg in self._legs:
            leg.sink.close()
        return self

    def _flows(self) -> list[Flow]:
        if not self.flows:
            self.flows = [Flow() for _ in self._legs]
        return self.flows

    def _take(self, leg: Leg) -> None:
        index = self._legs.index(leg)
        self._flows()[index].arrived.add(int.from_bytes(leg.sink.recv(2048)[:8]))

    @property
    def sent(self) -> int:
        """Datagrams, in all."""
        return sum(flow.sent for flow in self.flows)

    @property
    def lost(self) -> int:
        return sum(flow.lost for flow in self.flows)


def _end(host: Host, address: str) -> socket.socket:
    with host.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, 15, 1)  # IP_FREEBIND: the address may come later
    sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
    sock.bind((address, PORT))
    return sock


@contextlib.contextmanager
def traffic(near: Host, far: Host, *numbers: int) -> Iterator[Traffic]:
    """Traffic while the block runs, counted at its end."""
    stream = Traffic(near, far, numbers)
    try:
        yield stream
    finally:
        stream.stop()


def exchanges(near: Host, far: Host, number: int, packets: int = 5) -> None:
    """Assert that packets pass both ways."""
    with traffic(near, far, number) as stream:
        stream.wait_for(packets)
