"""The kernel's half of PPP sessions: made in batches, each wholly or not at all; frames, packets, and their end."""

import contextlib
import errno
import os
import resource
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from kernel.conftest import Bench
from kernel.rig.conf import device
from kernel.rig.net import Host, state
from kernel.rig.ppp import (
    ECHO_REPLY,
    ECHO_REQUEST,
    FAR_IDS,
    FIRST_PORT,
    IPCP,
    MTU,
    PORT,
    End,
    connected,
    ends,
    failure,
    frames,
    place,
)
from kernel.rig.traffic import exchanges
from kl2tp.kernel import netns, ppp, pppox, rtnl, udp
from kl2tp.kernel.netlink import KernelError, Message, Reply, attributes, string
from kl2tp.kernel.pppol2tp import Plane, SessionHold, SessionWish, TunnelHold, TunnelWish
from kl2tp.kernel.udp import Listener
from kl2tp.model.objects import Route


def open_files() -> Counter[str]:
    """What descriptors of this process stand for, by kind."""
    found: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the directory's own
            found[os.readlink(f"/proc/self/fd/{name}").partition(":")[0]] += 1
    return found


def ppp_files() -> int:
    return open_files()["/dev/ppp"]


def fields(payload: bytes) -> dict[str, int]:
    """What the kernel says of a session, by name."""
    found = attributes(payload, 4)
    names = {18: "require_sequence", 19: "send_sequence", 20: "lns", 22: "reorder_ms", 1: "kind"}
    return {name: int.from_bytes(found.get(kind, b""), "little") for kind, name in names.items()}


def queueing(host: Host, name: str) -> str:
    """The queueing discipline of a device."""
    reply = host.netlink(rtnl.NETLINK_ROUTE).get([rtnl.link_get(name)])[0]
    assert isinstance(reply, Reply)
    return attributes(reply.payload, 16)[6].rstrip(b"\0").decode()


# -- made -----------------------------------------------------------------------------------------------------------


def test_packets_pass_both_ways_through_many_sessions_made_at_once(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, range(1, 101)):
        for number in (1, 50, 100):
            exchanges(near, far, number)


def test_packets_pass_through_sessions_of_one_tunnel(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with ends(near, far) as pair:
        for end in pair:
            end.open([1])
            end.attach(range(1, 21), lambda number: 1)
            end.address(20)
        exchanges(near, far, 20)


def test_tunnels_go_over_ipv6_too(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1, 2], v6=True) as (end, _):
        exchanges(near, far, 2)
        assert pppox.identity(end.sessions[2].px_fd) == (2, 2, 2 + FAR_IDS, 2 + FAR_IDS)


