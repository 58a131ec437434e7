"""A guarded place: in and out of it goes only what IPsec protects, whatever others do to the protection.

SAs are placed by hand, in the role of charon's; see `kernel.rig.ike`.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import pytest

from kernel.conftest import Bench
from kernel.rig.ike import MARKS, PORT, Client, Lns, Pair, Side, control, flow
from kernel.rig.net import Host, Late
from kl2tp.kernel import clients, nft, nftrules, rtnl, udp, xfrm, xfrmstat
from kl2tp.kernel.netlink import EventSocket, string
from kl2tp.kernel.probe import cannot_guard_places
from kl2tp.model.addr import parse
from kl2tp.model.calls import LacSpec
from kl2tp.model.ike import IkeSpec
from kl2tp.model.objects import Binding, Guard, GuardedPlace, Policy
from kl2tp.model.spec import Encap, InterfaceSpec, SessionSpec, TunnelSpec
from kl2tp.reconcile.loop import Loop
from kl2tp.reconcile.places import binding_unit, lac_unit

NEAR = {"v4": "192.0.2.1", "v6": "2001:db8::1"}
FAR = {"v4": "192.0.2.2", "v6": "2001:db8::2"}
REQID = 3


@pytest.fixture(params=["v4", "v6"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lns(bench: Bench, family: str) -> Iterator[Lns]:
    with contextlib.closing(Lns(bench.near.host, parse(NEAR[family]), bench.directory / "lns")) as host:
        yield host


@pytest.fixture
def client(bench: Bench, family: str, lns: Lns) -> Iterator[Client]:
    """Without an SA."""
    with contextlib.closing(Client(bench.far.host, parse(FAR[family]), lns, 1, REQID)) as host:
        yield host


def clear(bench: Bench, family: str, payload: bytes) -> None:
    """A datagram from the far host to the place that nothing protects."""
    header = struct.pack("!HHHH", PORT, PORT, 8 + len(payload), 0)
    if family == "v6":  # where a checksum is a must
        header = header[:6] + _checksum(header + payload).to_bytes(2)
    bench.wire.inject(bench.far.host, bench.near.host, header + payload, protocol=17, v6=family == "v6")


def _checksum(datagram: bytes) -> int:
    ends = parse(FAR["v6"]) + parse(NEAR["v6"]) + struct.pack("!IHH", len(datagram), 0, 17)
    whole = ends + datagram + bytes(len(datagram) % 2)
    total: int = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def dropped(lns: Lns) -> nft.Dropped:
    return lns.door.dropped(lns.host.name)


def rejected(lns: Lns) -> int:
    """Packets that the inbound policy did not let in."""
    counters = xfrmstat.read(lns.host.name)
    return int(counters["XfrmInTmplMismatch"] + counters["XfrmInPolBlock"])


# -- in ---------------------------------------------------------------------------------------------------------------


def test_what_is_in_clear_is_dropped_and_counted(bench: Bench, lns: Lns, family: str) -> None:
    for number in range(3):
        clear(bench, family, control(0, number))
    assert lns.silent()
    assert dropped(lns) == (3, 0, 0)


def test_without_nftables_the_policy_alone_keeps_it_out(bench: Bench, lns: Lns, family: str) -> None:
    lns.host.table.delete()
    before = rejected(lns)
    clear(bench, family, control(0))
    assert lns.silent()
    assert rejected(lns) == before + 1


def test_a_kernel_without_nftables_serves_clients_all_the_same(bench: Bench, family: str) -> None:
    host = bench.near.host
    with contextlib.closing(Lns(host, parse(NEAR[family]), bench.directory / "lns", filtered=False)) as lns:
        assert not host.table.exists()
        clear(bench, family, control(0))
        assert lns.silent()
        with contextlib.closing(Client(bench.far.host, parse(FAR[family]), lns, 1, REQID)) as client:
            Pair(lns, client, REQID).install()
            client.sock.send(control(0))
            ((_, peer, _, mark),) = lns.hear()
            assert mark == 0
            lns.open(client, peer, bound=False)
            with flow(lns, client) as stream:
                stream.send(3)


def test_whether_nftables_can_guard_places_is_found_out_without_a_trace(bench: Bench) -> None:
    host = bench.near.host
    with host.entered(), contextlib.closing(EventSocket(nft.NETLINK_NETFILTER)) as events:
        events.join(nft.GROUP_NFTABLES)
        assert cannot_guard_places() is None
        assert events.receive() is None
    assert not host.table.exists()


def test_without_the_policy_nftables_alone_keeps_it_out(bench: Bench, lns: Lns, family: str) -> None:
    lns.host.flush_policies()
    clear(bench, family, control(0))
    assert lns.silent()
    assert dropped(lns).in_clear == 1


def test_what_comes_out_of_esp_gets_in_and_what_is_answered_gets_back(
    bench: Bench, lns: Lns, client: Client
) -> None:
    Pair(lns, client, REQID).install()
    with bench.wire.watched() as capture:
        lns.accept(client)
        with flow(lns, client) as stream:
            stream.send(5)
        capture.assert_never_clear(10)
    assert dropped(lns) == (0, 0, 0)


def test_datagrams_without_a_checksum_pass_as_well(lns: Lns, client: Client, family: str) -> None:
    Pair(lns, client, REQID).install()
    if family == "v4":
        client.sock.setsockopt(1, 11, 1)  # SO_NO_CHECK
        lns.listener._socket.setsockopt(1, 11, 1)
    lns.accept(client)
    with flow(lns, client) as stream:
        stream.send(3)


# -- out --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reqid", [0, REQID, 77])
@pytest.mark.parametrize("lost", ["nothing", "policies", "table"])
def test_without_an_sa_nothing_leaves(
    bench: Bench, lns: Lns, client: Client, family: str, reqid: int, lost: str
) -> None:
    if lost == "policies":
        lns.host.flush_policies()
    elif lost == "table":
        lns.host.table.delete()
    with bench.wire.watched() as capture:
        lns.listener.send_many([(control(1), (client.address, PORT), (lns.address, PORT))], reqid)
        assert not client.hear(0.1)
        capture.collect()
        assert not capture.clear
        assert not capture.encrypted
    assert dropped(lns).out_clear == (lost == "policies" and not reqid)


def test_a_tunnel_s_socket_sends_nothing_in_clear_either(bench: Bench, lns: Lns, client: Client) -> None:
    pair = Pair(lns, client, REQID).install()
    lns.accept(client)
    lns.host.flush_policies()
    lns.host.table.delete()
    with bench.wire.watched() as capture:
        pair.remove()
        with contextlib.suppress(OSError):
            lns.tunnels[1].sock.send(control(1))
        with flow(lns, client) as stream:
            assert stream.lost(client)
        capture.collect()
        assert not capture.clear


def test_the_listener_speaks_by_the_sa_of_the_moment(lns: Lns, client: Client) -> None:
    Pair(lns, client, REQID).install()
    client.sock.send(control(0))
    peer = lns.hear()[0][1]
    some = [(control(1), peer, (lns.address, PORT))]
    for reqid, there in ((REQID, True), (4, False), (REQID, True), (0, False), (REQID, True)):
        lns.listener.send_many(some, reqid)
        assert (client.hear(0.2 if not there else 5.0) == control(1)) is there


def test_policies_of_sockets_are_in_no_dump(lns: Lns, client: Client) -> None:
    before = _policies(lns.host)
    Pair(lns, client, REQID).install()
    lns.accept(client)
    assert _policies(lns.host) == before
    assert len(before) == 2


def _policies(host: Host) -> list[Policy]:
    replies = host.netlink(xfrm.NETLINK_XFRM).dump(xfrm.GETPOLICY, b"")
    return [p for reply in list(replies) if (p := xfrm.decode_policy("", reply.payload, str))]


# -- a peer that moves ------------------------------------------------------------------------------------------------


def test_a_peer_that_moves_keeps_its_tunnel(bench: Bench, lns: Lns, client: Client, family: str) -> None:
    Pair(lns, client, REQID).install()
    lns.accept(client)
    with flow(lns, client) as stream:
        stream.send(3)
    elsewhere = {"v4": "192.0.2.77", "v6": "2001:db8::77"}[family]
    bench.far.host.add_address("wire", elsewhere, 24 if family == "v4" else 64)
    client.move(parse(elsewhere))
    Pair(lns, client, REQID).install()
    client.sock.send(control(0))
    ((_, peer, _, mark),) = lns.hear()
    assert (peer[0], mark) == (client.address, clients.mark_of(REQID, MARKS))
    udp.reconnect(lns.tunnels[1].sock, peer)
    with flow(lns, client) as stream:
        stream.send(3)


# -- drift ------------------------------------------------------------------------------------------------------------


class Running:
    """A control loop in a thread."""

    def __init__(self, lns: Lns) -> None:
        self._lns = lns
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()))
        self.told: list[tuple[str, int]] = []

    async def _main(self) -> None:
        with ThreadPoolExecutor(1) as executor:
            self.loop = Loop(self._lns.engine, executor, resync_s=1000)
            self._aio = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            task = asyncio.create_task(self.loop.run())
            for unit in list((self._lns.engine.calls or {}).values()):
                self.loop.drop_call(unit.name)
                self.loop.put_call(unit)
            self.loop.follow_associations(lambda *owner: self.told.append(owner))
            await self.loop.settled(self._lns.engine.names(), lambda results: None)
            self._ready.set()
            await self._stop.wait()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._stop.set)
        self._thread.join()

    def call(self, what: Callable[[], object]) -> None:
        """Do something in the loop's thread."""
        self._aio.call_soon_threadsafe(what)

    def ask(self, what: Callable[[], object]) -> object:
        """The same, and what it said."""

        async def asked() -> object:
            return what()

        return asyncio.run_coroutine_threadsafe(asked(), self._aio).result(10)


