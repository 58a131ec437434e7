"""Listeners hear what happens; a slow one holds up nobody."""

import pytest

from kl2tp.calls.bus import Bus, TooManyListeners


async def test_a_listener_hears_events_in_order() -> None:
    bus = Bus()
    listener = bus.join()
    bus.tell("up", session="a")
    bus.tell("down", session="a", reason="asked")
    first, second = await listener.next(), await listener.next()
    assert (first["event"], second["event"], second["reason"]) == ("up", "down", "asked")


async def test_a_slow_listener_loses_the_oldest_and_is_told() -> None:
    bus = Bus()
    listener = bus.join()
    for number in range(1500):
        bus.tell("up", number=number)
    assert await listener.next() == {"event": "lost", "count": 500}
    assert (await listener.next())["number"] == 500


async def test_who_left_hears_nothing_and_costs_nothing() -> None:
    bus = Bus()
    listener = bus.join()
    bus.leave(listener)
    bus.tell("up")
    assert not listener._events


async def test_there_is_a_limit() -> None:
    bus = Bus()
    for _ in range(32):
        bus.join()
    with pytest.raises(TooManyListeners):
        bus.join()
