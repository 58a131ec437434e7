"""Hosts as named network namespaces, and the wire that joins them.

All is made in this process. Where a host's socket is used to change what kl2tp made, it stands for the other tools of
the machine: its port id is not kl2tp's.
"""

import contextlib
import ctypes
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from kl2tp.kernel import l2tp, netns, nft, rtnl, xfrm
from kl2tp.kernel.netlink import EventSocket, KernelError, Message, Netlink, Reply, attr, attributes, string, u32
from kl2tp.model.addr import parse
from kl2tp.model.objects import ALIAS_PREFIX, Address, Link

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MNT_DETACH = 4096, 2
_libc = ctypes.CDLL(None, use_errno=True)
_CREATE = 0x600
"""NLM_F_CREATE | NLM_F_EXCL."""
_IFINFO = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)
_IFINFO_UP = struct.pack("=BBHiII", 0, 0, 0, 0, 1, 1)
_IFLA_LINK_NETNS_FD, _IFLA_LINKINFO, _IFLA_MASTER = 28, 18, 10


class Late(AssertionError):
    """Something did not happen in time."""


def _checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _make_namespace(path: Path) -> None:
    """A new namespace with a name, as `ip netns add` makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
        try:
            here = b"/proc/thread-self/ns/net"
            _checked(_libc.mount(here, os.fsencode(path), None, _MS_BIND, None), f"mount {path}")
        finally:
            _checked(_libc.setns(back, _CLONE_NEWNET), "setns")
    finally:
        os.close(back)


class Host:
    """A network namespace with a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.number = 0
        """Last part of its addresses on the wire; 0: it has none."""
        self._sockets: dict[int, Netlink] = {}
        self._path = Path(netns.RUN_NETNS) / name
        self.create()

    def create(self) -> None:
        """Make the namespace."""
        _make_namespace(self._path)
        with self.entered():
            for which in ("default", "all"):  # addresses are usable at once
                Path(f"/proc/sys/net/ipv6/conf/{which}/accept_dad").write_text("0")
        self.request(rtnl.NETLINK_ROUTE, Message(rtnl.RTM_NEWLINK, 0, _IFINFO_UP + string(3, "lo")))

    def create_if_missing(self) -> None:
        """Make the namespace unless it is there."""
        if not self._path.exists():
            self.create()

    def delete(self) -> None:
        """Take the namespace away, as `ip netns del` does."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        _checked(_libc.umount2(os.fsencode(self._path), _MNT_DETACH), f"umount {self._path}")
        self._path.unlink()

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread in the namespace."""
        with netns.entered(self.name):
            yield

    # -- as the other tools of the machine do it -------------------------------------------------------------------

    def netlink(self, protocol: int) -> Netlink:
        """A request socket that is not kl2tp's."""
        if protocol not in self._sockets:
            with self.entered():
                self._sockets[protocol] = Netlink(protocol)
        return self._sockets[protocol]

    def request(self, protocol: int, *requests: Message) -> None:
        """Change something. Raises KernelError."""
        for error in self.netlink(protocol).batch(requests).values():
            raise error

    @property
    def l2tp(self) -> l2tp.Codec:
        return l2tp.Codec(l2tp.resolve(self.netlink(l2tp.NETLINK_GENERIC))[0])

    @property
    def table(self) -> nft.Table:
        return nft.Table(self.netlink(nft.NETLINK_NETFILTER))

    def flush_policies(self) -> None:
        """`ip xfrm policy flush`."""
        self.request(xfrm.NETLINK_XFRM, Message(xfrm.FLUSHPOLICY, 0, b""))

    def flush_associations(self) -> None:
        """`ip xfrm state flush`."""
        self.request(xfrm.NETLINK_XFRM, Message(xfrm.FLUSHSA, 0, bytes(8)))

    def flush_ipsec(self) -> None:
        """Both."""
        self.flush_policies()
        self.flush_associations()

    # -- devices and addresses -------------------------------------------------------------------------------------

    def device(self, name: str) -> rtnl.LinkState | None:
        """A device as the kernel has it."""
        reply = self.netlink(rtnl.NETLINK_ROUTE).get([rtnl.link_get(name)])[0]
        return rtnl.LinkState(reply.payload) if isinstance(reply, Reply) else None

    def index(self, name: str) -> int:
        """The number of a device that is there."""
        state = self.device(name)
        assert state, f"{self.name} has no device {name}"
        return int(state.index)

    def add_device(self, name: str, kind: str, data: bytes = b"") -> None:
        """Make a device of some kind, switched on."""
        info = attr(_IFLA_LINKINFO, string(1, kind) + (attr(2, data) if data else b""))
        self.request(rtnl.NETLINK_ROUTE, Message(rtnl.RTM_NEWLINK, _CREATE, _IFINFO_UP + string(3, name) + info))

    def add_bridge(self, name: str) -> None:
        self.add_device(name, "bridge")

    def add_vrf(self, name: str, table: int) -> None:
        self.add_device(name, "vrf", u32(1, table))

    def set_device(self, name: str, *, mtu: int = 1500, up: bool = True, mac: bytes = b"", alias: str = "") -> None:
        """Change a device's settings."""
        link = Link("", name, mtu, up=up, mac=mac, alias=alias)
        self.request(rtnl.NETLINK_ROUTE, rtnl.link_set(link, 0, set_master=False))

    def delete_device(self, name: str) -> None:
        self.request(rtnl.NETLINK_ROUTE, Message(rtnl.RTM_DELLINK, 0, _IFINFO + string(3, name)))

    def add_address(self, device: str, address: str, length: int) -> None:
        self.request(
            rtnl.NETLINK_ROUTE, rtnl.address_add(Address("", device, parse(address), length), self.index(device))
        )

    def delete_address(self, device: str, address: str, length: int) -> None:
        self.request(
            rtnl.NETLINK_ROUTE, rtnl.address_delete(Address("", device, parse(address), length), self.index(device))
        )

    # -- waiting ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def events(self) -> Iterator["Events"]:
        """What happens in this namespace from now on."""
        with contextlib.ExitStack() as stack, self.entered():
            sockets = []
            groups = {
                rtnl.NETLINK_ROUTE: rtnl.GROUPS,
                xfrm.NETLINK_XFRM: (xfrm.GROUP_SA, xfrm.GROUP_POLICY),
                nft.NETLINK_NETFILTER: (nft.GROUP_NFTABLES,),
                l2tp.NETLINK_GENERIC: (l2tp.resolve(self.netlink(l2tp.NETLINK_GENERIC))[1],),
            }
            for protocol, numbers in groups.items():
                sock = EventSocket(protocol, receive_buffer=256 << 20)
                stack.callback(sock.close)
                for number in numbers:
                    sock.join(number)
                sockets.append(sock)
            yield Events(sockets)

    def until(self, predicate: Callable[[], object], within: float = 10.0) -> float:
        """Wait for the kernel to be as `predicate` says, looking whenever something happens; the seconds it took."""
        with self.events() as events:
            return events.until(predicate, within)


