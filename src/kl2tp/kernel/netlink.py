"""Netlink transport: batches, pipelined gets and dumps over one socket, blocking.

A netlink request runs in the kernel inside `send()`, in the caller's thread; so everything here blocks and belongs in a
worker thread, never in an event loop. Many requests travel in one `send()` and only the last asks for an
acknowledgement: the kernel reports failures of the others anyway, each with its sequence number, and it handles every
message even if one before it failed.
"""

import ctypes
import errno
import os
import socket
import struct
import threading
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Self

from kl2tp.kernel.many import Slots

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300
_NLM_F_DUMP_INTR = 0x10
_NLM_F_CAPPED = 0x100
_NLM_F_ACK_TLVS = 0x200
_NLMSG_NOOP, _NLMSG_ERROR, _NLMSG_DONE = 1, 2, 3
_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK, _GET_STRICT_CHK = 1, 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_ATTACH_FILTER = 32, 33, 26
_BPF_LOAD_WORD, _BPF_LOAD_HALF, _BPF_LOAD_BYTE, _BPF_JUMP_EQUAL, _BPF_RETURN = 0x20, 0x28, 0x30, 0x15, 0x06
_DROP = -1
_FILTER_PORTS = 200
"""A jump in a filter goes no farther than 255 instructions."""
_NLMSGERR_ATTR_MSG = 1
_MAX_ERRNO = 4096
_LAST_SEQUENCE = 0xFFFFFFFF

HEADER = struct.Struct("=IHHII")
_BPF = struct.Struct("=HBBI")
_ATTR = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")
_U8 = struct.Struct("=HHBxxx")
_U16 = struct.Struct("=HHHxx")
_U32 = struct.Struct("=HHI")
_U64 = struct.Struct("=HHQ")
_PAD = (b"", b"\0\0\0", b"\0\0", b"\0")

BATCH = 64
"""Messages in one `send()`: enough to hide the system call, few enough not to hold the kernel's locks for long."""
_LEAST_BATCH = 4
_BATCH_S = 0.01
"""How long a batch of changes should take at most."""
_BUFFER = 1 << 17
_REPLY_TIMEOUT_S = 20
"""The kernel answers inside `send()`; waiting at all means that a reply was lost."""


class _Scratch(threading.local):
    """Where datagrams are received, one buffer for all sockets of a thread: hundreds of namespaces need no more."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_BUFFER))


_scratch = _Scratch()
_slots = Slots()


class KernelError(OSError):
    """The kernel refused a request. `errno` says why, `detail` is the kernel's own sentence where it gave one."""

    def __init__(self, code: int, detail: str = "") -> None:
        super().__init__(code, os.strerror(code))
        self.code = code
        self.detail = detail

    def __str__(self) -> str:
        name = errno.errorcode.get(self.code, str(self.code))
        return f"{os.strerror(self.code)} ({name})" + (f": {self.detail}" if self.detail else "")


class Message(NamedTuple):
    """A request before it has a sequence number."""

    type: int
    flags: int
    payload: bytes


class Reply(NamedTuple):
    """A message from the kernel."""

    type: int
    payload: bytes


def attr(kind: int, data: bytes) -> bytes:
    """One attribute: header, data, padding to 4 bytes."""
    size = len(data)
    return _ATTR.pack(size + 4, kind) + data + _PAD[size & 3]


def u8(kind: int, value: int) -> bytes:
    return _U8.pack(5, kind, value)


def u16(kind: int, value: int) -> bytes:
    return _U16.pack(6, kind, value)


def u32(kind: int, value: int) -> bytes:
    return _U32.pack(8, kind, value)


def u64(kind: int, value: int) -> bytes:
    return _U64.pack(12, kind, value)


def flag(kind: int) -> bytes:
    return _ATTR.pack(4, kind)


def string(kind: int, value: str) -> bytes:
    return attr(kind, value.encode() + b"\0")


