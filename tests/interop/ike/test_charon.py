"""Our supervisor with the real charon: it loads what differs, adopts, survives charon's end, begins, re-keys, explains.

Two hosts with a charon each; both are supervised by us, so that one process sees both ends.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from interop.ike.rig.charon import Charon as Daemon
from interop.ike.rig.charon import associations
from interop.ike.rig.ways import Authority
from kernel.rig.net import Host, Wire
from kl2tp.ipsec.ike import CauseKind, ChildSa, State, Traffic, Wanted
from kl2tp.ipsec.ike.charon import Charon
from kl2tp.ipsec.vici import PATIENCE_S, CommandError, Vici
from kl2tp.model.addr import parse
from kl2tp.model.ike import CERTIFICATE, IkeSpec
from kl2tp.wire.vici import items

WITHIN_S = 60.0
NEAR, FAR = parse("192.0.2.1"), parse("192.0.2.2")
KEY, OTHER_KEY = "correct-horse-battery-staple", "wrong-horse"


class End:
    """A host with a charon, and our supervisor of it."""

    def __init__(self, host: Host, directory: Path, local: bytes, remote: bytes) -> None:
        self.host, self.directory = host, directory
        self.local, self.remote = local, remote
        self.daemon = Daemon(host, directory)
        self.gone: list[ChildSa] = []
        self.psk(KEY)

    def psk(self, text: str) -> None:
        """The file with the pre-shared key."""
        path = self.directory / f"{self.host.name}.psk"
        path.touch(0o600)
        path.write_text(f"{text}\n")

    @property
    def spec(self) -> IkeSpec:
        return IkeSpec(psk_file=str(self.directory / f"{self.host.name}.psk"), reqid=0x6B6C0001)

    def tunnel(self, name: str = "x", **change: object) -> Wanted:
        """The tunnel to the other end; nobody begins."""
        spec = replace(self.spec, **change)  # type: ignore[arg-type]
        return Wanted(f"kl2tp:{name}", spec, self.local, ((self.remote, 32),))

    def supervise(self, patience_s: float = PATIENCE_S) -> None:
        """Begin."""
        state = self.directory / f"{self.host.name}.json"
        self.charon = Charon(
            str(self.daemon.vici), state, changed=lambda _: None, gone=self.gone.append, patience_s=patience_s
        )
        self.task = asyncio.create_task(self.charon.run())

    async def leave(self) -> None:
        """Our supervisor ends; charon goes on."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.charon.close()

    async def want(self, *wanted: Wanted) -> None:
        self.charon.want({one.name: one for one in wanted})
        await asyncio.wait_for(self.charon.settled(), WITHIN_S)

    def state(self, name: str = "x") -> State:
        return self.charon.negotiation(f"kl2tp:{name}").state

    async def names(self) -> list[str]:
        """Connections that charon has."""
        vici = await Vici.open(str(self.daemon.vici))
        try:
            return sorted(items(await vici.ask("get-conns"), "conns"))
        finally:
            await vici.close()


async def until(done: Callable[[], object], what: str = "") -> None:
    """Wait, in the event loop."""
    deadline = time.monotonic() + WITHIN_S
    while not done():
        assert time.monotonic() < deadline, f"did not happen in {WITHIN_S} s: {what}"
        await asyncio.sleep(0.05)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[End, End]]:
    wire = Wire("wire")
    ends = []
    for number, (name, local, remote) in enumerate((("near", NEAR, FAR), ("far", FAR, NEAR)), 1):
        host = Host(name)
        wire.plug(host, number)
        ends.append(End(host, tmp_path, local, remote))
    try:
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.daemon.close()
            end.host.delete()
        wire.host.delete()


@pytest_asyncio.fixture
async def ends(hosts: tuple[End, End]) -> AsyncIterator[tuple[End, End]]:
    for end in hosts:
        end.daemon.start()
        end.supervise()
    yield hosts
    for end in hosts:
        await end.leave()


async def _up(near: End, far: End, **change: Any) -> None:
    """A tunnel, which the near end begins."""
    await far.want(far.tunnel(**change))
    await near.want(replace(near.tunnel(**change), initiates=True))
    await until(lambda: near.state() is State.UP and far.state() is State.UP)


# --- loading


