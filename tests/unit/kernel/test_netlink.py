"""The netlink transport: against the real kernel where no privilege is needed, and byte by byte where it must fail."""

import errno
import socket
import struct
from collections.abc import Iterator

import pytest

from kl2tp.kernel import netlink, rtnl
from kl2tp.kernel.netlink import (
    BATCH,
    HEADER,
    EventSocket,
    KernelError,
    Message,
    Netlink,
    Reply,
    attr,
    error_in,
    flag,
    string,
    u8,
    u16,
    u32,
    u64,
)

UNKNOWN = Message(0x7FF0, 0, bytes(16))
"""A request that every kernel refuses, whoever asks."""
ERROR, DONE = 2, 3
CAPPED, TLVS, INTERRUPTED = 0x100, 0x200, 0x10


# -- the real kernel -------------------------------------------------------------------------------------------------


@pytest.fixture
def route() -> Iterator[Netlink]:
    with Netlink(rtnl.NETLINK_ROUTE) as sock:
        yield sock


def test_all_devices_are_dumped(route: Netlink) -> None:
    devices = [rtnl.LinkState(reply.payload) for reply in route.dump(*rtnl.link_dump())]
    assert {device.index: device.name for device in devices} == dict(socket.if_nameindex())


def test_a_device_is_asked_for_by_name_and_by_number(route: Netlink) -> None:
    lo = socket.if_nametoindex("lo")
    found = route.get([rtnl.link_get("lo"), Message(rtnl.RTM_GETLINK, 0, rtnl.link_by_index(lo))])
    assert [rtnl.LinkState(r.payload).name for r in found if isinstance(r, Reply)] == ["lo", "lo"]


def test_many_questions_are_answered_in_their_order(route: Netlink) -> None:
    asked = ["lo" if number % 3 else "no-such-device" for number in range(2 * BATCH + 7)]
    found = route.get([rtnl.link_get(name) for name in asked])
    for name, reply in zip(asked, found, strict=True):
        if name == "lo":
            assert isinstance(reply, Reply)
        else:
            assert isinstance(reply, KernelError)
            assert reply.code == errno.ENODEV


def test_failures_of_a_batch_are_attributed(route: Netlink) -> None:
    question = rtnl.link_get("lo")
    requests = [UNKNOWN if number % 5 == 0 else question for number in range(BATCH + 20)]
    failures = route.batch(requests)
    assert set(failures) == {number for number in range(BATCH + 20) if number % 5 == 0}
    assert {error.code for error in failures.values()} == {errno.EOPNOTSUPP}


def test_a_batch_whose_last_request_fails_comes_to_its_end(route: Netlink) -> None:
    assert set(route.batch([rtnl.link_get("lo"), UNKNOWN])) == {1}
    assert route.batch([rtnl.link_get("lo")]) == {}


def test_one_refused_request_raises(route: Netlink) -> None:
    with pytest.raises(KernelError) as caught:
        route.request(UNKNOWN)
    assert caught.value.code == errno.EOPNOTSUPP


def test_changes_are_counted_and_questions_are_not(route: Netlink) -> None:
    route.batch([UNKNOWN, UNKNOWN])
    route.get([rtnl.link_get("lo")])
    list(route.dump(*rtnl.link_dump()))
    assert route.sent == 2


def test_a_dump_that_nobody_reads_to_its_end_does_not_spoil_what_follows(route: Netlink) -> None:
    next(iter(route.dump(*rtnl.link_dump())))
    (found,) = route.get([rtnl.link_get("lo")])
    assert isinstance(found, Reply)


def test_a_refused_dump_raises(route: Netlink) -> None:
    with pytest.raises(KernelError):
        list(route.dump(UNKNOWN.type, UNKNOWN.payload))


