"""The door: stages in their order, errors to their owners, and nothing after a failure. Sockets say what tests say."""

import errno
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from kl2tp.kernel import l2tp, leaving, netns, rtnl, xfrm
from kl2tp.kernel.door import Door
from kl2tp.kernel.netlink import KernelError, Message, Reply, messages
from kl2tp.kernel.stencil import Row, Specimen, Stencil
from kl2tp.model.objects import (
    Address,
    Direction,
    Guard,
    KernelObject,
    Link,
    Policy,
    Route,
    Sa,
    Secret,
    Selector,
    Session,
    Template,
    Tunnel,
)
from kl2tp.model.plan import Operation, Unit, Verb, plan
from kl2tp.model.spec import Encap, Mode

HERE, THERE = bytes((192, 0, 2, 1)), bytes((203, 0, 113, 7))
BLOCK = Policy("", Direction.OUT, Selector(bytes(4), 0, THERE, 32, 115), 2000, None)
TUNNEL = Tunnel("", 1, 2, Encap.IP, HERE, THERE)
SESSION = Session("", 1, 1, 1, "l0")
LINK = Link("", "l0", 1400, tunnel_netns="")
SA = Sa("", HERE, THERE, 0x100, Mode.TRANSPORT, 1, "x", Secret(bytes(4)))
OBJECTS: tuple[KernelObject, ...] = (BLOCK, Guard("", THERE), SA, TUNNEL, SESSION, LINK, Address("", "l0", HERE, 24))


def nothing(message: Message) -> None:
    """Refuses no request."""


Refuse = Callable[[Message], int | None]


class FakeSocket:
    """Takes every request, or refuses it as the test says."""

    def __init__(self, log: list[tuple[str, Message]], name: str, refuse: Mapping[str, Refuse]) -> None:
        self.log, self.name, self.refuse = log, name, refuse
        self.gone = True

    def batch(self, requests: Sequence[Message]) -> dict[int, KernelError]:
        self.log += [(self.name, request) for request in requests]
        decide = self.refuse.get(self.name, nothing)
        return {i: KernelError(code) for i, m in enumerate(requests) if (code := decide(m))}

    def blocks(self, blocks: Iterable[bytes], offsets: Sequence[int]) -> dict[int, KernelError]:
        blocks = list(blocks)
        found = [Message(kind, flags & ~1, payload) for b in blocks for kind, flags, _, _, payload in messages(b)]
        assert len(found) == len(blocks) * len(offsets)
        return self.batch(found)

    def get(self, requests: Sequence[Message]) -> list[Reply | KernelError]:
        return [KernelError(errno.ENOENT)] * len(requests)

    def request(self, message: Message) -> None:
        for error in self.batch([message]).values():
            raise error


class Crowd:
    """A kernel on one processor: everything it is still taking away takes its turn before a sleeper wakes."""

    def __init__(self, host: "FakeHost", clock: list[float], each_s: float) -> None:
        self.clock, self.each_s = clock, each_s
        self.under_way: list[Message] = []
        self.turns: list[int] = []
        self.late: list[float] = []
        host.genl.batch = self.batch  # type: ignore[method-assign]
        host.genl.get = self.get  # type: ignore[method-assign]

    def batch(self, requests: Sequence[Message]) -> dict[int, KernelError]:
        self.under_way += requests
        self.turns.append(len(self.under_way))
        return {}

    def get(self, requests: Sequence[Message]) -> list[Reply | KernelError]:
        there = bool(self.under_way)
        return [Reply(0, b"") if there else KernelError(errno.ENOENT) for _ in requests]

    def sleep(self, seconds: float) -> None:
        """The work is done first."""
        self.late.append(len(self.under_way) * self.each_s)
        self.clock[0] += seconds + self.late[-1]
        self.under_way.clear()


