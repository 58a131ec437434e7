"""`kl2tp.model.overhead` against the kernel: every combination of layers, captured and measured.

Two namespaces, joined by a veth pair, hold both ends of a tunnel. An inner packet goes in at one end; what
comes by on the veth is measured, and it must come out at the other end unchanged. The objects of both ends
are compiled from mirrored specs with one shared key file; so keys, cookies and codecs are proved on the
way.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import itertools
import os
import select
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from kl2tp.ipsec.keys import KeyRing, generate
from kl2tp.kernel import l2tp, rtnl, xfrm
from kl2tp.kernel.netlink import Message, Netlink, Reply, attr, string, u8, u16, u32
from kl2tp.model.addr import family, parse
from kl2tp.model.ciphers import CIPHERS, Cipher
from kl2tp.model.objects import Address, KernelObject, Link, Policy, Sa, Session, Tunnel
from kl2tp.model.overhead import Stack, stack_of
from kl2tp.model.spec import (
    CookieSpec,
    Encap,
    InterfaceSpec,
    IpsecSpec,
    L2Spec,
    Mode,
    SessionSpec,
    TunnelSpec,
)
from kl2tp.reconcile.compile import compile_unit, keying

PATH_MTU = 1500
DEVICE_MTU = 9200
"""Of the pseudowires: above what the path carries, so that a packet too long can be sent at all."""
NAT_PORT = 4500
DEADLINE_S = 5.0
ETHERTYPE = 0x88B5
"""Local experimental (IEEE 802): no host answers our inner packets."""
ENDS = {False: (parse("192.0.2.1"), parse("192.0.2.2")), True: (parse("2001:db8::1"), parse("2001:db8::2"))}
"""Addresses of both hosts, by whether they are IPv6."""

_libc = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000
_UDP_ENCAP, _UDP_ENCAP_ESPINUDP = 100, 2
_AF_PPPOX, _PX_PROTO_OL2TP = 24, 1
_ETH_IPV4, _ETH_IPV6, _ETH_ALL = 0x0800, 0x86DD, 3
_ESP, _UDP, _L2TP, _IPV6_FRAGMENT = 50, 17, 115, 44
_PPP_IPV4 = b"\x00\x21"


class Protection(NamedTuple):
    """What IPsec adds."""

    cipher: Cipher | None
    mode: Mode
    nat: bool

    def __str__(self) -> str:
        name = self.cipher.name if self.cipher else "clear"
        return f"{name}-{self.mode.name.lower()}{'-nat' if self.nat else ''}"


PROTECTIONS = [
    Protection(None, Mode.TRANSPORT, False),
    *itertools.starmap(Protection, itertools.product(CIPHERS.values(), Mode, (False, True))),
]
PSEUDOWIRES = list(
    itertools.product((0, 4, 8), ((L2Spec.NONE, False), (L2Spec.DEFAULT, False), (L2Spec.DEFAULT, True)))
)
"""(cookie length, (sublayer, sequencing)): the sessions of each tunnel."""

protections = pytest.mark.parametrize("protection", PROTECTIONS, ids=str)
few_protections = pytest.mark.parametrize(
    "protection", [PROTECTIONS[0], PROTECTIONS[1], PROTECTIONS[-1]], ids=str
)
families = pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
encapsulations = pytest.mark.parametrize("encap", Encap, ids=lambda e: e.name.lower())


# --- two hosts in one kernel


def _checked(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _namespace() -> int:
    """A descriptor of this thread's namespace."""
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def _returning() -> Iterator[None]:
    """Whatever namespace the block enters, this thread is back in its own afterwards."""
    back = _namespace()
    try:
        yield
    finally:
        _checked(_libc.setns(back, _CLONE_NEWNET), "setns")
        os.close(back)


def _batch(sock: Netlink, requests: Iterable[Message]) -> None:
    """Send requests; any refusal fails the test."""
    refused = sock.batch(list(requests))
    assert not refused, {index: str(error) for index, error in refused.items()}