class Events:
    """Event sockets of one host."""

    def __init__(self, sockets: list[EventSocket]) -> None:
        self._sockets = sockets

    def add(self, other: "Events") -> None:
        """Listen to another host too."""
        self._sockets += other._sockets

    def until(self, predicate: Callable[[], object], within: float = 10.0) -> float:
        """Wait for `predicate`, looking whenever something happens; the seconds it took. Raises Late."""
        began = time.monotonic()
        while not predicate():
            left = began + within - time.monotonic()
            ready = select.select(self._sockets, [], [], max(0.0, left))[0]
            if not ready and not predicate():
                raise Late(f"after {within} s still not so: {getattr(predicate, '__doc__', '') or predicate}")
            self.drain()
        return time.monotonic() - began

    def drain(self) -> int:
        """Throw away what came; the number of datagrams."""
        count = 0
        for sock in self._sockets:
            while sock.receive() is not None:
                count += 1
        return count


class Wire:
    """An Ethernet that joins hosts: a bridge in a namespace of its own, where every packet can be seen on its way."""

    def __init__(self, name: str) -> None:
        self.host = Host(name)
        self.host.add_bridge("bridge")
        self._ports = 0

    def plug(self, host: Host, number: int) -> None:
        """Join a host: it has 192.0.2.NUMBER and 2001:db8::NUMBER on its device `wire`."""
        host.number = number
        port = f"port{number}"
        target = netns.open_namespace(host.name)
        try:
            peer = attr(1, _IFINFO + string(3, "wire") + u32(_IFLA_LINK_NETNS_FD, target))
            veth = attr(_IFLA_LINKINFO, string(1, "veth") + attr(2, peer))
            master = u32(_IFLA_MASTER, self.host.index("bridge"))
            body = _IFINFO_UP + string(3, port) + veth + master
            self.host.request(rtnl.NETLINK_ROUTE, Message(rtnl.RTM_NEWLINK, _CREATE, body))
        finally:
            os.close(target)
        host.set_device("wire", mac=bytes((2, 0, 0, 0, 0, number)))
        host.add_address("wire", f"192.0.2.{number}", 24)
        host.add_address("wire", f"2001:db8::{number}", 64)

    def inject(self, source: Host, target: Host, payload: bytes, *, protocol: int, v6: bool = False) -> None:
        """Put an IP packet on the wire that seems to come from a host."""
        data = _ip_header(source.number, target.number, protocol, len(payload), v6=v6) + payload
        kind = 0x86DD if v6 else 0x0800
        macs = b"".join(bytes((2, 0, 0, 0, 0, host.number)) for host in (target, source))
        with self.host.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
            sock.sendto(macs + kind.to_bytes(2) + data, (f"port{target.number}", kind))

    @contextlib.contextmanager
    def watched(self) -> Iterator["Capture"]:
        """Every packet that passes, while the block runs."""
        with self.host.entered():
            sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        with sock:
            sock.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
            capture = Capture(sock)
            yield capture
            capture.collect()


