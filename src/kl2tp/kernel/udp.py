"""UDP sockets of L2TP: those that listen, and the connected one of each tunnel.

The kernel gives a datagram to the socket that fits best: so the listening socket hears strangers, and a tunnel's own
socket its peer. What comes to a tunnel's socket and is no data for a session of the kernel's is passed up.
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
import threading
from collections.abc import Sequence
from typing import Final, TypeAlias

from kl2tp.kernel import netns, xfrm
from kl2tp.kernel.clients import BY_PORT
from kl2tp.kernel.many import MSG_TRUNC, Header, Message, Vector, recvmmsg, sendmmsg
from kl2tp.kernel.netlink import KernelError
from kl2tp.model.addr import family, parse, text
from kl2tp.model.objects import Direction

Peer: TypeAlias = tuple[bytes, int]
"""Packed address, port."""
Stray: TypeAlias = tuple[bytes, Peer, int]
"""Data, sender, and the mark of the packet: what IPsec or nftables put on it, 0 if nothing did."""
_COUNT: Final = 64
"""Datagrams received at once, at most."""
_SIZE: Final = 4096
"""Bytes; longer ones are dropped: no control message and no PPP frame of a negotiation is."""
_NAME, _CONTROL = 32, 128
"""Bytes for the sender's address, and for what the kernel tells about a datagram."""
_IP_PKTINFO, _IPV6_RECVPKTINFO, _IPV6_PKTINFO = 8, 49, 50
_SO_MARK, _SO_RCVBUFFORCE, _SO_RCVMARK, _SO_INCOMING_CPU = 36, 33, 75, 49
_XFRM_POLICY = {
    socket.AF_INET: (socket.IPPROTO_IP, 17),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 35),
}
"""Level and name of the option that is a socket's own IPsec policy."""
_RECEIVE_BUFFER = 8 << 20
_TRIES = 16
_PORT = struct.Struct("!H")
_CMSG, _CMSG_ALIGN = struct.Struct("@Nii"), ctypes.sizeof(ctypes.c_size_t)
_MARK = struct.Struct("=I")


class _Slots(threading.local):
    """Room for datagrams with their senders, one set for all sockets of a thread."""

    def __init__(self) -> None:
        self._data = ctypes.create_string_buffer(_COUNT * _SIZE)
        self._names = ctypes.create_string_buffer(_COUNT * _NAME)
        self._control = ctypes.create_string_buffer(_COUNT * _CONTROL)
        data, names, control = (ctypes.addressof(b) for b in (self._data, self._names, self._control))
        self._vectors = (Vector * _COUNT)(*(Vector(data + n * _SIZE, _SIZE) for n in range(_COUNT)))
        self._messages = (Message * _COUNT)()
        for n, message in enumerate(self._messages):
            message.header = Header(
                names + n * _NAME, _NAME, ctypes.pointer(self._vectors[n]), 1, control + n * _CONTROL, _CONTROL, 0
            )
        self._fresh = bytes(self._messages)
        """The headers before the kernel wrote lengths into them."""
        self._used = 0

    def receive(self, descriptor: int, limit: int) -> list[tuple[bytes, Peer, bytes, int]]:
        """(data, sender, local address if told, mark if told) of what waits; [] if nothing does. Raises OSError."""
        messages = self._messages
        if self._used:
            ctypes.memmove(messages, self._fresh, self._used * ctypes.sizeof(Message))
        self._used = count = recvmmsg(descriptor, messages, min(limit, _COUNT), socket.MSG_DONTWAIT, None)
        if count < 0:
            self._used = 0
            if (code := ctypes.get_errno()) in (errno.EAGAIN, errno.EINTR):
                return []
            raise OSError(code, os.strerror(code))
        data, names = memoryview(self._data).cast("B"), memoryview(self._names).cast("B")
        found = []
        for n in range(count):
            header = messages[n].header
            if header.flags & MSG_TRUNC or not messages[n].length:
                continue
            start = n * _SIZE
            local, mark = self._told(n * _CONTROL, header.control_length) if header.control_length else (b"", 0)
            found.append((bytes(data[start : start + messages[n].length]), _sender(names, n * _NAME), local, mark))
        return found

    def _told(self, start: int, length: int) -> tuple[bytes, int]:
        """(local address, mark) from the control messages of a datagram."""
        local, mark = b"", 0
        control = memoryview(self._control).cast("B")
        offset, end = start, start + length
        while offset + _CMSG.size <= end:
            size, level, kind = _CMSG.unpack_from(control, offset)
            if size < _CMSG.size:
                break
            data = bytes(control[offset + _CMSG.size : offset + size])
            if (level, kind) == (socket.IPPROTO_IP, _IP_PKTINFO):
                local = data[8:12]
            elif (level, kind) == (socket.IPPROTO_IPV6, _IPV6_PKTINFO):
                local = data[:16]
            elif (level, kind) == (socket.SOL_SOCKET, _SO_MARK):
                mark = _MARK.unpack(data)[0]
            offset += size + (-size % _CMSG_ALIGN)
        return local, mark