async def test_charon_has_what_is_wanted_and_the_second_pass_sends_nothing(ends: tuple[End, End]) -> None:
    near, _ = ends
    tunnels = [near.tunnel(f"t{n}") for n in range(20)]
    await near.want(*tunnels)
    assert await near.names() == sorted(one.name for one in tunnels)
    said = near.daemon.log().count("vici connection: kl2tp:")
    await near.want(*tunnels)
    await near.leave()
    near.supervise()
    await near.want(*tunnels)
    assert near.daemon.log().count("vici connection: kl2tp:") == said
    await near.want(*tunnels[:3])
    assert await near.names() == ["kl2tp:t0", "kl2tp:t1", "kl2tp:t2"]
    await near.want()
    assert await near.names() == []


async def test_what_others_have_in_charon_stays(ends: tuple[End, End]) -> None:
    near, _ = ends
    vici = await Vici.open(str(near.daemon.vici))
    await vici.ask("load-conn", {"home": {"remote_addrs": ["192.0.2.99"], "local-1": {}, "remote-1": {}}})
    await vici.ask("load-shared", {"id": "home", "type": "IKE", "data": "x", "owners": ["192.0.2.99"]})
    await near.want(near.tunnel())
    await near.want()
    assert items(await vici.ask("get-conns"), "conns") == ("home",)
    assert items(await vici.ask("get-shared"), "keys") == ("home",)
    await vici.close()


async def test_what_swanctl_takes_away_is_loaded_again(ends: tuple[End, End]) -> None:
    near, far = ends
    await _up(near, far)
    await asyncio.to_thread(near.daemon.swanctl, "--load-all")
    await until(lambda: near.daemon.log().count("added vici connection: kl2tp:x") == 2)
    assert near.state() is State.UP
    assert not near.gone


async def test_what_charon_does_not_take_is_told(ends: tuple[End, End]) -> None:
    near, _ = ends
    await near.want(near.tunnel(proposals=("aes256-nonsense",)), near.tunnel("good"))
    problem = near.charon.negotiation("kl2tp:x").problem
    assert problem
    assert problem.kind is CauseKind.CONFIGURATION
    assert "proposals" in problem.text
    assert await near.names() == ["kl2tp:good"]


# --- up, new keys, new IKE SAs


@pytest.mark.parametrize("version", [1, 2])
async def test_a_tunnel_comes_up_and_ends_with_its_wish(ends: tuple[End, End], version: int) -> None:
    near, far = ends
    proposals = {"proposals": ("aes256-sha256-modp2048",), "esp_proposals": ("aes256-sha256",)}
    await _up(near, far, version=version, **proposals)
    (child,) = near.charon.negotiation("kl2tp:x").children
    assert (child.reqid, child.transport, child.encryption) == (0x6B6C0001, True, "AES_CBC-256")
    assert associations(near.host)[child.spi_in] == associations(near.host)[child.spi_out] == 0x6B6C0001
    await near.want()
    await until(lambda: far.state() is not State.UP and not associations(near.host))
    assert [one.orphaned for one in near.gone] == [False]


async def test_certificates(ends: tuple[End, End], authority: Authority) -> None:
    near, far = ends

    def by_certificate(end: End, mine: str, theirs: str) -> Wanted:
        found = authority.credentials(mine)
        spec = IkeSpec(
            auth=CERTIFICATE, remote_auth=CERTIFICATE, certificate_files=(str(found.certificate),),
            key_file=str(found.key), ca_files=(str(found.ca),), local_id=mine, remote_id=theirs, reqid=0x6B6C0001,
        )  # fmt: skip
        os.chmod(found.key, 0o600)
        return replace(end.tunnel(), spec=spec)

    await far.want(by_certificate(far, "far.example", "near.example"))
    await near.want(replace(by_certificate(near, "near.example", "far.example"), initiates=True))
    await until(lambda: near.state() is State.UP)
    assert near.charon.negotiation("kl2tp:x").ike[0].remote_id == "far.example"


