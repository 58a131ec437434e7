"""Calls over a line that loses, doubles and reorders packets: all come up, none is lost.

Ten minutes with five hundred calls: KL2TP_SOAK=600 (seconds) in the environment, which `make soak` sets.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from interop.rig.process import kill_all
from kernel.rig.net import Host
from scale.crowd import wire as ends
from scale.crowd.crowd import Crowd
from scale.ppp_bench import Kl2tp

SOAK_S = float(os.environ.get("KL2TP_SOAK", "20"))
SESSIONS = 500 if SOAK_S >= 60 else 60
BAD = "tc qdisc add dev {} root netem delay 10ms 3ms reorder 25% 50% loss 5% duplicate 5% limit 100000"
_WITHIN_S = 240.0


@pytest.fixture
def lns(tmp_path: Path) -> Iterator[tuple[Kl2tp, Crowd, list[Host]]]:
    hosts = [Host("server"), Host("callers")]
    with contextlib.ExitStack() as stack:
        for each in hosts:
            stack.callback(each.delete)
        stack.callback(kill_all, hosts[0])
        ends.join(*hosts)
        server = stack.enter_context(contextlib.closing(Kl2tp(hosts[0], tmp_path, SESSIONS)))
        wire = stack.enter_context(contextlib.closing(ends.Wire(hosts[1])))
        yield server, Crowd(wire), hosts


def test_calls_come_up_and_stay_over_a_bad_line(lns: tuple[Kl2tp, Crowd, list[Host]]) -> None:
    server, crowd, hosts = lns
    for host in hosts:
        with host.entered():
            subprocess.run(BAD.format(ends.DEVICE).split(), check=True)
    sessions = crowd.add(SESSIONS // 5, 5)
    outcome = crowd.dial(sessions, _WITHIN_S)
    assert not outcome.failed
    print(f"{outcome.done} up at {outcome.rate:.1f}/s, {dict(crowd.counts)}")
    crowd.run(lambda: False, SOAK_S)
    assert crowd.counts["lost"] == 0
    assert len(crowd.up()) == SESSIONS
    rows = server.daemon.call("sessions", counters=False)["sessions"]
    assert [row["state"] for row in rows] == ["up"] * SESSIONS
    assert len({row["address"] for row in rows}) == SESSIONS
    lost = crowd.ping(sessions, 2, 10.0)
    print(f"{lost} of {2 * SESSIONS} pings lost")
    assert lost < SESSIONS
