"""Never in clear: the wire is watched, under traffic from both ends, while all goes wrong that can go wrong."""

import contextlib
import itertools
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig import conf
from kernel.rig.net import Host, received, state
from kernel.rig.traffic import Traffic, traffic
from kl2tp.kernel import xfrm
from kl2tp.model.objects import Guard, Policy, Sa

OVER: dict[str, dict[str, Any]] = {
    "ip": {},
    "udp": {"encapsulation": "udp"},
    "ip-tunnel-mode": {"ipsec": {"mode": "tunnel"}},
    "udp-v6": {"encapsulation": "udp", "v6": True},
    "ip-v6-tunnel-mode": {"v6": True, "ipsec": {"mode": "tunnel"}},
}
REPAIR_S = 5.0
"""Generous: what is asserted is that it happens."""
every_stack = pytest.mark.parametrize("stack", OVER.values(), ids=OVER)
few_stacks = pytest.mark.parametrize("stack", [OVER["ip"], OVER["udp-v6"]], ids=["ip", "udp-v6"])


def configure(bench: Bench, stack: dict[str, Any], *, overlap: int = 1) -> None:
    """Write both ends of a protected tunnel down."""
    key = conf.make_key(bench.directory / "key")
    for one, other in ((bench.near, bench.far), (bench.far, bench.near)):
        ipsec = {"key_file": key, "overlap": overlap, **stack.get("ipsec", {})}
        conf.write(one.config, {"peer": conf.tunnel(one.host, other.host, 1, **{**stack, "ipsec": ipsec})})


@contextlib.contextmanager
def watched(bench: Bench, at_least: int = 20) -> Iterator[Traffic]:
    """Traffic both ways while the block runs; whatever it does, not one packet may be read on the wire."""
    with bench.wire.watched() as capture:
        with traffic(bench.near.host, bench.far.host, 1) as stream:
            yield stream
        capture.assert_never_clear(at_least)


@pytest.fixture
def up(bench: Bench, stack: dict[str, Any]) -> Iterator[Traffic]:
    """Both ends up, under traffic and watched."""
    configure(bench, stack)
    with watched(bench) as stream:
        bench.near.apply()
        bench.far.apply()
        stream.wait_for(5)
        yield stream


# -- the life of a tunnel --------------------------------------------------------------------------------------------


@every_stack
def test_while_it_is_made_and_taken_down_again_and_again(bench: Bench, stack: dict[str, Any]) -> None:
    configure(bench, stack)
    with watched(bench) as stream:
        for _ in range(3):
            bench.near.apply()
            bench.far.apply()
            stream.wait_for(3)
            bench.near.down()
            bench.far.down()


@few_stacks
def test_while_only_one_end_is_there(bench: Bench, stack: dict[str, Any]) -> None:
    configure(bench, stack)
    with watched(bench) as stream:
        bench.far.apply()
        bench.near.apply()
        stream.wait_for(3)
        bench.far.down()
        bench.far.apply()
        stream.wait_for(3)


@pytest.mark.parametrize("stack", [OVER["ip"]], ids=["ip"])
def test_while_the_daemon_is_killed_started_again_reloaded_and_stopped(bench: Bench, stack: dict[str, Any]) -> None:
    configure(bench, stack)
    with watched(bench) as stream:
        bench.far.apply()
        with bench.near.daemon() as daemon:
            daemon.wait_up()
            stream.wait_for(5)
            daemon.kill()
            stream.wait_for(5)
        with bench.near.daemon() as daemon:
            stream.wait_for(5)
            daemon.call("reload")
            daemon.call("down")
            daemon.call("apply")
            stream.wait_for(5)
            assert daemon.terminate() == 0
            stream.wait_for(5)
        bench.near.down()


@few_stacks
def test_while_attributes_of_the_tunnel_change(bench: Bench, stack: dict[str, Any]) -> None:
    configure(bench, stack)
    with watched(bench) as stream:
        for more in (
            {},
            {"path_mtu": 1400},
            {"reqid": 99},
            {"esn": True, "replay_window": 64},
            {"proposal": "aes128gcm16"},
        ):
            for one, other in ((bench.near, bench.far), (bench.far, bench.near)):
                ipsec = {"key_file": str(bench.directory / "key"), "overlap": 0}
                tunnel = conf.tunnel(one.host, other.host, 1, **{**stack, "ipsec": ipsec})
                (tunnel if "path_mtu" in more else ipsec).update(more)
                conf.write(one.config, {"peer": tunnel})
                one.apply()
            stream.wait_for(3)


# -- when parts of the protection are gone ---------------------------------------------------------------------------


def _objects(host: Host) -> Iterator[Policy | Sa | Guard]:
    """Each object of the protection, as the kernel has it."""
    sock = host.netlink(xfrm.NETLINK_XFRM)
    for reply in list(sock.dump(xfrm.GETSA, b"")):
        if sa := xfrm.decode_sa("", reply.payload, str):
            yield sa
    for reply in list(sock.dump(xfrm.GETPOLICY, b"")):
        if policy := xfrm.decode_policy("", reply.payload, str):
            yield policy
    yield from (element for element in host.table.read("") if isinstance(element, Guard))


