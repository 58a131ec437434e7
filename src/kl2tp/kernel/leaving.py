"""What the kernel is still taking away: ids, names and ports stay taken for a while after the holder was deleted."""

import errno
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeAlias

from kl2tp.kernel.netlink import KernelError, Message, Netlink, Reply
from kl2tp.model.objects import KernelObject, Session, Tunnel
from kl2tp.model.spec import Encap

_PATIENCE_S = 10.0
"""How long it may take."""
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.001, 0.05
_FIRST_TURN, _SHORTEST_TURN, _LONGEST_TURN = 16, 4, 1024
_LATE_S = 0.01
"""How much later than it wanted a sleeper may get the processor back."""
_GONE = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH})
_TAKEN = frozenset({errno.EEXIST, errno.EADDRINUSE})

_Place: TypeAlias = tuple[object, ...]


class Pace:
    """How much is taken away at once.

    The kernel does that in threads of its own, one for each tunnel and session. On one processor they all come before
    anybody who wakes up, and that is us, our event loop and everybody else; on several they share what they wait for,
    and the more of them there are, the better. Which of both it is shows in how late a sleeper wakes.
    """

    def __init__(self) -> None:
        self._turn = _FIRST_TURN
        self._late_s = 0.0

    def turns(self, count: int) -> Iterator[slice]:
        """What to delete in each turn, which is over before the next."""
        start = 0
        while start < count:
            stop = min(start + self._turn, count)
            self._late_s = 0.0
            yield slice(start, stop)
            start = stop
            if self._late_s > _LATE_S:
                self._turn = max(self._turn // 2, _SHORTEST_TURN)
            elif self._late_s < _LATE_S / 3:
                self._turn = min(self._turn * 2, _LONGEST_TURN)

    def sleep(self, seconds: float) -> None:
        """Sleep, and note how late it was at the end."""
        wanted = time.monotonic() + seconds
        time.sleep(seconds)
        self._late_s = max(self._late_s, time.monotonic() - wanted)


class Leaving:
    """Places that were left a moment ago."""

    def __init__(self) -> None:
        self._since: dict[_Place, float] = {}

    def note(self, things: Iterable[KernelObject]) -> None:
        """These are about to be deleted."""
        now = time.monotonic()
        self._since = {place: since for place, since in self._since.items() if since + _PATIENCE_S > now}
        for thing in things:
            self._since |= dict.fromkeys(_places(thing), now)

    def _worth_waiting(self, thing: KernelObject) -> bool:
        """Whether a place that an object needs may be free again soon."""
        left = [self._since[place] for place in _places(thing) if place in self._since]
        return bool(left) and time.monotonic() < max(left) + _PATIENCE_S

    def create(
        self, sock: Netlink, requests: Sequence[Message], things: Sequence[KernelObject]
    ) -> dict[int, KernelError]:
        """Send requests that create things, again and again where a place was just left; failures as by `batch`."""
        errors = sock.batch(requests)
        pause = _FIRST_WAIT_S
        while waiting := [i for i, e in errors.items() if e.code in _TAKEN and self._worth_waiting(things[i])]:
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_WAIT_S)
            again = sock.batch([requests[i] for i in waiting])
            errors = {i: e for i, e in errors.items() if i not in waiting}
            errors |= {waiting[position]: error for position, error in again.items()}
        return errors


def _places(thing: KernelObject) -> Iterator[_Place]:
    if isinstance(thing, Tunnel):
        yield ("tunnel", thing.netns, thing.id)
        if thing.encap == Encap.UDP:
            yield ("port", thing.netns, thing.local, thing.local_port)
    elif isinstance(thing, Session):
        yield ("session", thing.netns, thing.id)  # the kernel looks a session up by its id alone
        yield ("device", thing.netns, thing.ifname)


def wait_gone(
    sock: Netlink,
    waiting: Sequence[tuple[int, Message]],
    pace: Pace,
    same: Callable[[Reply], bool] = lambda reply: True,
) -> dict[int, KernelError]:
    """Wait until every get, of an operation by its number, says that its object is gone; those that never do.

    `same` tells an answer about the object from one about another that took its place.
    """
    deadline = time.monotonic() + _PATIENCE_S + 0.1 * len(waiting)
    pause = _FIRST_WAIT_S
    while True:
        replies = sock.get([request for _, request in waiting])
        waiting = [
            wanted
            for wanted, reply in zip(waiting, replies, strict=True)
            if (same(reply) if isinstance(reply, Reply) else reply.code not in _GONE)
        ]
        if not waiting:
            return {}
        if time.monotonic() > deadline:
            error = KernelError(errno.ETIMEDOUT, "the kernel has not finished deleting it")
            return {number: error for number, _ in waiting}
        pace.sleep(pause)
        pause = min(pause * 2, _LONGEST_WAIT_S)