def _there(lns: Lns) -> list[str]:
    """What protects the place, as the kernel has it."""
    host = lns.host
    found = sorted(map(str, (*_policies(host), *host.table.read(""))))
    return [*found, f"table {host.table.intact()}"]


def _deletions(lns: Lns) -> dict[str, Callable[[], None]]:
    """What others can do to the protection."""
    host, table = lns.host, lns.host.table
    family = "6" if len(lns.address) == 16 else "4"
    place, bound = GuardedPlace("", lns.place, PORT, MARKS), Binding("", 101, REQID)

    def one_of(element: GuardedPlace | Binding, name: str) -> Callable[[], None]:
        def delete() -> None:
            some = [entry for entry in nft.place(element) if entry[0] == name]
            messages = nft._of_entries(nftrules.DELSETELEM, 0, some, with_data=False)
            host.netlink(nft.NETLINK_NETFILTER).transaction(nft.BEGIN, messages, nft.END)

        return delete

    def flush(chain: str) -> Callable[[], None]:
        body = nftrules.message(nftrules.SUBSYSTEM | 8, 0, string(1, nftrules.TABLE), string(2, chain))
        return lambda: host.netlink(nft.NETLINK_NETFILTER).transaction(nft.BEGIN, [body], nft.END)

    return {
        "place": lambda: table.remove([place]),
        "half a place": one_of(place, f"place{family}_any"),
        "binding": lambda: table.remove([bound]),
        "pair of a binding": one_of(bound, "bound_pairs"),
        "id of a binding": one_of(bound, "bound_ids"),
        "another reqid": lambda: table.replace([bound], [Binding("", 101, 99)]),
        "other marks": lambda: table.replace([place], [GuardedPlace("", lns.place, PORT, (0x7000000, 0xFF))]),
        "rules of the place": flush("place_in"),
        "rules of the marks": flush(nftrules.esp_chain(MARKS)),
        "table": table.delete,
        "sleep": lambda: _sleep(host),
        "policies": host.flush_policies,
        **{f"policy {n}": _one_policy(host, p) for n, p in enumerate(_policies(host))},
    }


