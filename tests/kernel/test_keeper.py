"""Sessions outlive their owner: the keeper holds their descriptors, and the next owner takes them over."""

import contextlib
import errno
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig.conf import device
from kernel.rig.keeper import Keeper, Owner, drop, leave
from kernel.rig.net import Host, state
from kernel.rig.ppp import ECHO_REPLY, ECHO_REQUEST, FAR_IDS, IPCP, End, connected, ends, frames
from kernel.rig.traffic import exchanges, forked, traffic
from kl2tp.keeper.client import KeeperClient, KeeperError
from kl2tp.kernel.pppol2tp import Broken, SessionHold, TunnelHold, sort_kept

NUMBERED: dict[str, Any] = {"send_sequence": True, "require_sequence": True}
RESTARTS = 20
MANY = 2000


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Keeper]:
    made = Keeper(tmp_path)
    yield made
    if made.process.poll() is None:
        made.end()


def own(end: End, keeper: Keeper, numbers: Sequence[int], **more: Any) -> Owner:
    """A process that makes sessions and leaves them with the keeper."""

    def work() -> None:
        end.open(numbers)
        end.attach(numbers, **more)
        for number in numbers:
            end.address(number)
        leave(keeper, end)

    for number in numbers:
        end.wishes[number] = end.session_wish(number, number, **more)
    return Owner(work)


def take_over(end: End, keeper: Keeper) -> list[SessionHold | Broken]:
    """Become the owner of what the keeper has."""
    client = keeper.client()
    kept = sort_kept(client.fetch())
    client.close()
    assert kept.rest == {}
    numbers = [number - FAR_IDS * end.far for number in kept.tunnels]
    tunnels = end.plane.adopt_tunnels([end.tunnel_wish(number) for number in numbers], list(kept.tunnels.values()))
    for number, tunnel in zip(numbers, tunnels, strict=True):
        if isinstance(tunnel, TunnelHold):
            end.tunnels[number] = tunnel
        else:
            os.close(kept.tunnels[end.ids(number)[0]])
    numbers = [session - FAR_IDS * end.far for _, session in kept.sessions]
    holds = end.plane.adopt([end.wishes[number] for number in numbers], list(kept.sessions.values()))
    for number, hold in zip(numbers, holds, strict=True):
        if isinstance(hold, SessionHold):
            end.sessions[number] = hold
    return holds


@contextlib.contextmanager
def far_side(near: Host, far: Host, numbers: Sequence[int], **more: Any) -> Iterator[tuple[End, End]]:
    """Both ends; the far one has its sessions already."""
    with ends(near, far) as (end, other):
        other.open(numbers)
        other.attach(numbers, **more)
        for number in numbers:
            other.address(number)
        yield end, other


def finish(end: End, keeper: Keeper) -> None:
    """End all sessions, as an owner should: the keeper lets go first."""
    drop(keeper, [*end.sessions.values(), *end.tunnels.values()])


def test_no_packet_is_lost_when_the_owner_is_killed_and_the_next_one_answers(bench: Bench, keeper: Keeper) -> None:
    near, far = bench.near.host, bench.far.host
    with far_side(near, far, [1, 2], **NUMBERED) as (end, other):
        before = state(near)
        owner = own(end, keeper, [1, 2], **NUMBERED)
        with traffic(near, far, 1, 2) as stream:
            stream.wait_for(50)
            owner.kill()
            other.sessions[1].write(ECHO_REQUEST)  # while nobody is there
            stream.wait_for(50)
            assert [isinstance(hold, SessionHold) for hold in take_over(end, keeper)] == [True, True]
            stream.wait_for(50)
        print(f"\n{stream.sent} numbered packets, {stream.lost} lost")
        assert stream.lost == 0
        ours, theirs = end.sessions[1], other.sessions[1]
        assert frames(ours, ours.channel_fd) == [ECHO_REQUEST]
        assert ours.write(ECHO_REPLY)
        assert frames(theirs, theirs.channel_fd) == [ECHO_REPLY]
        theirs.write(IPCP)
        assert frames(ours, ours.unit_fd) == [IPCP]
        other.tunnels[1].sock.send(bytes.fromhex("c802000c0001000000000000"))
        assert end.tunnels[1].sock.recv(100)[:2] == b"\xc8\x02"
        assert ours.ifindex == near.index(device(1))
        finish(end, keeper)
        end.close()
        near.until(lambda: state(near) == before)


def test_a_session_can_have_many_owners_one_after_the_other(bench: Bench, keeper: Keeper) -> None:
    near, far = bench.near.host, bench.far.host
    with far_side(near, far, [1]) as (end, _):
        owner = own(end, keeper, [1])
        with traffic(near, far, 1) as stream:
            for _ in range(RESTARTS):
                stream.wait_for(5)
                owner.kill()
                owner = Owner(lambda: _assert_whole(take_over(end, keeper)))
            stream.wait_for(5)
        owner.kill()
        print(f"\n{stream.sent} packets, {stream.lost} lost in {RESTARTS} restarts")
        assert stream.lost == 0
        _assert_whole(take_over(end, keeper))
        finish(end, keeper)


def _assert_whole(holds: Sequence[SessionHold | Broken]) -> None:
    assert [hold for hold in holds if isinstance(hold, Broken)] == []