def test_an_error_comes_with_the_kernel_s_own_sentence(route: Netlink) -> None:
    kind, payload = rtnl.link_dump()
    with pytest.raises(KernelError) as caught:
        list(route.dump(kind, payload[:15] + b"\1" + payload[16:]))
    assert caught.value.detail
    assert caught.value.detail in str(caught.value)


def test_every_socket_has_a_port_of_its_own() -> None:
    with Netlink(rtnl.NETLINK_ROUTE) as one, Netlink(rtnl.NETLINK_ROUTE) as two:
        assert one.port_id != two.port_id
        assert one.port_id > 0


def test_a_closed_socket_is_closed(route: Netlink) -> None:
    route.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        route.batch([UNKNOWN])


def test_a_protocol_that_the_kernel_lacks_is_an_error() -> None:
    with pytest.raises(OSError, match="not supported"):
        Netlink(31)


def test_an_event_socket_without_events_has_none() -> None:
    sock = EventSocket(rtnl.NETLINK_ROUTE)
    for group in rtnl.GROUPS:
        sock.join(group)
    while sock.receive() is not None:
        pass  # what happens on this host just now
    assert sock.fileno() > 0
    sock.close()


@pytest.mark.parametrize("count", [0, 1, 200, 1000])
def test_a_filter_takes_any_number_of_ports(count: int) -> None:
    sock = EventSocket(rtnl.NETLINK_ROUTE)
    sock.ignore(range(1, 1 + count))
    assert sock.receive_many() == []
    sock.close()


# -- byte by byte ----------------------------------------------------------------------------------------------------


class Kernel:
    """The other end of a socket: says what it is told to say, before it is asked."""

    def __init__(self) -> None:
        ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, 20_000))
        self.netlink = Netlink(rtnl.NETLINK_ROUTE)
        self.netlink._socket.close()
        self.netlink._socket = ours

    def say(self, *parts: tuple[int, int, int, bytes]) -> None:
        """One datagram of messages: (type, flags, sequence, payload)."""
        self.theirs.send(b"".join(HEADER.pack(16 + len(p), kind, flags, seq, 0) + p for kind, flags, seq, p in parts))

    def heard(self) -> list[tuple[int, int, int]]:
        """(type, flags, sequence) of the messages in the next datagram."""
        return [(kind, flags, seq) for kind, flags, seq, _, _ in netlink.messages(self.theirs.recv(1 << 20))]

    def close(self) -> None:
        self.netlink.close()
        self.theirs.close()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    made.close()


def refusal(code: int) -> bytes:
    return struct.pack("=i", -code) + bytes(16)


ACK = refusal(0)
REQUEST = Message(16, 0, b"12345")


def test_only_the_last_of_a_batch_is_to_be_acknowledged(kernel: Kernel) -> None:
    kernel.say((ERROR, 0, 3, ACK))
    assert kernel.netlink.batch([REQUEST] * 3) == {}
    assert kernel.heard() == [(16, 1, 1), (16, 1, 2), (16, 5, 3)]


def test_errors_are_attributed_by_their_sequence(kernel: Kernel) -> None:
    kernel.say((ERROR, 0, 1, refusal(errno.EEXIST)), (ERROR, 0, 3, refusal(errno.ENOENT)))
    kernel.say((ERROR, 0, 4, ACK))
    failures = kernel.netlink.batch([REQUEST] * 4)
    assert {index: error.code for index, error in failures.items()} == {0: errno.EEXIST, 2: errno.ENOENT}


def test_replies_to_what_was_asked_before_are_ignored(kernel: Kernel) -> None:
    kernel.netlink._sequence = 100
    kernel.say((ERROR, 0, 7, refusal(errno.EEXIST)), (16, 0, 100, b"late"))
    kernel.say((ERROR, 0, 101, ACK))
    assert kernel.netlink.batch([REQUEST]) == {}
    kernel.say((16, 0, 101, b"old "), (16, 0, 102, b"new "))
    assert kernel.netlink.get([REQUEST]) == [Reply(16, b"new ")]


