"""Endpoints with a network between them that loses, repeats and delays as it is told, a made-up clock, and restarts."""

import heapq
import itertools
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from kl2tp.control.call import Call
from kl2tp.control.endpoint import CallOffered, CallUp, Endpoint, Event, TunnelUp
from kl2tp.control.host import Profile
from kl2tp.control.profiles import Peer, Profiles
from kl2tp.control.tunnel import Tunnel
from kl2tp.model.calls import ControlSpec, LacSpec, LnsSpec
from unit.control.network import ARRIVES, DELAY, Fate

QUICK = ControlSpec(hello_interval=20.0, empty_timeout=0.0)
"""A dead peer is found within a minute, and tunnels stay without calls."""
SILENT = ControlSpec(hello_interval=0.0, empty_timeout=0.0)


def octets(seed: int) -> Callable[[int], bytes]:
    """A source of octets that are the same in every run."""
    return random.Random(seed).randbytes


class Site:
    """One host: its endpoint, what that told, and what its next life would know."""

    def __init__(
        self,
        number: int,
        profiles: Iterable[LnsSpec] = (LnsSpec("all", control=QUICK),),
        *,
        secret: bytes | None = None,
        seed: int = 0,
    ) -> None:
        self.place: Peer = (bytes((10, 0, 0, number)), 1701)
        self.profiles = Profiles(profiles)
        self.lacs: dict[str, LacSpec] = {}
        self.secret = secret
        self.random = octets(seed * 1000 + number)
        self.accept_outgoing: Callable[[Call], bool] | None = None
        self.events: list[Event] = []
        self.store: dict[str, str] = {}
        self.lives = 0
        self.mute = False
        """Whether it is killed after its next turn, before anything leaves."""
        self.endpoint = self._endpoint()

    def _endpoint(self) -> Endpoint:
        self.lives += 1
        endpoint = Endpoint(self.profiles, self.random, self.secret_of, host_name=f"host{self.place[0][3]}")
        endpoint.accept_outgoing(self.accept_outgoing)
        return endpoint

    def secret_of(self, profile: Profile, peer: Peer, host_name: str) -> bytes | None:
        return self.secret

    def place_outgoing(self) -> None:
        """Be an LAC that places calls for others."""
        self.accept_outgoing = lambda call: True
        self.endpoint.accept_outgoing(self.accept_outgoing)

    def keep(self) -> None:
        """Write down what changed."""
        for item in self.endpoint.take_dirty():
            key = f"{item.id}" if isinstance(item, Tunnel) else f"{item.tunnel.id}.{item.id}"
            state = item.save()
            if state is None:
                self.store.pop(key, None)
            else:
                self.store[key] = json.dumps(state)

    def revive(self, now: float) -> None:
        """A new process, from what was kept."""
        self.endpoint = self._endpoint()
        states = [json.loads(text) for text in self.store.values()]
        saved = {
            "tunnels": [state for state in states if "tunnel" not in state],
            "calls": [state for state in states if "tunnel" in state],
        }
        self.endpoint.restore(saved, self.profile_of, now)

    def profile_of(self, state: Mapping[str, Any]) -> Profile | None:
        name = state["profile"]
        return self.profiles.named(name) if state["lns"] else self.lacs.get(name)

    def took(self, kind: type[Event]) -> list[Any]:
        """The events of a kind, so far."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def tunnel(self) -> Tunnel:
        """The only one."""
        [tunnel] = self.endpoint.tunnels.values()
        return tunnel

    @property
    def call(self) -> Call:
        """The only one."""
        [call] = self.tunnel.calls.values()
        return call

    @property
    def calls(self) -> list[Call]:
        return [call for tunnel in self.endpoint.tunnels.values() for call in tunnel.calls.values()]

    def assert_clean(self) -> None:
        """Nothing is left of anything."""
        host = self.endpoint._host
        assert not host.tunnels
        assert not host.half_open
        assert not host.half_open_of
        assert not host.tunnel_of
        assert not host.latest_of
        assert not host.dialing
        assert not host.touched
        for usage in self.endpoint.usages.values():
            assert (usage.tunnels, usage.sessions, usage.tunnels_of, usage.half_open) == (0, 0, {}, {})
        assert not self.store


class World:
    """Runs all sites."""

    def __init__(self, *sites: Site, fates: Iterable[Fate] = ()) -> None:
        self.now = 1000.0
        self.sites = {site.place[0]: site for site in sites}
        self.fates: Iterator[Fate] = iter(fates)
        self.carried: list[bytes] = []
        self._flying: list[tuple[float, int, Peer, Peer, bytes]] = []
        self._count = itertools.count()

    def turn(self, site: Site, act: Callable[[Endpoint], object]) -> None:
        """One turn: something happens, events are heard, state is kept, datagrams leave."""
        endpoint = site.endpoint
        act(endpoint)
        while events := endpoint.take_events():
            site.events += events
        site.keep()
        datagrams = endpoint.take_datagrams()
        if site.mute:
            site.mute = False
            self.restart(site)
            return
        for datagram in datagrams:
            assert datagram.local == site.place
            self.carry(datagram.data, datagram.local, datagram.peer)

    def carry(self, data: bytes, source: Peer, target: Peer) -> None:
        """Send a packet over the network."""
        self.carried.append(data)
        for later in next(self.fates, ARRIVES):
            heapq.heappush(self._flying, (self.now + DELAY + later, next(self._count), source, target, data))

    def restart(self, site: Site) -> None:
        """Kill a site and start it again."""
        site.revive(self.now)
        self.turn(site, lambda endpoint: None)

    def step(self, until: float) -> bool:
        """The next thing that happens before `until`; whether there was one."""
        deadlines = [
            (site.endpoint.deadline, site) for site in self.sites.values() if site.endpoint.deadline is not None
        ]
        due = min((moment for moment, _ in deadlines if moment is not None), default=until + 1)
        if self._flying and self._flying[0][0] <= due:
            moment, _, source, target, data = self._flying[0]
            if moment > until:
                return False
            heapq.heappop(self._flying)
            self.now = max(self.now, moment)
            site = self.sites.get(target[0])
            if site is not None:
                self.turn(site, lambda endpoint: endpoint.receive(data, source, target, self.now))
            return True
        if due > until:
            return False
        self.now = max(self.now, due)
        for moment, site in deadlines:
            if moment == due:
                self.turn(site, lambda endpoint: endpoint.handle_timer(self.now))
        return True

    def run(self, seconds: float = 5.0) -> None:
        """Let time pass."""
        until = self.now + seconds
        for _ in range(200_000):
            if not self.step(until):
                self.now = until
                return
        raise AssertionError("they never come to rest")

    # -- what people do ----------------------------------------------------------------------------------------------

    def connect(self, site: Site, other: Site, spec: LacSpec | None = None, *, own: bool = True) -> Tunnel:
        """Open a tunnel."""
        spec = spec or LacSpec("lac", (other.place,), control=QUICK, own_tunnel=own)
        site.lacs[spec.name] = spec
        opened: list[Tunnel] = []
        self.turn(site, lambda endpoint: opened.append(endpoint.connect(spec, other.place, site.place, self.now)))
        return opened[0]

    def place(self, site: Site, tunnel: Tunnel, **options: Any) -> Call:
        """Place a call."""
        placed: list[Call] = []
        self.turn(site, lambda endpoint: placed.append(endpoint.place_call(tunnel, self.now, **options)))
        return placed[0]

    def hang_up(self, site: Site, call: Call, **options: Any) -> None:
        self.turn(site, lambda endpoint: endpoint.hang_up(call, self.now, **options))

    def close(self, site: Site, tunnel: Tunnel, **options: Any) -> None:
        self.turn(site, lambda endpoint: endpoint.close(tunnel, self.now, **options))

    def shutdown(self, site: Site) -> None:
        self.turn(site, lambda endpoint: endpoint.shutdown(self.now))


def up(lac: Site, lns: Site, **options: Any) -> World:
    """A tunnel, and a call in it, between two sites."""
    world = World(lac, lns)
    tunnel = world.connect(lac, lns)
    world.run(1.0)
    world.place(lac, tunnel, **options)
    world.run(1.0)
    for site in (lac, lns):
        assert [type(event) for event in site.events if not isinstance(event, CallOffered)] == [TunnelUp, CallUp]
    return world