async def test_new_keys_are_seen_with_their_dates_and_nothing_is_gone(ends: tuple[End, End]) -> None:
    near, far = ends
    await _up(near, far)
    first = near.charon.negotiation("kl2tp:x").children[0]
    await asyncio.to_thread(near.daemon.rekey)
    await until(lambda: near.charon.negotiation("kl2tp:x").rekeys and far.charon.negotiation("kl2tp:x").rekeys)
    (second,) = near.charon.negotiation("kl2tp:x").children
    assert (second.rekeyed, second.reqid) == (1, first.reqid)
    assert second.spi_in != first.spi_in
    assert abs(near.charon.negotiation("kl2tp:x").rekeys[-1] - time.time()) < WITHIN_S
    assert not near.gone + far.gone


async def test_a_renewal_has_both_ike_sas_for_a_while(ends: tuple[End, End]) -> None:
    near, far = ends
    await _up(near, far)
    old = near.charon.negotiation("kl2tp:x").ike[0].unique_id
    near.charon.renew("kl2tp:x")
    await until(lambda: len(near.charon.negotiation("kl2tp:x").children) == 2)
    await until(lambda: len(near.charon.negotiation("kl2tp:x").ike) == 1)
    assert near.charon.negotiation("kl2tp:x").ike[0].unique_id != old
    assert near.state() is far.state() is State.UP


async def test_ikev1_that_authenticates_anew_keeps_its_children(ends: tuple[End, End]) -> None:
    near, far = ends
    await _up(near, far, version=1, proposals=("aes256-sha256-modp2048",), esp_proposals=("aes256-sha256",))
    (before,) = near.charon.negotiation("kl2tp:x").children
    await asyncio.to_thread(near.daemon.swanctl, "--rekey", "--ike", "kl2tp:x")
    await until(lambda: [sa.unique_id for sa in near.charon.negotiation("kl2tp:x").ike] == [before.ike_id + 1])
    await until(lambda: near.charon.negotiation("kl2tp:x").children[0].ike_id == before.ike_id + 1)
    assert [child.spi_in for child in near.charon.negotiation("kl2tp:x").children] == [before.spi_in]
    assert not near.gone + far.gone


async def test_clients_of_an_lns_have_reqids_and_are_known_again(ends: tuple[End, End]) -> None:
    near, far = ends
    lns = Wanted("kl2tp:lns:office", replace(far.spec, reqid=0), FAR, (), Traffic(17, 1701, 0), many=True)
    await far.want(lns)
    await near.want(replace(near.tunnel(), initiates=True))
    await until(lambda: far.charon.clients)
    ((reqid, client),) = far.charon.clients.items()
    assert (client.remote, client.reqid) == (NEAR, reqid)
    near.charon.renew("kl2tp:x")
    await until(lambda: any(one.follows for one in far.charon.clients.values()))
    await until(lambda: len(far.charon.clients) == 1)
    ((again, client),) = far.charon.clients.items()
    assert (client.follows, client.remote) == (reqid, NEAR)
    far.charon.terminate_client(again)
    await until(lambda: again not in far.charon.clients)


# --- charon ends, hangs


async def test_what_a_killed_charon_left_is_kept_until_its_place_is_taken(ends: tuple[End, End]) -> None:
    near, far = ends
    await _up(near, far)
    before = near.charon.negotiation("kl2tp:x").children[0]
    near.daemon.kill()
    await until(lambda: near.state() is State.NO_CHARON)
    assert near.charon.negotiation("kl2tp:x").up
    assert before.spi_in in associations(near.host)
    near.daemon.start()
    await until(lambda: near.state() is State.UP, "up again")
    (child,) = near.charon.negotiation("kl2tp:x").children
    assert not child.orphaned
    assert [(one.spi_in, one.orphaned) for one in near.gone] == [(before.spi_in, True)]


async def test_a_frozen_charon_is_left_and_found_again(ends: tuple[End, End]) -> None:
    near, far = ends
    await near.leave()
    near.supervise(patience_s=3.0)
    await _up(near, far)
    near.daemon.freeze()
    await until(lambda: near.state() is State.NO_CHARON)
    assert near.charon.negotiation("kl2tp:x").up
    assert "has not answered" in near.charon.away
    near.daemon.thaw()
    await until(lambda: near.state() is State.UP)
    assert not near.gone


async def test_both_ends_of_us_and_of_charon_are_survived(ends: tuple[End, End]) -> None:
    near, far = ends
    await _up(near, far)
    await near.leave()
    near.daemon.kill()
    near.daemon.start()
    near.supervise()
    await near.want(replace(near.tunnel(), initiates=True))
    await until(lambda: near.state() is State.UP)


