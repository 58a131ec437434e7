"""Codec of the generic netlink family `l2tp`. Layouts and traps: Documentation/networking/l2tp.rst."""

import struct

from kl2tp.kernel.netlink import (
    KernelError,
    Message,
    Netlink,
    attr,
    attribute_list,
    attributes,
    flag,
    string,
    u8,
    u16,
    u32,
    u64,
)
from kl2tp.model.objects import Session, Tunnel
from kl2tp.model.spec import Encap

NETLINK_GENERIC = 16
_CTRL, _CTRL_GETFAMILY = 0x10, 3
(
    TUNNEL_CREATE,
    TUNNEL_DELETE,
    TUNNEL_MODIFY,
    TUNNEL_GET,
    SESSION_CREATE,
    SESSION_DELETE,
    SESSION_MODIFY,
    SESSION_GET,
) = range(1, 9)
_PW_TYPE, _ENCAP_TYPE, _L2SPEC_TYPE, _PROTO_VERSION, _IFNAME = 1, 2, 5, 7, 8
_CONN_ID, _PEER_CONN_ID, _SESSION_ID, _PEER_SESSION_ID, _UDP_CSUM = 9, 10, 11, 12, 13
_COOKIE, _PEER_COOKIE, _RECV_SEQ, _SEND_SEQ, _RECV_TIMEOUT, _FD = 15, 16, 18, 19, 22, 23
_IP_SADDR, _IP_DADDR, _UDP_SPORT, _UDP_DPORT, _STATS = 24, 25, 26, 27, 30
_IP6_SADDR, _IP6_DADDR, _UDP_ZERO_CSUM6_TX, _UDP_ZERO_CSUM6_RX = 31, 32, 33, 34
_PW_ETH = 5
_ZERO = b"\0\0\0\0"

STATISTICS = {
    1: "tx_packets",
    2: "tx_bytes",
    3: "tx_errors",
    4: "rx_packets",
    5: "rx_bytes",
    6: "rx_seq_discards",
    7: "rx_out_of_sequence",
    8: "rx_errors",
    10: "rx_cookie_discards",
    11: "rx_invalid",
}

_u16 = struct.Struct("=H")
_u32 = struct.Struct("=I")
_u64 = struct.Struct("=Q")
_GENL = struct.Struct("=BBH")


def resolve(netlink: Netlink, name: str = "l2tp") -> tuple[int, int]:
    """(family id, multicast group) of a generic netlink family. Raises KernelError ENOENT if the kernel lacks it."""
    reply = netlink.get([Message(_CTRL, 0, _GENL.pack(_CTRL_GETFAMILY, 1, 0) + string(2, name))])[0]
    if isinstance(reply, KernelError):
        raise reply
    found = attributes(reply.payload, 4)
    group = 0
    for _, entry in attribute_list(found.get(7, b"")):
        group = _u32.unpack(attributes(entry)[2])[0]
    return _u16.unpack(found[1])[0], group