def _one_policy(host: Host, policy: Policy) -> Callable[[], None]:
    return lambda: host.request(xfrm.NETLINK_XFRM, xfrm.policy_delete(policy))


def _sleep(host: Host) -> None:
    """Make the table dormant."""
    body = nftrules.message(nftrules.NEWTABLE, 0, string(1, nftrules.TABLE), nftrules.b32(2, 1))
    host.netlink(nft.NETLINK_NETFILTER).transaction(nft.BEGIN, [body], nft.END)


def test_what_others_take_away_comes_back_by_itself(bench: Bench, lns: Lns, family: str) -> None:
    lns.settle(binding_unit(101, REQID))
    with Running(lns):
        whole = _there(lns)
        for name, delete in _deletions(lns).items():
            delete()
            with contextlib.suppress(Late):
                lns.host.until(lambda: _there(lns) == whole)
            assert _there(lns) == whole, name
        clear(bench, family, control(0))
        assert lns.silent()


def test_protection_of_an_earlier_version_is_replaced_in_one_go(bench: Bench, lns: Lns, family: str) -> None:
    """As an earlier version left it: other rules, fewer sets; never a moment without the guards that it had."""
    guard = Guard("", parse(FAR[family]), 5000, 5001)
    lns.host.table.delete()
    later = (b"enter", b"place", b"bound", b"_to")
    requests = [m for m in nftrules.new_table() if not any(name in m.payload for name in later)]
    requests += nft._elements(nftrules.NEWSETELEM, 0x400, [guard], with_data=True)
    lns.host.netlink(nft.NETLINK_NETFILTER).transaction(nft.BEGIN, requests, nft.END)
    assert not lns.host.table.intact()
    assert lns.door.mend_table(lns.host.name)
    assert lns.host.table.intact()
    assert lns.host.table.read("") == [guard]
    lns.look()
    clear(bench, family, control(0))
    assert lns.silent()
    assert dropped(lns).in_clear == 1


