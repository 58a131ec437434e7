"""Address pools: every address once, the same one again, and nothing that costs more as the pool grows."""

import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kl2tp.access.pools import Pool
from kl2tp.model import addr
from kl2tp.model.calls import PoolSpec


def spec(*ranges: str, length: int = 32) -> PoolSpec:
    """A pool of ranges `FIRST-LAST`."""
    ends = [tuple(addr.parse(end) for end in text.split("-")) for text in ranges]
    return PoolSpec("p", tuple((first, last) for first, last in ends), length)


def texts(pool: Pool, *users: str) -> list[str]:
    return [addr.text(pool.allocate(user) or b"") for user in users]


def test_addresses_come_in_the_order_of_the_ranges_until_there_are_none() -> None:
    pool = Pool(spec("10.0.1.0-10.0.1.0", "10.0.0.254-10.0.0.255", "10.9.0.5-10.9.0.5"))
    assert pool.size == 4
    assert texts(pool, *"abcde") == ["10.0.0.254", "10.0.0.255", "10.0.1.0", "10.9.0.5", ""]
    assert pool.used == 4


def test_overlapping_ranges_give_each_address_once() -> None:
    pool = Pool(spec("10.0.0.1-10.0.0.4", "10.0.0.3-10.0.0.5", "10.0.0.2-10.0.0.2"))
    given = texts(pool, *"abcdef")
    assert given == [f"10.0.0.{n}" for n in range(1, 6)] + [""]


def test_an_ipv6_pool_gives_prefixes() -> None:
    pool = Pool(spec("2001:db8::-2001:db8:0:3::", length=64))
    assert pool.size == 4
    assert texts(pool, *"ab") == ["2001:db8::", "2001:db8:0:1::"]
    assert addr.parse("2001:db8:0:3::") in pool
    assert addr.parse("2001:db8:0:3::1") not in pool
    assert addr.parse("2001:db8:0:4::") not in pool
    assert addr.parse("10.0.0.1") not in pool


def test_a_user_gets_the_same_address_again() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.9"))
    texts(pool, "x")
    mine = pool.allocate("alice")
    assert mine
    assert pool.release(mine)
    assert pool.allocate("bob") != mine
    assert pool.allocate("alice") == mine


def test_a_user_with_two_sessions_gets_both_again() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.9"))
    first = [pool.allocate("alice"), pool.allocate("alice")]
    for address in first:
        assert address is not None
        pool.release(address)
    texts(pool, *"abc")
    assert sorted([pool.allocate("alice") or b"", pool.allocate("alice") or b""]) == sorted(x or b"" for x in first)


def test_strangers_get_fresh_addresses_first_then_the_one_that_is_free_longest() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.3"))
    a, b = pool.allocate("a"), pool.allocate("b")
    assert a is not None
    assert b is not None
    pool.release(b)
    pool.release(a)
    assert texts(pool, *"cdef") == ["10.0.0.2", "10.0.0.3", addr.text(b), addr.text(a)]


def test_a_reserved_address_is_only_for_those_who_take_it() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.2"))
    pool.reserve([addr.parse("10.0.0.0"), addr.parse("192.0.2.1")])
    assert texts(pool, *"ab") == ["10.0.0.1", "10.0.0.2"]
    assert pool.take(addr.parse("10.0.0.0"), "owner")
    assert not pool.take(addr.parse("10.0.0.0"), "other")
    assert pool.holder(addr.parse("10.0.0.0")) == "owner"
    assert pool.release(addr.parse("10.0.0.0"))
    assert texts(pool, "c") == [""]
    pool.reserve([])
    assert texts(pool, "c") == ["10.0.0.0"]


def test_an_address_that_is_reserved_while_free_or_held_goes_to_nobody_afterwards() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.1"))
    free, held = pool.allocate("a"), pool.allocate("b")
    assert free is not None
    assert held is not None
    pool.release(free)
    pool.reserve([free, held])
    assert pool.allocate("a") is None
    pool.release(held)
    assert pool.allocate("b") is None
    assert pool.holder(held) is None


def test_what_is_not_held_is_not_released_and_what_is_outside_not_taken() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.1"))
    assert not pool.release(addr.parse("10.0.0.0"))
    assert not pool.release(addr.parse("10.1.0.0"))
    assert not pool.take(addr.parse("10.1.0.0"), "a")
    assert not pool.take(addr.parse("9.0.0.0"), "a")
    assert not pool.take(b"", "a")
    assert pool.holder(b"") is None


def test_a_restart_keeps_addresses_with_their_users() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.9"))
    before = {user: pool.allocate(user) for user in "abcd"}
    again = Pool(spec("10.0.0.0-10.0.0.9"))
    again.restore(json.loads(json.dumps(pool.save())))
    strangers = {again.allocate(user) for user in "uvwxyz"}
    assert not strangers & set(before.values())
    assert {user: again.allocate(user) for user in "dcba"} == before


