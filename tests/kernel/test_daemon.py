"""The daemon: reloads, failures and how they heal, its control socket, its end."""

import json
import os
import stat
from collections.abc import Callable, Iterator

import pytest

from kernel.conftest import Bench
from kernel.rig import conf
from kernel.rig.net import Host, assert_same, state
from kernel.rig.run import Daemon, answer_on, until
from kernel.rig.traffic import forked
from kl2tp.daemon.errors import ServiceError
from kl2tp.kernel.events import DeviceHint, EndpointHint, Monitor, SaHint, TunnelHint

TUNNELS = range(1, 9)
CHANGED = 3
"""The tunnel that fails in the tests of failures."""


def trees(bench: Bench) -> dict[str, conf.Tree]:
    """Some protected tunnels."""
    key = bench.directory / "key"
    if not key.exists():
        conf.make_key(key)
    more = {"encapsulation": "udp", "ipsec": {"key_file": str(key), "overlap": 0}, "session": {"cookie": "auto"}}
    return {f"t{n}": conf.tunnel(bench.near.host, bench.far.host, n, **more) for n in TUNNELS}  # type: ignore[arg-type]


@pytest.fixture
def daemon(bench: Bench) -> Iterator[Daemon]:
    """A daemon with its tunnels up."""
    conf.write(bench.near.config, trees(bench))
    with bench.near.daemon(forked=True) as running:
        running.wait_up()
        yield running


# -- reload ----------------------------------------------------------------------------------------------------------


def _by_command(daemon: Daemon) -> None:
    counts = daemon.call("reload")
    assert counts == {"added": 1, "changed": 1, "removed": 1, "unchanged": len(TUNNELS) - 2}


def _by_signal(daemon: Daemon) -> None:
    daemon.hang_up()
    daemon.wait_log("configuration reloaded: 1 added, 1 changed, 1 removed, 6 unchanged")


@pytest.mark.parametrize("reload", [_by_command, _by_signal], ids=["command", "signal"])
def test_a_reload_applies_the_difference_and_nothing_else_is_touched(
    bench: Bench, daemon: Daemon, reload: Callable[[Daemon], None]
) -> None:
    host = bench.near.host
    before = state(host)
    new = trees(bench)
    new["t3"]["ids"] = "1003/5003"
    del new["t8"]
    new["t9"] = conf.tunnel(host, bench.far.host, 9)
    conf.write(bench.near.config, new)
    monitor = Monitor(host.name, with_l2tp=True)
    try:
        reload(daemon)
        host.until(lambda: host.device("pw9") and not host.device("pw8"))
        daemon.settled()
        hints = list(monitor.drain(set(), limit=10_000))
    finally:
        monitor.close()
    touched = {3, 8, 9}
    # Lower ids are those of trials: whether the kernel can do what the file wants.
    assert {h.id for h in hints if isinstance(h, TunnelHint) and h.id > 1000} == {1000 + n for n in touched}
    assert {hint.name for hint in hints if isinstance(hint, DeviceHint)} == {f"pw{n}" for n in touched}
    assert {hint.reqid & 0xFFFF for hint in hints if isinstance(hint, SaHint)} == {1003, 1008}
    assert {hint.local_port for hint in hints if isinstance(hint, EndpointHint)} <= {20003, 20008}
    after = state(host)
    others = [name for name in before if not any(_is_of(name, number) for number in touched)]
    assert len(others) > 40
    assert_same({n: after.get(n, "gone") for n in others}, {n: before[n] for n in others})
    assert daemon.call("status")["drift"]["seen"] == 0


def _is_of(name: str, number: int) -> bool:
    """Whether an object belongs to the tunnel with that number."""
    marks = (f"tunnel {1000 + number}", f"session {1000 + number}", f"pw{number}", f"{20000 + number}")
    spis = (f"{1000 + number:05x} None", f"{2000 + number:05x} None")
    return any(mark in name for mark in (*marks, *spis))


