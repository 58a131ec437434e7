"""Calls between two kl2tp daemons: what a profile promises, on a real kernel."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import yaml

from kernel.conftest import Bench
from kernel.rig.conf import Tree
from kernel.rig.keeper import Keeper
from kernel.rig.net import Host
from kernel.rig.run import Daemon, Unit, until
from kl2tp.daemon.errors import ServiceError
from kl2tp.reconcile.ledger import Ledger

NEAR, FAR = "192.0.2.1", "192.0.2.2"
"""The LAC and the LNS, as the rig has them."""
US, POOL = "10.9.0.1", "10.9.0.0/24"
USERS: dict[str, dict[str, Any]] = {
    "alice": {"secret": "alice's", "routes": ["192.168.7.0/24"]},
    "bob": {"secret": "bob's", "address": "10.9.0.77", "limit": 1},
    "carol": {"secret": "carol's", "prefix6": "2001:db8:77::/64"},
}


def run(host: Host, command: str) -> str:
    """The output of a command on a host."""
    with host.entered():
        return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout


@dataclass
class Pair:
    """An LNS and a LAC."""

    lac: Unit
    lns: Unit
    stack: contextlib.ExitStack
    profile: Tree = field(default_factory=dict)
    calls: dict[str, Tree] = field(default_factory=dict)
    more: Tree = field(default_factory=dict)
    server: Daemon = field(init=False)
    client: Daemon = field(init=False)

    def file(self, unit: Unit, name: str, text: str) -> str:
        """A file that only its owner can read."""
        path = unit.directory / name
        path.touch(0o600)
        path.write_text(text)
        return str(path)

    def write_lns(self) -> None:
        users = self.file(self.lns, "users.yaml", yaml.safe_dump(USERS))
        profile: Tree = {"ppp": {"local": US, "pool": POOL, "auth": "chap", "echo": "1s"}} | self.profile
        tree = {"users": {"files": [users], "refusal_delay": "10ms"}, "lns": {"office": profile}, **self.more}
        self.lns.config.write_text(yaml.safe_dump(tree, sort_keys=False))

    def write_lac(self) -> None:
        calls = {}
        for name, call in self.calls.items():
            user = call.get("user", "alice")
            secret = USERS[user]["secret"] if user in USERS else "wrong"
            password = self.file(self.lac, f"{name}.password", f"{secret}\n")
            calls[name] = {
                "remote": FAR,
                "user": user,
                "password_file": password,
                "retry": {"first": "100ms", "cap": "500ms"},
                "ppp": {"auth": "chap"},
            } | call
        self.lac.config.write_text(yaml.safe_dump({"lac": calls}, sort_keys=False))

    def start(self) -> None:
        self.write_lns()
        self.write_lac()
        self.server = self.stack.enter_context(self.lns.daemon(forked=True))
        self.client = self.stack.enter_context(self.lac.daemon(forked=True))

    def sessions(self, daemon: Daemon | None = None) -> dict[str, dict[str, Any]]:
        """By user, those that are up."""
        found = (daemon or self.server).call("sessions")["sessions"]
        return {s["user"]: s for s in found if s["state"] == "up"}

    def wait_up(self, *users: str) -> dict[str, dict[str, Any]]:
        until(lambda: set(self.sessions()) == set(users), self.server, 20.0)
        until(lambda: set(self.sessions(self.client)) == set(users), self.client, 20.0)
        return self.sessions()


@pytest.fixture
def pair(bench: Bench) -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        found = Pair(bench.near, bench.far, stack)
        found.calls = {"hq": {"user": "alice"}}
        yield found


def ping(host: Host, address: str) -> None:
    run(host, f"ping -c 3 -i 0.2 -W 2 {address}")


def test_a_call_over_ipv6_outside(pair: Pair) -> None:
    run(pair.lns.host, "sysctl -qw net.ipv6.conf.all.forwarding=0")
    found = addresses(pair.lns.host, "wire")
    far = next(a["local"] for a in found if a["family"] == "inet6" and a["scope"] == "global")
    pair.calls = {"hq": {"user": "alice", "remote": far}}
    pair.start()
    [session] = pair.wait_up("alice").values()
    assert session["peer"].count(":")
    assert session["mtu"] == 1500 - 40 - 8 - 6 - 4
    ping(pair.lac.host, US)
    ping(pair.lns.host, session["address"])


def addresses(host: Host, device: str) -> list[dict[str, Any]]:
    return list(json.loads(run(host, f"ip -j addr show dev {device}"))[0]["addr_info"])


def test_a_users_own_address_routes_and_prefix(pair: Pair) -> None:
    pair.profile = {
        "ppp": {"local": US, "pool": POOL, "pool6": "2001:db8:1::/56", "auth": "chap", "dns": "10.9.0.1"},
    }
    pair.calls = {
        name: {"user": user, "ppp": {"auth": "chap", "ipv6": True}}
        for name, user in (("a", "alice"), ("b", "bob"), ("c", "carol"))
    }
    pair.start()
    sessions = pair.wait_up("alice", "bob", "carol")
    assert sessions["bob"]["address"] == "10.9.0.77"
    assert sessions["carol"]["prefix"] == "2001:db8:77::/64"
    assert sessions["alice"]["prefix"].startswith("2001:db8:1:")
    assert f"192.168.7.0/24 dev {sessions['alice']['interface']}" in run(pair.lns.host, "ip route")
    assert f"2001:db8:77::/64 dev {sessions['carol']['interface']}" in run(pair.lns.host, "ip -6 route")
    prefix = "2001:db8:77:"
    run(pair.lac.host, "sysctl -qw net.ipv6.conf.all.accept_ra=2")
    pair.lac.host.until(lambda: prefix in run(pair.lac.host, "ip -6 addr show dev c"), 20.0)
    ping(pair.lac.host, f"-I c {US}")


def test_one_session_for_a_user_who_may_have_one(pair: Pair) -> None:
    pair.calls = {"b1": {"user": "bob"}}
    pair.start()
    pair.wait_up("bob")
    pair.calls["b2"] = {"user": "bob", "persist": False}
    pair.write_lac()
    pair.client.call("reload")
    pair.server.wait_log("the user has 1 sessions already")
    assert len(pair.server.call("sessions")["sessions"]) <= 2
    assert set(pair.sessions()) == {"bob"}


def test_a_wrong_password_is_refused_and_never_told(pair: Pair) -> None:
    pair.calls = {"hq": {"user": "mallory"}}
    pair.start()
    pair.server.wait_log("'mallory' from 192.0.2.1 refused: no such user")
    pair.client.wait_log("next try in")
    assert not pair.sessions()
    for log in (pair.server.log(), pair.client.log()):
        assert "wrong\n" not in log
        assert "alice's" not in log


def test_sessions_in_a_namespace_and_in_a_vrf(bench: Bench, pair: Pair) -> None:
    customer = Host("customer")
    pair.stack.callback(customer.delete)
    pair.profile = {"interface": {"name": "cust{n}", "netns": customer.name}}
    pair.start()
    [session] = pair.wait_up("alice").values()
    assert session["interface"] in run(customer, "ip link")
    ping(customer, session["address"])
    pair.lns.host.add_vrf("blue", 77)
    pair.profile = {"interface": {"name": "blue{n}", "vrf": "blue"}}
    pair.write_lns()
    pair.server.call("reload")
    pair.server.call("disconnect", patterns=["alice"])
    until(lambda: [s["interface"] for s in pair.sessions().values()] == ["blue0"], pair.server, 20.0)
    assert "192.168.7.0/24 dev blue0" in run(pair.lns.host, "ip route show table 77")
    pair.lns.host.until(lambda: "10.9.0" in run(pair.lac.host, "ip addr show dev hq"))
    with pair.lns.host.entered():
        run(pair.lns.host, f"ip vrf exec blue ping -c 2 -i 0.2 -W 2 {pair.sessions()['alice']['address']} || "
                           f"ping -I blue -c 2 -i 0.2 -W 2 {pair.sessions()['alice']['address']}")


def test_hooks_and_events(pair: Pair) -> None:
    out = pair.lns.directory / "hooks"
    script = pair.lns.directory / "hook"
    script.write_text(f'#!/bin/sh\necho "$1$KL2TP_USER $KL2TP_INTERFACE $KL2TP_ADDRESS $KL2TP_REASON" >> {out}\n')
    script.chmod(0o755)
    pair.profile = {"hooks": {"up": str(script), "down": str(script)}}
    pair.start()
    session = pair.wait_up("alice")["alice"]
    with pair.server.connect() as following:
        following.sendall(b'{"method":"events","params":{"limit":1}}\n')
        pair.server.call("disconnect", patterns=["alice"], reason="maintenance")
        event = json.loads(following.makefile("rb").readline())["progress"]
    assert (event["event"], event["user"], event["reason"]) == ("session-down", "alice", "maintenance")
    until(lambda: out.exists() and len(out.read_text().splitlines()) >= 2, pair.server)
    up, down, *_ = out.read_text().splitlines()
    assert up.split() == ["alice", session["interface"], session["address"]]
    assert down.split() == ["alice", session["interface"], session["address"], "maintenance"]


def test_a_reload_ends_only_the_calls_that_went(pair: Pair) -> None:
    pair.calls = {"a": {"user": "alice"}, "c": {"user": "carol"}}
    pair.start()
    before = pair.wait_up("alice", "carol")
    del pair.calls["c"]
    pair.write_lac()
    pair.client.call("reload")
    after = pair.wait_up("alice")
    assert after["alice"]["session"] == before["alice"]["session"]
    assert after["alice"]["since"] == before["alice"]["since"]
    pair.lac.config.write_text("lac: {a: {remote: nonsense}}\n")
    with pytest.raises(ServiceError):
        pair.client.call("reload")
    assert pair.wait_up("alice")["alice"]["since"] == before["alice"]["since"]


def keeper(unit: Unit, stack: contextlib.ExitStack) -> None:
    """A keeper for a unit, until the end of the test."""
    unit.run_dir.mkdir(parents=True, exist_ok=True)
    with unit.host.entered():
        stack.callback(Keeper(unit.run_dir).end, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGUSR2], ids=["killed", "asked"])
@pytest.mark.parametrize("side", ["lns", "lac"])
def test_a_new_daemon_goes_on_with_the_calls_of_the_old_one(pair: Pair, side: str, number: signal.Signals) -> None:
    unit = pair.lns if side == "lns" else pair.lac
    keeper(unit, pair.stack)
    # A daemon may be dead for longer than the usual patience of these tests' peers.
    pair.profile = {"ppp": {"local": US, "pool": POOL, "auth": "chap", "echo": "10s"}}
    # Before Linux 6.11 two tunnels between the same addresses and ports disturb each other.
    pair.calls = {"a": {"user": "alice"}, "c": {"user": "carol", "own_tunnel": True, "local_port": "auto"}}
    pair.start()
    before = pair.wait_up("alice", "carol")
    for _ in range(3):
        daemon = pair.server if side == "lns" else pair.client
        os.kill(daemon.pid, number)
        ping(pair.lac.host, f"-I a {US}")
        assert daemon._process.wait(10.0) in (75, -signal.SIGKILL)
        ping(pair.lns.host, before["carol"]["address"])
        daemon.close()
        again = pair.stack.enter_context(unit.daemon(forked=True))
        pair.server, pair.client = (again, pair.client) if side == "lns" else (pair.server, again)
        after = pair.wait_up("alice", "carol")
        for user in before:
            assert {k: after[user][k] for k in ("session", "address", "interface", "since")} == {
                k: before[user][k] for k in ("session", "address", "interface", "since")
            }
        ping(pair.lns.host, before["alice"]["address"])
    assert not pair.server.call("sessions", ended=True)["sessions"]
    pair.server.call("disconnect", patterns=["carol"])
    old = before["carol"]["session"]
    until(lambda: pair.sessions().get("carol", {}).get("session", old) != old, pair.server, 20.0)


def test_a_stop_ends_all_calls_properly(pair: Pair) -> None:
    pair.calls = {name: {"user": "alice"} for name in ("a", "b", "c")}
    pair.start()
    until(lambda: len(pair.server.call("sessions")["sessions"]) == 3, pair.server)
    until(lambda: all(s["state"] == "up" for s in pair.server.call("sessions")["sessions"]), pair.server)
    assert pair.server.terminate() == 0
    pair.client.wait_log("kl2tp stops")
    assert "l2tp" not in run(pair.lns.host, "ip -br link")
    assert not run(pair.lns.host, "ip l2tp show tunnel")
    assert not Ledger(pair.lns.ledger, lambda name: 0).names()


def test_down_ends_calls_and_apply_serves_them_again(pair: Pair) -> None:
    pair.start()
    before = pair.wait_up("alice")["alice"]
    pair.server.call("down")
    assert pair.server.call("status")["calls"] is None
    nothing_left(pair.lns)
    ended = pair.server.call("sessions", ended=True)["sessions"]
    assert [row["session"] for row in ended] == [before["session"]]
    pair.client.wait_log("next try in")
    pair.server.call("apply")
    after = pair.wait_up("alice")["alice"]
    assert after["session"] != before["session"]
    ping(pair.lns.host, after["address"])
    assert len(pair.server.call("sessions", ended=True)["sessions"]) == 1


def test_down_without_a_daemon_takes_what_the_keeper_holds(pair: Pair) -> None:
    keeper(pair.lns, pair.stack)
    soon = {"echo": {"interval": "1s", "failures": 2}, "auth": "chap"}
    pair.calls = {"hq": {"ppp": soon, "control": {"retransmit": {"first": "200ms", "cap": "400ms"}}}}
    pair.start()
    pair.wait_up("alice")
    pair.server.kill()
    assert run(pair.lns.host, "ip l2tp show session")
    pair.lns.down()
    nothing_left(pair.lns)
    pair.server.close()
    pair.server = pair.stack.enter_context(pair.lns.daemon(forked=True))
    until(lambda: len(pair.sessions()) == 1, pair.server, 30.0)  # the peers have found out, and call again


def nothing_left(unit: Unit) -> None:
    """No device, tunnel or session is there any more, and nobody's property."""
    unit.host.until(lambda: "l2tp" not in run(unit.host, "ip -br link; ip l2tp show tunnel"), 10.0)
    assert not Ledger(unit.ledger, lambda name: 0).names()


def test_without_a_daemon_it_is_said_that_nobody_serves_calls(pair: Pair) -> None:
    pair.write_lns()
    for method in ("apply", "status"):
        assert pair.lns.direct(method)["unserved"] == {"lns": ["office"], "lac": []}
    assert not run(pair.lns.host, "ip l2tp show tunnel")
