"""The transport: answers in their order, events apart, and an end with a reason when the other side ails."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from kl2tp.ipsec.vici import WINDOW, CharonError, CommandError, Vici
from kl2tp.wire.vici import LONGEST_PACKET, Kind, Section, ViciError
from unit.ipsec.scripted import Scripted, framed

PATIENCE_S = 0.2


@pytest_asyncio.fixture
async def peer(tmp_path: Path) -> AsyncIterator[Scripted]:
    scripted = Scripted(tmp_path / "vici")
    await scripted.start()
    yield scripted
    await scripted.stop()


async def _open(peer: Scripted) -> Vici:
    return await Vici.open(str(peer.path), patience_s=PATIENCE_S)


async def test_answers_come_to_those_who_asked(peer: Scripted) -> None:
    peer.answers["load-conn"] = lambda message: {"name": str(message["n"])}
    vici = await _open(peer)
    found = await asyncio.gather(*(vici.ask("load-conn", {"n": str(n)}) for n in range(5 * WINDOW)))
    assert [section["name"] for section in found] == [str(n) for n in range(5 * WINDOW)]
    await vici.close()


async def test_a_refusal_is_told_in_charons_words_and_breaks_nothing(peer: Scripted) -> None:
    peer.answers["load-conn"] = lambda _: {"success": "no", "errmsg": "invalid value for: proposals"}
    peer.answers["later"] = lambda _: framed(Kind.UNKNOWN_COMMAND)
    vici = await _open(peer)
    with pytest.raises(CommandError, match="invalid value for: proposals"):
        await vici.ask("load-conn")
    with pytest.raises(CommandError, match="does not know that"):
        await vici.ask("later")
    assert (await vici.ask("version"))["version"] == "5.9.8"
    await vici.close()


async def test_one_who_no_longer_waits_costs_nobody_his_answer(peer: Scripted) -> None:
    peer.answers["load-conn"] = lambda message: {"name": str(message["n"])}
    vici = await _open(peer)
    first, second = (asyncio.create_task(vici.ask("load-conn", {"n": n})) for n in "12")
    await asyncio.sleep(0)
    first.cancel()
    assert (await second)["name"] == "2"
    await vici.close()


async def test_events_go_to_their_taker_and_streams_end(peer: Scripted) -> None:
    seen: list[tuple[str, Section]] = []
    peer.sas = [{"one": {"uniqueid": "1"}}, {"two": {"uniqueid": "2"}}]
    vici = await _open(peer)
    await vici.stream("list-sas", "list-sa", lambda name, event: seen.append((name, event)))
    assert seen == [("list-sa", {"one": {"uniqueid": "1"}}), ("list-sa", {"two": {"uniqueid": "2"}})]
    peer.event("list-sa", {"three": {}})
    await vici.ask("version")
    assert len(seen) == 2
    await vici.close()


async def test_two_streams_do_not_take_each_others_events(peer: Scripted) -> None:
    peer.sas = [{"one": {}}]
    vici = await _open(peer)
    seen: list[list[Section]] = [[], [], []]
    await asyncio.gather(*(vici.stream("list-sas", "list-sa", lambda _, e, one=one: one.append(e)) for one in seen))  # type: ignore[misc]
    assert [len(one) for one in seen] == [1, 1, 1]
    await vici.close()


async def test_an_event_that_its_taker_cannot_read_costs_that_event_only(peer: Scripted) -> None:
    def take(name: str, event: Section) -> None:
        raise ViciError("no sense")

    vici = await _open(peer)
    await vici.listen(["log"], take)
    peer.event("log", {"msg": "hello"})
    assert await vici.ask("version")
    await vici.close()


async def test_silence_while_somebody_waits_is_the_end(peer: Scripted) -> None:
    vici = await _open(peer)
    await vici.ask("version")
    peer.silent = True
    with pytest.raises(CharonError, match="has not answered for"):
        await vici.ask("version")
    assert "has not answered" in await vici.closed
    with pytest.raises(CharonError):
        await vici.ask("version")


async def test_silence_without_a_question_is_none(peer: Scripted) -> None:
    vici = await _open(peer)
    await vici.ask("version")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(vici.closed), 2 * PATIENCE_S)
    assert await vici.ask("version")
    await vici.close()


async def test_all_who_wait_are_told_when_it_ends(peer: Scripted) -> None:
    vici = await _open(peer)
    peer.silent = True
    waiting = [asyncio.create_task(vici.ask("version")) for _ in range(2 * WINDOW)]
    await asyncio.sleep(0)
    await peer.stop()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(one) for one in found} == {CharonError}
    await peer.start()


async def test_nobody_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(CharonError, match="No such file"):
        await Vici.open(str(tmp_path / "nothing"))


NONSENSE = [
    framed(Kind.RESPONSE, {"a": "b"})[:7],
    b"\x00\x00\x00\x00",
    b"\x00\x00\x00\x01\x09",
    b"\x00\x00\x00\x04\x01\x03\x01a",
    (LONGEST_PACKET + 1).to_bytes(4, "big"),
    framed(Kind.EVENT, {"a": "b"}, "log")[:-2],
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
]


@pytest.mark.parametrize("answer", NONSENSE)
async def test_a_malformed_reply_is_the_end_with_a_reason(peer: Scripted, answer: bytes) -> None:
    peer.answers["stats"] = lambda _: answer
    vici = await _open(peer)
    with pytest.raises(CharonError, match=r"nonsense|has not answered"):
        await vici.ask("stats")


async def test_an_answer_that_nobody_asked_for_is_the_end(peer: Scripted) -> None:
    vici = await _open(peer)
    await vici.ask("version")
    peer.raw(framed(Kind.RESPONSE, {"success": "yes"}))
    assert "nobody asked for" in await asyncio.wait_for(vici.closed, 5)


@given(st.binary(max_size=40))
def test_no_bytes_do_more_than_end_the_connection(data: bytes) -> None:
    async def run() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        loop = asyncio.get_running_loop()
        transport = _Sink()
        writer = asyncio.StreamWriter(transport, asyncio.StreamReaderProtocol(reader), reader, loop)
        vici = Vici(reader, writer, PATIENCE_S)
        assert await vici.closed
        await vici.close()

    asyncio.run(run())


class _Sink(asyncio.Transport):
    """Takes everything."""

    closed = False

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed
