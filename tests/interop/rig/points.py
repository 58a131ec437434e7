"""Point-to-point devices as the kernel has them, and packets through them."""

import errno
import json
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from interop.rig.process import PATIENCE_S, Program, run
from kernel.rig.net import Host, Late
from kl2tp.kernel import l2tp, rtnl
from kl2tp.kernel.netlink import KernelError, attributes
from kl2tp.model.addr import parse

_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_ARPHRD_PPP = 512
_BINDTODEVICE = 25


class Ends(NamedTuple):
    """The addresses of a PPP device."""

    local: str
    peer: str


def _dump(host: Host, protocol: int, kind: int, payload: bytes) -> list[bytes]:
    """All that the kernel lists; from the start again if it changed meanwhile."""
    while True:
        try:
            return [reply.payload for reply in host.netlink(protocol).dump(kind, payload)]
        except KernelError as error:
            if error.code != errno.EAGAIN:
                raise


def ppp_devices(host: Host) -> dict[str, int]:
    """The PPP devices of a host with their numbers: a device that is made anew has another one."""
    found = _dump(host, rtnl.NETLINK_ROUTE, *rtnl.link_dump())
    states = [rtnl.LinkState(payload) for payload in found if struct.unpack_from("=H", payload, 2)[0] == _ARPHRD_PPP]
    return {state.name: state.index for state in states}


def links(host: Host) -> dict[str, Ends]:
    """The PPP devices that are up and have their IPv4 addresses."""
    states = [rtnl.LinkState(payload) for payload in _dump(host, rtnl.NETLINK_ROUTE, *rtnl.link_dump())]
    names = {state.index: state.name for state in states if state.up}
    found = {}
    for payload in _dump(host, rtnl.NETLINK_ROUTE, *rtnl.address_dump()):
        fields, index = attributes(payload, 8), rtnl.address_index(payload)
        local, peer = fields.get(_IFA_LOCAL, b""), fields.get(_IFA_ADDRESS, b"")
        if len(local) == 4 and local != peer and index in names:
            found[names[index]] = Ends(socket.inet_ntoa(local), socket.inet_ntoa(peer))
    return found


def mtu(host: Host, device: str) -> int:
    """Of a device that is there."""
    state = host.device(device)
    assert state, f"{host.name} has no device {device}"
    return int(state.mtu)


def wait_links(host: Host, count: int = 1, within: float = PATIENCE_S) -> dict[str, Ends]:
    """Until so many PPP devices have their addresses. Raises Late."""
    host.until(lambda: len(links(host)) == count, within)
    return links(host)


def wait_no_devices(host: Host, within: float = PATIENCE_S) -> float:
    """Until no PPP device is left; the seconds it took. Raises Late."""
    return host.until(lambda: not ppp_devices(host), within)


def tunnels(host: Host) -> int:
    """How many L2TP tunnels the kernel has on a host."""
    return len(_dump(host, l2tp.NETLINK_GENERIC, *host.l2tp.dump_request(l2tp.TUNNEL_GET)))


def sessions(host: Host) -> int:
    """How many L2TP sessions the kernel has on a host."""
    return len(_dump(host, l2tp.NETLINK_GENERIC, *host.l2tp.dump_request(l2tp.SESSION_GET)))


def wait_no_tunnels(host: Host, within: float = PATIENCE_S) -> None:
    """Until no L2TP tunnel is left. Raises Late."""
    host.until(lambda: not tunnels(host), within)


# -- packets ---------------------------------------------------------------------------------------------------------


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def _echo(number: int, size: int) -> bytes:
    body = struct.pack("!HH", os.getpid() & 0xFFFF, number) + bytes(size)
    return struct.pack("!BBH", 8, 0, _checksum(struct.pack("!BBH", 8, 0, 0) + body)) + body


def ping(host: Host, address: str, device: str = "", *, count: int = 5, size: int = 56) -> None:
    """Every one of `count` echo requests is answered. Raises Late."""
    ping_all([(host, address, device)], count=count, size=size)


def ping_all(targets: Iterable[tuple[Host, str, str]], *, count: int = 5, size: int = 56) -> None:
    """The same from many hosts at once: each (host, address, device or empty)."""
    missing: dict[socket.socket, tuple[set[int], str]] = {}
    try:
        for host, address, device in targets:
            sock = _opened(host, device)
            missing[sock] = (set(range(count)), address)
            for number in range(count):
                sock.sendto(_echo(number, size), (address, 0))
        _collect(missing)
    finally:
        for sock in missing:
            sock.close()


def _opened(host: Host, device: str) -> socket.socket:
    with host.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    if device:
        sock.setsockopt(socket.SOL_SOCKET, _BINDTODEVICE, device.encode())
    return sock


def _collect(missing: Mapping[socket.socket, tuple[set[int], str]], within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while waiting := [sock for sock, (numbers, _) in missing.items() if numbers]:
        ready = select.select(waiting, [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            raise Late(f"no answer from {', '.join(missing[sock][1] for sock in waiting)}")
        for sock in ready:
            data, source = sock.recvfrom(65536)
            numbers, address = missing[sock]
            if data[20] == 0 and source[0] == address:
                numbers.discard(struct.unpack_from("!H", data, 26)[0])


def iperf(client: Host, server: Host, address: str, *, seconds: int = 1, reverse: bool = False) -> float:
    """TCP from client to server, or back; what arrived, in Mbit/s."""
    listener = Program(server, ["/usr/bin/iperf3", "--server", "--one-off", "--bind", address, "--forceflush"])
    try:
        listener.wait_for("Server listening")
        more = ["--reverse"] if reverse else []
        command = ["iperf3", "--client", address, "--time", str(seconds), "--json", *more]
        answer: dict[str, Any] = json.loads(run(client, *command))
    finally:
        listener.close()
    return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e6


def assert_in_pool(address: str, first: str, last: str) -> None:
    """An address lies in a range."""
    assert parse(first) <= parse(address) <= parse(last), f"{address} is not in {first}-{last}"