def _ip_header(source: int, target: int, protocol: int, size: int, *, v6: bool) -> bytes:
    if v6:
        ends = b"".join(parse(f"2001:db8::{number}") for number in (source, target))
        return b"".join((struct.pack("!IHBB", 6 << 28, size, protocol, 64), ends))
    ends = bytes((192, 0, 2, source, 192, 0, 2, target))
    head = struct.pack("!BxHIBB", 0x45, 20 + size, 0, 64, protocol)
    total = sum(struct.unpack("!9H", head + ends))
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return b"".join((head, checksum.to_bytes(2), ends))


_ESP, _UDP, _L2TP, _FRAGMENT = 50, 17, 115, 44
NAT_PORT = 4500


class Capture:
    """Packets on the wire, by what can be read in them."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.clear: list[bytes] = []
        """L2TP that anyone could read, from the IP header on."""
        self.encrypted = 0
        self.other = 0
        """Neighbour discovery and the like."""

    def collect(self) -> "Capture":
        """Sort what has passed until now."""
        if self._sock.fileno() < 0:
            return self
        while select.select([self._sock], [], [], 0)[0]:
            frame, (device, _, way, *_) = self._sock.recvfrom(65536)
            if way != socket.PACKET_OUTGOING and device != "bridge":
                self._sort(frame)
        lost = struct.unpack("=II", self._sock.getsockopt(263, 6, 8))[1]  # SOL_PACKET, PACKET_STATISTICS
        assert not lost, f"{lost} packets were not seen"
        return self

    def _sort(self, frame: bytes) -> None:
        match kind_of(frame[12:]):
            case "clear":
                self.clear.append(frame[14:])
            case "encrypted":
                self.encrypted += 1
            case _:
                self.other += 1

    def verdict(self) -> str:
        """For a person."""
        self.collect()
        return f"{len(self.clear)} clear, {self.encrypted} encrypted, {self.other} other packets"

    def assert_never_clear(self, at_least: int = 1) -> None:
        """No L2TP that anyone could read was on the wire, and enough that nobody can."""
        self.collect()
        assert not self.clear, f"{self.verdict()}; the first: {self.clear[0].hex(' ')}"
        assert self.encrypted >= at_least, self.verdict()


def kind_of(packet: bytes) -> str:
    """`clear`, `encrypted` or `other`, of a packet that begins with its EtherType."""
    kind, data = int.from_bytes(packet[:2]), packet[2:]
    if kind == 0x0800:
        protocol, body = data[9], data[(data[0] & 15) * 4 :]
    elif kind == 0x86DD:
        protocol, body = data[6], data[40:]
        if protocol == _FRAGMENT:
            protocol, body = body[0], body[8:]
    else:
        return "other"
    if protocol == _UDP:
        in_udp = NAT_PORT in struct.unpack_from("!HH", body)
        return "encrypted" if in_udp and any(body[8:12]) else "clear"
    return {_ESP: "encrypted", _L2TP: "clear"}.get(protocol, "other")


def received(host: Host, tunnel: int, session: int) -> int:
    """Packets that a session has taken from its tunnel."""
    reply = host.netlink(l2tp.NETLINK_GENERIC).get([host.l2tp.session_get(tunnel, session)])[0]
    assert isinstance(reply, Reply), reply
    return l2tp.decode_statistics(reply.payload)["rx_packets"]


# -- what is there --------------------------------------------------------------------------------------------------

_KERNEL_ROUTE = 2
_STATISTICS, _NO_PAYLOAD = 30, b""


def state(host: Host) -> dict[str, str]:
    """Everything in a namespace that kl2tp could touch: a line for each object, by a name that says which it is.

    Counters and times are left out; device numbers and the times at which associations were made are not:
    what was deleted and made anew is another one.
    """
    found: dict[str, str] = {}
    names = _devices(host, found)
    for request, kind in ((l2tp.TUNNEL_GET, "tunnel"), (l2tp.SESSION_GET, "session")):
        for reply in _dump(host, l2tp.NETLINK_GENERIC, *host.l2tp.dump_request(request)):
            _l2tp(kind, reply, found)
    for reply in _dump(host, rtnl.NETLINK_ROUTE, *rtnl.address_dump()):
        index, address, length, peer = rtnl.decode_address(reply)
        if address[:2] != b"\xfe\x80":
            found[f"address {names[index]} {address.hex()}/{length}"] = f"scope {reply[3]} peer {peer.hex()}"
    for reply in _dump(host, rtnl.NETLINK_ROUTE, rtnl.RTM_GETROUTE, bytes(12)):
        if reply[5] != _KERNEL_ROUTE and reply[7] == 1:
            fields = attributes(reply, 12)
            destination, gateway = fields.get(1, b"").hex(), fields.get(5, b"").hex()
            index, metric, table = (int.from_bytes(fields.get(number, b""), "little") for number in (4, 6, 15))
            name = f"route {destination}/{reply[1]} table {table} metric {metric}"
            found[name] = f"via {gateway} dev {names.get(index)} protocol {reply[5]}"
    for reply in _dump(host, xfrm.NETLINK_XFRM, xfrm.GETSA, _NO_PAYLOAD):
        if sa := xfrm.decode_sa("", reply, str):
            born = struct.unpack_from("=Q", reply, 176)[0]
            found[f"sa {sa.destination.hex()} {sa.spi:x} {sa.mark}"] = f"{sa!r} {_digest(sa)} {born}"
    for reply in _dump(host, xfrm.NETLINK_XFRM, xfrm.GETPOLICY, _NO_PAYLOAD):
        if policy := xfrm.decode_policy("", reply, str):
            found[f"policy {policy.direction.name} {policy.selector} {policy.mark}"] = repr(policy)
    if host.table.exists():
        found["nftables table"] = "intact" if host.table.intact() else "damaged"
        for element in host.table.read(""):
            found[f"{element.kind} {element.key}"] = repr(element)
    return found


def identities(lines: dict[str, str]) -> dict[str, str]:
    """`lines` without what is different when an equal object is made anew."""
    return {
        name: line.rpartition(" ")[0] if name.startswith(("sa ", "device ")) else line for name, line in lines.items()
    }


def assert_same(now: dict[str, str], before: dict[str, str], what: str = "") -> None:
    """Fail with the lines that differ."""
    names = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    assert not names, what + "".join(f"\n{n}:\n  was {before.get(n)}\n  is  {now.get(n)}" for n in names)


def _dump(host: Host, protocol: int, kind: int, payload: bytes) -> Iterable[bytes]:
    while True:
        try:
            return [reply.payload for reply in host.netlink(protocol).dump(kind, payload)]
        except KernelError as error:
            if error.code != 11:  # EAGAIN: it changed under our eyes
                raise


def _devices(host: Host, found: dict[str, str]) -> dict[int, str]:
    names: dict[int, str] = {}
    states = [rtnl.LinkState(reply) for reply in _dump(host, rtnl.NETLINK_ROUTE, *rtnl.link_dump())]
    for device in states:
        names[device.index] = device.name
    for device in states:
        master = names.get(device.master_index, "")
        mac = "" if device.alias.startswith(ALIAS_PREFIX) else device.mac.hex()
        found[f"device {device.name}"] = (
            f"mtu {device.mtu} master {master} up {device.up} alias {device.alias!r} group {device.group} {mac} "
            f"{device.index}"
        )
    return names


def _l2tp(kind: str, reply: bytes, found: dict[str, str]) -> None:
    fields = attributes(reply, 4)
    number = int.from_bytes(fields[9], "little"), int.from_bytes(fields.get(11, b""), "little")
    rest = {k: v.hex() for k, v in sorted(fields.items()) if k != _STATISTICS}
    found[f"{kind} {number[0]}/{number[1]}" if kind == "session" else f"{kind} {number[0]}"] = str(rest)


def _digest(sa: object) -> int:
    """Tells keys apart without showing them."""
    keys = [getattr(sa, name) for name in ("key_material", "integrity_key")]
    return hash(tuple(key.reveal() for key in keys if key))
