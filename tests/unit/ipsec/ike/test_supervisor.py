"""What we send and what becomes of it when charon hangs, ends, comes back or makes no sense: at a scripted socket.

Whether charon itself does as wanted is tested with charon, in tests/interop/ike.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kl2tp.ipsec.ike import CauseKind, ChildSa, State, Traffic, Wanted, loading, trying
from kl2tp.ipsec.ike import charon as supervisor
from kl2tp.ipsec.ike.charon import Charon
from kl2tp.model.addr import parse
from kl2tp.model.ike import IkeSpec
from kl2tp.wire.vici import LENGTH, Message
from unit.ipsec.ike.test_sas import child, ike
from unit.ipsec.scripted import Scripted

PATIENCE_S = 0.3
WITHIN_S = 10.0
LOCAL, REMOTE = parse("198.51.100.1"), parse("203.0.113.7")


class Bench:
    """A scripted charon, and ours that speaks to it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.peer = Scripted(directory / "charon.vici")
        self.changed: list[set[str]] = []
        self.gone: list[ChildSa] = []
        self.psk = directory / "psk"
        self.psk.touch(0o600)
        self.psk.write_text("geheim\n")
        self._stirred = asyncio.Event()
        self.charon = self.make()
        self.task = asyncio.create_task(self.charon.run())

    def make(self) -> Charon:
        return Charon(
            f"unix://{self.peer.path}",
            self.directory / "state.json",
            changed=self._changed,
            gone=self.gone.append,
            patience_s=PATIENCE_S,
        )

    def _changed(self, names: set[str]) -> None:
        self.changed.append(names)
        self._stirred.set()

    async def restart(self) -> None:
        """Ours ends, and another one begins."""
        await self.end()
        self.charon = self.make()
        self.task = asyncio.create_task(self.charon.run())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.charon.close()

    async def until(self, done: Callable[[], object]) -> None:
        """Wait for a change that makes it so."""
        async with asyncio.timeout(WITHIN_S):
            while not done():
                self._stirred.clear()
                try:
                    await asyncio.wait_for(self._stirred.wait(), 0.05)
                except TimeoutError:
                    continue

    async def settled(self) -> None:
        await asyncio.wait_for(self.charon.settled(), WITHIN_S)

    def tunnel(self, name: str = "x", **change: Any) -> Wanted:
        """A tunnel that we do not begin, unless told so."""
        spec = IkeSpec(psk_file=str(self.psk), reqid=0x6B6C0001)
        return replace(Wanted(f"kl2tp:{name}", spec, LOCAL, ((REMOTE, 32),)), **change)

    async def want(self, *wanted: Wanted) -> None:
        self.charon.want({one.name: one for one in wanted})
        await self.settled()

    def up(self, name: str = "x", number: int = 1, **more: Any) -> None:
        """charon says that an SA is up."""
        self.peer.event("child-updown", {"up": "yes", f"kl2tp:{name}": ike(number, child(number, **more))})

    def down(self, name: str = "x", number: int = 1) -> None:
        """charon says that an IKE SA ends, and its child."""
        self.peer.event("ike-updown", {f"kl2tp:{name}": ike(number, state="DELETING")})
        self.peer.event("child-updown", {f"kl2tp:{name}": ike(number, child(number), state="DELETING")})

    def listed(self, name: str = "x", number: int = 1, **more: Any) -> Message:
        """The same in its list."""
        return {f"kl2tp:{name}": ike(number, child(number, **more))}


@pytest_asyncio.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(supervisor, "RECONNECT_S", (0.01,))
    monkeypatch.setattr(supervisor, "HEARTBEAT_S", 0.1)
    monkeypatch.setattr(trying, "FIRST_S", 0.02)
    monkeypatch.setattr(trying, "PEER_FIRST_S", 0.3)
    monkeypatch.setattr(trying, "LOOKS_S", (0.05,))
    monkeypatch.setattr(trying, "SLOT_S", 0.05)
    monkeypatch.setattr(trying, "LINGER_S", 0.05)
    found = Bench(tmp_path)
    await found.peer.start()
    yield found
    await found.end()
    await found.peer.stop()


# --- loading


