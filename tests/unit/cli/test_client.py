"""The conversation with the daemon, and what becomes of its failures."""

import os
import socket
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from kl2tp.cli import client
from kl2tp.cli.exits import FAILED, USAGE, CommandError

from .conftest import FakeDaemon, Shell

STATUS: dict[str, Any] = {
    "daemon": {"pid": 1, "config": "/etc/kl2tp/kl2tp.yaml"},
    "counts": {"tunnels": 0},
    "tunnels": [],
}


def remote(daemon: FakeDaemon) -> client.Remote:
    found = client.connect(str(daemon.run_dir))
    assert found is not None
    return found


def test_a_result_comes_after_progress(daemon: FakeDaemon) -> None:
    events: list[Any] = []
    daemon.answers("apply", {"progress": {"done": 1}}, {"progress": {"done": 2}}, {"result": {"tunnels": 2}})
    assert remote(daemon).call("apply", events.append, adopt=True) == {"tunnels": 2}
    assert events == [{"done": 1}, {"done": 2}]
    assert daemon.requests == [{"method": "apply", "params": {"adopt": True}}]


def test_progress_may_be_ignored(daemon: FakeDaemon) -> None:
    daemon.answers("apply", {"progress": {}}, {"result": {}})
    assert remote(daemon).call("apply") == {}


def test_an_error_carries_message_hint_and_problems(daemon: FakeDaemon) -> None:
    problems = [{"where": "a.yaml:1:2", "message": "odd", "hint": "mend it"}, "plain"]
    daemon.answers("reload", {"error": {"message": "not valid", "hint": "look", "problems": problems}})
    with pytest.raises(CommandError) as caught:
        remote(daemon).call("reload")
    assert caught.value.status == USAGE
    assert caught.value.lines() == [
        "kl2tp: error: not valid",
        "  a.yaml:1:2: odd",
        "      hint: mend it",
        "  plain",
        "hint: look",
    ]


def test_an_error_without_problems_is_a_failure(daemon: FakeDaemon) -> None:
    daemon.answers("show", {"error": {"message": "there is no tunnel 'x'", "hint": None, "problems": None}})
    with pytest.raises(CommandError, match="no tunnel 'x'") as caught:
        remote(daemon).call("show")
    assert caught.value.status == FAILED
    assert caught.value.hint == ""


def test_an_error_of_another_shape_is_still_shown(daemon: FakeDaemon) -> None:
    daemon.answers("show", {"error": "out of order"})
    with pytest.raises(CommandError, match="out of order"):
        remote(daemon).call("show")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "before it had answered"),
        (({"progress": {}},), "before it had answered"),
        ((b'{"result": {"tun',), "in the middle of its answer"),
        ((b"HTTP/1.0 400\n",), "no kl2tp daemon"),
        ((b"[1]\n",), "no kl2tp daemon"),
        ((b"\xff\xfe\n",), "no kl2tp daemon"),
    ],
)
def test_a_daemon_that_dies_or_babbles_gives_a_message(
    daemon: FakeDaemon, lines: tuple[Any, ...], message: str
) -> None:
    daemon.answers("status", *lines)
    with pytest.raises(CommandError, match=message):
        remote(daemon).call("status")


def test_a_silent_daemon_is_not_waited_for_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE_S", 0.05)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control"))
        listener.listen()
        found = client.connect(str(tmp_path))
        assert found is not None
        with pytest.raises(CommandError, match="silent"):
            found.call("status")


def test_no_socket_means_no_daemon(tmp_path: Path) -> None:
    assert client.connect(str(tmp_path)) is None


def test_a_socket_nobody_listens_to_means_no_daemon(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "control"))
    assert client.connect(str(tmp_path)) is None


def test_a_forbidden_socket_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: client.Remote) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(client.Remote, "open", refuse)
    with pytest.raises(CommandError, match="no permission") as caught:
        client.connect(str(tmp_path))
    assert "sudo" in caught.value.hint


