"""The floor: the very messages of kl2tp's own run, packed beforehand and sent blindly, one acknowledgement a batch."""

import fcntl
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from kl2tp.kernel.netlink import HEADER, NLM_F_ACK, NLM_F_REQUEST, Message, Netlink, error_in, messages

BATCH = 200
"""Messages in one send(): more gains nothing more."""
_ERROR = 2
_ADDED = NLM_F_REQUEST | NLM_F_ACK
"""Flags that come with the packing."""
_SIOCGSKNS = 0x894C


@dataclass(slots=True)
class Recording:
    """Changes in the order in which they were sent, with the protocol of their socket."""

    sent: list[tuple[int, int, Message]] = field(default_factory=list)
    """(protocol, number of the transaction or 0, message)."""
    transactions: int = 0

    def __enter__(self) -> "Recording":
        self._change, self._transaction = Netlink._change, Netlink.transaction
        recording = self

        def change(self: Netlink, data: bytes | bytearray, *numbers: Any) -> None:
            requests = [Message(kind, flags & ~_ADDED, payload) for kind, flags, _, _, payload in messages(bytes(data))]
            recording.note(self, requests, 0)
            recording._change(self, data, *numbers)

        def transaction(self: Netlink, begin: Message, requests: Iterable[Message], end: Message) -> None:
            recording.transactions += 1
            requests = list(requests)
            recording.note(self, (begin, *requests, end), recording.transactions)
            recording._transaction(self, begin, requests, end)

        Netlink._change, Netlink.transaction = change, transaction  # type: ignore[method-assign,assignment]
        return self

    _change: Callable[..., None] = field(init=False)
    _transaction: Callable[[Netlink, Message, Iterable[Message], Message], None] = field(init=False)

    def __exit__(self, *_: object) -> None:
        Netlink._change, Netlink.transaction = self._change, self._transaction  # type: ignore[method-assign,assignment]

    def note(self, netlink: Netlink, requests: Iterable[Message], transaction: int) -> None:
        if not _in_our_namespace(netlink):
            return  # a scratch namespace, in which the kernel's abilities are tried out
        protocol = netlink._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
        self.sent += [(protocol, transaction, request) for request in requests]


def _in_our_namespace(netlink: Netlink) -> bool:
    namespace = fcntl.ioctl(netlink._socket, _SIOCGSKNS)
    try:
        return os.fstat(namespace).st_ino == os.stat("/proc/self/ns/net").st_ino
    finally:
        os.close(namespace)


@dataclass(frozen=True, slots=True)
class Packed:
    """One send()."""

    protocol: int
    data: bytes
    last: int
    """The sequence number that is acknowledged."""


def pack(recording: Recording) -> list[Packed]:
    """Everything ready for send(): neighbours that go to the same socket travel together."""
    result = []
    for (protocol, transaction), group in groupby(recording.sent, key=lambda entry: entry[:2]):
        requests = [message for _, _, message in group]
        size = len(requests) if transaction else BATCH
        for start in range(0, len(requests), size):
            part = requests[start : start + size]
            result.append(_packed(protocol, part, from_end=2 if transaction else 1))
    return result


def _packed(protocol: int, requests: list[Message], *, from_end: int) -> Packed:
    """`from_end`: which message is acknowledged; of a transaction the one before its end."""
    last = len(requests) - from_end + 1
    out = []
    for seq, (kind, flags, payload) in enumerate(requests, 1):
        flags |= NLM_F_REQUEST | (NLM_F_ACK if seq == last else 0)
        out.append(HEADER.pack(16 + len(payload), kind, flags, seq, 0) + payload + bytes(-len(payload) & 3))
    return Packed(protocol, b"".join(out), last)


def send(packed: list[Packed], sockets: dict[int, Netlink]) -> None:
    """Send all; an error ends it, as nothing would be comparable any more."""
    for batch in packed:
        netlink = sockets[batch.protocol]
        netlink._socket.send(batch.data)
        _await(netlink, batch.last)


def _await(netlink: Netlink, last: int) -> None:
    while True:
        for kind, flags, seq, _, payload in messages(netlink._receive()):
            if kind == _ERROR:
                if error := error_in(flags, payload):
                    raise error
                if seq == last:
                    return


def sockets(packed: list[Packed]) -> dict[int, Netlink]:
    """A socket for each protocol."""
    return {protocol: Netlink(protocol) for protocol in {batch.protocol for batch in packed}}


def totals(recording: Recording) -> dict[str, Any]:
    """Messages and bytes."""
    return {"messages": len(recording.sent), "bytes": sum(len(m.payload) + 16 for *_, m in recording.sent)}
