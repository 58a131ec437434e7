"""kill -9 at any moment: the next start ends where it would have ended, and what did not change never noticed."""

import contextlib
import os
import random
import select
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig import conf, fleet
from kernel.rig.net import assert_same, identities, state
from kernel.rig.run import Unit
from kernel.rig.traffic import forked, traffic
from kl2tp.kernel.netlink import Netlink
from kl2tp.reconcile.alike import FEWEST
from kl2tp.reconcile.ledger import Ledger

SEED = 42
CHANGES, CREATIONS, REMOVALS, RELOADS, TEARDOWNS = 16, 12, 12, 6, 4
"""Kills at random moments that each test must land on a process at work, fifty in all: over an apply that changes
something, one that makes everything, one that takes it away, a daemon's reload, and its teardown."""
TRIES = 4
"""How often for each of them: some come too late."""
START_KILLS = 4
RELOAD_S, START_S = 0.8, 1.5
"""What a reload and a start take, or somewhat more."""
STEADY = (201, 202)
"""Tunnels that never change, with traffic."""


def _wait(pid: int, seconds: float) -> bool:
    """Whether a child ends within that time."""
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def _killed(pid: int, after: float) -> bool:
    """Kill a child after a while; whether it was still at work."""
    at_work = not _wait(pid, after)
    if at_work:
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert at_work or status == 0
    return at_work


class Crashes:
    """A host with tunnels, of which some change between two configurations, and some never."""

    def __init__(self, bench: Bench) -> None:
        self.unit, self.host = bench.near, bench.near.host
        key = conf.make_key(bench.directory / "key")
        self.trees: dict[str, dict[str, conf.Tree]] = {"nothing": {}, "old": {}, "new": {}}
        for number in STEADY:
            ipsec = {"key_file": key}
            more: dict[str, Any] = {"encapsulation": "udp", "ipsec": ipsec, "session": {"cookie": "auto"}}
            ours = conf.tunnel(self.host, bench.far.host, number, **more)
            theirs = conf.tunnel(bench.far.host, self.host, number, **more)
            self.trees["old"][f"steady{number}"] = self.trees["new"][f"steady{number}"] = ours
            self.trees["far"] = self.trees.get("far", {}) | {f"steady{number}": theirs}
        conf.write(bench.far.config, self.trees.pop("far"))
        bench.far.apply()
        for number in range(1, 19):
            tree = fleet.tunnel(self.host, number, key)
            if number <= 12:
                self.trees["old"][fleet.name(number)] = tree
            if number > 6:
                changed = fleet.tunnel(self.host, number, key)
                changed["sessions"]["lan"] |= {"cookie": {"local": "00112233", "peer": "44556677"}}
                if number % 2:
                    changed["ids"] = f"{1000 + number}/{4000 + number}"
                self.trees["new"][fleet.name(number)] = changed
        self.ends: dict[str, dict[str, str]] = {}
        self.seconds: dict[str, float] = {}
        for name in ("nothing", "old", "new", "old", "nothing"):
            self.write(name)
            began = time.monotonic()
            self.unit.apply()
            self.seconds[name] = time.monotonic() - began
            end = identities(state(self.host))
            assert_same(end, self.ends.setdefault(name, end))

    def write(self, name: str) -> None:
        """Take one of the configurations."""
        conf.write(self.unit.config, self.trees[name])

    def steady(self) -> dict[str, str]:
        """What says which tunnels, associations and devices the steady ones are."""
        marks = [f"{prefix}{number}" for number in STEADY for prefix in ("tunnel 1", "session 1", "pw")]
        marks += [f"{base + number:05x} None" for number in STEADY for base in (1000, 2000)]
        lines = state(self.host).items()
        return {name: line for name, line in lines if any(mark in name for mark in marks)}

    def done(self, name: str) -> bool:
        """Whether the kernel is as a configuration wants it."""
        return identities(state(self.host)) == self.ends[name]

    def kill_apply(self, name: str, rng: random.Random) -> bool:
        """Apply a configuration and be killed over it; then apply it once more. Whether it was killed."""
        self.write(name)
        killed = _killed(forked(self.unit.apply), rng.uniform(0, self.seconds[name]))
        self.unit.apply()
        assert_same(identities(state(self.host)), self.ends[name], f"killed over {name}: {killed}")
        return killed