def test_a_lost_reply_is_an_error_in_time(kernel: Kernel) -> None:
    with pytest.raises(KernelError, match="a netlink reply was lost") as caught:
        kernel.netlink.batch([REQUEST])
    assert caught.value.code == errno.ETIMEDOUT


def test_a_lost_answer_is_an_error_in_time(kernel: Kernel) -> None:
    kernel.say((16, 0, 1, b"one"))
    with pytest.raises(KernelError, match="ETIMEDOUT"):
        kernel.netlink.get([REQUEST, REQUEST])


def test_after_a_lost_reply_the_next_request_is_answered(kernel: Kernel) -> None:
    with pytest.raises(KernelError):
        kernel.netlink.batch([REQUEST])
    kernel.say((ERROR, 0, 1, ACK))
    kernel.say((ERROR, 0, 2, refusal(errno.EEXIST)))
    assert kernel.netlink.batch([REQUEST])[0].code == errno.EEXIST


def test_answers_may_come_in_any_order(kernel: Kernel) -> None:
    kernel.say((16, 0, 2, b"two"))
    kernel.say((ERROR, 0, 3, refusal(errno.ENOENT)), (16, 0, 1, b"one"))
    one, two, three = kernel.netlink.get([REQUEST] * 3)
    assert (one, two) == (Reply(16, b"one"), Reply(16, b"two"))
    assert isinstance(three, KernelError)


def test_of_what_is_made_the_numbers_come_back_or_why_not(route: Netlink) -> None:
    nothing = Message(1, 0, b"")  # NLMSG_NOOP
    pairs = [(UNKNOWN if n % 3 == 1 else nothing, rtnl.link_get("lo" if n % 3 else "none")) for n in range(90)]
    for number, found in enumerate(route.make(pairs)):
        expected = (errno.ENODEV, errno.EOPNOTSUPP, None)[number % 3]
        assert (found.code if isinstance(found, KernelError) else None) == expected
    assert route.sent == 90
    assert route.make([]) == []


def test_what_is_made_and_what_is_asked_are_one_message_each(kernel: Kernel) -> None:
    kernel.say((ERROR, 0, 1, refusal(errno.EEXIST)), (16, 0, 2, b"old "), (16, 0, 4, b"new "))
    refused, made = kernel.netlink.make([(REQUEST, REQUEST)] * 2)
    assert isinstance(refused, KernelError)
    assert made == Reply(16, b"new ")
    assert kernel.heard() == [(16, 1, number) for number in (1, 2, 3, 4)]


def test_an_acknowledgement_is_no_answer(kernel: Kernel) -> None:
    kernel.say((ERROR, 0, 1, ACK))
    (found,) = kernel.netlink.get([REQUEST])
    assert isinstance(found, KernelError)
    assert found.code == errno.EPROTO


def test_nothing_asked_is_nothing_sent(kernel: Kernel) -> None:
    assert kernel.netlink.batch([]) == {}
    assert kernel.netlink.get([]) == []
    kernel.netlink.transaction(REQUEST, [], REQUEST)


def dumped(kernel: Kernel) -> list[bytes]:
    return [reply.payload for reply in kernel.netlink.dump(18, b"")]


def test_a_dump_ends_with_done(kernel: Kernel) -> None:
    kernel.say((16, 2, 1, b"one "), (16, 2, 1, b"two "))
    kernel.say((16, 2, 1, b"3   "), (DONE, 2, 1, bytes(4)))
    assert dumped(kernel) == [b"one ", b"two ", b"3   "]


def test_a_dump_under_which_the_table_changed_says_so_at_its_end(kernel: Kernel) -> None:
    kernel.say((16, 2 | INTERRUPTED, 1, b"one "), (DONE, 2, 1, bytes(4)))
    with pytest.raises(KernelError, match="EAGAIN"):
        dumped(kernel)


