"""What `kl2tp status` and `kl2tp apply` say of calls."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.cli import apply, calls, sessions, status
from kl2tp.cli.terminal import Paint

from .conftest import FakeDaemon, Shell

PLAIN = Paint(False)
CALLS: dict[str, Any] = {
    "listening": ["198.51.100.1 port 1701"],
    "problems": [],
    "keeper": "connected",
    "mended": 0,
    "tunnels": 812,
    "sessions": {"setup": 2, "attaching": 0, "network": 1, "up": 1204, "closing": 0, "dialing": 1},
    "pools": {"10.9.0.0/20": {"used": 1205, "size": 4093}, "branches": {"used": 86, "size": 90}},
    "counters": {"malformed": 0, "requests": 5211, "sccrq_refused": 0, "unauthorized": 0, "send_errors": 0},
    "lac": [
        {"name": "hq", "state": "up", "server": "203.0.113.1", "problem": ""},
        {"name": "backup", "state": "dialing", "server": "192.0.2.9", "problem": "no answer"},
    ],
}
ANSWER: dict[str, Any] = {
    "daemon": {"pid": 4711, "version": "0.1.0"},
    "counts": {"tunnels": 0, "up": 0},
    "drift": {"seen": 0, "repaired": 0},
    "tunnels": [],
    "calls": CALLS,
}
GOLDEN = """\
Daemon: pid 4711, version 0.1.0

Calls: 1,207 sessions in 812 tunnels: 2 setup, 1 network, 1,204 up, 1 dialing
  listening   198.51.100.1 port 1701
  keeper      connected
  pools       branches 86 of 90, 10.9.0.0/20 1,205 of 4,093

CALL    STATE    SERVER       PROBLEM
hq      up       203.0.113.1
backup  dialing  192.0.2.9    no answer
"""


def told(**changes: Any) -> str:
    return "\n".join(calls.text(CALLS | {"lac": []} | changes, PLAIN, None))


def test_status_tells_of_calls(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": ANSWER})
    outcome = shell("status")
    assert outcome.out == GOLDEN
    assert outcome.status == 3


def test_a_call_that_is_up_is_well(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": ANSWER})
    outcome = shell("status", "hq")
    assert outcome.status == 0
    assert "backup" not in outcome.out


def test_only_calls_with_a_problem_on_request(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": ANSWER})
    outcome = shell("status", "--problems", "--json")
    assert [call["name"] for call in outcome.json["calls"]["lac"]] == ["backup"]


def test_tunnels_and_drift_are_told_of_where_there_are_any() -> None:
    answer = ANSWER | {"counts": {"tunnels": 1, "up": 1}, "drift": {"seen": 2, "repaired": 2}}
    lines = list(status.text(answer, PLAIN, None))
    assert lines[1:4] == ["Tunnels: 1: 1 up", "Drift: 2 seen, 2 repaired", ""]


def test_without_a_keeper_it_says_what_follows() -> None:
    assert "  keeper      none: calls end with the daemon; see: kl2tp doctor" in told(keeper=None)


def test_what_does_not_work_is_told() -> None:
    problem = "cannot listen on 198.51.100.1 port 1701: Cannot assign requested address"
    assert told(listening=[], problems=[problem]).endswith(f"\n  {problem}")


def test_counters_are_told_when_they_say_something() -> None:
    text = told(mended=3, counters={"unauthorized": 2, "malformed": 7, "expired": 1, "requests": 9, "send_errors": 1})
    assert text.splitlines()[-4:] == [
        "  repaired    3 sessions",
        "  refused     2 without the secret",
        "  dropped     7 malformed, 1 expired",
        "  errors      1 packets not sent",
    ]


def test_of_many_pools_the_fullest_are_told() -> None:
    pools = {f"p{n}": {"used": n, "size": 100} for n in range(20)}
    line = next(line for line in told(pools=pools).splitlines() if "pools" in line)
    assert line.startswith("  pools       p19 19 of 100, p18 18 of 100")
    assert line.endswith("p12 12 of 100, 12 more")


def test_a_full_pool_stands_out() -> None:
    pools = {"a": {"used": 10, "size": 10}, "b": {"used": 9, "size": 10}, "c": {"used": 0, "size": 0}}
    line = "\n".join(calls.text({"pools": pools}, Paint(True), None))
    assert Paint(True)("a 10 of 10", "red") in line
    assert Paint(True)("b 9 of 10", "yellow") in line
    assert " c 0 of 0" in line


def test_every_state_of_a_session_can_be_asked_for() -> None:
    assert set(sessions.STATES) == set(CALLS["sessions"])


@pytest.mark.parametrize(
    ("unserved", "which"),
    [
        ({"lns": ["office"], "lac": []}, "1 LNS profile"),
        ({"lns": ["a", "b"], "lac": ["hq"]}, "2 LNS profiles and 1 call"),
    ],
)
def test_without_a_daemon_nobody_serves_calls(unserved: dict[str, Any], which: str) -> None:
    said = f"Calls ({which}) are served by the daemon, which does not run"
    answer: dict[str, Any] = {"daemon": None, "counts": {"tunnels": 0}, "unserved": unserved, "tunnels": []}
    assert list(status.text(answer, PLAIN, None)) == ["Daemon: not running; drift is not repaired", said]
    done = list(apply._conclusion({"tunnels": 0, "unserved": unserved}, "", remote=False))
    assert done == [f"{said}; start it: systemctl start kl2tp"]


scalars = st.none() | st.integers() | st.text(max_size=5)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "listening": st.lists(scalars, max_size=3),
            "problems": st.lists(scalars, max_size=3),
            "keeper": scalars,
            "mended": st.none() | st.integers(0),
            "tunnels": st.none() | st.integers(0),
            "sessions": st.none() | st.dictionaries(st.text(max_size=5), st.integers(0), max_size=3),
            "counters": st.none() | st.dictionaries(st.text(max_size=5), st.integers(0), max_size=3),
            "lac": st.none() | st.lists(st.dictionaries(st.text(max_size=5), scalars, max_size=3), max_size=3),
        },
    )
)
def test_answers_of_other_versions_do_no_harm(answer: dict[str, Any]) -> None:
    for line in "\n".join(calls.text(answer, PLAIN, 80)).split("\n"):
        assert line.isprintable()


def test_clients_with_ipsec_and_what_was_kept_out_are_told() -> None:
    found = {
        "sessions": {"up": 2},
        "tunnels": 2,
        "suspended": 1,
        "counters": {"in_clear": 7, "of_another": 2, "other_clients": 1, "unknown_clients": 0},
    }
    lines = list(calls.text(found, PLAIN, None))
    assert "1 tunnel without IPsec for now" in lines[0]
    [kept_out] = [line for line in lines if "kept out" in line]
    assert "7 in clear" in kept_out
    assert "2 from another client's SA (by the kernel)" in kept_out
    assert "nobody's" not in kept_out


def test_how_strongswan_is_is_told_with_the_latest_who_tried_in_vain() -> None:
    stranger = {"address": "203.0.113.9", "problem": "no connection fits", "cure": "", "times": 3}
    found = {"alive": True, "version": "strongSwan 5.9.8", "clients": 12, "strangers": [stranger] * 9}
    lines = list(calls.ike(found, PLAIN))
    assert lines[0] == "IKE: strongSwan 5.9.8, 12 clients"
    assert lines[1] == "  refused 203.0.113.9: no connection fits (3 times)"
    assert len(lines) == 6
    [line] = calls.ike({"alive": False, "version": None}, PLAIN)
    assert "does not answer" in line
