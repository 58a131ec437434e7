"""The control loop on a virtual clock, with an engine that does what the test says: what it looks at, when, and why."""

import asyncio
import dataclasses
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest

from kl2tp.kernel import netns, rtnl
from kl2tp.kernel.events import AddressHint, DeviceHint, EndpointHint, Hint, NamespaceHint, SaHint, TunnelHint
from kl2tp.model.objects import Link
from kl2tp.model.plan import Operation, Stage, Unit, Verb
from kl2tp.model.spec import TunnelSpec
from kl2tp.reconcile import loop as module
from kl2tp.reconcile.compile import expected_link
from kl2tp.reconcile.engine import CHUNK, Engine, Result
from kl2tp.reconcile.loop import Loop
from unit.reconcile.specs import HERE, clear, peer

_T = TypeVar("_T")


class Inline(ThreadPoolExecutor):
    """An executor without a thread: a virtual clock would run ahead of one."""

    def submit(self, fn: Callable[..., _T], /, *args: Any, **kwargs: Any) -> "Future[_T]":
        future: Future[_T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class FakeEngine:
    """Answers as the test says, and notes when it was asked about what."""

    def __init__(self) -> None:
        self.calls: dict[str, Unit] = {}
        self.specs: Mapping[str, TunnelSpec] = {}
        self.secured: set[str] = set()
        self.namespaces: frozenset[str] = frozenset()
        self.deadlines: dict[str, float] = {}
        self.passes: list[tuple[float, list[str]]] = []
        self.answers: dict[str, Callable[[], Result]] = {}
        self.during: Callable[[], None] = lambda: None
        self.leftovers: list[str] = []
        self.damaged: set[str] = set()
        self.dropped: list[list[str]] = []
        """Where empty tables were looked for."""
        self.associations: list[tuple[int, bytes, bytes, int]] = []
        """What is read of them."""
        self.door = SimpleNamespace(
            ports={4242},
            mend_table=lambda name: name in self.damaged,
            identities=lambda name: [] if name else list(self.associations),
        )

    def put_call(self, unit: Unit) -> None:
        self.calls[unit.name] = unit

    def drop_call(self, name: str) -> Unit | None:
        return self.calls.pop(name, None)

    def set_specs(self, specs: Mapping[str, TunnelSpec]) -> None:
        self.specs = specs
        self.namespaces = frozenset(spec.netns for spec in specs.values())

    def names(self) -> list[str]:
        return [*self.leftovers, *self.specs]

    def reconcile(self, names: Iterable[str]) -> Iterator[list[Result]]:
        names = list(names)
        self.passes.append((asyncio.get_running_loop().time(), names))
        during, self.during = self.during, lambda: None
        during()
        yield [self.answers.get(name, lambda name=name: Result(name, gone=name not in self.specs))() for name in names]

    def owned_namespaces(self) -> set[str]:
        return {"", "x"}

    def drop_tables(self, namespaces: Iterable[str]) -> None:
        self.dropped.append(sorted(namespaces))

    def looked_at(self, name: str) -> list[float]:
        """The times of the passes that a tunnel was in."""
        return [when for when, names in self.passes if name in names]


class FakeMonitor:
    """Events as the test gives them, behind a descriptor that becomes readable."""

    def __init__(self, name: str, *, with_l2tp: bool) -> None:
        self.name = name
        self.identity = netns.identity(name)
        self.hears_l2tp = with_l2tp
        self.waiting: list[Hint] = []
        self.more = False
        self._reader, self._writer = socket.socketpair()
        MONITORS[name] = self

    def descriptors(self) -> list[int]:
        return [self._reader.fileno()]

    def say(self, hint: Hint) -> None:
        self.waiting.append(hint)
        self._writer.send(b".")

    def drain(self, ours: set[int]) -> Iterator[Hint]:
        assert ours == {4242}
        if self.waiting:
            self._reader.recv(100)
        hints, self.waiting = self.waiting, []
        yield from hints

    def close(self) -> None:
        self._reader.close()
        self._writer.close()


MONITORS: dict[str, FakeMonitor] = {}


@pytest.fixture(autouse=True)
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Network namespaces by name, and monitors of them that are not the kernel's."""
    there = {"": 1, "x": 2}

    def identity(name: str) -> int:
        if name not in there:
            raise netns.NoNamespace(name)
        return there[name]

    MONITORS.clear()
    monkeypatch.setattr(netns, "identity", identity)
    monkeypatch.setattr(module, "Monitor", FakeMonitor)
    return there


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
async def loop(engine: FakeEngine) -> AsyncIterator[Loop]:
    """A loop at work, with tunnels t1 to t3 that are up."""
    stand_in: Any = engine
    made = Loop(stand_in, Inline(1), resync_s=300)
    worker = asyncio.get_running_loop().create_task(made.run())
    await use(made, clear(1), clear(2), clear(3))
    engine.passes.clear()
    yield made
    worker.cancel()
    await asyncio.gather(worker, return_exceptions=True)


async def use(loop: Loop, *specs: TunnelSpec, touched: Iterable[str] | None = None) -> None:
    """Take new specs, and wait until all of them have been looked at."""
    wanted = {spec.name: spec for spec in specs}
    names = list(wanted if touched is None else touched)
    await loop.set_specs(wanted, names)
    await settled(loop, names)


async def settled(loop: Loop, names: Iterable[str]) -> list[Result]:
    """What becomes of these tunnels."""
    results: list[Result] = []
    await loop.settled(names, results.extend)
    return results


async def rest() -> None:
    """Let what is under way come to its end, without a second passing."""
    for _ in range(20):
        await asyncio.sleep(0)


async def until(when: float) -> None:
    """Wait for a moment on the virtual clock."""
    reached = asyncio.Event()
    asyncio.get_running_loop().call_at(when, reached.set)
    await reached.wait()
    await rest()


def now() -> float:
    return asyncio.get_running_loop().time()


def failing(name: str, problem: str = "no") -> Callable[[], Result]:
    return lambda: Result(name, problem=problem)


def repaired(name: str) -> Result:
    link = Link("", "l1", 1400)
    return Result(name, done=[Operation(Stage.BUILD_LINK, Verb.UPDATE, name, link, link)])


# -- the plain course ------------------------------------------------------------------------------------------------


async def test_tunnels_that_are_taken_come_up(loop: Loop) -> None:
    assert {name: state.state for name, state in loop.states.items()} == {"t1": "up", "t2": "up", "t3": "up"}


async def test_without_events_nothing_is_looked_at_until_the_resync(loop: Loop, engine: FakeEngine) -> None:
    began = now()
    await until(began + 290)
    assert engine.passes == []
    await until(began + 310)
    assert sorted(name for _, names in engine.passes for name in names) == ["t1", "t2", "t3"]


async def test_only_what_was_touched_is_looked_at(loop: Loop, engine: FakeEngine) -> None:
    await use(loop, clear(1), clear(2), clear(3), clear(4), touched=["t4"])
    assert [names for _, names in engine.passes] == [["t4"]]


async def test_a_removed_tunnel_is_gone(loop: Loop) -> None:
    await use(loop, clear(1), clear(2), touched=["t3"])
    assert list(loop.states) == ["t1", "t2"]


async def test_empty_tables_go_after_the_last_of_many_that_are_removed(loop: Loop, engine: FakeEngine) -> None:
    await use(loop, touched=["t1", "t2", "t3"])
    await rest()
    assert engine.dropped == [["", "x"]]
    await until(now() + 400)
    assert len(engine.dropped) == 1


async def test_while_nothing_is_removed_no_table_is_looked_for(loop: Loop, engine: FakeEngine) -> None:
    await use(loop, clear(1), clear(2), clear(4), touched=["t1", "t4"])
    loop.sweep()
    await until(now() + 400)
    assert engine.dropped == []


async def test_leftovers_are_looked_at_in_the_beginning(loop: Loop, engine: FakeEngine) -> None:
    engine.leftovers = ["old"]
    loop.begin()
    await rest()
    assert engine.passes[0][1] == ["old", "t1", "t2", "t3"]
    assert "old" not in loop.states


async def test_a_chunk_at_a_time_and_suspects_first(loop: Loop, engine: FakeEngine) -> None:
    engine.leftovers = [f"old{n}" for n in range(2 * CHUNK)]
    engine.during = lambda: MONITORS[""].say(TunnelHint(2))
    loop.sweep()
    await rest()
    assert [len(names) for _, names in engine.passes] == [CHUNK, CHUNK, 4]
    assert engine.passes[1][1][0] == "t2"


# -- events ----------------------------------------------------------------------------------------------------------


async def test_an_event_leads_to_a_look_at_its_tunnel_at_once(loop: Loop, engine: FakeEngine) -> None:
    began = now()
    MONITORS[""].say(TunnelHint(2))
    await rest()
    assert engine.passes == [(began, ["t2"])]


async def test_many_events_about_one_tunnel_are_one_look(loop: Loop, engine: FakeEngine) -> None:
    for _ in range(50):
        MONITORS[""].say(TunnelHint(2))
    await rest()
    assert [names for _, names in engine.passes] == [["t2"]]


async def test_what_is_repaired_is_counted_and_said(
    loop: Loop, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answers["t1"] = lambda: repaired("t1")
    MONITORS[""].say(TunnelHint(1))
    with caplog.at_level(logging.WARNING):
        await rest()
    assert (loop.drift.seen, loop.drift.repaired) == (1, 1)
    assert "t1: repaired: ~ link l1" in caplog.text
    assert caplog.records[0].__dict__["tunnel"] == "t1"
    assert caplog.records[0].__dict__["session"] == "s"


async def test_a_failure_says_which_session_it_is_about(
    loop: Loop, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    op = repaired("t1").done[0]
    engine.answers["t1"] = lambda: Result("t1", problem="no", failed=op)
    engine.answers["t2"] = lambda: Result("t2", problem="no")
    loop.look_at(["t1", "t2"])
    with caplog.at_level(logging.ERROR):
        await rest()
    assert [record.__dict__.get("session") for record in caplog.records] == ["s", None]


async def test_what_is_made_for_the_first_time_is_no_drift(loop: Loop, engine: FakeEngine) -> None:
    engine.answers["t4"] = lambda: repaired("t4")
    await use(loop, clear(1), clear(4), touched=["t4"])
    assert loop.drift.seen == 0


async def test_an_event_while_its_tunnel_is_worked_on_is_looked_into_afterwards(loop: Loop, engine: FakeEngine) -> None:
    engine.during = lambda: MONITORS[""].say(TunnelHint(2))
    loop.look_at(["t2"])
    await rest()
    assert [names for _, names in engine.passes] == [["t2"], ["t2"]]


def device(spec: TunnelSpec, **changes: object) -> DeviceHint:
    """The event about a device that is as its spec wants it, but for some changes."""
    link = dataclasses.replace(expected_link(spec, spec.sessions[0]), **changes)  # type: ignore[arg-type]
    state = rtnl.LinkState(rtnl.link_set(link, 0, set_master=False).payload)
    return DeviceHint("", link.name, link.alias, state)


async def test_a_device_that_is_as_desired_is_no_reason_to_look(loop: Loop, engine: FakeEngine) -> None:
    MONITORS[""].say(device(clear(1)))
    await rest()
    assert engine.passes == []


@pytest.mark.parametrize("change", [{"mtu": 600}, {"up": False}, {"alias": "x"}], ids=str)
async def test_a_device_that_is_not_as_desired_is(loop: Loop, engine: FakeEngine, change: dict[str, object]) -> None:
    MONITORS[""].say(device(clear(1), **change))
    await rest()
    assert [names for _, names in engine.passes] == [["t1"]]


async def test_a_device_that_went_is(loop: Loop, engine: FakeEngine) -> None:
    MONITORS[""].say(DeviceHint("", "l1", "", None))
    await rest()
    assert [names for _, names in engine.passes] == [["t1"]]


@pytest.mark.parametrize(("mtu", "passes"), [(None, 1), (600, 2)])
async def test_events_about_devices_in_work_are_judged_at_the_end_by_the_last(
    loop: Loop, engine: FakeEngine, mtu: int | None, passes: int
) -> None:
    def say() -> None:
        MONITORS[""].say(device(clear(1), mtu=900))
        MONITORS[""].say(device(clear(1), **({"mtu": mtu} if mtu else {})))

    engine.during = say
    loop.look_at(["t1"])
    await rest()
    assert len(engine.passes) == passes


async def test_an_event_about_nobody_wakes_nobody(loop: Loop, engine: FakeEngine) -> None:
    for hint in (TunnelHint(99), EndpointHint("", peer(99), 0, 0), DeviceHint("", "eth0", "", None)):
        MONITORS[""].say(hint)
    await rest()
    assert engine.passes == []


async def test_a_flushed_namespace_is_looked_at_as_a_whole(loop: Loop, engine: FakeEngine) -> None:
    MONITORS[""].say(NamespaceHint(""))
    await rest()
    assert [sorted(names) for _, names in engine.passes] == [["t1", "t2", "t3"]]


async def test_after_lost_events_everything_everywhere_is_looked_at(loop: Loop, engine: FakeEngine) -> None:
    await use(loop, clear(1), dataclasses.replace(clear(2), netns="x"), touched=["t2"])
    engine.leftovers = ["old"]
    engine.passes.clear()
    MONITORS[""].say(NamespaceHint("", lost=True))
    await rest()
    assert sorted({name for _, names in engine.passes for name in names}) == ["old", "t1", "t2"]


async def test_a_damaged_table_is_mended_before_anything_else(loop: Loop, engine: FakeEngine) -> None:
    engine.damaged = {""}
    MONITORS[""].say(NamespaceHint(""))
    await rest()
    assert loop.drift.repaired == 1


# -- namespaces ------------------------------------------------------------------------------------------------------


async def test_a_namespace_is_listened_to_as_long_as_it_has_tunnels(loop: Loop) -> None:
    moved = dataclasses.replace(clear(1), netns="x")
    await use(loop, moved, touched=["t1"])
    assert set(loop._monitors) == {"", "x"}
    await use(loop, clear(1), touched=["t1"])
    assert set(loop._monitors) == {""}


async def test_a_namespace_that_comes_back_is_listened_to_anew_and_looked_at(
    loop: Loop, engine: FakeEngine, world: dict[str, int]
) -> None:
    await use(loop, dataclasses.replace(clear(1), netns="x"), touched=["t1"])
    first = MONITORS["x"]
    world["x"] = 77
    engine.passes.clear()
    await until(now() + 2)
    assert MONITORS["x"] is not first
    assert engine.looked_at("t1")


async def test_a_missing_namespace_is_listened_to_when_it_appears(loop: Loop, world: dict[str, int]) -> None:
    await use(loop, dataclasses.replace(clear(1), netns="later"), touched=["t1"])
    assert "later" not in loop._monitors
    world["later"] = 9
    await until(now() + 2)
    assert "later" in loop._monitors


# -- failures --------------------------------------------------------------------------------------------------------


async def test_a_failure_is_tried_again_ever_later_with_jitter(loop: Loop, engine: FakeEngine) -> None:
    engine.answers["t1"] = failing("t1")
    loop.look_at(["t1"])
    await until(now() + 290)
    times = engine.looked_at("t1")
    waits = [later - earlier for earlier, later in pairwise(times)]
    for wait, nominal in zip(waits, (1, 2, 4, 8, 16, 32, 60, 60), strict=False):
        assert 0.75 * nominal <= wait <= 1.25 * nominal + 0.001
    assert len(waits) >= 7


async def test_failures_are_not_all_tried_again_at_once(loop: Loop, engine: FakeEngine) -> None:
    for name in ("t1", "t2", "t3"):
        engine.answers[name] = failing(name)
    loop.look_at(["t1", "t2", "t3"])
    await until(now() + 5)
    assert len({engine.looked_at(name)[1] for name in ("t1", "t2", "t3")}) == 3


async def test_a_failed_tunnel_says_why_and_when_next(loop: Loop, engine: FakeEngine) -> None:
    engine.answers["t1"] = failing("t1", "no such device")
    loop.look_at(["t1"])
    await rest()
    state = loop.states["t1"]
    assert (state.state, state.problem, state.tries) == ("failed", "no such device", 1)
    assert state.retry_at is not None
    assert state.retry_at > now()


async def test_the_same_failure_is_said_once(loop: Loop, engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine.answers["t1"] = failing("t1", "no such device")
    loop.look_at(["t1"])
    with caplog.at_level(logging.ERROR):
        await until(now() + 30)
    assert caplog.text.count("no such device") == 1


async def test_a_tunnel_that_recovers_forgets_its_failures(loop: Loop, engine: FakeEngine) -> None:
    engine.answers["t1"] = failing("t1")
    loop.look_at(["t1"])
    await rest()
    del engine.answers["t1"]
    await until(now() + 2)
    state = loop.states["t1"]
    assert (state.state, state.problem, state.tries, state.retry_at) == ("up", "", 0, None)


async def test_a_removed_tunnel_that_had_failed_is_not_come_back_to(
    loop: Loop, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine.answers["t1"] = failing("t1")
    loop.look_at(["t1"])
    await until(now() + 20)
    del engine.answers["t1"]
    with caplog.at_level(logging.INFO):
        await use(loop, clear(2), clear(3), touched=["t1"])
        looked = len(engine.looked_at("t1"))
        await until(now() + 120)
    assert len(engine.looked_at("t1")) == looked
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.INFO] == ["t1: removed"]


async def test_of_what_was_never_there_nobody_says_that_it_is_removed(
    loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.look_at(["t9"])
    with caplog.at_level(logging.INFO):
        await rest()
    assert caplog.records == []


async def test_one_failure_keeps_no_other_tunnel(loop: Loop, engine: FakeEngine) -> None:
    engine.answers["t1"] = failing("t1")
    results = {r.name: r.problem for r in await settled(loop, ["t1", "t2"])}
    assert results == {"t1": "no", "t2": ""}


async def test_a_pass_that_fails_as_a_whole_is_tried_again(
    loop: Loop, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    def burst() -> None:
        raise RuntimeError("the ledger is full")

    engine.during = burst
    with caplog.at_level(logging.CRITICAL):
        (result,) = await settled(loop, ["t2"])
    assert result.problem == "the ledger is full"
    await until(now() + 2)
    assert loop.states["t2"].state == "up"


async def test_something_that_appears_lets_failed_tunnels_try_at_once(loop: Loop, engine: FakeEngine) -> None:
    await until(10)
    engine.answers["t1"] = failing("t1")
    loop.look_at(["t1"])
    await until(20)
    tried = len(engine.looked_at("t1"))
    MONITORS[""].say(AddressHint("", 3, HERE, 24, True))
    await rest()
    assert len(engine.looked_at("t1")) == tried + 1


async def test_many_that_appear_are_one_reason_to_try(loop: Loop, engine: FakeEngine) -> None:
    await until(10)
    engine.answers["t1"] = failing("t1")
    loop.look_at(["t1"])
    await until(20)
    tried = len(engine.looked_at("t1"))
    for number in range(10):
        MONITORS[""].say(DeviceHint("", f"eth{number}", "", None))
        await rest()
    assert len(engine.looked_at("t1")) == tried + 1


# -- those who wait --------------------------------------------------------------------------------------------------


async def test_who_waits_hears_how_far_it_is(loop: Loop, engine: FakeEngine) -> None:
    heard: list[int] = []
    engine.leftovers = [f"old{n}" for n in range(CHUNK + 1)]
    await loop.settled([*engine.leftovers], lambda results: heard.append(len(results)))
    assert heard == [CHUNK, 1]


async def test_who_waits_for_nothing_waits_not(loop: Loop) -> None:
    assert await settled(loop, []) == []


async def test_who_asks_while_a_tunnel_is_worked_on_hears_of_the_next_pass(loop: Loop, engine: FakeEngine) -> None:
    answers: list[asyncio.Task[list[Result]]] = []
    engine.answers["t1"] = failing("t1", "old")

    def ask() -> None:
        answers.append(asyncio.get_running_loop().create_task(settled(loop, ["t1"])))

    real = loop._in_thread

    async def slowly(call: Callable[[], _T]) -> _T:
        result = await real(call)
        if not answers:
            ask()
            engine.answers["t1"] = failing("t1", "new")
            await asyncio.sleep(0)
        return result

    loop._in_thread = slowly  # type: ignore[method-assign]
    loop.look_at(["t1"])
    await rest()
    (result,) = await answers[0]
    assert result.problem == "new"


async def test_who_stops_waiting_disturbs_nobody(loop: Loop) -> None:
    waiting = asyncio.get_running_loop().create_task(settled(loop, ["t1", "t2"]))
    await asyncio.sleep(0)
    waiting.cancel()
    assert [r.name for r in await settled(loop, ["t1"])] == ["t1"]


# -- changes of keys -------------------------------------------------------------------------------------------------


async def test_a_change_of_keys_is_come_back_to_at_its_deadline(loop: Loop, engine: FakeEngine) -> None:
    engine.deadlines["t1"] = time.clock_gettime(time.CLOCK_BOOTTIME) + 10
    loop.look_at(["t1"])
    await rest()
    del engine.deadlines["t1"]
    began = now()
    await until(began + 9)
    assert len(engine.looked_at("t1")) == 1
    await until(began + 11)
    assert len(engine.looked_at("t1")) == 2


async def test_the_steps_of_a_change_of_keys_are_no_drift(loop: Loop, engine: FakeEngine) -> None:
    engine.deadlines["t1"] = time.clock_gettime(time.CLOCK_BOOTTIME) + 5
    loop.look_at(["t1"])
    await rest()
    engine.answers["t1"] = lambda: repaired("t1")
    del engine.deadlines["t1"]
    await until(now() + 6)
    assert loop.drift.seen == 0


def test_the_engine_s_stand_in_has_what_the_loop_uses() -> None:
    for name in ("set_specs", "names", "reconcile", "owned_namespaces", "drop_tables"):
        assert callable(getattr(Engine, name))


# -- IPsec with IKE ---------------------------------------------------------------------------------------------------


async def test_a_tunnel_that_has_ipsec_now_or_no_longer_is_looked_at_at_once(loop: Loop, engine: FakeEngine) -> None:
    loop.set_secured("t2", True)
    await rest()
    assert [names for _, names in engine.passes] == [["t2"]]
    assert engine.secured == {"t2"}
    loop.set_secured("t2", True)
    await rest()
    assert len(engine.passes) == 1
    loop.set_secured("t2", False)
    await rest()
    assert len(engine.passes) == 2
    assert not engine.secured


async def test_a_tunnel_that_is_not_there_yet_is_secured_when_it_comes(loop: Loop, engine: FakeEngine) -> None:
    loop.set_secured("t9", True)
    await rest()
    assert not engine.passes
    assert engine.secured == {"t9"}


async def test_what_changes_again_while_it_is_worked_on_is_no_drift(loop: Loop, engine: FakeEngine) -> None:
    operation = Operation(Stage.BUILD_LINK, Verb.UPDATE, "t2", Link("", "l2", 1400))
    engine.answers["t2"] = lambda: Result("t2", done=[operation])
    engine.during = lambda: loop.set_secured("t2", False)
    loop.set_secured("t2", True)
    await rest()
    assert len(engine.passes) == 2
    assert loop.drift.seen == 0


async def test_sas_are_read_when_somebody_asks_and_followed_then(loop: Loop, engine: FakeEngine) -> None:
    one, other = bytes(4), bytes((1, 2, 3, 4))
    engine.associations = [(5, one, other, 1), (5, other, one, 2)]
    told: list[tuple[str, int]] = []
    MONITORS[""].say(SaHint("", 5, one, other, 1))
    await rest()
    assert not loop.associations.known
    loop.follow_associations(lambda *owner: told.append(owner))
    await rest()
    assert told == [("", 5), ("", 0)]
    assert loop.associations.protects("", 5)
    MONITORS[""].say(SaHint("", 5, one, other, 1, gone=True))
    await rest()
    assert told[2:] == [("", 5)]
    engine.associations = []
    MONITORS[""].say(NamespaceHint("", lost=True))
    await rest()
    assert told[3:] == [("", 0)]
    assert not loop.associations.protects("", 5)