class Codec:
    """Objects to messages and back. Needs the family's number, which the kernel assigns."""

    def __init__(self, family: int) -> None:
        self.family = family
        self._headers = {command: _GENL.pack(command, 1, 0) for command in range(1, 9)}

    def tunnel_create(self, tunnel: Tunnel) -> Message:
        """Request for a tunnel with a kernel socket."""
        body = [
            self._headers[TUNNEL_CREATE],
            u32(_CONN_ID, tunnel.id),
            u32(_PEER_CONN_ID, tunnel.peer_id),
            u8(_PROTO_VERSION, 3),
            u16(_ENCAP_TYPE, tunnel.encap),
        ]
        v6 = len(tunnel.local) == 16
        body += (
            [attr(_IP6_SADDR, tunnel.local), attr(_IP6_DADDR, tunnel.remote)]
            if v6
            else [attr(_IP_SADDR, tunnel.local), attr(_IP_DADDR, tunnel.remote)]
        )
        if tunnel.encap == Encap.UDP:
            body += [u16(_UDP_SPORT, tunnel.local_port), u16(_UDP_DPORT, tunnel.remote_port)]
            # The kernel looks whether the attribute is there, not at its value.
            if tunnel.checksum and not v6:
                body.append(u8(_UDP_CSUM, 1))
            elif v6 and not tunnel.checksum:
                body += [flag(_UDP_ZERO_CSUM6_TX), flag(_UDP_ZERO_CSUM6_RX)]
        return Message(self.family, 0, b"".join(body))

    def managed_tunnel_create(self, tunnel_id: int, peer_id: int, descriptor: int) -> Message:
        """Request for an L2TPv2 tunnel on a connected UDP socket of this process, with which it lives and dies."""
        body = (
            u32(_CONN_ID, tunnel_id),
            u32(_PEER_CONN_ID, peer_id),
            u8(_PROTO_VERSION, 2),
            u16(_ENCAP_TYPE, Encap.UDP),
            u32(_FD, descriptor),
        )
        return Message(self.family, 0, self._headers[TUNNEL_CREATE] + b"".join(body))

    def tunnel_delete(self, tunnel_id: int) -> Message:
        return Message(self.family, 0, self._headers[TUNNEL_DELETE] + u32(_CONN_ID, tunnel_id))

    def tunnel_get(self, tunnel_id: int) -> Message:
        return Message(self.family, 0, self._headers[TUNNEL_GET] + u32(_CONN_ID, tunnel_id))

    def session_create(self, session: Session) -> Message:
        """Request for an Ethernet pseudowire, by its device name (automatic names are slow to find)."""
        body = [
            self._headers[SESSION_CREATE],
            u32(_CONN_ID, session.tunnel_id),
            u32(_SESSION_ID, session.id),
            u32(_PEER_SESSION_ID, session.peer_id),
            u16(_PW_TYPE, _PW_ETH),
            u8(_L2SPEC_TYPE, session.l2spec),
            string(_IFNAME, session.ifname),
        ]
        if session.cookie:
            body.append(attr(_COOKIE, session.cookie))
        if session.peer_cookie:
            body.append(attr(_PEER_COOKIE, session.peer_cookie))
        body.append(self._modifiable(session))
        return Message(self.family, 0, b"".join(body))

    def session_modify(self, session: Session) -> Message:
        """What the kernel can change in place: sequencing and the reorder timeout."""
        head = self._headers[SESSION_MODIFY] + u32(_CONN_ID, session.tunnel_id) + u32(_SESSION_ID, session.id)
        return Message(self.family, 0, head + self._modifiable(session))

    @staticmethod
    def _modifiable(session: Session) -> bytes:
        return (
            u8(_SEND_SEQ, session.send_sequence)
            + u8(_RECV_SEQ, session.require_sequence)
            + u64(_RECV_TIMEOUT, session.reorder_ms)
        )

    def session_delete(self, session: Session) -> Message:
        head = self._headers[SESSION_DELETE]
        return Message(self.family, 0, head + u32(_CONN_ID, session.tunnel_id) + u32(_SESSION_ID, session.id))

    def session_get(self, tunnel_id: int, session_id: int) -> Message:
        head = self._headers[SESSION_GET]
        return Message(self.family, 0, head + u32(_CONN_ID, tunnel_id) + u32(_SESSION_ID, session_id))

    def dump_request(self, command: int) -> tuple[int, bytes]:
        """(type, payload) for `Netlink.dump` of TUNNEL_GET or SESSION_GET."""
        return self.family, self._headers[command]


def decode_tunnel(netns: str, payload: bytes) -> Tunnel | None:
    """A tunnel from a reply or an event; None for another version. Raises KeyError, ValueError, struct.error."""
    found = attributes(payload, 4)
    if found[_PROTO_VERSION] != b"\3":
        return None
    encap = Encap(_u16.unpack(found[_ENCAP_TYPE])[0])
    v6 = _IP6_SADDR in found
    checksum = True
    if encap == Encap.UDP:
        checksum = _UDP_ZERO_CSUM6_TX not in found if v6 else found.get(_UDP_CSUM, b"\0") != b"\0"
    return Tunnel(
        netns,
        _u32.unpack(found[_CONN_ID])[0],
        _u32.unpack(found[_PEER_CONN_ID])[0],
        encap,
        found[_IP6_SADDR] if v6 else found.get(_IP_SADDR, _ZERO),
        found[_IP6_DADDR] if v6 else found.get(_IP_DADDR, _ZERO),
        _u16.unpack(found[_UDP_SPORT])[0] if encap == Encap.UDP else 0,
        _u16.unpack(found[_UDP_DPORT])[0] if encap == Encap.UDP else 0,
        checksum,
    )


def tunnel_id(payload: bytes) -> int:
    """The local tunnel id in any l2tp message; 0 if there is none."""
    found = attributes(payload, 4).get(_CONN_ID)
    return int.from_bytes(found, "little" if _u16.pack(1) == b"\1\0" else "big") if found else 0


def decode_session(netns: str, payload: bytes) -> Session | None:
    """A session from a reply or an event; None if it is no Ethernet pseudowire."""
    found = attributes(payload, 4)
    if _u16.unpack(found[_PW_TYPE])[0] != _PW_ETH:
        return None
    timeout = found.get(_RECV_TIMEOUT)
    return Session(
        netns,
        _u32.unpack(found[_CONN_ID])[0],
        _u32.unpack(found[_SESSION_ID])[0],
        _u32.unpack(found[_PEER_SESSION_ID])[0],
        found.get(_IFNAME, b"").rstrip(b"\0").decode(errors="replace"),
        found.get(_COOKIE, b""),
        found.get(_PEER_COOKIE, b""),
        send_sequence=found.get(_SEND_SEQ, b"\0") != b"\0",
        require_sequence=found.get(_RECV_SEQ, b"\0") != b"\0",
        reorder_ms=_u64.unpack(timeout)[0] if timeout else 0,
    )


def decode_statistics(payload: bytes) -> dict[str, int]:
    """The counters in a tunnel or session reply, by name."""
    nest = attributes(attributes(payload, 4).get(_STATS, b""))
    return {name: _u64.unpack(nest[kind])[0] for kind, name in STATISTICS.items() if kind in nest}