async def test_what_is_wanted_is_loaded_and_the_second_pass_sends_nothing(bench: Bench) -> None:
    await bench.want(*(bench.tunnel(f"t{n}") for n in range(50)))
    assert len(bench.peer.connections) == 50
    assert list(bench.peer.shared) == ["kl2tp:ike:203.0.113.7"]
    assert bench.charon.negotiation("kl2tp:t7").loaded
    bench.peer.asked.clear()
    await bench.want(*(bench.tunnel(f"t{n}") for n in range(50)))
    assert not bench.peer.commands("load-conn", "load-shared", "unload-conn", "unload-shared", "terminate")


async def test_only_what_differs_is_sent(bench: Bench) -> None:
    tunnels = [bench.tunnel(f"t{n}") for n in range(20)]
    await bench.want(*tunnels)
    bench.peer.asked.clear()
    tunnels[3] = replace(tunnels[3], spec=replace(tunnels[3].spec, rekey_time=60))
    await bench.want(*tunnels[1:])
    assert [list(message) for message in bench.peer.commands("load-conn")] == [["kl2tp:t3"]]
    assert bench.peer.commands("unload-conn") == [{"name": "kl2tp:t0"}]


async def test_what_went_is_unloaded_and_its_sas_end(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.up()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").up)
    await bench.want()
    assert not bench.peer.connections
    assert not bench.peer.shared
    assert {"ike": "kl2tp:x", "timeout": "-1"} in bench.peer.commands("terminate")


async def test_what_others_have_in_charon_is_not_touched(bench: Bench) -> None:
    bench.peer.connections["home"] = {}
    bench.peer.shared["ike-1"] = {}
    bench.peer.sas = [{"home": ike(9, child(9))}]
    await bench.want(bench.tunnel())
    await bench.want()
    assert bench.peer.connections == {"home": {}}
    assert bench.peer.shared == {"ike-1": {}}
    assert not bench.peer.commands("terminate")


async def test_leftovers_of_ours_are_taken_away(bench: Bench) -> None:
    bench.peer.connections["kl2tp:old"] = {}
    bench.peer.sas = [bench.listed("old")]
    await bench.want()
    assert not bench.peer.connections
    assert bench.peer.commands("terminate") == [{"ike": "kl2tp:old", "timeout": "-1"}]


async def test_a_key_that_changes_is_loaded_again_and_costs_no_sa(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.peer.asked.clear()
    bench.psk.write_text("anders!\n")
    await bench.want(bench.tunnel())
    assert [message["data"] for message in bench.peer.commands("load-shared")] == ["anders!"]
    assert not bench.peer.commands("load-conn", "terminate")


async def test_a_key_file_that_cannot_be_read_is_told_and_unloads_nothing(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.psk.chmod(0o644)
    await bench.want(bench.tunnel())
    problem = bench.charon.negotiation("kl2tp:x").problem
    assert problem
    assert problem.kind is CauseKind.CONFIGURATION
    assert "is open to others" in problem.text
    assert "chmod 600" in problem.cure
    assert bench.peer.connections
    assert bench.peer.shared


async def test_a_connection_that_charon_refuses_is_told_and_sent_once(bench: Bench) -> None:
    bench.peer.answers["load-conn"] = lambda _: {"success": "no", "errmsg": "invalid value for: proposals, discarded"}
    await bench.want(bench.tunnel())
    problem = bench.charon.negotiation("kl2tp:x").problem
    assert problem
    assert "invalid value for: proposals" in problem.text
    await bench.want(bench.tunnel(), bench.tunnel("y"))
    assert [list(message) for message in bench.peer.commands("load-conn")] == [["kl2tp:x"], ["kl2tp:y"]]
    del bench.peer.answers["load-conn"]
    mended = replace(bench.tunnel(), spec=replace(bench.tunnel().spec, proposals=("aes256gcm16-prfsha384-ecp384",)))
    await bench.want(mended)
    assert bench.charon.negotiation("kl2tp:x").problem is None


async def test_what_somebody_unloads_is_loaded_again(bench: Bench) -> None:
    """`swanctl --load-all` takes away what is not in its own files."""
    await bench.want(bench.tunnel())
    bench.peer.connections.clear()
    bench.peer.event("log", {"group": "CFG", "level": "1", "msg": "removed vici connection: kl2tp:x"})
    await bench.until(lambda: "kl2tp:x" in bench.peer.connections)


async def test_a_change_that_makes_sas_wrong_ends_them_and_another_does_not(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.up()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").up)
    await bench.want(replace(bench.tunnel(), spec=replace(bench.tunnel().spec, rekey_time=60)))
    assert not bench.peer.commands("terminate")
    await bench.want(replace(bench.tunnel(), traffic=Traffic(17, 1701, 1702)))
    assert bench.peer.commands("terminate") == [{"ike": "kl2tp:x", "timeout": "-1"}]


# --- restarts of either side


async def test_after_our_restart_connections_are_adopted_and_secrets_loaded_again(bench: Bench) -> None:
    await bench.want(*(bench.tunnel(f"t{n}") for n in range(5)))
    bench.peer.sas = [bench.listed("t2")]
    bench.peer.asked.clear()
    await bench.restart()
    await bench.want(*(bench.tunnel(f"t{n}") for n in range(5)))
    assert not bench.peer.commands("load-conn", "unload-conn", "terminate")
    assert len(bench.peer.commands("load-shared")) == 1
    assert bench.charon.negotiation("kl2tp:t2").state is State.UP


async def test_the_state_file_has_no_secret(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    state = (bench.directory / "state.json").read_text()
    assert list(json.loads(state)["connections"]) == ["kl2tp:x"]
    assert "geheim" not in state


@pytest.mark.parametrize(
    "content", ["", "[]", '{"charon": 1}', '{"charon": "1", "connections": [1], "certificates": []}']
)
async def test_a_state_file_that_makes_no_sense_is_as_good_as_none(bench: Bench, content: str) -> None:
    await bench.end()
    (bench.directory / "state.json").write_text(content)
    await bench.restart()
    await bench.want(bench.tunnel())
    assert "kl2tp:x" in bench.peer.connections


async def test_a_charon_that_ends_leaves_what_it_had_and_another_gets_everything(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.want(bench.tunnel())
    bench.up()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.UP)
    await bench.peer.stop()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.NO_CHARON)
    assert bench.charon.negotiation("kl2tp:x").up
    assert not bench.charon.alive
    monkeypatch.setattr(supervisor, "process", lambda pid: "another")
    await bench.peer.start()
    await bench.until(lambda: bench.charon.alive)
    assert "kl2tp:x" in bench.peer.connections
    found = bench.charon.negotiation("kl2tp:x")
    assert (found.state, [one.orphaned for one in found.children]) == (State.DOWN, [True])
    bench.charon.sas_gone([found.children[0].spi_in])
    await bench.until(lambda: bench.gone)
    assert not bench.charon.negotiation("kl2tp:x").up


async def test_a_connection_lost_to_the_same_charon_costs_nothing(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.peer.sas = [bench.listed()]
    sas, connections, shared = bench.peer.sas, bench.peer.connections, bench.peer.shared
    await bench.peer.stop()
    await bench.until(lambda: not bench.charon.alive)
    bench.peer.sas, bench.peer.connections, bench.peer.shared = sas, dict(connections), dict(shared)
    bench.peer.connections["kl2tp:x"] = {}
    bench.peer.shared["kl2tp:ike:203.0.113.7"] = {}
    await bench.peer.start()
    await bench.until(lambda: bench.charon.alive)
    assert not bench.peer.commands("load-conn", "load-shared")
    assert bench.charon.negotiation("kl2tp:x").state is State.UP
    assert not bench.gone


# --- a charon that ails


async def test_a_charon_that_hangs_is_left_and_found_again(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.peer.sas = [bench.listed()]
    bench.up()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.UP)
    bench.peer.silent = True
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.NO_CHARON)
    assert "has not answered" in bench.charon.away
    assert bench.charon.negotiation("kl2tp:x").up
    bench.peer.silent = False
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.UP)
    assert not bench.gone


async def test_a_charon_that_dies_in_the_middle_of_loading_gets_the_rest_later(bench: Bench) -> None:
    def load(message: Any) -> Any:
        if len(bench.peer.commands("load-conn")) > 10:
            for writer in list(bench.peer._writers):
                writer.transport.abort()
            return None
        return bench.peer._load_conn(message)

    bench.peer.answers["load-conn"] = load
    bench.charon.want({one.name: one for one in (bench.tunnel(f"t{n}") for n in range(100))})
    await bench.until(lambda: len(bench.peer.commands("load-conn")) > 10)
    assert not bench.charon.alive
    del bench.peer.answers["load-conn"]
    await bench.settled()
    assert len(bench.peer.connections) == 100


async def test_a_malformed_list_is_no_end(bench: Bench) -> None:
    bench.peer.sas = [{"kl2tp:x": {"uniqueid": "many", "child-sas": {}}}]
    bench.charon.want({"kl2tp:x": bench.tunnel()})
    await bench.until(lambda: len(bench.peer.commands("list-sas")) > 2)
    bench.peer.sas = []
    await bench.settled()
    assert bench.charon.alive


async def test_a_malformed_event_has_the_sas_listed_again(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.peer.sas = [bench.listed()]
    bench.peer.event("child-updown", {"up": "yes", "kl2tp:x": {"uniqueid": "?"}})
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.UP)


async def test_garbage_is_an_end_and_a_new_beginning(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.peer.raw(LENGTH.pack(3) + b"\x09\x09\x09")
    await bench.until(lambda: not bench.charon.alive)
    await bench.until(lambda: bench.charon.alive)


async def test_without_a_charon_it_is_said_why(bench: Bench) -> None:
    await bench.peer.stop()
    bench.charon.want({"kl2tp:x": bench.tunnel()})
    await bench.until(lambda: "No such file" in bench.charon.away)
    assert bench.charon.negotiation("kl2tp:x").state is State.NO_CHARON
    await bench.peer.start()


# --- beginning


async def test_we_begin_where_we_are_to_and_not_elsewhere(bench: Bench) -> None:
    await bench.want(bench.tunnel(initiates=True), bench.tunnel("y"))
    await bench.until(lambda: bench.peer.commands("initiate"))
    assert bench.peer.commands("initiate")[0] == {"ike": "kl2tp:x", "child": "l2tp", "timeout": "-1"}
    assert all(message["ike"] == "kl2tp:x" for message in bench.peer.commands("initiate"))


async def test_what_is_up_is_not_begun(bench: Bench) -> None:
    bench.peer.sas = [bench.listed()]
    await bench.want(bench.tunnel(initiates=True))
    await bench.want(bench.tunnel(initiates=True), bench.tunnel("y"))
    assert not bench.peer.commands("initiate")


async def test_a_failure_is_told_and_tried_again_ever_later(bench: Bench) -> None:
    await bench.want(bench.tunnel(initiates=True))
    event = {"group": "IKE", "level": "1", "ikesa-name": "kl2tp:x", "ikesa-uniqueid": "1"}
    await bench.until(lambda: bench.peer.commands("initiate"))
    bench.peer.event("log", {**event, "msg": "received NO_PROPOSAL_CHOSEN notify error"})
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").tries >= 3)
    found = bench.charon.negotiation("kl2tp:x")
    assert found.problem
    assert found.problem.kind is CauseKind.NO_PROPOSAL
    assert found.problem.detail("ours") == ", ".join(bench.tunnel().spec.proposals)
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").next_try)
    bench.up()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.UP)
    found = bench.charon.negotiation("kl2tp:x")
    assert (found.problem, found.next_try) == (None, None)


async def test_the_peer_may_come_first_where_it_is_to(bench: Bench) -> None:
    began = asyncio.get_running_loop().time()
    await bench.want(bench.tunnel(initiates=True, first=False))
    await bench.until(lambda: bench.peer.commands("initiate"))
    assert asyncio.get_running_loop().time() - began >= 0.75 * trying.PEER_FIRST_S


async def test_nothing_is_begun_while_something_is_under_way(bench: Bench) -> None:
    bench.peer.sas = [{"kl2tp:x": ike(1, state="CONNECTING")}]
    await bench.want(bench.tunnel(initiates=True))
    await bench.until(lambda: len(bench.peer.commands("list-sas")) > 3)
    assert bench.charon.negotiation("kl2tp:x").state is State.CONNECTING
    assert not bench.peer.commands("initiate")
    bench.peer.sas = []
    await bench.until(lambda: bench.peer.commands("initiate"))


async def test_what_ends_is_begun_again(bench: Bench) -> None:
    bench.peer.sas = [bench.listed()]
    await bench.want(bench.tunnel(initiates=True))
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.UP)
    bench.peer.sas = []
    bench.down()
    await bench.until(lambda: bench.peer.commands("initiate"))
    assert len(bench.gone) == 1


async def test_an_end_that_charon_tells_half_of_is_looked_at(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "ADOPTED_S", 0.05)
    await bench.want(bench.tunnel())
    bench.up()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").up)
    bench.peer.event("ike-updown", {"kl2tp:x": ike(1, state="DELETING")})
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.DOWN)


async def test_a_connection_that_vanished_is_loaded_again_before_the_next_try(bench: Bench) -> None:
    await bench.want(bench.tunnel(initiates=True))
    bench.peer.connections.clear()
    bench.peer.answers["initiate"] = lambda _: {"success": "no", "errmsg": "CHILD_SA config 'l2tp' not found"}
    await bench.until(lambda: "kl2tp:x" in bench.peer.connections)


async def test_a_renewal_begins_a_new_ike_sa_and_ends_the_old_one_after_it(bench: Bench) -> None:
    bench.peer.sas = [bench.listed(number=1)]
    await bench.want(bench.tunnel(initiates=True))
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.UP)
    bench.charon.renew("kl2tp:x")
    await bench.until(lambda: bench.peer.commands("initiate"))
    assert not bench.peer.commands("terminate")
    bench.peer.sas.append(bench.listed(number=2))
    bench.up(number=2)
    await bench.until(lambda: bench.peer.commands("terminate"))
    assert bench.peer.commands("terminate")[0] == {"ike-id": "1", "timeout": "-1"}


