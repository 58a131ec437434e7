"""What the kernel is still taking away: ids, names and ports stay taken for a while after the holder was deleted."""

import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from kl2tp.kernel.netlink import KernelError, Message, Netlink
from kl2tp.model.objects import KernelObject, Session, Tunnel
from kl2tp.model.spec import Encap

PATIENCE_S = 10.0
"""How long it may take."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.001, 0.05
_TAKEN = frozenset({errno.EEXIST, errno.EADDRINUSE})

_Place: TypeAlias = tuple[object, ...]


class Leaving:
    """Places that were left a moment ago."""

    def __init__(self) -> None:
        self._since: dict[_Place, float] = {}

    def note(self, things: Iterable[KernelObject]) -> None:
        """These are about to be deleted."""
        now = time.monotonic()
        self._since = {place: since for place, since in self._since.items() if since + PATIENCE_S > now}
        for thing in things:
            self._since |= dict.fromkeys(_places(thing), now)

    def _worth_waiting(self, thing: KernelObject) -> bool:
        """Whether a place that an object needs may be free again soon."""
        left = [self._since[place] for place in _places(thing) if place in self._since]
        return bool(left) and time.monotonic() < max(left) + PATIENCE_S

    def create(
        self, sock: Netlink, requests: Sequence[Message], things: Sequence[KernelObject]
    ) -> dict[int, KernelError]:
        """Send requests that create things, again and again where a place was just left; failures as by `batch`."""
        errors = sock.batch(requests)
        pause = FIRST_WAIT_S
        while waiting := [i for i, e in errors.items() if e.code in _TAKEN and self._worth_waiting(things[i])]:
            time.sleep(pause)
            pause = min(pause * 2, LONGEST_WAIT_S)
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
