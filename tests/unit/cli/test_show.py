"""What `kl2tp show` prints about a tunnel."""

from typing import Any

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