def _sender(names: memoryview, start: int) -> Peer:
    """From a struct sockaddr_in or sockaddr_in6."""
    port = _PORT.unpack_from(names, start + 2)[0]
    if names[start : start + 2] == _INET:
        return bytes(names[start + 4 : start + 8]), port
    return bytes(names[start + 8 : start + 24]), port


_INET = struct.pack("=H", socket.AF_INET)
_slots = _Slots()
_SOCKADDR, _SOCKADDR6 = struct.Struct("=H2s4s8x"), struct.Struct("=H2s4x16s4x")
_PKTINFO, _PKTINFO6 = struct.Struct("@Niii4s4x4x"), struct.Struct("@Nii16si4x")
"""A control message with a struct in_pktinfo or in6_pktinfo in it, padded."""
_PKTINFO_LENGTH, _PKTINFO6_LENGTH = 28, 36
_VECTOR = struct.Struct("=QQ")
_HEADER = struct.Struct("=QIxxxxQQQQIxxxxIxxxx")
"""A struct mmsghdr: name, its length, vectors, how many, control, its length, flags, bytes sent."""


class _Outbox(threading.local):
    """Room for datagrams that leave together."""

    def __init__(self) -> None:
        self._headers = bytearray(_COUNT * _HEADER.size)
        self._vectors = bytearray(_COUNT * _VECTOR.size)
        self._names = bytearray(_COUNT * _NAME)
        self._control = bytearray(_COUNT * _CONTROL)
        parts = (self._headers, self._vectors, self._names, self._control)
        self._at = tuple(ctypes.addressof(ctypes.c_char.from_buffer(part)) for part in parts)

    def send(self, descriptor: int, datagrams: Sequence[tuple[bytes, Peer, Peer]], *, told: bool) -> int:
        """Send (data, peer, local), at most _COUNT; how many were not taken. `told`: the local address is not the
        socket's own, and is told to the kernel."""
        headers, vectors, names, control = self._at
        pointers = [ctypes.c_char_p(data) for data, _, _ in datagrams]
        for n, (data, peer, local) in enumerate(datagrams):
            ipv6 = len(peer[0]) == 16
            address = _SOCKADDR6 if ipv6 else _SOCKADDR
            number = socket.AF_INET6 if ipv6 else socket.AF_INET
            address.pack_into(self._names, n * _NAME, number, _PORT.pack(peer[1]), peer[0])
            size = self._tell(n, local[0], ipv6=ipv6) if told else 0
            where = ctypes.cast(pointers[n], ctypes.c_void_p).value
            _VECTOR.pack_into(self._vectors, n * _VECTOR.size, where, len(data))
            _HEADER.pack_into(
                self._headers,
                n * _HEADER.size,
                *(names + n * _NAME, address.size, vectors + n * _VECTOR.size, 1),
                *(control + n * _CONTROL if size else 0, size, 0, 0),
            )
        return self._push(descriptor, headers, len(datagrams))

    def _tell(self, n: int, local: bytes, *, ipv6: bool) -> int:
        """Write down from which address a datagram leaves; the length of that."""
        if ipv6:
            what = (_PKTINFO6_LENGTH, socket.IPPROTO_IPV6, _IPV6_PKTINFO, local, 0)
            _PKTINFO6.pack_into(self._control, n * _CONTROL, *what)
            return _PKTINFO6.size
        _PKTINFO.pack_into(
            self._control, n * _CONTROL, _PKTINFO_LENGTH, socket.IPPROTO_IP, _IP_PKTINFO, 0, local
        )
        return _PKTINFO.size

    @staticmethod
    def _push(descriptor: int, headers: int, count: int) -> int:
        done = lost = 0
        while done < count:
            at = ctypes.c_void_p(headers + done * _HEADER.size)
            sent = sendmmsg(descriptor, at, count - done, socket.MSG_DONTWAIT)
            if sent <= 0:  # the first of them could not be sent
                sent, lost = 1, lost + 1
            done += sent
        return lost