async def test_an_ike_sa_is_renewed_when_its_time_is_over(bench: Bench) -> None:
    bench.peer.sas = [bench.listed()]
    want = bench.tunnel(initiates=True)
    await bench.want(replace(want, spec=replace(want.spec, reauth_time=5)))
    await bench.until(lambda: bench.peer.commands("initiate"))


async def test_a_soft_change_renews_what_we_began(bench: Bench) -> None:
    bench.peer.sas = [bench.listed()]
    want = bench.tunnel(initiates=True)
    await bench.want(want)
    await bench.want(replace(want, spec=replace(want.spec, esp_proposals=("aes256gcm16",))))
    await bench.until(lambda: bench.peer.commands("initiate"))
    assert not bench.peer.commands("terminate")


# --- what is known


async def test_another_mode_than_wanted_is_a_problem_though_it_is_up(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.up(mode="TUNNEL")
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").up)
    problem = bench.charon.negotiation("kl2tp:x").problem
    assert problem
    assert problem.kind is CauseKind.MODE


async def test_strangers_are_remembered_and_not_too_many(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    for number in range(300):
        host = f"10.0.{number // 250}.{number % 250 + 1}"
        line = f"no IKE config found for 198.51.100.1...{host}, sending NO_PROPOSAL_CHOSEN"
        about = {"group": "IKE", "ikesa-name": "(unnamed)", "ikesa-uniqueid": str(number + 1)}
        bench.peer.event("log", {**about, "msg": line})
    await bench.until(lambda: len(bench.charon.strangers) == 100)
    await bench.until(lambda: bench.charon.strangers[-1].address == "10.0.1.50")
    assert bench.charon.strangers[-1].cause.kind is CauseKind.NO_CONFIG


async def test_a_failure_at_the_address_of_a_tunnels_peer_is_the_tunnels(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    line = "no IKE config found for 198.51.100.1...203.0.113.7, sending NO_PROPOSAL_CHOSEN"
    bench.peer.event("log", {"group": "IKE", "ikesa-name": "(unnamed)", "ikesa-uniqueid": "1", "msg": line})
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").problem)
    assert not bench.charon.strangers


async def test_a_peer_that_closes_is_the_reason_for_the_end(bench: Bench) -> None:
    await bench.want(bench.tunnel())
    bench.up()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").up)
    event = {"group": "IKE", "ikesa-name": "kl2tp:x", "ikesa-uniqueid": "1"}
    bench.peer.event("log", {**event, "msg": "received DELETE for IKE_SA kl2tp:x[1]"})
    bench.down()
    await bench.until(lambda: bench.charon.negotiation("kl2tp:x").state is State.DOWN)
    problem = bench.charon.negotiation("kl2tp:x").problem
    assert problem
    assert problem.kind is CauseKind.CLOSED


async def test_no_secret_gets_into_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    bench.peer.answers["load-shared"] = lambda message: {"success": "no", "errmsg": f"invalid {message['type']}"}
    await bench.want(bench.tunnel())
    assert "a secret" in caplog.text
    assert "geheim" not in caplog.text


def test_a_process_is_known_by_its_start_too() -> None:
    import os

    assert loading.process(os.getpid()).startswith(f"{os.getpid()}/")
    assert not loading.process(0)