class Host:
    """A network namespace, and the sockets that shape it."""

    def __init__(self) -> None:
        with _returning():
            _checked(_libc.unshare(_CLONE_NEWNET), "unshare")
            self.namespace = _namespace()
            self.route, self.xfrm, self.genl = (
                Netlink(rtnl.NETLINK_ROUTE),
                Netlink(xfrm.NETLINK_XFRM),
                Netlink(16),
            )
            self.codec = l2tp.Codec(l2tp.resolve(self.genl)[0])

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread in the namespace."""
        with _returning():
            _checked(_libc.setns(self.namespace, _CLONE_NEWNET), "setns")
            yield

    def close(self) -> None:
        for sock in (self.route, self.xfrm, self.genl):
            sock.close()
        os.close(self.namespace)

    def create(self, objects: Sequence[KernelObject]) -> None:
        """Make tunnels, sessions, devices, policies and associations; leave out what is neither."""
        protection = [xfrm.policy_set(o, _no_device) for o in objects if isinstance(o, Policy)]
        _batch(self.xfrm, protection + [xfrm.sa_add(o, _no_device) for o in objects if isinstance(o, Sa)])
        tunnels = [self.codec.tunnel_create(o) for o in objects if isinstance(o, Tunnel)]
        _batch(self.genl, tunnels + [self.codec.session_create(o) for o in objects if isinstance(o, Session)])
        _batch(self.route, [rtnl.link_set(o, 0, set_master=False) for o in objects if isinstance(o, Link)])

    def delete(self, objects: Sequence[KernelObject]) -> None:
        """Take them away; sessions and devices go with their tunnel."""
        _batch(self.genl, [self.codec.tunnel_delete(o.id) for o in objects if isinstance(o, Tunnel)])
        _batch(self.xfrm, [xfrm.policy_delete(o) for o in objects if isinstance(o, Policy)])
        _batch(self.xfrm, [xfrm.sa_delete(o) for o in objects if isinstance(o, Sa)])

    def device(self, name: str) -> rtnl.LinkState:
        """A device as the kernel has it."""
        reply = self.route.get([rtnl.link_get(name)])[0]
        assert isinstance(reply, Reply), reply
        return rtnl.LinkState(reply.payload)

    def refusals(self) -> dict[str, int]:
        """What IPsec dropped so far, and why."""
        with self.entered():
            lines = Path("/proc/net/xfrm_stat").read_text().splitlines()
        return {name: int(count) for name, count in map(str.split, lines) if count != "0"}


def _no_device(name: str) -> int:
    raise AssertionError(f"no object here names a device, but {name}")


def _veth(near: Host, far: Host) -> None:
    """A veth pair: `va` in one host, `vb` in the other."""
    ifinfo = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)
    peer = attr(1, ifinfo + string(3, "vb") + u32(28, far.namespace))
    veth = attr(18, string(1, "veth") + attr(2, peer))
    near.route.request(Message(rtnl.RTM_NEWLINK, 0x600, ifinfo + string(3, "va") + veth))


def _configure(host: Host, device: str, own: int) -> None:
    """Bring a veth end up, with addresses of both families and static neighbours: nobody need ask."""
    macs = [bytes((2, 0, 0, 0, 0, end)) for end in (0, 1)]
    with host.entered():  # nothing of its own on the pseudowires either
        Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
    _batch(host.route, [rtnl.link_set(Link("", device, PATH_MTU, mac=macs[own]), 0, set_master=False)])
    index = host.device(device).index
    for ends in ENDS.values():
        address = rtnl.address_add(Address("", device, ends[own], 24 if len(ends[own]) == 4 else 64), index)
        no_duplicate_detection = (
            address.payload[:2] + b"\x02" + address.payload[3:]
        )  # IFA_F_NODAD: usable at once
        neighbour = struct.pack("=BxxxiHBB", family(ends[own]), index, 0x80, 0, 0)  # NUD_PERMANENT
        neighbour += attr(1, ends[1 - own]) + attr(2, macs[1 - own])
        requests = [
            address._replace(payload=no_duplicate_detection),
            Message(28, 0x500, neighbour),
        ]  # RTM_NEWNEIGH
        _batch(host.route, requests)


def _take_esp_out_of_udp(sock: socket.socket, address: bytes) -> None:
    """Make a socket the one that unwraps ESP in UDP for an address, RFC 3948."""
    sock.bind((socket.inet_ntop(sock.family, address), NAT_PORT))
    sock.setsockopt(socket.IPPROTO_UDP, _UDP_ENCAP, _UDP_ENCAP_ESPINUDP)


class Lab:
    """Both hosts and the wire between them."""

    def __init__(self, stack: contextlib.ExitStack, directory: Path) -> None:
        self.near, self.far = Host(), Host()
        stack.callback(self.near.close)
        stack.callback(self.far.close)
        _veth(self.near, self.far)
        _configure(self.near, "va", 0)
        _configure(self.far, "vb", 1)
        with self.near.entered():
            self._source = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            # What leaves, at the sender: the far device shows packets of tunnel mode once more, decrypted.
            self._wire = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            self._wire.bind(("va", _ETH_ALL))
        with self.far.entered():
            inner = socket.htons(ETHERTYPE)
            self._exit = stack.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, inner))
            for _, address in ENDS.values():
                sock = stack.enter_context(socket.socket(family(address), socket.SOCK_DGRAM))
                _take_esp_out_of_udp(sock, address)
        self._numbers = itertools.count(1)
        self.key_file = directory / "key"
        self.key_file.touch(0o600)
        self.key_file.write_text(generate())
        self.ring = KeyRing()

    def number(self) -> int:
        """A number never used before: ids and ports stay taken while the kernel still deletes."""
        return next(self._numbers)

    def payload(self, length: int) -> bytes:
        """An inner packet unlike all others."""
        return self.number().to_bytes(8) + bytes(length - 8)

    @contextlib.contextmanager
    def path(self, mtu: int) -> Iterator[None]:
        """The wire with another MTU."""
        self._set_wire(mtu)
        try:
            yield
        finally:
            self._set_wire(PATH_MTU)

    def _set_wire(self, mtu: int) -> None:
        for host, device in ((self.near, "va"), (self.far, "vb")):
            _batch(host.route, [rtnl.link_set(Link("", device, mtu), 0, set_master=False)])

    def carry(self, near_device: str, far_device: str, length: int) -> list[bytes]:
        """Take an inner packet of this length through a pseudowire; what it became on the wire."""
        payload = self.payload(length)
        frame = b"\xff" * 6 + b"\x02" * 6 + ETHERTYPE.to_bytes(2) + payload
        self._source.sendto(frame, (near_device, ETHERTYPE))
        self.wait(self._exit, f"{length} bytes on {near_device}")
        arrived, (device, *_) = self._exit.recvfrom(65536)
        assert (device, arrived) == (far_device, frame)
        return self.sent()

    def wait(self, sock: socket.socket, what: str) -> None:
        """Until a socket of the far host has something to read."""
        if not select.select([sock], [], [], DEADLINE_S)[0]:
            lengths = [len(packet) for packet in self.sent()]
            refusals = (self.near.refusals(), self.far.refusals())
            raise AssertionError(f"{what} never arrived; on the wire {lengths}; IPsec drops {refusals}")

    def sent(self) -> list[bytes]:
        """Packets of tunnels that left since the last look, from their IP header on."""
        packets = []
        while select.select([self._wire], [], [], 0)[0]:
            frame, (_, _, way, *_) = self._wire.recvfrom(65536)
            if way == socket.PACKET_OUTGOING and _is_of_a_tunnel(frame):
                packets.append(frame[14:])
        return packets


def _is_of_a_tunnel(frame: bytes) -> bool:
    """Whether a frame is a tunnel's, not the hosts' own chatter (ICMPv6)."""
    kind = int.from_bytes(frame[12:14])
    protocol = frame[23] if kind == _ETH_IPV4 else frame[20] if kind == _ETH_IPV6 else 0
    return protocol in (_ESP, _UDP, _L2TP, _IPV6_FRAGMENT)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with contextlib.ExitStack() as stack:
        yield Lab(stack, tmp_path_factory.mktemp("keys"))


# --- what was seen against what was said


def _total_length(packet: bytes) -> int:
    """The length that a packet's own header gives."""
    return int.from_bytes(packet[2:4]) if packet[0] >> 4 == 4 else 40 + int.from_bytes(packet[4:6])


