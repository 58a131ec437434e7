"""`kl2tp status` and `kl2tp show`: tables, and answers with more or less in them than expected."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.cli import show, status
from kl2tp.cli.terminal import Paint

from .conftest import FakeDaemon, Shell

PLAIN = Paint(False)
TUNNELS: list[dict[str, Any]] = [
    {
        "name": "madrid",
        "state": "up",
        "local": "198.51.100.1",
        "remote": "203.0.113.7",
        "encapsulation": "udp",
        "ipsec": "aes256gcm16",
        "sessions": 1,
        "problem": "",
        "since": None,
        "tries": 0,
        "next_retry_s": None,
    },
    {
        "name": "paris",
        "state": "failed",
        "local": "2001:db8::1",
        "remote": "2001:db8::8",
        "encapsulation": "ip",
        "ipsec": None,
        "sessions": 2,
        "problem": "creating tunnel 1002: Network is unreachable (ENETUNREACH)",
        "tries": 4,
        "next_retry_s": 7.31,
    },
]
ANSWER: dict[str, Any] = {
    "daemon": {
        "pid": 4711,
        "version": "0.1.0",
        "config": "/etc/kl2tp/kl2tp.yaml",
        "uptime_s": 3725,
        "resync_in_s": 291.5,
        "longest_stall_ms": 3.21,
        "suspended": False,
    },
    "counts": {"tunnels": 2, "up": 1, "failed": 1, "pending": 0, "rekeying": 0},
    "drift": {"seen": 1200, "repaired": 1199},
    "tunnels": TUNNELS,
}

GOLDEN = """\
Daemon: pid 4711, version 0.1.0, up 1h2m, /etc/kl2tp/kl2tp.yaml, full comparison in 4m52s, longest stall 3.2 ms
Tunnels: 2: 1 up, 1 failed
Drift: 1,200 seen, 1,199 repaired

TUNNEL  STATE   LOCAL         REMOTE       ENCAP  IPSEC        SESSIONS  TRIES  NEXT  PROBLEM
madrid  up      198.51.100.1  203.0.113.7  udp    aes256gcm16         1
paris   failed  2001:db8::1   2001:db8::8  ip                         2      4  7.3s  \
creating tunnel 1002: Network is unreachable (ENETUNREACH)
"""


def test_status_is_a_table(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": ANSWER})
    outcome = shell("status")
    assert outcome.out == GOLDEN
    assert outcome.status == 3


def test_all_well_exits_with_0(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": ANSWER})
    outcome = shell("status", "mad*")
    assert outcome.status == 0
    assert "\nparis" not in outcome.out


def test_only_problems_are_shown_on_request(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": ANSWER})
    outcome = shell("status", "--problems")
    assert "\nmadrid" not in outcome.out
    assert "\nparis" in outcome.out


def test_status_as_json(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": ANSWER})
    assert shell("status", "--json").json == ANSWER


def test_a_suspended_daemon_says_so() -> None:
    lines = list(status.text({"daemon": {"suspended": True}, "counts": {"tunnels": 0}}, PLAIN, None))
    assert lines[1].startswith("Taken down by `kl2tp down`")


def test_without_a_daemon_status_says_that_nothing_repairs() -> None:
    lines = list(status.text({"daemon": None, "counts": {"tunnels": 1, "up": 1}}, PLAIN, None))
    assert lines == ["Daemon: not running; drift is not repaired", "Tunnels: 1: 1 up"]


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_a_table_fits_the_terminal_where_it_can(
    daemon: FakeDaemon, shell: Shell, terminal: Callable[[int], None], columns: int
) -> None:
    daemon.answers("status", {"result": ANSWER})
    terminal(columns)
    table = shell("status", "--no-color").out.split("\n\n")[1].splitlines()
    least = len("TUNNEL  STATE   LOCAL         REMOTE       ENCAP  IPSEC        SESSIONS  TRIES  NEXT  ") + 8
    assert max(map(len, table)) <= max(columns, least)
    assert table[2].endswith("…")


SHOWN: dict[str, Any] = {
    "name": "madrid",
    "state": "up",
    "problem": "",
    "where": "/etc/kl2tp/kl2tp.yaml:5:3",
    "since": "2026-01-01T00:00:00+00:00",
    "tries": 0,
    "spec": {"local": "198.51.100.1", "ids": "1001/2001", "ipsec": {"proposal": "aes256gcm16", "esn": False}},
    "objects": [
        {"kind": "tunnel", "text": "tunnel 1001 peer 2001", "present": True, "differences": []},
        {"kind": "link", "text": "link mad0 mtu 1404 up", "present": True, "differences": ["mtu: 1500 -> 1404"]},
        {"kind": "clamp", "text": "mss clamp mad0", "present": False, "differences": []},
    ],
    "sessions": [
        {
            "name": "lan",
            "interface": "mad0",
            "mtu": 1404,
            "addresses": ["10.1.0.1/30", "fe80::1/64"],
            "statistics": {
                "tx_packets": 12345,
                "tx_bytes": 2_000_000,
                "tx_errors": 0,
                "rx_packets": 1,
                "rx_bytes": 90,
                "rx_errors": 0,
                "rx_seq_discards": 0,
                "rx_cookie_discards": 7,
            },
        }
    ],
    "associations": [{"direction": "in", "spi": 0x643003E9, "cipher": "rfc4106(gcm(aes))", "packets": 5}],
    "overhead": [{"layer": "IPv4", "bytes": 20}, {"layer": "ESP", "bytes": 8}],
    "neighbours": [{"name": "x"}],
}

SHOW_GOLDEN = """\
madrid: up
  declared at /etc/kl2tp/kl2tp.yaml:5:3
  since        2026-01-01T00:00:00+00:00 (AGE ago)