def test_what_is_remembered_goes_to_strangers_when_nothing_else_is_left() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.2"))
    texts(pool, *"abc")
    again = Pool(spec("10.0.0.0-10.0.0.2"))
    again.restore(pool.save())
    assert texts(again, *"xyz") == ["10.0.0.0", "10.0.0.1", "10.0.0.2"]


@pytest.mark.parametrize("saved", [None, 5, "0a000000", ["zz"], [3], ["0a"], ["c0000201"], [["0a000000"]]])
def test_a_damaged_memory_is_left_out(saved: object) -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.1"))
    pool.restore({"a": saved})
    assert pool.save() == {}


def test_the_memory_of_users_is_bounded() -> None:
    pool = Pool(spec("10.0.0.0-10.0.3.255"), remembered=3)
    for user in "abcde":
        pool.release(pool.allocate(user) or b"")
    assert list(pool.save()) == ["c", "d", "e"]
    for _ in range(10):
        pool.allocate("e")
    assert len(str(pool.save()["e"])) < 60


def test_other_ranges_keep_what_still_fits() -> None:
    pool = Pool(spec("10.0.0.0-10.0.0.3"))
    texts(pool, *"abcd")
    more = Pool(spec("10.0.0.2-10.0.0.9"))
    more.restore(pool.save())
    assert more.take(addr.parse("10.0.0.3"), "d")
    assert texts(more, "x", "c") == ["10.0.0.4", "10.0.0.2"]


def test_an_empty_pool_has_nothing() -> None:
    pool = Pool(PoolSpec("p", (), 32))
    assert pool.size == 0
    assert pool.allocate("a") is None


def test_a_million_addresses_cost_nothing_until_they_are_used() -> None:
    tracemalloc.start()
    pool = Pool(spec("10.0.0.0-10.15.255.255"))
    pool.allocate("a")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pool.size == 1 << 20
    assert used < 10_000


addresses = st.integers(0, 11).map(lambda n: addr.parse(f"10.0.0.{n}"))


class Pools(RuleBasedStateMachine):
    """Whatever happens, a pool of ten addresses does what a plain search through all of them would allow."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(spec("10.0.0.0-10.0.0.4", "10.0.0.6-10.0.0.10"), remembered=4)
        self.all = {addr.parse(f"10.0.0.{n}") for n in range(11) if n != 5}
        self.held: dict[bytes, str] = {}
        self.reserved: set[bytes] = set()
        self.last: dict[str, bytes] = {}

    @rule(user=st.sampled_from("abcdef"))
    def allocate(self, user: str) -> None:
        address = self.pool.allocate(user)
        possible = self.all - self.held.keys() - self.reserved
        assert (address in possible) if possible else (address is None)
        if address is None:
            return
        if user in list(self.last)[-4:] and self.last[user] in possible:
            assert address == self.last[user]
        self._hold(address, user)

    @rule(address=addresses, user=st.sampled_from("abcdef"))
    def take(self, address: bytes, user: str) -> None:
        assert self.pool.take(address, user) == (address in self.all and address not in self.held)
        if address in self.all and address not in self.held:
            self._hold(address, user)

    def _hold(self, address: bytes, user: str) -> None:
        self.held[address] = user
        self._hold_last(address, user)

    def _hold_last(self, address: bytes, user: str) -> None:
        self.last.pop(user, None)
        self.last[user] = address

    @rule(address=addresses)
    def release(self, address: bytes) -> None:
        assert self.pool.release(address) == (self.held.pop(address, None) is not None)

    @rule(reserved=st.sets(addresses, max_size=4))
    def reserve(self, reserved: set[bytes]) -> None:
        self.pool.reserve(reserved)
        self.reserved = reserved & self.all

    @rule()
    def restart(self) -> None:
        pool = Pool(spec("10.0.0.0-10.0.0.4", "10.0.0.6-10.0.0.10"), remembered=4)
        pool.restore(json.loads(json.dumps(self.pool.save())))
        self.pool = pool
        for address, user in self.held.items():
            assert pool.take(address, user)
            self._hold_last(address, user)
        pool.reserve(self.reserved)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_held(self, data: st.DataObject) -> None:
        self.release(data.draw(st.sampled_from(sorted(self.held))))

    @invariant()
    def counts_are_right(self) -> None:
        assert self.pool.used == len(self.held)
        assert all(self.pool.holder(address) == self.held.get(address) for address in self.all)


TestPools = Pools.TestCase
TestPools.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40)), min_size=1, max_size=6),
    st.sampled_from([32, 30, 28]),
)
@settings(max_examples=60, deadline=None)
def test_slots_and_addresses_are_one_to_one(ranges: list[tuple[int, int]], length: int) -> None:
    step = 1 << 32 - length
    pairs = [((low * step).to_bytes(4), ((low + more) * step).to_bytes(4)) for low, more in ranges]
    pool = Pool(PoolSpec("p", tuple(pairs), length))
    every = [pool._address(slot) for slot in range(pool.size)]
    assert all(a < b for a, b in pairwise(every))
    assert [pool._slot(address) for address in every] == list(range(pool.size))
    assert {int.from_bytes(address) // step for address in every} == {
        low + n for low, more in ranges for n in range(more + 1)
    }
