"""Thousands of callers at one kl2tp: all come up with addresses of their own, carry packets, go; nothing stays."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig import points
from interop.rig.process import kill_all
from kernel.rig.net import Host, Late
from scale.crowd import wire as ends
from scale.crowd.crowd import Crowd
from scale.crowd.session import Session
from scale.ppp_bench import Kl2tp, memory_kb
from scale.remains import Remains, remains, threads

ROUNDS = 2
_WITHIN_S = 300.0
_WORKERS = 64
"""Threads that may have been started for the work and stay for the next."""
_LEAK_KB = 1.0
"""What a session may cost the second time, of memory that is not given back."""


class Load:
    """A kl2tp with a keeper, and a crowd of callers."""

    def __init__(self, host: Host, server: Kl2tp, crowd: Crowd) -> None:
        self.host, self.server, self.crowd = host, server, crowd

    def remains(self) -> Remains:
        """What the server has."""
        return remains(self.host, self.server.pids())

    def assert_nothing_lost(self) -> None:
        """Every frame found whom it was for."""
        counters = self.server.daemon.call("status")["calls"]["counters"]
        names = ("stray_data", "malformed_data", "malformed", "send_errors", "unknown_tunnel")
        assert {name: counters[name] for name in names} == dict.fromkeys(names, 0)
        assert self.crowd.wire.lost == 0
        assert self.crowd.counts["strange_frames"] == self.crowd.counts["strange_packets"] == 0


@pytest.fixture
def load(tmp_path: Path, shape: tuple[int, int]) -> Iterator[Load]:
    """A server for as many users as there will be."""
    host, callers = Host("server"), Host("callers")
    with contextlib.ExitStack() as stack:
        for each in (host, callers):
            stack.callback(each.delete)
        stack.callback(kill_all, host)
        ends.join(host, callers)
        users = 1 + ROUNDS * shape[0] * shape[1]
        server = stack.enter_context(contextlib.closing(Kl2tp(host, tmp_path, users)))
        wire = stack.enter_context(contextlib.closing(ends.Wire(callers)))
        yield Load(host, server, Crowd(wire))


def dial(load: Load, tunnels: int, each: int) -> list[Session]:
    """Set so many calls up, each with an address of its own and packets through it."""
    crowd = load.crowd
    sessions = crowd.add(tunnels, each)
    outcome = crowd.dial(sessions, _WITHIN_S)
    print(f"{outcome.done} up at {outcome.rate:.0f}/s, {dict(crowd.counts)}")
    assert not outcome.failed
    assert len({session.address for session in sessions}) == len(sessions)
    there = load.remains()
    assert (there.devices, there.sessions, there.tunnels) == (len(sessions), len(sessions), tunnels)
    assert crowd.ping(sessions) == 0
    assert all(session.pongs == 1 for session in sessions)
    load.assert_nothing_lost()
    return sessions


@pytest.mark.parametrize("shape", [(1000, 1), (100, 50)], ids=lambda shape: "x".join(map(str, shape)))
def test_thousands_come_and_go_and_leave_nothing(load: Load, shape: tuple[int, int]) -> None:
    load.crowd.hang_up(dial(load, 1, 1), _WITHIN_S)  # for the first one sockets are opened that stay
    points.wait_no_devices(load.host)
    before, tasks, memory = load.remains(), threads(load.server.pids()), []
    for _ in range(ROUNDS if shape[1] == 1 else 1):
        sessions = dial(load, *shape)
        outcome = load.crowd.hang_up(sessions, _WITHIN_S)
        assert not outcome.failed
        with contextlib.suppress(Late):
            load.host.until(lambda: load.remains() == before, 20.0)
        assert load.remains() == before
        print(f"{outcome.done} down at {outcome.rate:.0f}/s")
        memory.append(memory_kb(load.server))
    assert load.crowd.counts["lost"] == 0
    assert threads(load.server.pids()) <= tasks + _WORKERS
    assert memory[-1] - memory[0] < _LEAK_KB * len(load.crowd.sessions)
    print(f"{memory} KiB, {threads(load.server.pids())} threads")