def test_thousands_of_sessions_are_kept_and_taken_over(bench: Bench, keeper: Keeper) -> None:
    near, far = bench.near.host, bench.far.host
    before = state(near)
    with ends(near, far) as (end, _):

        def work() -> None:
            end.open(range(1, 101))
            for start in range(1, MANY + 1, 250):
                end.attach(range(start, start + 250), lambda number: (number - 1) % 100 + 1)
            leave(keeper, end)

        end.wishes = {n: end.session_wish(n, (n - 1) % 100 + 1) for n in range(1, MANY + 1)}
        owner = Owner(work)
        owner.kill()
        began = time.monotonic()
        client = keeper.client()
        assert len(client.names()) == 2 * MANY + 100
        fetched = client.fetch()
        client.close()
        got = time.monotonic()
        for fd in fetched.values():
            os.close(fd)
        between = time.monotonic()
        _assert_whole(take_over(end, keeper))
        print(f"\n{len(fetched)} descriptors fetched in {got - began:.2f} s, ", end="")
        print(f"fetched and {MANY} sessions taken over in {time.monotonic() - between:.2f} s")
        assert len(end.sessions) == MANY
        assert len(end.tunnels) == 100
        began = time.monotonic()
        finish(end, keeper)
        end.close()
        print(f"ended in {time.monotonic() - began:.2f} s")
        near.until(lambda: state(near) == before)
    assert open_names(keeper) == []


def open_names(keeper: Keeper) -> list[str]:
    """What the keeper has."""
    client = keeper.client()
    names = client.names()
    client.close()
    return names


# -- what is not whole -----------------------------------------------------------------------------------------------


def test_what_others_destroyed_meanwhile_is_told_apart_and_leaves_nothing(bench: Bench, keeper: Keeper) -> None:
    near, far = bench.near.host, bench.far.host
    with far_side(near, far, [1, 2, 3, 4]) as (end, _):
        before = state(near)
        owner = own(end, keeper, [1, 2, 3, 4])
        owner.kill()
        end.delete_session(1)
        end.delete_tunnel(2)
        near.delete_device(device(3))
        near.until(lambda: end.kernel_session(2) is None)
        holds = take_over(end, keeper)
        broken = [hold for hold in holds if isinstance(hold, Broken)]
        assert [str(b.error) for b in broken] == [
            "No such device (ENODEV): the kernel's part of session 1/1",
            "No such device (ENODEV): the kernel's part of session 2/2",
            "No such device (ENODEV): the device of session 3/3",
        ]
        assert list(end.tunnels) == [1, 3, 4]
        exchanges(near, far, 4)
        drop(keeper, [b.hold for b in broken])
        end.plane.detach([b.hold for b in broken])
        assert [near.device(device(number)) is None for number in (1, 2, 3, 4)] == [True, True, True, False]
        exchanges(near, far, 4)
        client = keeper.client()
        client.drop(["tunnel/2"])
        client.close()
        finish(end, keeper)
        end.close()
        near.until(lambda: state(near) == before)
        assert open_names(keeper) == []


def test_half_a_session_is_never_taken_over(bench: Bench, keeper: Keeper) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1, 2, 3]) as (end, _):
        client = keeper.client()
        one, two, three = (end.sessions[number] for number in (1, 2, 3))
        client.keep(["session/1/1", "session/2/2", "unit/2/2"], [one.px_fd, three.px_fd, two.unit_fd])
        client.keep(["unit/3/3", "something"], [three.unit_fd, one.unit_fd])
        kept = sort_kept(client.fetch())
        client.close()
        assert sorted(kept.rest) == ["session/1/1", "something", "unit/3/3"]
        assert list(kept.sessions) == [(2, 2)]
        (swapped,) = end.plane.adopt([end.wishes[2]], [kept.sessions[2, 2]])
        assert isinstance(swapped, Broken)
        assert swapped.error.code == errno.EINVAL
        assert "session 3/3" in str(swapped.error)
        for fd in (*kept.rest.values(), *kept.sessions[2, 2]):
            os.close(fd)
        exchanges(near, far, 2)


def test_when_the_keeper_ends_without_an_owner_its_sessions_end(bench: Bench, keeper: Keeper) -> None:
    near, far = bench.near.host, bench.far.host
    with far_side(near, far, [1, 2]) as (end, other):
        before = state(near)
        own(end, keeper, [1, 2]).kill()
        assert near.device(device(1)) is not None
        assert keeper.end() == 0
        near.until(lambda: state(near) == before)
        assert other.sessions[1].unit >= 0


def test_with_an_owner_the_end_of_the_keeper_hurts_nothing(bench: Bench, keeper: Keeper) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (end, _):
        leave(keeper, end)
        with traffic(near, far, 1) as stream:
            stream.wait_for(20)
            keeper.end(signal.SIGKILL)
            again = Keeper(keeper.path.parent)
            leave(again, end)
            stream.wait_for(20)
        assert stream.lost == 0
        assert open_names(again) == ["tunnel/1", "session/1/1", "unit/1/1"]
        drop(again, [*end.sessions.values(), *end.tunnels.values()])
        again.end()


# -- who may -----------------------------------------------------------------------------------------------------------


def test_other_users_are_refused() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        keeper = Keeper(Path(directory))
        os.chmod(directory, 0o755)
        keeper.path.chmod(0o666)
        reading, writing = os.pipe()

        def try_it() -> None:
            os.setgid(65534)
            os.setuid(65534)
            with contextlib.suppress(KeeperError):
                KeeperClient(keeper.path).keep(["mine"], [writing])
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock, contextlib.suppress(ConnectionError):
                sock.connect(str(keeper.path))
                os.write(writing, sock.recv(10) or b"refused")
                return
            os.write(writing, b"refused")

        pid = forked(try_it)
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(reading, 20) == b"refused"
        assert open_names(keeper) == []
        keeper.end()
        for fd in (reading, writing):
            os.close(fd)