@pytest.fixture
def crashes(bench: Bench) -> Crashes:
    return Crashes(bench)


def tries(wanted: int) -> Iterator[int]:
    """Numbers of tries, for a loop that ends when as many of them hit as it wants."""
    yield from range(wanted * TRIES)
    pytest.fail(f"{wanted} kills did not hit within {wanted * TRIES} tries")


def test_killed_while_a_change_is_applied_the_next_apply_ends_the_same_and_nothing_is_lost(
    bench: Bench, crashes: Crashes
) -> None:
    rng = random.Random(SEED)
    crashes.write("old")
    crashes.unit.apply()
    before = crashes.steady()
    assert len(before) >= 10
    with traffic(bench.near.host, bench.far.host, *STEADY) as stream:
        stream.wait_for(3)
        kills = 0
        for number in tries(CHANGES):
            kills += crashes.kill_apply(("new", "old")[number % 2], rng)
            if kills == CHANGES:
                break
    assert_same(crashes.steady(), before)
    print(f"\n{kills} kills in {number + 1} tries; {stream.sent} packets, {stream.lost} lost")
    assert stream.lost == 0


def test_killed_while_all_is_made_or_taken_away_the_next_try_ends_the_same(crashes: Crashes) -> None:
    rng = random.Random(SEED + 1)
    made = taken = 0
    for number in tries(max(CREATIONS, REMOVALS)):
        made += crashes.kill_apply(("old", "new")[number % 2], rng)
        taken += crashes.kill_apply("nothing", rng)
        assert crashes.unit.down()["operations"] == []
        if made >= CREATIONS and taken >= REMOVALS:
            break
    print(f"\n{made} and {taken} kills in {number + 1} tries")


def test_killed_over_the_first_apply_a_down_takes_all_away(crashes: Crashes) -> None:
    rng = random.Random(SEED + 4)
    for _ in range(START_KILLS):
        crashes.write("old")
        _killed(forked(crashes.unit.apply), rng.uniform(0, crashes.seconds["old"]))
        crashes.unit.down()
        assert_same(identities(state(crashes.host)), crashes.ends["nothing"])


# -- at every step ---------------------------------------------------------------------------------------------------


def _die_at(step: int) -> None:
    """Have this process kill itself in place of its STEPth change of the kernel or of the ledger."""
    left = [step]

    def dying(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args)

        return wrapped

    for owner, method in ((Netlink, "_change"), (Netlink, "transaction"), (Ledger, "_append")):
        setattr(owner, method, dying(getattr(owner, method)))