def test_a_dump_may_fail_in_the_middle(kernel: Kernel) -> None:
    kernel.say((16, 2, 1, b"one "))
    kernel.say((ERROR, 0, 1, refusal(errno.EPERM)))
    with pytest.raises(KernelError, match="EPERM"):
        dumped(kernel)


def test_a_dump_may_fail_at_its_end(kernel: Kernel) -> None:
    kernel.say((DONE, 2, 1, struct.pack("=i", -errno.EMSGSIZE)))
    with pytest.raises(KernelError, match="EMSGSIZE"):
        dumped(kernel)


def test_of_other_dumps_nothing_is_taken(kernel: Kernel) -> None:
    kernel.netlink._sequence = 4
    kernel.say((16, 2, 4, b"old "), (DONE, 2 | INTERRUPTED, 4, bytes(4)))
    kernel.say((16, 2, 5, b"new "), (DONE, 2, 5, bytes(4)))
    assert dumped(kernel) == [b"new "]


BEGIN, END = Message(0x10, 0, b"bgin"), Message(0x11, 0, b"end ")


def test_of_a_transaction_the_last_change_is_to_be_acknowledged(kernel: Kernel) -> None:
    kernel.say((ERROR, 0, 3, ACK))
    kernel.netlink.transaction(BEGIN, [Message(16, 0, b"one "), Message(16, 0, b"two ")], END)
    assert kernel.heard() == [(0x10, 1, 1), (16, 1, 2), (16, 5, 3), (0x11, 1, 4)]
    assert kernel.netlink.sent == 2


@pytest.mark.parametrize("sequence", [1, 2, 3, 4])
def test_a_refused_transaction_raises_the_first_error(kernel: Kernel, sequence: int) -> None:
    kernel.say((ERROR, 0, sequence, refusal(errno.ENOENT)), (ERROR, 0, 4, refusal(errno.EINVAL)))
    with pytest.raises(KernelError, match="ENOENT"):
        kernel.netlink.transaction(BEGIN, [Message(16, 0, b"one "), Message(16, 0, b"two ")], END)


def test_what_is_left_of_a_refused_transaction_is_thrown_away(kernel: Kernel) -> None:
    kernel.say((ERROR, 0, 2, refusal(errno.ENOENT)))
    kernel.say((ERROR, 0, 2, refusal(errno.EINVAL)))
    with pytest.raises(KernelError):
        kernel.netlink.transaction(BEGIN, [Message(16, 0, b"one ")], END)
    with pytest.raises(BlockingIOError):
        kernel.netlink._socket.recv(100, socket.MSG_DONTWAIT)


class Overrun:
    """A socket whose receive buffer ran over."""

    def send(self, data: bytes) -> int:
        return len(data)

    def recv_into(self, buffer: memoryview) -> int:
        raise OSError(errno.ENOBUFS, "No buffer space available")

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize("act", ["batch", "dump"])
def test_replies_for_which_there_was_no_room_are_an_error(kernel: Kernel, act: str) -> None:
    kernel.netlink.close()
    kernel.netlink._socket = Overrun()  # type: ignore[assignment]
    with pytest.raises(KernelError, match="ENOBUFS"):
        list(kernel.netlink.batch([REQUEST]) if act == "batch" else kernel.netlink.dump(18, b""))


def test_lost_events_are_told_by_the_kernel_s_error() -> None:
    sock = EventSocket(rtnl.NETLINK_ROUTE)
    sock.close()
    sock._socket = Overrun()  # type: ignore[assignment]
    with pytest.raises(OSError, match="No buffer space"):
        sock.receive()


# -- errors ----------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_is_no_error() -> None:
    assert error_in(0, ACK) is None


def test_an_error_has_a_name_and_a_sentence() -> None:
    error = error_in(TLVS | CAPPED, refusal(errno.EINVAL) + string(1, "Tunnel or session not found"))
    assert error
    assert str(error) == "Invalid argument (EINVAL): Tunnel or session not found"


