"""When outbound SAs get precedence over later ones, and lose it."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from kl2tp.daemon import precedence
from kl2tp.daemon.precedence import SETTLED_S, Precedence
from kl2tp.ipsec.ike import ChildSa


def child(spi: int) -> ChildSa:
    """A pair of SAs, of which only the outbound one matters here."""
    return ChildSa(
        name="kl2tp:madrid", unique_id=spi, ike_id=1, reqid=7, spi_in=spi + 1000, spi_out=spi,
        local=b"\xc0\0\x02\x01", remote=b"\xc0\0\x02\x02", local_port=500, remote_port=500, local_id="", remote_id="",
        encap=False, transport=True, encryption="AES_GCM_16-256", integrity="", group="", local_ts=(), remote_ts=(),
        since=0.0, rekey_at=None, expires_at=None,
    )  # fmt: skip


class Door:
    """What was asked for."""

    def __init__(self) -> None:
        self.there: set[tuple[bytes, int]] = set()
        self.said: list[tuple[str, set[int]]] = []
        self.asked = asyncio.Event()

    def prefer(self, some: Any) -> None:
        self.said.append(("prefer", {spi for _, spi in some}))

    def level(self, some: Any) -> None:
        self.said.append(("level", {spi for _, spi in some}))

    async def wait(self) -> None:
        """Until something is asked for."""
        self.asked.clear()
        await asyncio.wait_for(self.asked.wait(), 10.0)

    def preferred(self) -> set[tuple[bytes, int]]:
        return self.there


@pytest.fixture
async def door() -> Door:
    return Door()


@pytest.fixture
async def it(door: Door, monkeypatch: pytest.MonkeyPatch) -> Precedence:
    monkeypatch.setattr(precedence, "SETTLED_S", 0.05)

    def in_door(work: Callable[[Any], object]) -> None:
        work(door)
        door.asked.set()

    return Precedence(in_door)


def test_it_is_sooner_than_keys_can_change_again() -> None:
    assert SETTLED_S < 3.0  # the shortest time that the configuration allows


async def test_a_fresh_pair_gets_it_when_it_has_settled_and_others_with_it_when_they_have(
    it: Precedence, door: Door
) -> None:
    it.fresh(child(1))
    it.fresh(child(2))
    assert not door.said
    await door.wait()
    it.fresh(child(3))
    await door.wait()
    assert door.said == [("prefer", {1, 2}), ("prefer", {3})]


async def test_what_another_charon_has_left_loses_it_at_once(it: Precedence, door: Door) -> None:
    it.orphaned([child(1), child(2)])
    assert door.said == [("level", {1, 2})]


async def test_what_no_charon_knows_loses_it(it: Precedence, door: Door) -> None:
    door.there = {(child(spi).remote, spi) for spi in (1, 2, 3)}
    it.only([child(2)])
    assert door.said == [("level", {1, 3})]


async def test_after_the_end_nobody_gets_it(it: Precedence, door: Door) -> None:
    it.fresh(child(1))
    it.close()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(door.wait(), 0.2)
    assert not door.said