def _killed_at(unit: Unit, step: int) -> bool:
    """Apply and be killed at a step; False if it came to its end before."""

    def act() -> None:
        _die_at(step)
        unit.apply()

    pid = forked(act)
    assert _wait(pid, 60.0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (0, -signal.SIGKILL)
    return code != 0


def test_killed_at_any_step_over_a_fleet_that_is_made_by_stencil_the_end_is_the_same(bench: Bench) -> None:
    key = conf.make_key(bench.directory / "key")
    near, unit = bench.near.host, bench.near
    fleet: dict[str, conf.Tree] = {}
    for number in range(1, FEWEST + 1):
        tree = conf.tunnel(near, bench.far.host, number, encapsulation="udp", ipsec={"key_file": key})
        tree["sessions"]["lan"]["interface"]["name"] = f"fleet{number:03}"
        fleet[f"fleet{number:03}"] = tree
    nothing = identities(state(near))
    conf.write(unit.config, fleet)
    unit.apply()
    wanted = identities(state(near))
    unit.down()
    step, at_work = 0, True
    while at_work:
        step += 1
        at_work = _killed_at(unit, step)
        if step % 2:
            unit.apply()
            assert_same(identities(state(near)), wanted, f"killed at step {step}")
        unit.down()
        assert_same(identities(state(near)), nothing, f"killed at step {step}")
    print(f"\n{step - 1} steps")
    assert step > 8


@pytest.mark.parametrize(("start", "goal"), [("nothing", "one"), ("one", "nothing")])
def test_killed_at_any_step_the_next_apply_ends_the_same_and_nothing_was_in_clear(
    bench: Bench, start: str, goal: str
) -> None:
    key = conf.make_key(bench.directory / "key")
    more: dict[str, Any] = {"encapsulation": "udp", "ipsec": {"key_file": key, "overlap": 0}}
    near, far = bench.near.host, bench.far.host
    one = conf.tunnel(near, far, 1, **more)
    trees: dict[str, dict[str, conf.Tree]] = {"nothing": {}, "one": {"peer": one}}
    conf.write(bench.far.config, {"peer": conf.tunnel(far, near, 1, **more)})
    bench.far.apply()

    def become(name: str) -> dict[str, str]:
        conf.write(bench.near.config, trees[name])
        bench.near.apply()
        return identities(state(near))

    wanted = become(goal)
    step, at_work = 0, True
    with bench.wire.watched() as capture, traffic(near, far, 1):
        while at_work:
            step += 1
            become(start)
            conf.write(bench.near.config, trees[goal])
            at_work = _killed_at(bench.near, step)
            assert_same(become(goal), wanted, f"killed at step {step}")
    print(f"\n{step - 1} steps; on the wire {capture.verdict()}")
    assert step > 5
    capture.assert_never_clear()


# -- the daemon ------------------------------------------------------------------------------------------------------


def test_a_daemon_killed_over_a_reload_and_over_its_start_ends_the_same_when_it_starts_again(
    bench: Bench, crashes: Crashes
) -> None:
    rng = random.Random(SEED + 2)
    unit = crashes.unit
    crashes.write("old")
    unit.apply()
    before = crashes.steady()
    kills = 0
    with traffic(bench.near.host, bench.far.host, *STEADY) as stream, contextlib.ExitStack() as stack:
        stream.wait_for(3)
        daemon = stack.enter_context(unit.daemon(forked=True))
        for number in tries(RELOADS):
            crashes.write(goal := ("new", "old")[number % 2])
            daemon.hang_up()
            select.select([], [], [], rng.uniform(0, RELOAD_S))
            daemon.kill()
            kills += not crashes.done(goal)
            stack.close()
            if number < START_KILLS:
                with contextlib.closing(unit.daemon(forked=True)):
                    select.select([], [], [], rng.uniform(0, START_S))
            daemon = stack.enter_context(unit.daemon(forked=True))
            daemon.settled()
            assert_same(identities(state(crashes.host)), crashes.ends[goal], f"kill {number}")
            if kills == RELOADS:
                break
    assert_same(crashes.steady(), before)
    print(f"\n{kills} kills over a reload in {number + 1} tries; {stream.sent} packets, {stream.lost} lost")
    assert stream.lost == 0


def test_a_daemon_killed_over_its_teardown_leaves_nothing_behind_after_the_next_one(crashes: Crashes) -> None:
    rng = random.Random(SEED + 3)
    kills = 0
    for _ in tries(TEARDOWNS):
        crashes.write("new")
        with crashes.unit.daemon(forked=True) as daemon:
            daemon.settled()
            with daemon.connect() as connection:
                connection.sendall(b'{"method": "down"}\n')
                select.select([], [], [], rng.uniform(0, crashes.seconds["nothing"]))
                daemon.kill()
        kills += not crashes.done("nothing")
        crashes.unit.down()
        assert_same(identities(state(crashes.host)), crashes.ends["nothing"])
        if kills == TEARDOWNS:
            break
    print(f"\n{kills} kills over a teardown")


def test_fifty_moments_are_enough() -> None:
    assert CHANGES + CREATIONS + REMOVALS + RELOADS + TEARDOWNS >= 50