def _delete(host: Host, thing: Policy | Sa | Guard) -> None:
    if isinstance(thing, Guard):
        host.table.remove([thing])
    else:
        request = xfrm.sa_delete(thing) if isinstance(thing, Sa) else xfrm.policy_delete(thing)
        host.request(xfrm.NETLINK_XFRM, request)


@every_stack
def test_when_any_one_object_of_the_protection_is_deleted(bench: Bench, stack: dict[str, Any], up: Traffic) -> None:
    things = list(_objects(bench.near.host))
    assert len(things) == 7
    for thing in things:
        _delete(bench.near.host, thing)
        up.burst()
        assert len(bench.near.apply()["operations"]) == 1
        up.wait_for(2)


@every_stack
def test_when_any_two_objects_of_the_protection_are_deleted(bench: Bench, stack: dict[str, Any], up: Traffic) -> None:
    for pair in itertools.combinations(list(_objects(bench.near.host)), 2):
        for thing in pair:
            _delete(bench.near.host, thing)
        up.burst()
        bench.near.apply()
    up.wait_for(2)


FLUSHES: dict[str, Callable[[Host], None]] = {
    "policies": Host.flush_policies,
    "associations": Host.flush_associations,
    "policies-and-associations": Host.flush_ipsec,
    "nftables": lambda host: host.table.delete(),
}


@few_stacks
@pytest.mark.parametrize("flush", FLUSHES.values(), ids=FLUSHES)
def test_when_all_of_a_kind_is_flushed(
    bench: Bench, stack: dict[str, Any], up: Traffic, flush: Callable[[Host], None]
) -> None:
    flush(bench.near.host)
    up.burst(20)
    bench.near.apply()
    up.wait_for(2)


@few_stacks
def test_when_one_kind_after_the_other_is_flushed_under_the_eyes_of_the_daemon(
    bench: Bench, stack: dict[str, Any]
) -> None:
    configure(bench, stack)
    with watched(bench) as stream, bench.near.daemon() as daemon:
        bench.far.apply()
        daemon.wait_up()
        stream.wait_for(2)
        whole = state(bench.near.host).keys()
        for flush in FLUSHES.values():
            with bench.near.host.events() as events:
                flush(bench.near.host)
                stream.burst()
                assert events.until(lambda: state(bench.near.host).keys() == whole) < REPAIR_S
            stream.wait_for(2)


def test_with_both_locks_gone_clear_packets_are_seen_by_these_tests(bench: Bench) -> None:
    configure(bench, OVER["ip"])
    with bench.wire.watched() as capture, traffic(bench.near.host, bench.far.host, 1) as stream:
        bench.near.apply()
        bench.far.apply()
        stream.wait_for(2)
        bench.near.host.flush_policies()
        bench.near.host.table.delete()
        stream.burst(5)
        assert capture.collect().clear


# -- what comes in ---------------------------------------------------------------------------------------------------


def _forged(bench: Bench, stack: dict[str, Any]) -> None:
    """A frame for the near end's session in clear, as if from the far end."""
    session = (1001).to_bytes(4) + bytes(4) + b"\xff" * 6 + b"\x02" * 6 + b"\x88\xb5" + bytes(50)
    v6 = stack.get("v6", False)
    if "encapsulation" not in stack:
        bench.wire.inject(bench.far.host, bench.near.host, session, protocol=115, v6=v6)
        return
    data = bytes((0, 3, 0, 0)) + session
    ports = struct.pack("!HHHH", 30001, 20001, 8 + len(data), 0)
    bench.wire.inject(bench.far.host, bench.near.host, ports + data, protocol=17, v6=v6)


def _taken_in(bench: Bench, stack: dict[str, Any]) -> int:
    """How many of three forged frames the session takes."""
    before = received(bench.near.host, 1001, 1001)
    for _ in range(3):
        _forged(bench, stack)
    return received(bench.near.host, 1001, 1001) - before


plain_stacks = pytest.mark.parametrize("stack", [OVER["ip"], OVER["udp"]], ids=["ip", "udp"])


@plain_stacks
def test_a_tunnel_without_ipsec_takes_the_forged_packet(bench: Bench, stack: dict[str, Any]) -> None:
    conf.write(bench.near.config, {"peer": conf.tunnel(bench.near.host, bench.far.host, 1, **stack)})
    bench.near.apply()
    assert _taken_in(bench, stack) == 3


@plain_stacks
@pytest.mark.parametrize("gone", [None, *FLUSHES], ids=str)
def test_a_protected_one_does_not_whatever_is_flushed(bench: Bench, stack: dict[str, Any], gone: str | None) -> None:
    configure(bench, stack)
    bench.near.apply()
    if gone:
        FLUSHES[gone](bench.near.host)
    assert _taken_in(bench, stack) == 0


@plain_stacks
def test_a_protected_one_does_not_with_any_one_object_missing(bench: Bench, stack: dict[str, Any]) -> None:
    configure(bench, stack)
    bench.near.apply()
    for thing in list(_objects(bench.near.host)):
        _delete(bench.near.host, thing)
        assert _taken_in(bench, stack) == 0, thing
        bench.near.apply()