# -- SAs --------------------------------------------------------------------------------------------------------------


def test_sas_are_followed_by_their_events(lns: Lns, client: Client) -> None:
    name = lns.host.name
    before = Pair(lns, client, 8).install()
    with Running(lns) as running:
        loop = running.loop

        def has(reqid: int, there: bool) -> Callable[[], bool]:
            return lambda: running.ask(lambda: loop.associations.protects(name, reqid)) is there

        lns.host.until(has(8, True))
        pair = Pair(lns, client, REQID).install()
        lns.host.until(has(REQID, True))
        after = Pair(lns, client, REQID).install()
        pair.remove()
        before.remove()
        lns.host.until(has(8, False))
        assert has(REQID, True)()
        lns.host.flush_associations()
        lns.host.until(has(REQID, False))
        assert (name, REQID) in running.told
        assert (name, 0) in running.told
        after.remove()


def test_sas_are_read_with_what_they_count(lns: Lns, client: Client) -> None:
    name = lns.host.name
    pair, other = Pair(lns, client, REQID).install(), Pair(lns, client, 8).install()
    for _ in range(3):
        client.sock.send(control(0))
    assert len(lns.hear(3)) == 3
    found = lns.door.associations(name, reqids={REQID, 8})
    assert {a.spi for a in found} == {sa.spi for sa in (*pair.near, *other.near)}
    (heard,) = [a for a in found if a.packets]
    assert (heard.source, heard.destination) == (client.address, lns.address)
    assert (heard.packets, heard.received, heard.sent, heard.replayed, heard.late) == (3, 3, 0, 0, 0)
    assert (heard.encryption, heard.key_bits, heard.icv) == ("rfc4106(gcm(aes))", 128, 16)
    assert heard.octets > 0
    assert heard.made_at > 0
    ends = (client.address, lns.address)
    assert {a.spi for a in lns.door.associations(name, ends=ends)} == {a.spi for a in found}
    assert not lns.door.associations(name, ends=(client.address, client.address))
    named = [(sa.destination, sa.spi) for sa in pair.near]
    assert lns.door.alive([*named, (lns.address, 1)], name) == set(named)
    other.remove()
    pair.remove()
    assert lns.door.alive(named, name) == set()
    assert not lns.door.associations(name)


# -- declared tunnels and calls beside it -----------------------------------------------------------------------------


def test_our_calls_and_those_to_us_go_between_the_same_two_hosts(bench: Bench, family: str) -> None:
    """Each is LNS and LAC, all from 1701 to 1701: what tells them apart is the SA."""
    ours = clients.OWN_REQIDS + 1
    with contextlib.ExitStack() as stack:
        ends = []
        for unit, where in ((bench.near, NEAR), (bench.far, FAR)):
            end = Lns(unit.host, parse(where[family]), bench.directory / unit.host.name / "lns")
            ends.append(stack.enter_context(contextlib.closing(end)))
        ways = (ends, ends[::-1])
        for caller, called in ways:
            spec = LacSpec("there", ((called.address, PORT),), (caller.address, PORT))
            caller.settle(lac_unit(spec, ours, beside_lns=True))
            # On each host one pair is of its own call, the other of a client.
            Pair(caller, Side(called.host, called.address, (called.address, 0)), ours, 1).install()
        for caller, called in ways:
            here, there = (caller.address, PORT), (called.address, PORT)
            assert caller.listener.send_many([(control(0, 1), there, here)], ours) == 0
            seen = (caller.address, clients.port_of(1) if clients.BY_PORT else PORT)
            assert called.hear() == [(control(0, 1), seen, there, clients.mark_of(1, MARKS))]
            assert called.listener.send_many([(control(9), seen, there)], 1) == 0
            assert caller.hear() == [(control(9), there, here, 0)]


