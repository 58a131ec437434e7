"""Slow system calls side by side.

On a multiprocessor kernel some calls wait for an RCU grace period, 17 ms and more, and threads that wait together share
it; on others the same calls take microseconds and threads would only cost. The calls themselves show whether it pays.
"""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")
_MOST_THREADS, _LEAST_THREADS, _CALLS_EACH = 64, 4, 4
"""With few calls a thread for each would cost more than it saves."""
_SLOW_S = 0.002
"""A call that takes longer waits for something."""
_STRIDE = 16
"""Calls between two looks at the clock, which is a system call too where the kernel runs as a program."""


def side_by_side(call: Callable[[_T], _R], arguments: Sequence[_T]) -> list[_R | OSError]:
    """The results of all calls, in their order; OSError for those that failed."""
    results: list[Any] = []
    began = 0.0
    for index, argument in enumerate(arguments):
        if index == 1 or (index and index % _STRIDE == 0):
            now = time.monotonic()
            calls = 1 if index == 1 else min(index - 1, _STRIDE)
            if began and now - began > calls * _SLOW_S:
                return results + _spread(call, arguments[index:])
            began = now
        elif not index and len(arguments) > 1:
            began = time.monotonic()
        results.append(_outcome(call, argument))
    return results


def _outcome(call: Callable[[_T], _R], argument: _T) -> _R | OSError:
    try:
        return call(argument)
    except OSError as error:
        return error


def _spread(call: Callable[[_T], _R], arguments: Sequence[_T]) -> list[Any]:
    """Many threads, each taking the next argument that is left."""
    results: list[Any] = [None] * len(arguments)
    left = iter(range(len(arguments)))
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                index = next(left, -1)
            if index < 0:
                return
            results[index] = _outcome(call, arguments[index])

    count = min(_MOST_THREADS, len(arguments), _LEAST_THREADS + len(arguments) // _CALLS_EACH)
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
