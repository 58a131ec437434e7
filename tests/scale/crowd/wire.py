"""The callers' end of a wire: whole Ethernet frames from any number of addresses, many in each system call."""

import ctypes
import errno
import select
import socket
import struct

from kernel.rig.net import Host
from kl2tp.kernel import rtnl
from kl2tp.kernel.netlink import Message, attr, string, u32
from kl2tp.model.addr import parse
from kl2tp.model.objects import Route

DEVICE = "wire"
SERVER, GATEWAY = "192.0.2.1", "192.0.2.2"
CALLERS = "172.16.0.0"
"""First of a million addresses, /12: all behind the gateway."""
SERVER_MAC, CALLERS_MAC = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 3))
"""The second is not that of the callers' device: so their kernel wastes no time on their packets."""

HEADER = 42
"""Bytes of Ethernet, IPv4 and UDP before what is ours."""
BATCH = 256
_SLOT = 2048
_MSGHDR = struct.Struct("=QIxxxxQQQQIxxxxIxxxx")
_LENGTH_INDEX, _LENGTH_STEP = 14, 16
"""Where msg_len is among the 32-bit words of a struct mmsghdr."""
_ETH_P_IP = 0x0800
_CREATE = 0x600
_IFINFO_UP = struct.pack("=BBHiII", 0, 0, 0, 0, 1, 1)
_RTM_NEWNEIGH, _NUD_PERMANENT = 28, 0x80
_libc = ctypes.CDLL(None, use_errno=True)


def join(server: Host, callers: Host) -> None:
    """A wire between the two; the server reaches all callers by one gateway, whose MAC it need not ask for."""
    with callers.entered():
        target = open("/proc/thread-self/ns/net", "rb")  # noqa: SIM115
    with target:
        peer = attr(1, bytes(16) + string(3, DEVICE) + u32(28, target.fileno()))  # IFLA_NET_NS_FD
        veth = attr(18, string(1, "veth") + attr(2, peer))  # IFLA_LINKINFO
        server.request(rtnl.NETLINK_ROUTE, Message(rtnl.RTM_NEWLINK, _CREATE, _IFINFO_UP + string(3, DEVICE) + veth))
    callers.set_device(DEVICE, mac=bytes((2, 0, 0, 0, 0, 2)))
    server.set_device(DEVICE, mac=SERVER_MAC)
    server.add_address(DEVICE, SERVER, 24)
    index = server.index(DEVICE)
    neighbour = struct.pack("=BxxxiHBB", socket.AF_INET, index, _NUD_PERMANENT, 0, 0)
    neighbour += attr(1, parse(GATEWAY)) + attr(2, CALLERS_MAC)
    route = rtnl.route_add(Route("", 254, parse(CALLERS), 12, 0, parse(GATEWAY)), index)
    static = route._replace(payload=route.payload[:5] + b"\x04" + route.payload[6:])  # not one of kl2tp's
    server.request(rtnl.NETLINK_ROUTE, Message(_RTM_NEWNEIGH, _CREATE, neighbour), static)


class Wire:
    """A packet socket on the callers' device."""

    def __init__(self, callers: Host) -> None:
        with callers.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
            self._socket.bind((DEVICE, _ETH_P_IP))
        for option in (32, 33):  # SO_SNDBUFFORCE, SO_RCVBUFFORCE
            self._socket.setsockopt(socket.SOL_SOCKET, option, 256 << 20)
        self._socket.setblocking(False)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._in, self._out = _Slots(), _Slots()

    def close(self) -> None:
        self._socket.close()

    def wait(self, seconds: float) -> bool:
        """Whether something comes within that time."""
        return bool(self._poll.poll(max(0.0, seconds) * 1000))

    def receive(self) -> list[bytes]:
        """The next frames, at most BATCH."""
        at = ctypes.c_void_p(self._in.messages_at)
        count = _libc.recvmmsg(self._socket.fileno(), at, BATCH, socket.MSG_DONTWAIT, None)
        if count <= 0:
            if (code := ctypes.get_errno()) != errno.EAGAIN:
                raise OSError(code, "recvmmsg")
            return []
        data, lengths = self._in.data, self._in.words
        return [
            bytes(data[slot * _SLOT : slot * _SLOT + lengths[slot * _LENGTH_STEP + _LENGTH_INDEX]])
            for slot in range(count)
        ]

    def send(self, frames: list[bytes]) -> None:
        """Send frames, in order."""
        for start in range(0, len(frames), BATCH):
            self._send(frames[start : start + BATCH])

    def _send(self, frames: list[bytes]) -> None:
        self._out.fill(frames)
        done = 0
        while done < len(frames):
            at = self._out.messages_at + done * _MSGHDR.size
            count = _libc.sendmmsg(self._socket.fileno(), ctypes.c_void_p(at), len(frames) - done, 0)
            if count <= 0:
                raise OSError(ctypes.get_errno(), "sendmmsg")
            done += count

    @property
    def lost(self) -> int:
        """Frames that came and were not taken in time, since last asked."""
        return int(struct.unpack("=II", self._socket.getsockopt(263, 6, 8))[1])  # SOL_PACKET, PACKET_STATISTICS


class _Slots:
    """Memory for BATCH frames, and the structures with which the kernel finds it."""

    def __init__(self) -> None:
        self._memory = bytearray(BATCH * _SLOT)
        self._vectors = bytearray(BATCH * 16)
        self._messages = bytearray(BATCH * _MSGHDR.size)
        self.data = memoryview(self._memory)
        self.words = memoryview(self._messages).cast("I")
        base, vectors = _address(self._memory), _address(self._vectors)
        self.messages_at = _address(self._messages)
        self._sizes = memoryview(self._vectors).cast("Q")
        for slot in range(BATCH):
            struct.pack_into("=QQ", self._vectors, slot * 16, base + slot * _SLOT, _SLOT)
            _MSGHDR.pack_into(self._messages, slot * _MSGHDR.size, 0, 0, vectors + slot * 16, 1, 0, 0, 0, 0)

    def fill(self, frames: list[bytes]) -> None:
        """Put frames in the first slots."""
        data, sizes = self.data, self._sizes
        at = 0
        for slot, frame in enumerate(frames):
            size = len(frame)
            data[at : at + size] = frame
            sizes[slot * 2 + 1] = size
            at += _SLOT


def _address(memory: bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


# -- headers ---------------------------------------------------------------------------------------------------------

_FRAME = struct.Struct("!12sHBBHIBBH4s4sHHHH")


class Path:
    """The headers from one caller to the server."""

    __slots__ = ("_macs", "_port", "_server", "_sum", "address")

    def __init__(self, address: bytes, port: int = 1701) -> None:
        self.address = address
        self._macs, self._server, self._port = SERVER_MAC + CALLERS_MAC, parse(SERVER), port
        words = struct.unpack("!4H", address + self._server)
        self._sum = 0x4500 + 0x4000 + (64 << 8 | 17) + sum(words)

    def wrap(self, data: bytes) -> bytes:
        """A whole frame: Ethernet, IPv4, UDP without checksum, data."""
        size = len(data)
        total = self._sum + size + 28
        total = (total & 0xFFFF) + (total >> 16)
        total = ~(total + (total >> 16)) & 0xFFFF
        head = _FRAME.pack(
            self._macs, _ETH_P_IP, 0x45, 0, size + 28, 0x4000, 64, 17, total,
            self.address, self._server, self._port, 1701, size + 8, 0,
        )  # fmt: skip
        return head + data
