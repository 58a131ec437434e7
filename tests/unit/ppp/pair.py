"""Two links, back to back, over a line that loses, doubles and reorders frames, and ends that are restarted."""

import json
import random
from collections.abc import Callable
from typing import TypeAlias

from kl2tp.model.objects import Secret
from kl2tp.ppp.events import AuthNeeded, Down, Event, Ipv4Down, Ipv4Up, Ipv6Down, Ipv6Up, NetworkPhase
from kl2tp.ppp.ipcp import Ipv4Settings
from kl2tp.ppp.ipv6cp import Ipv6Settings
from kl2tp.ppp.lcp import LinkSettings
from kl2tp.ppp.link import Link
from unit.ppp.talk import DNS, DNS2, OUR_ADDRESS, PEERS_ADDRESS

PASSWORD = b"hush"
SERVER4 = Ipv4Settings(OUR_ADDRESS, PEERS_ADDRESS, (DNS, DNS2))
CLIENT4 = Ipv4Settings(request_dns=True)

Fate: TypeAlias = Callable[[], tuple[float, ...]]
"""Delays after which the copies of a frame arrive; none: it is lost."""


class End:
    """One end, with what its owner knows."""

    def __init__(self, link: Link, ipv4: Ipv4Settings | None, ipv6: Ipv6Settings | None) -> None:
        self.link = link
        self.ipv4, self.ipv6 = ipv4, ipv6
        self.four: Ipv4Up | None = None
        self.six: Ipv6Up | None = None
        self.down: str | None = None
        self.identity: str | None = None
        self.events: list[Event] = []
        self.password = PASSWORD
        self.saved = "{}"

    def look(self, now: float) -> list[bytes]:
        """See to the events; what is to be sent. What is known is written down whenever something happened, not more
        often, and before anything is sent."""
        while events := self.link.take_events():
            for event in events:
                self._heard(event, now)
            self.saved = json.dumps(self.link.save())
        return list(self.link.take_frames())

    def _heard(self, event: Event, now: float) -> None:
        self.events.append(event)
        assert self.down is None, "after Down comes nothing"
        match event:
            case AuthNeeded(attempt=attempt) if attempt.verify(self.password):
                self.link.grant(attempt, now)
            case AuthNeeded(attempt=attempt):
                self.link.refuse(attempt, now)
            case NetworkPhase(identity=identity):
                assert self.four is None, "Ipv4Down was forgotten"
                assert self.six is None
                self.identity = identity
                self.link.start_network(self.ipv4, self.ipv6, now)
            case Ipv4Up():
                self.four = event
            case Ipv4Down():
                self.four = None
            case Ipv6Up():
                self.six = event
            case Ipv6Down():
                self.six = None
            case Down(reason=reason):
                assert reason
                self.down = reason

    def restart(self, settings: LinkSettings, chance: Callable[[int], bytes], now: float) -> None:
        """As if the process had been killed and started again."""
        if self.down is not None:
            return
        state = json.loads(self.saved)
        self.link = Link.restore(settings, chance, state, now)
        if not state:
            self.four = self.six = None

    def forget(self) -> None:
        """What was written down is lost."""
        self.saved = "{}"


class Pair:
    """A server and a client."""

    def __init__(self, server: LinkSettings, client: LinkSettings, *, seed: int = 1, ipv6: bool = True) -> None:
        self.chance = random.Random(seed)
        self.settings = (server, client)
        server6, client6 = (Ipv6Settings(), Ipv6Settings()) if ipv6 else (None, None)
        self.server = End(Link(server, self.chance.randbytes), SERVER4, server6)
        self.client = End(Link(client, self.chance.randbytes), CLIENT4, client6)
        self.ends = (self.server, self.client)
        self.now = 0.0
        self.fate: Fate = lambda: (0.01,)
        self.flying: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self.sent = 0
        self.hear: Callable[[bytes], object] = lambda frame: None
        """Told of each frame that is sent."""

    def open(self) -> "Pair":
        """The line is there."""
        for end in self.ends:
            end.link.open(self.now)
        return self

    def restart(self, which: int) -> None:
        """Kill one end, and start it again."""
        self.ends[which].restart(self.settings[which], self.chance.randbytes, self.now)

    def _look(self) -> None:
        for number, end in enumerate(self.ends):
            for frame in end.look(self.now):
                self.sent += 1
                self.hear(frame)
                for delay in self.fate():
                    self._count += 1
                    self.flying.append((self.now + delay, self._count, 1 - number, frame))

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end = self.now + seconds
        self._look()
        while not until():
            deadlines = [e.link.deadline for e in self.ends if e.link.deadline is not None]
            at = min([*deadlines, *(entry[0] for entry in self.flying)], default=end)
            if at > end:
                break
            self.now = max(self.now, at)
            due = sorted(entry for entry in self.flying if entry[0] <= self.now)
            self.flying = [entry for entry in self.flying if entry[0] > self.now]
            for _, _, target, frame in due:
                self.ends[target].link.receive(frame, self.now)
            for e in self.ends:
                e.link.handle_timer(self.now)
            self._look()
            if not due and not deadlines:
                break
        self.now = max(self.now, min(end, self.now) if until() else end)

    @property
    def is_up(self) -> bool:
        """Whether both ends have all network protocols."""
        return all(e.four is not None and (e.six is not None or e.ipv6 is None) for e in self.ends)

    @property
    def is_down(self) -> bool:
        """Whether both ends are over."""
        return all(e.down is not None for e in self.ends)

    def agree(self) -> None:
        """Both ends must say the same, crosswise."""
        server, client = self.ends
        assert server.four is not None
        assert client.four is not None
        assert (server.four.local, server.four.peer) == (client.four.peer, client.four.local)
        assert (client.four.local, client.four.dns) == (PEERS_ADDRESS, (DNS, DNS2))
        assert server.link.peer_mru == client.link.mru
        assert client.link.peer_mru == server.link.mru
        if server.ipv6 is not None:
            assert server.six is not None
            assert client.six is not None
            assert (server.six.local_iid, server.six.peer_iid) == (client.six.peer_iid, client.six.local_iid)
            assert server.six.local_iid != client.six.local_iid


def settings(*demand: str, **more: object) -> tuple[LinkSettings, LinkSettings]:
    """Of a server that demands this, and a client that goes any way."""
    server = LinkSettings(name="lns", demand=demand, mru=1400, **more)  # type: ignore[arg-type]
    client = LinkSettings(name="bob", secret=Secret(PASSWORD), mru=1380, **more)  # type: ignore[arg-type]
    return server, client
