"""Two endpoints back to back, over bad networks and through restarts: in the end they always agree."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.control.endpoint import CallDown, CallUp, TunnelDown, TunnelUp
from kl2tp.model.calls import ControlSpec, LacSpec, LnsSpec
from unit.control.network import ARRIVES, LOST, Fate
from unit.control.world import QUICK, Site, World

fates = st.lists(
    st.one_of(st.just(ARRIVES), st.just(LOST), st.lists(st.floats(0, 4), min_size=1, max_size=3).map(tuple)),
    max_size=60,
)
side = st.integers(0, 1)
which = st.integers(0, 3)
deed = st.one_of(
    st.tuples(st.just("connect"), side, st.booleans()),
    st.tuples(st.just("place"), side, st.booleans(), which),
    st.tuples(st.just("hang up"), side, which),
    st.tuples(st.just("close"), side, which),
    st.tuples(st.just("suspend"), side, which),
    st.tuples(st.just("resume"), side, which),
    st.tuples(st.just("restart"), side),
    st.tuples(st.just("mute"), side),
    st.tuples(st.just("wait"), st.sampled_from((0.01, 0.02, 0.05, 1.0, 3.0, 40.0))),
    st.tuples(st.just("steps"), st.integers(1, 8)),
)

_BEGIN: list[tuple[Any, ...]] = [("connect", 0, True), ("place", 0, False, 0), ("place", 0, True, 0), ("steps", 3)]


def _pick(items: list[Any], number: int) -> Any:
    return items[number % len(items)] if items else None


def _do(world: World, sites: tuple[Site, Site], what: str, *more: Any) -> None:
    """What a person, or an accident, does."""
    if what == "wait":
        world.run(more[0])
        return
    if what == "steps":
        for _ in range(more[0]):
            world.step(world.now + 100)
        return
    site, other = sites[more[0]], sites[1 - more[0]]
    tunnels = list(site.endpoint.tunnels.values())
    if what == "connect":
        world.connect(site, other, own=more[1])
    elif what == "place" and tunnels:
        world.place(site, _pick(tunnels, more[2]), outgoing=more[1])
    elif what == "hang up" and site.calls:
        world.hang_up(site, _pick(site.calls, more[1]))
    elif what == "close" and tunnels:
        world.close(site, _pick(tunnels, more[1]))
    elif what == "suspend" and tunnels:
        world.turn(site, lambda endpoint: endpoint.suspend(_pick(tunnels, more[1]), world.now))
    elif what == "resume" and tunnels:
        world.turn(site, lambda endpoint: endpoint.resume(_pick(tunnels, more[1]), world.now))
    elif what == "restart":
        world.restart(site)
    elif what == "mute":
        site.mute = True


def _view(site: Site, *, turned: bool) -> tuple[set[tuple[int, int]], set[tuple[int, ...]]]:
    """The tunnels and calls that are there, as the first side names them."""
    tunnels: set[tuple[int, int]] = set()
    calls: set[tuple[int, ...]] = set()
    for tunnel in site.endpoint.tunnels.values():
        assert tunnel.established
        ids = (tunnel.peer_id, tunnel.id) if turned else (tunnel.id, tunnel.peer_id)
        tunnels.add(ids)
        for call in tunnel.calls.values():
            assert call.established
            calls.add((*ids, *((call.peer_id, call.id) if turned else (call.id, call.peer_id))))
    return tunnels, calls


def _pair(seed: int, secret: bytes | None = None, control: ControlSpec = QUICK) -> tuple[Site, Site]:
    lns = (LnsSpec("all", control=control),)
    sites = Site(1, lns, seed=seed, secret=secret), Site(2, lns, seed=seed, secret=secret)
    for site in sites:
        site.place_outgoing()
    return sites


def _settle(world: World, sites: tuple[Site, Site]) -> None:
    """The network is good from now on, and nobody touches anything."""
    for site in sites:
        site.mute = False
        for tunnel in list(site.endpoint.tunnels.values()):
            world.turn(site, lambda endpoint, tunnel=tunnel: endpoint.resume(tunnel, world.now))
    world.fates = iter(())
    world.run(300.0)


@given(fates, st.lists(deed, max_size=40), st.integers(0, 999), st.sampled_from((None, b"secret")))
def test_they_agree_in_the_end_and_nothing_is_left(
    fates: list[Fate], deeds: list[tuple[Any, ...]], seed: int, secret: bytes | None
) -> None:
    sites = _pair(seed, secret)
    world = World(*sites, fates=fates)
    for what, *more in (*_BEGIN, *deeds):
        _do(world, sites, what, *more)
    _settle(world, sites)
    assert _view(sites[0], turned=False) == _view(sites[1], turned=True)
    for site in sites:
        assert not site.endpoint.half_open
        # What would be restored is what there is.
        before = _view(site, turned=False)
        site.revive(world.now)
        assert _view(site, turned=False) == before
    world.shutdown(sites[seed % 2])
    _settle(world, sites)
    for site in sites:
        site.assert_clean()


@given(fates, st.integers(0, 999))
def test_the_owner_hears_of_everything_once(fates: list[Fate], seed: int) -> None:
    sites = lac, lns = _pair(seed)
    world = World(*sites, fates=fates)
    tunnel = world.connect(lac, lns)
    calls = [world.place(lac, tunnel, outgoing=bool(number % 2)) for number in range(6)]
    world.run(30.0)
    for call in calls[:3]:
        world.hang_up(lac, call)
    world.run(30.0)
    world.shutdown(lns)
    _settle(world, sites)
    for site in sites:
        for rise, fall in ((TunnelUp, TunnelDown), (CallUp, CallDown)):
            ups = [event.tunnel if rise is TunnelUp else event.call for event in site.took(rise)]
            downs = [event.tunnel if rise is TunnelUp else event.call for event in site.took(fall)]
            assert len(set(ups)) == len(ups)
            assert len(set(downs)) == len(downs)
            assert set(ups) <= set(downs)
    assert {event.call for event in lac.took(CallDown)} == set(calls)
    for site in sites:
        site.assert_clean()


@given(st.integers(0, 999), st.integers(1, 40))
def test_one_side_may_die_at_any_moment_for_ever(seed: int, steps: int) -> None:
    sites = lac, lns = _pair(seed)
    world = World(*sites)
    tunnel = world.connect(lac, lns)
    for _ in range(3):
        world.place(lac, tunnel)
    for _ in range(steps):
        world.step(world.now + 100)
    del world.sites[lns.place[0]]
    world.run(300.0)
    lac.assert_clean()
    assert len(lac.took(TunnelDown)) == 1


@pytest.mark.parametrize("own", [False, True])
def test_both_open_a_tunnel_at_the_same_moment(own: bool) -> None:
    for seed in range(20):
        sites = _pair(seed)
        world = World(*sites)
        first, second = world.connect(sites[0], sites[1], own=own), world.connect(sites[1], sites[0], own=own)
        world.run(40.0)
        views = _view(sites[0], turned=False), _view(sites[1], turned=True)
        assert views[0] == views[1]
        assert len(views[0][0]) == (2 if own else 1)
        downs = [event.tunnel for site in sites for event in site.took(TunnelDown)]
        assert downs == [] if own else (downs in ([first], [second]))


def test_hundreds_of_calls_in_one_tunnel_over_a_bad_network() -> None:
    sites = lac, lns = _pair(1)
    bad: list[Fate] = [ARRIVES, (0.0, 0.3), ARRIVES, (0.02,), LOST, ARRIVES, ARRIVES, (0.05, 0.01)]
    world = World(*sites, fates=bad * 200)
    spec = LacSpec("many", (lns.place,), control=ControlSpec(setup_timeout=300.0))
    tunnel = world.connect(lac, lns, spec)
    for _ in range(300):
        lac.endpoint.place_call(tunnel, world.now)
    world.run(250.0)
    assert len(lac.took(CallUp)) == 300
    assert _view(lac, turned=False) == _view(lns, turned=True)
