"""What goes over the wires, seen by the router."""

import ctypes
import socket
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Self

from demo.network import ROUTER
from kl2tp.kernel import netns

TUNNEL_PORTS = (1701, 20002)
"""UDP ports of the protected tunnels."""
CLEAR_PORT = 30003
"""UDP port of the tunnel without IPsec."""

_ETH_ALL, _ETH_IPV4 = 3, 0x0800
L2TP = 115
"""IP protocol number."""
_ESP, _UDP, _ICMP, _TCP = 50, 17, 1, 6
_SOL_PACKET, _STATISTICS = 263, 6
_ATTACH_FILTER, _RCVBUFFORCE = 26, 33
_LOAD_HALF, _LOAD_BYTE, _LOAD_HALF_AT_X, _LENGTH_TO_X = 0x28, 0x30, 0x48, 0xB1
_IF_EQUAL, _ACCEPT = 0x15, 0x06


@dataclass(frozen=True, slots=True)
class Packet:
    """An IPv4 packet as it came by."""

    device: str
    data: bytes

    @property
    def kind(self) -> str:
        """`esp`, `l2tp` (in clear, of a tunnel that must never be) or another protocol's name."""
        protocol = self.data[9]
        if protocol == _UDP:
            ports = struct.unpack_from("!HH", self.data, (self.data[0] & 15) * 4)
            return "l2tp" if set(ports) & set(TUNNEL_PORTS) else "l2tp, the clear one" if CLEAR_PORT in ports else "udp"
        return {_ESP: "esp", L2TP: "l2tp", _ICMP: "icmp", _TCP: "tcp"}.get(protocol, f"protocol {protocol}")

    def line(self) -> str:
        """The packet in one line, as packet sniffers print them."""
        ends = [socket.inet_ntoa(self.data[at : at + 4]) for at in (12, 16)]
        head = (self.data[0] & 15) * 4
        if self.kind == "esp":
            spi, number = struct.unpack_from("!II", self.data, head)
            what = f"ESP spi {spi:#010x} seq {number}"
        else:
            what = self.kind
        start = self.data[head + 8 : head + 24].hex(" ", 4)
        return f"{ends[0]:>12} > {ends[1]:12} {what}, {len(self.data)} bytes: {start} …"


class Capture:
    """Listens on all wires at the router; each packet is seen once, when it comes in."""

    def __init__(self, *, only_clear: bool = False) -> None:
        """`only_clear`: only L2TP of the protected tunnels that is not encrypted, for as long as it may take."""
        with netns.entered(ROUTER):
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.htons(_ETH_ALL)
            )
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 32 << 20)
        if only_clear:
            _attach(self._socket, _clear_l2tp())
            self.packets()  # what was let in before the filter was there

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def packets(self) -> list[Packet]:
        """What came by since the last look. Raises OverflowError if some were missed."""
        found = []
        while True:
            try:
                frame, (device, ethertype, way, *_) = self._socket.recvfrom(65536)
            except BlockingIOError:
                break
            if way != socket.PACKET_OUTGOING and ethertype == _ETH_IPV4:
                found.append(Packet(device, frame[14:]))
        _, missed = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 8))
        if missed:
            raise OverflowError(f"the capture missed {missed} packets")
        return found

    def counts(self) -> Counter[str]:
        """How many of each kind came by since the last look."""
        return Counter(packet.kind for packet in self.packets())


def _clear_l2tp() -> list[tuple[int, int, int, int]]:
    """A classic BPF program: IPv4 with protocol 115, or UDP from or to a port of the protected tunnels."""
    ports = [(_IF_EQUAL, port) for port in TUNNEL_PORTS]
    program: list[tuple[int, int | str, int | str, int]] = [
        (_LOAD_HALF, 0, 0, 12),
        (_IF_EQUAL, 0, "no", _ETH_IPV4),
        (_LOAD_BYTE, 0, 0, 23),
        (_IF_EQUAL, "yes", 0, L2TP),
        (_IF_EQUAL, 0, "no", _UDP),
        (_LENGTH_TO_X, 0, 0, 14),
        (_LOAD_HALF_AT_X, 0, 0, 14),
        *((code, "yes", 0, port) for code, port in ports),
        (_LOAD_HALF_AT_X, 0, 0, 16),
        *((code, "yes", 0, port) for code, port in ports),
        (_ACCEPT, 0, 0, 0),
        (_ACCEPT, 0, 0, 0xFFFF),
    ]
    targets = {"no": len(program) - 2, "yes": len(program) - 1}

    def jump(here: int, where: int | str) -> int:
        return targets[where] - here - 1 if isinstance(where, str) else where

    return [(code, jump(at, yes), jump(at, no), value) for at, (code, yes, no, value) in enumerate(program)]


def _attach(sock: socket.socket, program: list[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    head = struct.pack("@HP", len(program), ctypes.addressof(code))
    sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, head)