def _fragment_header(packet: bytes) -> int:
    """Bytes before the data of a fragment; 0 if the packet is none."""
    if packet[0] >> 4 == 4:
        return 20 if int.from_bytes(packet[6:8]) & 0x3FFF else 0
    return 48 if packet[6] == _IPV6_FRAGMENT else 0


def _whole_length(packets: list[bytes]) -> int:
    """Length of the packet that the fragments make; 0 if they are no fragments."""
    header = _fragment_header(packets[0])
    if not header:
        return 0
    own = 20 if header == 20 else 40
    return own + sum(len(packet) - header for packet in packets)


def disagreement(stack: Stack, inner: int, packets: list[bytes], path_mtu: int = PATH_MTU) -> str:
    """How packets seen differ from what `stack` says about an inner packet; empty if they do not."""
    expected = stack.outer_length(inner)
    lengths = [len(packet) for packet in packets]
    if lengths != [_total_length(packet) for packet in packets]:
        return f"{inner}: frames of {lengths} bytes are not as long as their IP headers say"
    if expected <= path_mtu:
        fits = lengths == [expected] and not _fragment_header(packets[0])
        return "" if fits else f"{inner}: {expected} bytes expected, {lengths} seen: {stack}"
    # IPv6 in tunnel mode is cut before it is encrypted (RFC 4301 7.1): there is no whole packet to measure.
    whole = _whole_length(packets)
    cut_before = stack.ipv6 and stack.cipher is not None and stack.mode == Mode.TUNNEL
    fits = len(packets) == 2 and whole == (0 if cut_before else expected)
    return (
        ""
        if fits
        else f"{inner}: {expected} bytes in fragments expected, {lengths} seen, {whole} whole: {stack}"
    )


