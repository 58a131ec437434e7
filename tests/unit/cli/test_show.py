"""What `kl2tp show` prints about a tunnel."""

from typing import Any

import pytest

from kl2tp.cli import show
from kl2tp.cli.show import text
from kl2tp.cli.terminal import Paint

UP: dict[str, Any] = {"name": "madrid", "state": "up", "problem": "", "tries": 0, "next_retry_s": None}
FAILED: dict[str, Any] = {"name": "madrid", "state": "failed", "problem": "no", "tries": 3, "next_retry_s": 2.5}


def shown(answer: dict[str, Any]) -> list[str]:
    return list(text(answer, Paint(False), None))


def test_a_tunnel_that_is_up_has_no_tries() -> None:
    assert shown(UP) == ["madrid: up"]


def test_a_failed_tunnel_shows_tries_and_the_next_one() -> None:
    lines = shown(FAILED)
    assert lines[:2] == ["madrid: failed", "  no"]
    assert [line.split() for line in lines[2:]] == [["tries", "3"], ["next", "retry", "2.5s"]]


SESSION: dict[str, Any] = {
    "name": "23456.12",
    "state": "up",
    "problem": "",
    "user": "anna",
    "interface": "l2tp0",
    "address": "10.9.0.2",
    "prefix": None,
    "peer": "203.0.113.7",
    "profile": "office",
    "since": "2026-01-01T00:00:00+00:00",
    "rx_packets": 12,
    "rx_bytes": 1008,
    "rx_errors": 0,
    "tx_packets": 12,
    "tx_bytes": 1008,
    "tx_errors": 0,
    "tx_seq_discards": 0,
    "ppp": {"phase": "network", "authenticated": "anna", "mru": 1400, "dns": ["10.9.0.1"]},
    "control": {"state": "established", "opened_by": "peer", "sessions": 1},
    "objects": [
        {"kind": "link", "text": "link l2tp0 mtu 1400 up", "present": True, "differences": []},
        {"kind": "address", "text": "address 10.9.0.1 peer 10.9.0.2 dev l2tp0", "present": False, "differences": []},
    ],
}
SESSION_GOLDEN = """\
23456.12: up
  user         anna
  interface    l2tp0
  address      10.9.0.2
  peer         203.0.113.7
  profile      office
  since        2026-01-01T00:00:00+00:00 (AGE ago)
  received     12 packets, 1008 B, 0 errors
  sent         12 packets, 1008 B, 0 errors

In the kernel
  = link l2tp0 mtu 1400 up
  - address 10.9.0.1 peer 10.9.0.2 dev l2tp0  (missing)

PPP
  phase         network
  authenticated anna
  mru           1400
  dns           10.9.0.1

Control connection
  state        established
  opened by    peer
  sessions     1"""


def test_a_session_reads_like_a_tunnel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(show, "age", lambda since: "AGE")
    assert "\n".join(shown(SESSION)) == SESSION_GOLDEN
