"""The daemon is killed again and again while hundreds of calls live and others begin: none that is up notices."""

import contextlib
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig import points
from interop.rig.process import kill_all
from kernel.rig.net import Host
from kernel.rig.run import Daemon
from scale.crowd import wire as ends
from scale.crowd.crowd import Crowd
from scale.ppp_bench import Kl2tp

TUNNELS, EACH = 100, 5
KILLS = 20
SETTING_UP = 8
"""Calls that are begun shortly before each kill."""
_WITHIN_S = 120.0


class Lns:
    """A kl2tp with a keeper, and a crowd of callers."""

    def __init__(self, host: Host, server: Kl2tp, crowd: Crowd) -> None:
        self.host, self.server, self.crowd = host, server, crowd

    @property
    def daemon(self) -> Daemon:
        return self.server.daemon

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the daemon, in the middle of whatever it is at."""
        os.kill(self.daemon.pid, number)
        self.daemon._process.wait()

    def start_again(self) -> None:
        self.daemon.close()
        self.server.daemon = self.server.unit.daemon(forked=True)
        self.daemon.wait_ready()

    def addresses(self) -> dict[str, str]:
        """By session, of those that are up."""
        rows = self.daemon.call("sessions", counters=False)["sessions"]
        return {row["session"]: f"{row['user']} {row['address']}" for row in rows if row["state"] == "up"}


@pytest.fixture
def lns(tmp_path: Path) -> Iterator[Lns]:
    host, callers = Host("server"), Host("callers")
    with contextlib.ExitStack() as stack:
        for each in (host, callers):
            stack.callback(each.delete)
        stack.callback(kill_all, host)
        ends.join(host, callers)
        server = stack.enter_context(
            contextlib.closing(Kl2tp(host, tmp_path, TUNNELS * EACH + KILLS * SETTING_UP + 10))
        )
        wire = stack.enter_context(contextlib.closing(ends.Wire(callers)))
        yield Lns(host, server, Crowd(wire))


def test_twenty_kills_lose_no_session_and_no_packet(lns: Lns) -> None:
    crowd = lns.crowd
    sessions = crowd.add(TUNNELS, EACH)
    assert not crowd.dial(sessions, _WITHIN_S).failed
    before = lns.addresses()
    assert len(before) == len(sessions)
    chance = random.Random(20)
    for _ in range(KILLS):
        for session in crowd.add(SETTING_UP):
            session.tunnel.call(session)
        crowd.run(lambda: False, chance.uniform(0.0, 0.25))
        lns.kill()
        assert crowd.ping(sessions) == 0  # with nobody there but the kernel and the keeper
        lns.start_again()
        assert before.items() <= lns.addresses().items()
        assert crowd.ping(sessions) == 0
    assert crowd.counts["lost"] == 0
    # The control connections go on: a call is cleared in an old tunnel, and another one placed there.
    tunnel = sessions[0].tunnel
    assert not crowd.hang_up([sessions[0]], _WITHIN_S).failed
    assert sessions[0].tunnel is tunnel
    again = crowd.add_to(tunnel)
    assert not crowd.dial([again], _WITHIN_S).failed
    assert crowd.ping([again]) == 0
    # And at last a proper end, of all that there is.
    os.kill(lns.daemon.pid, signal.SIGTERM)
    assert crowd.run(lambda: not lns.daemon.alive(), 30.0)
    assert not points.ppp_devices(lns.host)
    assert not points.tunnels(lns.host)
