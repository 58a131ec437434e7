"""Two channels, a network between them that loses, repeats and delays as it is told, and a made-up clock."""

import heapq
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kl2tp.control.channel import Channel
from kl2tp.wire.l2tp import decode_control

DELAY = 0.01
"""Seconds from one end to the other."""
Fate = tuple[float, ...]
"""How much later than `DELAY` the copies of a datagram arrive; empty: it is lost."""
ARRIVES: Fate = (0.0,)
LOST: Fate = ()


@dataclass(eq=False)
class End:
    """One side: its channel, what it got, and what its next life would know."""

    channel: Channel
    options: dict[str, Any]
    received: list[bytes] = field(default_factory=list)
    kept: str = ""
    sent: int = 0
    """Datagrams."""

    def restart(self, now: float) -> None:
        """A new channel from what was kept."""
        self.channel = Channel(now, **self.options)
        self.channel.restore(json.loads(self.kept), now)


class Network:
    """Runs both ends until nothing is left to do."""

    def __init__(self, fates: Iterable[Fate] = (), *, keep: bool = True, **options: Any) -> None:
        """`keep`: whether states are kept, for restarts."""
        self.now = 1000.0
        self._keep = keep
        self.ends = tuple(
            End(Channel(self.now, hello_interval=0.0, **options), {"hello_interval": 0.0, **options}) for _ in range(2)
        )
        for end in self.ends:
            end.channel.peer_tunnel_id = 1
        self._fates: Iterator[Fate] = iter(fates)
        self._flying: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def turn(self, end: End, act: Callable[[Channel], object]) -> None:
        """One turn: something happens, state is kept, datagrams leave."""
        act(end.channel)
        end.channel.flush(self.now)
        if self._keep:
            end.kept = json.dumps(end.channel.save())
        self._leave(end)

    def send(self, end: End, payload: bytes) -> None:
        self.turn(end, lambda channel: channel.send(payload, 0, self.now))

    def restart(self, end: End, *, silent: bool = False) -> None:
        """Kill one end and start it again; `silent`: after its last turn was kept, but before anything left."""
        end.restart(self.now)
        if silent:
            end.channel.take_datagrams()
        self.turn(end, lambda channel: None)

    def _leave(self, end: End) -> None:
        other = 1 - self.ends.index(end)
        for datagram in end.channel.take_datagrams():
            end.sent += 1
            for later in next(self._fates, ARRIVES):
                self._count += 1
                heapq.heappush(self._flying, (self.now + DELAY + later, self._count, other, datagram))

    def _arrive(self, end: End, datagram: bytes) -> None:
        header, payload = decode_control(datagram)

        def receive(channel: Channel) -> None:
            end.received.extend(message for _, message in channel.receive(header, payload, self.now))

        self.turn(end, receive)

    def step(self) -> bool:
        """The next thing that happens; whether there was one."""
        deadlines = [(end.channel.deadline, end) for end in self.ends]
        due = min((moment for moment, _ in deadlines if moment is not None), default=None)
        if self._flying and (due is None or self._flying[0][0] <= due):
            self.now, _, other, datagram = heapq.heappop(self._flying)
            self._arrive(self.ends[other], datagram)
            return True
        if due is None:
            return False
        self.now = max(self.now, due)
        for moment, end in deadlines:
            if moment == due:
                self.turn(end, lambda channel: channel.handle_timer(self.now))
        return True

    def run(self, steps: int = 100_000) -> None:
        """Until all is quiet."""
        for _ in range(steps):
            if not self.step():
                return
        raise AssertionError("they never come to rest")