def lengths_to_try(stack: Stack, path_mtu: int = PATH_MTU) -> list[int]:
    """Inner lengths: small, middling, and around the MTU."""
    mtu = stack.mtu(path_mtu)
    return [40, 333, mtu - 1, mtu, mtu + 1]


EVERY_PADDING = range(100, 117)
"""Inner lengths that meet every length of ESP padding, for blocks of up to 16 bytes."""


# --- L2TPv3


def _sessions(prefix: str, first_id: int) -> tuple[SessionSpec, ...]:
    """A session for each kind of pseudowire. The kernel wants ids unique among all tunnels over IP."""
    return tuple(
        SessionSpec(
            f"s{n}",
            first_id + n,
            first_id + n,
            InterfaceSpec(f"{prefix}{n}", mtu=DEVICE_MTU),
            CookieSpec(cookie) if cookie else CookieSpec(0, b"", b""),
            l2spec,
            send_sequence=sequencing,
        )
        for n, (cookie, (l2spec, sequencing)) in enumerate(PSEUDOWIRES, 1)
    )


def _ipsec(lab: Lab, number: int, protection: Protection) -> IpsecSpec | None:
    if protection.cipher is None:
        return None
    port = NAT_PORT if protection.nat else 0
    return IpsecSpec(
        protection.cipher.name,
        str(lab.key_file),
        protection.mode,
        number,
        nat_local_port=port,
        nat_remote_port=port,
    )