Declared
  local        198.51.100.1
  ids          1001/2001
  ipsec
    proposal     aes256gcm16
    esn          no

In the kernel
  = tunnel 1001 peer 2001
  ~ link mad0 mtu 1404 up
      mtu: 1500 -> 1404
  - mss clamp mad0  (missing)

Session lan
  interface    mad0
  mtu          1404
  addresses    10.1.0.1/30, fe80::1/64
  received     1 packets, 90 B, 0 errors
  sent         12,345 packets, 1.9 MiB, 0 errors
  rx cookie discards 7

Security associations
  direction  spi         cipher             packets
  in         0x643003e9  rfc4106(gcm(aes))        5

Overhead
  layer  bytes
  IPv4      20
  ESP        8
  total     28

Neighbours
  name
  x"""


def test_show_prints_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "age", lambda since: "AGE")
    assert "\n".join(show.text(SHOWN, PLAIN, None)) == SHOW_GOLDEN


def test_show_of_a_tunnel_with_a_problem_exits_with_3(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("show", {"result": {"name": "lima", "state": "failed", "problem": "no route\nto host"}})
    outcome = shell("show", "lima")
    assert outcome.status == 3
    assert outcome.out == "lima: failed\n  no route\n  to host\n"
    assert daemon.requests == [{"method": "show", "params": {"name": "lima"}}]


def test_show_as_json(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("show", {"result": SHOWN})
    assert shell("show", "madrid", "--json").json == SHOWN


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=5), v, max_size=3))
rows = st.lists(st.dictionaries(st.text(max_size=5), values, max_size=3), max_size=3)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "name": scalars,
            "state": scalars,
            "problem": scalars,
            "spec": st.dictionaries(st.text(max_size=5), values, max_size=3),
            "objects": rows,
            "sessions": rows,
            "associations": rows,
            "overhead": values,
            "more": values,
            "since": scalars,
            "wait_s": scalars,
        },
    )
)
def test_show_survives_answers_of_other_versions(answer: dict[str, Any]) -> None:
    for line in "\n".join(show.text(answer, PLAIN, 80)).splitlines():
        assert line.isprintable()