BROKEN = {
    "syntax": ("tunnels: [", "kl2tp.yaml:"),
    "unknown-key": ("tunnels:\n  t1:\n    loca: 192.0.2.1\n", "kl2tp.yaml:3:5"),
    "empty-remote": ("tunnels:\n  t1:\n    local: 192.0.2.1\n    remote:\n", "kl2tp.yaml:4"),
}


@pytest.mark.parametrize(("text", "where"), BROKEN.values(), ids=BROKEN)
def test_a_broken_file_changes_nothing_and_the_daemon_says_so(
    bench: Bench, daemon: Daemon, text: str, where: str
) -> None:
    before = state(bench.near.host)
    bench.near.config.write_text(text)
    with pytest.raises(ServiceError, match="problem") as refused:
        daemon.call("reload")
    assert any(where in problem["where"] for problem in refused.value.problems)
    daemon.hang_up()
    daemon.wait_log("nothing changed")
    assert where in daemon.log()
    assert daemon.call("status")["counts"]["up"] == len(TUNNELS)
    assert_same(state(bench.near.host), before)
    conf.write(bench.near.config, trees(bench))
    assert daemon.call("reload")["unchanged"] == len(TUNNELS)


# -- failures --------------------------------------------------------------------------------------------------------


def _no_address(host: Host, tree: conf.Tree) -> Callable[[], object]:
    tree["local"] = "192.0.2.50"
    return lambda: host.add_address("wire", "192.0.2.50", 24)


def _no_bridge(host: Host, tree: conf.Tree) -> Callable[[], object]:
    tree["sessions"]["lan"]["interface"] = {"name": "pw3", "bridge": "br-late"}
    return lambda: host.add_bridge("br-late")


def _name_taken(host: Host, tree: conf.Tree) -> Callable[[], object]:
    host.add_device("taken", "dummy")
    tree["sessions"]["lan"]["interface"]["name"] = "taken"
    return lambda: host.delete_device("taken")


def _no_namespace(host: Host, tree: conf.Tree) -> Callable[[], object]:
    tree["sessions"]["lan"]["interface"]["netns"] = "late"
    return lambda: Host("late")


CAUSES = {
    "address": (_no_address, "the local address is not configured on this host"),
    "bridge": (_no_bridge, "there is no device br-late"),
    "name": (_name_taken, "was not made by kl2tp"),
    "namespace": (_no_namespace, "there is no network namespace 'late'"),
}


@pytest.mark.parametrize(("cause", "words"), CAUSES.values(), ids=CAUSES)
def test_one_failure_stops_nobody_says_why_is_tried_again_and_heals(
    bench: Bench, cause: Callable[[Host, conf.Tree], Callable[[], object]], words: str
) -> None:
    config = trees(bench)
    mend = cause(bench.near.host, config[f"t{CHANGED}"])
    conf.write(bench.near.config, config)
    made: object = None
    try:
        with bench.near.daemon(forked=True) as daemon:
            assert daemon.call("apply")["problems"].keys() == {f"t{CHANGED}"}
            counts = daemon.call("status")["counts"]
            assert (counts["up"], counts["failed"]) == (len(TUNNELS) - 1, 1)
            line = daemon.status(f"t{CHANGED}")
            assert words in line["problem"]
            assert line["tries"] >= 1
            assert 0 <= line["next_retry_s"] <= 60
            made = mend()
            until(lambda: daemon.status(f"t{CHANGED}")["state"] == "up", daemon)
            assert daemon.status(f"t{CHANGED}")["problem"] == ""
    finally:
        bench.near.down()
        if isinstance(made, Host):
            made.delete()


def test_failures_are_tried_again_ever_later(bench: Bench) -> None:
    config = trees(bench)
    _no_address(bench.near.host, config["t3"])
    conf.write(bench.near.config, config)
    with bench.near.daemon(forked=True) as daemon:
        daemon.call("apply")
        until(lambda: daemon.status("t3")["tries"] >= 3, daemon, 15.0)
        longest_first_wait_s = 1.25
        assert daemon.status("t3")["next_retry_s"] > longest_first_wait_s


