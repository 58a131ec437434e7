"""An observer of a wire who keeps what he can read of L2TP: the kernel hands him nothing else, so it costs nothing."""

import contextlib
import ctypes
import select
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from kernel.rig.net import Host

_ETH_P_ALL = 3
_ATTACH_FILTER, _RCVBUFFORCE = 26, 33
_SOL_PACKET, _STATISTICS = 263, 6
_BUFFER = 16 << 20

# Classic BPF: all UDP but IKE's ports, where nobody can read anything either way, and protocol 115. (A NAT may change
# one of the ports of IKE, never both.)
_LDH, _LDB, _LDH_X, _LDX, _LDX_IHL, _JA, _JEQ, _JSET, _RET = 0x28, 0x30, 0x48, 0x01, 0xB1, 0x05, 0x15, 0x45, 0x06


class _Step(NamedTuple):
    label: str
    code: int
    operand: int = 0
    yes: str = ""
    """Where to go on; empty: with the next step."""
    no: str = ""


_PROGRAM = (
    _Step("", _LDH, 12),
    _Step("", _JEQ, 0x0800, "ipv4"),
    _Step("", _JEQ, 0x86DD, "ipv6", "drop"),
    _Step("ipv4", _LDB, 23),
    _Step("", _JEQ, socket.IPPROTO_UDP, "first"),
    _Step("", _JEQ, 115, "keep", "drop"),
    _Step("first", _LDH, 20),  # a fragment that is not the first has no ports
    _Step("", _JSET, 0x1FFF, "drop"),
    _Step("", _LDX_IHL, 14),
    _Step("", _JA, yes="ports"),
    _Step("ipv6", _LDX, 40),
    _Step("", _LDB, 20),
    _Step("", _JEQ, socket.IPPROTO_UDP, "ports"),
    _Step("", _JEQ, 115, "keep", "drop"),
    _Step("ports", _LDH_X, 14),
    _Step("", _JEQ, 500, "drop"),
    _Step("", _JEQ, 4500, "drop"),
    _Step("", _LDH_X, 16),
    _Step("", _JEQ, 500, "drop"),
    _Step("", _JEQ, 4500, "drop"),
    _Step("keep", _RET, 0xFFFF),
    _Step("drop", _RET, 0),
)


def _assembled() -> bytes:
    places = {step.label: number for number, step in enumerate(_PROGRAM) if step.label}

    def line(here: int, step: _Step) -> bytes:
        yes, no = (places[label] - here - 1 if label else 0 for label in (step.yes, step.no))
        if step.code == _JA:
            return struct.pack("=HBBI", step.code, 0, 0, yes)
        return struct.pack("=HBBI", step.code, yes, no, step.operand)

    return b"".join(line(*numbered) for numbered in enumerate(_PROGRAM))


def _opened() -> socket.socket:
    """A socket in this namespace that is given only what can be read."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    program = _assembled()
    buffer = ctypes.create_string_buffer(program)
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer)))
    sock.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
    return sock


class Watch:
    """What was in clear on the devices of a namespace."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._clear: list[bytes] = []

    @property
    def clear(self) -> list[bytes]:
        """IP packets that anyone could have read, until now."""
        while self._sock.fileno() >= 0 and select.select([self._sock], [], [], 0)[0]:
            frame, (device, _, way, *_) = self._sock.recvfrom(65536)
            if way != socket.PACKET_OUTGOING and device != "bridge" and _readable(frame[12:]):
                self._clear.append(frame[14:])
        return self._clear

    def close(self) -> None:
        """No more."""
        _ = self.clear
        lost = struct.unpack("=II", self._sock.getsockopt(_SOL_PACKET, _STATISTICS, 8))[1]
        self._sock.close()
        assert not lost, f"{lost} clear packets more than could be kept"

    def assert_never_clear(self) -> None:
        """Not one."""
        assert not self.clear, f"{len(self.clear)} clear packets; the first: {self.clear[0].hex(' ')}"


def _readable(packet: bytes) -> bool:
    """As the program says, for what came before it was there: a packet that begins with its EtherType."""
    kind, data = int.from_bytes(packet[:2]), packet[2:]
    if kind not in (0x0800, 0x86DD):
        return False
    protocol, body = (data[9], data[(data[0] & 15) * 4 :]) if kind == 0x0800 else (data[6], data[40:])
    if protocol != socket.IPPROTO_UDP:
        return protocol == 115
    return not {500, 4500} & set(struct.unpack_from("!HH", body))


@contextlib.contextmanager
def watched(host: Host) -> Iterator[Watch]:
    """All that passes through a namespace while the block runs: that of a wire, or of a router."""
    with host.entered():
        watch = Watch(_opened())
    try:
        yield watch
    finally:
        watch.close()


@contextlib.contextmanager
def never_clear(*hosts: Host) -> Iterator[list[Watch]]:
    """While the block runs, nobody can read anything there."""
    with contextlib.ExitStack() as stack:
        watches = [stack.enter_context(watched(host)) for host in hosts]
        yield watches
        for watch in watches:
            watch.assert_never_clear()
