"""The heap of timers fires each item at its deadline, wherever that moved."""

import asyncio
import heapq

from hypothesis import given
from hypothesis import strategies as st

from kl2tp.calls.timers import NEVER, Timers


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time is made up: it jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def time(self) -> float:
        return self.now

    def run_until(self, moment: float) -> None:
        while self._scheduled and self._scheduled[0]._when <= moment:  # type: ignore[attr-defined]
            handle = heapq.heappop(self._scheduled)  # type: ignore[attr-defined]
            self.now = max(self.now, handle._when)
            if not handle._cancelled:
                handle._run()
        self.now = moment


class Item:
    def __init__(self, deadline: float | None) -> None:
        self.deadline = deadline
        self.timer_at = NEVER
        self.fired: list[float] = []


def test_a_deadline_that_moves_away_fires_late_and_once() -> None:
    clock = Clock()

    def due(item: Item, now: float) -> None:
        item.fired.append(now)
        item.deadline = None

    timers: Timers[Item] = Timers(clock, due)
    item = Item(5.0)
    timers.arm(item)
    item.deadline = 9.0
    timers.arm(item)
    clock.run_until(20.0)
    assert item.fired == [9.0]
    clock.close()


def test_what_is_far_away_fires_together_and_a_little_late() -> None:
    clock = Clock()

    def due(item: Item, now: float) -> None:
        item.fired.append(now)
        item.deadline = None

    timers: Timers[Item] = Timers(clock, due)
    far = [Item(29.8 + n / 100) for n in range(20)]
    near = Item(1.01)
    for item in (*far, near):
        timers.arm(item)
    clock.run_until(40.0)
    assert near.fired == [1.01]
    assert [item.fired for item in far] == [[30.0]] * 20
    clock.close()


def test_a_deadline_that_comes_nearer_fires_early() -> None:
    clock = Clock()

    def due(item: Item, now: float) -> None:
        item.fired.append(now)
        item.deadline = None

    timers: Timers[Item] = Timers(clock, due)
    item = Item(50.0)
    timers.arm(item)
    item.deadline = 3.0
    timers.arm(item)
    clock.run_until(60.0)
    assert item.fired == [3.0]
    clock.close()


@given(st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=5), min_size=1, max_size=20))
def test_every_item_fires_at_each_of_its_deadlines(plans: list[list[int]]) -> None:
    clock = Clock()

    def due(item: Item, now: float) -> None:
        item.fired.append(now)
        plan = left[item]
        item.deadline = float(plan.pop(0)) + now if plan else None

    timers: Timers[Item] = Timers(clock, due)
    left: dict[Item, list[int]] = {}
    expected: dict[Item, list[float]] = {}
    for plan in plans:
        item = Item(float(plan[0]))
        left[item] = plan[1:]
        total, expected[item] = 0.0, []
        for step in plan:
            total += step
            expected[item].append(total)
        timers.arm(item)
    clock.run_until(10_000.0)
    assert all(item.fired == moments for item, moments in expected.items())
    timers.close()
    clock.close()
