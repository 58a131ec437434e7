"""The engine, with a door to a kernel made of a dictionary: what it reads, records, does, takes back and hands over."""

import dataclasses
import errno
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from kl2tp.ipsec.keys import KeyRing
from kl2tp.kernel.netlink import KernelError
from kl2tp.model.objects import Direction, KernelObject, Link, Policy, Sa, Session, Tunnel
from kl2tp.model.plan import Operation
from kl2tp.model.spec import Encap, TunnelSpec
from kl2tp.reconcile import alike
from kl2tp.reconcile.engine import CHUNK, Engine, Result
from kl2tp.reconcile.ledger import Ledger
from unit.reconcile.fake_door import Crash, FakeDoor
from unit.reconcile.specs import HERE, clear, key_file, peer, protected


class Rig:
    """An engine whose process can end and begin again; kernel, clock and files stay."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "ledger"
        self.door = FakeDoor()
        self.now = 1000.0
        self.ring = KeyRing()
        self.specs: dict[str, TunnelSpec] = {}
        self._begin()

    def _begin(self) -> None:
        self.ledger = Ledger(self.path, lambda name: 1)
        self.engine = Engine(self.door, self.ledger, self.ring, now=lambda: self.now)
        self.engine.set_specs(self.specs)

    def restart(self) -> None:
        """End as a crash does, and begin again."""
        self.ledger.close()
        self.door.crash_after = None
        self._begin()

    def want(self, *specs: TunnelSpec) -> None:
        self.specs = {spec.name: spec for spec in specs}
        self.engine.set_specs(self.specs)

    def run(self, names: Iterable[str] | None = None, *, adopt: bool = False) -> dict[str, Result]:
        asked = self.engine.names() if names is None else names
        return {r.name: r for results in self.engine.reconcile(asked, adopt=adopt) for r in results}

    def apply(self, *specs: TunnelSpec) -> list[Operation]:
        """Make the kernel agree; there must be no problem."""
        self.want(*specs)
        results = self.run()
        assert {r.name: r.problem for r in results.values() if r.problem} == {}
        return [op for r in results.values() for op in r.done]

    def there(self, kind: type[KernelObject]) -> list[KernelObject]:
        return [o for o in self.door.kernel.objects.values() if isinstance(o, kind)]


@pytest.fixture(params=[1, alike.FEWEST], ids=["by stencil", "one by one"])
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """Everything here is so however tunnels are made."""
    monkeypatch.setattr(alike, "FEWEST", request.param)
    monkeypatch.setattr(alike, "_SHORTEST_NAME", 2)
    made = Rig(tmp_path)
    yield made
    made.ledger.close()


def brief(operations: Iterable[Operation]) -> list[str]:
    return [op.verb.value + op.target.kind for op in operations]


# -- the plain course ------------------------------------------------------------------------------------------------


def test_the_second_pass_does_nothing(rig: Rig) -> None:
    assert rig.apply(clear(1), clear(2))
    assert rig.apply(clear(1), clear(2)) == []


def test_of_what_was_never_begun_nothing_is_read(rig: Rig) -> None:
    rig.apply(clear())
    assert not any(rig.door.asked)


def test_what_is_made_is_recorded_first(rig: Rig) -> None:
    rig.door.crash_after = 0
    rig.want(clear())
    with pytest.raises(Crash):
        rig.run()
    rig.restart()
    assert {key[0] for key in rig.ledger.owned("t1")} == {"tunnel", "session", "link", "clamp"}
    assert rig.ledger.tentative("t1")


def test_a_tunnel_that_is_removed_is_gone_and_forgotten(rig: Rig) -> None:
    rig.apply(clear(1), clear(2))
    rig.want(clear(2))
    results = rig.run()
    assert results["t1"].gone
    assert not results["t2"].gone
    assert list(rig.ledger.names()) == ["t2"]


def test_leftovers_come_before_what_may_need_their_ids(rig: Rig) -> None:
    rig.apply(clear(1), clear(2))
    rig.want(clear(3), clear(2))
    assert rig.engine.names() == ["t1", "t3", "t2"]


def test_work_is_cut_into_chunks(rig: Rig) -> None:
    names = [f"n{n}" for n in range(CHUNK + 1)]
    assert len(list(rig.engine.plan(names))) == 2
    assert [len(part) for part in rig.engine.reconcile(names)] == [CHUNK, 1]


def test_a_plan_changes_neither_kernel_nor_ledger(rig: Rig) -> None:
    rig.want(clear())
    ((plan, problems),) = rig.engine.plan(rig.engine.names())
    assert brief(plan.operations) == ["+tunnel", "+session", "+link", "+clamp"]
    assert problems == {}
    assert rig.door.executed == []
    assert list(rig.ledger.names()) == []


def test_a_look_at_one_tunnel_shows_wish_fact_and_counters(rig: Rig) -> None:
    rig.apply(clear())
    rig.door.kernel.delete(("link", "", "l1"))
    found = rig.engine.inspect("t1")
    missing = [o.kind for o in found.unit.objects if o.key not in found.actual]
    assert missing == ["link"]
    assert found.counters[("session", "", 1, 1)] == {"packets": 1}


FOREIGN_TUNNEL = Tunnel("", 1, 5, Encap.IP, HERE, peer(9))


# -- failures --------------------------------------------------------------------------------------------------------


def refusing(kind: str, code: int, unit: str = "t1") -> Callable[[Operation], KernelError | None]:
    return lambda op: KernelError(code, "said the kernel") if (op.target.kind, op.unit) == (kind, unit) else None


def test_a_failure_stops_no_other_tunnel_and_says_what_and_why(rig: Rig) -> None:
    rig.door.refuse = refusing("session", errno.EPROTONOSUPPORT)
    rig.want(clear(1), clear(2))
    results = rig.run()
    assert results["t2"].problem == ""
    problem = results["t1"].problem
    assert problem.startswith("creating session 1/1 peer 1 dev l1: Protocol not supported (EPROTONOSUPPORT): said")
    assert "kl2tp doctor" in problem


def test_what_a_failed_tunnel_made_stays_its_own(rig: Rig) -> None:
    rig.door.refuse = refusing("link", errno.EINVAL)
    rig.want(clear())
    rig.run()
    rig.door.refuse = lambda op: None
    assert brief(rig.apply(clear())) == ["~link", "+clamp"]


@pytest.mark.parametrize("kind", ["sa", "policy", "tunnel", "session", "link", "clamp"])
def test_what_a_failed_tunnel_made_goes_when_it_is_no_longer_desired(rig: Rig, tmp_path: Path, kind: str) -> None:
    rig.door.refuse = refusing(kind, errno.EADDRNOTAVAIL)
    rig.want(protected(key_file(tmp_path, 0)))
    assert rig.run()["t1"].problem
    rig.door.refuse = lambda op: None
    rig.restart()
    assert rig.apply() or kind == "policy"  # of these the first was refused, and nothing is there
    assert rig.door.kernel.objects == {}
    assert list(rig.ledger.names()) == []


@pytest.mark.parametrize("kind", ["tunnel", "sa"])
def test_what_a_failed_tunnel_did_not_make_is_not_its_own(rig: Rig, tmp_path: Path, kind: str) -> None:
    spec = protected(key_file(tmp_path, 0))
    rig.door.refuse = refusing(kind, errno.EADDRNOTAVAIL)
    rig.want(spec)
    rig.run()
    rig.door.refuse = lambda op: None
    rig.door.kernel.create(FOREIGN_TUNNEL)
    assert rig.run()["t1"].conflict
    rig.want()
    rig.run()
    assert rig.door.kernel.objects == {FOREIGN_TUNNEL.key: FOREIGN_TUNNEL}


@pytest.mark.parametrize("code", [errno.ETIMEDOUT, errno.ENOBUFS])
def test_where_it_is_unknown_whether_something_was_made_it_may_be_its_own(rig: Rig, code: int) -> None:
    def lost(op: Operation) -> KernelError | None:
        if op.target.kind != "session":
            return None
        rig.door.kernel.carry_out([op])
        return KernelError(code, "a netlink reply was lost")

    rig.door.refuse = lost
    rig.want(clear())
    assert rig.run()["t1"].problem
    rig.door.refuse = lambda op: None
    assert brief(rig.apply(clear())) == ["~link", "+clamp"]


def test_a_key_file_that_cannot_be_used_is_a_problem_of_its_tunnels_only(rig: Rig, tmp_path: Path) -> None:
    rig.want(protected(str(tmp_path / "none"), 1), clear(2))
    results = rig.run()
    assert "none" in results["t1"].problem
    assert results["t2"].problem == ""


def test_without_its_key_file_a_tunnel_stays_as_it_is(rig: Rig, tmp_path: Path) -> None:
    rig.apply(protected(key_file(tmp_path, 0)))
    before = dict(rig.door.kernel.objects)
    Path(key_file(tmp_path, 0)).unlink()
    rig.ring.refresh()
    assert rig.run()["t1"].problem
    assert rig.door.kernel.objects == before


# -- what others made ------------------------------------------------------------------------------------------------


def test_a_foreign_tunnel_is_met_taken_back_and_reported(rig: Rig, tmp_path: Path) -> None:
    rig.door.kernel.create(FOREIGN_TUNNEL)
    rig.want(protected(key_file(tmp_path, 0)))
    result = rig.run()["t1"]
    assert result.conflict
    assert "was not made by kl2tp" in result.problem
    assert rig.door.kernel.objects == {FOREIGN_TUNNEL.key: FOREIGN_TUNNEL}
    assert list(rig.ledger.names()) == []


def test_a_foreign_tunnel_does_not_stop_the_others_of_its_chunk(rig: Rig) -> None:
    rig.door.kernel.create(FOREIGN_TUNNEL)
    rig.want(clear(1), clear(2))
    results = rig.run()
    assert (bool(results["t1"].problem), results["t2"].problem) == (True, "")


def test_adoption_makes_the_foreign_tunnel_ours(rig: Rig) -> None:
    rig.door.kernel.create(FOREIGN_TUNNEL)
    rig.want(clear())
    assert rig.run(adopt=True)["t1"].problem == ""
    assert rig.apply(clear()) == []
    assert rig.there(Tunnel) == [Tunnel("", 1, 1001, Encap.IP, HERE, peer(1))]


def test_after_a_crash_before_the_first_creation_a_foreign_tunnel_is_still_foreign(rig: Rig) -> None:
    rig.door.kernel.create(FOREIGN_TUNNEL)
    rig.door.crash_after = 0
    rig.want(clear())
    with pytest.raises(Crash):
        rig.run()
    rig.restart()
    assert rig.run()["t1"].conflict
    assert rig.there(Tunnel) == [FOREIGN_TUNNEL]


def test_after_a_crash_what_is_as_we_make_it_is_ours(rig: Rig) -> None:
    rig.door.crash_after = 2
    rig.want(clear())
    with pytest.raises(Crash):
        rig.run()
    rig.restart()
    assert brief(rig.apply(clear())) == ["~link", "+clamp"]


@pytest.mark.parametrize("point", range(1, 11))
def test_what_a_crash_left_of_a_tunnel_goes_though_it_is_no_longer_desired(
    rig: Rig, tmp_path: Path, point: int
) -> None:
    spec = protected(key_file(tmp_path, 0))
    rig.want(spec)
    rig.door.crash_after = point
    with pytest.raises(Crash):
        rig.run()
    rig.restart()
    rig.want(spec)
    rig.apply()
    assert rig.door.kernel.objects == {}
    assert list(rig.ledger.names()) == []


@pytest.mark.parametrize("point", range(9))
def test_after_a_crash_at_any_operation_the_end_is_the_same(rig: Rig, tmp_path: Path, point: int) -> None:
    key = key_file(tmp_path, 0)
    rig.apply(protected(key, 1), clear(2))
    after = (dataclasses.replace(protected(key, 1), peer_id=7), clear(3))
    rig.want(*after)
    rig.door.crash_after = point
    with pytest.raises(Crash):
        rig.run()
    rig.restart()
    rig.apply(*after)
    assert {t.id for t in rig.there(Tunnel) if isinstance(t, Tunnel)} == {1, 3}
    assert rig.apply(*after) == []


def test_a_deletion_that_a_crash_interrupted_is_seen_through_first(rig: Rig) -> None:
    rig.apply(clear())
    changed = dataclasses.replace(clear(), peer_id=9)
    rig.want(changed)
    rig.door.crash_after = 1
    with pytest.raises(Crash):
        rig.run()
    rig.restart()
    rig.apply(changed)
    assert rig.door.finished == [("tunnel", "", 1)]


# -- tunnels that exchange what they have ----------------------------------------------------------------------------


def test_a_renamed_tunnel_goes_on_as_it_is(rig: Rig) -> None:
    rig.apply(clear(1, name="old"))
    assert brief(rig.apply(clear(1, name="new"))) == ["~link"]
    assert list(rig.ledger.names()) == ["new"]


def test_two_tunnels_can_exchange_their_ids_though_planned_apart(rig: Rig) -> None:
    one, two = clear(1), clear(2)
    rig.apply(one, two)
    one, two = dataclasses.replace(one, id=2), dataclasses.replace(two, id=1)
    rig.want(one, two)
    for name in ("t1", "t2"):
        assert {r.problem for r in rig.run([name]).values()} == {""}
    assert rig.apply(one, two) == []


@pytest.mark.parametrize("point", range(4))
def test_a_crash_while_tunnels_exchange_their_ids_leaves_nothing_behind(rig: Rig, point: int) -> None:
    rig.apply(clear(1, name="a"), clear(2, name="b"))
    after = (dataclasses.replace(clear(1, name="a"), id=2), clear(3, name="c"))
    rig.want(*after)
    rig.door.crash_after = point
    with pytest.raises(Crash):
        rig.run()
    rig.restart()
    for name in rig.engine.names():
        assert {r.problem for r in rig.run([name]).values()} == {""}
    assert rig.apply(*after) == []
    assert len(rig.door.kernel.objects) == 8


def test_what_shields_another_tunnel_to_the_same_peer_stays(rig: Rig, tmp_path: Path) -> None:
    one = protected(key_file(tmp_path, 0), 1)
    two = dataclasses.replace(protected(key_file(tmp_path, 0), 2), remote=one.remote, local=bytes((192, 0, 2, 2)))
    rig.apply(one, two)
    shield = [o for o in rig.there(Policy) if isinstance(o, Policy) and o.template is None]
    rig.apply(two)
    assert [o for o in rig.there(Policy) if o in shield] == shield
    rig.apply()
    assert rig.door.kernel.objects == {}


def test_a_block_of_another_mark_is_not_kept_for_its_neighbour(rig: Rig, tmp_path: Path) -> None:
    key = key_file(tmp_path, 0)
    one, two = protected(key, 1, udp=True, mark=(1, 255)), protected(key, 2, udp=True, mark=(2, 255))
    two = dataclasses.replace(two, remote=one.remote, local=bytes((192, 0, 2, 2)), local_port=one.local_port)
    rig.apply(one, two)
    rig.apply(two)
    assert {o.mark for o in rig.there(Policy) if isinstance(o, Policy)} == {(2, 255)}


# -- a change of keys ------------------------------------------------------------------------------------------------


def spis(rig: Rig) -> tuple[set[int], int]:
    """SPIs of the SAs to the peer, and the one that is sent with."""
    outbound = {o.spi for o in rig.there(Sa) if isinstance(o, Sa) and o.source == HERE}
    (policy,) = (o for o in rig.there(Policy) if isinstance(o, Policy) and o.template and o.direction == Direction.OUT)
    assert policy.template
    return outbound, policy.template.spi


def test_a_change_of_keys_goes_through_both_and_then_the_new_one(rig: Rig, tmp_path: Path) -> None:
    spec = protected(key_file(tmp_path, 0), overlap=10)
    rig.apply(spec)
    _, old = spis(rig)
    key_file(tmp_path, 1)
    rig.ring.refresh()
    rig.apply(spec)
    both, sending = spis(rig)
    assert sending == old
    assert len(both) == 2
    assert rig.engine.deadlines == {"t1": 1010.0}

    rig.now = 1010.0
    rig.apply(spec)
    still, sending = spis(rig)
    assert still == both
    assert sending != old
    assert rig.engine.deadlines == {"t1": 1020.0}

    rig.now = 1020.0
    rig.apply(spec)
    assert spis(rig) == (both - {old}, sending)
    rig.apply(spec)
    assert rig.engine.deadlines == {}
    assert rig.ledger.rollover("t1") is None


def test_a_change_of_keys_survives_a_restart(rig: Rig, tmp_path: Path) -> None:
    spec = protected(key_file(tmp_path, 0))
    rig.apply(spec)
    key_file(tmp_path, 1)
    rig.ring.refresh()
    rig.apply(spec)
    rig.restart()
    rig.now += 5
    rig.apply(spec)
    assert rig.engine.deadlines == {"t1": 1010.0}


def test_after_a_reboot_a_change_of_keys_begins_anew(rig: Rig, tmp_path: Path) -> None:
    spec = protected(key_file(tmp_path, 0))
    rig.apply(spec)
    key_file(tmp_path, 1)
    rig.ring.refresh()
    rig.apply(spec)
    rig.now = 3.0
    rig.apply(spec)
    assert rig.engine.deadlines == {"t1": 13.0}


def test_a_new_cipher_waits_for_nobody(rig: Rig, tmp_path: Path) -> None:
    spec = protected(key_file(tmp_path, 0))
    rig.apply(spec)
    assert spec.ipsec
    other = dataclasses.replace(spec, ipsec=dataclasses.replace(spec.ipsec, cipher="aes128gcm16"))
    assert brief(rig.apply(other)) == ["~sa", "~sa"]


def test_where_tunnels_and_their_devices_are(rig: Rig) -> None:
    rig.want(clear(1, netns="inside"), dataclasses.replace(clear(2), netns="outside"))
    assert rig.engine.namespaces == {"", "inside", "outside"}
    rig.door.kernel.objects[("link", "outside", "l2")] = Link("outside", "l2", 1)
    rig.run(["t1"])
    assert rig.engine.owned_namespaces() == {"", "inside"}


def test_a_session_to_make_anew_takes_its_device_along(rig: Rig) -> None:
    rig.apply(clear(1, session=1))
    assert brief(rig.apply(clear(1, session=2))) == ["-session", "+session", "+link"]
    assert [s.id for s in rig.there(Session) if isinstance(s, Session)] == [2]
