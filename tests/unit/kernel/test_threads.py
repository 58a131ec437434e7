"""Slow calls run side by side, quick ones do not, and each has its own result."""

import threading

import pytest

from kl2tp.kernel import threads
from kl2tp.kernel.threads import side_by_side


class Calls:
    """A call that takes as long as the test says, by a clock of its own, and notes who made it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
        self.now = 100.0
        self.looks = 0
        self.takes_s = takes_s
        self.by: set[int] = set()
        self._gate = threading.Barrier(8, timeout=10)
        monkeypatch.setattr(threads.time, "monotonic", self._clock)

    def _clock(self) -> float:
        self.looks += 1
        return self.now

    def __call__(self, number: int) -> int:
        self.now += self.takes_s
        self.by.add(threading.get_ident())
        if number < 0:
            raise OSError(-number, "refused")
        return number * 2


def test_quick_calls_stay_in_the_thread_and_the_clock_is_rarely_read(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, 0.0005)
    assert side_by_side(calls, range(100)) == [2 * number for number in range(100)]
    assert calls.by == {threading.get_ident()}
    assert calls.looks <= 2 + 100 // 16


def test_one_call_needs_no_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, 1.0)
    assert side_by_side(calls, [7]) == [14]
    assert side_by_side(calls, []) == []
    assert calls.looks == 0


def test_after_a_slow_call_the_rest_is_shared_by_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, 0.017)
    assert side_by_side(calls, range(100)) == [2 * number for number in range(100)]
    assert len(calls.by) > 1


def test_threads_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(8, timeout=10)
    calls = Calls(monkeypatch, 0.017)

    def wait(number: int) -> int:
        if number:
            together.wait()
        return calls(number)

    assert side_by_side(wait, range(17)) == [2 * number for number in range(17)]


def test_calls_that_become_slow_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch, 0.0)

    def worse(number: int) -> int:
        calls.takes_s = 0.017 if number > 20 else 0.0
        return calls(number)

    assert len(side_by_side(worse, range(200))) == 200
    assert len(calls.by) > 1


@pytest.mark.parametrize("takes_s", [0.0, 0.017], ids=["quick", "slow"])
def test_a_failure_is_a_result_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch, takes_s: float) -> None:
    results = side_by_side(Calls(monkeypatch, takes_s), [1, -5, 3, -7, 9])
    assert [result.errno if isinstance(result, OSError) else result for result in results] == [2, 5, 6, 7, 18]