def test_a_missing_key_file_is_named_and_the_others_are_up(bench: Bench) -> None:
    config = trees(bench)
    config["t3"]["ipsec"]["key_file"] = str(bench.directory / "late.key")
    conf.write(bench.near.config, config)
    with bench.near.daemon(forked=True) as daemon:
        problems = daemon.call("apply")["problems"]
        assert problems.keys() == {"t3"}
        assert "late.key" in problems["t3"]
        conf.make_key(bench.directory / "late.key")
        until(lambda: daemon.status("t3")["state"] == "up", daemon)


# -- the control socket ----------------------------------------------------------------------------------------------


def test_strangers_may_not_even_connect(bench: Bench, daemon: Daemon) -> None:
    path = bench.near.run_dir / "control"
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    bench.directory.chmod(0o755)

    def stranger() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        with pytest.raises(PermissionError):
            daemon.connect()

    assert os.waitpid(forked(stranger), 0)[1] == 0


REQUESTS = {
    "unknown-method": (b'{"method": "explode"}', "there is no method 'explode'"),
    "private-method": (b'{"method": "_load"}', "there is no method"),
    "unknown-parameter": (b'{"method": "status", "params": {"x": 1}}', "status: "),
    "unknown-tunnel": (b'{"method": "show", "params": {"name": "t11"}}', "there is no tunnel 't11'"),
    "no-json": (b"\x00\xff garbage", "this is no request"),
    "no-object": (b"[1, 2]", "this is no request"),
    "oversized": (b'{"method": "' + b"x" * 100_000 + b'"}', "longer than"),
}


def test_nonsense_on_the_control_socket_gets_a_clear_error_and_the_daemon_lives(daemon: Daemon) -> None:
    for request, words in REQUESTS.values():
        with daemon.connect() as connection:
            connection.sendall(request + b"\n")
            with pytest.raises(ServiceError) as refused:
                answer_on(connection)
            assert words in refused.value.message
    assert daemon.call("status")["counts"]["up"] == len(TUNNELS)


def test_a_client_that_goes_away_in_the_midst_of_a_request_harms_nobody(daemon: Daemon) -> None:
    for request in (b'{"method": "st', json.dumps({"method": "apply"}).encode() + b"\n", b""):
        with daemon.connect() as connection:
            connection.sendall(request)
    assert daemon.call("status")["counts"]["up"] == len(TUNNELS)


# -- the end ---------------------------------------------------------------------------------------------------------


def test_down_takes_all_away_until_the_next_apply(bench: Bench) -> None:
    host = bench.near.host
    nothing = state(host)
    conf.write(bench.near.config, trees(bench))
    with bench.near.daemon(forked=True) as daemon:
        daemon.wait_up()
        names = state(host).keys()
        assert daemon.call("down")["removed"] == len(TUNNELS)
        assert_same(state(host), nothing)
        assert daemon.call("status")["daemon"]["suspended"]
        daemon.settled()
        assert state(host).keys() == names


def test_a_reload_to_no_tunnels_at_all_leaves_nothing_either(bench: Bench) -> None:
    host = bench.near.host
    nothing = state(host)
    conf.write(bench.near.config, trees(bench))
    with bench.near.daemon(forked=True) as daemon:
        daemon.wait_up()
        conf.write(bench.near.config, {})
        daemon.call("reload")
        until(lambda: state(host) == nothing, daemon)
        assert_same(state(host), nothing)


def test_sigterm_leaves_the_tunnels_and_takes_the_socket(bench: Bench, daemon: Daemon) -> None:
    before = state(bench.near.host)
    assert daemon.terminate() == 0
    assert_same(state(bench.near.host), before)
    assert not (bench.near.run_dir / "control").exists()


def test_while_the_daemon_runs_nobody_else_works_in_its_directory(bench: Bench, daemon: Daemon) -> None:
    with pytest.raises(ServiceError, match=f"another kl2tp is at work .*{daemon.pid}"):
        bench.near.apply()
    second = bench.near.daemon(forked=True)
    try:
        with pytest.raises(AssertionError, match="another kl2tp is at work"):
            second.wait_ready()
    finally:
        second.close()
    assert daemon.call("status")["counts"]["up"] == len(TUNNELS)