_outbox = _Outbox()


class Listener:
    """A socket that hears everybody who has no tunnel yet."""

    __slots__ = ("_any", "_local", "_reqid", "_socket")

    def __init__(self, address: bytes, port: int, netns_name: str = "") -> None:
        """An address of zeros is any. Raises KernelError, NoNamespace."""
        self._any = not any(address)
        self._socket = _udp_socket(address, netns_name)
        try:
            _set_up(self._socket, address, any_address=self._any)
            self._socket.bind((text(address), port))
        except OSError as error:
            self._socket.close()
            raise _explained(error, f"listening at {text(address)} port {port}") from None
        self._local = (address, int(self._socket.getsockname()[1]))
        self._reqid = 0
        """Of the SAs that protect what is sent, by the socket's policy of the moment."""

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def drain(self, limit: int = _COUNT) -> list[tuple[bytes, Peer, Peer]]:
        """(data, sender, receiver) of what waits, some 64 at most."""
        return [(data, peer, local) for data, peer, local, _ in self.drain_marked(limit)]

    def drain_marked(self, limit: int = _COUNT) -> list[tuple[bytes, Peer, Peer, int]]:
        """(data, sender, receiver, mark): the mark is what IPsec or nftables put on the packet, 0 if nothing did."""
        address, port = self._local
        try:
            found = _slots.receive(self._socket.fileno(), limit)
        except OSError:  # an ICMP error about something that was sent, told once
            return []
        return [(data, peer, (local or address, port), mark) for data, peer, local, mark in found]

    def send_many(self, datagrams: Sequence[tuple[bytes, Peer, Peer]], reqid: int = 0) -> int:
        """Send (data, peer, local); how many could not be sent.

        `reqid`: by SAs with this one and no other way; 0: as the policies of the host say.
        """
        if not self._protected_by(reqid):
            return len(datagrams)
        lost = 0
        for start in range(0, len(datagrams), _COUNT):
            lost += _outbox.send(self._socket.fileno(), datagrams[start : start + _COUNT], told=self._any)
        return lost

    def _protected_by(self, reqid: int) -> bool:
        """Have what is sent from now on protected by SAs with this reqid; False if the kernel refuses that."""
        if reqid != self._reqid:
            try:
                set_policy(self._socket, Direction.OUT, reqid)
            except OSError:
                return False
            self._reqid = reqid
        return True

    def send(self, data: bytes, peer: Peer, local: Peer, reqid: int = 0) -> None:
        """Send from an address of this socket's, `reqid` as above. Raises OSError."""
        if not self._protected_by(reqid):
            raise OSError(errno.EPERM, "the policy of the socket could not be changed")
        target = (text(peer[0]), peer[1])
        if not self._any:
            self._socket.sendto(data, target)
        elif len(local[0]) == 4:
            told = struct.pack("=i4s4x", 0, local[0])
            self._socket.sendmsg([data], [(socket.IPPROTO_IP, _IP_PKTINFO, told)], 0, target)
        else:
            told = struct.pack("=16si", local[0], 0)
            self._socket.sendmsg([data], [(socket.IPPROTO_IPV6, _IPV6_PKTINFO, told)], 0, target)