def test_our_calls_leave_in_esp_only_whatever_others_take_away(bench: Bench, lns: Lns, family: str) -> None:
    """Policies from any address and port of ours: one of them gone, or all, or the table, and nothing is in clear."""
    far, server = parse(FAR[family]), (parse(FAR[family]), PORT)
    lns.settle(lac_unit(LacSpec("there", (server,), (b"", 0)), clients.OWN_REQIDS + 1))
    unit = [p for p in _policies(lns.host) if far in (p.selector.source, p.selector.destination)]
    assert len(unit) == 6
    takes = [*(_one_policy(lns.host, policy) for policy in unit), lns.host.flush_policies, lns.host.table.delete]
    with bench.wire.watched() as capture:
        for take in takes:
            take()
            with contextlib.suppress(OSError), lns.host.entered(), udp.open_connected((b"", 0), server) as sock:
                sock.send(control(0))
            assert lns.look()
        with lns.host.entered():
            assert udp.source_for(server) == lns.address
        capture.collect()
        assert not capture.clear


def test_two_profiles_for_one_server_share_their_protection(lns: Lns, family: str) -> None:
    reqid = clients.OWN_REQIDS + 5
    specs = [LacSpec(name, ((parse(FAR[family]), PORT),), (b"", 0)) for name in ("one", "two")]
    before = _there(lns)
    for spec in specs:
        lns.settle(lac_unit(spec, reqid))
    both = _there(lns)
    assert len(both) == len(before) + 7
    calls = lns.engine.calls
    assert calls is not None
    for spec, left in zip(specs, (both, before), strict=True):
        name = lac_unit(spec, reqid).name
        lns.engine.drop_call(name)
        assert not [r.problem for some in lns.engine.reconcile([name]) for r in some if r.problem]
        assert _there(lns) == left


def test_a_declared_tunnel_is_up_while_it_is_secured(bench: Bench, lns: Lns, family: str) -> None:
    near, far = parse(NEAR[family]), parse(FAR[family])
    address = ((parse("2001:db8:1::1"), 64), (bytes((10, 0, 0, 1)), 24))
    session = SessionSpec("lan", 1, 1, InterfaceSpec("pw1", addresses=address))
    spec = TunnelSpec(
        "site", near, far, 11, 12, Encap.UDP, 5000, 5001, netns=lns.host.name, ike=IkeSpec(reqid=0x6B6C0007),
        sessions=(session,),
    )
    with Running(lns) as running:
        loop = running.loop

        async def configure() -> None:
            await loop.set_specs({"site": spec}, ["site"])
            loop.look_at(["site"])

        asyncio.run_coroutine_threadsafe(configure(), running._aio).result(10)

        def up(wanted: bool) -> Callable[[], bool]:
            return lambda: (device := lns.host.device("pw1")) is not None and device.up is wanted

        lns.host.until(up(False))
        templates = [p.template for p in _policies(lns.host) if p.template and p.template.reqid == 0x6B6C0007]
        assert [t.spi for t in templates] == [0, 0]
        for secured in (True, False, True):
            running.call(lambda s=secured: loop.set_secured("site", s))  # type: ignore[misc]
            lns.host.until(up(secured))
        lns.host.until(lambda: _has_address(lns.host, address[0][0]))
        assert running.ask(lambda: loop.drift.seen) == 0


def _has_address(host: Host, wanted: bytes) -> bool:
    replies = host.netlink(rtnl.NETLINK_ROUTE).dump(*rtnl.address_dump())
    return wanted in [rtnl.decode_address(reply.payload)[1] for reply in list(replies)]