def test_the_sentence_stands_behind_the_request_where_that_is_sent_back() -> None:
    request = HEADER.pack(16 + 6, 16, 0, 1, 0) + b"sixsix" + bytes(2)
    error = error_in(TLVS, struct.pack("=i", -errno.EINVAL) + request + string(1, "no"))
    assert error
    assert error.detail == "no"


def test_an_error_without_a_sentence_has_none() -> None:
    error = error_in(CAPPED, refusal(errno.EPERM))
    assert error
    assert (error.code, error.errno, error.detail) == (errno.EPERM, errno.EPERM, "")
    assert str(error) == "Operation not permitted (EPERM)"


@pytest.mark.parametrize("code", [-(2**31), 4096, -1])
def test_a_number_that_is_no_error_is_one_all_the_same(code: int) -> None:
    error = error_in(0, struct.pack("=i", code if code != 4096 else -4096) + bytes(16))
    assert error
    assert error.code in (errno.EPROTO, errno.EPERM)


# -- attributes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (u8(1, 255), "05000100ff000000"),
        (u16(2, 0x1234), "0600020034120000"),
        (u32(3, 0x12345678), "0800030078563412"),
        (u64(4, 1), "0c0004000100000000000000"),
        (flag(5), "04000500"),
        (string(6, "eth0"), "090006006574683000000000"),
        (attr(7, b""), "04000700"),
        (attr(7, b"abcd"), "0800070061626364"),
        (attr(0x8007, b"a"), "0500078061000000"),
    ],
)
def test_attributes_are_padded_to_four_bytes(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_sequence_numbers_begin_anew_before_they_run_out(route: Netlink) -> None:
    route._sequence = 0xFFFFFFFF - 5
    question = rtnl.link_get("lo")
    assert set(route.batch([question, UNKNOWN] * 4)) == {1, 3, 5, 7}
    route._sequence = 0xFFFFFFFF - 1
    assert all(isinstance(reply, Reply) for reply in route.get([question] * 3))
    route._sequence = 0xFFFFFFFF
    assert list(route.dump(*rtnl.link_dump()))


# -- what is packed already ------------------------------------------------------------------------------------------


def packed(*requests: Message) -> bytes:
    """A block of requests without numbers."""
    return b"".join(HEADER.pack(16 + len(m.payload), m.type, m.flags | 1, 0, 0) + m.payload for m in requests)


def test_failures_in_blocks_are_attributed(route: Netlink) -> None:
    question = rtnl.link_get("lo")
    assert len(question.payload) % 4 == 0
    unknown = UNKNOWN._replace(payload=bytes(len(question.payload)))
    good, bad = packed(question, question, question), packed(question, unknown, question)
    offsets = [0, len(good) // 3, 2 * len(good) // 3]
    blocks = [bad if number % 4 == 0 else good for number in range(BATCH)]
    failures = route.blocks(blocks, offsets)
    assert set(failures) == {3 * number + 1 for number in range(0, BATCH, 4)}
    assert {error.code for error in failures.values()} == {errno.EOPNOTSUPP}
    assert route.sent == 3 * BATCH


def test_blocks_are_sent_as_a_batch_of_the_same_requests_is(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []

    def change(self: Netlink, data: bytes, *_: object) -> None:
        sent.append(bytes(data))

    monkeypatch.setattr(Netlink, "_change", change)
    requests = [Message(100 + number, 0x200, bytes([number]) * 8 * (1 + number % 2)) for number in range(6)]
    with Netlink(rtnl.NETLINK_ROUTE) as sock:
        sock.batch(requests)
        sock._sequence = 0
        sock.blocks([packed(*requests[n : n + 2]) for n in (0, 2, 4)], [0, 16 + len(requests[0].payload)])
    assert sent[0] == sent[1]


def test_no_blocks_are_nothing(route: Netlink) -> None:
    assert route.blocks([], [0]) == {}
    assert route.sent == 0
