"""The stall meter: what it measures on a clock of its own, and that it is a selector like any other."""

import asyncio
import selectors
import socket
from types import SimpleNamespace

import pytest

from kl2tp.daemon import stalls
from kl2tp.daemon.stalls import StallMeter


class Clock:
    """A clock that tests put forward."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(stalls, "time", made)
    return made


def sleeping(meter: StallMeter, clock: Clock, late_s: float = 0.0) -> None:
    """From now on waiting takes as long as it says, and a bit."""

    def select(timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        clock.now += (timeout or 0.0) + late_s
        return []

    meter._inner = SimpleNamespace(select=select)  # type: ignore[assignment]


def test_the_longest_time_away_counts(clock: Clock) -> None:
    meter = StallMeter()
    sleeping(meter, clock)
    for away in (0.01, 0.2, 0.05):
        meter.select(1.0)
        clock.now += away
    meter.select(1.0)
    assert meter.longest_s == pytest.approx(0.2)


def test_waiting_is_no_stall(clock: Clock) -> None:
    meter = StallMeter()
    sleeping(meter, clock)
    for _ in range(3):
        meter.select(60.0)
    assert meter.longest_s == pytest.approx(0.0)


def test_to_be_woken_late_is_one(clock: Clock) -> None:
    meter = StallMeter()
    sleeping(meter, clock, late_s=0.5)
    meter.select(1.0)
    assert meter.longest_s == pytest.approx(0.5, abs=0.01)


def test_measuring_can_begin_anew(clock: Clock) -> None:
    meter = StallMeter()
    sleeping(meter, clock)
    meter.select(0)
    clock.now += 3
    meter.select(0)
    meter.reset()
    assert meter.longest_s == 0.0


def test_an_event_loop_runs_on_it() -> None:
    meter = StallMeter()

    async def talk() -> bytes:
        here, there = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=here)
        there.send(b"hello")
        data = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        there.close()
        return data

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(meter)) as runner:
        assert runner.run(talk()) == b"hello"
    assert meter.longest_s >= 0.0


def test_descriptors_are_registered_changed_and_forgotten() -> None:
    meter = StallMeter()
    here, there = socket.socketpair()
    meter.register(here, selectors.EVENT_READ, "data")
    there.send(b".")
    ((key, events),) = meter.select(5)
    assert (key.data, events) == ("data", selectors.EVENT_READ)
    meter.modify(here, selectors.EVENT_WRITE, "other")
    assert [key.data for key in meter.get_map().values()] == ["other"]
    meter.unregister(here)
    assert not meter.get_map()
    meter.close()
    here.close()
    there.close()
