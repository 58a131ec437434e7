"""Each measurement in a process and a network namespace of its own: no leftovers of the one before."""

import ctypes
import gc
import os
import pickle
import resource
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from scale.fleet import LOCAL

_T = TypeVar("_T")
_CLONE_NEWNET = 0x40000000


class Failed(Exception):
    """A measurement did not come to its end."""


@dataclass(slots=True)
class Cost:
    """What a piece of work took, its child processes included."""

    wall_s: float = 0.0
    cpu_s: float = 0.0


def _cpu() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def stopwatch() -> Iterator[Cost]:
    """Measure a block."""
    cost = Cost()
    gc.collect()
    began, cpu = time.monotonic(), _cpu()
    try:
        yield cost
    finally:
        cost.wall_s, cost.cpu_s = time.monotonic() - began, _cpu() - cpu


def isolated(call: Callable[[], _T]) -> _T:
    """Run a function in a fresh process in a fresh namespace with an uplink; its result. Raises Failed."""
    sys.stdout.flush()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        _child(call, writer)
    os.close(writer)
    with open(reader, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(child, 0)
    if status or not data:
        raise Failed(f"failed with status {status}")
    result: Any = pickle.loads(data)
    return result  # type: ignore[no-any-return]


def _child(call: Callable[[], object], writer: int) -> None:
    status = 1
    try:
        if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "no new network namespace")
        uplink()
        data = pickle.dumps(call())
        with open(writer, "wb") as stream:
            stream.write(data)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def uplink() -> None:
    """A device with our address, and a default route over it."""
    commands = f"""
        link set lo up
        link add up0 type dummy
        addr add {LOCAL}/24 dev up0
        link set up0 up
        route add default dev up0
    """
    subprocess.run(["ip", "-batch", "-"], input=commands, text=True, check=True)