def test_a_path_too_long_for_a_socket_is_explained(shell: Shell) -> None:
    shell.run_dir = shell.run_dir / ("x" * 200)
    outcome = shell("status")
    assert outcome.status == FAILED
    assert outcome.err.startswith("kl2tp: error: cannot reach the daemon at ")
    assert "Traceback" not in outcome.err


def test_a_config_that_is_not_the_daemons_is_refused(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": STATUS})
    outcome = shell("apply", "--config", "/tmp/other.yaml")
    assert outcome.status == USAGE
    assert "runs with /etc/kl2tp/kl2tp.yaml, not with /tmp/other.yaml" in outcome.err
    assert [request["method"] for request in daemon.requests] == ["status"]


def test_the_daemons_own_config_may_be_named(daemon: FakeDaemon, shell: Shell) -> None:
    daemon.answers("status", {"result": STATUS})
    assert shell("--config", "/etc/../etc/kl2tp/kl2tp.yaml", "status").status == 0


def test_without_a_daemon_and_without_rights_nothing_is_tried(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "capable", lambda number: False)
    outcome = shell("apply")
    assert outcome.status == FAILED
    assert "needs CAP_NET_ADMIN" in outcome.err
    assert "hint: use sudo" in outcome.err


def test_a_capability_is_read_from_the_kernel() -> None:
    assert client.capable(12) == (os.geteuid() == 0) or os.geteuid() == 0


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A stand-in for the service in this process; what it was asked."""
    calls: dict[str, Any] = {}

    class ServiceError(Exception):
        def __init__(self, message: str, hint: str = "", problems: Any = ()) -> None:
            super().__init__(message)
            self.message, self.hint, self.problems = message, hint, problems

    class Direct:
        def __init__(self, config: Path, run_dir: Path) -> None:
            calls["config"], calls["run_dir"] = config, run_dir
            if config.name == "broken.yaml":
                raise ServiceError("not valid", problems=[{"message": "odd"}])

        def apply(self, **parameters: Any) -> dict[str, Any]:
            calls["apply"] = parameters
            parameters["progress"]({"done": 1})
            return {"operations": [], "tunnels": 1}

        def show(self, name: str) -> dict[str, Any]:
            raise ServiceError(f"there is no tunnel {name}", "did you mean madrid?")

    errors = types.ModuleType("kl2tp.daemon.errors")
    errors.ServiceError = ServiceError  # type: ignore[attr-defined]
    module = types.ModuleType("kl2tp.daemon.direct")
    module.Direct = Direct  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "kl2tp.daemon.errors", errors)
    monkeypatch.setitem(sys.modules, "kl2tp.daemon.direct", module)
    monkeypatch.setattr(client, "capable", lambda number: True)
    return calls


def test_without_a_daemon_this_process_does_the_work(shell: Shell, direct: dict[str, Any]) -> None:
    outcome = shell("--config", "/x/y.yaml", "apply", "--no-wait")
    assert outcome.status == 0
    assert direct["config"] == Path("/x/y.yaml")
    assert direct["run_dir"] == shell.run_dir
    assert direct["apply"]["adopt"] is False
    assert direct["apply"]["wait"] is False


def test_the_default_configuration_is_in_etc(shell: Shell, direct: dict[str, Any]) -> None:
    shell("apply")
    assert direct["config"] == Path("/etc/kl2tp/kl2tp.yaml")
    assert direct["apply"]["wait"] is True


def test_a_service_error_of_this_process_looks_like_the_daemons(shell: Shell, direct: dict[str, Any]) -> None:
    outcome = shell("show", "madird")
    assert outcome.status == FAILED
    assert outcome.err == "kl2tp: error: there is no tunnel madird\nhint: did you mean madrid?\n"


def test_a_broken_configuration_is_wrong_usage(shell: Shell, direct: dict[str, Any]) -> None:
    outcome = shell("-c", "broken.yaml", "apply")
    assert outcome.status == USAGE
    assert outcome.err == "kl2tp: error: not valid\n  odd\n"