def _tunnel_pair(lab: Lab, encap: Encap, ipv6: bool, protection: Protection) -> tuple[TunnelSpec, TunnelSpec]:
    """A tunnel as either end declares it."""
    number = lab.number()
    near, far = ENDS[ipv6]
    port = 1701 + number if encap == Encap.UDP else 0
    here = TunnelSpec(
        f"t{number}",
        near,
        far,
        number,
        100_000 + number,
        encap,
        port,
        port,
        path_mtu=PATH_MTU,
        ipsec=_ipsec(lab, number, protection),
        secret_file=str(lab.key_file),
        sessions=_sessions(f"n{number}.", 16 * number),
    )
    there = dataclasses.replace(
        here,
        local=far,
        remote=near,
        id=here.peer_id,
        peer_id=here.id,
        sessions=_sessions(f"f{number}.", 16 * number),
    )
    return here, there


@contextlib.contextmanager
def _standing(lab: Lab, here: TunnelSpec, there: TunnelSpec) -> Iterator[None]:
    """Both ends of a tunnel in the kernel, but for what nftables would hold."""
    near, far = (compile_unit(spec, lab.ring, keying(spec, lab.ring)).objects for spec in (here, there))
    lab.near.create(near)
    lab.far.create(far)
    try:
        yield
    finally:
        lab.near.delete(near)
        lab.far.delete(far)


def _differences(
    lab: Lab, here: TunnelSpec, there: TunnelSpec, lengths: Iterable[int] = (), path_mtu: int = PATH_MTU
) -> list[str]:
    """What is wrong with the packets of each session of a tunnel; of the first one with further lengths."""
    problems = []
    with _standing(lab, here, there):
        for one, other in zip(here.sessions, there.sessions, strict=True):
            stack = stack_of(here, one)
            for inner in itertools.chain(lengths_to_try(stack, path_mtu), lengths):
                packets = lab.carry(one.interface.name, other.interface.name, inner)
                problems.append(disagreement(stack, inner, packets, path_mtu))
            lengths = ()
    return list(filter(None, problems))


@protections
@families
@encapsulations
def test_version_3_packets_are_as_long_as_said(
    lab: Lab, encap: Encap, ipv6: bool, protection: Protection
) -> None:
    here, there = _tunnel_pair(lab, encap, ipv6, protection)
    assert not _differences(lab, here, there, EVERY_PADDING)


@few_protections
@families
@encapsulations
@pytest.mark.parametrize("path_mtu", [1280, 1492, 9000])
def test_the_mtu_is_exact_on_other_paths(
    lab: Lab, path_mtu: int, encap: Encap, ipv6: bool, protection: Protection
) -> None:
    here, there = _tunnel_pair(lab, encap, ipv6, protection)
    with lab.path(path_mtu):
        assert not _differences(lab, here, there, path_mtu=path_mtu)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_extended_sequence_numbers_take_no_room(lab: Lab, cipher: str) -> None:
    pair = _tunnel_pair(lab, Encap.UDP, False, Protection(CIPHERS[cipher], Mode.TRANSPORT, False))
    ipsec = pair[0].ipsec
    assert ipsec is not None
    ipsec = dataclasses.replace(ipsec, esn=True, replay_window=64)
    here, there = (dataclasses.replace(spec, ipsec=ipsec, sessions=spec.sessions[:1]) for spec in pair)
    assert not _differences(lab, here, there, EVERY_PADDING)


