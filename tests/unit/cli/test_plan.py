"""`kl2tp plan`, `apply` and `down`: what they print and how they exit."""

import io
import sys
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import FakeDaemon, Shell

OPERATIONS: list[dict[str, Any]] = [
    {"verb": "+", "unit": "madrid", "kind": "policy", "text": "policy out udp block", "differences": []},
    {"verb": "-", "unit": "paris", "kind": "route", "text": "route 10.9.0.0/16 dev par0", "differences": []},
    {"verb": "+", "unit": "madrid", "kind": "tunnel", "text": "tunnel 1001 peer 2001", "differences": []},
    {
        "verb": "~",
        "unit": "paris",
        "kind": "link",
        "text": "link par0 mtu 1416 up",
        "differences": ["mtu: 1500 -> 1416", "up: False -> True"],
    },
]
PLAN: dict[str, Any] = {"operations": OPERATIONS, "problems": {}, "conflicts": []}
NOTHING: dict[str, Any] = {"operations": [], "problems": {}, "conflicts": []}
BLOCKED = PLAN | {
    "problems": {"lima": "/etc/kl2tp/keys/lima.key: does not exist\n  make one"},
    "conflicts": [{"unit": "oslo", "text": "tunnel 7 exists and was not made by kl2tp"}],
}

FULL = """\
madrid
  + policy out udp block
  + tunnel 1001 peer 2001
paris
  - route 10.9.0.0/16 dev par0
  ~ link par0 mtu 1416 up
      mtu: 1500 -> 1416
      up: False -> True
"""


