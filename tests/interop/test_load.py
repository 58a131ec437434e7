"""Thousands of callers at one kl2tp: all come up with addresses of their own, carry packets, go; nothing stays."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig.process import kill_all
from kernel.rig.net import Host, Late
from scale.crowd import wire as ends
from scale.crowd.crowd import Crowd
from scale.crowd.session import Session
from scale.ppp_bench import Kl2tp, memory_kb
from scale.remains import Remains, remains, threads

ROUNDS = {1000: 5, 100: 1}
"""By tunnels."""
_LINGER_S = 32.0
"""So long something is remembered of a tunnel that ended, in case that its end must be acknowledged again."""
_WITHIN_S = 300.0
_WORKERS = 64
"""Threads that may have been started for the work and stay for the next."""
_LEAK_KB = 0.5
"""What a session of the last round may cost more than those before it."""


class Load:
    """A kl2tp with a keeper, and a crowd of callers."""

    def __init__(self, host: Host, server: Kl2tp, wire: ends.Wire) -> None:
        self.host, self.server, self.wire = host, server, wire
        self.crowd = Crowd(wire)

    def remains(self) -> Remains:
        """What the server has."""
        return remains(self.host, self.server.pids())

    def lost(self) -> dict[str, int]:
        """What did not find whom it was for, until now."""
        counters = self.server.daemon.call("status")["calls"]["counters"]
        names = ("stray_data", "malformed_data", "malformed", "send_errors", "unknown_tunnel")
        return {name: counters[name] for name in names}

    def empty(self) -> bool:
        """Whether nothing is left in the kernel."""
        there = self.remains()
        return not (there.devices or there.tunnels or there.sessions)


@pytest.fixture
def load(tmp_path: Path, shape: tuple[int, int]) -> Iterator[Load]:
    """A server for as many users as there will be."""
    host, callers = Host("server"), Host("callers")
    with contextlib.ExitStack() as stack:
        for each in (host, callers):
            stack.callback(each.delete)
        stack.callback(kill_all, host)
        ends.join(host, callers)
        server = stack.enter_context(contextlib.closing(Kl2tp(host, tmp_path, shape[0] * shape[1])))
        wire = stack.enter_context(contextlib.closing(ends.Wire(callers)))
        yield Load(host, server, wire)


def dial(load: Load, tunnels: int, each: int) -> list[Session]:
    """Set so many calls up, each with an address of its own and packets through it."""
    load.server.daemon.log()  # read what it says, so that it need not wait for us
    load.crowd = crowd = Crowd(load.wire)
    lost = load.lost()
    sessions = crowd.add(tunnels, each)
    outcome = crowd.dial(sessions, _WITHIN_S)
    print(f"{outcome.done} up at {outcome.rate:.0f}/s, {dict(crowd.counts)}")
    assert not outcome.failed
    assert len({session.address for session in sessions}) == len(sessions)
    there = load.remains()
    assert (there.devices, there.sessions, there.tunnels) == (len(sessions), len(sessions), tunnels)
    assert crowd.ping(sessions) == 0
    assert all(session.pongs == 1 for session in sessions)
    assert load.lost() == lost
    assert crowd.wire.lost == crowd.counts["strange_frames"] == crowd.counts["strange_packets"] == 0
    return sessions


def hang_up(load: Load, sessions: list[Session]) -> None:
    """End them all."""
    outcome = load.crowd.hang_up(sessions, _WITHIN_S)
    assert not outcome.failed
    assert load.crowd.counts["lost"] == 0
    print(f"{outcome.done} down at {outcome.rate:.0f}/s")


@pytest.mark.parametrize("shape", [(1000, 1), (100, 50)], ids=lambda shape: "x".join(map(str, shape)))
def test_thousands_come_and_go_and_leave_nothing(load: Load, shape: tuple[int, int]) -> None:
    hang_up(load, dial(load, 1, 1))  # for the first one sockets are opened that stay
    load.host.until(load.empty)
    before, tasks, memory = load.remains(), threads(load.server.pids()), [0]
    for number in range(ROUNDS[shape[0]]):
        if number and number + 1 == ROUNDS[shape[0]]:
            load.crowd.run(lambda: False, _LINGER_S)
        hang_up(load, dial(load, *shape))
        with contextlib.suppress(Late):
            load.host.until(lambda: load.remains() == before, 20.0)
        assert load.remains() == before
        memory.append(memory_kb(load.server))
    print(f"{memory[1:]} KiB, {threads(load.server.pids())} threads")
    assert threads(load.server.pids()) <= tasks + _WORKERS
    if len(memory) > 2:
        assert memory[-1] - max(memory[:-1]) < _LEAK_KB * shape[0]