@families
@encapsulations
def test_the_kernel_gives_a_clear_pseudowire_the_same_mtu(lab: Lab, encap: Encap, ipv6: bool) -> None:
    here, _ = _tunnel_pair(lab, encap, ipv6, PROTECTIONS[0])
    objects = [o for o in compile_unit(here, lab.ring, None).objects if not isinstance(o, Link)]
    lab.near.create(objects)
    try:
        kernel = [lab.near.device(s.interface.name).mtu for s in here.sessions]
    finally:
        lab.near.delete(objects)
    assert kernel == [stack_of(here, s).mtu(PATH_MTU) for s in here.sessions]


# --- L2TPv2


class PppEnd:
    """One end of an L2TPv2 session: its UDP socket, which holds the tunnel, and its PPP over L2TP socket."""

    def __init__(
        self, stack: contextlib.ExitStack, host: Host, spec: TunnelSpec, *, sequencing: bool
    ) -> None:
        fam = family(spec.local)
        local, remote = (socket.inet_ntop(fam, address) for address in (spec.local, spec.remote))
        with host.entered():
            self.udp = stack.enter_context(socket.socket(fam, socket.SOCK_DGRAM))
            self.udp.bind((local, spec.local_port))
            self.udp.connect((remote, spec.remote_port))
            ids = u32(9, spec.id) + u32(10, spec.peer_id)
            tunnel = self._request(
                host, l2tp.TUNNEL_CREATE, ids + u8(7, 2) + u16(2, 0) + u32(23, self.udp.fileno())
            )
            ids = u32(9, spec.id) + u32(11, 1) + u32(12, 1)
            modes = u16(1, 7) + u8(19, sequencing) + u8(20, 1)
            _batch(host.genl, [tunnel, self._request(host, l2tp.SESSION_CREATE, ids + modes)])
            self.session = stack.enter_context(socket.socket(_AF_PPPOX, socket.SOCK_DGRAM, _PX_PROTO_OL2TP))
            address = self._address(spec, fam)
            _checked(_libc.connect(self.session.fileno(), address, len(address)), "connect")

    @staticmethod
    def _request(host: Host, command: int, attributes: bytes) -> Message:
        return Message(host.codec.family, 0, struct.pack("=BBH", command, 1, 0) + attributes)

    @staticmethod
    def _address(spec: TunnelSpec, fam: int) -> bytes:
        """struct sockaddr_pppol2tp or sockaddr_pppol2tpin6, linux/if_pppox.h."""
        head = struct.pack("=HIii", _AF_PPPOX, _PX_PROTO_OL2TP, 0, -1)
        ids = struct.pack("=HHHH", spec.id, 1, spec.peer_id, 1)
        if fam == socket.AF_INET:
            return head + struct.pack("=H2s4s8x", fam, spec.remote_port.to_bytes(2), spec.remote) + ids
        return head + ids + struct.pack("=H2sI16sI", fam, spec.remote_port.to_bytes(2), 0, spec.remote, 0)


@contextlib.contextmanager
def _ppp_standing(
    lab: Lab, ipv6: bool, protection: Protection, *, sequencing: bool
) -> Iterator[tuple[PppEnd, PppEnd]]:
    """Both ends of an L2TPv2 tunnel with one session, protected like a version 3 tunnel over UDP."""
    here, there = (
        dataclasses.replace(spec, sessions=(), id=spec.id % 65536, peer_id=spec.peer_id % 65536)
        for spec in _tunnel_pair(lab, Encap.UDP, ipv6, protection)
    )
    units = [compile_unit(spec, lab.ring, keying(spec, lab.ring)).objects for spec in (here, there)]
    near, far = ([o for o in objects if isinstance(o, Policy | Sa)] for objects in units)
    with contextlib.ExitStack() as stack:
        for host, objects in ((lab.near, near), (lab.far, far)):
            stack.callback(host.delete, objects)
            host.create(objects)
        yield (
            PppEnd(stack, lab.near, here, sequencing=sequencing),
            PppEnd(stack, lab.far, there, sequencing=sequencing),
        )