# --- explained


async def test_different_keys_are_told_at_both_ends(ends: tuple[End, End]) -> None:
    near, far = ends
    far.psk(OTHER_KEY)
    await far.want(far.tunnel())
    await near.want(replace(near.tunnel(), initiates=True))
    await until(lambda: near.charon.negotiation("kl2tp:x").tries >= 1 and far.charon.negotiation("kl2tp:x").problem)
    ours, theirs = (end.charon.negotiation("kl2tp:x").problem for end in ends)
    assert ours
    assert theirs
    assert ours.kind is theirs.kind is CauseKind.AUTHENTICATION_FAILED
    assert (ours.by_peer, theirs.by_peer) == (True, False)
    assert near.charon.negotiation("kl2tp:x").next_try
    far.psk(KEY)
    await far.want(far.tunnel())
    near.charon.retry("kl2tp:x")
    await until(lambda: near.state() is State.UP)
    assert near.charon.negotiation("kl2tp:x").problem is None


async def test_proposals_without_anything_in_common_are_told_with_both_sides(ends: tuple[End, End]) -> None:
    near, far = ends
    await far.want(far.tunnel(esp_proposals=("aes128-sha256",)))
    await near.want(replace(near.tunnel(esp_proposals=("aes256gcm16",)), initiates=True))
    await until(lambda: near.charon.negotiation("kl2tp:x").problem and far.charon.negotiation("kl2tp:x").problem)
    problem = far.charon.negotiation("kl2tp:x").problem
    assert problem
    assert problem.kind is CauseKind.NO_PROPOSAL
    assert "AES_GCM_16_256" in problem.detail("theirs")
    assert "AES_CBC_128" in problem.detail("ours")


async def test_a_peer_that_is_not_there_is_told(ends: tuple[End, End]) -> None:
    near, _ = ends
    nobody = replace(near.tunnel(), remotes=((parse("192.0.2.77"), 32),), initiates=True)
    await near.want(nobody)
    await until(lambda: near.charon.negotiation("kl2tp:x").problem)
    problem = near.charon.negotiation("kl2tp:x").problem
    assert problem
    assert problem.kind is CauseKind.NO_ANSWER
    await until(lambda: near.charon.negotiation("kl2tp:x").tries)


async def test_somebody_without_a_connection_is_a_stranger(ends: tuple[End, End]) -> None:
    near, far = ends
    await far.want()
    await near.want(replace(near.tunnel(), initiates=True))
    await until(lambda: far.charon.strangers)
    assert far.charon.strangers[0].address == "192.0.2.1"
    assert far.charon.strangers[0].cause.kind is CauseKind.NO_CONFIG


async def test_tunnel_mode_where_transport_mode_is_wanted_is_told(ends: tuple[End, End]) -> None:
    near, far = ends
    vici = await Vici.open(str(far.daemon.vici))
    child = {"mode": "tunnel", "local_ts": ["dynamic[udp/1701]"], "remote_ts": ["dynamic[udp/1701]"]}
    proof = {"auth": "psk"}
    await vici.ask("load-conn", {"other": {"local_addrs": ["192.0.2.2"], "remote_addrs": ["192.0.2.1"],
                                           "local-1": proof, "remote-1": proof, "children": {"c": child}}})  # fmt: skip
    await vici.ask("load-shared", {"id": "other", "type": "IKE", "data": KEY, "owners": ["192.0.2.1"]})
    await vici.close()
    await near.want(replace(near.tunnel(), initiates=True))
    await until(lambda: near.charon.negotiation("kl2tp:x").up, "the other end has a policy and no SA of ours")
    problem = near.charon.negotiation("kl2tp:x").problem
    assert problem
    assert problem.kind is CauseKind.MODE


async def test_counters_of_this_moment(ends: tuple[End, End]) -> None:
    near, far = ends
    await _up(near, far)
    found = await near.charon.details("kl2tp:x")
    assert found.children[0].counters.packets_in == 0
    vici = await Vici.open(str(near.daemon.vici))
    with pytest.raises(CommandError):
        await vici.ask("initiate", {"ike": "kl2tp:nothing", "child": "l2tp", "timeout": "-1"})
    await vici.close()