def test_a_plan_is_grouped_by_tunnel(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("plan", {"result": PLAN})
    outcome = shell("plan")
    assert outcome.out == FULL + "\nPlan: 2 to create, 1 to change, 1 to remove in 2 tunnels.\n"
    assert (outcome.status, outcome.err) == (0, "")
    assert daemon.requests == [{"method": "plan", "params": {"adopt": False}}]


def test_a_plan_in_short_counts(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("plan", {"result": PLAN})
    outcome = shell("plan", "--summary", "--adopt")
    assert outcome.out == ("madrid  +2\nparis   ~1  -1\n\nPlan: 2 to create, 1 to change, 1 to remove in 2 tunnels.\n")
    assert daemon.requests[0]["params"] == {"adopt": True}


def test_obstacles_are_named_and_exit_with_3(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("plan", {"result": BLOCKED})
    outcome = shell("plan")
    assert outcome.status == 3
    assert outcome.out == (
        FULL
        + "! oslo: tunnel 7 exists and was not made by kl2tp\n"
        + "! lima: /etc/kl2tp/keys/lima.key: does not exist\n    make one\n"
        + "\nPlan: 2 to create, 1 to change, 1 to remove in 2 tunnels.\n"
    )


def test_nothing_to_do_is_said(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("plan", {"result": NOTHING})
    outcome = shell("plan")
    assert (outcome.status, outcome.out) == (0, "Nothing to do: the kernel is as declared.\n")


def test_only_the_tunnels_asked_for_are_shown(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("plan", {"result": BLOCKED})
    outcome = shell("plan", "mad*", "--json")
    assert outcome.status == 0
    assert {operation["unit"] for operation in outcome.json["operations"]} == {"madrid"}
    assert outcome.json["problems"] == {}
    assert outcome.json["conflicts"] == []


@pytest.mark.parametrize(("answer", "status"), [(NOTHING, 0), (PLAN, 2), (BLOCKED, 1)])
def test_scripts_learn_from_the_exit_status(
    daemon: FakeDaemon, shell: Shell, answer: dict[str, Any], status: int
) -> None:
    daemon.answers("plan", {"result": answer})
    assert shell("plan", "--detailed-exitcode").status == status


def test_with_detailed_exit_codes_a_broken_configuration_is_1(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("plan", {"error": {"message": "not valid", "problems": ["odd"]}})
    assert shell("plan").status == 2
    assert shell("plan", "--detailed-exitcode").status == 1


def test_a_terminal_gets_colours(
    daemon: FakeDaemon, shell: Shell, terminal: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.answers("plan", {"result": PLAN})
    terminal(80)
    out = shell("plan").out
    assert "\x1b[1mmadrid\x1b[0m\n" in out
    assert "\x1b[32m  + tunnel 1001 peer 2001\x1b[0m\n" in out
    assert "\x1b[33m      mtu: 1500 -> 1416\x1b[0m\n" in out
    assert "\x1b[31m  - route 10.9.0.0/16 dev par0\x1b[0m\n" in out
    assert "\x1b" not in shell("plan", "--no-color").out
    assert "\x1b" not in shell("--no-color", "plan").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in shell("plan").out


def test_text_cannot_command_the_terminal(daemon: FakeDaemon, shell: Shell) -> None:
    evil = [{"verb": "+", "unit": "a\x1b[2J", "text": "x\x07y\x9b", "differences": ["\x1b]0;t"]}]
    daemon.answers("plan", {"result": {"operations": evil, "problems": {"b": "\x1b[1m"}, "conflicts": []}})
    out = shell("plan").out
    assert not {c for c in out if not c.isprintable()} - {"\n"}


# apply


def test_apply_prints_what_was_done(daemon: FakeDaemon, shell: Shell) -> None:
    result = {"operations": OPERATIONS, "problems": {}, "tunnels": 5, "seconds": 0.21, "sent": 38, "waiting": {}}
    daemon.answers("apply", {"progress": {"done": 1, "total": 5, "text": "tunnels"}}, {"result": result})
    outcome = shell("apply", "--adopt")
    done = "Done: 2 created, 1 changed, 1 removed in 2 tunnels (in 0.2s, 38 messages to the kernel).\n"
    assert outcome.out == FULL + "\n" + done
    assert (outcome.status, outcome.err) == (0, "")
    assert daemon.requests == [{"method": "apply", "params": {"adopt": True, "wait": True, "detail": False}}]


def test_a_second_apply_says_that_all_is_as_declared(daemon: FakeDaemon, shell: Shell) -> None:
    result = {"operations": [], "problems": {}, "tunnels": 500, "seconds": 0.0321, "sent": 0, "waiting": {}}
    daemon.answers("apply", {"result": result})
    outcome = shell("apply")
    assert outcome.out == "Nothing to do: 500 tunnels are as declared (in 0.032s, 0 messages to the kernel).\n"


def test_many_tunnels_get_a_line_each_unless_asked_for_more(daemon: FakeDaemon, shell: Shell) -> None:
    many = [{"verb": "+", "unit": f"b{n:03}", "text": f"tunnel {n}"} for n in range(300)]
    daemon.answers("apply", {"result": {"operations": many, "problems": {}}})
    assert len(shell("apply").out.splitlines()) == 302
    assert len(shell("apply", "-v").out.splitlines()) == 602
    assert shell("apply", "-q").out == ""


def test_one_tunnels_problem_exits_with_3(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("apply", {"result": {"operations": [], "problems": {"lima": "no route"}, "tunnels": 2}})
    outcome = shell("apply")
    assert (outcome.status, outcome.out) == (3, "! lima: no route\n")
    quiet = shell("apply", "--quiet")
    assert (quiet.status, quiet.out, quiet.err) == (3, "", "! lima: no route\n")


def test_a_change_of_keys_that_goes_on_is_announced(daemon: FakeDaemon, shell: Shell) -> None:
    result = {"operations": [], "problems": {}, "tunnels": 2, "waiting": {"madrid": 9.96, "paris": 12.0}}
    daemon.answers("apply", {"result": result})
    out = shell("apply", "--no-wait").out
    assert out.splitlines()[-1] == "2 tunnels change keys: the next step is due in 10s, by the daemon."


def test_apply_as_json_is_the_whole_answer(daemon: FakeDaemon, shell: Shell) -> None:
    result = {"operations": OPERATIONS, "problems": {}, "future": 1}
    daemon.answers("apply", {"result": result})
    assert shell("apply", "--json").json == result


def test_progress_is_a_line_that_goes_away(daemon: FakeDaemon, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    err = Terminal()
    monkeypatch.setattr(sys, "stderr", err)
    daemon.answers(
        "apply", {"progress": {"done": 250, "total": 500, "text": "tunnels"}}, {"result": {"operations": []}}
    )
    shell("apply")
    assert err.getvalue() == "\r\x1b[K250/500 tunnels\r\x1b[K"


# down


def test_down_asks_first(daemon: FakeDaemon, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    daemon.answers("status", {"result": {"counts": {"tunnels": 3}}})
    daemon.answers("down", {"result": {"operations": [], "problems": {}, "tunnels": 3}})
    monkeypatch.setattr(sys, "stdin", Keyboard("n\n"))
    outcome = shell("down")
    assert outcome.status == 1
    assert outcome.err == "Take down 3 tunnels? [y/N] kl2tp: error: nothing was touched\n"
    assert [request["method"] for request in daemon.requests] == ["status"]
    monkeypatch.setattr(sys, "stdin", Keyboard("y\n"))
    assert shell("down").status == 0
    assert daemon.requests[-1]["method"] == "down"


def test_down_without_a_terminal_wants_yes(daemon: FakeDaemon, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    outcome = shell("down")
    assert outcome.status == 2
    assert "hint: kl2tp down --yes" in outcome.err
    assert daemon.requests == []


def test_down_says_when_there_is_nothing(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("down", {"result": {"operations": [], "problems": {}, "seconds": 0.5, "sent": 0}})
    outcome = shell("down", "--yes")
    assert outcome.out == "Nothing to do: there is nothing of kl2tp's (in 0.5s, 0 messages to the kernel).\n"


def test_what_cannot_be_taken_down_exits_with_3(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("down", {"result": {"operations": [], "problems": {"lima": "busy"}}})
    assert shell("down", "-y").status == 3


# reload


def test_reload_counts(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("reload", {"result": {"added": 1, "changed": 2, "removed": 0, "unchanged": 9997}})
    outcome = shell("reload")
    assert outcome.out == "Reloaded: 1 added, 2 changed, 0 removed, 9,997 unchanged.\n"


def test_reload_without_a_daemon_says_what_to_do(shell: Shell) -> None:
    outcome = shell("reload")
    assert outcome.status == 1
    assert "no daemon runs at" in outcome.err
    assert "systemctl start kl2tp" in outcome.err
