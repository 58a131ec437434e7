"""A flood of SCCRQs from invented addresses: what lives goes on, what is genuine gets in, memory stays bounded."""

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig.process import kill_all
from kernel.rig.net import Host
from scale.crowd import messages
from scale.crowd import wire as ends
from scale.crowd.crowd import Crowd
from scale.crowd.messages import CONTROL, CONTROL_HEADER
from scale.ppp_bench import Kl2tp, memory_kb

LIVING, GENUINE, SPOOFED = 100, 10, 100_000
_BATCH = 256
_MOST_KB = 24_000
"""What the flood may cost: four thousand half-open tunnels, and what tells a repeated request from a new one."""


@pytest.fixture
def lns(tmp_path: Path) -> Iterator[tuple[Kl2tp, Crowd]]:
    host, callers = Host("server"), Host("callers")
    with contextlib.ExitStack() as stack:
        for each in (host, callers):
            stack.callback(each.delete)
        stack.callback(kill_all, host)
        ends.join(host, callers)
        server = stack.enter_context(contextlib.closing(Kl2tp(host, tmp_path, LIVING + GENUINE)))
        wire = stack.enter_context(contextlib.closing(ends.Wire(callers)))
        yield server, Crowd(wire)


def _spoofed(chance: random.Random) -> bytes:
    """A request from somewhere else in the callers' /12 than any caller."""
    message = messages.sccrq(chance.randrange(1, 0x10000), f"host{chance.random()}")
    path = ends.Path(bytes((172, 24, chance.randrange(256), chance.randrange(1, 255))), chance.randrange(1024, 65536))
    return path.wrap(CONTROL_HEADER.pack(CONTROL, 12 + len(message), 0, 0, 0, 0) + message)


def test_a_hundred_thousand_spoofed_requests(lns: tuple[Kl2tp, Crowd]) -> None:
    server, crowd = lns
    living = crowd.add(LIVING)
    assert not crowd.dial(living, 60.0).failed
    before = memory_kb(server)
    genuine = crowd.add(GENUINE)
    chance = random.Random(100_000)
    for number in range(0, SPOOFED, _BATCH):
        crowd.out += [_spoofed(chance) for _ in range(_BATCH)]
        if number == SPOOFED // 2 // _BATCH * _BATCH:
            for session in genuine:
                session.tunnel.call(session)
        crowd.run(lambda: True, 0.0)
    assert crowd.run(lambda: all(session in crowd.up() for session in genuine), 60.0), crowd.states()
    counters = server.daemon.call("status")["calls"]["counters"]
    print(counters, f"{memory_kb(server) - before} KiB")
    assert counters["requests"] + counters["delayed"] > SPOOFED // 10, "the flood did not arrive"
    assert memory_kb(server) - before < _MOST_KB
    assert crowd.counts["lost"] == 0
    assert crowd.ping([*living, *genuine]) == 0