class FakeTable:
    """Elements of sets."""

    def __init__(self) -> None:
        self.elements: list[Any] = []
        self.refuse: set[Any] = set()

    def exists(self) -> bool:
        return True

    def get(self, wanted: Sequence[Any]) -> list[Any]:
        return [element for element in wanted if element in self.elements]

    def insert(self, by_set: Mapping[str, Sequence[bytes]]) -> None:
        packed = [entry for entries in by_set.values() for entry in entries]
        if self.refuse:
            raise KernelError(errno.ENOMEM)
        self.elements += packed

    def replace(self, old: Sequence[Any], new: Sequence[Any]) -> None:
        if self.refuse & {*old, *new}:
            raise KernelError(errno.ENOMEM)
        assert len(set(old)) == len(old)
        left = [element for element in self.elements if element not in old]
        self.elements = list(dict.fromkeys([*left, *new]))


class FakeHost:
    """A namespace of such sockets, with devices `l0` and `l1`."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Message]] = []
        self.refuse: dict[str, Refuse] = {}
        self.genl, self.route, self.xfrm = (FakeSocket(self.log, n, self.refuse) for n in ("genl", "route", "xfrm"))
        self.table = FakeTable()
        self.l2tp = l2tp.Codec(30)

    def socket(self, protocol: int) -> FakeSocket:
        sockets = {l2tp.NETLINK_GENERIC: self.genl, rtnl.NETLINK_ROUTE: self.route, xfrm.NETLINK_XFRM: self.xfrm}
        return sockets[protocol]

    def device_index(self, name: str) -> int:
        if name not in ("l0", "l1"):
            raise KernelError(errno.ENODEV, f"there is no device {name}")
        return int(name[1])

    def device_indexes(self, names: Sequence[str]) -> dict[str, int]:
        return {name: int(name[1]) for name in names if name in ("l0", "l1")}

    def forget_devices(self) -> None:
        """There is nothing to forget."""

    def sent(self, name: str) -> list[int]:
        """Types of the requests to one socket (commands, for l2tp)."""
        return [m.payload[0] if name == "genl" else m.type for n, m in self.log if n == name]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    made = FakeHost()

    def find(self: Door, name: str) -> FakeHost:
        if name:
            raise netns.NoNamespace(name)
        return made

    monkeypatch.setattr(Door, "host", find)
    return made


@pytest.fixture
def door() -> Door:
    return Door()


def creating(*units: Unit) -> list[Operation]:
    return plan(units, {}, {}).operations


def deleting(unit: Unit) -> list[Operation]:
    return plan([Unit(unit.name)], {o.key: o for o in unit.objects}, {unit.name: unit.keys()}).operations


def operation(verb: Verb, target: KernelObject, unit: str = "t", before: KernelObject | None = None) -> Operation:
    made = creating(Unit(unit, (target,)))[0]
    return replace(made, verb=verb, before=before)


# -- the plain course ------------------------------------------------------------------------------------------------


def test_a_plan_is_carried_out_in_its_order(door: Door, host: FakeHost) -> None:
    outcome = door.execute(creating(Unit("t", OBJECTS)))
    assert [op.target.kind for op in outcome.done] == ["policy", "guard", "sa", "tunnel", "session", "link", "address"]
    assert [name for name, _ in host.log] == ["xfrm", "xfrm", "genl", "genl", "route", "route"]
    assert (outcome.failed, outcome.skipped) == ({}, [])


def test_a_stage_of_many_units_is_one_batch(door: Door, host: FakeHost) -> None:
    batches: list[int] = []

    def batch(requests: Sequence[Message]) -> dict[int, KernelError]:
        batches.append(len(requests))
        return {}

    host.genl.batch = batch  # type: ignore[method-assign]
    door.execute(creating(*(Unit(f"t{n}", (replace(TUNNEL, id=n),)) for n in range(1, 40))))
    assert batches == [39]


# -- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [xfrm.NEWPOLICY, xfrm.NEWSA])
def test_where_protection_cannot_go_up_no_tunnel_is_built(door: Door, host: FakeHost, kind: int) -> None:
    host.refuse["xfrm"] = lambda m: errno.ENOSYS if m.type == kind else None
    outcome = door.execute(creating(Unit("t", OBJECTS)))
    assert host.sent("genl") == []
    assert {op.target.kind for op in outcome.skipped} >= {"tunnel", "session", "link"}
    op, error = outcome.failed["t"]
    assert op.target.kind in ("policy", "sa")
    assert isinstance(error, KernelError)
    assert error.code == errno.ENOSYS


def test_where_a_tunnel_cannot_be_taken_down_its_protection_stays(door: Door, host: FakeHost) -> None:
    host.refuse["genl"] = lambda m: errno.EBUSY
    outcome = door.execute(deleting(Unit("t", OBJECTS)))
    assert host.sent("xfrm") == []
    assert outcome.failed["t"][0].target == TUNNEL


def test_one_unit_s_failure_is_no_other_s(door: Door, host: FakeHost) -> None:
    units = [Unit(f"t{n}", (replace(TUNNEL, id=n), replace(SESSION, tunnel_id=n))) for n in (1, 2, 3)]
    bad = l2tp.Codec(30).tunnel_create(replace(TUNNEL, id=2))
    host.refuse["genl"] = lambda m: errno.EADDRNOTAVAIL if m == bad else None
    outcome = door.execute(creating(*units))
    assert list(outcome.failed) == ["t2"]
    assert [op.unit for op in outcome.done] == ["t1", "t3", "t1", "t3"]
    assert [op.unit for op in outcome.skipped] == ["t2"]


def test_what_is_to_be_deleted_and_is_not_there_is_deleted(door: Door, host: FakeHost) -> None:
    for name, code in (("genl", errno.ENODEV), ("xfrm", errno.ESRCH), ("route", errno.EADDRNOTAVAIL)):
        host.refuse[name] = lambda m, code=code: code  # type: ignore[misc]
    outcome = door.execute(deleting(Unit("t", OBJECTS)))
    assert outcome.failed == {}


def test_a_socket_that_fails_fails_the_stage_of_all(door: Door, host: FakeHost) -> None:
    def lost(requests: Sequence[Message]) -> dict[int, KernelError]:
        raise KernelError(errno.ETIMEDOUT, "a netlink reply was lost")

    host.genl.batch = lost  # type: ignore[method-assign]
    outcome = door.execute(creating(Unit("a", (TUNNEL,)), Unit("b", (replace(TUNNEL, id=2),))))
    assert set(outcome.failed) == {"a", "b"}


def test_in_a_missing_namespace_nothing_can_be_made_and_all_is_deleted(door: Door, host: FakeHost) -> None:
    unit = Unit("t", (replace(TUNNEL, netns="gone"),))
    _, error = door.execute(creating(unit)).failed["t"]
    assert "ip netns add gone" in str(error)
    assert door.execute(deleting(unit)).failed == {}


# -- policies and associations ---------------------------------------------------------------------------------------


def test_what_two_tunnels_share_is_created_once(door: Door, host: FakeHost) -> None:
    outcome = door.execute(creating(Unit("a", (BLOCK,)), Unit("b", (BLOCK,))))
    assert host.sent("xfrm") == [xfrm.NEWPOLICY]
    assert len(outcome.done) == 2


def test_what_two_tunnels_share_fails_for_both(door: Door, host: FakeHost) -> None:
    host.refuse["xfrm"] = lambda m: errno.ENOMEM
    assert set(door.execute(creating(Unit("a", (BLOCK,)), Unit("b", (BLOCK,)))).failed) == {"a", "b"}


def test_a_changed_policy_is_put_in_place_atomically(door: Door, host: FakeHost) -> None:
    door.execute([operation(Verb.UPDATE, BLOCK, before=BLOCK)])
    assert host.sent("xfrm") == [xfrm.UPDPOLICY]


def test_a_changed_association_is_made_anew(door: Door, host: FakeHost) -> None:
    door.execute([operation(Verb.UPDATE, SA, before=replace(SA, reqid=9))])
    assert host.sent("xfrm") == [xfrm.DELSA, xfrm.NEWSA]


@pytest.mark.parametrize(
    "thing",
    [
        replace(SA, offload_device="none"),
        replace(BLOCK, template=Template(1, Mode.TRANSPORT), offload_device="none"),
    ],
    ids=["sa", "policy"],
)
def test_a_missing_offload_device_is_the_problem_of_its_tunnel_only(
    door: Door, host: FakeHost, thing: KernelObject
) -> None:
    fine = replace(SA, spi=7) if isinstance(thing, Sa) else BLOCK
    good, bad = operation(Verb.CREATE, fine, "good"), operation(Verb.CREATE, thing, "bad")
    outcome = door.execute([bad, good] if bad.stage <= good.stage else [good, bad])
    assert list(outcome.failed) == ["bad"]
    assert [op.unit for op in outcome.done] == ["good"]


# -- elements of sets ------------------------------------------------------------------------------------------------


def test_guards_of_many_tunnels_are_one_change_and_shared_ones_one_element(door: Door, host: FakeHost) -> None:
    guard = Guard("", THERE)
    door.execute(creating(Unit("a", (guard,)), Unit("b", (guard,))))
    assert host.table.elements == [guard]
    operations = [operation(Verb.DELETE, guard, name) for name in "ab"]
    assert door.execute(operations).failed == {}
    assert host.table.elements == []


def test_the_guard_that_is_refused_is_found(door: Door, host: FakeHost) -> None:
    guards = [Guard("", bytes((10, 0, 0, n))) for n in range(5)]
    host.table.refuse = {guards[3]}
    outcome = door.execute(creating(*(Unit(f"t{n}", (guard,)) for n, guard in enumerate(guards))))
    assert list(outcome.failed) == ["t3"]
    assert len(host.table.elements) == 4


# -- devices ---------------------------------------------------------------------------------------------------------


def test_a_missing_master_is_the_problem_of_its_device_only(door: Door, host: FakeHost) -> None:
    one, two = replace(LINK, master="br9"), replace(LINK, name="l1")
    outcome = door.execute(creating(Unit("a", (one,)), Unit("b", (two,))))
    assert list(outcome.failed) == ["a"]
    assert [op.unit for op in outcome.done] == ["b"]


def test_on_a_device_that_is_not_there_nothing_can_stand(door: Door, host: FakeHost) -> None:
    route = Route("", 254, THERE, 32, 0, device="none", tunnel_device=True)
    assert set(door.execute(creating(Unit("a", (Address("", "none", HERE, 24),)), Unit("b", (route,)))).failed) == {
        "a",
        "b",
    }
    assert door.execute([operation(Verb.DELETE, route)]).failed == {}
    assert host.log == []


def test_a_master_is_set_only_when_it_changes(door: Door, host: FakeHost) -> None:
    masters = []
    for before, master in ((LINK, ""), (LINK, "l1"), (replace(LINK, master="l1"), "l1")):
        door.execute([operation(Verb.UPDATE, replace(LINK, master=master), before=before)])
        masters.append(rtnl.LinkState(host.log[-1][1].payload).master_index)
    assert masters == [0, 1, 0]


POINT_TO_POINT = Address("", "l0", HERE, 32, THERE)


def test_another_peer_makes_another_ipv4_address_before_the_old_one_goes(door: Door, host: FakeHost) -> None:
    before = replace(POINT_TO_POINT, peer=bytes((10, 0, 0, 9)))
    door.execute([operation(Verb.UPDATE, POINT_TO_POINT, before=before)])
    assert host.sent("route") == [rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR]
    added, deleted = (rtnl.decode_address(message.payload) for _, message in host.log)
    assert (added[3], deleted[3]) == (THERE, before.peer)


def test_another_peer_of_an_ipv6_address_is_set_in_place(door: Door, host: FakeHost) -> None:
    wanted = Address("", "l0", bytes(15) + b"\1", 128, bytes(15) + b"\2")
    door.execute([operation(Verb.UPDATE, wanted, before=replace(wanted, peer=b""))])
    assert host.sent("route") == [rtnl.RTM_NEWADDR]


def test_an_old_address_that_is_gone_already_is_no_failure(door: Door, host: FakeHost) -> None:
    host.refuse["route"] = lambda m: errno.EADDRNOTAVAIL if m.type == rtnl.RTM_DELADDR else None
    outcome = door.execute([operation(Verb.UPDATE, POINT_TO_POINT, before=replace(POINT_TO_POINT, peer=b""))])
    assert outcome.failed == {}


# -- by stencil ------------------------------------------------------------------------------------------------------

MARK = 0xA1B2C3D4


def numbered(number: int) -> Unit:
    """A unit whose tunnel has this id."""
    tunnel, session = replace(TUNNEL, id=number), replace(SESSION, tunnel_id=number, ifname=f"l{number % 2}")
    rest = (replace(LINK, name=session.ifname), Address("", session.ifname, HERE, 24))
    return Unit(f"t{number}", (BLOCK, Guard("", THERE), replace(SA, spi=number), tunnel, session, *rest))


def stencilled(door: Door, *numbers: int) -> tuple[Stencil, list[Row]]:
    """Units, of which those with an odd number are alike."""
    specimen = numbered(MARK + 1)
    stencil = door.cut(Specimen(specimen, f"id {MARK + 1}", [MARK + 1], {"l1": 0xA1B20000}))
    return stencil, [stencil.row(f"t{number}", [number], ["l1"]) for number in numbers]


def test_a_stencil_sends_what_a_plan_sends(door: Door, host: FakeHost) -> None:
    stencil, rows = stencilled(door, 1, 3, 5)
    outcome = door.stamp(stencil, rows, lambda name: numbered(int(name[1:])))
    assert (outcome.done, outcome.failed, outcome.skipped) == ([], {}, [])
    stamped = host.log[:]
    host.log.clear()
    for number in (1, 3, 5):
        door.execute([op for op in creating(numbered(number)) if not isinstance(op.target, Guard)])
    assert sorted(map(repr, stamped)) == sorted(map(repr, host.log))
    assert len(host.table.elements) == 3
    assert [stencil.text(row) for row in rows] == ["id 1", "id 3", "id 5"]


def test_what_the_kernel_refuses_stops_its_unit_only_and_says_what_was_done(door: Door, host: FakeHost) -> None:
    bad = l2tp.Codec(30).tunnel_create(replace(TUNNEL, id=3))
    host.refuse["genl"] = lambda m: errno.EADDRNOTAVAIL if m == bad else None
    stencil, rows = stencilled(door, 1, 3, 5)
    outcome = door.stamp(stencil, rows, lambda name: numbered(int(name[1:])))
    op, error = outcome.failed["t3"]
    assert (list(outcome.failed), op.target, str(error)[:9]) == (["t3"], replace(TUNNEL, id=3), "Cannot as")
    assert [op.target.kind for op in outcome.done] == ["policy", "guard", "sa"]
    assert [op.target.kind for op in outcome.skipped] == ["session", "link", "address"]
    assert {op.unit for op in outcome.done + outcome.skipped} == {"t3"}
    tunnels = [m for name, m in host.log if name == "genl" and m.payload[0] == l2tp.TUNNEL_CREATE]
    assert [tunnels.count(tunnel) for tunnel in tunnels] == [1, 2, 1, 2]  # the refused one was tried once more
    assert host.sent("genl").count(l2tp.SESSION_CREATE) == 2


def test_what_is_refused_at_first_and_not_again_is_made(door: Door, host: FakeHost) -> None:
    refusals = iter([errno.EBUSY])
    host.refuse["xfrm"] = lambda m: next(refusals, None) if m.type == xfrm.NEWSA else None
    stencil, rows = stencilled(door, 1, 3)
    outcome = door.stamp(stencil, rows, lambda name: numbered(int(name[1:])))
    assert outcome.failed == {}
    assert host.sent("genl").count(l2tp.SESSION_CREATE) == 2


def test_refused_elements_are_put_in_one_by_one(door: Door, host: FakeHost) -> None:
    host.table.refuse = {None}
    stencil, rows = stencilled(door, 1, 3)
    assert door.stamp(stencil, rows, lambda name: numbered(int(name[1:]))).failed == {}
    assert host.table.elements == [Guard("", THERE)]


def test_on_a_device_that_vanished_nothing_is_put(door: Door, host: FakeHost) -> None:
    stencil, _ = stencilled(door)
    rows = [stencil.row("t1", [1], ["l1"]), stencil.row("t3", [3], ["l7"])]
    units = {"t1": numbered(1), "t3": Unit("t3", (*numbered(3).objects[:-1], Address("", "l7", HERE, 24)))}
    outcome = door.stamp(stencil, rows, units.__getitem__)
    op, error = outcome.failed["t3"]
    assert (list(outcome.failed), op.target.kind) == (["t3"], "address")
    assert "no device l7" in str(error)


@pytest.mark.parametrize("netns_name", ["", "gone"])
def test_where_nobody_knows_what_became_of_a_stage_every_unit_fails(
    door: Door, host: FakeHost, netns_name: str
) -> None:
    def lost(blocks: Iterable[bytes], offsets: Sequence[int]) -> dict[int, KernelError]:
        raise KernelError(errno.ETIMEDOUT, "a netlink reply was lost")

    stencil, rows = stencilled(door, 1, 3)
    host.genl.blocks = lost  # type: ignore[method-assign]
    stencil.netns = netns_name
    outcome = door.stamp(stencil, rows, lambda name: numbered(int(name[1:])))
    assert list(outcome.failed) == ["t1", "t3"]
    done = {op.target.kind for op in outcome.done}
    assert done == ({"policy", "guard", "sa"} if not netns_name else set())


# -- patience --------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only waiting puts forward."""
    now = [1000.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            return now[0]

        @staticmethod
        def sleep(seconds: float) -> None:
            now[0] += seconds

    monkeypatch.setattr(leaving, "time", Clock)
    return now


def test_an_id_on_its_way_out_is_waited_for(door: Door, host: FakeHost, clock: list[float]) -> None:
    door.execute(deleting(Unit("t", (TUNNEL,))))
    free_at = clock[0] + 2
    host.refuse["genl"] = lambda m: errno.EEXIST if clock[0] < free_at else None
    assert door.execute(creating(Unit("t", (TUNNEL,)))).failed == {}
    assert free_at <= clock[0] < free_at + 0.2


def test_an_id_in_other_hands_is_not_waited_for(door: Door, host: FakeHost, clock: list[float]) -> None:
    began = clock[0]
    host.refuse["genl"] = lambda m: errno.EEXIST
    assert "t" in door.execute(creating(Unit("t", (TUNNEL,)))).failed
    assert clock[0] == began


UDP = replace(TUNNEL, encap=Encap.UDP, local_port=2000, remote_port=1701)
ELSEWHERE: dict[str, tuple[KernelObject, KernelObject]] = {
    "tunnel id": (TUNNEL, replace(TUNNEL, id=2)),
    "port": (UDP, replace(UDP, id=2, local_port=2001)),
    "device": (SESSION, replace(SESSION, id=2, ifname="l1")),
}
THERE_AGAIN: dict[str, tuple[KernelObject, KernelObject]] = {
    "tunnel id": (TUNNEL, replace(TUNNEL, peer_id=5)),
    "port": (UDP, replace(UDP, id=2)),
    "session id": (SESSION, replace(SESSION, tunnel_id=2, ifname="l1")),
    "device": (SESSION, replace(SESSION, id=2)),
}


@pytest.mark.parametrize(("before", "after"), ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_place_in_other_hands_is_not_waited_for_though_another_was_just_left(
    door: Door, host: FakeHost, clock: list[float], before: KernelObject, after: KernelObject
) -> None:
    door.execute([operation(Verb.DELETE, before)])
    began = clock[0]
    host.refuse["genl"] = lambda m: errno.EEXIST
    assert "t" in door.execute([operation(Verb.CREATE, after)]).failed
    assert clock[0] == began


@pytest.mark.parametrize(("before", "after"), THERE_AGAIN.values(), ids=THERE_AGAIN)
def test_a_place_that_was_just_left_is_waited_for(
    door: Door, host: FakeHost, clock: list[float], before: KernelObject, after: KernelObject
) -> None:
    door.execute([operation(Verb.DELETE, before)])
    free_at = clock[0] + 2
    host.refuse["genl"] = lambda m: errno.EADDRINUSE if clock[0] < free_at else None
    assert door.execute([operation(Verb.CREATE, after)]).failed == {}


def test_a_device_that_went_with_its_tunnel_is_waited_for(door: Door, host: FakeHost, clock: list[float]) -> None:
    door.execute(deleting(Unit("t", (TUNNEL, SESSION, LINK))))
    free_at = clock[0] + 2
    host.refuse["genl"] = lambda m: errno.EEXIST if clock[0] < free_at else None
    assert door.execute(creating(Unit("u", (replace(SESSION, tunnel_id=9, id=9),)))).failed == {}


def test_patience_has_an_end(door: Door, host: FakeHost, clock: list[float]) -> None:
    door.execute(deleting(Unit("t", (TUNNEL,))))
    began = clock[0]
    host.refuse["genl"] = lambda m: errno.EEXIST
    assert "t" in door.execute(creating(Unit("t", (TUNNEL,)))).failed
    assert 10 <= clock[0] - began < 10.2
    assert "t" in door.execute(creating(Unit("t", (TUNNEL,)))).failed
    assert clock[0] - began < 10.2


def test_a_deletion_is_over_when_the_object_is_gone(door: Door, host: FakeHost, clock: list[float]) -> None:
    gone_at = clock[0] + 3

    def get(requests: Sequence[Message]) -> list[Reply | KernelError]:
        there = clock[0] < gone_at
        return [Reply(0, b"") if there else KernelError(errno.ENOENT) for _ in requests]

    host.genl.get = get  # type: ignore[method-assign]
    assert door.execute(deleting(Unit("t", (TUNNEL,)))).failed == {}
    assert gone_at <= clock[0] < gone_at + 0.2


with_or_without_its_tunnel = pytest.mark.parametrize(
    "unit", [Unit("t", (TUNNEL, SESSION, LINK)), Unit("t", (SESSION, LINK))], ids=["tunnel", "session"]
)


@with_or_without_its_tunnel
def test_a_deletion_is_over_when_the_devices_are_gone_too(
    door: Door, host: FakeHost, clock: list[float], unit: Unit
) -> None:
    gone_at = clock[0] + 3
    device = rtnl.link_set(replace(LINK, alias="kl2tp:t/s"), 0, set_master=False)

    def get(requests: Sequence[Message]) -> list[Reply | KernelError]:
        assert requests == [rtnl.link_get("l0")]
        return [Reply(0, device.payload) if clock[0] < gone_at else KernelError(errno.ENODEV)]

    host.route.get = get  # type: ignore[method-assign]
    assert door.execute(deleting(unit)).failed == {}
    assert gone_at <= clock[0] < gone_at + 0.2


@with_or_without_its_tunnel
def test_somebody_else_s_device_of_that_name_is_not_waited_for(
    door: Door, host: FakeHost, clock: list[float], unit: Unit
) -> None:
    began = clock[0]
    device = rtnl.link_set(replace(LINK, alias="uplink"), 0, set_master=False)
    host.route.get = lambda requests: [Reply(0, device.payload)]  # type: ignore[method-assign]
    assert door.execute(deleting(unit)).failed == {}
    assert clock[0] == began


def test_a_deletion_that_does_not_end_is_an_error(door: Door, host: FakeHost, clock: list[float]) -> None:
    host.genl.get = lambda requests: [Reply(0, b"")] * len(requests)  # type: ignore[method-assign]
    _, error = door.execute(deleting(Unit("t", (TUNNEL,)))).failed["t"]
    assert "not finished deleting" in str(error)


# -- many deletions --------------------------------------------------------------------------------------------------


def many(count: int) -> list[Operation]:
    return [op for n in range(count) for op in deleting(Unit(f"t{n}", (replace(TUNNEL, id=n + 1),)))]


def test_no_more_is_taken_away_at_once_than_lets_others_have_the_processor(
    door: Door, host: FakeHost, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(host, clock, each_s=0.002)
    monkeypatch.setattr("kl2tp.kernel.leaving.time.sleep", crowd.sleep)
    assert door.execute(many(1000)).failed == {}
    assert sum(crowd.turns) == 1000
    assert max(crowd.late) <= 0.032
    assert max(crowd.late[3:]) <= 0.01


def test_where_nobody_has_to_wait_for_the_processor_all_goes_in_a_few_turns(
    door: Door, host: FakeHost, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = Crowd(host, clock, each_s=0)
    monkeypatch.setattr("kl2tp.kernel.leaving.time.sleep", crowd.sleep)
    assert door.execute(many(1000)).failed == {}
    assert len(crowd.turns) <= 6


def test_a_failure_in_a_later_turn_is_its_own(door: Door, host: FakeHost) -> None:
    bad = l2tp.Codec(30).tunnel_delete(90)
    host.refuse["genl"] = lambda m: errno.EBUSY if m == bad else None
    assert list(door.execute(many(100)).failed) == ["t89"]
