"""New keys, make before break: under traffic from both ends nothing is lost and nothing is in clear."""

import contextlib
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.conftest import Bench
from kernel.rig import conf
from kernel.rig.net import Host
from kernel.rig.run import Daemon, Unit, until
from kernel.rig.traffic import Traffic, forked, traffic
from kl2tp.ipsec.keys import generate
from kl2tp.kernel import xfrm

OVERLAP_S = 2


class Ends:
    """Both ends of a protected tunnel, each with its copy of the key file."""

    def __init__(self, bench: Bench) -> None:
        self.near, self.far = bench.near, bench.far
        self.units = (bench.near, bench.far)
        self.keys = [generate()]

    def configure(self, overlap: int, **more: object) -> None:
        """Write both ends down, and the first key."""
        for one, other in (self.units, self.units[::-1]):
            self.hand_out(one)
            wishes = {**more, "ipsec": {"key_file": str(_key_file(one)), "overlap": overlap}}
            conf.write(one.config, {"peer": conf.tunnel(one.host, other.host, 1, **wishes)})  # type: ignore[arg-type]

    def hand_out(self, unit: Unit) -> None:
        """Replace an end's key file by the current one."""
        conf.write_key(_key_file(unit), *self.keys)

    def spis(self) -> list[set[int]]:
        """Of each end, all SPIs."""
        return [associations(unit.host) for unit in self.units]


def _key_file(unit: Unit) -> Path:
    return unit.directory / "key"


def associations(host: Host) -> set[int]:
    """The SPIs of all associations."""
    replies = list(host.netlink(xfrm.NETLINK_XFRM).dump(xfrm.GETSA, b""))
    return {sa.spi for reply in replies if (sa := xfrm.decode_sa("", reply.payload, str))}


@pytest.fixture
def ends(bench: Bench) -> Ends:
    return Ends(bench)


@contextlib.contextmanager
def lossless(bench: Bench) -> Iterator[Traffic]:
    """Traffic while the block runs, of which nothing may be lost, nor be in clear."""
    with bench.wire.watched() as capture:
        with traffic(bench.near.host, bench.far.host, 1) as stream:
            stream.wait_for(5)
            yield stream
            stream.wait_for(5)
        capture.assert_never_clear(at_least=20)
        print(f"\n{stream.sent} packets, {stream.lost} lost; {capture.verdict()}")
    assert stream.lost == 0


def _pass_time(seconds: float) -> None:
    select.select([], [], [], seconds)


def _see_through(*units: Unit) -> None:
    """Apply again and again, when the next step is due, until no key change is under way."""
    while waits := [wait for unit in units for wait in unit.apply(wait=False)["waiting"].values()]:
        _pass_time(max(0.05, min(waits)))


@pytest.mark.parametrize("first", [0, 1], ids=["near-first", "far-first"])
@pytest.mark.parametrize("part", [0.0, 0.6], ids=["at-once", "late"])
def test_a_key_replaced_at_both_ends_within_the_overlap_loses_nothing(
    bench: Bench, ends: Ends, first: int, part: float
) -> None:
    ends.configure(OVERLAP_S)
    for unit in ends.units:
        unit.apply()
    old = ends.spis()
    one, other = ends.units[first], ends.units[1 - first]
    with lossless(bench):
        ends.keys = [generate()]
        ends.hand_out(one)
        assert one.apply(wait=False)["waiting"]
        _pass_time(part * OVERLAP_S)
        ends.hand_out(other)
        _see_through(other, one)
    new = ends.spis()
    assert [len(spis) for spis in new] == [2, 2]
    assert new[0] == new[1]
    assert not new[0] & old[0]


def test_apply_that_waits_sees_the_change_through(bench: Bench, ends: Ends) -> None:
    ends.configure(1)
    for unit in ends.units:
        unit.apply()
    with lossless(bench):
        ends.keys = [generate()]
        for unit in ends.units:
            ends.hand_out(unit)
        pid = forked(ends.far.apply)
        assert ends.near.apply()["waiting"] == {}
        assert os.waitpid(pid, 0)[1] == 0
    assert [len(spis) for spis in ends.spis()] == [2, 2]


@pytest.mark.parametrize("stack", [{}, {"encapsulation": "udp", "v6": True}], ids=["ip", "udp-v6"])
def test_a_rotation_in_three_steps_with_two_keys_in_the_file_needs_no_overlap(
    bench: Bench, ends: Ends, stack: dict[str, object]
) -> None:
    ends.configure(0, **stack)
    for unit in ends.units:
        unit.apply()
    old, new = ends.keys[0], generate()
    with lossless(bench) as stream:
        for keys, count in (([old, new], 3), ([new, old], 3), ([new], 2)):
            ends.keys = keys
            for unit in ends.units:
                ends.hand_out(unit)
                unit.apply()
                stream.wait_for(3)
            assert [len(spis) for spis in ends.spis()] == [count, count]
    for unit in ends.units:
        assert unit.apply()["operations"] == []


def _no_change_under_way(*daemons: Daemon) -> bool:
    return not any(daemon.call("status")["counts"]["rekeying"] for daemon in daemons)


def test_daemons_change_keys_on_reload_and_finish_by_themselves(bench: Bench, ends: Ends) -> None:
    ends.configure(OVERLAP_S + 1)
    with ends.near.daemon(forked=True) as near, ends.far.daemon(forked=True) as far:
        for daemon in (near, far):
            daemon.wait_up()
        old = ends.spis()
        with lossless(bench):
            ends.keys = [generate()]
            for unit in ends.units:
                ends.hand_out(unit)
            for daemon in (near, far):
                daemon.hang_up()
            until(lambda: all(len(spis) == 4 for spis in ends.spis()), near)
            until(lambda: all(len(spis) == 2 for spis in ends.spis()), near, 6 * OVERLAP_S)
        assert not ends.spis()[0] & old[0]
        until(lambda: _no_change_under_way(near, far), near)
        for daemon in (near, far):
            assert daemon.call("status")["drift"]["seen"] == 0


def test_a_daemon_killed_in_the_midst_of_a_key_change_finishes_it_when_it_starts_again(
    bench: Bench, ends: Ends
) -> None:
    ends.configure(4)
    ends.far.apply()
    with contextlib.ExitStack() as stack:
        near = stack.enter_context(ends.near.daemon(forked=True))
        near.wait_up()
        old = ends.spis()[0]
        with lossless(bench):
            ends.keys = [generate()]
            ends.hand_out(ends.far)
            ends.far.apply(wait=False)
            ends.hand_out(ends.near)
            near.call("reload")
            until(lambda: len(ends.spis()[0]) == 4, near)
            near.close()
            near = stack.enter_context(ends.near.daemon(forked=True))
            near.wait_up()
            assert len(ends.spis()[0]) == 4
            _see_through(ends.far)
            until(lambda: len(ends.spis()[0]) == 2, near, 12)
        assert not ends.spis()[0] & old