def _udp_socket(address: bytes, netns_name: str = "") -> socket.socket:
    with netns.entered(netns_name):
        sock = socket.socket(family(address), socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # all tunnels are at the same address and port
    return sock


def _set_up(sock: socket.socket, address: bytes, *, any_address: bool) -> None:
    ipv6 = len(address) == 16
    if ipv6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    if any_address:
        level, option = (socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO) if ipv6 else (socket.IPPROTO_IP, _IP_PKTINFO)
        sock.setsockopt(level, option, 1)
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RECEIVE_BUFFER)
    except PermissionError:  # without CAP_NET_ADMIN: as much as the sysctl allows
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    _tell_marks(sock)


def _tell_marks(sock: socket.socket) -> None:
    """Have the kernel tell the mark of each packet that is received."""
    with contextlib.suppress(OSError):  # before 5.19 the kernel does not know it
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVMARK, 1)


def set_policy(sock: socket.socket, direction: Direction, reqid: int) -> None:
    """Have all that a socket sends, or takes, protected by an SA with this reqid, which the kernel's own L2TP data
    obey too; 0: the host's policies decide. They are asked only where a socket has none of its own. Raises OSError."""
    level, option = _XFRM_POLICY[socket.AddressFamily(sock.family)]
    if reqid:
        sock.setsockopt(level, option, xfrm.socket_policy(reqid, direction, sock.family))
    else:
        sock.setsockopt(level, option, None, 0)


def open_connected(local: Peer, remote: Peer, mark: int = 0, reqid: int = 0) -> socket.socket:
    """A socket for one peer, in the thread's namespace. An empty local address: the route's. Raises KernelError.

    With a reqid it sends by SAs with this one and no other way, and tells marks; see `receive`.
    Between `bind` and `connect` it receives what strangers send to that address and port: see `strays`.
    """
    sock = _udp_socket(remote[0])
    try:
        if mark:
            sock.setsockopt(socket.SOL_SOCKET, _SO_MARK, mark)
        if reqid:
            _tell_marks(sock)
            set_policy(sock, Direction.OUT, reqid)
        if local[0] or local[1]:
            sock.bind((text(local[0]) if local[0] else "", local[1]))
        sock.connect((text(remote[0]), remote[1]))
        if reqid and BY_PORT:  # only now: what strangers sent meanwhile is for others
            set_policy(sock, Direction.IN, reqid)
    except OSError as error:
        sock.close()
        ends = f"{text(local[0]) or 'any'} port {local[1]} to {text(remote[0])} port {remote[1]}"
        raise _explained(error, f"a socket from {ends}") from None
    return sock


def reconnect(sock: socket.socket, remote: Peer) -> None:
    """Have a tunnel's socket speak to its peer at another address or port from now on; the kernel's data follow.

    Raises KernelError; then nothing has changed.
    """
    try:
        sock.connect((text(remote[0]), remote[1]))
    except OSError as error:
        raise _explained(error, f"a socket to {text(remote[0])} port {remote[1]}") from None


def outrank(sock: socket.socket, older: socket.socket) -> None:
    """Of two sockets with the same four ends have the newer one get what comes.

    It would by itself, but the kernel first takes one whose last packet came to the same processor.
    """
    cpu = older.getsockopt(socket.SOL_SOCKET, _SO_INCOMING_CPU)
    if cpu >= 0:
        sock.setsockopt(socket.SOL_SOCKET, _SO_INCOMING_CPU, cpu)


def receive(sock: socket.socket, limit: int = _COUNT) -> list[Stray]:
    """(data, sender, mark) of what waits at a connected socket. Raises OSError."""
    return [(data, peer, mark) for data, peer, _, mark in _slots.receive(sock.fileno(), limit)]


def strays(sock: socket.socket) -> list[Stray]:
    """What a connected socket has received until now, from whomever."""
    found: list[Stray] = []
    for _ in range(_TRIES):
        try:
            more = receive(sock)
        except OSError:  # an ICMP error, told once
            continue
        found += more
        if len(more) < _COUNT:
            break
    return found


def source_for(remote: Peer) -> bytes:
    """The address from which packets to a peer would leave. Raises KernelError."""
    with open_connected((b"", 0), remote) as sock:
        return parse(sock.getsockname()[0])


def _explained(error: OSError, what: str) -> KernelError:
    return KernelError(error.errno or errno.EIO, what)