def _version_2(ipv6: bool, sequencing: bool, protection: Protection) -> Stack:
    cipher, mode, nat = protection
    return Stack(version=2, ipv6=ipv6, sequencing=sequencing, cipher=cipher, mode=mode, nat_traversal=nat)


@protections
@families
@pytest.mark.parametrize("sequencing", [False, True], ids=["plain", "sequencing"])
def test_version_2_packets_are_as_long_as_said(
    lab: Lab, sequencing: bool, ipv6: bool, protection: Protection
) -> None:
    stack = _version_2(ipv6, sequencing, protection)
    problems = []
    with _ppp_standing(lab, ipv6, protection, sequencing=sequencing) as (near, far):
        for inner in lengths_to_try(stack) + list(EVERY_PADDING):
            payload = lab.payload(inner)
            near.session.send(_PPP_IPV4 + payload)
            lab.wait(far.session, f"{inner} bytes")
            assert far.session.recv(65536) == _PPP_IPV4 + payload
            problems.append(disagreement(stack, inner, lab.sent()))
    assert not list(filter(None, problems))


def _ppp_device(stack: contextlib.ExitStack, host: Host, end: PppEnd) -> str:
    """A PPP network device on a session: what a packet of the kernel's own goes through."""

    def ioctl(fd: int, operation: int, value: int) -> int:
        return int.from_bytes(fcntl.ioctl(fd, operation, value.to_bytes(4, "little", signed=True)), "little")

    with host.entered():
        channel, unit = (os.open("/dev/ppp", os.O_RDWR) for _ in range(2))
        stack.callback(os.close, channel)
        stack.callback(os.close, unit)
        ioctl(channel, 0x40047438, ioctl(end.session.fileno(), 0x80047437, 0))  # PPPIOCATTCHAN, PPPIOCGCHAN
        number = ioctl(unit, 0xC004743E, -1)  # PPPIOCNEWUNIT
        ioctl(channel, 0x4004743A, number)  # PPPIOCCONNECT
        fcntl.ioctl(unit, 0x4008744B, struct.pack("=ii", 0x21, 0))  # PPPIOCSNPMODE: IPv4 passes
    name = f"ppp{number}"
    _batch(host.route, [rtnl.link_set(Link("", name, DEVICE_MTU), 0, set_master=False)])
    return name


@few_protections
@families
def test_packets_through_a_ppp_device_are_as_long_as_said(
    lab: Lab, ipv6: bool, protection: Protection
) -> None:
    stack = _version_2(ipv6, False, protection)
    problems = []
    with (
        _ppp_standing(lab, ipv6, protection, sequencing=False) as (near, far),
        contextlib.ExitStack() as exits,
    ):
        device = _ppp_device(exits, lab.near, near)
        with lab.near.entered():
            source = exits.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0))
        for inner in lengths_to_try(stack):
            payload = lab.payload(inner)
            source.sendto(payload, (device, _ETH_IPV4))
            lab.wait(far.session, f"{inner} bytes")
            assert far.session.recv(65536) == _PPP_IPV4 + payload
            problems.append(disagreement(stack, inner, lab.sent()))
    assert not list(filter(None, problems))


# --- and that nothing was left out


def test_every_combination_of_layers_is_among_those_measured() -> None:
    version_3 = {
        Stack(
            encap=encap,
            ipv6=v6,
            cookie=cookie,
            l2spec=l2spec,
            sequencing=seq,
            cipher=c,
            mode=m,
            nat_traversal=n,
        )
        for encap, v6, (cookie, (l2spec, seq)), (c, m, n) in itertools.product(
            Encap, (False, True), PSEUDOWIRES, PROTECTIONS
        )
    }
    version_2 = {
        _version_2(*settings) for settings in itertools.product((False, True), (False, True), PROTECTIONS)
    }
    assert len(PROTECTIONS) == 1 + len(CIPHERS) * 2 * 2
    assert (len(version_3), len(version_2)) == (1332, 148)