def test_a_device_is_as_wished_and_without_a_queue(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with ends(near, far) as (end, _):
        end.open([1, 2])
        end.attach([1])
        end.attach([2], up=False, mru=1600)
        for number, up in ((1, True), (2, False)):
            link = near.device(device(number))
            assert link is not None
            assert (link.mtu, link.up, link.group, link.index) == (MTU, up, 1701, end.sessions[number].ifindex)
        assert queueing(near, device(1)) == "noqueue"


def test_the_lns_decides_about_sequence_numbers(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (lac, lns):
        assert [fields(end.kernel_session(1) or b"")["lns"] for end in (lac, lns)] == [0, 1]


def test_numbered_packets_pass_and_unnumbered_ones_are_refused_where_numbers_are_required(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    options: dict[str, Any] = {"send_sequence": True, "require_sequence": True, "reorder_ms": 50}
    with connected(near, far, [1], **options) as (lac, _):
        assert {k: v for k, v in fields(lac.kernel_session(1) or b"").items() if k in options} == options
        exchanges(near, far, 1)
    with ends(near, far) as (lac, lns):
        for end in (lac, lns):
            end.open([1])
        lac.attach([1], lns=True)
        lns.attach([1], require_sequence=True)
        lac.sessions[1].write(ECHO_REQUEST)
        counted = lns.plane.counters([(1 + FAR_IDS, 1 + FAR_IDS)])[0]
        assert counted is not None
        assert (counted["rx_packets"], counted["rx_seq_discards"]) == (0, 1)


def test_a_device_can_be_born_in_another_namespace_and_goes_with_its_session(bench: Bench) -> None:
    near, far, customer = bench.near.host, bench.far.host, Host("customer")
    try:
        with ends(near, far) as (end, other):
            for each in (end, other):
                each.open([1])
            end.attach([1], netns="customer")
            other.attach([1])
            other.address(1)
            end.address(1, customer)
            assert near.device(device(1)) is None
            exchanges(customer, far, 1)
            end.sessions[1].write(ECHO_REQUEST)
            frames(other.sessions[1], other.sessions[1].channel_fd)
            end.plane.detach([end.sessions[1]])
            assert customer.device(device(1)) is None
    finally:
        customer.delete()


@pytest.mark.parametrize("allowed", ["ipv4", "ipv6"])
def test_only_the_network_protocols_that_may_pass_do(bench: Bench, allowed: str) -> None:
    near, far = bench.near.host, bench.far.host
    passes = {"ipv4": allowed == "ipv4", "ipv6": allowed == "ipv6"}
    with connected(near, far, [1], **passes) as (end, _):
        if passes["ipv4"]:
            exchanges(near, far, 1)
        else:
            with pytest.raises(AssertionError, match="no traffic"):
                exchanges(near, far, 1)
        end.plane.set_network(end.sessions[1], ipv4=True, ipv6=True)


# -- all or nothing --------------------------------------------------------------------------------------------------


def test_what_fails_leaves_nothing_behind_and_hurts_no_other(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    near.add_bridge(device(3))
    with ends(near, far) as (end, _):
        end.open(range(1, 7))
        end.attach([4])
        before, files = state(near), ppp_files()
        wishes = [
            end.session_wish(1, 1),
            end.session_wish(2, 99),  # no such tunnel
            end.session_wish(3, 3),  # its device's name is taken
            end.session_wish(4, 4),  # its id is taken
            end.session_wish(5, 5, netns="nowhere"),
            end.session_wish(6, 6),
        ]
        results = end.plane.attach(wishes)
        assert [isinstance(result, SessionHold) for result in results] == [True, False, False, False, False, True]
        codes = [failure(results[index]).code for index in (1, 2, 3, 4)]
        assert codes == [errno.ENOENT, errno.EEXIST, errno.EEXIST, errno.ENOENT]
        assert "device of session 3/3" in str(results[2])
        assert "nowhere" in str(results[4])
        assert ppp_files() == files + 4
        end.plane.detach([hold for hold in results if isinstance(hold, SessionHold)])
        near.until(lambda: state(near) == before)


def test_without_descriptors_sessions_fail_wholly(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with ends(near, far) as (end, _):
        end.open([1])
        end.attach([1])
        before, files = state(near), open_files()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, hard))
        try:
            results = end.plane.attach([end.session_wish(number, 1) for number in range(10, 30)])
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        made = [hold for hold in results if isinstance(hold, SessionHold)]
        assert {failure(r).code for r in results if not isinstance(r, SessionHold)} == {errno.EMFILE}
        end.plane.detach(made)
        near.until(lambda: state(near) == before)
        assert open_files() == files


def test_in_a_namespace_that_is_not_there_everything_fails() -> None:
    plane = Plane("nowhere")
    tunnel = TunnelWish(1, 1, (bytes(4), 0), (bytes((127, 0, 0, 1)), 1))
    results: list[Any] = [*plane.open_tunnels([tunnel]), *plane.attach([SessionWish(1, 1, 1, 1, "x", MTU)] * 2)]
    assert [failure(result).code for result in results] == [errno.ENOENT] * 3
    assert plane.counters([(1, 1)]) == [None]
    plane.close()


def test_a_tunnel_that_fails_is_the_problem_of_nobody_else(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with near.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, ends(near, far) as (end, _):
        taken.bind((f"192.0.2.{near.number}", FIRST_PORT + 2))
        end.open([4])
        there = end.tunnel_wish(3)
        elsewhere = TunnelWish(5, 5, (bytes((198, 51, 100, 1)), PORT), there.remote)
        before = open_files()
        results = end.plane.open_tunnels([end.tunnel_wish(1), end.tunnel_wish(2), there, end.tunnel_wish(4), elsewhere])
        made = [hold for hold in results if isinstance(hold, TunnelHold)]
        assert [hold.id for hold in made] == [1, 3]
        codes = [failure(results[index]).code for index in (1, 3, 4)]
        assert codes == [errno.EADDRINUSE, errno.EEXIST, errno.EADDRNOTAVAIL]
        end.plane.close_tunnels(made)
        assert open_files() == before


def test_a_tunnel_id_that_is_being_given_back_is_waited_for(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with ends(near, far) as (end, _):
        end.open([1])
        end.attach(range(1, 101), lambda number: 1)
        end.delete_tunnel(1)
        (again,) = end.plane.open_tunnels([end.tunnel_wish(1)], patience=10.0)
        assert isinstance(again, TunnelHold)
        end.plane.close_tunnels([again])


# -- frames ----------------------------------------------------------------------------------------------------------


def test_lcp_comes_by_the_channel_and_network_control_by_the_unit(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (end, other):
        ours, theirs = end.sessions[1], other.sessions[1]
        for frame in (ECHO_REQUEST, IPCP, ECHO_REPLY):
            assert ours.write(frame)
        assert frames(theirs, theirs.channel_fd, 2) == [ECHO_REQUEST, ECHO_REPLY]
        assert frames(theirs, theirs.unit_fd) == [IPCP]
        assert theirs.read(theirs.channel_fd) == ([], True)
        for number in range(40):
            ours.write(ECHO_REQUEST[:3] + bytes((number,)) + ECHO_REQUEST[4:])
        assert frames(theirs, theirs.channel_fd, 5)[0][3] >= 8  # the oldest are given up
        assert len(theirs.read(theirs.channel_fd, 1)[0]) <= 1


def test_frames_that_come_while_a_session_is_made_are_read_afterwards(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    near, far = bench.near.host, bench.far.host
    with ends(near, far) as (end, other):
        for each in (end, other):
            each.open([1])
        other.attach([1])
        sent: list[bytes] = []

        def interrupted(real: Callable[..., Any]) -> Callable[..., Any]:
            def peer_speaks_first(*arguments: Any) -> Any:
                sent.append(ECHO_REQUEST[:3] + bytes((len(sent),)) + ECHO_REQUEST[4:])
                other.sessions[1].write(sent[-1])
                return real(*arguments)

            return peer_speaks_first

        monkeypatch.setattr(pppox, "channel_number", interrupted(pppox.channel_number))
        for name in ("open_channel", "open_unit", "unit_number", "connect"):
            monkeypatch.setattr(ppp, name, interrupted(getattr(ppp, name)))
        end.attach([1])
        hold = end.sessions[1]
        assert len(sent) == 5
        assert frames(hold, hold.channel_fd, len(sent)) == sent


def test_a_frame_that_is_too_long_is_skipped(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (end, other):
        hold = other.sessions[1]
        end.sessions[1].write(ECHO_REQUEST[:2] + b"\x0b\1" + struct.pack("!H", 3000) + bytes(2996))
        end.sessions[1].write(ECHO_REPLY)
        assert frames(hold, hold.channel_fd) == [ECHO_REPLY]


def test_the_end_of_a_session_is_seen_on_its_descriptors(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1, 2]) as (end, _):
        hold = end.sessions[1]
        os.close(hold.px_fd)
        hold.px_fd = -1
        for fd in (hold.channel_fd, hold.unit_fd):
            assert select.select([fd], [], [], 5)[0]
            assert hold.read(fd) == ([], False)
        near.delete_device(device(2))
        assert end.sessions[2].read(end.sessions[2].unit_fd) == ([], False)
        assert end.sessions[2].read(end.sessions[2].channel_fd) == ([], True)


def test_counters_and_idle_times(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1, 2]) as (end, _):
        exchanges(near, far, 1, packets=7)
        busy, quiet, missing = end.plane.counters([(1, 1), (2, 2), (1, 9)])
        assert busy is not None
        assert busy["rx_packets"] >= 7
        assert quiet is not None
        assert quiet["rx_packets"] == 0
        assert missing is None
        assert ppp.idle(end.sessions[1].unit_fd) < (5, 5)


# -- strangers -------------------------------------------------------------------------------------------------------


def test_what_strangers_sent_before_the_socket_was_connected_is_handed_over(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    wish = TunnelWish(1, 1, (place(near), PORT), (place(far), PORT))
    with near.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with far.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, ends(near, far) as (end, _):
        sock.bind((f"192.0.2.{near.number}", PORT))
        stranger.bind((f"192.0.2.{far.number}", 4711))
        for text in (b"one", b"two"):
            stranger.sendto(text, (f"192.0.2.{near.number}", PORT))
        sock.connect((f"192.0.2.{far.number}", PORT))
        (hold,) = end.plane.open_tunnels([TunnelWish(1, 1, wish.local, wish.remote, sock=sock)])
        assert isinstance(hold, TunnelHold)
        assert hold.sock is sock
        assert hold.strays == [(b"one", (place(far), 4711), 0), (b"two", (place(far), 4711), 0)]
        stranger.sendto(b"three", (f"192.0.2.{near.number}", PORT))
        assert not select.select([sock], [], [], 0.05)[0]
        end.plane.close_tunnels([hold])


def test_a_listener_is_told_the_mark_of_a_packet_and_a_tunnel_gives_its_own(bench: Bench) -> None:
    near = bench.near.host
    with near.entered(), contextlib.closing(Listener(bytes(4), PORT)) as listener:
        for address in (place(near), bytes((127, 0, 0, 1))):
            with udp.open_connected((address, 0), (address, PORT), mark=0x4711) as sock:
                sock.send(b"marked")
                assert select.select([listener], [], [], 5)[0]
                ((data, sender, local, mark),) = listener.drain_marked()
                assert (data, sender[0], local, mark) == (b"marked", address, (address, PORT), 0x4711)


def test_control_messages_and_data_of_unknown_sessions_are_passed_up(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1]) as (end, other):
        control = bytes.fromhex("c802000c03e9000000000000")
        data = bytes.fromhex("000203e90063") + b"\xff\x03" + ECHO_REQUEST
        for packet in (control, data):
            end.tunnels[1].sock.send(packet)
            assert select.select([other.tunnels[1].sock], [], [], 5)[0]
            assert other.tunnels[1].sock.recv(2048) == packet


# -- the end ---------------------------------------------------------------------------------------------------------


def test_after_the_end_nothing_is_left(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    before, files = state(near), open_files()
    with connected(near, far, range(1, 41)) as (end, _):
        near.request(
            rtnl.NETLINK_ROUTE,
            rtnl.route_add(Route("", 254, bytes((10, 9, 0, 0)), 16, 0, device=device(3)), near.index(device(3))),
        )
        near.delete_device(device(5))
        end.delete_session(6)
        end.delete_tunnel(7)
        assert ppp_files() == 160
    near.until(lambda: state(near) == before)
    assert open_files() == files


def test_ending_some_sessions_leaves_the_others_alone(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, range(1, 11)) as (end, _):
        gone = [end.sessions.pop(number) for number in (2, 5, 9)]
        end.plane.detach(gone)
        assert [near.device(device(n)) is None for n in range(1, 11)] == [n in (2, 5, 9) for n in range(1, 11)]
        assert [hold.px_fd for hold in gone] == [-1] * 3
        exchanges(near, far, 1)
        end.plane.detach(gone)  # once more is no matter


def test_a_thousand_sessions_end_within_two_seconds(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    before = state(near)
    with ends(near, far) as (end, _):
        end.open(range(1, 101))
        end.attach(range(1, 1001), lambda number: (number - 1) % 100 + 1)
        began = time.monotonic()
        end.plane.detach(list(end.sessions.values()))
        end.plane.close_tunnels(list(end.tunnels.values()))
        took = time.monotonic() - began
        print(f"\n1,000 sessions in 100 tunnels ended in {took:.2f} s")
        near.until(lambda: state(near) == before)
        assert took < 2.0


def test_several_threads_make_and_end_sessions_at_once(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    before = state(near)
    problems: list[object] = []
    with ends(near, far) as (end, _):
        end.open(range(1, 5))

        def work(tunnel: int) -> None:
            for turn in range(10):
                numbers = range(100 * tunnel + 10 * turn, 100 * tunnel + 10 * turn + 10)
                results = end.plane.attach([end.session_wish(number, tunnel) for number in numbers])
                problems.extend(result for result in results if not isinstance(result, SessionHold))
                end.plane.detach([hold for hold in results if isinstance(hold, SessionHold)])

        threads = [threading.Thread(target=work, args=(tunnel,)) for tunnel in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
    near.until(lambda: state(near) == before)


# -- what others do --------------------------------------------------------------------------------------------------


def losses(end: End, *numbers: int) -> list[str]:
    wishes, holds = [end.wishes[n] for n in numbers], [end.sessions[n] for n in numbers]
    return [str(loss) for loss in end.plane.losses(wishes, holds)]


def test_what_others_took_away_is_found(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, range(1, 7)) as (end, _):
        assert losses(end, *range(1, 7)) == ["Loss.NOTHING"] * 6
        end.delete_session(1)
        end.delete_tunnel(2)
        near.delete_device(device(3))
        end.delete_session(4)
        near.delete_device(device(4))
        near.set_device(device(5), up=False)
        near.request(rtnl.NETLINK_ROUTE, _rename(near.index(device(5)), "other"))
        near.until(lambda: losses(end, 2) == ["Loss.SESSION"])
        expected = ["SESSION", "SESSION", "DEVICE", "SESSION|DEVICE", "DEVICE", "NOTHING"]
        assert losses(end, *range(1, 7)) == [f"Loss.{name}" for name in expected]


def _rename(index: int, name: str) -> Message:
    return Message(rtnl.RTM_NEWLINK, 0, struct.pack("=BBHiII", 0, 0, 0, index, 0, 0) + string(3, name))


def test_a_session_that_was_deleted_is_made_anew_under_its_device(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1, 2]) as (end, _):
        number = near.index(device(1))
        end.delete_session(1)
        end.rebuild([1, 2])
        assert near.index(device(1)) == number
        for session in (1, 2):
            exchanges(near, far, session)


def test_a_deleted_tunnel_is_made_anew_with_its_sessions_and_their_devices_stay(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with ends(near, far) as pair:
        end, other = pair
        for each in pair:
            each.open([1])
            each.attach(range(1, 21), lambda number: 1)
            each.address(7)
        number = near.index(device(7))
        kept = [os.dup(fd) for fd in end.sessions[7].fds()]  # as the keeper does
        end.delete_tunnel(1)
        near.until(lambda: losses(end, 7) == ["Loss.SESSION"])
        (tunnel,) = end.plane.open_tunnels([end.tunnel_wish(1)], patience=10.0)
        assert isinstance(tunnel, TunnelHold)
        end.tunnels[1].sock.close()
        end.tunnels[1] = tunnel
        end.rebuild(range(1, 21))
        assert near.index(device(7)) == number
        exchanges(near, far, 7)
        other.sessions[7].write(ECHO_REQUEST)
        assert frames(end.sessions[7], end.sessions[7].channel_fd) == [ECHO_REQUEST]
        end.sessions[7].write(ECHO_REPLY)
        assert frames(other.sessions[7], other.sessions[7].channel_fd) == [ECHO_REPLY]
        for fd in kept:
            os.close(fd)
        exchanges(near, far, 7)


@pytest.mark.parametrize("how", ["deleted", "renamed", "moved"])
def test_a_device_that_was_taken_away_is_made_anew(bench: Bench, how: str) -> None:
    near, far, elsewhere = bench.near.host, bench.far.host, Host("elsewhere")
    with contextlib.ExitStack() as stack:
        stack.callback(elsewhere.delete)
        end, other = stack.enter_context(connected(near, far, [1]))
        if how == "deleted":
            near.delete_device(device(1))
        elif how == "renamed":
            near.set_device(device(1), up=False)
            near.request(rtnl.NETLINK_ROUTE, _rename(near.index(device(1)), "other"))
        else:
            namespace = netns.open_namespace("elsewhere")
            near.request(rtnl.NETLINK_ROUTE, rtnl.link_move(near.index(device(1)), device(1), namespace))
            os.close(namespace)
        end.rebuild([1])
        end.address(1)
        exchanges(near, far, 1)
        assert near.device("other") is None
        assert elsewhere.device(device(1)) is None
        other.sessions[1].write(IPCP)
        assert frames(end.sessions[1], end.sessions[1].unit_fd) == [IPCP]


def test_what_cannot_be_made_anew_is_taken_away(bench: Bench) -> None:
    near, far = bench.near.host, bench.far.host
    with connected(near, far, [1, 2]) as (end, _):
        end.delete_tunnel(1)
        near.until(lambda: losses(end, 1) == ["Loss.SESSION"])
        wishes, holds = [end.wishes[1], end.wishes[2]], [end.sessions[1], end.sessions[2]]
        lost, fine = end.plane.rebuild(wishes, holds, end.plane.losses(wishes, holds))
        assert isinstance(lost, KernelError)
        assert fine is holds[1]
        assert near.device(device(1)) is None
        assert end.sessions[1].fds() == [-1, -1]
        exchanges(near, far, 2)