def attributes(buffer: bytes, offset: int = 0) -> dict[int, bytes]:
    """The attributes from `offset` to the end, by type (flag bits removed); the last of a type wins. Never raises."""
    found: dict[int, bytes] = {}
    end = len(buffer)
    unpack = _ATTR.unpack_from
    while offset + 4 <= end:
        size, kind = unpack(buffer, offset)
        if size < 4 or offset + size > end:
            break
        found[kind & 0x3FFF] = buffer[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found


def attribute_list(buffer: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """Like `attributes`, for nests in which a type repeats."""
    end = len(buffer)
    while offset + 4 <= end:
        size, kind = _ATTR.unpack_from(buffer, offset)
        if size < 4 or offset + size > end:
            return
        yield kind & 0x3FFF, buffer[offset + 4 : offset + size]
        offset += (size + 3) & ~3


def messages(buffer: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """(type, flags, sequence, port id, payload) of each message in a datagram."""
    offset, end = 0, len(buffer)
    while offset + 16 <= end:
        size, kind, flags, seq, pid = HEADER.unpack_from(buffer, offset)
        if size < 16 or offset + size > end:
            return
        yield kind, flags, seq, pid, buffer[offset + 16 : offset + size]
        offset += (size + 3) & ~3


def error_in(flags: int, payload: bytes) -> KernelError | None:
    """The error of an NLMSG_ERROR message; None if it is an acknowledgement."""
    code = -_ERRNO.unpack_from(payload)[0]
    if not code:
        return None
    if not 0 < code < _MAX_ERRNO:
        return KernelError(errno.EPROTO, f"error number {code}")
    detail = ""
    if flags & _NLM_F_ACK_TLVS:
        start = 20 if flags & _NLM_F_CAPPED else 4 + ((HEADER.unpack_from(payload, 4)[0] + 3) & ~3)
        detail = _sentence(payload, start)
    return KernelError(code, detail)


def _sentence(payload: bytes, start: int) -> str:
    """The kernel's own words about an error, in the attributes that begin at `start`."""
    return attributes(payload, start).get(_NLMSGERR_ATTR_MSG, b"").rstrip(b"\0").decode(errors="replace")


def _lost(error: OSError) -> KernelError:
    """What it means that replies cannot be received."""
    if error.errno == errno.EAGAIN:
        return KernelError(errno.ETIMEDOUT, "a netlink reply was lost")
    return KernelError(error.errno or errno.EIO, "netlink replies were lost")  # ENOBUFS: nobody had room for them


class Netlink:
    """A socket for requests. Not for multicast: the kernel would mix both streams."""

    def __init__(self, protocol: int, *, receive_buffer: int = 4 << 20) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            for option, size in ((_SO_RCVBUFFORCE, receive_buffer), (_SO_SNDBUFFORCE, 4 << 20)):
                try:
                    self._socket.setsockopt(socket.SOL_SOCKET, option, size)
                except PermissionError:  # without CAP_NET_ADMIN: as much as the sysctl allows
                    self._socket.setsockopt(socket.SOL_SOCKET, option - 25, size)
            self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
            self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _REPLY_TIMEOUT_S, 0))
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise
        self.port_id: int = self._socket.getsockname()[0]
        self._sequence = 0
        self._batch_size = BATCH
        self.sent = 0
        """Requests that change something, sent so far."""

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> bytes:
        # Into one buffer: a fresh one of this size for each of thousands of small replies costs more than the replies.
        try:
            size = self._socket.recv_into(_scratch.view)
        except OSError as error:
            raise _lost(error) from None
        return bytes(_scratch.view[:size])

    def _receive_many(self) -> list[bytes]:
        """Wait for a reply, and take along those behind it."""
        try:
            return _slots.receive(self._socket.fileno())
        except OSError as error:
            raise _lost(error) from None

    def batch(self, requests: Sequence[Message]) -> dict[int, KernelError]:
        """Send changes; returns the failures by index. A failed request does not stop those after it."""
        failures: dict[int, KernelError] = {}
        start = 0
        while start < len(requests):
            part = requests[start : start + self._batch_size]
            first = self._number(len(part))
            self._change(self._joined(part, first), first, len(part), start, failures)
            start += len(part)
        return failures

    def blocks(self, blocks: Iterable[bytes], offsets: Sequence[int]) -> dict[int, KernelError]:
        """Send changes that are packed, but for their numbers, in blocks that are alike; failures as by `batch`.

        `offsets` say where in each block its messages begin.
        """
        failures: dict[int, KernelError] = {}
        each, base = len(offsets), 0
        iterator = iter(blocks)
        while part := list(islice(iterator, max(1, self._batch_size // each))):
            count = len(part) * each
            first = self._number(count)
            self._change(self._numbered(part, offsets, first), first, count, base, failures)
            base += count
        return failures

    def _number(self, count: int) -> int:
        """The first of so many new sequence numbers: 32 bits, which a long life uses up."""
        if self._sequence + count > _LAST_SEQUENCE:
            self._sequence = 0
        first = self._sequence + 1
        self._sequence += count
        return first

    def _joined(self, requests: Sequence[Message], first: int) -> bytes:
        """Requests one behind the other, of which the last asks for an acknowledgement."""
        last = first + len(requests) - 1
        pack, port = HEADER.pack, self.port_id  # the kernel needs no port id, but puts it into events of XFRM
        out = []
        for seq, (kind, flags, payload) in enumerate(requests, first):
            flags |= NLM_F_REQUEST if seq != last else NLM_F_REQUEST | NLM_F_ACK
            out.append(pack(16 + len(payload), kind, flags, seq, port))
            out.append(payload)
            if pad := -len(payload) & 3:
                out.append(bytes(pad))
        return b"".join(out)

    def _numbered(self, blocks: Sequence[bytes], offsets: Sequence[int], first: int) -> bytearray:
        """The same of blocks: their numbers are filled in, those of all first messages at once, and so on."""
        data = bytearray(b"").join(blocks)
        step, each = len(blocks[0]) // 4, len(offsets)
        with memoryview(data) as view, view.cast("I") as words:
            ports = array("I", [self.port_id]) * len(blocks)
            for number, offset in enumerate(offsets, first):
                words[offset // 4 + 2 :: step] = array("I", range(number, number + len(blocks) * each, each))
                words[offset // 4 + 3 :: step] = ports
        last = len(data) - len(blocks[0]) + offsets[-1]
        size, kind, flags, seq, port = HEADER.unpack_from(data, last)
        HEADER.pack_into(data, last, size, kind, flags | NLM_F_ACK, seq, port)
        return data

    def _change(
        self, data: bytes | bytearray, first: int, count: int, base: int, failures: dict[int, KernelError]
    ) -> None:
        """Send `count` changes that are numbered from `first`; note failures from index `base` on."""
        began, last = self._clock(count), first + count - 1
        self.sent += count
        self._socket.send(data)
        acknowledged = False
        while not acknowledged:
            for kind, flags, seq, _, payload in messages(self._receive()):
                if kind != _NLMSG_ERROR or not first <= seq <= last:
                    continue
                if error := error_in(flags, payload):
                    failures[base + seq - first] = error
                acknowledged |= seq == last
        self._adapt(began)

    @staticmethod
    def _clock(count: int) -> float:
        """When a batch begins; 0.0 for one so small that it tells nothing: reading the clock may be a system call."""
        return time.monotonic() if count > _LEAST_BATCH else 0.0

    def _adapt(self, began: float) -> None:
        """Shorter batches where requests are slow: a uniprocessor kernel does nothing else during one."""
        if not began:
            return
        took = time.monotonic() - began
        if took > _BATCH_S:
            self._batch_size = max(_LEAST_BATCH, self._batch_size // 2)
        elif took < _BATCH_S / 3:
            self._batch_size = min(BATCH, self._batch_size * 2)

    def request(self, message: Message) -> None:
        """One change; raises KernelError."""
        for error in self.batch([message]).values():
            raise error

    def get(self, requests: Sequence[Message]) -> list[Reply | KernelError]:
        """Pipelined reads of single objects: each gives its reply or its error."""
        results: list[Reply | KernelError] = []
        for start in range(0, len(requests), BATCH):
            part = requests[start : start + BATCH]
            found = self._ask(part, len(part))
            results += [found[index] for index in range(len(part))]
        return results

    def make(self, pairs: Sequence[tuple[Message, Message]]) -> list[Reply | KernelError]:
        """Changes, each with the read of what it makes, in one go: the replies to these, or the error of the change."""
        results: list[Reply | KernelError] = []
        while len(results) < len(pairs):
            part = pairs[len(results) : len(results) + self._batch_size]
            began = self._clock(len(part))
            self.sent += len(part)
            found = self._ask([request for pair in part for request in pair], len(part))
            results += [found[n] if n in found else found[n + 1] for n in range(0, 2 * len(part), 2)]
            self._adapt(began)
        return results

    def _ask(self, requests: Sequence[Message], reads: int) -> dict[int, Reply | KernelError]:
        """What came back, by index: of every read something, of what stands between them the failures."""
        every = len(requests) // reads
        first = self._number(len(requests))
        out = []
        for seq, (kind, flags, payload) in enumerate(requests, first):
            out.append(
                HEADER.pack(16 + len(payload), kind, flags | NLM_F_REQUEST, seq, 0) + payload + bytes(-len(payload) & 3)
            )
        self._socket.send(b"".join(out))
        results: dict[int, Reply | KernelError] = {}
        while reads:
            for data in self._receive_many():
                for kind, flags, seq, _, payload in messages(data):
                    index = seq - first
                    if not 0 <= index < len(requests):
                        continue
                    if kind == _NLMSG_ERROR:
                        error = error_in(flags, payload)
                        results[index] = error or KernelError(errno.EPROTO, "acknowledged, not answered")
                    else:
                        results[index] = Reply(kind, payload)
                    reads -= index % every == every - 1
        return results

    def dump(self, kind: int, payload: bytes) -> Iterator[Reply]:
        """All objects of a kind. Raises KernelError; EAGAIN: the table changed meanwhile, entries may be missing."""
        want = self._number(1)
        self._socket.send(HEADER.pack(16 + len(payload), kind, NLM_F_REQUEST | NLM_F_DUMP, want, 0) + payload)
        interrupted = False
        while True:
            for kind_, flags, seq, _, body in messages(self._receive()):
                if seq != want:
                    continue
                interrupted |= bool(flags & _NLM_F_DUMP_INTR)
                if kind_ == _NLMSG_DONE:
                    if len(body) >= 4 and (code := -_ERRNO.unpack_from(body)[0]):
                        raise KernelError(code, _sentence(body, 4))
                    if interrupted:
                        raise KernelError(errno.EAGAIN, "the table changed while it was read")
                    return
                if kind_ == _NLMSG_ERROR:
                    raise error_in(flags, body) or KernelError(errno.EPROTO)
                yield Reply(kind_, body)

    def transaction(self, begin: Message, requests: Iterable[Message], end: Message) -> None:
        """An nfnetlink batch: all or nothing. Raises the first KernelError."""
        requests = list(requests)
        if not requests:
            return  # not every kernel acknowledges an empty batch
        first = self._number(len(requests) + 2)
        out = [
            HEADER.pack(16 + len(payload), kind, flags | NLM_F_REQUEST, seq, 0) + payload
            for seq, (kind, flags, payload) in enumerate((begin, *requests, end), first)
        ]
        # Only the last request proper is acknowledged: errors come anyway, thousands of replies would overflow.
        size, kind, flags, seq, pid = HEADER.unpack_from(out[-2])
        out[-2] = HEADER.pack(size, kind, flags | NLM_F_ACK, seq, pid) + out[-2][16:]
        self.sent += len(requests)
        self._socket.send(b"".join(out))
        last = first + len(requests)
        errors: list[KernelError] = []
        done = False
        while not done:
            for kind, flags, seq, _, payload in messages(self._receive()):
                if kind == _NLMSG_ERROR and first <= seq <= last + 1:
                    if error := error_in(flags, payload):
                        errors.append(error)
                    done |= seq == last or bool(errors)
        if errors:
            self._drain()
            raise errors[0]

    def _drain(self) -> None:
        """Throw away what still waits."""
        try:
            while self._socket.recv(1 << 18, socket.MSG_DONTWAIT):
                pass
        except BlockingIOError:
            return


class EventSocket:
    """A multicast socket for an event loop: non-blocking, never used for requests."""

    def __init__(self, protocol: int, *, receive_buffer: int = 32 << 20) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, protocol
        )
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, receive_buffer)
        except PermissionError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._socket.bind((0, 0))

    def join(self, group: int) -> None:
        """Join a multicast group by number."""
        self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def ignore(self, ports: Iterable[int], *tests: tuple[int, int, int]) -> None:
        """Have the kernel drop what requests from these ports caused: of some two hundred, if they are more.

        A test (type, offset, value) drops messages of a type that have this byte at this offset of their payload.
        """
        # Every jump that finds something goes to the last instruction. The filter reads in network order.
        checks: list[tuple[int, int, int, int]] = []
        for kind, offset, value in tests:
            checks.append((_BPF_LOAD_HALF, 0, 0, 4))
            checks.append((_BPF_JUMP_EQUAL, 0, 2, socket.htons(kind)))
            checks.append((_BPF_LOAD_BYTE, 0, 0, HEADER.size + offset))
            checks.append((_BPF_JUMP_EQUAL, _DROP, 0, value))
        checks.append((_BPF_LOAD_WORD, 0, 0, 12))
        checks += [(_BPF_JUMP_EQUAL, _DROP, 0, socket.htonl(port)) for port in sorted(ports)[-_FILTER_PORTS:]]
        code = [
            _BPF.pack(operation, len(checks) - number if then == _DROP else then, otherwise, operand)
            for number, (operation, then, otherwise, operand) in enumerate(checks)
        ]
        code += [_BPF.pack(_BPF_RETURN, 0, 0, 0xFFFFFFFF), _BPF.pack(_BPF_RETURN, 0, 0, 0)]
        program = ctypes.create_string_buffer(b"".join(code))
        option = struct.pack("@HP", len(code), ctypes.addressof(program))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)

    def receive_many(self) -> list[bytes]:
        """The next datagrams, [] if there are none. Raises OSError ENOBUFS when events were lost."""
        try:
            return _slots.receive(self._socket.fileno())
        except BlockingIOError:
            return []

    def receive(self) -> bytes | None:
        """The next datagram, None if there is none. Raises OSError ENOBUFS when events were lost."""
        try:
            size = self._socket.recv_into(_scratch.view)
        except BlockingIOError:
            return None
        return bytes(_scratch.view[:size])
