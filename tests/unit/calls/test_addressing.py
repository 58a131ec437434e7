"""Addresses of sessions: the user's own, or one of a pool; never one twice."""

import pytest

from kl2tp.access.user import AddressRule, User
from kl2tp.calls.addressing import Addressing, NoAddress
from kl2tp.model.addr import parse
from kl2tp.model.calls import LnsSpec, PoolSpec, PppSpec
from kl2tp.model.objects import Secret

POOL = PoolSpec("clients", ((parse("10.9.0.1"), parse("10.9.0.4")),), 32)
POOL6 = PoolSpec("clients6", ((parse("2001:db8::"), parse("2001:db8:0:1::")),), 64)
US = parse("10.9.0.1")


def profile(**ppp: object) -> LnsSpec:
    return LnsSpec("office", ppp=PppSpec(pool="clients", local_address=US, **ppp))  # type: ignore[arg-type]


def user(name: str, *, own: str = "", prefix6: str = "") -> User:
    rules = (AddressRule(True, int.from_bytes(parse(own)), 0xFFFFFFFF),) if own else (AddressRule(True, 0, 0),)
    return User(name, Secret(b"x"), rules=rules, prefix6=(parse(prefix6), 64) if prefix6 else None)


@pytest.fixture
def addressing() -> Addressing:
    made = Addressing()
    made.configure([POOL, POOL6], [US], [])
    return made


def test_a_pool_gives_each_session_another_address_until_it_is_empty(addressing: Addressing) -> None:
    grants = [addressing.grant(profile(), None, f"u{n}", n, b"") for n in range(3)]
    assert len({g.peer for g in grants} | {US}) == 4
    with pytest.raises(NoAddress, match="pool clients has no address left"):
        addressing.grant(profile(), None, "u4", 4, b"")


def test_what_is_given_back_comes_to_the_same_user_again(addressing: Addressing) -> None:
    first = addressing.grant(profile(), None, "alice", 0, b"")
    peer = first.peer
    addressing.give_back(first)
    addressing.grant(profile(), None, "bob", 0, b"")
    assert addressing.grant(profile(), None, "alice", 0, b"").peer == peer


@pytest.mark.parametrize("own", ["10.9.0.3", "192.0.2.7"])
def test_a_users_own_address_is_given_to_one_session_at_a_time(addressing: Addressing, own: str) -> None:
    alice = user("alice", own=own)
    grant = addressing.grant(profile(), alice, "alice", 0, b"")
    assert grant.peer == parse(own)
    with pytest.raises(NoAddress, match="in use by another session"):
        addressing.grant(profile(), alice, "alice", 1, b"")
    addressing.give_back(grant)
    assert addressing.grant(profile(), alice, "alice", 2, b"").peer == parse(own)


def test_half_a_grant_is_given_back_when_the_other_half_fails(addressing: Addressing) -> None:
    both = profile(ipv6=True, pool6="clients6")
    for n in range(2):
        addressing.grant(both, None, f"u{n}", n, b"")
    with pytest.raises(NoAddress, match="no prefix left"):
        addressing.grant(both, None, "u2", 2, b"")
    assert addressing.usage() == {"clients": (2, 4), "clients6": (2, 2)}


def test_the_sessions_that_live_keep_their_addresses_when_pools_change(addressing: Addressing) -> None:
    grant = addressing.grant(profile(), None, "alice", 0, b"")
    wider = PoolSpec("clients", ((parse("10.9.0.1"), parse("10.9.0.9")),), 32)
    addressing.configure([wider], [US], [(grant.peer, "alice")])
    others = {addressing.grant(profile(), None, f"u{n}", n, b"").peer for n in range(7)}
    assert grant.peer not in others
    with pytest.raises(NoAddress):
        addressing.grant(profile(), None, "last", 9, b"")


def test_restored_sessions_hold_what_they_had(addressing: Addressing) -> None:
    grant = addressing.grant(profile(), user("bob", own="192.0.2.7"), "bob", 0, b"")
    memory = addressing.save()
    later = Addressing()
    later.remember(memory)
    later.configure([POOL, POOL6], [US], [])
    later.retake(grant, "bob")
    with pytest.raises(NoAddress, match="in use"):
        later.grant(profile(), user("bob", own="192.0.2.7"), "bob", 1, b"")


def test_without_pool_or_own_address_there_is_nothing_to_give(addressing: Addressing) -> None:
    with pytest.raises(NoAddress, match="no address of his own"):
        addressing.grant(LnsSpec("bare"), None, "alice", 0, b"")
